//! Why the policy decides as it does, for `agent policy explain`. Slower than deciding, and never on
//! the way of a request.

use super::{Decision, NormalTarget, Policy, TargetError, areas_of, method, pattern, presets};
use super::{method::Effect, printable, rules::Rule};
use http::Method;
use std::{fmt, sync::Arc};

/// The decision on one request with everything that led to it. `Display` is what
/// `agent policy explain` prints.
#[derive(Debug)]
pub struct Explanation {
    /// The request, its target without the query.
    pub request: String,
    /// Method and normal form, as patterns see it; `None` if the target has none.
    pub read_as: Option<String>,
    /// The rules that spoke of this path, in the order in which they are tried.
    pub considered: Vec<Considered>,
    /// What [`Policy::decide`] says.
    pub decision: Decision,
    /// Why, in one sentence.
    pub because: String,
    /// For a refusal: what would have to change, in the configuration or in the request.
    pub remedy: String,
}

/// One rule that spoke of the path.
#[derive(Debug)]
pub struct Considered {
    /// As in [`Decision::Allow`].
    pub rule: Arc<str>,
    /// What it contributed.
    pub outcome: String,
}

impl Policy {
    /// Decides as [`Policy::decide`] does and says why.
    pub fn explain(&self, method: &Method, target: &str) -> Explanation {
        let decision = self.decide(method, target);
        let normal = NormalTarget::parse(target, &self.context_path);
        let considered = match &normal {
            Ok(normal) => self.considered(method, normal.segments().as_slice()),
            Err(_) => Vec::new(),
        };
        let because = match &decision {
            Decision::Allow { rule } => format!("the first rule that allows it is `{rule}`"),
            Decision::Refuse(refusal) => refusal.detail.to_string(),
        };
        let remedy = match (&decision, &normal) {
            (Decision::Allow { .. }, _) => String::new(),
            (Decision::Refuse(_), Err(error)) => remedy_for_target(error),
            (Decision::Refuse(refusal), Ok(normal)) => match refusal.code {
                "denied" => {
                    "deny wins over every allow: remove or narrow that deny rule".to_owned()
                }
                _ => self.remedy_by_rule(method, normal),
            },
        };
        let shown = target.split('?').next().unwrap_or_default();
        Explanation {
            request: format!("{method} {}", shown.escape_debug()),
            read_as: normal
                .ok()
                .map(|normal| format!("{method} {}", printable(normal.as_str()))),
            considered,
            decision,
            because,
            remedy,
        }
    }

    fn considered(&self, method: &Method, path: &[&str]) -> Vec<Considered> {
        let mut considered = Vec::new();
        let mut note = |rule: &Arc<str>, outcome: String| {
            considered.push(Considered {
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
            let hidden = areas_of(path).find(|area| !rule.names(area));
            let matched = match hidden {
                Some(area) => format!("matches, but does not name {} literally", area.text),
                None => "allows it".to_owned(),
            };
            note(&rule.label, outcome(rule, method, &matched));
        }
        considered
    }

    /// The shortest change to the policy that would allow the request.
    fn remedy_by_rule(&self, method: &Method, normal: &NormalTarget<'_>) -> String {
        let segments = normal.segments();
        let path = segments.as_slice();
        if !method::is_known(method) {
            return "no rule can allow this method".to_owned();
        }
        let allows = |text: &String| {
            Rule::parse(text, "", Effect::Allow, &self.context_path)
                .is_ok_and(|rule| opens(&rule, method, path))
        };
        let Some(rule) = narrow_rule(method, path).filter(allows) else {
            return "no rule can name this path".to_owned();
        };
        let by_rule = format!("allow = [\"{rule}\"]");
        match self.unused_preset(method, path) {
            Some(name) => format!("add presets = [\"{name}\"] or {by_rule} to [forward.policy]"),
            None => format!("add {by_rule} to [forward.policy]"),
        }
    }

    /// A preset that this policy does not use and that would allow the request. `ticketing` comes
    /// before the rarer ones.
    fn unused_preset(&self, method: &Method, path: &[&str]) -> Option<&'static str> {
        let allows = |text: &str| {
            Rule::parse(text, "", Effect::Allow, "").is_ok_and(|rule| opens(&rule, method, path))
        };
        presets()
            .iter()
            .filter(|preset| !self.presets.iter().any(|used| used == preset.name))
            .find(|preset| preset.rules().any(allows))
            .map(|preset| preset.name)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match &self.decision {
            Decision::Allow { .. } => "allowed",
            Decision::Refuse(refusal) => &format!("refused ({})", refusal.code),
        };
        writeln!(f, "{}: {verdict}", self.request)?;
        if let Some(read_as) = &self.read_as {
            writeln!(f, "  read as     {read_as}")?;
        }
        for (at, Considered { rule, outcome }) in self.considered.iter().enumerate() {
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

fn opens(rule: &Rule, method: &Method, path: &[&str]) -> bool {
    rule.matches(method, path) && areas_of(path).all(|area| rule.names(area))
}

fn outcome(rule: &Rule, method: &Method, matched: &str) -> String {
    if rule.method_matches(method) {
        matched.to_owned()
    } else {
        format!("speaks of {}, not {method}", rule.methods_text())
    }
}

fn remedy_for_target(error: &TargetError) -> String {
    match error {
        TargetError::Ambiguous(_) => {
            "no rule can allow this target; the caller has to write it without that".to_owned()
        }
        TargetError::OutsideContextPath { context_path } => format!(
            "call it with the path it has on Jira itself, like {context_path}/rest/api/2/issue"
        ),
    }
}

/// A rule for this path and its like: ids become typed segments, unless the path has to be named.
fn narrow_rule(method: &Method, path: &[&str]) -> Option<String> {
    let has_to_be_named = areas_of(path).next().is_some();
    let is_api = path.first() == Some(&"rest");
    let mut rule = format!("{method} ");
    if path.is_empty() {
        rule.push('/');
    }
    for (at, part) in path.iter().enumerate() {
        let is_version = is_api && at == 2;
        let written = match *part {
            _ if has_to_be_named => pattern::literal(part).is_ok().then_some(*part),
            _ if is_version => Some(*part),
            _ if pattern::is_number(part) => Some("{number}"),
            _ if pattern::is_issue(part) => Some("{issue}"),
            _ if pattern::literal(part).is_ok() => Some(*part),
            _ => Some("*"),
        };
        rule.push('/');
        rule.push_str(written?);
    }
    Some(rule)
}
