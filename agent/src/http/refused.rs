//! A short answer that refuses the login is read before it is judged: its words tell a credential that
//! is dead from one that is only not meant for this request.

use super::forward::Forward;
use crate::upstream::Body;
use bytes::{Bytes, BytesMut};
use http::{StatusCode, response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};

/// What the answer says, and the answer's body as it was. Empty where it refuses nothing, is not
/// short, or does not come in time.
pub(super) async fn words(forward: &Forward, head: &response::Parts, body: Body) -> (Bytes, Body) {
    let length = body.size_hint().exact();
    let short = length.is_some_and(|length| (1..=MAX_WORDS).contains(&length));
    if head.status != StatusCode::UNAUTHORIZED || !forward.login().injects() || !short {
        return (Bytes::new(), body);
    }
    let limit = forward.limits().stall_timeout;
    match tokio::time::timeout(limit, collected(body)).await {
        Ok(words) => (words.clone(), whole(words)),
        Err(_) => (Bytes::new(), whole(Bytes::new())),
    }
}

/// What there is of it.
async fn collected(mut body: Body) -> Bytes {
    let mut words = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            words.extend_from_slice(&data);
        }
    }
    words.freeze()
}

fn whole(words: Bytes) -> Body {
    Full::new(words)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Bytes. Cloud's API gateway says it in a hundred; Jira's login page is longer.
const MAX_WORDS: u64 = 4 << 10;
