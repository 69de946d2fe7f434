//! What the injecting modes share. Request: strip, ask the circuit, inject the credential. Response: interpret, inform
//! circuit and status, strip.

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
    lockout_guard::{AdmittedRequest, GuardDecision, LockoutGuard},
    strip,
    upstream_cookies::UpstreamCookies,
};
use crate::{
    expiry::CredentialExpiry,
    profile::ServiceProfile,
    status::{ProofState, StatusLayer},
};
use http::request;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
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
    findings: Mutex<ProbeFindings>,
    /// The login is probed; only the probe's answers decide about the credential.
    is_probed: AtomicBool,
    /// The file of the secret could not be read at the last attempt.
    is_unreadable: AtomicBool,
    /// Wakes the requests that wait for a trial's outcome.
    outcome_changed: Notify,
    /// Wakes the prober.
    probe_requested: Notify,
    last_user: identity::LastSeenUser,
    pub(super) cookies: UpstreamCookies,
    profile: Arc<ServiceProfile>,
}

/// Whether a request may be sent now.
enum RequestAdmission {
    Ready(Box<InjectedAttempt>),
    /// Another one tests the credential; a probe is needed.
    Wait,
    /// Another one tests the credential; a probe is needed after this long.
    WaitAtMost(Duration),
}

/// What the probe has found out about the current secret.
#[derive(Default)]
struct ProbeFindings {
    /// Version of the secret; 0 before the first read.
    version: u64,
    /// Jira has accepted or rejected it.
    decided: bool,
    user: Option<ProvenUser>,
}

/// The display name in the probe's answer, where Jira names no login name.
#[derive(Clone)]
pub(crate) struct UserDisplayName(pub(crate) String);

