//! The credential of a request: adding it, and what the vendor reads where that, or Jira's view of it, is the problem.

use super::RejectedRequest;
use crate::{
    auth::{AuthAttempt, AuthRefusal, RemovedHeaders},
    http::{
        forward::HttpForward,
        problem::{HttpProblem, ProblemKind},
    },
    upstream::Delivery,
};
use http::request;

/// Takes the vendor's identity off and adds the agent's; in pass-through mode changes nothing.
pub(super) async fn add(
    forward: &HttpForward,
    head: &mut request::Parts,
) -> Result<AuthAttempt, RejectedRequest> {
    let attempt = forward.login().prepare(head).await;
    // Also where there is no credential to send the request with.
    if let Some(removed) = head.extensions.remove::<RemovedHeaders>() {
        forward.count_removed_headers(&removed);
    }
    attempt.map_err(refused)
}

/// The request names an identity, or there is no credential to send it with.
pub(super) fn refused(refusal: AuthRefusal) -> RejectedRequest {
    let detail = refusal.vendor_text();
    let kind = match refusal {
        AuthRefusal::ForeignIdentity(_) => ProblemKind::ForeignIdentity,
        AuthRefusal::FormBody(_) => ProblemKind::FormBody,
        AuthRefusal::AmbiguousQuery(_) => ProblemKind::AmbiguousTarget,
        AuthRefusal::Unavailable(unavailable) => {
            let problem = HttpProblem {
                cause: Some(cause_with_remedy(&unavailable.cause, &unavailable.remedy)),
                ..HttpProblem::not_sent(ProblemKind::LoginUnavailable, detail)
            };
            return RejectedRequest::failed(problem, None);
        }
    };
    HttpProblem::not_sent(kind, detail).into()
}

/// `refreshed`: there is another credential since, but this request could not be sent a second time.
pub(super) fn login_failed(refreshed: bool, cause: &str, remedy: &str) -> HttpProblem {
    let (detail, vendors) = match refreshed {
        false => (
            "Jira rejected the agent's credential for this request; its answer is withheld",
            None,
        ),
        true => (
            "Jira rejected the agent's credential for this request; the credential has been refreshed since",
            Some("Check whether it was carried out, then send it again.".into()),
        ),
    };
    HttpProblem {
        remedy: vendors,
        delivery: Delivery::Answered,
        cause: Some(cause_with_remedy(cause, remedy)),
        ..HttpProblem::not_sent(ProblemKind::LoginFailed, detail)
    }
}

fn cause_with_remedy(cause: &str, remedy: &str) -> String {
    format!("{cause}; {remedy}")
}
