//! One rule of the customer's policy, and the paths that no rule opens by a wildcard.

use super::file_name;
use super::method::{RuleEffect, RuleMethods};
use super::pattern::{PathPattern, SegmentComparison, fold_case};
use http::Method;
use std::sync::Arc;

/// One rule of the policy, compiled.
#[derive(Debug)]
pub(super) struct PolicyRule {
    /// Its name and text: `allow[0]: POST /rest/api/2/issue/bulk`.
    pub(super) label: Arc<str>,
    methods: RuleMethods,
    pattern: PathPattern,
    effect: RuleEffect,
}

impl PolicyRule {
    /// Reads `METHOD[,METHOD] /path/pattern`. `name` is its name in the configuration.
    pub(super) fn parse(
        text: &str,
        name: &str,
        effect: RuleEffect,
        context_path: &str,
    ) -> Result<Self, String> {
        let (methods, path) = split_rule(text)?;
        let methods = RuleMethods::parse(methods, effect)?;
        if let Some(below) = path.strip_prefix(context_path)
            && !context_path.is_empty()
            && (below.is_empty() || below.starts_with('/'))
        {
            return Err(format!(
                "patterns omit the context path {context_path}, as Jira's documentation does; write {}",
                if below.is_empty() { "/" } else { below }
            ));
        }
        Ok(Self {
            label: format!("{name}: {text}").into(),
            methods,
            pattern: PathPattern::parse(path)?,
            effect,
        })
    }

    /// Whether the rule matches this request.
    pub(super) fn matches(&self, method: &Method, path: &[&str]) -> bool {
        self.methods.contains(method) && self.matches_path(path)
    }

    /// Whether the rule covers this method, for any path.
    pub(super) fn method_matches(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// Whether the rule matches this path, for any method.
    pub(super) fn matches_path(&self, path: &[&str]) -> bool {
        self.pattern.matches(
            path,
            match self.effect {
                RuleEffect::Allow => SegmentComparison::Exact,
                RuleEffect::Deny => SegmentComparison::Generous,
            },
        )
    }

    /// The methods as written.
    pub(super) fn methods_text(&self) -> &str {
        let rule = self.text();
        rule.split_once(' ').map_or(rule, |(methods, _)| methods)
    }

    /// The rule as written.
    pub(super) fn text(&self) -> &str {
        self.label.split_once(": ").map_or("", |(_, rule)| rule)
    }

    /// The path pattern as written.
    pub(super) fn path_text(&self) -> &str {
        self.text().split_once(' ').map_or("", |(_, path)| path)
    }

    /// The preset or entry that it is from: `preset ticketing`, `allow[0]`.
    pub(super) fn source(&self) -> &str {
        self.label.split_once(": ").map_or("", |(source, _)| source)
    }

    /// Whether the pattern names literally what makes this area sensitive.
    pub(super) fn opens(&self, area: &ProtectedArea) -> bool {
        match area.named_by {
            NamedBy::Whole => self.pattern.is_literal(),
            NamedBy::Parts => area.parts.iter().enumerate().all(|(at, part)| {
                matches!(part, AreaSegment::Any) || self.pattern.is_literal_at(at)
            }),
        }
    }
}

/// Paths that are refused whatever a rule says, unless the rule names them literally.
pub(super) struct ProtectedArea {
    /// The pattern as in the documentation.
    pub(super) text: &'static str,
    /// What these paths do, as the reason for the refusal.
    pub(super) why: &'static str,
    parts: &'static [AreaSegment],
    ending: &'static str,
    named_by: NamedBy,
}

impl ProtectedArea {
    /// Whether a path lies in it. Letter case, as Java folds it, makes no difference: this only ever refuses. The name
    /// of an attachment has no extension that Jira routes by: the path before it belongs to a separate servlet.
    pub(super) fn contains(&self, path: &[&str]) -> bool {
        path.len() >= self.parts.len()
            && self
                .parts
                .iter()
                .zip(path)
                .all(|(part, segment)| match part {
                    AreaSegment::Is(name) => fold_case(segment).eq_ignore_ascii_case(name),
                    AreaSegment::StartsWith(start) => has_prefix(&fold_case(segment), start),
                    AreaSegment::Any => true,
                })
            && path.last().is_some_and(|last| {
                self.ending.is_empty()
                    || !file_name::is_last_of(path) && has_suffix(&fold_case(last), self.ending)
            })
    }
}

/// One leading segment of an area.
enum AreaSegment {
    Is(&'static str),
    StartsWith(&'static str),
    Any,
}

/// What a rule must name literally to open an area.
enum NamedBy {
    /// The segments that make it sensitive; wildcards may follow them.
    Parts,
    /// The whole path, without any wildcard.
    Whole,
}

/// The areas that contain a path.
pub(super) fn areas_of<'a>(
    path: &'a [&'a str],
) -> impl Iterator<Item = &'static ProtectedArea> + 'a {
    ALWAYS_REFUSED.iter().filter(|area| area.contains(path))
}

fn split_rule(text: &str) -> Result<(&str, &str), String> {
    let mut words = text.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(methods), Some(path), None) if !methods.is_empty() && !path.is_empty() => {
            Ok((methods, path))
        }
        (Some(path), None, None) if path.starts_with('/') => Err(format!(
            "column 1: the method is missing; write `GET {path}`, or `* {path}` for every method"
        )),
        (Some(methods), None, None) if !methods.is_empty() => Err(format!(
            "the path is missing; write like `{methods} /rest/api/2/issue`"
        )),
        (Some(""), None, None) => {
            Err("the rule is empty; write like `POST /rest/api/2/issue`".to_owned())
        }
        _ => Err(
            "a rule is methods joined by commas, one space, and a path pattern, like \
             `GET,POST /rest/api/2/search`"
                .to_owned(),
        ),
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    let Some(at) = text.len().checked_sub(suffix.len()) else {
        return false;
    };
    text.as_bytes()[at..].eq_ignore_ascii_case(suffix.as_bytes())
}

