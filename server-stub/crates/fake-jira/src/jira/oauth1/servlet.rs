//! `POST request-token` and `POST access-token`; both answer form-encoded text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use time::OffsetDateTime;
use url::Url;
use url::form_urlencoded::Serializer;

use super::message::OAuth1Message;
use super::problem::OAuth1Problem;
use super::tokens::{OAuth1Store, OAuthCallback};
use super::verify::{required, verify_consumer};
use crate::jira::middleware::ReceivedTarget;
use crate::jira::state::JiraState;

pub(super) async fn request_token(
    State(shared): State<Arc<JiraState>>,
    request: Request,
) -> Response {
    answer(&shared, &request, |consumers, message, now| {
        let consumer = verify_consumer(consumers, message, now)?;
        let callback = callback(message)?;
        let confirmed = callback.is_some();
        let token = consumers.request(&consumer.key, callback, now);
        let mut pairs = vec![
            ("oauth_token", token.token),
            ("oauth_token_secret", token.secret),
        ];
        if confirmed {
            pairs.push(("oauth_callback_confirmed", "true".into()));
        }
        Ok(pairs)
    })
}

pub(super) async fn access_token(
    State(shared): State<Arc<JiraState>>,
    request: Request,
) -> Response {
    answer(&shared, &request, |consumers, message, now| {
        let consumer = verify_consumer(consumers, message, now)?;
        required(message, &["oauth_token"])?;
        let token = message.get("oauth_token").unwrap_or_default();
        let issued = match message.get("oauth_session_handle") {
            Some(session) => consumers.refresh(token, &consumer.key, session, now)?,
            None => {
                let verifier = message.get("oauth_verifier");
                consumers.exchange(token, &consumer.key, verifier, now)?
            }
        };
        Ok(vec![
            ("oauth_token", issued.token),
            ("oauth_token_secret", issued.secret),
            ("oauth_expires_in", issued.lifetime.to_string()),
            ("oauth_session_handle", issued.session),
            (
                "oauth_authorization_expires_in",
                issued.authorization_lifetime.to_string(),
            ),
        ])
    })
}

type FormPairs = Vec<(&'static str, String)>;

fn answer(
    shared: &JiraState,
    request: &Request,
    serve: impl FnOnce(
        &mut OAuth1Store,
        &OAuth1Message,
        OffsetDateTime,
    ) -> Result<FormPairs, OAuth1Problem>,
) -> Response {
    let received = request.extensions().get::<ReceivedTarget>();
    let message = OAuth1Message::new(
        request.method(),
        received.map_or(request.uri(), |received| &received.uri),
        request.headers(),
        received.map_or(&[], |received| &received.parameters),
        &shared.settings.connector,
        shared.scheme(),
    );
    match serve(&mut shared.consumers.lock(), &message, shared.now()) {
        Ok(pairs) => {
            let body = Serializer::new(String::new()).extend_pairs(pairs).finish();
            let mut response = body.into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        Err(problem) => problem.response(&shared.base_url),
    }
}

/// The callback: an absolute URL or `oob`; without one the request is OAuth 1.0.
fn callback(message: &OAuth1Message) -> Result<Option<OAuthCallback>, OAuth1Problem> {
    match message.get("oauth_callback") {
        None => Ok(None),
        Some("oob") => Ok(Some(OAuthCallback::OutOfBand)),
        Some(url) => Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .map(|url| Some(OAuthCallback::To(url)))
            .ok_or_else(|| {
                OAuth1Problem::new("parameter_rejected")
                    .with("oauth_parameters_rejected", "oauth_callback")
            }),
    }
}
