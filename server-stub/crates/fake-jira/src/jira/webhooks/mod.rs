//! Webhooks: who has registered for which events, and the deliveries.
//!
//! A resource of `rest` changes the model and reports the change to its view. `rest::webhook_events` renders the payload
//! while the model is locked, asks [`WebhookHub`] who wants it, and gives it a delivery for each. That never waits: the
//! delivery goes into the bounded queue of its webhook (`sender`), whose task sends it.

mod client;
mod event;
mod event_names;
mod hub;
mod registry;
mod sender;
mod settings;
mod signature;
mod url_template;

use std::sync::Arc;

pub(super) use event::{WebhookEvent, WebhookFlow};
pub(super) use event_names::{is_known_event, is_known_to_apps};
pub(super) use hub::{OutgoingEvent, RegistrationError, WebhookHub, WebhookOrigin};
pub(crate) use registry::ConnectedApp;
pub(super) use registry::{RegisteredWebhook, WebhookDraft, WebhookOwner, WebhooksFull};
pub use sender::WebhookAttempt;
pub use settings::WebhookSettings;
pub(super) use url_template::{VariableStyle, WebhookVariables};

/// A registered webhook; its task ends when the last of these is dropped.
pub(super) type SharedWebhook = Arc<RegisteredWebhook>;
