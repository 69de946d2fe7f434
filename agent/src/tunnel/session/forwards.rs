//! The remote forwards that a session has requested, and the one that a channel belongs to.

use crate::tunnel::{BindAddress, ListeningPlace, RemoteForward};
use parking_lot::Mutex;
use std::{net::IpAddr, sync::Arc};

/// The forwards of one session. An entry exists from just before the request until it is refused or its cancellation is
/// answered, because channels may be opened during all that time.
#[derive(Default)]
pub(super) struct SessionForwards(Mutex<Vec<ForwardEntry>>);

struct ForwardEntry {
    forward: RemoteForward,
    place: Arc<ListeningPlace>,
    /// The port, if it was named or the gateway has answered.
    port: Option<u16>,
}

impl SessionForwards {
    /// Adds an entry, before the request is sent.
    pub(super) fn ask(&self, forward: &RemoteForward) {
        let port = match forward.bind {
            BindAddress::Tcp { port, .. } if port != 0 => Some(port),
            BindAddress::Tcp { .. } | BindAddress::Socket(_) => None,
        };
        let mut entries = self.0.lock();
        entries.retain(|e| e.forward.name != forward.name);
        entries.push(ForwardEntry {
            forward: forward.clone(),
            place: Arc::new(ListeningPlace::new(forward.bind.clone())),
            port,
        });
    }

    /// Sets the port that the gateway has chosen.
    pub(super) fn given(&self, name: &str, port: u16) {
        if let Some(entry) = self.0.lock().iter_mut().find(|e| *e.forward.name == *name) {
            entry.port = Some(port);
            entry.place.set_port(port);
        }
    }

    /// Removes a forward that was refused or cancelled.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().retain(|e| *e.forward.name != *name);
    }

    /// The bind address with the port in use, as a cancellation names it.
    pub(super) fn bound(&self, name: &str) -> Option<BindAddress> {
        let entries = self.0.lock();
        let entry = entries.iter().find(|e| *e.forward.name == *name)?;
        Some(match (&entry.forward.bind, entry.port) {
            (BindAddress::Tcp { host, .. }, Some(port)) => BindAddress::Tcp {
                host: host.clone(),
                port,
            },
            (bind, _) => bind.clone(),
        })
    }

    /// Where the gateway listens for this forward.
    pub(super) fn place(&self, name: &str) -> Option<Arc<ListeningPlace>> {
        let entries = self.0.lock();
        let entry = entries.iter().find(|e| *e.forward.name == *name)?;
        Some(Arc::clone(&entry.place))
    }

    /// All places.
    pub(super) fn places(&self) -> Vec<Arc<ListeningPlace>> {
        let entries = self.0.lock();
        entries.iter().map(|e| Arc::clone(&e.place)).collect()
    }

    /// Names of all entries.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.0
            .lock()
            .iter()
            .map(|e| e.forward.name.clone())
            .collect()
    }

    /// The forward that a `forwarded-tcpip` channel belongs to. OpenSSH reports the host as it was requested, other servers
    /// the address that they listen on: then the port decides, if only one forward has it.
    pub(super) fn by_address(&self, host: &str, port: u32) -> Option<Arc<str>> {
        let entries = self.0.lock();
        let candidates = || {
            entries.iter().filter_map(|e| match &e.forward.bind {
                BindAddress::Tcp { host, .. } => Some((e, host.as_str(), e.port.map(u32::from))),
                BindAddress::Socket(_) => None,
            })
        };
        let name = |e: &ForwardEntry| e.forward.name.clone();
        if let Some((e, ..)) = candidates().find(|(_, h, p)| *h == host && *p == Some(port)) {
            return Some(name(e));
        }
        let mut by_port = candidates().filter(|(.., p)| *p == Some(port));
        if let (Some((e, ..)), None) = (by_port.next(), by_port.next()) {
            return Some(name(e));
        }
        // The channel has overtaken the answer with the port. There is at most one such forward, because requests are made
        // one at a time.
        let mut unknown = candidates().filter(|(.., p)| p.is_none());
        match (unknown.next(), unknown.next()) {
            (Some((e, ..)), None) => Some(name(e)),
            _ => None,
        }
    }

    /// Whether only programs on the gateway should reach this forward.
    pub(super) fn is_loopback(&self, name: &str) -> bool {
        let entries = self.0.lock();
        let found = entries.iter().find(|e| *e.forward.name == *name);
        found.is_some_and(|e| match &e.forward.bind {
            BindAddress::Tcp { host, .. } => is_loopback(host),
            BindAddress::Socket(_) => false,
        })
    }

    /// The forward that a `forwarded-streamlocal@openssh.com` channel belongs to.
    pub(super) fn by_socket(&self, path: &str) -> Option<Arc<str>> {
        let entries = self.0.lock();
        let found = entries
            .iter()
            .find(|e| matches!(&e.forward.bind, BindAddress::Socket(p) if p == path));
        found.map(|e| e.forward.name.clone())
    }
}

