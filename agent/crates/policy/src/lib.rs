//! Raw request target → one normal form or a refusal → first matching rule. Default deny.
//!
//! [`target`](NormalTarget) reads the target, `query` finds what could override it, `rules` and `pattern` compile what
//! the customer wrote, [`presets()`] are named sets of rules, [`ScopedRequest`] names the scopes of an OAuth token that they
//! need, and [`PolicyExplanation`] shows an administrator why.
//! Nothing here knows connections or credentials.
#![forbid(unsafe_code)]

mod explain;
mod file_name;
#[cfg(any(test, fuzzing))]
pub mod fuzz_properties;
mod method;
mod pattern;
mod presets;
mod query;
mod remedy;
mod rules;
mod scope_table;
mod scopes;
mod target;

pub use explain::{ConsideredRule, PolicyExplanation};
pub use presets::{Preset, ServicePreset, presets};
pub use query::{method_override_headers, path_override_headers};
pub use scopes::{ChangingRule, ScopedRequest, documented_scopes};
pub use target::require_sendable;
pub use target::{NormalTarget, NormalTargetError};

use agent_base::spelling::nearest;
use agent_base::vendor_text::{VendorPart, VendorQuote, VendorText};
use http::Method;
use method::RuleEffect;
use presets::PresetCatalog;
use rules::{ALWAYS_REFUSED, PolicyRule, areas_of};
use std::sync::Arc;

/// The customer's policy for one forward, compiled.
#[derive(Debug)]
pub struct CompiledPolicy {
    context_path: Box<str>,
    /// Presets first, then the customer's own.
    allow: Vec<PolicyRule>,
    deny: Vec<PolicyRule>,
    presets: Vec<String>,
    /// Those of the forward's tool; `None`: Jira's.
    service_presets: Option<Arc<[ServicePreset]>>,
    /// `allow` as written.
    own_allow: Vec<String>,
}

/// The `[forward.policy]` section and the context path of the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names of presets, see `docs/policy.md`.
    pub presets: Vec<String>,
    /// The presets that may be named, where the tool behind the forward is not Jira.
    pub service_presets: Option<Arc<[ServicePreset]>>,
    /// Rules like `POST /rest/api/2/issue/bulk`.
    pub allow: Vec<String>,
    /// Rules that win over every allow.
    pub deny: Vec<String>,
    /// Jira's context path, `""` or like `/jira`; never ends in a slash.
    pub context_path: String,
}

/// The decision on one request.
#[derive(Clone, Debug)]
pub enum PolicyDecision {
    /// It may pass, byte for byte as it came.
    Allow {
        /// The rule that allowed it, for the audit line: `preset bulk: POST /rest/api/(2|latest)/issue/bulk`.
        rule: Arc<str>,
    },
    /// The request is refused, for this reason.
    Refuse(PolicyRefusal),
}

/// Why a request was refused.
#[derive(Clone, Debug)]
pub struct PolicyRefusal {
    /// `ambiguous-target`, `outside-context-path`, `always-refused`, `denied`, `no-rule`.
    pub code: &'static str,
    /// The rule that decided, where one did: `deny[0]: * /rest/api/2/user/**`.
    pub rule: Option<Arc<str>>,
    /// One sentence for the vendor's engineer; repeats no query.
    pub detail: VendorText,
    /// What the vendor's engineer can do.
    pub remedy: VendorText,
}

/// A rule or preset that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{text:?}: {problem}")]
pub struct RuleError {
    /// The key and the position in it: `presets[0]`, `allow[2]`, `deny[0]`; or `upstream` where its
    /// path cannot be a context path.
    pub key: String,
    /// The text as written.
    pub text: String,
    /// What is wrong, and the remedy.
    pub problem: String,
}

