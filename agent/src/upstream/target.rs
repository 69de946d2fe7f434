//! Where a forward leads: the upstream URL, parsed once. `url` judges scheme, host and port here;
//! it re-encodes what it parses, so nothing on the data path touches it.

use std::{fmt, str::FromStr};
use url::{Host, Url};

/// Where a forward leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTarget {
    /// HTTP to a Jira: `http://` or `https://`.
    Http(HttpTarget),
    /// `tcp://host:port`: bytes as they are, no policy, no login.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port of the upstream, 1..=65535.
        port: u16,
    },
}

/// The parsed URL of a Jira.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Whether the URL's scheme is `https`.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 80 or 443 where the URL names none.
    pub port: u16,
    /// The `Host` header Jira expects: host, and the port unless it is the scheme's own.
    pub authority: String,
    /// `""` or like `/jira`; never ends in a slash.
    pub context_path: String,
}

impl fmt::Display for UpstreamTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(target) => target.fmt(f),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.context_path)
    }
}

/// Why an upstream URL was refused. The text never repeats the URL, which might hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UpstreamTargetError(pub String);

impl FromStr for UpstreamTarget {
    type Err = UpstreamTargetError;

    fn from_str(text: &str) -> Result<Self, UpstreamTargetError> {
        if text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '\\')
        {
            return refuse("the URL contains white space, a control character or a backslash");
        }
        let Some((_, rest)) = text.split_once("://") else {
            return refuse("expected a URL like https://jira.corp.example/jira or tcp://host:port");
        };
        if rest.contains(['?', '#']) {
            return refuse("the URL may have neither a query (?) nor a fragment (#)");
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return refuse(
                "the URL may contain no user name or password; put the credential into [forward.auth]",
            );
        }
        if authority.is_empty() {
            return refuse("the URL names no host");
        }
        let url =
            Url::parse(text).map_err(|e| UpstreamTargetError(format!("no usable URL: {e}")))?;
        let host = host_of(&url)?;
        if url.port() == Some(0) {
            return refuse("port 0 cannot be connected to");
        }
        match url.scheme() {
            "tcp" => match url.port() {
                Some(port) if path.is_empty() || path == "/" => Ok(Self::Tcp { host, port }),
                Some(_) => refuse("a tcp:// upstream has no path: tcp://host:port"),
                None => refuse("a tcp:// upstream needs a port: tcp://host:port"),
            },
            scheme @ ("http" | "https") => {
                let tls = scheme == "https";
                let bracketed = match host.contains(':') {
                    true => format!("[{host}]"),
                    false => host.clone(),
                };
                // `Url::port` is `None` for the scheme's own port, however it was written.
                let authority = match url.port() {
                    Some(port) => format!("{bracketed}:{port}"),
                    None => bracketed,
                };
                Ok(Self::Http(HttpTarget {
                    tls,
                    host,
                    port: url.port().unwrap_or(if tls { 443 } else { 80 }),
                    authority,
                    context_path: context_path(path)?,
                }))
            }
            _ => refuse("the scheme must be https, http or tcp"),
        }
    }
}

/// The host without brackets, in the form that is resolved and verified.
fn host_of(url: &Url) -> Result<String, UpstreamTargetError> {
    match url.host() {
        Some(Host::Domain(name)) if name.bytes().all(is_host_byte) && !name.is_empty() => {
            Ok(name.to_owned())
        }
        Some(Host::Domain(_)) => {
            refuse("the host may contain only letters, digits, '.', '-' and '_'")
        }
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        None => refuse("the URL names no host"),
    }
}

/// Jira's context path in its one normal form.
fn context_path(raw: &str) -> Result<String, UpstreamTargetError> {
    let trimmed = raw.strip_suffix('/').unwrap_or(raw);
    for segment in trimmed.split('/').skip(1) {
        if segment.is_empty() || segment == "." || segment == ".." {
            return refuse("the context path may have no empty, '.' or '..' segment");
        }
        if !segment.bytes().all(is_path_byte) {
            return refuse(
                "the context path may contain only letters, digits, '.', '-', '_' and '~', nothing encoded",
            );
        }
    }
    Ok(trimmed.to_owned())
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~')
}

