//! What Jira's answer says about our credential, and what of the answer the vendor gets.

use super::delivery::JiraAnswer;
use crate::{
    auth::{AuthAttempt, AuthVerdict},
    http::{hop_by_hop, pending_record::PendingRecord},
    upstream::UpstreamBody,
};
use http::{HeaderName, Response, StatusCode, header};

/// Jira did not accept the credential, or took us for another user.
pub(super) struct CredentialRefusal {
    pub(super) cause: String,
    pub(super) remedy: String,
}

/// Records the user that Jira identified, reports the answer to the attempt, and removes what belongs to the connection.
pub(super) fn accept(
    answer: JiraAnswer,
    attempt: AuthAttempt,
    record: &mut PendingRecord,
) -> Result<Response<UpstreamBody>, CredentialRefusal> {
    let JiraAnswer {
        mut head,
        start,
        body,
    } = answer;
    let user = head.headers.get(X_AUSERNAME);
    record.set_answered(user.or(head.headers.get(X_AACCOUNTID)).cloned());
    if let AuthVerdict::LoginFailed { cause, remedy } =
        attempt.on_response_with_body(&mut head, &start)
    {
        return Err(CredentialRefusal { cause, remedy });
    }
    hop_by_hop::strip_response(&mut head);
    if matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        // There is no body (RFC 9110 §6.4.1), so a length would be one of something else.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Response::from_parts(head, body))
}

/// The user as Jira names it.
const X_AUSERNAME: HeaderName = HeaderName::from_static("x-ausername");
/// The account as Jira Cloud names it.
const X_AACCOUNTID: HeaderName = HeaderName::from_static("x-aaccountid");
