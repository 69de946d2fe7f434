//! Hops as they are passed, each with the time that it took.

use crate::{
    check::step::{Found, Steps},
    status::{NOT_STRICT, NOT_STRICT_REMEDY},
    tunnel::{
        Gateway, Hop, Passed, Settings, Tell,
        session::{OpenError, Session},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// One attempt to go to a gateway.
pub(super) struct Trace {
    begun: Instant,
    passed: Arc<Mutex<Vec<(Instant, Passed)>>>,
}

impl Trace {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            passed: Arc::default(),
        }
    }

    /// What the attempt is to be given.
    pub(super) fn tell(&self) -> Tell {
        let passed = Arc::clone(&self.passed);
        Arc::new(move |hop| {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            passed.push((Instant::now(), hop));
        })
    }

    /// Notes that one address of the gateway's name has failed, and that the next one is tried.
    pub(super) fn note_address(self, steps: &mut Steps, error: &OpenError) {
        let remedy = format!(
            "the next address of the name is tried, here as by the agent; {}",
            error.remedy()
        );
        let found = Found::warn(error.to_string(), remedy).presented(error.chain());
        steps.took(error.hop().name(), found, self.begun.elapsed());
    }

    /// Notes what was passed, and where it ended if it did. `session` knows what was negotiated.
    pub(super) fn note(
        self,
        steps: &mut Steps,
        settings: &Settings,
        gateway: &Gateway,
        session: Option<&Session>,
        failure: Option<&OpenError>,
    ) {
        let passed =
            std::mem::take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner));
        let mut since = self.begun;
        for (at, hop) in passed {
            let took = at.saturating_duration_since(since);
            steps.took(
                hop.hop().name(),
                seen(&hop, settings, gateway, session),
                took,
            );
            since = at;
        }
        if let Some(error) = failure {
            steps.took(error.hop().name(), failed(error), since.elapsed());
        }
    }
}

/// One cause, one remedy.
fn failed(error: &OpenError) -> Found {
    Found::fail(error.to_string(), error.remedy()).presented(error.chain())
}

fn seen(hop: &Passed, settings: &Settings, gateway: &Gateway, session: Option<&Session>) -> Found {
    let proxy = settings.egress.proxy(gateway);
    Found::ok(match hop {
        Passed::Dns(addresses) => {
            let host = proxy.map_or(&gateway.host, |proxy| &proxy.host);
            let found = match host.parse::<IpAddr>() {
                Ok(_) => "an address: no name is resolved".to_owned(),
                Err(_) => list(addresses),
            };
            match proxy {
                Some(proxy) => format!("of the proxy {proxy}: {found}"),
                None => found,
            }
        }
        Passed::Tcp(peer) => peer.to_string(),
        Passed::Proxy => {
            let by = proxy.map(ToString::to_string).unwrap_or_default();
            let login = match proxy.and_then(|proxy| proxy.login.as_ref()) {
                Some(login) => format!(", user {:?}", login.username),
                None => String::new(),
            };
            format!("{by} lets us through to {}{login}", gateway.address())
        }
        Passed::Tls(seen) => format!("{}, issued by {:?}", seen.version, seen.issuer),
        Passed::Banner(software) => software.clone(),
        Passed::KeyExchange => match session.and_then(Session::facts) {
            Some(facts) => {
                let strict = if facts.strict { ", strict" } else { "" };
                let agreed = format!("{}, {}{strict}", facts.key_exchange, facts.cipher);
                return key_exchange(agreed, facts.strict);
            }
            None => "agreed".to_owned(),
        },
        Passed::HostKey(print) => print.clone(),
        Passed::Login => login(settings),
    })
}

/// One that is not strict is taken, and named.
pub(super) fn key_exchange(agreed: String, strict: bool) -> Found {
    match strict {
        true => Found::ok(agreed),
        false => Found::warn(NOT_STRICT, NOT_STRICT_REMEDY).seen(agreed),
    }
}

/// Who logs in, and with what.
pub(super) fn login(settings: &Settings) -> String {
    format!(
        "user {}, key {}",
        settings.user,
        settings.identity.fingerprint()
    )
}

fn list(addresses: &[SocketAddr]) -> String {
    let each: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
    each.join(", ")
}

/// What comes after `hop` up to the login, for hops that were passed or not reached.
pub(super) const INSIDE: [Hop; 3] = [Hop::KeyExchange, Hop::HostKey, Hop::Login];
