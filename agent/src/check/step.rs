//! One step of a check, and the list that grows as they are taken.

use crate::{tunnel::GatewayAddress, upstream::PresentedCertificate};
use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

/// One step: its result, or why it was skipped.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Step")]
pub struct CheckStep {
    /// The gateway, `host:port` or `tls://host:port`; absent for steps of the host and of Jira's side.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Name of the forward or outlet; absent for steps that all share.
    pub forward: Option<String>,
    /// A word from a fixed set. Of the host: `configuration`, `token`, `files`, `clock`. Of a gateway: `dns`, `tcp`, `proxy`, `tls`,
    /// `banner`, `key-exchange`, `host-key`, `login`, `session`, and by forward `forward` and `round-trip`. Of a forward:
    /// `secrets`, `dns`, `tcp`, `tls`, `http`, `server-info`, `clock`, `login`, `scopes`, `permissions`, `expiry`, `paths`. Of an
    /// outlet: `listener`, `permission`, `answer`, and in mode `store` `queue`.
    pub step: String,
    /// Result of the step.
    pub verdict: StepVerdict,
    /// Duration of the step in seconds.
    pub seconds: f64,
    /// What was found, one clause; absent if nothing was.
    pub detail: Option<String>,
    /// What is wrong, one sentence; for a skipped step why it was skipped.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// If `tls` failed because of the certificates: those that were presented, the server's own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<PresentedCertificate>,
}

/// Result of a step. The verdict of a report is the worst of its steps.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Verdict")]
pub enum StepVerdict {
    /// Not taken, because an earlier step failed or there is nothing to test.
    Skipped,
    /// Works as it should.
    Ok,
    /// Works, but something will fail later or could be better.
    Warn,
    /// The step failed: this part does not work.
    Fail,
}

impl fmt::Display for StepVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// What a step found.
pub(super) struct StepResult {
    verdict: StepVerdict,
    detail: Option<String>,
    cause: Option<String>,
    remedy: Option<String>,
    chain: Vec<PresentedCertificate>,
}

impl StepResult {
    pub(super) fn ok(detail: impl Into<String>) -> Self {
        Self::new(StepVerdict::Ok, None, None).with_detail(detail)
    }

    pub(super) fn warn(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StepVerdict::Warn, Some(cause.into()), Some(remedy.into()))
    }

    pub(super) fn fail(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StepVerdict::Fail, Some(cause.into()), Some(remedy.into()))
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self::new(StepVerdict::Skipped, Some(why.into()), None)
    }

    pub(super) fn presented(mut self, chain: &[PresentedCertificate]) -> Self {
        self.chain = chain.to_vec();
        self
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn new(verdict: StepVerdict, cause: Option<String>, remedy: Option<String>) -> Self {
        Self {
            verdict,
            detail: None,
            cause,
            remedy,
            chain: Vec::new(),
        }
    }
}

/// The steps of one forward or gateway, in the order in which they were taken.
pub(super) struct StepRecorder {
    gateway: Option<String>,
    forward: Option<String>,
    taken: Vec<CheckStep>,
}

impl StepRecorder {
    pub(super) fn new(forward: Option<&str>) -> Self {
        Self {
            gateway: None,
            forward: forward.map(str::to_owned),
            taken: Vec::new(),
        }
    }

    /// The steps to one gateway.
    pub(super) fn for_gateway(gateway: &GatewayAddress) -> Self {
        Self {
            gateway: Some(gateway.to_string()),
            ..Self::new(None)
        }
    }

    /// The steps that follow belong to this forward, or to none.
    pub(super) fn set_forward(&mut self, forward: Option<&str>) {
        self.forward = forward.map(str::to_owned);
    }

    /// Takes one step within [`LIMIT`]. Returns what the next steps need, if it succeeded.
    pub(super) async fn run<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = (StepResult, Option<T>)>,
    ) -> Option<T> {
        let begun = Instant::now();
        let (found, value) = match tokio::time::timeout(LIMIT, work).await {
            Ok(done) => done,
            Err(_) => {
                let cause = format!("timed out after {LIMIT:?}");
                let remedy = "try again; if it persists, look at the previous step";
                (StepResult::fail(cause, remedy), None)
            }
        };
        self.note(step, found, begun.elapsed());
        value
    }

    /// A step that takes no time.
    pub(super) fn add(&mut self, step: &'static str, found: StepResult) {
        self.note(step, found, Duration::ZERO);
    }

    /// A step that has been taken already.
    pub(super) fn add_timed(&mut self, step: &'static str, found: StepResult, took: Duration) {
        self.note(step, found, took);
    }

    pub(super) fn into_vec(self) -> Vec<CheckStep> {
        self.taken
    }

    fn note(&mut self, step: &str, found: StepResult, took: Duration) {
        let StepResult {
            verdict,
            detail,
            cause,
            remedy,
            chain,
        } = found;
        self.taken.push(CheckStep {
            gateway: self.gateway.clone(),
            forward: self.forward.clone(),
            step: step.to_owned(),
            verdict,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            detail,
            cause,
            remedy,
            chain,
        });
    }
}

/// For one step: longer than any of the deadlines within it.
const LIMIT: Duration = Duration::from_secs(40);
