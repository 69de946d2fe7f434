//! `pass-through`: the vendor's credential goes through untouched, both ways.

use super::identity;
use crate::status::StatusLayer;
use http::response;
use std::sync::Arc;

pub(super) struct PassThroughAuth {
    layer: Arc<StatusLayer>,
    last_user: identity::LastSeenUser,
}

impl PassThroughAuth {
    pub(super) fn new(layer: Arc<StatusLayer>) -> Self {
        Self {
            layer,
            last_user: identity::LastSeenUser::new(" (the vendor's own login)"),
        }
    }

    /// Records which user Jira identified the vendor as. A rejected credential is the vendor's to correct, no fault here.
    pub(super) fn on_response(&self, head: &response::Parts) {
        if let identity::ResponseUser::Named(name) = identity::user(&head.headers) {
            self.last_user.prove(&self.layer, name);
        }
    }
}
