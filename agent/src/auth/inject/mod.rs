//! The injecting modes' common way: strip, ask the circuit, put the credential in; and back: read the
//! answer, tell the circuit and the status, strip.

mod attempt;
mod probe;
mod rejection;

pub(super) use attempt::InjectedAttempt;

use super::{
    AuthRefusal, AuthScheme, Concern, CredentialUnavailable, VendorHeaders,
    circuit::{
        AdmissionDecision, CallerKind, CircuitChange, CircuitRules, CredentialCircuit,
        CredentialOutcome,
    },
    identity::{self, ProvenUser},
    lockout_guard::{LockoutGuard, Sent, Turn},
    strip,
    upstream_cookies::UpstreamCookies,
};
use crate::{
    expiry::CredentialExpiry,
    status::{ProofState, StatusLayer},
};
use http::{header, request};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(super) struct CredentialInjector {
    scheme: Box<dyn AuthScheme>,
    layer: Arc<StatusLayer>,
    circuit: Mutex<CredentialCircuit>,
    guard: Mutex<LockoutGuard>,
    known: Mutex<ProbeFindings>,
    /// Somebody probes the login; only what the probe meets decides.
    is_probed: AtomicBool,
    /// The file of the secret could not be read when it was last looked at.
    is_unread: AtomicBool,
    /// Wakes those who wait for a trial's outcome.
    settled: Notify,
    /// Wakes whoever probes.
    probe_requested: Notify,
    seen: identity::LastSeenUser,
    pub(super) cookies: UpstreamCookies,
}

/// What becomes of a request that asks to be sent.
enum Admitted {
    Go(Box<InjectedAttempt>),
    /// Another one is just finding out; the probe is wanted.
    Wait,
    /// Another one is just finding out; the probe is wanted after so long.
    Follow(Duration),
}

/// What the probe has found out about the secret that there is now.
#[derive(Default)]
struct ProbeFindings {
    /// Of the secret; 0 before the first look.
    version: u64,
    /// Jira has taken or refused it.
    decided: bool,
    user: Option<ProvenUser>,
}

/// The name to show for the user of the probe's answer, where Jira gave one beside the name that it is known by.
#[derive(Clone)]
pub(crate) struct UserDisplayName(pub(crate) String);

impl CredentialInjector {
    pub(super) fn new(
        scheme: Box<dyn AuthScheme>,
        layer: Arc<StatusLayer>,
        over_tls: bool,
    ) -> Self {
        Self {
            scheme,
            layer,
            circuit: Mutex::default(),
            guard: Mutex::default(),
            known: Mutex::default(),
            is_probed: AtomicBool::new(false),
            is_unread: AtomicBool::new(false),
            settled: Notify::new(),
            probe_requested: Notify::new(),
            seen: identity::LastSeenUser::new(""),
            cookies: UpstreamCookies::new(over_tls),
        }
    }

