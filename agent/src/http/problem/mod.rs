//! The agent's own answers: RFC 9457 problems with an RFC 9209 `Proxy-Status`.
//!
//! The list of kinds is `docs/errors.md`'s table; a test compares the two. Every text in the document is a
//! [`VendorText`], which no error's own text can become; those go into the audit line as [`HttpProblem::cause`].

mod kind;

pub use kind::ProblemKind;

use super::{
    own_headers::{BY_AGENT, PROXY_STATUS, X_TUNNEL_ANSWERED_BY},
    request_id::RequestIds,
};
use crate::{
    upstream::Delivery,
    vendor_text::{ToolName, VendorQuote, VendorText},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use serde::Serialize;
use std::{borrow::Cow, num::NonZeroU32};

/// One answer that the agent gives itself.
#[derive(Clone, Debug)]
pub struct HttpProblem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// One sentence on this occurrence; holds no query and no secret.
    pub detail: VendorText,
    /// What the vendor does about it, where that is more than the kind's own advice.
    pub remedy: Option<VendorText>,
    /// The policy's code where it refused.
    pub reason: Option<&'static str>,
    /// Whether Jira may have seen the request.
    pub delivery: Delivery,
    /// What the customer's administrator reads of it, in audit and log. It never leaves the customer's side: it may name
    /// files, addresses and accounts.
    pub cause: Option<String>,
    /// Seconds after which the same request may succeed, where that is known better than by its kind.
    pub retry_after: Option<NonZeroU32>,
}

impl HttpProblem {
    /// A request that has not left the agent.
    pub fn not_sent(kind: ProblemKind, detail: impl Into<VendorText>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            remedy: None,
            reason: None,
            delivery: Delivery::NotSent,
            cause: None,
            retry_after: None,
        }
    }

    /// The same in sentences about this tool.
    pub(super) fn about(self, tool: &ToolName) -> Self {
        Self {
            detail: self.detail.about(tool),
            remedy: self.remedy.map(|remedy| remedy.about(tool)),
            cause: self.cause.map(|cause| tool.reword(&cause).into_owned()),
            ..self
        }
    }

    fn remedy(&self, tool: Option<&ToolName>) -> VendorText {
        match (&self.remedy, tool) {
            (Some(remedy), _) => remedy.clone(),
            (None, None) => self.kind.remedy().into(),
            (None, Some(tool)) => VendorText::from(self.kind.remedy_at_other_tools()).about(tool),
        }
    }

    /// The same refusal, one too many: what is wrong with the request stays in the detail.
    pub(super) fn into_one_too_many(self, per_minute: u32) -> Self {
        let detail = VendorText::of(&[
            &"more than ",
            &(per_minute as usize),
            &" requests a minute are refused on this forward; of this one: ",
            &self.detail,
        ]);
        Self {
            cause: self.cause,
            ..Self::not_sent(ProblemKind::TooManyRefusals, detail)
        }
    }

    /// Seconds after which sending it again is worth a try: only where it is known that nothing was
    /// sent, or where HTTP allows to repeat the method (RFC 9110 §9.2.2).
    pub fn retry_after(&self, method: &Method) -> Option<u32> {
        let repeatable = self.delivery == Delivery::NotSent || method.is_idempotent();
        let known = self.retry_after.map(NonZeroU32::get);
        known.or(self.kind.retry_after()).filter(|_| repeatable)
    }

    /// The whole answer; to HEAD without its body. `tool`: what the tool behind the forward is called; `None`: Jira.
    pub(in crate::http) fn response(
        &self,
        forward: &str,
        tool: Option<&ToolName>,
        method: &Method,
        ids: &RequestIds,
    ) -> Response<Bytes> {
        let status = self.kind.status(self.delivery);
        let request_id = String::from_utf8_lossy(ids.shown.as_bytes());
        let remedy = self.remedy(tool);
        let message = VendorText::of(&[
            &self.detail,
            &". ",
            &remedy,
            &" (request_id ",
            &VendorQuote(&request_id),
            &")",
        ]);
        let document = ProblemDocument {
            r#type: self.kind.uri(),
            title: &title(self.kind, tool),
            status: status.as_u16(),
            detail: &self.detail,
            reason: self.reason,
            request_id: &request_id,
            agent_request_id: &String::from_utf8_lossy(ids.own.as_bytes()),
            delivery: self.delivery,
            forward,
            remedy: &remedy,
            error_messages: [&message],
            errors: NoFields {},
            message: &message,
        };
        // Strings and a number: nothing in it can fail to serialize.
        let body = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(9);
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PROXY_STATUS, self.proxy_status());
        headers.insert(X_TUNNEL_ANSWERED_BY, BY_AGENT);
        headers.insert(super::request_id::X_REQUEST_ID, ids.shown.clone());
        self.insert_retry_after(headers, method);
        if method != Method::HEAD {
            *response.body_mut() = body;
        }
        response
    }

    fn insert_retry_after(&self, headers: &mut HeaderMap, method: &Method) {
        if let Some(seconds) = self.retry_after(method) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    /// `jira-tunnel-agent; error=…; details="…"`, RFC 9209 §2.
    fn proxy_status(&self) -> HeaderValue {
        let mut value = format!(
            "jira-tunnel-agent; error={}; details=\"",
            self.kind.proxy_error()
        );
        // A structured string holds printable ASCII only, RFC 8941 §3.3.3.
        for c in self.detail.as_str().chars().take(MAX_DETAILS) {
            match c {
                '"' | '\\' => value.extend(['\\', c]),
                ' '..='~' => value.push(c),
                _ => value.push('?'),
            }
        }
        value.push('"');
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("jira-tunnel-agent"))
    }
}

