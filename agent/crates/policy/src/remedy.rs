//! Remedies for refused requests: for the vendor what to ask for, for the administrator the narrowest change.

use super::{
    CompiledPolicy, NormalTargetError, areas_of, method, method::RuleEffect, pattern,
    presets::PresetCatalog, rules::PolicyRule,
};
use agent_base::vendor_text::{ContextPath, VendorQuote, VendorText};
use http::Method;

impl CompiledPolicy {
    /// For the vendor: remedy for a target without a normal form.
    pub(super) fn vendor_remedy_for(&self, error: &NormalTargetError) -> VendorText {
        match error {
            NormalTargetError::Ambiguous(_) => "Send the path in its plain form, without dot segments, encoded slashes, semicolons or empty segments, and with other special characters percent-encoded.".into(),
            NormalTargetError::OutsideContextPath { .. } => VendorText::of(&[
                &"Call it below ",
                &ContextPath(&self.context_path),
                &", with the path it has on the server itself: ",
                &ContextPath(&self.context_path),
                &"/ and then the path of its documentation.",
            ]),
        }
    }

    /// For the vendor: the missing rule to ask for.
    pub(super) fn vendor_remedy_by_rule(&self, method: &Method, path: &[&str]) -> VendorText {
        match self.missing_rule(method, path) {
            Some(rule) => VendorText::of(&[
                &"If you need this, ask the customer to allow it with the rule `",
                &VendorQuote(&rule),
                &"`, and quote request_id.",
            ]),
            None => "No rule of the customer's can allow this path; call another one.".into(),
        }
    }

    /// For the administrator: the narrowest rule, as the whole array, since an array in a drop-in replaces the
    /// previous one. A preset that would work comes last: it allows more.
    pub(super) fn remedy_by_rule(&self, method: &Method, path: &[&str]) -> String {
        if !method::is_known(method) {
            return "no rule can allow this method".to_owned();
        }
        let Some(rule) = self.missing_rule(method, path) else {
            return "no rule can name this path".to_owned();
        };
        let own = self.own_allow.iter().map(String::as_str);
        let allow = toml_array(own.chain([rule.as_str()]));
        let by_rule = format!(
            "write this whole array into [forward.policy], since it replaces the previous one: allow = {allow}"
        );
        match self.unused_preset(method, path) {
            Some(name) => {
                let used = self.presets.iter().map(String::as_str);
                let presets = toml_array(used.chain([name]));
                format!("{by_rule}; or, which allows more: presets = {presets}")
            }
            None => by_rule,
        }
    }

    /// The narrowest rule that would allow it.
    fn missing_rule(&self, method: &Method, path: &[&str]) -> Option<String> {
        let allows = |text: &String| {
            PolicyRule::parse(text, "", RuleEffect::Allow, &self.context_path)
                .is_ok_and(|rule| opens(&rule, method, path))
        };
        narrow_rule(method, path).filter(allows)
    }

    /// A preset that this policy does not use and that would allow the request. `ticketing` comes
    /// before the rarer ones.
    fn unused_preset(&self, method: &Method, path: &[&str]) -> Option<&str> {
        let allows = |text: &&str| {
            PolicyRule::parse(text, "", RuleEffect::Allow, "")
                .is_ok_and(|rule| opens(&rule, method, path))
        };
        let catalog = PresetCatalog::of(self.service_presets.as_deref()).all();
        catalog
            .into_iter()
            .filter(|(name, _)| !self.presets.iter().any(|used| used == name))
            .find(|(_, rules)| rules.iter().any(allows))
            .map(|(name, _)| name)
    }
}

fn opens(rule: &PolicyRule, method: &Method, path: &[&str]) -> bool {
    rule.matches(method, path) && areas_of(path).all(|area| rule.opens(area))
}

/// A TOML array. Rules and names of presets need no escapes.
fn toml_array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

/// A rule for this path and its like: ids become typed segments, unless the path has to be named.
fn narrow_rule(method: &Method, path: &[&str]) -> Option<String> {
    let needs_literal = areas_of(path).next().is_some();
    let is_api = path.first() == Some(&"rest");
    let mut rule = format!("{method} ");
    if path.is_empty() {
        rule.push('/');
    }
    for (at, part) in path.iter().enumerate() {
        let is_version = is_api && at == 2;
        let written = match *part {
            _ if needs_literal => pattern::literal(part).is_ok().then_some(*part),
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
