//! Raw request target → one normal form or a refusal → first matching rule. Default deny.

use http::Method;

/// The customer's policy for one forward, compiled.
#[derive(Debug)]
pub struct Policy {}

/// The `[forward.policy]` section and the context path of the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names of presets, see `docs/policy.md`.
    pub presets: Vec<String>,
    /// Rules like `POST /rest/api/2/issue/bulk`.
    pub allow: Vec<String>,
    /// Rules that win over every allow.
    pub deny: Vec<String>,
    /// Jira's context path, `""` or like `/jira`; never ends in a slash.
    pub context_path: String,
}

/// What the policy says of one request.
#[derive(Debug)]
pub enum Decision {
    /// It may pass, byte for byte as it came.
    Allow {
        /// The rule that let it pass, for the audit line: `preset ticketing: POST /rest/api/(2|latest)/issue`.
        rule: std::sync::Arc<str>,
    },
    /// It is refused.
    Refuse(Refusal),
}

/// Why a request was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// `ambiguous-target`, `outside-context-path`, `always-refused`, `denied`, `no-rule`.
    pub code: &'static str,
    /// The rule that decided, where one did.
    pub rule: Option<std::sync::Arc<str>>,
    /// One sentence for the vendor's engineer; repeats no query.
    pub detail: String,
}

/// A rule or preset that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{text:?}: {problem}")]
pub struct RuleError {
    /// `presets`, `allow` or `deny`, and the position in it.
    pub key: String,
    /// The text as written.
    pub text: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Policy {
    /// Compiles presets and rules.
    pub fn new(settings: &Settings) -> Result<Self, RuleError> {
        let _ = settings;
        Ok(Self {})
    }

    /// Decides on one request. `target` is the raw request target as it came on the wire.
    pub fn decide(&self, method: &Method, target: &str) -> Decision {
        let _ = (method, target);
        Decision::Refuse(Refusal {
            code: "no-rule",
            rule: None,
            detail: String::new(),
        })
    }
}
