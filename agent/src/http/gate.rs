//! What a forward asks of a sender before its request is recorded: outlets know who may call and what may leave.

use super::{framing::FramingFault, problem::ProblemKind};
use crate::{audit::RedactedTarget, upstream::RawTarget, vendor_text::VendorText};
use http::{Uri, request, uri::PathAndQuery};

/// Decides by address, head and announced length whether a request may come in at all.
pub trait RequestGate: Send + Sync + 'static {
    /// Takes a secret off the head, if the sender must show one there. `peer`: `address:port` of the sender.
    fn admit(&self, head: &mut request::Parts, peer: &str) -> Result<(), AdmissionRefusal>;

    /// Whether the target of a request that was not admitted may hold the secret, right or mistyped: it is not recorded.
    fn hides_targets(&self) -> bool;

    /// Largest request body in bytes.
    fn max_body(&self) -> u64;
}

/// Why a request may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmissionRefusal {
    /// The sender's address is not one of `sources`.
    Source,
    /// The path does not begin with the secret. What it begins with may be an old one.
    Secret,
    /// The media type may not leave.
    ContentType,
    /// The body is longer than may leave.
    BodyTooLarge(u64),
}

impl AdmissionRefusal {
    /// The refusal, as the path of a request takes it. A refusal after the secret was taken off shows the target.
    pub(super) fn fault(&self, head: &request::Parts, hides_targets: bool) -> FramingFault {
        let (kind, detail) = match self {
            Self::Source => (
                ProblemKind::SourceRefused,
                "the address of this client is not in sources of the outlet".into(),
            ),
            Self::Secret => (
                ProblemKind::SourceRefused,
                "the path does not begin with the secret of the outlet".into(),
            ),
            Self::ContentType => (
                ProblemKind::ContentTypeRefused,
                "the Content-Type is not in content_types of the outlet".into(),
            ),
            Self::BodyTooLarge(most) => (ProblemKind::BodyTooLarge, too_large(*most)),
        };
        let is_taken_off = matches!(self, Self::ContentType | Self::BodyTooLarge(_));
        let target = match hides_targets && !is_taken_off {
            true => RedactedTarget::unknown(),
            false => RedactedTarget::redact(super::exchange::target(head)),
        };
        FramingFault {
            kind,
            detail,
            method: Some(head.method.clone()),
            target,
        }
    }
}

/// The detail of a body that is longer than may leave.
pub(super) fn too_large(most: u64) -> VendorText {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    VendorText::of(&[
        &"the body is longer than max_body of the outlet, ",
        &most,
        &" bytes",
    ])
}

/// Removes the first segment of the path if `is_secret` holds for it. False where it does not, or where no path is left.
pub fn strip_first_segment(head: &mut request::Parts, is_secret: impl Fn(&str) -> bool) -> bool {
    let target = super::exchange::target(head);
    let path = target.strip_prefix('/').unwrap_or_default();
    let Some((segment, _)) = path.split_once('/') else {
        return false;
    };
    if !is_secret(segment) {
        return false;
    }
    let rest = path[segment.len()..].to_owned();
    if head.extensions.get::<RawTarget>().is_some() {
        head.extensions.insert(RawTarget(rest.into()));
        return true;
    }
    let Ok(rest) = rest.parse::<PathAndQuery>() else {
        return false;
    };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(rest);
    match Uri::from_parts(parts) {
        Ok(uri) => {
            head.uri = uri;
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Request;

    fn stripped(target: &str) -> (bool, String) {
        let (mut head, ()) = Request::get(target).body(()).unwrap().into_parts();
        let found = strip_first_segment(&mut head, |segment| segment == "s3cret");
        (found, super::super::exchange::target(&head).to_owned())
    }

    #[test]
    fn the_secret_is_taken_off_and_the_rest_keeps_its_bytes() {
        for (target, rest) in [
            ("/s3cret/webhooks/jira?a=%20b", "/webhooks/jira?a=%20b"),
            ("/s3cret/", "/"),
            ("/s3cret//x", "//x"),
            ("http://127.0.0.1:8090/s3cret/x", "/x"),
        ] {
            assert_eq!(stripped(target), (true, rest.to_owned()), "{target}");
        }
        for target in ["/s3cret", "/", "/other/s3cret/x", "/S3cret/x", "/s3cret?/x"] {
            assert_eq!(stripped(target), (false, target.to_owned()), "{target}");
        }
    }
}