const fn area_below(
    text: &'static str,
    parts: &'static [AreaSegment],
    why: &'static str,
) -> ProtectedArea {
    ProtectedArea {
        text,
        why,
        parts,
        ending: "",
        named_by: NamedBy::Parts,
    }
}

pub(super) static ALWAYS_REFUSED: [ProtectedArea; 9] = [
    area_below(
        "/rest/pat/**",
        &[AreaSegment::Is("rest"), AreaSegment::Is("pat")],
        "creates, lists and revokes personal access tokens",
    ),
    area_below(
        "/rest/oauth2/*/client**",
        &[
            AreaSegment::Is("rest"),
            AreaSegment::Is("oauth2"),
            AreaSegment::Any,
            AreaSegment::StartsWith("client"),
        ],
        "configures OAuth 2.0 clients and shows their secrets",
    ),
    area_below(
        "/rest/auth/**",
        &[AreaSegment::Is("rest"), AreaSegment::Is("auth")],
        "logs in with a password and opens sessions",
    ),
    area_below(
        "/rest/basicauth/**",
        &[AreaSegment::Is("rest"), AreaSegment::Is("basicauth")],
        "switches Basic authentication on and off",
    ),
    area_below(
        "/rest/plugins/**",
        &[AreaSegment::Is("rest"), AreaSegment::Is("plugins")],
        "installs code into Jira",
    ),
    area_below(
        "/secure/admin/**",
        &[AreaSegment::Is("secure"), AreaSegment::Is("admin")],
        "Jira's administration",
    ),
    ProtectedArea {
        named_by: NamedBy::Whole,
        ..area_below(
            "/plugins/servlet/**",
            &[AreaSegment::Is("plugins"), AreaSegment::Is("servlet")],
            "whatever installed apps provide there",
        )
    },
    ProtectedArea {
        ending: ".jspa",
        named_by: NamedBy::Whole,
        ..area_below(
            "/**.jspa",
            &[],
            "Jira's web actions, administration included, answer at any path with this ending",
        )
    },
    ProtectedArea {
        named_by: NamedBy::Whole,
        ..area_below(
            "/s/**",
            &[AreaSegment::Is("s")],
            "Jira rewrites /s/…/_/x to /x, so any path can hide below it",
        )
    },
];
