//! What changed between two states of an issue, as in `changelog` of a webhook.

use serde_json::{Value, json};

use super::view::RestView;
use crate::jira::model::fields::FIELDS;
use crate::jira::model::{Attachment, Issue, ProjectPart};

/// One changed field.
pub(super) struct ChangelogItem {
    /// The field's id in `fields`.
    pub field_id: &'static str,
    /// The field's name in a changelog, which can differ from both id and name.
    name: &'static str,
    custom: bool,
    from: Option<String>,
    from_text: Option<String>,
    to: Option<String>,
    to_text: Option<String>,
}

/// A value: what stands for it, and its text.
type ChangedValue = (Option<String>, Option<String>);

impl ChangelogItem {
    /// The changes in the order of Jira's fields.
    pub(super) fn between(view: &RestView<'_>, before: &Issue, after: &Issue) -> Vec<Self> {
        let mut items = Vec::new();
        for &(field_id, name) in SINGLE_FIELDS {
            let (old, new) = (
                single(view, before, field_id),
                single(view, after, field_id),
            );
            if old != new {
                items.push(Self::new(field_id, name, false, old, new));
            }
        }
        for field in FIELDS {
            let (old, new) = (before.plain.get(field.id), after.plain.get(field.id));
            if old != new {
                let value = |value: Option<&Value>| (None, value.and_then(plain_text));
                let name = match field.is_custom() {
                    true => field.name,
                    false => field.id,
                };
                let custom = field.is_custom();
                items.push(Self::new(field.id, name, custom, value(old), value(new)));
            }
        }
        let project = view.model.projects.get(after.project);
        let no_parts = Vec::new();
        let components = project.map_or(&no_parts, |project| &project.components);
        let versions = project.map_or(&no_parts, |project| &project.versions);
        for (field_id, name, old, new, parts) in [
            (
                "components",
                "Component",
                &before.components,
                &after.components,
                components,
            ),
            (
                "versions",
                "Version",
                &before.versions,
                &after.versions,
                versions,
            ),
            (
                "fixVersions",
                "Fix Version",
                &before.fix_versions,
                &after.fix_versions,
                versions,
            ),
        ] {
            // Jira has one item for each part that is removed or added.
            for part in old.iter().filter(|part| !new.contains(part)) {
                let old = part_value(parts, *part);
                items.push(Self::new(field_id, name, false, old, (None, None)));
            }
            for part in new.iter().filter(|part| !old.contains(part)) {
                let new = part_value(parts, *part);
                items.push(Self::new(field_id, name, false, (None, None), new));
            }
        }
        items
    }

    /// The item of a new attachment.
    pub(super) fn attached(attachment: &Attachment) -> Self {
        let new = (
            Some(attachment.id.to_string()),
            Some(attachment.name.clone()),
        );
        Self::new("attachment", "Attachment", false, (None, None), new)
    }

    fn new(
        field_id: &'static str,
        name: &'static str,
        custom: bool,
        old: ChangedValue,
        new: ChangedValue,
    ) -> Self {
        Self {
            field_id,
            name,
            custom,
            from: old.0,
            from_text: old.1,
            to: new.0,
            to_text: new.1,
        }
    }

    /// The item as JSON; `fieldId` is Cloud's.
    pub(super) fn bean(&self, cloud: bool) -> Value {
        let mut bean = json!({
            "field": self.name,
            "fieldtype": if self.custom { "custom" } else { "jira" },
            "from": self.from,
            "fromString": self.from_text,
            "to": self.to,
            "toString": self.to_text,
        });
        if cloud {
            bean["fieldId"] = self.field_id.into();
        }
        bean
    }
}

fn single(view: &RestView<'_>, issue: &Issue, field: &str) -> ChangedValue {
    let named = |id: &str, name: &str| (Some(id.to_owned()), Some(name.to_owned()));
    let user = |user: &Option<String>| {
        let text = user.as_deref().map(|name| {
            let known = view.model.users.find(name);
            known.map_or(name, |known| &known.display_name).to_owned()
        });
        (user.clone(), text)
    };
    match field {
        "issuetype" => named(issue.kind.id, issue.kind.name),
        "summary" => (None, Some(issue.summary.clone())),
        "priority" => named(issue.priority.id, issue.priority.name),
        "status" => named(issue.status.id, issue.status.name),
        "resolution" => issue
            .resolution
            .map_or((None, None), |one| named(one.id, one.name)),
        "assignee" => user(&issue.assignee),
        "reporter" => user(&issue.reporter),
        _ => (None, Some(issue.labels.join(" "))),
    }
}

fn part_value(parts: &[ProjectPart], id: u64) -> ChangedValue {
    let name = parts.iter().find(|part| part.id == id);
    (Some(id.to_string()), name.map(|part| part.name.clone()))
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string())
        }
    }
}

/// Fields with one value: their ids, and their names in a changelog.
const SINGLE_FIELDS: &[(&str, &str)] = &[
    ("issuetype", "issuetype"),
    ("summary", "summary"),
    ("priority", "priority"),
    ("status", "status"),
    ("resolution", "resolution"),
    ("assignee", "assignee"),
    ("reporter", "reporter"),
    ("labels", "labels"),
];
