//! `pass-through`: every scheme of the vendor untouched, both ways. Only looks on.

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

    /// Records whom Jira took the vendor for. A refused login is the vendor's affair, no fault here.
    pub(super) fn on_response(&self, head: &response::Parts) {
        if let identity::ResponseUser::Named(name) = identity::user(&head.headers) {
            self.last_user.prove(&self.layer, name);
        }
    }
}
