//! From the name of a gateway or proxy to a TCP connection.

use super::{
    AddressChoice,
    addresses::{AddressLease, AddressMemory, DialOrder},
    error::{ConnectFailure, ConnectFailureKind, DialError},
};
use crate::{
    descriptors,
    tunnel::{HopEvent, HopObserver},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::SockRef;
use std::{io, net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, sleep, timeout},
};

/// A TCP connection, its address, and the lease on that address if it was dialed for a numbered connection.
#[derive(Debug)]
pub(super) struct DialedConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// How long the TCP handshake took: one round trip.
    pub(super) round_trip: Duration,
    pub(super) lease: Option<AddressLease>,
}

/// Connects to the first address that answers, in the order of `memory`. Every 250 ms another address is tried in parallel
/// (RFC 8305), so that an address family that does not work costs little. `limit` applies to name resolution and to each
/// address. A login does not wait for a resolver that fails or is slow, if the name was resolved before.
pub(super) async fn dial(
    host: &str,
    port: u16,
    limit: Duration,
    observer: &HopObserver,
    memory: &AddressMemory,
    choice: AddressChoice,
) -> Result<DialedConnection, DialError> {
    let race = |addresses| {
        let connection = choice.connection;
        let (order, lease) = memory.order(host, port, addresses, connection, connection.is_some());
        race(order, lease, limit, observer, memory)
    };
    if let Some(address) = choice.only {
        let order = DialOrder {
            open: vec![address],
            barred: Vec::new(),
        };
        let lease = choice.connection.map(|one| memory.claim(address, one));
        return self::race(order, lease, limit, observer, memory).await;
    }
    if let Some(fixed) = memory.fixed(host, port) {
        return race(fixed).await;
    }
    let resolved = resolve(host, port, limit);
    let known = memory.resolved(host, port);
    match known.filter(|_| choice.connection.is_some()) {
        Some(known) => dial_known(known, resolved, race).await,
        None => race(resolved.await?).await,
    }
}

/// Dials by the last known addresses if the resolver does not answer soon, or fails: it may be behind the same broken link.
/// Its answer, if it differs, replaces them.
async fn dial_known<D, F>(
    known: Vec<SocketAddr>,
    resolved: impl Future<Output = Result<Vec<SocketAddr>, DialError>>,
    race: D,
) -> Result<DialedConnection, DialError>
where
    D: Fn(Vec<SocketAddr>) -> F,
    F: Future<Output = Result<DialedConnection, DialError>>,
{
    let mut resolved = pin!(resolved);
    match timeout(RESOLVER_PATIENCE, &mut resolved).await {
        Ok(Ok(addresses)) => return race(addresses).await,
        // Where the old addresses fail too, the resolver's error is the cause.
        Ok(Err(error)) => return race(known).await.map_err(|_| error),
        Err(_) => {}
    }
    let mut dialed = pin!(race(known.clone()));
    let late = tokio::select! {
        outcome = &mut dialed => match outcome {
            Ok(connection) => return Ok(connection),
            Err(error) => resolved.await.map_err(|_| error)?,
        },
        answer = &mut resolved => match answer {
            Ok(addresses) => addresses,
            Err(_) => return dialed.await,
        },
    };
    let same = late.len() == known.len() && late.iter().all(|one| known.contains(one));
    match same {
        true => dialed.await,
        false => race(late).await,
    }
}

async fn race(
    order: DialOrder,
    lease: Option<AddressLease>,
    limit: Duration,
    observer: &HopObserver,
    memory: &AddressMemory,
) -> Result<DialedConnection, DialError> {
    let barred = order.barred.iter().map(|(address, _)| *address);
    observer(HopEvent::Dns(
        order.open.iter().copied().chain(barred).collect(),
    ));
    let mut waiting = order.open.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    let connect = |address| connect(address, limit, memory.segment(&address));
    running.extend(waiting.next().map(connect));
    loop {
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok((peer, stream, round_trip)) => {
                    observer(HopEvent::Tcp(peer));
                    if let Some(lease) = &lease {
                        lease.move_to(peer);
                    }
                    return Ok(DialedConnection { stream, peer, round_trip, lease });
                }
                Err(failure) => {
                    failures.push(failure);
                    running.extend(waiting.next().map(connect));
                }
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {
                running.extend(waiting.next().map(connect));
            }
            else => break,
        }
    }
    failures.extend(
        order
            .barred
            .into_iter()
            .map(|(address, left)| ConnectFailure {
                address,
                kind: ConnectFailureKind::Barred,
                problem: format!(
                    "is not tried for another {} s, because it refused the agent",
                    left.as_secs() + 1
                ),
            }),
    );
    Err(DialError::Connect(failures))
}

async fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let found = match timeout(limit, lookup_host((host, port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(problem)) => return Err(DialError::Resolve(problem.to_string())),
        Err(_) => return Err(DialError::Silent(limit)),
    };
    let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
    match addresses.is_empty() {
        true => Err(DialError::Resolve("it has no address".to_owned())),
        false => Ok(addresses),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
async fn connect(
    address: SocketAddr,
    limit: Duration,
    segment: Option<u32>,
) -> Result<(SocketAddr, TcpStream, Duration), ConnectFailure> {
    let failure = |kind, problem| ConnectFailure {
        address,
        kind,
        problem,
    };
    match timeout(limit, connect_again(address, segment)).await {
        Ok(Ok((stream, round_trip))) => Ok((address, stream, round_trip)),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => failure(
                ConnectFailureKind::Refused,
                "refused the connection".to_owned(),
            ),
            io::ErrorKind::TimedOut => {
                failure(ConnectFailureKind::Timeout, "did not answer".to_owned())
            }
            _ => failure(ConnectFailureKind::Other, descriptors::describe(&error)),
        }),
        Err(_) => Err(failure(
            ConnectFailureKind::Timeout,
            format!("did not answer within {} s", limit.as_secs()),
        )),
    }
}

