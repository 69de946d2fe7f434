//! What connections have shown about the addresses of a name: which ones failed after TCP, and which ones other connections
//! of this agent use. A resolver knows neither.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// The memory of one agent, shared by all its connections. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct AddressMemory(Arc<Mutex<AddressMemoryInner>>);

#[derive(Debug, Default)]
struct AddressMemoryInner {
    failures: HashMap<SocketAddr, AddressFailure>,
    /// By host and port, as last resolved.
    names: HashMap<(String, u16), Vec<SocketAddr>>,
    /// By host: addresses that replace those of the resolver, for tests.
    fixed: HashMap<String, Vec<IpAddr>>,
    /// Number, address and connection of each lease.
    leases: Vec<(u64, SocketAddr, usize)>,
    next_lease: u64,
    /// By gateway: when it last ended a session for a keep-alive.
    no_keep_alive: HashMap<String, Instant>,
    /// Addresses where packets of full size may be lost, and since when.
    small_segments: HashMap<SocketAddr, Instant>,
}

#[derive(Debug)]
struct AddressFailure {
    at: Instant,
    /// No login is tried there before this: someone must change something first.
    barred_until: Option<Instant>,
}

/// Addresses in the order to try them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DialOrder {
    /// Addresses to try, in this order.
    pub(super) open: Vec<SocketAddr>,
    /// Addresses not to try yet, each with the remaining time.
    pub(super) barred: Vec<(SocketAddr, Duration)>,
}

/// One connection's use of an address, until it is dropped.
#[derive(Debug)]
pub struct AddressLease {
    memory: AddressMemory,
    number: u64,
}

impl AddressMemory {
    /// Sorts the addresses of `host`, and takes a lease on the first one for `connection`. Addresses that have not failed
    /// come first, then those that failed longest ago; among equals those that the fewest other connections use, then the
    /// resolver's order with alternating families (RFC 8305 §4). With `login`, barred addresses are left out.
    pub(super) fn order(
        &self,
        host: &str,
        port: u16,
        addresses: Vec<SocketAddr>,
        connection: Option<usize>,
        login: bool,
    ) -> (DialOrder, Option<AddressLease>) {
        let now = Instant::now();
        let mut memory = self.0.lock();
        memory.failures.retain(|_, failure| failure.counts(now));
        let name = (host.to_owned(), port);
        memory.names.insert(name, addresses.clone());
        let mut order = DialOrder::default();
        for address in alternate(addresses) {
            match memory.barred(&address, now).filter(|_| login) {
                Some(left) => order.barred.push((address, left)),
                None => order.open.push(address),
            }
        }
        // The sort is stable.
        order.open.sort_by_key(|address| {
            let failure = memory.failures.get(address).map(|failure| failure.at);
            (failure, memory.users(address, connection))
        });
        let first = order.open.first().copied();
        let lease = connection
            .zip(first)
            .map(|(connection, address)| self.lease(&mut memory, address, connection));
        (order, lease)
    }

    /// A lease on a given address.
    pub(super) fn claim(&self, address: SocketAddr, connection: usize) -> AddressLease {
        self.lease(&mut self.0.lock(), address, connection)
    }

    /// Sets the addresses of `host` instead of the resolver's, for tests.
    pub fn fix(&self, host: &str, addresses: Vec<IpAddr>) {
        self.0.lock().fixed.insert(host.to_owned(), addresses);
    }

