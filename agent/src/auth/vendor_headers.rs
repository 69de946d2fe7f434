//! Which of the vendor's headers reach Jira where the agent logs in: the known harmless ones, and those that
//! the customer lets pass by name.
//!
//! No list of headers that carry an identity is ever complete: each product for single sign-on invents its own, and a
//! Jira behind one believes them. So everything is taken off that is not known to be harmless.

use super::strip::is_identity_header;
use crate::{
    policy::{method_override_headers, path_override_headers},
    profile::ServiceProfile,
};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// The headers of the vendor that reach Jira in the injecting modes. The default: the known harmless ones alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorHeaders {
    /// `[forward.headers] pass`, and what the profile calls harmless.
    extra: Arc<[HeaderName]>,
    /// By what else a caller could choose an identity there.
    pub(super) profile: Arc<ServiceProfile>,
}

impl Default for VendorHeaders {
    fn default() -> Self {
        Self {
            extra: Arc::default(),
            profile: ServiceProfile::jira(),
        }
    }
}

/// What was taken off one request. Travels in the extensions of its head.
#[derive(Clone, Debug, Default)]
pub struct RemovedHeaders(pub Vec<(HeaderName, HeaderClass)>);

/// The kind of a removed header. The names themselves are the vendor's and unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderClass {
    /// It carries or chooses an identity.
    Identity,
    /// It reports the host, scheme and address that the request was first sent to or from.
    Forwarding,
    /// Nothing is known of it.
    Unknown,
}

impl HeaderClass {
    /// All classes, in the order of the metrics.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Forwarding, Self::Unknown];

    /// As a label of the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Forwarding => "forwarding",
            Self::Unknown => "unknown",
        }
    }

    fn of(name: &str, profile: &ServiceProfile) -> Self {
        let unified = unify(name);
        if is_identity_header(&unified) || is_identity_there(&unified, profile) {
            Self::Identity
        } else if FORWARDING.contains(&unified.as_str()) || unified.starts_with("x-forwarded-") {
            Self::Forwarding
        } else {
            Self::Unknown
        }
    }
}

impl VendorHeaders {
    /// For Jira; see [`for_service`](Self::for_service).
    pub fn new<S: AsRef<str>>(pass: &[S]) -> Result<Self, (usize, String)> {
        Self::for_service(pass, &ServiceProfile::jira())
    }

    /// With these names beside the known harmless ones. The error is the place of the first that cannot be let
    /// pass, and why.
    pub fn for_service<S: AsRef<str>>(
        pass: &[S],
        profile: &Arc<ServiceProfile>,
    ) -> Result<Self, (usize, String)> {
        if pass.len() > MAX_EXTRA {
            let text = format!("at most {MAX_EXTRA} names; let the vendor send fewer headers");
            return Err((MAX_EXTRA, text));
        }
        let names = pass.iter().enumerate();
        let extra =
            names.map(|(at, name)| may_pass(name.as_ref(), profile).map_err(|why| (at, why)));
        let mut extra: Vec<_> = extra.collect::<Result<_, _>>()?;
        extra.extend(profile.identity.pass_headers.iter().cloned());
        Ok(Self {
            extra: extra.into(),
            profile: Arc::clone(profile),
        })
    }

    /// Takes off what may not pass.
    pub(super) fn apply(&self, headers: &mut HeaderMap) -> RemovedHeaders {
        // They speak of trailers, which end here: nothing that the vendor would miss.
        for name in [
            http::header::TE,
            http::header::CONNECTION,
            http::header::TRAILER,
        ] {
            headers.remove(name);
        }
        let removed: Vec<_> = headers
            .keys()
            .filter(|name| !self.passes(name))
            .map(|name| (name.clone(), HeaderClass::of(name.as_str(), &self.profile)))
            .collect();
        for (name, _) in &removed {
            headers.remove(name);
        }
        RemovedHeaders(removed)
    }

    fn passes(&self, name: &HeaderName) -> bool {
        PASSED_BY_DEFAULT.binary_search(&name.as_str()).is_ok() || self.extra.contains(name)
    }
}

/// Whether the tool behind the forward takes an identity from a header of this name.
fn is_identity_there(unified: &str, profile: &ServiceProfile) -> bool {
    let mut names = profile.identity.headers.iter();
    names.any(|name| unify(name.as_str()) == unified)
}