/// Whether `host` is `localhost` or a loopback address.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn forward(name: &str, bind: &str) -> RemoteForward {
        RemoteForward {
            name: name.into(),
            bind: bind.parse().unwrap(),
        }
    }

    fn asked(list: &[(&str, &str)]) -> SessionForwards {
        let forwards = SessionForwards::default();
        for (name, bind) in list {
            forwards.ask(&forward(name, bind));
        }
        forwards
    }

    fn found(name: Option<Arc<str>>) -> Option<String> {
        name.map(|n| n.to_string())
    }

    #[test]
    fn a_channel_belongs_to_the_forward_with_its_host_and_port() {
        let forwards = asked(&[
            ("a", "127.0.0.1:8080"),
            ("b", "10.0.0.1:8080"),
            ("s", "/run/s"),
        ]);
        assert_eq!(
            found(forwards.by_address("10.0.0.1", 8080)).as_deref(),
            Some("b")
        );
        assert_eq!(
            found(forwards.by_address("127.0.0.1", 8080)).as_deref(),
            Some("a")
        );
        assert_eq!(found(forwards.by_socket("/run/s")).as_deref(), Some("s"));
    }

    #[test]
    fn a_channel_that_no_forward_asked_for_belongs_to_none() {
        let forwards = asked(&[("a", "127.0.0.1:8080"), ("b", "10.0.0.1:8080")]);
        assert_eq!(forwards.by_address("127.0.0.1", 22), None);
        assert_eq!(
            forwards.by_address("192.0.2.1", 8080),
            None,
            "two have this port"
        );
        assert_eq!(forwards.by_socket("/run/other"), None);
    }

    #[test]
    fn a_gateway_that_reports_its_own_address_is_understood_by_the_port() {
        let forwards = asked(&[("a", "localhost:8080"), ("b", "localhost:8081")]);
        assert_eq!(
            found(forwards.by_address("127.0.0.1", 8081)).as_deref(),
            Some("b")
        );
    }

    #[test]
    fn port_zero_takes_the_given_port_and_channels_that_come_before_it_is_known() {
        let forwards = asked(&[("a", "127.0.0.1:0")]);
        assert_eq!(
            found(forwards.by_address("127.0.0.1", 40_001)).as_deref(),
            Some("a")
        );
        forwards.given("a", 40_001);
        assert_eq!(
            found(forwards.by_address("127.0.0.1", 40_001)).as_deref(),
            Some("a")
        );
        assert_eq!(forwards.by_address("127.0.0.1", 40_002), None);
        assert_eq!(forwards.bound("a").unwrap().to_string(), "127.0.0.1:40001");
    }

    #[test]
    fn a_cancelled_forward_has_no_channels_any_more() {
        let forwards = asked(&[("a", "127.0.0.1:8080")]);
        forwards.forget("a");
        assert_eq!(forwards.by_address("127.0.0.1", 8080), None);
        assert!(forwards.names().is_empty());
    }
}
