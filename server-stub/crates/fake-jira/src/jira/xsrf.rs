//! The XSRF rule: form bodies require `X-Atlassian-Token: no-check`, and a browser's request that
//! changes something must come from Jira's own pages even with that header.

use http::{HeaderMap, Method, header};

/// Whether to refuse the request with "XSRF check failed".
pub(super) fn refuses(method: &Method, headers: &HeaderMap, base_url: &str) -> bool {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = value("x-atlassian-token")
        .is_some_and(|token| ["no-check", "nocheck"].contains(&token.trim()));
    let kind = value(header::CONTENT_TYPE.as_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let form = FORMS.iter().any(|form| kind.starts_with(form));
    if form && !token {
        return true;
    }
    let browser =
        value(header::USER_AGENT.as_str()).is_some_and(|agent| agent.starts_with("Mozilla"));
    let own_page = [header::ORIGIN, header::REFERER]
        .iter()
        .filter_map(|name| value(name.as_str()))
        .any(|from| {
            from.strip_prefix(origin(base_url))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    browser && !own_page
}

fn origin(base_url: &str) -> &str {
    let after_scheme = base_url.find("://").map_or(0, |at| at + 3);
    base_url[after_scheme..]
        .find('/')
        .map_or(base_url, |at| &base_url[..after_scheme + at])
}

const FORMS: &[&str] = &[
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "text/plain",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_jiras_own_pages_may_write_from_a_browser() {
        let refuses = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect();
            super::refuses(&Method::POST, &headers, "https://jira.example/ctx")
        };
        assert!(refuses(&[("user-agent", "Mozilla/5.0")]));
        assert!(refuses(&[
            ("user-agent", "Mozilla/5.0"),
            ("origin", "https://evil.example")
        ]));
        assert!(refuses(&[
            ("user-agent", "Mozilla/5.0"),
            ("origin", "https://jira.example.evil")
        ]));
        assert!(refuses(&[
            ("user-agent", "Mozilla/5.0"),
            ("x-atlassian-token", "no-check")
        ]));
        assert!(!refuses(&[
            ("user-agent", "Mozilla/5.0"),
            ("origin", "https://jira.example")
        ]));
        assert!(!refuses(&[
            ("user-agent", "curl/8"),
            ("content-type", "application/json")
        ]));
    }
}
