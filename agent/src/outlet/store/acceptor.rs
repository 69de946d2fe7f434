//! Takes an event of Jira: verifies Jira's signature, asks the scope, and stores it.

use super::{
    event_store::EventStore, losses::EventLosses, off_runtime::off_runtime, scope::EventScope,
};
use crate::{
    http::{EventRefusal, EventSink, IncomingEvent},
    outlet::StoreSettings,
    secret::Secret,
};
use agent_events::{
    NewEvent, QueueBound, StoreError, Stored,
    hub_signature::{self, HUB_SIGNATURE},
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The sink of one outlet.
pub struct EventAcceptor {
    events: Arc<EventStore>,
    jira_secret: Option<Arc<Secret>>,
    scope: Arc<EventScope>,
    losses: Arc<EventLosses>,
}

impl EventAcceptor {
    /// Stores into this queue what these settings let leave.
    pub fn new(
        settings: &StoreSettings,
        events: Arc<EventStore>,
        losses: Arc<EventLosses>,
    ) -> Self {
        Self {
            events,
            jira_secret: settings.jira_secret.clone(),
            scope: Arc::new(settings.scope.clone()),
            losses,
        }
    }

    async fn accept_event(&self, event: IncomingEvent) -> Result<String, EventRefusal> {
        self.verify(&event).await?;
        if !self.scope.allows_all() {
            let (scope, body) = (Arc::clone(&self.scope), event.body.clone());
            off_runtime(event.body.len(), move || scope.admit(&body))
                .await
                .unwrap_or(Err(EventRefusal::Undecidable("the body cannot be read")))?;
        }
        let queue = self.events.ready().await.map_err(not_open)?;
        let stored = confirmed(queue.store(new_event(event))).await?;
        let id = match stored {
            Stored::New { id, dropped } => {
                self.losses.dropped(&dropped, TO_MAKE_ROOM);
                id
            }
            // Jira sends it again if it has not seen the first answer.
            Stored::Repeated(id) => id,
        };
        Ok(id.to_string())
    }

    async fn verify(&self, event: &IncomingEvent) -> Result<(), EventRefusal> {
        let Some(secret) = &self.jira_secret else {
            return Ok(());
        };
        let given: Vec<_> = event.headers.get_all(HUB_SIGNATURE).iter().collect();
        let [signature] = given.as_slice() else {
            return Err(EventRefusal::Signature(
                "the request has no X-Hub-Signature, or several",
            ));
        };
        let signature = (*signature).clone();
        let (secret, body) = (Arc::clone(secret), event.body.clone());
        let verify = move || hub_signature::verify(&secret, &body, signature.as_bytes());
        match off_runtime(event.body.len(), verify).await {
            Some(true) => Ok(()),
            Some(false) | None => Err(EventRefusal::Signature(
                "X-Hub-Signature does not match the body and the secret of jira_secret_file",
            )),
        }
    }
}

impl EventSink for EventAcceptor {
    fn accept(&self, event: IncomingEvent) -> BoxFuture<'_, Result<String, EventRefusal>> {
        Box::pin(self.accept_event(event))
    }
}

fn new_event(event: IncomingEvent) -> NewEvent {
    let peer = event.originator.parse::<SocketAddr>();
    let source = match peer {
        // A listener of both families shows IPv4 addresses inside IPv6.
        Ok(peer) => peer.ip().to_canonical().to_string(),
        Err(_) => event.originator.to_string(),
    };
    let headers = event.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    NewEvent {
        method: event.method.as_str().to_owned(),
        headers: headers.collect(),
        identifier: identifier(&event.headers),
        target: event.target,
        source,
        body: event.body,
    }
}

/// What Jira names the event by, in each of its repeats.
fn identifier(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(WEBHOOK_IDENTIFIER).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if !id.is_empty() => id.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn not_open(cause: String) -> EventRefusal {
    EventRefusal::Failed {
        detail: "the queue of the outlet is not open; nothing was stored",
        cause,
    }
}

/// Waits for the disk, and not longer than Jira does.
async fn confirmed(
    storing: impl Future<Output = Result<Stored, StoreError>>,
) -> Result<Stored, EventRefusal> {
    match timeout(DISK_WAIT, storing).await {
        Ok(stored) => stored.map_err(not_stored),
        Err(_) => Err(disk_hangs()),
    }
}

fn disk_hangs() -> EventRefusal {
    EventRefusal::Failed {
        detail: "the disk of the queue does not answer; send the event again",
        cause: format!(
            "the disk of the queue has not confirmed the event within {} s",
            DISK_WAIT.as_secs()
        ),
    }
}

fn not_stored(error: StoreError) -> EventRefusal {
    let detail = match &error {
        StoreError::Full { which } => {
            return EventRefusal::Full(match which {
                QueueBound::Bytes => "the queue of the outlet has reached max_queue",
                QueueBound::BytesOfSource => {
                    "the events of this sender have reached max_queue_per_source"
                }
                QueueBound::Events => "the queue of the outlet has reached max_queue_events",
            });
        }
        StoreError::DiskFull(_) => "the disk of the queue is full; nothing was stored",
        StoreError::Disk(_) => "the disk of the queue fails",
        StoreError::Closed => "the queue of the outlet is closed; nothing was stored",
        StoreError::Busy => "too many events wait for the disk; nothing was stored",
    };
    EventRefusal::Failed {
        detail,
        cause: error.to_string(),
    }
}

/// Jira waits for an answer a little longer. An event that the disk takes later is stored all the same; repeated by Jira with
/// its identifier, it has the same id.
const DISK_WAIT: Duration = Duration::from_secs(15);
/// In Jira's requests: the same in each repeat of one delivery.
const WEBHOOK_IDENTIFIER: HeaderName = HeaderName::from_static("x-atlassian-webhook-identifier");
const TO_MAKE_ROOM: &str = "it made room for a newer event in a full queue";

#[cfg(test)]
mod tests {
    use super::*;

    /// The caller's place among the requests in flight is free again.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_given_up_and_named() {
        let refused = confirmed(std::future::pending()).await;
        let Err(EventRefusal::Failed { detail, cause }) = refused else {
            panic!("{refused:?}");
        };
        assert!(detail.contains("send the event again"), "{detail}");
        assert!(cause.contains("within 15 s"), "{cause}");
    }
}
