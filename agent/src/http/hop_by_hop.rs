//! Headers that concern one connection only (RFC 9110 §7.6.1), removed in both directions.
//!
//! All else is unchanged: values, and the order of values of one name. No `Via` is added: the request is never rewritten,
//! and the answer's `X-Request-Id` already shows the vendor that it came through here.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request, response};

/// Removes the hop-by-hop headers from the vendor's request. The framing of the body is the same on both connections, so
/// Content-Length and `Transfer-Encoding: chunked` stay.
pub(super) fn strip_request(head: &mut request::Parts) {
    let headers = &mut head.headers;
    let accepts_trailers = remove_te(headers);
    remove_nominated(headers);
    remove_fixed(headers);
    headers.remove(header::PROXY_AUTHORIZATION);
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It belongs to this connection, and not every server reads `CHUNKED` (RFC 9112 §7).
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if head.version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// Removes the hop-by-hop headers from Jira's answer.
pub(super) fn strip_response(head: &mut response::Parts) {
    let headers = &mut head.headers;
    remove_nominated(headers);
    remove_fixed(headers);
    headers.remove(header::PROXY_AUTHENTICATE);
    headers.remove(header::TE);
    // Beside a Transfer-Encoding a Content-Length means nothing (RFC 9112 §6.3) and may be wrong.
    if headers.remove(header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
    unify_content_length(headers);
}

/// `2, 2`, and two lines of `2`, mean one length (RFC 9110 §8.6), which many clients do not know.
fn unify_content_length(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(first), second) = (values.next(), values.next()) else {
        return;
    };
    if second.is_none() && first.as_bytes().iter().all(u8::is_ascii_digit) {
        return;
    }
    let text = first.to_str().unwrap_or_default();
    let text = text.split(',').next().unwrap_or_default().trim();
    match HeaderValue::from_str(text) {
        Ok(length) => headers.insert(header::CONTENT_LENGTH, length),
        Err(_) => headers.remove(header::CONTENT_LENGTH),
    };
}

/// Removes TE. True if the vendor accepts trailers.
fn remove_te(headers: &mut HeaderMap) -> bool {
    if !headers.contains_key(header::TE) {
        return false;
    }
    let trailers = tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    headers.remove(header::TE);
    trailers
}

fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter(|token| {
            !token.eq_ignore_ascii_case("close") && !token.eq_ignore_ascii_case("keep-alive")
        })
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // Without these it would be another request.
        .filter(|name| !FRAMING.contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

fn remove_fixed(headers: &mut HeaderMap) {
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.split(';').next().unwrap_or_default().trim())
}

/// HTTP/2 may send one cookie per line; HTTP/1.1 must not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(_)) = (values.next(), values.next()) {
        let mut joined = first.as_bytes().to_vec();
        for value in headers.get_all(header::COOKIE).iter().skip(1) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(value.as_bytes());
        }
        // Joining header values with these bytes gives a header value.
        if let Ok(mut value) = HeaderValue::from_bytes(&joined) {
            value.set_sensitive(true);
            headers.insert(header::COOKIE, value);
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FRAMING: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use http::{Request, Response};

    fn request(lines: &[(&str, &str)]) -> Vec<String> {
        let mut builder = Request::builder();
        for (name, value) in lines {
            builder = builder.header(*name, *value);
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        strip_request(&mut head);
        lines_of(&head.headers)
    }

    fn response(lines: &[(&str, &str)]) -> Vec<String> {
        let mut builder = Response::builder();
        for (name, value) in lines {
            builder = builder.header(*name, *value);
        }
        let (mut head, ()) = builder.body(()).unwrap().into_parts();
        strip_response(&mut head);
        lines_of(&head.headers)
    }

    fn lines_of(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        // By name only: a stable sort keeps the order of one name's values.
        lines.sort_by_key(|line| line.split(':').next().unwrap().to_owned());
        lines
    }

    #[test]
    fn what_speaks_of_the_connection_goes_and_the_rest_stays() {
        let kept = request(&[
            ("connection", "close, X-One"),
            ("connection", "x-two ,upgrade"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("upgrade", "h2c"),
            ("te", "gzip;q=0.5"),
            ("accept", "a, b"),
            ("accept", "c"),
            ("expect", "100-continue"),
            ("transfer-encoding", "chunked"),
            ("x-three", "  3"),
        ]);
        assert_eq!(
            kept,
            [
                "accept: a, b",
                "accept: c",
                "expect: 100-continue",
                "transfer-encoding: chunked",
                "x-three:   3"
            ]
        );
    }

    #[test]
    fn chunked_goes_on_in_its_usual_spelling() {
        assert_eq!(
            request(&[("transfer-encoding", "CHUNKED")]),
            ["transfer-encoding: chunked"]
        );
    }

    #[test]
    fn trailers_are_still_asked_for() {
        assert_eq!(
            request(&[("te", "gzip, Trailers"), ("connection", "TE")]),
            ["connection: te", "te: trailers"]
        );
    }

    #[test]
    fn framing_cannot_be_nominated_away() {
        assert_eq!(
            request(&[
                ("connection", "content-length, host"),
                ("content-length", "5"),
                ("host", "x")
            ]),
            ["content-length: 5", "host: x"]
        );
    }

    #[test]
    fn an_answer_loses_its_framing_and_keeps_its_cookies_in_order() {
        let kept = response(&[
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=20"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("proxy-authenticate", "Basic"),
            ("www-authenticate", "OAuth realm=\"x\""),
            ("set-cookie", "b=1"),
            ("set-cookie", "a=2"),
        ]);
        assert_eq!(
            kept,
            [
                "set-cookie: b=1",
                "set-cookie: a=2",
                "www-authenticate: OAuth realm=\"x\""
            ]
        );
        for lengths in [
            &[("content-length", "7")][..],
            &[("content-length", "7, 7")],
            &[("content-length", "7"), ("content-length", "7")],
        ] {
            assert_eq!(response(lengths), ["content-length: 7"]);
        }
    }

    #[test]
    fn cookies_of_http2_become_one_line() {
        let mut request = Request::builder()
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        strip_request(&mut request);
        assert_eq!(lines_of(&request.headers), ["cookie: a=1; b=2"]);
    }
}
