//! What `agent events` asks of the running agent, and what it gets: never a body, a query string or a header.

/// Which events to list. The members that are left out select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Name of one outlet; none: all that store.
    #[serde(default)]
    pub outlet: Option<String>,
    /// Only dead letters.
    #[serde(default)]
    pub dead: bool,
    /// The list begins behind this event; only with one outlet.
    #[serde(default)]
    pub after: Option<String>,
    /// Only this event.
    #[serde(default)]
    pub id: Option<String>,
    /// Most events of the answer, at most [`MAX_LISTED`].
    pub limit: usize,
}

/// Which events to retry or to drop.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventOrder {
    /// Name of one outlet; none: all that store.
    #[serde(default)]
    pub outlet: Option<String>,
    /// One event; none: all dead letters.
    #[serde(default)]
    pub id: Option<String>,
}

/// What an order has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EventOrderResult {
    /// Events that are tried again, or were dropped.
    pub events: u64,
    /// Dead letters that are still there: the queue has no room for them.
    pub left: u64,
}

/// What `agent events --json` prints. Its schema is `docs/events.schema.json`.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct EventList {
    /// Version of this document, 1. Fields may be added within a version.
    pub version: u32,
    /// One entry per outlet of mode `store`, in configuration order.
    pub outlets: Vec<OutletEvents>,
}

/// The events of one outlet.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct OutletEvents {
    /// Name of the outlet.
    pub outlet: String,
    /// Events that wait to be delivered.
    pub waiting: u64,
    /// Events that were given up.
    pub dead_letters: u64,
    /// The events, the oldest first: those that wait, then the dead letters.
    pub events: Vec<EventRow>,
    /// Whether more events follow the last one of this list (`--after`).
    #[serde(default)]
    pub more: bool,
}

/// One event without its body.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct EventRow {
    /// Its id, which the vendor gets as `webhook-id`.
    pub id: String,
    /// Whether it waits, and for what.
    pub state: EventRowState,
    /// When the agent received it, RFC 3339, UTC.
    pub received: String,
    /// Events with the same text are delivered in their order: `issue:10001`, `project:SEC`, or nothing.
    pub lane: String,
    /// `webhookEvent` of the body: `jira:issue_updated`.
    pub event_type: Option<String>,
    /// Key of the issue: `SEC-12`.
    pub issue_key: Option<String>,
    /// Address of the sender.
    pub source: String,
    /// Length of the body in bytes.
    pub body_bytes: u64,
    /// Failed attempts to deliver it: since the agent started, or of a dead letter until it was given up.
    pub attempts: u32,
    /// Why the last attempt failed, or why it is a dead letter.
    pub last_error: Option<String>,
    /// When a waiting event is tried again, RFC 3339, UTC.
    pub next_attempt: Option<String>,
    /// When a dead letter was given up, RFC 3339, UTC.
    pub given_up: Option<String>,
}

/// What becomes of an event.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventRowState {
    /// It was not tried yet, or follows another event of its issue.
    Queued,
    /// It is being delivered right now.
    Delivering,
    /// An attempt has failed, and the next one follows.
    Waiting,
    /// It was given up: only `agent events retry` delivers it.
    Dead,
}

/// The JSON schema of [`EventList`]: `docs/events.schema.json`.
pub fn event_list_schema() -> String {
    let schema = schemars::schema_for!(EventList);
    // Plain data: it cannot fail to serialize.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// Version of [`EventList`].
pub const EVENT_LIST_VERSION: u32 = 1;
/// Most events of one answer. With each text at its bound and four bytes a character a row is below 3.5 KiB, so that all of
/// them fit into an answer.
pub const MAX_LISTED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_the_one_of_the_code() {
        let documented = include_str!("../../../docs/events.schema.json");
        assert_eq!(
            documented,
            event_list_schema(),
            "run `make docs` and look at the difference"
        );
    }
}
