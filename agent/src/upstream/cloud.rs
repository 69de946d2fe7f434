//! Jira Cloud behind Atlassian's API gateway: `https://api.atlassian.com/ex/jira/{cloudid}` instead of
//! the site's own URL. The cloud id is asked of the site once, when the first request needs it.
//! Everything above knows the site's paths alone; the prefix is put before them here.

use super::{
    ControlClient, ControlError, Delivery, FailedStep, HttpTarget, SendError, Settings,
    UpstreamBody,
};
use bytes::Bytes;
use http::{Request, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use std::time::Duration;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};

/// How a site of Jira Cloud is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudRoute {
    /// Called on its own URL.
    Site,
    /// Called behind the API gateway.
    Gateway {
        /// URL of the API gateway.
        api: HttpTarget,
        /// The site's id; without it the site is asked.
        cloud_id: Option<String>,
    },
}

/// Cloud's API gateway before one site.
pub(super) struct CloudGateway {
    /// URL of the API gateway.
    pub(super) api: HttpTarget,
    site: ControlClient,
    site_url: String,
    prefix: OnceCell<String>,
    /// When and why asking the site for its id last failed.
    last_failure: Mutex<Option<(Instant, String)>>,
}

impl CloudRoute {
    /// A cloud id in its own form: nothing that could lead elsewhere in a path.
    pub fn is_id(text: &str) -> bool {
        (1..=MAX_ID).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }
}

impl CloudGateway {
    /// `None` where the site is called on its own URL. May read the system's certificates.
    pub(super) fn of(settings: &Settings, site: &HttpTarget) -> Result<Option<Self>, ControlError> {
        let Some(CloudRoute::Gateway { api, cloud_id }) = &settings.cloud else {
            return Ok(None);
        };
        let known = cloud_id.as_ref().map(|id| prefix(api, id));
        Ok(Some(Self {
            api: api.clone(),
            site: ControlClient::new(settings, site)?,
            site_url: site.to_string(),
            prefix: OnceCell::new_with(known),
            last_failure: Mutex::default(),
        }))
    }

    /// The prefix of each path, like `/ex/jira/11223344-…`. One request asks for it; requests that arrive meanwhile, and for
    /// a moment after, share its answer, and none waits longer than [`LONGEST_ASK`].
    pub(super) async fn prefix(&self) -> Result<&str, String> {
        let found = self.prefix.get_or_try_init(|| async {
            if let Some(why) = self.recent_failure() {
                return Err(why);
            }
            let fetched = self.fetch_cloud_id().await;
            *self.last_failure() = fetched
                .as_ref()
                .err()
                .map(|why| (Instant::now(), why.clone()));
            let id = fetched?;
            tracing::info!(
                site = self.site_url,
                cloud_id = id,
                "got the cloud id of the site"
            );
            Ok::<_, String>(prefix(&self.api, &id))
        });
        match timeout(LONGEST_ASK, found).await {
            Ok(found) => found.map(String::as_str),
            Err(_) => Err(self.unknown(&format!("no answer within {LONGEST_ASK:?}"))),
        }
    }

    fn recent_failure(&self) -> Option<String> {
        let failure = self.last_failure();
        let (at, why) = failure.as_ref()?;
        (at.elapsed() < ASK_AGAIN).then(|| why.clone())
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        // Every write is a plain assignment.
        self.last_failure.lock()
    }

    fn unknown(&self, why: &str) -> String {
        format!(
            "the cloud id of {} is not known: {why}; check upstream, or set cloud_id in [forward.auth]",
            self.site_url
        )
    }

    /// The request with the prefix before its target, which keeps its bytes.
    pub(super) async fn route(
        &self,
        request: Request<UpstreamBody>,
    ) -> Result<Request<UpstreamBody>, SendError> {
        let prefix = self.prefix().await.map_err(not_sent)?;
        let (mut head, body) = request.into_parts();
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let routed = format!("{prefix}{target}").parse();
        head.uri = routed.map_err(|_| {
            not_sent("the request target is too long for Cloud's API gateway".to_owned())
        })?;
        Ok(Request::from_parts(head, body))
    }

    async fn fetch_cloud_id(&self) -> Result<String, String> {
        // Boxed: the site's client is of the same type, without a gateway.
        let answer = Box::pin(self.site.send(self.site.head(TENANT_INFO), Bytes::new()));
        let answer = answer.await.map_err(|error| self.unknown(&error.detail))?;
        let tenant: Option<TenantInfo> = serde_json::from_slice(&answer.body).ok();
        match (answer.head.status, tenant) {
            (StatusCode::OK, Some(tenant)) if CloudRoute::is_id(&tenant.cloud_id) => {
                Ok(tenant.cloud_id)
            }
            (status, _) => Err(self.unknown(&format!(
                "{TENANT_INFO} answers {} without one",
                status.as_u16()
            ))),
        }
    }
}

fn not_sent(detail: String) -> SendError {
    SendError {
        kind: FailedStep::Connect,
        detail,
        delivery: Delivery::NotSent,
        retry_after: None,
    }
}

fn prefix(api: &HttpTarget, id: &str) -> String {
    format!("{}/ex/jira/{id}", api.context_path)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantInfo {
    cloud_id: String,
}

/// Needs no login.
const TENANT_INFO: &str = "/_edge/tenant_info";
/// Longer than one request of the control client may take.
const LONGEST_ASK: Duration = Duration::from_secs(30);
/// For so long a failure answers further requests, so that a crowd of them asks once.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// A UUID has 36.
const MAX_ID: usize = 64;
