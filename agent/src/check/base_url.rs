//! Compares Jira's base URL with the upstream. Jira verifies OAuth 1.0a signatures for neither of them, but for the URL
//! that its servlet sees: the connector's scheme, proxyName and proxyPort if set, else the received `Host`. If base URL
//! and upstream agree, all three do.

use super::{clock::SigningParty, step::StepResult};
use crate::upstream::{HttpTarget, UpstreamTarget};

/// What depends on the base URL.
pub(super) struct BaseUrlNeeds<'a> {
    pub(super) signer: SigningParty,
    /// The URL that the agent signs for, if that is not the upstream.
    pub(super) signed: Option<&'a HttpTarget>,
    /// Mode `oauth2` with Jira's own provider, which requires https.
    pub(super) oauth2: bool,
}

/// `base` is the `baseUrl` of Jira's `serverInfo`.
pub(super) fn compare_base_url(
    upstream: &HttpTarget,
    base: &str,
    needs: &BaseUrlNeeds<'_>,
) -> StepResult {
    let Ok(UpstreamTarget::Http(base)) = base.trim_end_matches('/').parse() else {
        return StepResult::warn(
            "Jira's base URL is not a valid URL",
            "set it in Jira under Administration, System, General configuration",
        );
    };
    if needs.oauth2 && !base.tls {
        return StepResult::fail(
            format!(
                "Jira's base URL is {base}; its OAuth 2.0 provider requires https and answers \"Please ensure that your server is using HTTPS\""
            ),
            "serve Jira over https and set its base URL accordingly (Administration, System, General configuration)",
        );
    }
    let signed = needs.signed.unwrap_or(upstream);
    let seen = format!("base URL {base}");
    if same(signed, &base) {
        return StepResult::ok(match same(upstream, &base) {
            true => seen,
            false => format!("{seen}; requests go to {upstream} and are signed for the base URL"),
        });
    }
    let differ = differences(signed, &base).join(", ");
    match needs.signer {
        SigningParty::None => StepResult::ok(format!(
            "{seen}; the upstream is {upstream}, so links in Jira's answers point elsewhere (docs/vendor-guide.md)"
        )),
        SigningParty::Vendor => StepResult::warn(
            format!(
                "Jira's base URL is {base}, the upstream is {upstream} (different {differ}); a vendor that signs for the base URL with OAuth 1.0a gets signature_invalid, unless Jira's Tomcat is configured with it (scheme, proxyName, proxyPort)"
            ),
            format!(
                "set upstream = \"{base}\" and address to the host to connect to; or have the vendor sign for {upstream}"
            ),
        ),
        SigningParty::Agent => StepResult::warn(
            format!(
                "requests are signed for {signed}, but Jira's base URL is {base} (different {differ}); Jira answers signature_invalid if its Tomcat is configured with the base URL (scheme, proxyName, proxyPort)"
            ),
            format!(
                "if the login step fails with signature_invalid, set signed_base_url = \"{base}\""
            ),
        ),
    }
}

fn same(one: &HttpTarget, other: &HttpTarget) -> bool {
    differences(one, other).is_empty()
}

fn differences(one: &HttpTarget, other: &HttpTarget) -> Vec<&'static str> {
    [
        ("scheme", one.tls == other.tls),
        ("host", one.host.eq_ignore_ascii_case(&other.host)),
        ("port", one.port == other.port || one.tls != other.tls),
        ("context path", one.context_path == other.context_path),
    ]
    .into_iter()
    .filter(|(_, same)| !same)
    .map(|(what, _)| what)
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::step::StepRecorder;
    use super::*;
    use crate::check::{CheckStep, StepVerdict};

    fn target(url: &str) -> HttpTarget {
        match url.parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{url}"),
        }
    }

    fn judged(upstream: &str, base: &str, signer: SigningParty, signed: Option<&str>) -> CheckStep {
        let signed = signed.map(target);
        let needs = BaseUrlNeeds {
            signer,
            signed: signed.as_ref(),
            oauth2: false,
        };
        let mut steps = StepRecorder::new(None);
        steps.add(
            "server-info",
            compare_base_url(&target(upstream), base, &needs),
        );
        steps.into_vec().remove(0)
    }

    const BASE: &str = "https://jira.corp.example/jira";

    #[test]
    fn signature_invalid_is_foretold_with_what_differs() {
        for (upstream, part) in [
            ("http://jira.corp.example/jira", "different scheme)"),
            ("https://10.0.0.5/jira", "different host)"),
            ("https://jira.corp.example:8443/jira", "different port)"),
            ("https://jira.corp.example", "different context path)"),
            (
                "http://10.0.0.5:8080",
                "different scheme, host, context path)",
            ),
        ] {
            for signer in [SigningParty::Vendor, SigningParty::Agent] {
                let step = judged(upstream, BASE, signer, None);
                assert_eq!(step.verdict, StepVerdict::Warn, "{upstream}");
                let cause = step.cause.unwrap();
                assert!(cause.contains("signature_invalid"), "{cause}");
                assert!(cause.contains(part), "{cause}");
                assert!(step.remedy.unwrap().contains(BASE));
            }
            let step = judged(upstream, BASE, SigningParty::None, None);
            assert_eq!(step.verdict, StepVerdict::Ok);
        }
    }

    #[test]
    fn nothing_is_foretold_where_both_agree_or_the_base_url_is_signed_over() {
        for (upstream, signed) in [
            (BASE, None),
            ("https://JIRA.corp.example:443/jira", None),
            ("http://10.0.0.5:8080/jira", Some(BASE)),
        ] {
            let step = judged(upstream, BASE, SigningParty::Agent, signed);
            assert_eq!(step.verdict, StepVerdict::Ok, "{upstream}");
        }
    }

    #[test]
    fn oauth_2_needs_https_in_the_base_url() {
        let needs = BaseUrlNeeds {
            signer: SigningParty::None,
            signed: None,
            oauth2: true,
        };
        let mut steps = StepRecorder::new(None);
        let upstream = target(BASE);
        steps.add(
            "x",
            compare_base_url(&upstream, "http://jira.corp.example/jira", &needs),
        );
        steps.add("x", compare_base_url(&upstream, BASE, &needs));
        let verdicts: Vec<_> = steps.into_vec().iter().map(|s| s.verdict).collect();
        assert_eq!(verdicts, [StepVerdict::Fail, StepVerdict::Ok]);
    }
}