impl CompiledPolicy {
    /// Compiles presets and rules. The error names the first one that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, RuleError> {
        let context = settings.context_path.as_str();
        require_context_path(context)?;
        let mut allow = Vec::new();
        let catalog = PresetCatalog::of(settings.service_presets.as_deref()).all();
        for (at, name) in settings.presets.iter().enumerate() {
            let fail = |problem| rule_error(format!("presets[{at}]"), name, problem);
            let preset = catalog.iter().find(|(known, _)| known == name);
            let (_, rules) = preset.ok_or_else(|| fail(unknown_preset(name, &catalog)))?;
            for text in rules {
                // Presets never contain the context path.
                let rule =
                    PolicyRule::parse(text, &format!("preset {name}"), RuleEffect::Allow, "");
                allow.push(rule.map_err(fail)?);
            }
        }
        let compile = |list: &[String], key: &str, effect| -> Result<Vec<PolicyRule>, RuleError> {
            let rules = list.iter().enumerate().map(|(at, text)| {
                let label = format!("{key}[{at}]");
                PolicyRule::parse(text, &label, effect, context)
                    .map_err(|problem| rule_error(label, text, problem))
            });
            rules.collect()
        };
        allow.extend(compile(&settings.allow, "allow", RuleEffect::Allow)?);
        Ok(Self {
            context_path: context.into(),
            allow,
            deny: compile(&settings.deny, "deny", RuleEffect::Deny)?,
            presets: settings.presets.clone(),
            service_presets: settings.service_presets.clone(),
            own_allow: settings.allow.clone(),
        })
    }

    /// Jira's context path, `""` or like `/jira`.
    pub fn context_path(&self) -> &str {
        &self.context_path
    }

    /// Decides on one request. `target` is the raw request target as it came on the wire: on HTTP/1.1
    /// the whole of it, so that absolute-form is seen; on HTTP/2 `:path`.
    pub fn decide(&self, method: &Method, target: &str) -> PolicyDecision {
        let normal = match NormalTarget::parse(target, &self.context_path) {
            Ok(normal) => normal,
            Err(error) => {
                let detail = error.vendor_text();
                return refuse(error.code(), None, detail, self.vendor_remedy_for(&error));
            }
        };
        let segments = normal.segments();
        let path = segments.as_slice();
        if !method::is_known(method) {
            return refuse_method(method);
        }
        if let Some(rule) = self.deny.iter().find(|rule| rule.matches(method, path)) {
            return refuse(
                "denied",
                Some(Arc::clone(&rule.label)),
                with_request("the customer's policy denies ", method, &normal, &[]),
                "The customer has denied this on purpose. If you need it, ask them and quote request_id.".into(),
            );
        }
        let is_sensitive = areas_of(path).next().is_some();
        let opens = |rule: &&PolicyRule| {
            rule.matches(method, path)
                && (!is_sensitive || areas_of(path).all(|area| rule.opens(area)))
        };
        if let Some(rule) = self.allow.iter().find(opens) {
            return PolicyDecision::Allow {
                rule: Arc::clone(&rule.label),
            };
        }
        match areas_of(path).next() {
            Some(area) => refuse(
                "always-refused",
                Some(format!("always refused: {}", area.text).into()),
                with_request(
                    "",
                    method,
                    &normal,
                    &[
                        &" is refused unless the customer's policy names it literally: ",
                        &area.why,
                    ],
                ),
                "If you need this, ask the customer to name this path in a separate rule, and quote request_id."
                    .into(),
            ),
            None => refuse(
                "no-rule",
                None,
                with_request(
                    "no rule of the customer's policy allows ",
                    method,
                    &normal,
                    &[],
                ),
                self.vendor_remedy_by_rule(method, path),
            ),
        }
    }
}

impl PolicyDecision {
    /// `allow`, or the code of the refusal.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Refuse(refusal) => refusal.code,
        }
    }

    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

impl NormalTargetError {
    fn code(&self) -> &'static str {
        match self {
            Self::Ambiguous(_) => "ambiguous-target",
            Self::OutsideContextPath { .. } => "outside-context-path",
        }
    }
}

/// The always-refused paths as in `docs/policy.md`, each with the reason.
pub fn always_refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALWAYS_REFUSED.iter().map(|area| (area.text, area.why))
}

fn refuse(
    code: &'static str,
    rule: Option<Arc<str>>,
    detail: VendorText,
    remedy: VendorText,
) -> PolicyDecision {
    PolicyDecision::Refuse(PolicyRefusal {
        code,
        rule,
        detail,
        remedy,
    })
}

fn refuse_method(method: &Method) -> PolicyDecision {
    let upper = method.as_str().to_ascii_uppercase();
    if upper == "TRACE" || upper == "CONNECT" {
        let rule = format!("always refused: {upper}");
        let detail = VendorText::of(&[&"the method ", method, &" is always refused"]);
        let remedy = "Use another method; no setting of the customer's allows this one.";
        return refuse("always-refused", Some(rule.into()), detail, remedy.into());
    }
    let detail = VendorText::of(&[
        &"the method ",
        method,
        &" is refused; methods are case-sensitive and one of ",
        &method::METHOD_NAMES,
    ]);
    let remedy = "Use one of these methods; no rule of the customer's can name another.";
    refuse("no-rule", None, detail, remedy.into())
}

/// A sentence that contains method and path.
fn with_request(
    before: &'static str,
    method: &Method,
    normal: &NormalTarget<'_>,
    after: &[&dyn VendorPart],
) -> VendorText {
    let path = VendorQuote(normal.as_str());
    let mut parts: Vec<&dyn VendorPart> = vec![&before, method, &" ", &path];
    parts.extend(after);
    VendorText::of(&parts)
}

/// A normal form has no control characters, but may have others that reorder text on a screen.
fn printable(path: &str) -> String {
    let escaped = |c: char| match c.is_ascii() {
        true => c.to_string(),
        false => c.escape_debug().to_string(),
    };
    path.chars().map(escaped).collect()
}

fn require_context_path(context: &str) -> Result<(), RuleError> {
    let is_normal = |context| NormalTarget::parse(context, "").is_ok_and(|n| n.as_str() == context);
    if context.is_empty() || (context != "/" && is_normal(context)) {
        return Ok(());
    }
    Err(rule_error(
        "upstream".to_owned(),
        context,
        "the path of the upstream URL is Jira's context path: like /jira, without encoded \
         characters, or nothing"
            .to_owned(),
    ))
}

fn unknown_preset(name: &str, catalog: &[(&str, Vec<&str>)]) -> String {
    let names: Vec<_> = catalog.iter().map(|(name, _)| *name).collect();
    let known = match names.is_empty() {
        true => "none for this service; write rules with allow".to_owned(),
        false => names.join(", "),
    };
    match nearest(name, names.iter().copied()) {
        Some(meant) => {
            format!("unknown preset; did you mean {meant:?}? Known: {known}")
        }
        None => format!("unknown preset; known: {known}"),
    }
}

fn rule_error(key: String, text: &str, problem: String) -> RuleError {
    RuleError {
        key,
        text: text.to_owned(),
        problem,
    }
}
