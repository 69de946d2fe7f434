//! Which field a name in a query means, and which operators it takes.

use super::Operator;
use crate::jira::world::fields::{FIELDS, Field, Kind};

/// A field as JQL knows it.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Key,
    /// Summary, description, environment and comments together.
    AllText,
    StatusCategory,
    Field(&'static Field),
}

pub(super) fn field(name: &str) -> Option<Target> {
    let name = name.trim();
    if KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)) {
        return Some(Target::Key);
    }
    if name.eq_ignore_ascii_case("text") {
        return Some(Target::AllText);
    }
    if name.eq_ignore_ascii_case("statusCategory") {
        return Some(Target::StatusCategory);
    }
    FIELDS
        .iter()
        .find(|field| {
            field
                .jql
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
        .map(Target::Field)
}

pub(super) fn allowed(target: Target, operator: Operator) -> bool {
    let like = matches!(operator, Operator::Like | Operator::NotLike);
    match target {
        Target::AllText => operator == Operator::Like,
        Target::Key | Target::StatusCategory => !like,
        Target::Field(field) => match field.kind {
            Kind::Summary | Kind::Text | Kind::Line => {
                like || matches!(operator, Operator::Is | Operator::IsNot)
            }
            Kind::Kept {
                schema: "comments-page",
                ..
            } => like,
            Kind::Versions => true,
            _ => !like,
        },
    }
}

pub(super) fn no_field(name: &str) -> String {
    format!("Field '{name}' does not exist or you do not have permission to view it.")
}

const KEYS: &[&str] = &["key", "issuekey", "issue", "id"];
