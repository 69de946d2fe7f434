//! Which events may leave: by project and by kind.

use crate::http::EventRefusal;
use agent_events::JiraEvent;

/// The section `[outlet.scope]`, validated. What it cannot decide is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventScope {
    /// Empty: all projects.
    projects: Vec<String>,
    /// Empty: all kinds.
    kinds: Vec<EventKind>,
}

/// A kind of event, or all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EventKind {
    Exact(String),
    Prefix(String),
}

/// A list of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeList {
    /// `projects`.
    Projects,
    /// `events`.
    Events,
}

/// An entry of a list is not what the list holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} {problem}")]
pub struct ScopeError {
    /// The list.
    pub list: ScopeList,
    /// Index of the entry.
    pub index: usize,
    entry: String,
    problem: &'static str,
}

impl EventScope {
    /// From the lists as written.
    ///
    /// # Errors
    /// The first entry that no event can have.
    pub fn new(projects: &[String], events: &[String]) -> Result<Self, ScopeError> {
        for (index, project) in projects.iter().enumerate() {
            if !is_project_key(project) {
                return Err(ScopeError {
                    list: ScopeList::Projects,
                    index,
                    entry: project.clone(),
                    problem: "is not a project key; write it like \"SEC\"",
                });
            }
        }
        let kinds = events.iter().enumerate().map(|(index, event)| {
            EventKind::parse(event).ok_or_else(|| ScopeError {
                list: ScopeList::Events,
                index,
                entry: event.clone(),
                problem: "is not a kind of event; write it like \"jira:issue_created\" or \"jira:issue_*\"",
            })
        });
        Ok(Self {
            kinds: kinds.collect::<Result<_, _>>()?,
            projects: projects.to_vec(),
        })
    }

    /// Whether every event may leave, so that no body has to be read for it.
    pub fn allows_all(&self) -> bool {
        self.projects.is_empty() && self.kinds.is_empty()
    }

    /// Whether the event with this body may leave.
    ///
    /// # Errors
    /// It may not, or does not say what it belongs to.
    pub fn admit(&self, body: &[u8]) -> Result<(), EventRefusal> {
        if self.allows_all() {
            return Ok(());
        }
        let event = JiraEvent::parse(body);
        if !self.kinds.is_empty() {
            let Some(kind) = &event.event_type else {
                return Err(EventRefusal::Undecidable(
                    "the body does not name the kind of the event (webhookEvent)",
                ));
            };
            if !self.kinds.iter().any(|allowed| allowed.includes(kind)) {
                return Err(EventRefusal::OutOfScope(
                    "events of this kind are not in events of the outlet's scope",
                ));
            }
        }
        if !self.projects.is_empty() {
            let Some(project) = &event.project_key else {
                return Err(EventRefusal::Undecidable(
                    "the body does not name the project of the event without doubt",
                ));
            };
            if !self.projects.contains(project) {
                return Err(EventRefusal::OutOfScope(
                    "the project of the event is not in projects of the outlet's scope",
                ));
            }
        }
        Ok(())
    }
}

impl EventKind {
    fn parse(text: &str) -> Option<Self> {
        let (name, kind): (_, fn(String) -> Self) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, Self::Prefix),
            None => (text, Self::Exact),
        };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-' | b'.');
        let fits = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_plain);
        fits.then(|| kind(name.to_owned()))
    }

    fn includes(&self, kind: &str) -> bool {
        match self {
            Self::Exact(exact) => kind == exact,
            Self::Prefix(prefix) => kind.starts_with(prefix.as_str()),
        }
    }
}

/// An administrator of Jira may allow other keys than the default pattern, but never these characters.
fn is_project_key(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Bytes; longer than the longest project key that Jira can be set to (255).
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scope(projects: &[&str], events: &[&str]) -> EventScope {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        EventScope::new(&owned(projects), &owned(events)).unwrap()
    }

    fn body(kind: &str, project: &str) -> Vec<u8> {
        let fields = serde_json::json!({"project": {"key": project}});
        let issue =
            serde_json::json!({"id": "10001", "key": format!("{project}-7"), "fields": fields});
        serde_json::json!({"webhookEvent": kind, "issue": issue})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn project_and_kind_must_both_be_named_and_allowed() {
        let both = scope(&["SEC", "OPS"], &["jira:issue_*", "comment_created"]);
        let created = "jira:issue_created";
        assert_eq!(both.admit(&body(created, "SEC")), Ok(()));
        assert_eq!(both.admit(&body("comment_created", "OPS")), Ok(()));
        let is_out = |refused| matches!(refused, Err(EventRefusal::OutOfScope(_)));
        assert!(is_out(both.admit(&body(created, "HR"))));
        assert!(is_out(both.admit(&body(created, "sec"))));
        assert!(is_out(both.admit(&body("comment_created2", "SEC"))));
        assert!(is_out(both.admit(&body("comment_updated", "SEC"))));
        let is_undecidable = |refused| matches!(refused, Err(EventRefusal::Undecidable(_)));
        for unclear in [
            &b""[..],
            b"not JSON",
            b"{}",
            br#"{"webhookEvent":"jira:issue_created"}"#,
            br#"{"issue":{"fields":{"project":{"key":"SEC"}}}}"#,
        ] {
            assert!(is_undecidable(both.admit(unclear)), "{unclear:?}");
        }
    }

    #[test]
    fn a_list_that_is_not_written_allows_all() {
        assert!(scope(&[], &[]).allows_all());
        assert_eq!(scope(&[], &[]).admit(b"not JSON"), Ok(()));
        let projects = scope(&["SEC"], &[]);
        assert_eq!(projects.admit(&body("anything", "SEC")), Ok(()));
        let kinds = scope(&[], &["jira:*"]);
        assert_eq!(
            kinds.admit(br#"{"webhookEvent":"jira:version_released"}"#),
            Ok(())
        );
    }

    #[test]
    fn entries_that_no_event_has_are_refused() {
        let refused = |projects: &[&str], events: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            let error = EventScope::new(&owned(projects), &owned(events)).unwrap_err();
            (error.list, error.index)
        };
        assert_eq!(refused(&["SEC", "SEC*"], &[]), (ScopeList::Projects, 1));
        assert_eq!(refused(&[""], &[]), (ScopeList::Projects, 0));
        assert_eq!(refused(&[], &["*"]), (ScopeList::Events, 0));
        assert_eq!(refused(&[], &["jira:*_x"]), (ScopeList::Events, 0));
    }
}
