//! An imitation Jira without a listener and without logins of its own: the site of an imitation
//! Cloud, which decides who is asking before it hands a request on.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::login::{AuthKind, Caller};
use super::record::Received;
use super::rest;
use super::settings::{Settings, User};
use super::shared::Shared;
use super::{Fault, StartError};

/// The site.
#[derive(Clone)]
pub(crate) struct Embedded {
    shared: Arc<Shared>,
    router: TowerToHyperService<Router>,
}

impl Embedded {
    /// `people` are login name (the account id) and name for display.
    pub fn new(
        base_url: &str,
        title: &str,
        people: &[(String, String)],
        attachments: PathBuf,
    ) -> Result<Self, StartError> {
        std::fs::create_dir_all(&attachments).map_err(|source| StartError::Directory {
            path: attachments.clone(),
            source,
        })?;
        let users = people.iter().map(|(name, display_name)| User {
            name: name.clone(),
            password: String::new(),
            display_name: display_name.clone(),
            groups: vec!["jira-software-users".into()],
        });
        let settings = Settings {
            users: users.collect(),
            tokens: Vec::new(),
            title: title.to_owned(),
            version: "1001.0.0".into(),
            ..Settings::default()
        };
        let shared = Arc::new(Shared::new(settings, base_url.to_owned(), attachments)?.in_cloud());
        Ok(Self {
            router: TowerToHyperService::new(rest::router(shared.clone())),
            shared,
        })
    }

    /// Serves a request as `user`; `None`: anonymous.
    pub async fn serve(
        &self,
        mut request: Request,
        user: Option<String>,
        kind: AuthKind,
        reason: Option<&'static str>,
    ) -> Response {
        request
            .extensions_mut()
            .insert(Caller { user, kind, reason });
        let answered = self.router.call(request.map(Body::new)).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// The last requests, as [`Running::requests`](super::Running::requests).
    pub fn requests(&self) -> Vec<Received> {
        self.shared.record.snapshot()
    }

    pub fn clear_requests(&self) {
        self.shared.record.clear();
    }

    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.shared.dials().faults = faults;
    }
}
