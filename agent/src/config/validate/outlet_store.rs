//! Validates the keys of an outlet that only mode `store` has.

use crate::{
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    http::LARGEST_EVENT,
    outlet::{EventScope, ScopeList, StoreSettings},
    secret::Secret,
};
use agent_events::{QueueLimits, SigningSecrets, WhenFull};
use std::sync::Arc;

/// The settings of mode `store`; `Some(None)` with mode `pass`. `None` after a problem, which is reported.
pub(super) fn store(
    raw: &raw::RawOutlet,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<StoreSettings>> {
    if raw.mode == raw::RawOutletMode::Pass {
        for key in KEYS {
            if section.is_written(key) {
                let text = "only used with mode = \"store\"; write that, or remove this key";
                section.error(key, text, problems);
            }
        }
        return Some(None);
    }
    let secrets = match &raw.secret_file {
        Some(name) => signing_secrets(name, section, files, problems),
        None => {
            let text = "required with mode = \"store\"; name a file with a line made by: echo \"whsec_$(openssl rand -base64 32)\"";
            section.error_at("secret_file", "mode", text, problems);
            None
        }
    };
    let jira_secret = match &raw.jira_secret_file {
        Some(name) => secret(name, section, files, problems),
        None => Some(None),
    };
    let per_source = size_per_source(raw, section, problems);
    let scope = scope(&raw.scope, section, problems);
    let per_source = per_source?;
    Some(Some(StoreSettings {
        secrets: secrets?,
        jira_secret: jira_secret?,
        scope: scope?,
        limits: QueueLimits {
            max_bytes: raw.max_queue.0,
            max_bytes_per_source: per_source,
            max_events: raw.max_queue_events as usize,
            when_full: match raw.when_full {
                raw::RawWhenFull::Refuse => WhenFull::Refuse,
                raw::RawWhenFull::DropOldest => WhenFull::DropOldest,
            },
            retry_for: raw.retry_for.0,
            keep_dead: raw.keep_dead_letters.0,
            ..QueueLimits::default()
        },
    }))
}

/// `Some(None)` where this user may not read it and does not need to.
fn signing_secrets(
    name: &str,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<Arc<SigningSecrets>>> {
    const KEY: &str = "secret_file";
    let file = files.locate_secret(section, KEY, name, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(None);
    }
    let secret = files.read_secret(section, KEY, name, problems)?;
    let secrets = section.value_or_error(KEY, SigningSecrets::parse(&secret), problems)?;
    Some(Some(Arc::new(secrets)))
}

/// As [`signing_secrets`], for Jira's webhook secret.
fn secret(
    name: &str,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<Arc<Secret>>> {
    const KEY: &str = "jira_secret_file";
    let file = files.locate_secret(section, KEY, name, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(None);
    }
    let secret = files.read_secret(section, KEY, name, problems)?;
    Some(Some(Arc::new(secret)))
}

/// The effective `max_queue_per_source`, if the sizes fit each other: an event that fits none of the bounds could never be
/// stored.
fn size_per_source(
    raw: &raw::RawOutlet,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<u64> {
    let before = problems.len();
    if raw.max_body.0 > LARGEST_EVENT {
        let text =
            "with mode = \"store\" at most 64MiB: an event is in memory while it is received";
        section.error_at("max_body", "mode", text, problems);
    }
    let is_written = section.is_written("max_queue_per_source");
    let per_source = match is_written {
        true => raw.max_queue_per_source,
        false => raw.max_queue_per_source.min(raw.max_queue),
    };
    if per_source > raw.max_queue {
        let text = "more than max_queue; decrease it, or increase max_queue";
        section.error_at("max_queue_per_source", "max_queue", text, problems);
    }
    if raw.max_body >= per_source {
        let (other, text) = match is_written {
            true => ("max_queue_per_source", LONGER_THAN_SOURCE),
            false => ("max_queue", LONGER_THAN_QUEUE),
        };
        section.error_at("max_body", other, text, problems);
    }
    (problems.len() == before).then_some(per_source.0)
}

fn scope(
    raw: &raw::RawScope,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<EventScope> {
    let inner = section.section("scope");
    for (key, list) in [("projects", &raw.projects), ("events", &raw.events)] {
        if inner.is_written(key) && list.is_empty() {
            let text = "empty: no event could leave; name what may leave, or remove this key";
            inner.error(key, text, problems);
            return None;
        }
    }
    EventScope::new(&raw.projects, &raw.events)
        .map_err(|error| {
            let key = match error.list {
                ScopeList::Projects => "projects",
                ScopeList::Events => "events",
            };
            inner.element_error(key, error.index, error.to_string(), problems);
        })
        .ok()
}

const LONGER_THAN_SOURCE: &str =
    "must be less than max_queue_per_source: a longer event could never be stored";
const LONGER_THAN_QUEUE: &str = "must be less than max_queue: a longer event could never be stored";
/// All that mode `pass` does not have.
const KEYS: [&str; 9] = [
    "secret_file",
    "jira_secret_file",
    "max_queue",
    "max_queue_per_source",
    "max_queue_events",
    "when_full",
    "retry_for",
    "keep_dead_letters",
    "scope",
];
