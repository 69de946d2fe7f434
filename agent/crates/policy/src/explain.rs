//! Explains a decision, for `agent policy explain`. Slower than deciding, and never used for requests.

use super::{
    CompiledPolicy, NormalTarget, NormalTargetError, PolicyDecision, PolicyRefusal, areas_of,
    printable, rules::PolicyRule,
};
use agent_base::vendor_text::VendorText;
use http::Method;
use std::{fmt, sync::Arc};

/// The decision on one request with everything that led to it. `Display` is what
/// `agent policy explain` prints.
#[derive(Debug)]
pub struct PolicyExplanation {
    /// The request, its target without the query.
    pub request: String,
    /// Method and normal form, as patterns see it; `None` if the target has none.
    pub read_as: Option<String>,
    /// The rules that match this path, in the order in which they are tried.
    pub considered: Vec<ConsideredRule>,
    /// The decision that [`CompiledPolicy::decide`] makes.
    pub decision: PolicyDecision,
    /// The reason, in one sentence.
    pub because: String,
    /// For a refusal: the required change of the configuration or the request.
    pub remedy: String,
    /// Says so if another request is explained than the given one, and why. Else empty.
    pub note: String,
}

impl PolicyExplanation {
    /// A request that never reaches the policy.
    pub fn refused_elsewhere(
        method: &Method,
        target: &[u8],
        code: &'static str,
        detail: &VendorText,
        remedy: &'static str,
    ) -> Self {
        let shown = target
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default();
        let shown = String::from_utf8_lossy(shown);
        Self {
            request: format!("{method} {}", shown.escape_debug()),
            read_as: None,
            considered: Vec::new(),
            decision: PolicyDecision::Allow { rule: "".into() },
            because: String::new(),
            remedy: String::new(),
            note: String::new(),
        }
        .but_refused(code, detail, remedy)
    }

    /// A request that the policy would allow, but something else refuses.
    pub fn but_refused(
        self,
        code: &'static str,
        detail: &VendorText,
        remedy: &'static str,
    ) -> Self {
        Self {
            decision: PolicyDecision::Refuse(PolicyRefusal {
                code,
                rule: None,
                detail: detail.clone(),
                remedy: remedy.into(),
            }),
            because: detail.to_string(),
            remedy: remedy.to_owned(),
            ..self
        }
    }
}

/// One rule that matches the path.
#[derive(Debug)]
pub struct ConsideredRule {
    /// The rule's label, as in [`PolicyDecision::Allow`].
    pub rule: Arc<str>,
    /// How this rule affected the decision.
    pub outcome: String,
}

impl CompiledPolicy {
    /// Decides as [`CompiledPolicy::decide`] does, with the reason.
    pub fn explain(&self, method: &Method, target: &str) -> PolicyExplanation {
        let decision = self.decide(method, target);
        let normal = NormalTarget::parse(target, &self.context_path);
        let considered = match &normal {
            Ok(normal) => self.considered(method, normal.segments().as_slice()),
            Err(_) => Vec::new(),
        };
        let because = match &decision {
            PolicyDecision::Allow { rule } => format!("the first rule that allows it is `{rule}`"),
            PolicyDecision::Refuse(refusal) => refusal.detail.to_string(),
        };
        let remedy = match (&decision, &normal) {
            (PolicyDecision::Allow { .. }, _) => String::new(),
            (PolicyDecision::Refuse(_), Err(error)) => remedy_for_target(error),
            (PolicyDecision::Refuse(refusal), Ok(normal)) => match refusal.code {
                "denied" => self.remedy_for_denied(method, normal.segments().as_slice()),
                _ => self.remedy_by_rule(method, normal.segments().as_slice()),
            },
        };
        let shown = target.split('?').next().unwrap_or_default();
        PolicyExplanation {
            request: format!("{method} {}", shown.escape_debug()),
            read_as: normal
                .ok()
                .map(|normal| format!("{method} {}", printable(normal.as_str()))),
            considered,
            decision,
            because,
            remedy,
            note: String::new(),
        }
    }

    fn remedy_for_denied(&self, method: &Method, path: &[&str]) -> String {
        let denying = self.deny.iter().filter(|rule| rule.matches(method, path));
        let labels: Vec<_> = denying.map(|rule| format!("`{}`", rule.label)).collect();
        format!(
            "deny wins over every allow: remove or narrow {}",
            labels.join(" and ")
        )
    }

    fn considered(&self, method: &Method, path: &[&str]) -> Vec<ConsideredRule> {
        let mut considered = Vec::new();
        let mut note = |rule: &Arc<str>, outcome: String| {
            considered.push(ConsideredRule {
                rule: Arc::clone(rule),
                outcome,
            });
        };
        for rule in self.deny.iter().filter(|rule| rule.matches_path(path)) {
            note(&rule.label, outcome(rule, method, "denies it"));
        }
        for area in areas_of(path) {
            let label = format!("always refused: {}", area.text).into();
            note(
                &label,
                "refused unless an allow rule names it literally".to_owned(),
            );
        }
        for rule in self.allow.iter().filter(|rule| rule.matches_path(path)) {
            let hidden = areas_of(path).find(|area| !rule.opens(area));
            let matched = match hidden {
                Some(area) => format!("matches, but does not name {} literally", area.text),
                None => "allows it".to_owned(),
            };
            note(&rule.label, outcome(rule, method, &matched));
        }
        considered
    }
}

impl fmt::Display for PolicyExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match &self.decision {
            PolicyDecision::Allow { .. } => "allowed",
            PolicyDecision::Refuse(refusal) => &format!("refused ({})", refusal.code),
        };
        writeln!(f, "{}: {verdict}", self.request)?;
        if !self.note.is_empty() {
            writeln!(f, "  note        {}", self.note)?;
        }
        if let Some(read_as) = &self.read_as {
            writeln!(f, "  read as     {read_as}")?;
        }
        for (at, ConsideredRule { rule, outcome }) in self.considered.iter().enumerate() {
            let head = if at == 0 { "considered" } else { "" };
            writeln!(f, "  {head:<11} {rule}: {outcome}")?;
        }
        write!(f, "  because     {}", self.because)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  remedy      {}", self.remedy)?;
        }
        Ok(())
    }
}

fn outcome(rule: &PolicyRule, method: &Method, matched: &str) -> String {
    if rule.method_matches(method) {
        matched.to_owned()
    } else {
        format!("applies to {}, not {method}", rule.methods_text())
    }
}

fn remedy_for_target(error: &NormalTargetError) -> String {
    match error {
        NormalTargetError::Ambiguous(_) => {
            "no rule can allow this target; the caller must change it".to_owned()
        }
        NormalTargetError::OutsideContextPath { context_path } => format!(
            "call it below {context_path}, as on the server itself: {context_path}/ and then the path of its documentation"
        ),
    }
}
