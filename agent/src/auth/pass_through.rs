//! `pass-through`: every scheme of the vendor untouched, both ways. Only looks on.

use super::identity;
use crate::status::Layer;
use http::response;
use std::sync::Arc;

pub(super) struct PassThrough {
    layer: Arc<Layer>,
    seen: identity::Seen,
}

impl PassThrough {
    pub(super) fn new(layer: Arc<Layer>) -> Self {
        Self {
            layer,
            seen: identity::Seen::new(" (the vendor's own login)"),
        }
    }

    /// Records whom Jira took the vendor for. A refused login is the vendor's affair, no fault here.
    pub(super) fn observe(&self, head: &response::Parts) {
        if let identity::User::Named(name) = identity::user(&head.headers) {
            self.seen.prove(&self.layer, name);
        }
    }
}