fn refuse<T>(why: &str) -> Result<T, UpstreamTargetError> {
    Err(UpstreamTargetError(why.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn http(text: &str) -> HttpTarget {
        match text.parse() {
            Ok(UpstreamTarget::Http(target)) => target,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_url_is_taken_apart_as_jira_expects_it() {
        for (text, tls, host, port, authority, context) in [
            (
                "https://jira.corp.example/jira",
                true,
                "jira.corp.example",
                443,
                "jira.corp.example",
                "/jira",
            ),
            (
                "https://jira.corp.example/jira/",
                true,
                "jira.corp.example",
                443,
                "jira.corp.example",
                "/jira",
            ),
            (
                "https://jira.corp.example:443",
                true,
                "jira.corp.example",
                443,
                "jira.corp.example",
                "",
            ),
            (
                "https://Jira.Corp.example:8443/",
                true,
                "jira.corp.example",
                8443,
                "jira.corp.example:8443",
                "",
            ),
            (
                "http://jira:8080/a/b",
                false,
                "jira",
                8080,
                "jira:8080",
                "/a/b",
            ),
            ("http://jira_dev", false, "jira_dev", 80, "jira_dev", ""),
            (
                "HTTP://10.0.0.7:80/x",
                false,
                "10.0.0.7",
                80,
                "10.0.0.7",
                "/x",
            ),
            (
                "https://[2001:db8::1]/jira",
                true,
                "2001:db8::1",
                443,
                "[2001:db8::1]",
                "/jira",
            ),
            ("http://[::1]:8080", false, "::1", 8080, "[::1]:8080", ""),
        ] {
            let target = http(text);
            assert_eq!(target.tls, tls, "{text}");
            assert_eq!(target.host, host, "{text}");
            assert_eq!(target.port, port, "{text}");
            assert_eq!(target.authority, authority, "{text}");
            assert_eq!(target.context_path, context, "{text}");
        }
        for (text, host, port) in [
            ("tcp://db.corp:5432", "db.corp", 5432),
            ("tcp://[::1]:9/", "::1", 9),
        ] {
            let expected = UpstreamTarget::Tcp {
                host: host.to_owned(),
                port,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_or_wrong_url_is_refused_with_the_reason() {
        for (text, reason) in [
            ("jira.corp.example", "expected a URL"),
            ("https:/jira", "expected a URL"),
            ("ftp://jira/x", "scheme"),
            ("ws://jira/x", "scheme"),
            ("https:///jira", "no host"),
            ("https://", "no host"),
            ("https://:443/", "no usable URL"),
            ("https://jira:0/", "port 0"),
            ("https://jira:99999/", "no usable URL"),
            ("https://user:geheim@jira/", "no user name or password"),
            ("https://jira/x?y=1", "query"),
            ("https://jira/#x", "fragment"),
            ("https://jira/a/../b", "'..'"),
            ("https://jira/a/./b", "'.'"),
            ("https://jira//b", "empty"),
            ("https://jira/b//", "empty"),
            ("https://jira/a%2fb", "encoded"),
            ("https://jira/a;b", "encoded"),
            ("https://jira/ä", "encoded"),
            ("https://ji ra/", "white space"),
            ("https://jira\n/", "white space"),
            ("https://jira\\x/", "backslash"),
            ("tcp://db", "needs a port"),
            ("tcp://db:1/x", "no path"),
            ("tcp://d%62:1", "host"),
        ] {
            let error = text.parse::<UpstreamTarget>().expect_err(text);
            assert!(error.0.contains(reason), "{text}: {error}");
            assert!(!error.0.contains("geheim"));
        }
    }
}
