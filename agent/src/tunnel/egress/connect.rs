//! HTTP CONNECT (RFC 9110 §9.3.6), by hyper's client: the proxy's answer is hostile input.

use super::{ProxyFault, proxy::LoadedProxyCredential};
use crate::tunnel::session::printable;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1::Builder, upgrade};
use hyper_util::rt::TokioIo;
use std::pin::pin;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// Requests a connection to `target` (`host:port`). Returns it with the bytes already received. The caller sets a deadline.
pub(super) async fn connect(
    stream: TcpStream,
    target: &str,
    login: Option<&LoadedProxyCredential>,
) -> Result<(TcpStream, Bytes), (ProxyFault, String)> {
    let request = request(target, login)?;
    let handshake = Builder::new()
        .max_buf_size(MAX_ANSWER)
        .max_headers(MAX_HEADERS)
        // An answer that opens no tunnel is only shown to a person (RFC 9112 §5.1, §5.2).
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(|error| unreadable(&error))?;
    // The connection is driven here, so nothing outlives the call.
    let mut connection = pin!(connection.with_upgrades());
    let exchange = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| unreadable(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&response, login));
        }
        let upgraded = upgrade::on(response).await;
        upgraded.map_err(|error| unreadable(&error))
    };
    let mut exchange = pin!(exchange);
    let mut ended = false;
    let upgraded = loop {
        tokio::select! {
            outcome = &mut exchange => break outcome?,
            // The exchange gets its error too.
            _ = &mut connection, if !ended => ended = true,
        }
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        // The type is the one put in above.
        Err(_) => Err((ProxyFault::Answer, "was lost".to_owned())),
    }
}

fn request(
    target: &str,
    login: Option<&LoadedProxyCredential>,
) -> Result<Request<Empty<Bytes>>, (ProxyFault, String)> {
    let mut request = Request::connect(target)
        .header(header::HOST, target)
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(login) = login {
        request = request.header(header::PROXY_AUTHORIZATION, basic(login)?);
    }
    request.body(Empty::new()).map_err(|_| {
        let problem = format!("cannot be asked for {target:?}, which is no host and port");
        (ProxyFault::Answer, problem)
    })
}

/// RFC 7617.
fn basic(login: &LoadedProxyCredential) -> Result<HeaderValue, (ProxyFault, String)> {
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_LOGIN));
    plain.extend_from_slice(login.username.as_bytes());
    plain.push(b':');
    plain.extend_from_slice(login.password.expose());
    let encoded = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&plain)));
    let mut value = HeaderValue::from_str(&encoded)
        .map_err(|_| (ProxyFault::Password, "it cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn refusal(
    response: &Response<Incoming>,
    login: Option<&LoadedProxyCredential>,
) -> (ProxyFault, String) {
    let (status, headers) = (response.status(), response.headers());
    let answer = answer(status, headers);
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let offered = schemes(headers);
            let basic = offered.iter().any(|s| s.eq_ignore_ascii_case("basic"));
            let list = match offered.is_empty() {
                true => "nothing".to_owned(),
                false => offered.join(", "),
            };
            match login {
                _ if !basic => (
                    ProxyFault::LoginScheme,
                    format!("{answer}; it offers {list}"),
                ),
                None => (ProxyFault::LoginMissing, answer),
                Some(login) => (
                    ProxyFault::LoginRefused,
                    format!("{answer}, user {:?}", login.username),
                ),
            }
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            (ProxyFault::Gateway, answer)
        }
        StatusCode::FORBIDDEN
        | StatusCode::UNAUTHORIZED
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => (ProxyFault::Policy, answer),
        StatusCode::TOO_MANY_REQUESTS => (ProxyFault::Busy, answer),
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::NOT_IMPLEMENTED
        | StatusCode::HTTP_VERSION_NOT_SUPPORTED => (
            ProxyFault::NotAProxy,
            format!("answered {answer} to CONNECT"),
        ),
        status if status.is_redirection() => {
            let place = headers.get(header::LOCATION).map(|place| place.as_bytes());
            let place =
                place.map(|place| printable(&String::from_utf8_lossy(without_query(place))));
            let place = place
                .map(|place| format!(" to {place}"))
                .unwrap_or_default();
            (ProxyFault::Redirect, format!("{answer}{place}"))
        }
        status if status.is_server_error() => (ProxyFault::Failing, answer),
        _ => (ProxyFault::Answer, format!("answered {answer} to CONNECT")),
    }
}

/// The query may contain a session token.
fn without_query(place: &[u8]) -> &[u8] {
    place
        .split(|b| matches!(b, b'?' | b'#'))
        .next()
        .unwrap_or_default()
}

/// `403 Forbidden (ERR_ACCESS_DENIED 0)`: many proxies give the reason in a header.
fn answer(status: StatusCode, headers: &HeaderMap) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let detail = DETAILS.iter().find_map(|name| headers.get(name));
    let detail = detail.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let status = format!("{} {reason}", status.as_u16());
    match detail {
        Some(detail) => format!("{} ({})", status.trim_end(), printable(&detail)),
        None => status.trim_end().to_owned(),
    }
}

/// The scheme of each challenge (RFC 9110 §11.6.1), of which one header may hold several.
fn schemes(headers: &HeaderMap) -> Vec<String> {
    let challenges = headers.get_all(header::PROXY_AUTHENTICATE).into_iter();
    let each = challenges.flat_map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        elements(&text)
            .iter()
            .filter_map(|element| scheme(element))
            .collect::<Vec<_>>()
    });
    each.take(MAX_CHALLENGES).collect()
}

/// The elements of a comma-separated list with quoted strings.
fn elements(text: &str) -> Vec<String> {
    let (mut all, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        match c {
            ',' if !quoted => {
                all.push(String::new());
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    all
}

/// `Basic` of `Basic realm="x"`; nothing of a further parameter, `charset="UTF-8"`.
fn scheme(element: &str) -> Option<String> {
    let element = element.trim();
    let end = element.find(|c: char| c.is_whitespace() || c == '=');
    let (word, rest) = element.split_at(end.unwrap_or(element.len()));
    let is_scheme = !word.is_empty() && !rest.trim_start().starts_with('=');
    is_scheme.then(|| printable(word).chars().take(MAX_SCHEME).collect())
}

fn unreadable(error: &hyper::Error) -> (ProxyFault, String) {
    match error {
        e if e.is_parse_too_large() => {
            let problem = "sent an answer that is too long".to_owned();
            (ProxyFault::Answer, problem)
        }
        e if e.is_parse() => (ProxyFault::NotAProxy, "does not speak HTTP".to_owned()),
        e if e.is_incomplete_message() || e.is_canceled() || e.is_closed() => {
            let problem = "closed the connection without an answer".to_owned();
            (ProxyFault::Closed, problem)
        }
        e => (ProxyFault::Closed, format!("broke the connection ({e})")),
    }
}

/// Bytes of the head of an answer; hyper takes no less than 8 KiB.
const MAX_ANSWER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Challenges named in an error, and characters of each.
const MAX_CHALLENGES: usize = 4;
const MAX_SCHEME: usize = 20;
/// Capacity for a credential: growing would leave copies that are not zeroed.
const MAX_LOGIN: usize = 1024;
const USER_AGENT: &str = concat!("jira-tunnel-agent/", env!("CARGO_PKG_VERSION"));
/// RFC 9209, and squid's own.
const DETAILS: [HeaderName; 2] = [
    HeaderName::from_static("x-squid-error"),
    HeaderName::from_static("proxy-status"),
];
