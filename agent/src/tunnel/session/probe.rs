//! The probe, a request that only a live session answers.
//!
//! russh matches the answers to global requests by their order alone, and ignores UNIMPLEMENTED (docs/dev/ssh.md, D10). So no
//! probe is sent while a request for a forward is pending. A gateway that leaves a global request unanswered is probed by
//! opening a channel instead, whose answer has a number. One that ends the session for a global request is remembered, and
//! its next sessions open a channel from the first probe on.

use super::{SessionEnd, session::SessionInner};
use crate::tunnel::{channel::ChannelStream, egress::AddressMemory};
use parking_lot::Mutex;
use russh::Error;
use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// Requests that a probe waits for, and the kind of probe that this gateway answers.
pub(super) struct SessionProbes {
    /// Number of requests for forwards that are not answered yet.
    pending_forwards: Arc<watch::Sender<usize>>,
    method: OnceLock<ProbeMethod>,
    /// A global request of this session was never answered.
    unanswered: AtomicBool,
    /// A global request was sent and is not answered yet.
    in_flight: AtomicBool,
    /// When the last one that was answered was sent.
    answered_sent_at: Mutex<Option<Instant>>,
}

/// The kind of probe that a gateway answers, known after the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeMethod {
    /// A global request that wants a reply (RFC 4254 §4).
    GlobalRequest,
    /// Opening a channel.
    ChannelOpen,
}

/// A request for a forward, until it is answered.
pub(super) struct PendingForwardRequest(Arc<watch::Sender<usize>>);

impl Drop for PendingForwardRequest {
    fn drop(&mut self) {
        self.0
            .send_modify(|pending| *pending = pending.saturating_sub(1));
    }
}

impl SessionProbes {
    /// No probe is sent until the result is dropped.
    pub(super) fn forward_pending(&self) -> PendingForwardRequest {
        self.pending_forwards
            .send_modify(|pending| *pending = pending.saturating_add(1));
        PendingForwardRequest(Arc::clone(&self.pending_forwards))
    }

    /// `no_keep_alive`: the gateway is known to end sessions that send a keep-alive.
    pub(super) fn new(no_keep_alive: bool) -> Self {
        let method = OnceLock::new();
        if no_keep_alive {
            let _ = method.set(ProbeMethod::ChannelOpen);
        }
        Self {
            pending_forwards: Arc::new(watch::Sender::new(0)),
            method,
            unanswered: AtomicBool::new(false),
            in_flight: AtomicBool::new(false),
            answered_sent_at: Mutex::new(None),
        }
    }

    /// When the last probe that was answered was sent.
    pub(super) fn answered_sent_at(&self) -> Option<Instant> {
        *self.answered_sent_at.lock()
    }

    /// Whether a request for a forward is not answered yet.
    pub(super) fn is_forward_pending(&self) -> bool {
        *self.pending_forwards.borrow() > 0
    }

    pub(super) fn ignores_global_requests(&self) -> bool {
        self.unanswered.load(Relaxed)
    }

    async fn no_forward_pending(&self) {
        let mut pending = self.pending_forwards.subscribe();
        // The sender is in `self`.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }
}

/// Sends a probe, and returns the time until its answer; a refusal is an answer.
pub(super) async fn probe(inner: &Arc<SessionInner>) -> Result<Duration, SessionEnd> {
    let answer = async {
        inner.probes.no_forward_pending().await;
        let _guard = inner.one_at_a_time.lock().await;
        let start = Instant::now();
        let answered = match inner.probes.method.get() {
            Some(ProbeMethod::GlobalRequest) => global_request(inner).await,
            Some(ProbeMethod::ChannelOpen) => channel_open(Arc::clone(inner)).await,
            None => detect_method(inner).await,
        };
        answered.then(|| {
            *inner.probes.answered_sent_at.lock() = Some(start);
            start.elapsed()
        })
    };
    let answer = tokio::select! {
        answer = answer => answer,
        ended = inner.shared.ended() => {
            record_keep_alive_end(inner, &ended);
            return Err(ended);
        }
    };
    match answer {
        Some(round_trip) => Ok(round_trip),
        None => {
            let ended = inner.shared.end_of_dead().await;
            record_keep_alive_end(inner, &ended);
            Err(ended)
        }
    }
}

/// Remembers a gateway that ended the session while a keep-alive was unanswered. If that was chance, the other probe does no
/// harm. A TCP reset does not count: a firewall that has forgotten the connection resets it, whatever we send.
fn record_keep_alive_end(inner: &SessionInner, ended: &SessionEnd) {
    let ended_by_gateway = matches!(
        ended,
        SessionEnd::ByGateway(_) | SessionEnd::Closed | SessionEnd::TextNotUtf8
    );
    if !ended_by_gateway || !inner.probes.in_flight.swap(false, Relaxed) {
        return;
    }
    let shared = &inner.shared;
    let place = shared.describe_gateway();
    if addresses(inner).record_keep_alive_rejection(&place) {
        let _entered = shared.span.enter();
        tracing::info!(
            gateway = place,
            cause = %ended,
            "the gateway ends sessions that send keepalive@openssh.com (RFC 4254, section 4, requires a reply); the next \
             sessions are probed by opening a session channel instead"
        );
    }
}

fn addresses(inner: &SessionInner) -> AddressMemory {
    inner.shared.settings.egress.addresses()
}

/// The first probe of a session, which finds the method that the gateway answers.
async fn detect_method(inner: &Arc<SessionInner>) -> bool {
    let mut request = pin!(global_request(inner));
    let answered = match timeout(FALLBACK_DELAY, request.as_mut()).await {
        Ok(answered) => answered,
        Err(_) => {
            // A task: cancelling it would end the session.
            let mut channel = tokio::spawn(channel_open(Arc::clone(inner)));
            tokio::select! {
                answered = request => answered,
                answered = &mut channel => {
                    let answered = answered.unwrap_or(false);
                    if answered {
                        inner.probes.unanswered.store(true, Relaxed);
                        inner.probes.in_flight.store(false, Relaxed);
                        let _ = inner.probes.method.set(ProbeMethod::ChannelOpen);
                        let _entered = inner.shared.span.enter();
                        tracing::info!(
                            "the gateway does not reply to keepalive@openssh.com (RFC 4254, section 4); it is probed by \
                             opening a session channel instead"
                        );
                    }
                    return answered;
                }
            }
        }
    };
    if answered {
        let _ = inner.probes.method.set(ProbeMethod::GlobalRequest);
    }
    answered
}

async fn global_request(inner: &SessionInner) -> bool {
    inner.probes.in_flight.store(true, Relaxed);
    let answer = inner.handle.send_global_request(PROBE, &[], true).await;
    // OpenSSH answers with "request failed".
    let answered = matches!(answer, Ok(_) | Err(Error::RequestDenied));
    if answered {
        inner.probes.in_flight.store(false, Relaxed);
    }
    answered
}

/// Opens a session channel, which is closed at once if the gateway grants it.
async fn channel_open(inner: Arc<SessionInner>) -> bool {
    match inner.handle.channel_open_session().await {
        Ok(channel) => {
            drop(ChannelStream::new(
                Arc::clone(&inner.shared.budget),
                channel,
            ));
            true
        }
        Err(error) => matches!(error, Error::ChannelOpenFailure(_)),
    }
}

/// The request that nearly every server answers, OpenSSH's own keep-alive (PROTOCOL, "keepalive@openssh.com").
const PROBE: &str = "keepalive@openssh.com";
/// Half of what a probe may take by default.
const FALLBACK_DELAY: Duration = Duration::from_secs(2);
