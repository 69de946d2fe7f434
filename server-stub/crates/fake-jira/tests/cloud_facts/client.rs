//! The HTTP client of the tests.

use fake_jira::cloud::{CloudStub, OAuthApp, RunningCloud, Settings};
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode};
use serde_json::Value;

pub(crate) const EMAIL: &str = "acme-bot@acme.example";
pub(crate) const ACCOUNT: &str = "712020:5b10a2844c20165700ede21g";
pub(crate) const CALLBACK: &str = "https://vendor.example/callback";

pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

pub(crate) async fn start() -> RunningCloud {
    start_with(|_| {}).await
}

/// With an app whose callback is [`CALLBACK`].
pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> RunningCloud {
    let mut settings = Settings {
        apps: vec![OAuthApp::new("app", "app-secret", CALLBACK)],
        ..Settings::default()
    };
    change(&mut settings);
    CloudStub::start(settings).await.unwrap()
}

pub(crate) fn http(cloud: &RunningCloud) -> Client {
    let ca = Certificate::from_pem(cloud.ca_pem.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub(crate) fn get(cloud: &RunningCloud, url: &str) -> RequestBuilder {
    http(cloud).get(url)
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

/// A URL of the first site behind the API gateway.
pub(crate) fn ex(cloud: &RunningCloud, path: &str) -> String {
    format!(
        "{}/ex/jira/{}{path}",
        cloud.api_url, cloud.sites[0].cloud_id
    )
}
