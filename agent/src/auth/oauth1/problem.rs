//! Explains Jira's OAuth 1.0a rejections (`oauth_problem`, OAuth Problem Reporting): one cause and one remedy for each
//! code. The scheme, `agent login` and `agent check` share this table.

use super::encode;
use crate::auth::CredentialUnavailable;
pub use crate::auth::RejectedPart;
use http::{HeaderMap, header};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A rejection as Jira reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth1Problem {
    /// `timestamp_refused`; letters, digits and `_` only.
    pub code: String,
    /// How far this host's clock is ahead of Jira's, seconds, by the answer's `Date`.
    pub ahead: Option<i64>,
}

/// What the explanation of a rejection can name.
#[derive(Clone, Debug, Default)]
pub struct OAuth1Context<'a> {
    /// Consumer key from the configuration.
    pub consumer_key: &'a str,
    /// Scheme, host and context path that were signed over.
    pub signed_url: &'a str,
    /// File of the private key.
    pub key_file: &'a str,
    /// Command or file that gives a new access token; `None` for two-legged requests.
    pub new_token: Option<&'a str>,
}

impl OAuth1Problem {
    /// Reads one from an answer: from `WWW-Authenticate`, else from a form-encoded body, which may be empty.
    pub fn read(headers: &HeaderMap, body: &[u8], now: SystemTime) -> Option<Self> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let in_header = challenges.filter_map(|value| in_challenge(value.to_str().ok()?));
        let code = in_header.into_iter().next().or_else(|| in_body(body))?;
        Some(Self {
            code,
            ahead: ahead(headers, now),
        })
    }

    /// The part of the request that was rejected, by the code.
    pub fn rejected_part(&self) -> RejectedPart {
        match self.code.as_str() {
            "token_expired" | "token_rejected" | "token_revoked" => RejectedPart::Token,
            "signature_invalid" => RejectedPart::Signature,
            "nonce_used" | "parameter_rejected" | "parameter_absent" => RejectedPart::Request,
            _ => RejectedPart::Credential,
        }
    }

    /// Cause and remedy, one sentence each.
    pub fn explain(&self, facts: &OAuth1Context<'_>) -> CredentialUnavailable {
        let OAuth1Context {
            consumer_key,
            signed_url,
            key_file,
            new_token,
        } = facts;
        let again = match new_token {
            Some(source) => format!("get a new access token: {source}"),
            None => "check that the application link allows two-legged OAuth (2LO) and names the user to execute as".to_owned(),
        };
        let link = "Jira, Administration, Applications, Application links";
        let (cause, remedy) = match self.code.as_str() {
            "timestamp_refused" => (
                match self.skew() {
                    Some(skew) => format!("Jira refused the time of the request: this host's clock {skew}"),
                    None => "Jira refused the time of the request: this host's clock and Jira's differ by more than 5 minutes".to_owned(),
                },
                "set the clock of this host, and of Jira's, by NTP (timedatectl); Jira takes 5 minutes either way".to_owned(),
            ),
            "signature_invalid" => (
                format!("Jira's own reading of the request does not fit the signature, which was made over {signed_url}"),
                format!("if there is a proxy in front of Jira, set signed_base_url to the URL that Jira's Tomcat sees (scheme, proxyName, proxyPort, context path); otherwise compare the public key under {link} with {key_file}"),
            ),
            "nonce_used" => (
                "Jira has seen this request's nonce before: something between the agent and Jira sent the request twice".to_owned(),
                "find the proxy in front of Jira that repeats requests, and disable that".to_owned(),
            ),
            "token_expired" => ("the access token has expired".to_owned(), again),
            "token_revoked" => ("the access token was revoked in Jira".to_owned(), again),
            "token_rejected" | "token_used" => (
                "Jira does not know the access token: it was revoked, belongs to another consumer, or Jira's data was restored from before it".to_owned(),
                again,
            ),
            "consumer_key_unknown" | "consumer_key_rejected" | "consumer_key_refused" => (
                format!("Jira knows no application link with the consumer key {consumer_key:?}"),
                format!("{link}: compare the consumer key of the link's incoming authentication with consumer_key, or create the link"),
            ),
            "permission_denied" | "permission_unknown" | "additional_authorization_required" => (
                format!("Jira does not let the consumer {consumer_key:?} act for this user"),
                match new_token {
                    Some(source) => format!("check that the user may log in to Jira and that the link still allows incoming requests, then get a new access token: {source}"),
                    None => again,
                },
            ),
            "user_refused" => (
                "the user denied the access in Jira".to_owned(),
                "run agent login again and choose Allow, logged in as the service account".to_owned(),
            ),
            "signature_method_rejected" => (
                "Jira takes no RSA-SHA1 for this consumer: the application link was made without a public key".to_owned(),
                format!("{link}: put the public key into the link's incoming authentication"),
            ),
            "version_rejected" | "parameter_absent" | "parameter_rejected" => (
                format!("Jira did not understand the OAuth parameters ({})", self.code),
                "find the proxy in front of Jira that drops or changes the Authorization header or the query".to_owned(),
            ),
            other => (
                format!("Jira refused the OAuth request: {other}"),
                format!("{link}: check the link of the consumer {consumer_key:?}; see also Jira's log atlassian-jira-security.log"),
            ),
        };
        CredentialUnavailable { cause, remedy }
    }

    fn skew(&self) -> Option<String> {
        let ahead = self.ahead?;
        // Below that it is the way, not the clock.
        (ahead.unsigned_abs() > 30).then(|| {
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            let off = Duration::from_secs(ahead.unsigned_abs());
            format!("is {} {direction} Jira's", humantime::format_duration(off))
        })
    }
}

