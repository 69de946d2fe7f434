//! Records the hops of a connection attempt, each with its duration.

use crate::{
    check::step::{StepRecorder, StepResult},
    status::{NOT_STRICT, NOT_STRICT_REMEDY},
    tunnel::{
        GatewayAddress, Hop, HopEvent, HopObserver, Settings,
        session::{Session, SessionOpenError},
    },
};
use parking_lot::Mutex;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// Records one attempt to connect to a gateway.
pub(super) struct HopRecorder {
    begun: Instant,
    events: Arc<Mutex<Vec<(Instant, HopEvent)>>>,
}

impl HopRecorder {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            events: Arc::default(),
        }
    }

    /// The observer to pass to the attempt.
    pub(super) fn observer(&self) -> HopObserver {
        let passed = Arc::clone(&self.events);
        Arc::new(move |hop| {
            passed.lock().push((Instant::now(), hop));
        })
    }

    /// Adds a warning: one address of the gateway failed, and the next one is tried.
    pub(super) fn record_address_failure(self, steps: &mut StepRecorder, error: &SessionOpenError) {
        let remedy = format!("the next address of the name is tried; {}", error.remedy());
        let found = StepResult::warn(error.to_string(), remedy).presented(error.chain());
        steps.add_timed(error.hop().name(), found, self.begun.elapsed());
    }

    /// Adds the hops that were passed, and the one that failed. `session` knows what was negotiated.
    pub(super) fn record(
        self,
        steps: &mut StepRecorder,
        settings: &Settings,
        gateway: &GatewayAddress,
        session: Option<&Session>,
        failure: Option<&SessionOpenError>,
    ) {
        let passed = std::mem::take(&mut *self.events.lock());
        let mut since = self.begun;
        for (at, hop) in passed {
            let took = at.saturating_duration_since(since);
            steps.add_timed(
                hop.hop().name(),
                seen(&hop, settings, gateway, session),
                took,
            );
            since = at;
        }
        if let Some(error) = failure {
            steps.add_timed(error.hop().name(), failed(error), since.elapsed());
        }
    }
}

fn failed(error: &SessionOpenError) -> StepResult {
    StepResult::fail(error.to_string(), error.remedy()).presented(error.chain())
}

fn seen(
    hop: &HopEvent,
    settings: &Settings,
    gateway: &GatewayAddress,
    session: Option<&Session>,
) -> StepResult {
    let proxy = settings.egress.proxy(gateway);
    StepResult::ok(match hop {
        HopEvent::Dns(addresses) => {
            let host = proxy.map_or(&gateway.host, |proxy| &proxy.host);
            let found = match host.parse::<IpAddr>() {
                Ok(_) => "an address; no DNS lookup".to_owned(),
                Err(_) => list(addresses),
            };
            match proxy {
                Some(proxy) => format!("proxy {proxy}: {found}"),
                None => found,
            }
        }
        HopEvent::Tcp(peer) => peer.to_string(),
        HopEvent::Proxy => {
            let by = proxy.map(ToString::to_string).unwrap_or_default();
            let login = match proxy.and_then(|proxy| proxy.credential.as_ref()) {
                Some(login) => format!(", user {:?}", login.username),
                None => String::new(),
            };
            format!("{by} connected to {}{login}", gateway.address())
        }
        HopEvent::Tls(seen) => format!("{}, issued by {:?}", seen.version, seen.issuer),
        HopEvent::Banner(software) => software.clone(),
        HopEvent::KeyExchange => match session.and_then(Session::negotiated) {
            Some(facts) => {
                let strict = if facts.strict { ", strict" } else { "" };
                let agreed = format!("{}, {}{strict}", facts.key_exchange, facts.cipher);
                return key_exchange(agreed, facts.strict);
            }
            None => "agreed".to_owned(),
        },
        HopEvent::HostKey(fingerprint) => fingerprint.clone(),
        HopEvent::Login => login(settings),
    })
}

/// A key exchange that is not strict is accepted with a warning.
pub(super) fn key_exchange(agreed: String, strict: bool) -> StepResult {
    match strict {
        true => StepResult::ok(agreed),
        false => StepResult::warn(NOT_STRICT, NOT_STRICT_REMEDY).with_detail(agreed),
    }
}

/// User and key of the login.
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

/// The hops from the key exchange to the login.
pub(super) const SESSION_HOPS: [Hop; 3] = [Hop::KeyExchange, Hop::HostKey, Hop::Login];