    pub(super) fn fixed(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let memory = self.0.lock();
        let addresses = memory.fixed.get(host)?.iter();
        Some(addresses.map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    /// The addresses of `host` as last resolved.
    pub(super) fn resolved(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let memory = self.0.lock();
        memory.names.get(&(host.to_owned(), port)).cloned()
    }

    /// Notes a failure after TCP. `barred`: no login within a minute.
    pub fn failed(&self, address: SocketAddr, barred: bool) {
        let at = Instant::now();
        let barred_until = barred.then(|| at + BARRED_FOR);
        let failure = AddressFailure { at, barred_until };
        self.0.lock().failures.insert(address, failure);
    }

    /// Notes an open session.
    pub fn succeeded(&self, address: SocketAddr) {
        self.0.lock().failures.remove(&address);
    }

    /// Whether the name has an address where a login may be tried now.
    pub fn has_open(&self, host: &str, port: u16) -> bool {
        let now = Instant::now();
        self.any_address(host, port, |memory, address| {
            memory.barred(address, now).is_none()
        })
    }

    /// Whether the name has an address that has not failed.
    pub fn has_untried(&self, host: &str, port: u16) -> bool {
        self.any_address(host, port, |memory, address| {
            !memory.failures.contains_key(address)
        })
    }

    /// Notes that a gateway has ended a session for a keep-alive. Returns whether that is new.
    pub fn record_keep_alive_rejection(&self, place: &str) -> bool {
        let now = Instant::now();
        let mut memory = self.0.lock();
        let known = &mut memory.no_keep_alive;
        known.retain(|_, since| now.saturating_duration_since(*since) < KEEP_ALIVE_REJECTED_FOR);
        // A name whose addresses keep changing must not fill memory; forgotten ones are learned again.
        if known.len() >= MAX_PLACES {
            known.clear();
        }
        known.insert(place.to_owned(), now).is_none()
    }

    /// Whether sessions there should send no keep-alives.
    pub fn rejects_keep_alive(&self, place: &str) -> bool {
        let now = Instant::now();
        let memory = self.0.lock();
        let since = memory.no_keep_alive.get(place);
        since.is_some_and(|since| now.saturating_duration_since(*since) < KEEP_ALIVE_REJECTED_FOR)
    }

    /// Notes a connection that fell silent while it sent more than probes: packets of full size may be lost there
    /// unannounced (a path MTU black hole, RFC 2923). Returns whether that is new.
    pub fn suspect_mtu(&self, address: SocketAddr) -> bool {
        let now = Instant::now();
        let mut memory = self.0.lock();
        let small_segments = &mut memory.small_segments;
        small_segments
            .retain(|_, since| now.saturating_duration_since(*since) < SMALL_SEGMENTS_FOR);
        if small_segments.len() >= MAX_PLACES {
            small_segments.clear();
        }
        small_segments.insert(address, now).is_none()
    }

    /// The maximum segment size for a new connection to this address, if the usual one may be too large.
    pub(super) fn segment(&self, address: &SocketAddr) -> Option<u32> {
        let now = Instant::now();
        let memory = self.0.lock();
        let since = memory.small_segments.get(address)?;
        (now.saturating_duration_since(*since) < SMALL_SEGMENTS_FOR).then_some(SMALL_SEGMENT)
    }

    /// Forgets failures, because key, user or host keys have changed.
    pub fn clear_failures(&self) {
        self.0.lock().failures.clear();
    }

    fn any_address(
        &self,
        host: &str,
        port: u16,
        which: impl Fn(&AddressMemoryInner, &SocketAddr) -> bool,
    ) -> bool {
        let memory = self.0.lock();
        let known = memory.names.get(&(host.to_owned(), port));
        known.is_some_and(|all| all.iter().any(|address| which(&memory, address)))
    }

    fn lease(
        &self,
        memory: &mut AddressMemoryInner,
        address: SocketAddr,
        connection: usize,
    ) -> AddressLease {
        memory.next_lease += 1;
        let number = memory.next_lease;
        memory.leases.push((number, address, connection));
        AddressLease {
            memory: self.clone(),
            number,
        }
    }
}

impl AddressMemoryInner {
    /// Number of other connections that use the address; the connection's own session does not count.
    fn users(&self, address: &SocketAddr, connection: Option<usize>) -> usize {
        let leases = self.leases.iter();
        let others = leases.filter(|(_, used, by)| used == address && Some(*by) != connection);
        others.count()
    }

    fn barred(&self, address: &SocketAddr, now: Instant) -> Option<Duration> {
        let until = self.failures.get(address)?.barred_until?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

impl AddressFailure {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < REMEMBER_FAILURE_FOR
    }
}

impl AddressLease {
    /// Moves the lease to an address that was faster.
    pub(super) fn move_to(&self, address: SocketAddr) {
        let mut memory = self.memory.0.lock();
        let mut leases = memory.leases.iter_mut();
        if let Some(lease) = leases.find(|(number, ..)| *number == self.number) {
            lease.1 = address;
        }
    }
}

impl Drop for AddressLease {
    fn drop(&mut self) {
        let mut memory = self.memory.0.lock();
        memory.leases.retain(|(number, ..)| *number != self.number);
    }
}

/// Keeps the resolver's order within a family and begins with the family it put first.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// The supervisor bars a gateway for a minute and a bit: by then its addresses must be open again.
const BARRED_FOR: Duration = Duration::from_secs(59);
/// Longer than a restart or a failover; then the resolver's order applies again.
const REMEMBER_FAILURE_FOR: Duration = Duration::from_secs(300);
/// Then the next session tries a keep-alive again.
const KEEP_ALIVE_REJECTED_FOR: Duration = Duration::from_secs(6 * 3600);
/// More than a day, the maximum age of a session, so that its successor uses small segments too.
const SMALL_SEGMENTS_FOR: Duration = Duration::from_secs(25 * 3600);
/// Bytes of `TCP_MAXSEG`, for both directions: with IPv6 headers 1,180 bytes, less than any common tunnel leaves (IPv6 itself
/// requires 1,280).
const SMALL_SEGMENT: u32 = 1100;
/// Entries that are remembered, of either kind.
const MAX_PLACES: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    const PAIR: [&str; 2] = ["127.0.0.2:1", "127.0.0.3:1"];

    /// The order, and the lease that goes with it.
    fn order(memory: &AddressMemory, connection: usize) -> (Vec<SocketAddr>, AddressLease) {
        let (order, lease) = memory.order("gw", 1, parse(&PAIR), Some(connection), true);
        (order.open, lease.unwrap())
    }

    #[test]
    fn families_alternate_in_the_resolvers_order() {
        let given = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "127.0.0.1:1",
            "127.0.0.2:1",
        ]);
        let order = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(alternate(given), order);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_past_tcp_comes_last_until_it_succeeds_or_is_forgotten() {
        let memory = AddressMemory::default();
        let [a, b] = [parse(&PAIR)[0], parse(&PAIR)[1]];
        memory.failed(a, false);
        assert_eq!(order(&memory, 0).0, [b, a]);
        tokio::time::advance(Duration::from_secs(1)).await;
        memory.failed(b, false);
        assert_eq!(order(&memory, 0).0, [a, b], "the older failure first");
        memory.succeeded(b);
        assert_eq!(order(&memory, 0).0, [b, a]);
        tokio::time::advance(REMEMBER_FAILURE_FOR).await;
        assert_eq!(order(&memory, 0).0, [a, b]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_barred_address_is_left_out_for_a_minute_and_the_others_stay_open() {
        let memory = AddressMemory::default();
        let [a, b] = [parse(&PAIR)[0], parse(&PAIR)[1]];
        memory.failed(a, true);
        assert_eq!(order(&memory, 0).0, [b]);
        assert!(memory.has_open("gw", 1) && memory.has_untried("gw", 1));
        memory.failed(b, true);
        assert!(!memory.has_open("gw", 1) && !memory.has_untried("gw", 1));
        let (greeted, _) = memory.order("gw", 1, parse(&PAIR), None, false);
        assert_eq!(greeted.open, [a, b], "without a login nothing is barred");
        tokio::time::advance(BARRED_FOR).await;
        assert_eq!(order(&memory, 0).0, [a, b]);
        memory.failed(a, true);
        memory.clear_failures();
        assert_eq!(order(&memory, 0).0, [a, b]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_ends_sessions_for_a_keep_alive_is_remembered_for_hours_and_within_bounds()
     {
        let memory = AddressMemory::default();
        assert!(!memory.rejects_keep_alive("gw:1"));
        assert!(
            memory.record_keep_alive_rejection("gw:1")
                && !memory.record_keep_alive_rejection("gw:1")
        );
        assert!(memory.rejects_keep_alive("gw:1") && !memory.rejects_keep_alive("gw:2"));
        for n in 0..10_000 {
            memory.record_keep_alive_rejection(&format!("gw:{n}"));
            assert!(memory.0.lock().no_keep_alive.len() <= MAX_PLACES);
        }
        memory.record_keep_alive_rejection("gw:1");
        tokio::time::advance(KEEP_ALIVE_REJECTED_FOR).await;
        assert!(!memory.rejects_keep_alive("gw:1"));
    }

    #[tokio::test]
    async fn connections_begin_at_different_addresses_in_whatever_order_the_resolver_gives_them() {
        let memory = AddressMemory::default();
        let [a, b] = [parse(&PAIR)[0], parse(&PAIR)[1]];
        let (first, lease) = order(&memory, 0);
        assert_eq!(first, [a, b]);
        let mut turned = parse(&PAIR);
        turned.rotate_left(1);
        let (second, _lease) = order(&memory, 1);
        assert_eq!(second, [b, a], "the first one is in use");
        let (successor, _) = order(&memory, 0);
        assert_eq!(successor, [a, b], "a replacement stays where it is");
        lease.move_to(b);
        let (third, _) = memory.order("gw", 1, turned, Some(2), true);
        assert_eq!(third.open, [a, b], "the resolver began with the other one");
    }
}