/// `OAuth realm="…", oauth_problem="…"`.
fn in_challenge(value: &str) -> Option<String> {
    let at = value.to_ascii_lowercase().find("oauth_problem=")? + "oauth_problem=".len();
    let rest = &value[at..];
    let text = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([',', ' ']).next(),
    };
    word(text?)
}

fn in_body(body: &[u8]) -> Option<String> {
    let start = &body[..body.len().min(MAX_BODY)];
    // Only Jira's own form; an HTML page that talks of OAuth has no such beginning.
    if !start.starts_with(b"oauth_") {
        return None;
    }
    let found = encode::parse(start.trim_ascii()).ok()?;
    let problem = found
        .into_iter()
        .find(|(name, _)| name == "oauth_problem")?;
    word(&problem.1)
}

fn word(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = !text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(plain);
    fits.then(|| text.to_ascii_lowercase())
}

fn ahead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .ok()
            .map(|d| d.as_secs() as i64)
    };
    Some(seconds(now)? - seconds(httpdate::parse_http_date(date).ok()?)?)
}

/// Jira's error bodies are a few hundred bytes.
const MAX_BODY: usize = 8 << 10;
/// The longest known code has 33.
const MAX_WORD: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn read(pairs: &[(&'static str, &'static str)], body: &str) -> Option<OAuth1Problem> {
        // Sun, 06 Nov 1994 08:49:37 GMT and ten minutes.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 + 600);
        OAuth1Problem::read(&headers(pairs), body.as_bytes(), now)
    }

    const FACTS: OAuth1Context<'static> = OAuth1Context {
        consumer_key: "acme",
        signed_url: "https://jira.corp.example/jira",
        key_file: "/etc/key.pem",
        new_token: Some("agent login"),
    };

    #[test]
    fn the_problem_is_read_where_jira_writes_it() {
        for value in [
            "OAuth realm=\"https%3A%2F%2Fjira\", oauth_problem=\"token_expired\"",
            "OAuth oauth_problem=token_expired, realm=\"x\"",
            "OAuth realm=\"x\",OAUTH_PROBLEM=\"Token_Expired\"",
        ] {
            let problem = read(&[("www-authenticate", value)], "").unwrap();
            assert_eq!(problem.code, "token_expired", "{value}");
        }
        let problem = read(&[], "oauth_problem=nonce_used&realm=x\n").unwrap();
        assert_eq!(problem.code, "nonce_used");
        for (pairs, body) in [
            (&[("www-authenticate", "OAuth realm=\"x\"")][..], ""),
            (&[("www-authenticate", "Basic realm=\"oauth\"")], ""),
            (&[("www-authenticate", "OAuth oauth_problem=\"<b>\"")], ""),
            (&[], "<html>oauth_problem=x</html>"),
            (&[], "{\"errorMessages\":[]}"),
        ] {
            assert_eq!(read(pairs, body), None, "{pairs:?} {body}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_direction_and_amount() {
        let explained = |date: &'static str| {
            let problem = [
                (
                    "www-authenticate",
                    "OAuth oauth_problem=\"timestamp_refused\"",
                ),
                ("date", date),
            ];
            read(&problem, "").unwrap().explain(&FACTS).cause
        };
        let ahead = explained("Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(ahead.contains("is 10m ahead of Jira's"), "{ahead}");
        let behind = explained("Sun, 06 Nov 1994 09:49:37 GMT");
        assert!(behind.contains("is 50m behind Jira's"), "{behind}");
        let unknown = explained("Sun, 06 Nov 1994 08:59:37 GMT");
        assert!(unknown.contains("5 minutes"), "{unknown}");
    }

    #[test]
    fn every_word_gets_its_own_cause_and_a_remedy() {
        let words = [
            "timestamp_refused",
            "signature_invalid",
            "nonce_used",
            "token_expired",
            "token_revoked",
            "token_rejected",
            "consumer_key_unknown",
            "permission_denied",
            "user_refused",
            "signature_method_rejected",
            "parameter_absent",
            "parameter_rejected",
            "version_rejected",
            "something_new",
        ];
        let mut causes = std::collections::HashSet::new();
        for code in words {
            let problem = OAuth1Problem {
                code: code.to_owned(),
                ahead: None,
            };
            for facts in [
                FACTS,
                OAuth1Context {
                    new_token: None,
                    ..FACTS
                },
            ] {
                let why = problem.explain(&facts);
                assert!(
                    why.remedy.len() > 20 && !why.cause.ends_with('.'),
                    "{why:?}"
                );
                if facts.new_token.is_some() {
                    assert!(causes.insert(why.cause), "{code}");
                }
            }
        }
    }
}
