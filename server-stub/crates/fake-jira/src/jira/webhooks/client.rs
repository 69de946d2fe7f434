//! The HTTP client of the deliveries. It follows no redirect, uses no proxy and retries nothing by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::WebhookSettings;

/// Why deliveries cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::jira) enum WebhookClientError {
    /// The file with the CAs cannot be read.
    #[error("cannot read the webhooks' ca_file {path}: {source}")]
    CaFile {
        path: PathBuf,
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The client cannot be built.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

pub(super) fn build(settings: &WebhookSettings) -> Result<reqwest::Client, WebhookClientError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(|source| WebhookClientError::CaFile {
            path: path.clone(),
            source,
        })?;
        roots.add_parsable_certificates(
            rustls_pemfile::certs(&mut pem.as_slice()).filter_map(Result::ok),
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = Duration::from_millis(settings.connect_timeout);
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .connect_timeout(connect)
        .timeout(connect + Duration::from_millis(settings.response_timeout))
        .tls_backend_preconfigured(tls)
        .build()?;
    Ok(client)
}
