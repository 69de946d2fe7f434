//! Form-encoded bodies in the injecting modes. Jira's login filters read parameters from them, so that even the last byte
//! can choose an identity: such a body is read ahead, up to [`MAX_FORM`], checked, and then sent byte for byte. Every other
//! body streams.
//!
//! Multipart bodies are not checked: no login filter of Jira reads their fields (Tomcat gives them only to servlets that
//! ask for them, after the filters), and attachments must stream.

use super::{AuthRefusal, strip};
use crate::profile::ServiceProfile;
use bytes::Bytes;
use http::{HeaderValue, Version, header, request};

/// The whole body, read ahead. It is in the extensions of its head, where it is checked and, by schemes that sign forms,
/// signed.
#[derive(Clone)]
pub struct FormBody(pub Bytes);

/// Bytes of a form that are read ahead. Jira's REST API takes JSON; the forms that remain are a few hundred
/// bytes, and this bounds the memory that a forward can be made to use.
pub const MAX_FORM: usize = 64 << 10;

/// Whether the body is a form that must be read ahead; refuses one that cannot be checked.
pub(super) fn must_be_read(head: &request::Parts) -> Result<bool, AuthRefusal> {
    if !has_form_body(head) {
        return Ok(false);
    }
    let refuse = |why| Err(AuthRefusal::FormBody(why));
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none());
    if !only.is_some_and(is_plain) {
        return refuse(
            "its Content-Type is not the plain application/x-www-form-urlencoded in UTF-8",
        );
    }
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return refuse("it is compressed");
    }
    if declared(head).is_some_and(|length| length > MAX_FORM as u64) {
        return refuse(TOO_LONG);
    }
    Ok(true)
}

/// Checks a form that was read ahead; refuses one that was not.
pub(super) fn check(head: &request::Parts, profile: &ServiceProfile) -> Result<(), AuthRefusal> {
    if !must_be_read(head)? {
        return Ok(());
    }
    match head.extensions.get::<FormBody>() {
        None => Err(AuthRefusal::FormBody("it was not read ahead")),
        Some(FormBody(body)) if body.len() > MAX_FORM => Err(AuthRefusal::FormBody(TOO_LONG)),
        Some(FormBody(body)) => {
            if let Some(parameter) = strip::identity_parameter(body, &profile.identity) {
                return Err(AuthRefusal::ForeignIdentity(parameter));
            }
            // The policy refuses it in queries for the same reason.
            match strip::parameter(body, |name| name == b"_method") {
                Some(_) => Err(AuthRefusal::FormBody(
                    "it names `_method`, which some servers take for the method",
                )),
                None => Ok(()),
            }
        }
    }
}

/// The refusal of a form that turned out longer than it may be.
pub(super) fn too_long() -> AuthRefusal {
    AuthRefusal::FormBody(TOO_LONG)
}

/// Whether Jira could read parameters out of the body, however the type is written.
fn has_form_body(head: &request::Parts) -> bool {
    let is_form = head.headers.get_all(header::CONTENT_TYPE).iter().any(|t| {
        let text = t.as_bytes().to_ascii_lowercase();
        text.windows(FORM.len()).any(|window| window == FORM)
    });
    let is_empty = match declared(head) {
        Some(length) => length == 0,
        // HTTP/2 needs no length for a body.
        None => {
            !head.headers.contains_key(header::CONTENT_LENGTH)
                && !head.headers.contains_key(header::TRANSFER_ENCODING)
                && head.version < Version::HTTP_2
        }
    };
    is_form && !is_empty
}

/// In another character set the same bytes spell other names.
fn is_plain(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let is_form = parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    is_form
        && parts.filter(|part| !part.is_empty()).all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("charset")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

fn declared(head: &request::Parts) -> Option<u64> {
    let length = head.headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

const FORM: &[u8] = b"x-www-form-urlencoded";
const TOO_LONG: &str = "it is longer than 64 KiB";
