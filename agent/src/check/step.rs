//! One step of a check, and the list that grows as they are taken.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

/// One step that was taken, or why it was not.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// Name of the forward; absent for what all have in common.
    pub forward: Option<String>,
    /// A word from a fixed set: `configuration`, `secrets`, `dns`, `tcp`, `tls`, `http`, `server-info`, `clock`,
    /// `login`, `permissions`, `expiry`.
    pub step: String,
    /// How it went.
    pub verdict: Verdict,
    /// Seconds it took.
    pub seconds: f64,
    /// What was found, one clause.
    pub detail: Option<String>,
    /// What is wrong, one sentence; for a skipped step why it was skipped.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
}

/// How a step went.
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
pub enum Verdict {
    /// Not taken, because one before it failed or because there is nothing to look at.
    Skipped,
    /// As it should be.
    Ok,
    /// Works, and something will go wrong or could be better.
    Warn,
    /// Does not work.
    Fail,
}

impl fmt::Display for Verdict {
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
pub(super) struct Found {
    verdict: Verdict,
    detail: Option<String>,
    cause: Option<String>,
    remedy: Option<String>,
}

impl Found {
    pub(super) fn ok(detail: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, None, None).seen(detail)
    }

    pub(super) fn warn(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, Some(cause.into()), Some(remedy.into()))
    }

    pub(super) fn fail(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, Some(cause.into()), Some(remedy.into()))
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, Some(why.into()), None)
    }

    pub(super) fn seen(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn new(verdict: Verdict, cause: Option<String>, remedy: Option<String>) -> Self {
        Self {
            verdict,
            detail: None,
            cause,
            remedy,
        }
    }
}

/// The steps of one forward, in the order in which they were taken.
pub(super) struct Steps {
    forward: Option<String>,
    taken: Vec<Step>,
}

impl Steps {
    pub(super) fn new(forward: Option<&str>) -> Self {
        Self {
            forward: forward.map(str::to_owned),
            taken: Vec::new(),
        }
    }

    /// Takes one step within [`LIMIT`]; gives what the next ones need, where it came that far.
    pub(super) async fn take<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = (Found, Option<T>)>,
    ) -> Option<T> {
        let begun = Instant::now();
        let (found, value) = match tokio::time::timeout(LIMIT, work).await {
            Ok(done) => done,
            Err(_) => {
                let cause = format!("nothing came of it within {LIMIT:?}");
                let remedy = "try again; if it stays, look at the step before this one";
                (Found::fail(cause, remedy), None)
            }
        };
        self.note(step, found, begun.elapsed());
        value
    }

    /// A step that takes no time.
    pub(super) fn add(&mut self, step: &'static str, found: Found) {
        self.note(step, found, Duration::ZERO);
    }

    pub(super) fn into_vec(self) -> Vec<Step> {
        self.taken
    }

    fn note(&mut self, step: &str, found: Found, took: Duration) {
        let Found {
            verdict,
            detail,
            cause,
            remedy,
        } = found;
        self.taken.push(Step {
            forward: self.forward.clone(),
            step: step.to_owned(),
            verdict,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            detail,
            cause,
            remedy,
        });
    }
}

/// For one step: longer than any of the deadlines within it.
const LIMIT: Duration = Duration::from_secs(40);
