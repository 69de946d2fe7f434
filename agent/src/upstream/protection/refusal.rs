//! What the sender of a request gets that the breaker or the gate holds back.

use super::{
    breaker::{BreakerReason, TRIAL_PAUSE},
    rate_gate::GateRefusal,
};
use crate::upstream::{Delivery, FailedStep, SendError};

impl std::fmt::Display for BreakerReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(step, detail) => write!(f, "{step}: {detail}"),
            Self::Silent(silence) => write!(
                f,
                "Jira takes requests and has answered none for {} s",
                silence.as_secs()
            ),
        }
    }
}

pub(super) fn breaker_refusal(why: BreakerReason) -> SendError {
    let (kind, detail) = match why {
        // In the words of the failure, so that status and log do not alternate.
        BreakerReason::Connect(step, detail) => (step, detail),
        BreakerReason::Silent(_) => (FailedStep::HeldBack, HELD_BACK.to_owned()),
    };
    SendError {
        kind,
        detail,
        delivery: Delivery::NotSent,
        retry_after: Some(TRIAL_PAUSE),
    }
}

pub(super) fn gate_refusal(refusal: GateRefusal) -> SendError {
    let seconds = refusal.left.as_millis().div_ceil(1000);
    SendError {
        kind: refusal.step,
        detail: format!("Jira asked to be called again in {seconds} s"),
        delivery: Delivery::NotSent,
        retry_after: Some(refusal.left),
    }
}

const HELD_BACK: &str =
    "Jira takes requests and answers none; nothing is sent until a trial is answered";
