//! The ids that identify one request to vendor, agent and audit.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::SystemTime;

/// `X-Request-Id`, in requests and answers.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Carries an id that Jira, or a proxy before it, has set on its answer.
pub(super) const X_JIRA_REQUEST_ID: HeaderName = HeaderName::from_static("x-jira-request-id");

/// The ids of one request.
#[derive(Clone, Debug)]
pub(super) struct RequestIds {
    /// In `X-Request-Id`: the vendor's own id where it is a token (RFC 9110 §5.6.2) of at most 128 bytes and the only
    /// one, else the agent's.
    pub(super) shown: HeaderValue,
    /// The agent's: a UUIDv7 (RFC 9562 §5.7), unique whatever the vendor sends.
    pub(super) own: HeaderValue,
}

impl RequestIds {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let own = new_id();
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        let shown = match (given.next(), given.next()) {
            (Some(id), None) if is_valid_id(id.as_bytes()) => id.clone(),
            _ => own.clone(),
        };
        Self { shown, own }
    }
}

fn is_valid_id(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(|&byte| super::framing::is_token(byte))
}

fn new_id() -> HeaderValue {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    // The thread's own generator: no system call for each request.
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    let text = uuid.hyphenated().encode_lower(&mut text);
    // A UUID is made of letters, digits and hyphens.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn request_id(headers: &HeaderMap) -> HeaderValue {
        RequestIds::of(headers).shown
    }

    fn with(ids: &[&str]) -> HeaderMap {
        ids.iter()
            .map(|id| {
                (
                    X_REQUEST_ID,
                    HeaderValue::from_bytes(id.as_bytes()).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_sane_id_of_the_vendor_is_kept() {
        assert_eq!(request_id(&with(&["order-4711.a_b"])), "order-4711.a_b");
        let longest = "x".repeat(128);
        assert_eq!(request_id(&with(&[&longest])), longest);
    }

    #[test]
    fn two_requests_with_one_id_of_the_vendors_have_two_of_ours() {
        let headers = with(&["order-4711"]);
        let (one, other) = (RequestIds::of(&headers), RequestIds::of(&headers));
        assert_eq!(one.shown, other.shown);
        assert_ne!(one.own, other.own);
        let none = RequestIds::of(&with(&[]));
        assert_eq!(none.shown, none.own);
    }

    #[test]
    fn anything_else_gets_a_new_one() {
        let long = "x".repeat(129);
        for ids in [
            &[][..],
            &[""],
            &["a b"],
            &["a\"b"],
            &["ä"],
            &[long.as_str()],
            &["one", "two"],
        ] {
            let id = request_id(&with(ids));
            let uuid = uuid::Uuid::parse_str(id.to_str().unwrap()).unwrap();
            assert_eq!(uuid.get_version_num(), 7, "{ids:?}");
        }
    }
}