/// Whether a header of this name cannot carry a credential: requests or connections have another use for it.
pub(super) fn is_needed_by_requests(name: &HeaderName) -> bool {
    let lower = name.as_str();
    let is_override = method_override_headers()
        .iter()
        .chain(path_override_headers())
        .any(|other| unify(other) == unify(lower));
    is_override
        || PASSED_BY_DEFAULT.binary_search(&lower).is_ok()
        || PER_CONNECTION.contains(&lower)
        || FORWARDING.contains(&lower)
        || lower.starts_with("proxy-")
        || lower.starts_with("x-forwarded-")
}

/// Whether the customer may let a header pass by this name.
fn may_pass(text: &str, profile: &ServiceProfile) -> Result<HeaderName, String> {
    let name: HeaderName = text
        .parse()
        .map_err(|_| "not the name of a header; write one like \"X-Vendor-Tenant\"".to_owned())?;
    let lower = name.as_str();
    let unified = unify(lower);
    let is_override = method_override_headers()
        .iter()
        .chain(path_override_headers())
        .any(|other| unify(other) == unified);
    if lower.contains('_') {
        let text = "some servers take `_` in a header's name for `-`, and so another header for this one; \
                    let the vendor send it with `-`";
        Err(text.to_owned())
    } else if PER_CONNECTION.contains(&unified.as_str()) || unified.starts_with("proxy-") {
        Err("it frames the request or speaks of one connection, and ends at the agent".to_owned())
    } else if is_override {
        Err("it asks for another method or path than the one that policy has judged".to_owned())
    } else if PASSED_BY_DEFAULT.binary_search(&lower).is_err()
        && (is_identity_header(&unified) || is_identity_there(&unified, profile))
    {
        let text = "by its name it carries an identity, which the credential of this forward settles; \
                    use mode = \"pass-through\" if the vendor is to log in itself";
        Err(text.to_owned())
    } else {
        Ok(name)
    }
}

/// Servers that hand headers on as variables take `_` and `-` for the same.
fn unify(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

/// In lower case and sorted. What HTTP needs, what the Jira clients in use send (`jira` and `atlassian-python-api`
/// for Python, `jira-client`, `jira.js` and `jira-connector` for Node, go-jira, JRJC), and the ids of tracing.
const PASSED_BY_DEFAULT: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "b3",
    "baggage",
    "cache-control",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "correlation-id",
    "date",
    "dnt",
    "elastic-apm-traceparent",
    "expect",
    "host",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "mime-version",
    "newrelic",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "range",
    "referer",
    "repr-digest",
    "request-id",
    "save-data",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "uber-trace-id",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    // Cloud: account ids instead of names in the answers.
    "x-atlassian-force-account-id",
    // Answers the XSRF check.
    "x-atlassian-token",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
    // Service Management's interfaces that are marked experimental.
    "x-experimentalapi",
    // Cloud: the language of Accept-Language before that of the account.
    "x-force-accept-language",
    "x-request-id",
    "x-requested-with",
];

/// Beside all `x-forwarded-*`.
const FORWARDING: &[&str] = &[
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-host",
    "x-original-forwarded-for",
    "x-original-host",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
];

/// Framing, routing, and what RFC 9110 §7.6.1 and RFC 9112 know of one connection; beside all `proxy-*`.
const PER_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Far more than any integration needs; each is compared with every header of every request.
const MAX_EXTRA: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmless_headers_are_sorted_and_none_carries_an_identity_by_accident() {
        assert!(PASSED_BY_DEFAULT.is_sorted());
        let like_identity: Vec<_> = PASSED_BY_DEFAULT
            .iter()
            .filter(|name| is_identity_header(name))
            .collect();
        // It has the name of a credential and is none.
        assert_eq!(like_identity, [&"x-atlassian-token"]);
        let both = PASSED_BY_DEFAULT
            .iter()
            .filter(|n| PER_CONNECTION.contains(n));
        let both: Vec<_> = both.collect();
        assert_eq!(
            both,
            [&"content-length", &"expect", &"host", &"transfer-encoding"]
        );
    }
}