/// What the kind is, with a capital letter.
fn title(kind: ProblemKind, tool: Option<&ToolName>) -> Cow<'static, str> {
    match tool.map(|tool| tool.reword(kind.title())) {
        Some(Cow::Owned(mut reworded)) => {
            if let Some(first) = reworded.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            reworded.into()
        }
        Some(Cow::Borrowed(_)) | None => kind.title().into(),
    }
}

/// RFC 9457, with the members that clients of Jira read as extensions (§3.2 there).
#[derive(Serialize)]
struct ProblemDocument<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a VendorText,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    request_id: &'a str,
    agent_request_id: &'a str,
    delivery: Delivery,
    forward: &'a str,
    remedy: &'a VendorText,
    /// Jira's own shape since 5.0.
    #[serde(rename = "errorMessages")]
    error_messages: [&'a VendorText; 1],
    /// By field; it is never a field that is at fault here.
    errors: NoFields,
    /// Jira's own shape since 5.1.
    message: &'a VendorText,
}

/// `{}`.
#[derive(Serialize)]
struct NoFields {}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// A header line that proxies of all kinds still take.
const MAX_DETAILS: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn cells(line: &str) -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect()
    }

    fn delivery(name: &str) -> Delivery {
        match name {
            "not_sent" => Delivery::NotSent,
            "maybe_sent" => Delivery::MaybeSent,
            "answered" => Delivery::Answered,
            other => panic!("{other}"),
        }
    }

    /// 408, 425, 429 and 503 are the statuses that stock clients and proxies repeat by themselves, POST included.
    #[test]
    fn no_status_invites_a_repeat_of_what_jira_may_have_seen() {
        for kind in ProblemKind::ALL {
            for delivery in [Delivery::MaybeSent, Delivery::Answered] {
                let status = kind.status(delivery).as_u16();
                assert!(![408, 425, 429, 503].contains(&status), "{kind:?} {status}");
            }
        }
        assert_eq!(ProblemKind::Stopping.status(Delivery::NotSent), 503);
        assert_eq!(ProblemKind::Stopping.status(Delivery::MaybeSent), 502);
    }

    #[test]
    fn the_documented_list_is_the_list_of_the_code() {
        let document = include_str!("../../../../docs/errors.md");
        let rows: Vec<_> = document
            .lines()
            .skip_while(|line| !line.starts_with("| `type` (after"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(cells)
            .collect();
        let code: Vec<_> = ProblemKind::ALL
            .iter()
            .map(|kind| {
                let retry = kind.retry_after().map_or("–".to_owned(), |s| s.to_string());
                let mut statuses: Vec<_> = kind
                    .deliveries()
                    .split(", ")
                    .map(|name| kind.status(delivery(name)).as_u16().to_string())
                    .collect();
                statuses.dedup();
                vec![
                    kind.code().to_owned(),
                    statuses.join(", "),
                    kind.deliveries().to_owned(),
                    kind.proxy_error().to_owned(),
                    retry,
                ]
            })
            .collect();
        let documented: Vec<_> = rows.iter().map(|row| row[..5].to_vec()).collect();
        assert_eq!(documented, code);
        assert!(rows.iter().all(|row| row.len() == 6 && !row[5].is_empty()));
    }

    #[test]
    fn each_kind_says_what_it_is_in_headers_and_body() {
        let id = RequestIds::of(&HeaderMap::from_iter([(
            super::super::request_id::X_REQUEST_ID,
            HeaderValue::from_static("id-1"),
        )]));
        for kind in ProblemKind::ALL {
            let mut problem = HttpProblem::not_sent(kind, "a \"detail\" with \\ and ü");
            problem.cause = Some("CANARY: /etc/jira-pat".to_owned());
            let response = problem.response("jira", None, &Method::POST, &id);
            let headers = response.headers();
            assert_eq!(response.status(), kind.status(Delivery::NotSent));
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["x-request-id"], "id-1");
            assert_eq!(headers["x-tunnel-answered-by"], "agent");
            assert_eq!(
                headers["proxy-status"],
                format!(
                    "jira-tunnel-agent; error={}; details=\"a \\\"detail\\\" with \\\\ and ?\"",
                    kind.proxy_error()
                )
            );
            assert_eq!(
                headers.get("retry-after").is_some(),
                kind.retry_after().is_some(),
                "{kind:?}"
            );
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(
                body["type"],
                format!("urn:jira-tunnel-agent:problem:{}", kind.code())
            );
            assert_eq!(body["status"], response.status().as_u16());
            assert_eq!(body["request_id"], "id-1");
            assert_eq!(body["agent_request_id"], id.own.to_str().unwrap());
            assert_eq!(body["delivery"], "not_sent");
            assert_eq!(body["forward"], "jira");
            assert_eq!(body["detail"], "a \"detail\" with \\ and ü");
            for key in ["title", "remedy"] {
                assert!(!body[key].as_str().unwrap().is_empty(), "{kind:?} {key}");
            }
            let remedy = body["remedy"].as_str().unwrap();
            let message = format!("a \"detail\" with \\ and ü. {remedy} (request_id id-1)");
            assert_eq!(body["errorMessages"], serde_json::json!([message]));
            assert_eq!(body["errors"], serde_json::json!({}));
            assert_eq!(body["message"], message);
            assert!(!body.to_string().contains("CANARY"), "{kind:?}");
        }
    }

    #[test]
    fn each_text_speaks_of_the_tool_behind_the_forward() {
        let id = RequestIds::of(&HeaderMap::new());
        let tool = ToolName::new("the service");
        for kind in ProblemKind::ALL {
            let mut problem = HttpProblem::not_sent(kind, "nothing was sent to Jira");
            problem.cause = Some("Jira closed the connection".to_owned());
            let problem = problem.about(&tool);
            assert_eq!(
                problem.cause.as_deref(),
                Some("the service closed the connection")
            );
            let response = problem.response("scanner", Some(&tool), &Method::GET, &id);
            let text = String::from_utf8_lossy(response.body()).into_owned();
            assert!(!text.contains("Jira") && !text.contains("JQL"), "{text}");
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(body["detail"], "nothing was sent to the service");
            let title = body["title"].as_str().unwrap();
            assert!(title.starts_with(char::is_uppercase), "{title}");
            let details = response.headers()["proxy-status"].to_str().unwrap();
            assert!(!details.contains("Jira"), "{details}");
        }
    }

    #[test]
    fn a_post_that_may_have_been_sent_is_never_called_worth_retrying() {
        let mut problem = HttpProblem::not_sent(ProblemKind::JiraTimeout, "");
        problem.delivery = Delivery::MaybeSent;
        assert_eq!(problem.retry_after(&Method::POST), None);
        assert_eq!(problem.retry_after(&Method::PATCH), None);
        assert!(problem.retry_after(&Method::GET).is_some());
        assert!(problem.retry_after(&Method::PUT).is_some());
    }

    #[test]
    fn an_answer_to_head_has_the_length_but_no_body() {
        let id = RequestIds::of(&HeaderMap::from_iter([(
            super::super::request_id::X_REQUEST_ID,
            HeaderValue::from_static("id-1"),
        )]));
        let response = HttpProblem::not_sent(ProblemKind::Overloaded, "x").response(
            "jira",
            None,
            &Method::HEAD,
            &id,
        );
        assert!(response.body().is_empty());
        assert_ne!(response.headers()["content-length"], "0");
    }
}
