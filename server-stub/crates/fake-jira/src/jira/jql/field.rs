//! The fields of JQL by name, and their operators.

use super::JqlOperator;
use crate::jira::model::fields::{FIELDS, FieldDefinition, FieldKind};

/// A field that a query can name.
#[derive(Clone, Copy)]
pub(super) enum JqlField {
    Key,
    /// `text`: summary, description, environment and comments.
    AllText,
    StatusCategory,
    Field(&'static FieldDefinition),
}

pub(super) fn field(name: &str) -> Option<JqlField> {
    let name = name.trim();
    if KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)) {
        return Some(JqlField::Key);
    }
    if name.eq_ignore_ascii_case("text") {
        return Some(JqlField::AllText);
    }
    if name.eq_ignore_ascii_case("statusCategory") {
        return Some(JqlField::StatusCategory);
    }
    FIELDS
        .iter()
        .find(|field| {
            field
                .jql
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
        .map(JqlField::Field)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are treated alike"
)]
pub(super) fn allowed(target: JqlField, operator: JqlOperator) -> bool {
    let like = matches!(operator, JqlOperator::Like | JqlOperator::NotLike);
    match target {
        JqlField::AllText => operator == JqlOperator::Like,
        JqlField::Key | JqlField::StatusCategory => !like,
        JqlField::Field(field) => match field.kind {
            FieldKind::Summary | FieldKind::Text | FieldKind::Line => {
                like || matches!(operator, JqlOperator::Is | JqlOperator::IsNot)
            }
            FieldKind::Stored {
                schema: "comments-page",
                ..
            } => like,
            FieldKind::Versions => true,
            _ => !like,
        },
    }
}

pub(super) fn no_field(name: &str) -> String {
    format!("Field '{name}' does not exist or you do not have permission to view it.")
}

const KEYS: &[&str] = &["key", "issuekey", "issue", "id"];