impl CredentialInjector {
    pub(super) fn new(
        scheme: Box<dyn AuthScheme>,
        layer: Arc<StatusLayer>,
        over_tls: bool,
        profile: Arc<ServiceProfile>,
    ) -> Self {
        Self {
            scheme,
            layer,
            circuit: Mutex::default(),
            guard: Mutex::default(),
            findings: Mutex::default(),
            is_probed: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            outcome_changed: Notify::new(),
            probe_requested: Notify::new(),
            last_user: identity::LastSeenUser::new(""),
            cookies: UpstreamCookies::new(over_tls),
            profile,
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

    pub(super) async fn granted_scopes(&self) -> Option<Vec<String>> {
        self.scheme.granted_scopes().await
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
        self.circuit.lock().refusal()
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
            let changed = self.outcome_changed.notified();
            tokio::pin!(changed);
            // Registered before asking, so that an outcome in between is not missed.
            changed.as_mut().enable();
            match self.clone().attempt(head, CallerKind::Traffic).await? {
                RequestAdmission::Ready(attempt) => return Ok(*attempt),
                RequestAdmission::WaitAtMost(patience) => {
                    let patience = Instant::now() + patience;
                    if timeout_at(patience.min(deadline), changed.as_mut())
                        .await
                        .is_ok()
                    {
                        continue;
                    }
                    self.guard.lock().request_probe(Instant::now());
                }
                RequestAdmission::Wait => {}
            }
            self.probe_requested.notify_one();
            if timeout_at(deadline, changed).await.is_err() {
                return Err(AuthRefusal::Unavailable(still_trying()));
            }
        }
    }

    pub(super) async fn prepare_own(
        self: Arc<Self>,
        head: &mut request::Parts,
        caller: CallerKind,
    ) -> Result<Option<InjectedAttempt>, AuthRefusal> {
        Ok(match self.attempt(head, caller).await? {
            RequestAdmission::Ready(attempt) => Some(*attempt),
            RequestAdmission::Wait | RequestAdmission::WaitAtMost(_) => None,
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
        caller: CallerKind,
    ) -> Result<RequestAdmission, AuthRefusal> {
        loop {
            let credential = match self.scheme.authorization(head).await {
                Ok(credential) => credential,
                Err(why) => {
                    self.on_credential_changed();
                    // Tokens that are refreshed may be missing for other reasons than their file.
                    if !self.scheme.can_refresh() {
                        self.is_unreadable.store(true, Ordering::Relaxed);
                    }
                    self.fail(&why);
                    return Err(AuthRefusal::Unavailable(why));
                }
            };
            self.on_credential_changed();
            let version = self.findings.lock().version;
            let generation = credential.generation;
            let admission =
                self.circuit
                    .lock()
                    .admit(generation, self.rules(), caller, Instant::now());
            let trial = match admission {
                AdmissionDecision::Send { trial } => trial,
                AdmissionDecision::Wait => return Ok(RequestAdmission::Wait),
                AdmissionDecision::Stale => {
                    tokio::task::yield_now().await;
                    continue;
                }
                AdmissionDecision::Refuse(why) => return Err(AuthRefusal::Unavailable(why)),
            };
            let below_rest = self.profile.is_api(head.uri.path());
            for (name, value) in credential.fields {
                head.headers.insert(name, value);
            }
            let CircuitRules { locks_out, probed } = self.rules();
            let is_guarded = locks_out && probed && caller == CallerKind::Traffic && !trial;
            // From time to time one request logs in again, so that the others always have a session.
            let mut logs_in = is_guarded && self.cookies.is_login_due();
            let mut cookies =
                self.cookies
                    .attach(head, version, caller == CallerKind::Probe || logs_in);
            let mut decision = GuardDecision::Send;
            if is_guarded {
                decision = self.guard.lock().admit(cookies.by_session, Instant::now());
                if logs_in && matches!(decision, GuardDecision::WaitAtMost(_)) {
                    logs_in = false;
                    cookies = self.cookies.attach(head, version, logs_in);
                    decision = self.guard.lock().admit(cookies.by_session, Instant::now());
                }
            }
            if let GuardDecision::WaitAtMost(patience) = decision {
                return Ok(RequestAdmission::WaitAtMost(patience));
            }
            let request = AdmittedRequest {
                first: decision == GuardDecision::SendFirst,
                by_session: cookies.by_session,
            };
            // A rejection may have arrived since the circuit was asked. It is recorded there before the guard lets the next
            // request go first, so that request sees it here.
            if is_guarded && self.circuit.lock().is_doubted_or_open() {
                self.guard.lock().on_no_answer(request);
                continue;
            }
            return Ok(RequestAdmission::Ready(Box::new(InjectedAttempt {
                inject: self,
                generation,
                version,
                caller,
                trial,
                request,
                cookies,
                below_rest,
                refreshed: Ok(false),
                probed_since: false,
                recorded: false,
            })));
        }
    }

    /// True: the log has reported that Jira rejected the credential.
    fn record_outcome(&self, attempt: &InjectedAttempt, outcome: CredentialOutcome) -> bool {
        let decided =
            attempt.caller == CallerKind::Probe && !matches!(outcome, CredentialOutcome::Undecided);
        let refused = matches!(outcome, CredentialOutcome::Rejected { .. });
        let answered = attempt.recorded;
        let change = self.circuit.lock().record_outcome(
            attempt.generation,
            self.rules(),
            attempt.caller,
            attempt.trial,
            outcome,
            Instant::now(),
        );
        self.update_guard(attempt, refused, answered);
        if decided {
            let mut findings = self.findings.lock();
            if findings.version == attempt.version {
                findings.decided = true;
            }
        }
        let is_logged = matches!(change, CircuitChange::Opened);
        match change {
            CircuitChange::None => {}
            CircuitChange::Doubted => {
                tracing::debug!(
                    forward = self.layer.forward(),
                    "{}",
                    self.layer
                        .reword("Jira rejected the credential of one request; probing it")
                );
                self.probe_requested.notify_one();
            }
            CircuitChange::Opened => {
                let why = self.circuit.lock().refusal();
                tracing::warn!(
                    forward = self.layer.forward(),
                    cause = why.as_ref().map(|why| &*why.cause),
                    remedy = why.as_ref().map(|why| &*why.remedy),
                    "{}",
                    self.layer.reword(
                        "Jira rejected the credential; requests are held back until it changes (or: agent login-retry)"
                    )
                );
            }
        }
        self.outcome_changed.notify_waiters();
        is_logged
    }

    /// Called after the circuit has recorded a rejection, which holds back all requests.
    fn update_guard(&self, attempt: &InjectedAttempt, refused: bool, answered: bool) {
        if !self.scheme.locks_out() {
            return;
        }
        let now = Instant::now();
        match attempt.caller {
            CallerKind::Probe => self.guard.lock().on_probe_result(refused, now),
            _ if answered => self.guard.lock().on_answer(attempt.request, !refused, now),
            CallerKind::Traffic | CallerKind::Auxiliary => {
                self.guard.lock().on_no_answer(attempt.request)
            }
        }
    }

    /// Proves the layer by Jira's answer to a request, unless the probe has decided otherwise or is about to decide: an
    /// answer to an earlier request, or by a session that still exists, proves nothing about the credential.
    fn prove_by_request(&self, user: &[u8]) {
        // Held until the layer is written: the probe opens the circuit first, and writes the layer then.
        let circuit = self.circuit.lock();
        if !circuit.is_doubted_or_open() {
            self.last_user.prove(&self.layer, user);
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
}

fn still_trying() -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!("Jira did not confirm the agent's credential within {TRIAL_WAIT:?}"),
        remedy: "check the jira layer: Jira responds slowly or not at all".to_owned(),
    }
}

/// How long a request waits for the outcome of the first one.
const TRIAL_WAIT: Duration = Duration::from_secs(30);
const TRYING: &str = "wait a few seconds; if this persists, check the jira layer";