/// Connects from a new socket every few seconds: the kernel repeats a lost first packet after 1, 3, 7 and 15 s only, and
/// would notice late that a link works again.
async fn connect_again(
    address: SocketAddr,
    segment: Option<u32>,
) -> io::Result<(TcpStream, Duration)> {
    let mut running = FuturesUnordered::new();
    loop {
        if running.len() == MAX_REPEATS {
            running = FuturesUnordered::new();
        }
        running.push(connect_once(address, segment));
        tokio::select! {
            Some(outcome) = running.next() => return outcome,
            () = sleep(REPEAT) => {}
        }
    }
}

/// The connection, and how long its handshake took.
async fn connect_once(
    address: SocketAddr,
    segment: Option<u32>,
) -> io::Result<(TcpStream, Duration)> {
    let begun = Instant::now();
    let Some(segment) = segment else {
        let stream = TcpStream::connect(address).await?;
        return Ok((stream, begun.elapsed()));
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Before the connection is made, so that the handshake announces it to the far side too.
    if let Err(error) = SockRef::from(&socket).set_tcp_mss(segment) {
        tracing::debug!(option = "TCP_MAXSEG", %error, "cannot set a socket option");
    }
    let stream = socket.connect(address).await?;
    Ok((stream, begun.elapsed()))
}

/// Delay before a further address is tried (RFC 8305 §5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Then the first packet is sent from a new socket too. Sooner, a gateway that drops packets would see more of them than
/// the kernel sends in the first seconds.
const REPEAT: Duration = Duration::from_secs(3);
/// Sockets that wait for the same answer; then all are replaced by a new one.
const MAX_REPEATS: usize = 5;
/// Time for the resolver before known addresses are dialed: a resolver nearby answers from its cache.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(1);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tunnel::ignore;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn dial(port: u16, host: &str) -> Result<DialedConnection, DialError> {
        let memory = AddressMemory::default();
        let choice = AddressChoice::default();
        super::dial(host, port, LIMIT, &ignore(), &memory, choice).await
    }

    #[tokio::test]
    async fn a_listening_gateway_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialed = dial(address.port(), "127.0.0.1").await.unwrap();
        assert_eq!(dialed.peer, address);
    }

    #[tokio::test]
    async fn where_large_packets_are_lost_segments_are_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = AddressMemory::default();
        for suspected in [false, true] {
            if suspected {
                assert!(memory.suspect_mtu(address) && !memory.suspect_mtu(address));
            }
            let choice = AddressChoice::default();
            let (observer, host) = (ignore(), "127.0.0.1");
            let dialed = super::dial(host, address.port(), LIMIT, &observer, &memory, choice);
            let stream = dialed.await.unwrap().stream;
            let (accepted, _) = listener.accept().await.unwrap();
            for end in [&stream, &accepted] {
                let small = SockRef::from(end).tcp_mss().unwrap() <= 1100;
                assert_eq!(small, suspected);
            }
        }
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = dial(address.port(), "127.0.0.1").await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("{address} refused")),
            "{error}"
        );
    }

    fn dialed(port: u16) -> DialError {
        DialError::Resolve(format!("dialed {port}"))
    }

    /// Each address "answers" with an error that names it.
    async fn known_and_then(
        answer: Result<Vec<SocketAddr>, DialError>,
        after: Duration,
        connect: Duration,
    ) -> String {
        let resolved = async {
            sleep(after).await;
            answer
        };
        let known = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        let race = |addresses: Vec<SocketAddr>| async move {
            sleep(connect).await;
            Err(dialed(addresses.first().unwrap().port()))
        };
        super::dial_known(known, resolved, race)
            .await
            .unwrap_err()
            .to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_is_slow_or_fails_does_not_hold_up_a_known_gateway() {
        let new = || Ok(vec![SocketAddr::from(([127, 0, 0, 2], 2))]);
        let failed = || Err(DialError::Silent(LIMIT));
        let (quick, slow) = (Duration::from_millis(10), Duration::from_secs(5));
        let outcome = known_and_then(new(), quick, quick).await;
        assert!(
            outcome.ends_with("dialed 2"),
            "it answers in time: {outcome}"
        );
        let begun = tokio::time::Instant::now();
        let outcome = known_and_then(failed(), slow, quick).await;
        assert!(outcome.ends_with("dialed 1"), "the old address: {outcome}");
        assert!(begun.elapsed() <= slow);
        let outcome = known_and_then(new(), slow, slow * 10).await;
        assert!(
            outcome.ends_with("dialed 2"),
            "a late answer counts: {outcome}"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_told_apart() {
        let error = dial(443, "gateway.invalid").await.unwrap_err();
        assert!(
            matches!(error, DialError::Resolve(_) | DialError::Silent(_)),
            "{error}"
        );
    }
}
