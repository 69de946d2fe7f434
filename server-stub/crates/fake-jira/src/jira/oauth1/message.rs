//! A signed request as the provider's servlet sees it: its parameters from header, query and form, and
//! the signature base string (RFC 5849 §3.4.1). Written independently of the agent's signer.

use http::{HeaderMap, Method, Uri, header};

use crate::jira::settings::TomcatConnector;

/// Method, URL and parameters of a request, decoded.
pub(in crate::jira) struct OAuth1Message {
    method: String,
    /// Scheme, authority and raw path (RFC 5849 §3.4.1.2).
    url: String,
    parameters: Vec<(String, String)>,
}

impl OAuth1Message {
    /// `parameters` are those of query and form body; the header's are added. The host is the connector's
    /// if it has one, else the one in `Host`, never that of Jira's base URL.
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        parameters: &[(String, String)],
        connector: &TomcatConnector,
        scheme: &str,
    ) -> Self {
        let mut all = authorization(headers);
        all.extend_from_slice(parameters);
        Self {
            method: method.as_str().to_ascii_uppercase(),
            url: url(uri, headers, connector, scheme),
            parameters: all,
        }
    }

    /// The first parameter of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The signature base string (RFC 5849 §3.4.1.1).
    pub(crate) fn base_string(&self) -> String {
        let mut pairs: Vec<(String, String)> = self
            .parameters
            .iter()
            .filter(|(name, _)| name != "oauth_signature")
            .map(|(name, value)| (escape(name), escape(value)))
            .collect();
        pairs.sort();
        let joined: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!(
            "{}&{}&{}",
            escape(&self.method),
            escape(&self.url),
            escape(&joined.join("&"))
        )
    }
}

/// The base string URI (RFC 5849 §3.4.1.2): lower case, no default port, the path unchanged.
fn url(uri: &Uri, headers: &HeaderMap, connector: &TomcatConnector, scheme: &str) -> String {
    let scheme = connector.scheme.as_deref().unwrap_or(scheme);
    let received = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let (received_name, received_port) = match received.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port.parse().ok()),
        _ => (received, None),
    };
    let (name, port): (&str, Option<u16>) = match &connector.proxy_name {
        Some(name) => (name, connector.proxy_port),
        None => (received_name, connector.proxy_port.or(received_port)),
    };
    let default = if scheme == "https" { 443 } else { 80 };
    let port = match port {
        Some(port) if port != default => format!(":{port}"),
        _ => String::new(),
    };
    format!(
        "{}://{}{port}{}",
        scheme.to_ascii_lowercase(),
        name.to_ascii_lowercase(),
        uri.path()
    )
}

/// The parameters of an `Authorization: OAuth …` header, without the realm (RFC 5849 §3.5.1).
fn authorization(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        let Some((scheme, rest)) = value.to_str().ok().and_then(|value| value.split_once(' '))
        else {
            continue;
        };
        if !scheme.eq_ignore_ascii_case("oauth") {
            continue;
        }
        for field in rest.split(',') {
            let Some((name, value)) = field.trim().split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches('"');
            if !name.trim().eq_ignore_ascii_case("realm") {
                found.push((unescape(name.trim()), unescape(value)));
            }
        }
    }
    found
}

/// Percent-encodes as in RFC 5849 §3.6: all bytes but letters, digits and `-._~`.
pub(in crate::jira) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Decodes as Java's `URLDecoder`, which Jira's library uses even here: `+` is a space.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (b'+', ..) => {
                plain.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect()
    }

    /// RFC 5849 §3.4.1.1.
    #[test]
    fn the_rfcs_example_has_the_rfcs_base_string() {
        let headers = headers(&[
            ("host", "example.com"),
            (
                "authorization",
                "OAuth realm=\"Example\", oauth_consumer_key=\"9djdj82h48djs9d2\", \
                 oauth_token=\"kkk9d7dh3k39sjv7\", oauth_signature_method=\"HMAC-SHA1\", \
                 oauth_timestamp=\"137131201\", oauth_nonce=\"7d8f3e4a\", \
                 oauth_signature=\"bYT5CMsGcbgUdFHObYMEfcx6bsw%3D\"",
            ),
        ]);
        let uri = "/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b".parse().unwrap();
        let parameters = pairs(&[
            ("b5", "=%3D"),
            ("a3", "a"),
            ("c@", ""),
            ("a2", "r b"),
            ("c2", ""),
            ("a3", "2 q"),
        ]);
        let message = OAuth1Message::new(
            &Method::POST,
            &uri,
            &headers,
            &parameters,
            &TomcatConnector::default(),
            "http",
        );
        assert_eq!(
            message.base_string(),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D\
             %253D%25253D%26c%2540%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonc\
             e%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oau\
             th_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn the_url_is_the_one_the_servlet_sees() {
        let proxied = TomcatConnector {
            scheme: Some("https".into()),
            proxy_name: Some("Jira.corp.example".into()),
            proxy_port: Some(443),
        };
        let only_scheme = TomcatConnector {
            scheme: Some("https".into()),
            ..TomcatConnector::default()
        };
        let uri: Uri = "/jira/rest/a%20b%2Fc?x=1".parse().unwrap();
        for (connector, scheme, host, seen) in [
            (
                &TomcatConnector::default(),
                "http",
                "JIRA:80",
                "http://jira",
            ),
            (
                &TomcatConnector::default(),
                "http",
                "jira:443",
                "http://jira:443",
            ),
            (
                &TomcatConnector::default(),
                "https",
                "jira:8443",
                "https://jira:8443",
            ),
            (
                &TomcatConnector::default(),
                "http",
                "[::1]:80",
                "http://[::1]",
            ),
            (&only_scheme, "http", "jira:8080", "https://jira:8080"),
            (
                &proxied,
                "http",
                "10.0.0.1:8080",
                "https://jira.corp.example",
            ),
        ] {
            let headers = [(header::HOST, host.parse().unwrap())]
                .into_iter()
                .collect();
            assert_eq!(
                url(&uri, &headers, connector, scheme),
                format!("{seen}/jira/rest/a%20b%2Fc"),
                "{host}"
            );
        }
    }
}
