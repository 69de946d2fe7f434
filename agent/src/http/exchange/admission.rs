//! Whether a request may pass, decided from its head alone.

use super::{RejectedRequest, target};
use crate::{
    http::{
        forward::{HttpForward, RequestPermit},
        framing::FramingFault,
        pending_record::PendingRecord,
        precheck,
        problem::{HttpProblem, ProblemKind},
    },
    policy::PolicyDecision,
    vendor_text::VendorText,
};
use http::request;

/// Asks, in this order: was the head readable, can it be recorded, is it one that policy can judge, is the forward
/// paused, is there room for one more, and does the policy allow it.
pub(super) fn admit(
    forward: &HttpForward,
    record: &mut PendingRecord,
    head: &request::Parts,
    fault: Option<FramingFault>,
) -> Result<RequestPermit, RejectedRequest> {
    if let Some(fault) = fault {
        return Err(HttpProblem::not_sent(fault.kind, fault.detail).into());
    }
    // From here on its record has a place, whatever happens to the request.
    match forward.audit().reserve() {
        Ok(permit) => record.set_permit(permit),
        Err(_) => return Err(audit_unavailable(forward)),
    }
    precheck::check(head)?;
    refuse_while_paused(forward)?;
    let permit = forward.try_enter().ok_or_else(|| overloaded(forward))?;
    match forward.policy().decide(&head.method, target(head)) {
        PolicyDecision::Allow { rule } => {
            record.set_allowed(rule);
            Ok(permit)
        }
        PolicyDecision::Refuse(refusal) => {
            record.set_rule(refusal.rule);
            let kind = match refusal.code {
                "ambiguous-target" => ProblemKind::AmbiguousTarget,
                _ => ProblemKind::PolicyRefused,
            };
            let mut problem = HttpProblem::not_sent(kind, refusal.detail);
            problem.reason = Some(refusal.code);
            problem.remedy = Some(refusal.remedy);
            Err(problem.into())
        }
    }
}

/// The reason is the customer's own business: it stays in status, log and audit.
pub(super) fn refuse_while_paused(forward: &HttpForward) -> Result<(), RejectedRequest> {
    if !forward.paused() {
        return Ok(());
    }
    let detail = match forward.is_outward() {
        false => "the customer has paused this forward; nothing was sent to Jira",
        true => "the administrator has paused this outlet; nothing was sent to the vendor",
    };
    Err(HttpProblem::not_sent(ProblemKind::Paused, detail).into())
}

/// The reason is the customer's own business: it stays in status and log.
fn audit_unavailable(forward: &HttpForward) -> RejectedRequest {
    let detail = match forward.is_outward() {
        false => {
            "the customer's agent cannot write its audit now, without which it sends nothing; nothing was sent to Jira"
        }
        true => {
            "the agent cannot write its audit now, without which it sends nothing; nothing was sent to the vendor"
        }
    };
    HttpProblem::not_sent(ProblemKind::AuditUnavailable, detail).into()
}

fn overloaded(forward: &HttpForward) -> RejectedRequest {
    let detail = VendorText::of(&[
        &forward.limits().max_concurrent,
        &" requests are being answered on this forward already",
    ]);
    HttpProblem::not_sent(ProblemKind::Overloaded, detail).into()
}
