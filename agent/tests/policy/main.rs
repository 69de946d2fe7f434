//! What the policy promises, tried from outside: the table of targets, properties, presets, rules
//! and the document.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod documents;
mod presets;
mod properties;
mod rules;
mod strategies;
mod table;
mod targets;

use agent::policy::{CompiledPolicy, PolicyDecision, RuleError, Settings};

fn settings(presets: &[&str], allow: &[&str], deny: &[&str], context_path: &str) -> Settings {
    let list = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    Settings {
        presets: list(presets),
        allow: list(allow),
        deny: list(deny),
        context_path: context_path.to_owned(),
        ..Settings::default()
    }
}

fn policy(presets: &[&str], allow: &[&str], deny: &[&str], context_path: &str) -> CompiledPolicy {
    CompiledPolicy::new(&settings(presets, allow, deny, context_path)).unwrap()
}

fn error(presets: &[&str], allow: &[&str], deny: &[&str], context_path: &str) -> RuleError {
    CompiledPolicy::new(&settings(presets, allow, deny, context_path))
        .expect_err("it cannot be used")
}

/// `allow`, or the code of the refusal.
fn code(decision: &PolicyDecision) -> &'static str {
    match decision {
        PolicyDecision::Allow { .. } => "allow",
        PolicyDecision::Refuse(refusal) => refusal.code,
    }
}
