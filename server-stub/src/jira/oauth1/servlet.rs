//! `POST request-token` and `POST access-token`; both answer form-encoded text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use time::OffsetDateTime;
use url::Url;
use url::form_urlencoded::Serializer;

use super::message::Message;
use super::problem::Problem;
use super::tokens::{Callback, Consumers};
use super::verify::{required, signer};
use crate::jira::front::AsReceived;
use crate::jira::shared::Shared;

pub(super) async fn request_token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(&shared, &request, |consumers, message, now| {
        let consumer = signer(consumers, message, now)?;
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

pub(super) async fn access_token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(&shared, &request, |consumers, message, now| {
        let consumer = signer(consumers, message, now)?;
        required(message, &["oauth_token"])?;
        let token = message.get("oauth_token").unwrap_or_default();
        let issued = match message.get("oauth_session_handle") {
            Some(session) => consumers.renew(token, &consumer.key, session, now)?,
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

type Pairs = Vec<(&'static str, String)>;

fn answer(
    shared: &Shared,
    request: &Request,
    serve: impl FnOnce(&mut Consumers, &Message, OffsetDateTime) -> Result<Pairs, Problem>,
) -> Response {
    let received = request.extensions().get::<AsReceived>();
    let message = Message::new(
        request.method(),
        received.map_or(request.uri(), |received| &received.uri),
        request.headers(),
        received.map_or(&[], |received| &received.parameters),
        &shared.settings.connector,
        shared.scheme(),
    );
    match serve(&mut shared.consumers(), &message, shared.now()) {
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

/// Absolute, or `oob`; none at all is OAuth 1.0.
fn callback(message: &Message) -> Result<Option<Callback>, Problem> {
    match message.get("oauth_callback") {
        None => Ok(None),
        Some("oob") => Ok(Some(Callback::OutOfBand)),
        Some(url) => Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .map(|url| Some(Callback::To(url)))
            .ok_or_else(|| {
                Problem::new("parameter_rejected")
                    .with("oauth_parameters_rejected", "oauth_callback")
            }),
    }
}