    pub(super) fn mode(&self) -> &'static str {
        self.scheme.mode()
    }

    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        self.scheme.expiries()
    }

    pub(super) fn concern(&self) -> Option<Concern> {
        self.scheme.concern()
    }

    pub(super) fn can_refresh(&self) -> bool {
        self.scheme.can_refresh()
    }

    pub(super) async fn wait_idle(&self) {
        self.scheme.wait_idle().await;
    }

    pub(super) fn expiry_probe_path(&self) -> Option<&'static str> {
        self.scheme.expiry_probe_path()
    }

    pub(super) fn refused(&self) -> Option<CredentialUnavailable> {
        self.circuit().refusal()
    }

    pub(super) async fn prepare(
        self: Arc<Self>,
        head: &mut request::Parts,
        headers: &VendorHeaders,
    ) -> Result<InjectedAttempt, AuthRefusal> {
        strip::request(head, headers)?;
        self.scheme.check_request(head)?;
        let deadline = Instant::now() + TRIAL_WAIT;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before asking, so that an outcome in between is not missed.
            settled.as_mut().enable();
            match self.clone().attempt(head, CallerKind::Traffic).await? {
                Admitted::Go(attempt) => return Ok(*attempt),
                Admitted::Follow(patience) => {
                    let patience = Instant::now() + patience;
                    if timeout_at(patience.min(deadline), settled.as_mut())
                        .await
                        .is_ok()
                    {
                        continue;
                    }
                    self.guard().want_probe(Instant::now());
                }
                Admitted::Wait => {}
            }
            self.probe_requested.notify_one();
            if timeout_at(deadline, settled).await.is_err() {
                return Err(AuthRefusal::Unavailable(still_trying()));
            }
        }
    }

    pub(super) async fn prepare_own(
        self: Arc<Self>,
        head: &mut request::Parts,
        asker: CallerKind,
    ) -> Result<Option<InjectedAttempt>, AuthRefusal> {
        Ok(match self.attempt(head, asker).await? {
            Admitted::Go(attempt) => Some(*attempt),
            Admitted::Wait | Admitted::Follow(_) => None,
        })
    }

    fn rules(&self) -> CircuitRules {
        CircuitRules {
            locks_out: self.scheme.locks_out(),
            probed: self.is_probed.load(Ordering::Relaxed),
        }
    }

    async fn attempt(
        self: Arc<Self>,
        head: &mut request::Parts,
        asker: CallerKind,
    ) -> Result<Admitted, AuthRefusal> {
        loop {
            let credential = match self.scheme.authorization(head).await {
                Ok(credential) => credential,
                Err(why) => {
                    self.on_credential_changed();
                    // Tokens that are renewed have other reasons to be missing than their file.
                    if !self.scheme.can_refresh() {
                        self.is_unread.store(true, Ordering::Relaxed);
                    }
                    self.fail(&why);
                    return Err(AuthRefusal::Unavailable(why));
                }
            };
            self.on_credential_changed();
            let version = self.known().version;
            let generation = credential.generation;
            let admission = self
                .circuit()
                .admit(generation, self.rules(), asker, Instant::now());
            let trial = match admission {
                AdmissionDecision::Send { trial } => trial,
                AdmissionDecision::Wait => return Ok(Admitted::Wait),
                AdmissionDecision::Stale => {
                    tokio::task::yield_now().await;
                    continue;
                }
                AdmissionDecision::Refuse(why) => return Err(AuthRefusal::Unavailable(why)),
            };
            let below_rest = head.uri.path().contains("/rest/");
            head.headers
                .insert(header::AUTHORIZATION, credential.authorization);
            let CircuitRules { locks_out, probed } = self.rules();
            let is_guarded = locks_out && probed && asker == CallerKind::Traffic && !trial;
            // One request in a while logs in anew, so that the others always have a session.
            let mut logs_in = is_guarded && self.cookies.is_login_due();
            let mut cookies =
                self.cookies
                    .attach(head, version, asker == CallerKind::Probe || logs_in);
            let mut turn = Turn::Free;
            if is_guarded {
                turn = self.guard().admit(cookies.by_session, Instant::now());
                if logs_in && matches!(turn, Turn::After(_)) {
                    logs_in = false;
                    cookies = self.cookies.attach(head, version, logs_in);
                    turn = self.guard().admit(cookies.by_session, Instant::now());
                }
            }
            if let Turn::After(patience) = turn {
                return Ok(Admitted::Follow(patience));
            }
            let sent = Sent {
                first: turn == Turn::First,
                by_session: cookies.by_session,
            };
            // A refusal may have come since the circuit was asked. The circuit hears of it before the guard lets the
            // next one go first, so that one sees it here.
            if is_guarded && self.circuit().is_doubted_or_open() {
                self.guard().unanswered(sent);
                continue;
            }
            return Ok(Admitted::Go(Box::new(InjectedAttempt {
                inject: self,
                generation,
                version,
                asker,
                trial,
                sent,
                cookies,
                below_rest,
                renewed: Ok(false),
                probed_since: false,
                settled: false,
            })));
        }
    }

    /// True: the log has told that Jira rejected the credential.
    fn settle(&self, attempt: &InjectedAttempt, outcome: CredentialOutcome) -> bool {
        let decided =
            attempt.asker == CallerKind::Probe && !matches!(outcome, CredentialOutcome::Undecided);
        let refused = matches!(outcome, CredentialOutcome::Rejected { .. });
        let answered = attempt.settled;
        let change = self.circuit().record_outcome(
            attempt.generation,
            self.rules(),
            attempt.asker,
            attempt.trial,
            outcome,
            Instant::now(),
        );
        self.tell_guard(attempt, refused, answered);
        if decided {
            let mut known = self.known();
            if known.version == attempt.version {
                known.decided = true;
            }
        }
        let is_told = matches!(change, CircuitChange::Opened);
        match change {
            CircuitChange::None => {}
            CircuitChange::Doubted => {
                tracing::debug!(
                    forward = self.layer.forward(),
                    "Jira refused the login of one request; the login is probed"
                );
                self.probe_requested.notify_one();
            }
            CircuitChange::Opened => {
                let why = self.circuit().refusal();
                tracing::warn!(
                    forward = self.layer.forward(),
                    cause = why.as_ref().map(|why| &*why.cause),
                    remedy = why.as_ref().map(|why| &*why.remedy),
                    "Jira rejected the credential; requests are held back until it changes (or: agent login-retry)"
                );
            }
        }
        self.settled.notify_waiters();
        is_told
    }

    /// After the circuit has heard of a refusal, which holds everybody.
    fn tell_guard(&self, attempt: &InjectedAttempt, refused: bool, answered: bool) {
        if !self.scheme.locks_out() {
            return;
        }
        let now = Instant::now();
        match attempt.asker {
            CallerKind::Probe => self.guard().probed(refused, now),
            _ if answered => self.guard().answered(attempt.sent, !refused, now),
            _ => self.guard().unanswered(attempt.sent),
        }
    }

    /// Proves the layer by Jira's answer to a request, unless the probe has decided otherwise, or is to decide: an answer
    /// that was on its way meanwhile, or came by a session that Jira still keeps, says nothing of the credential.
    fn prove_by_request(&self, user: &[u8]) {
        // Held until the layer is written: the probe opens the circuit first, and writes the layer then.
        let circuit = self.circuit();
        if !circuit.is_doubted_or_open() {
            self.seen.prove(&self.layer, user);
        }
    }

    fn fail(&self, why: &CredentialUnavailable) {
        if self
            .layer
            .failed(ProofState::Failed, &why.cause, &why.remedy)
        {
            tracing::warn!(
                forward = self.layer.forward(),
                cause = why.cause,
                remedy = why.remedy,
                "there is no credential to send requests with"
            );
        }
    }

    fn known(&self) -> MutexGuard<'_, ProbeFindings> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(&self) -> MutexGuard<'_, LockoutGuard> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circuit(&self) -> MutexGuard<'_, CredentialCircuit> {
        // Its transitions do not panic; were one to, an untried circuit is what remains.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn still_trying() -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!(
            "Jira has not yet said, within {TRIAL_WAIT:?}, whether it takes the agent's login"
        ),
        remedy: "look at the jira layer: Jira answers slowly or not at all".to_owned(),
    }
}

/// How long a request waits for the outcome of the first one.
const TRIAL_WAIT: Duration = Duration::from_secs(30);
const TRYING: &str = "wait a few seconds; if this stays, look at the jira layer";
