//! Jira about itself: does it run, under this context path, with which base URL, by which clock.

use super::{
    base_url,
    clock::{self, Signer},
    step::{Found, Steps},
};
use crate::{
    auth, config,
    expiry::moment,
    health::jira::{ask, ask_cloud},
    upstream::{ControlAnswer, ControlClient, HttpTarget},
};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// Whether a Jira is there.
pub(super) async fn check(
    steps: &mut Steps,
    client: &ControlClient,
    forward: &config::Forward,
    target: &HttpTarget,
) -> bool {
    let cloud = forward.upstream.cloud.is_some();
    let answered = steps.take("http", async {
        let asked = match cloud {
            true => ask_cloud(client).await,
            false => ask(client, &mut None).await,
        };
        match asked {
            Ok(seen) => (Found::ok(seen), Some(())),
            Err(trouble) => {
                let other = match cloud {
                    true => None,
                    false => elsewhere(client, target).await,
                };
                let found = match other {
                    Some(path) => Found::fail(
                        format!(
                            "Jira is not under {:?} but under {path:?}",
                            target.context_path
                        ),
                        format!(
                            "write upstream = \"{}\"",
                            HttpTarget {
                                context_path: path,
                                ..target.clone()
                            }
                        ),
                    ),
                    None => Found::fail(trouble.cause, trouble.remedy),
                };
                (found, None)
            }
        }
    });
    if answered.await.is_none() {
        return false;
    }
    let signer = signer(&forward.auth);
    let told = steps.take("server-info", async {
        let asked = SystemTime::now();
        let head = client.head(SERVER_INFO);
        let answer = match client.send(head, Bytes::new()).await {
            Ok(answer) => answer,
            Err(failure) => {
                return (
                    Found::fail(failure.detail, crate::health::jira::REACH),
                    None,
                );
            }
        };
        let took = asked.elapsed().unwrap_or_default();
        let info: Option<ServerInfo> = serde_json::from_slice(&answer.body).ok();
        let found = match &info {
            Some(info) => {
                let needs = base_url::Needs {
                    signer,
                    signed: signed(&forward.auth),
                    oauth2: forward.auth.mode() == "oauth2" && !cloud,
                };
                base_url::judge(target, &info.base_url, &needs)
            }
            None => Found::skipped(format!(
                "Jira tells its base URL to nobody who is not logged in ({})",
                answer.head.status.as_u16()
            )),
        };
        (found, Some((info, answer, asked, took)))
    });
    if let Some((info, answer, asked, took)) = told.await {
        let found = match time(info.as_ref(), &answer) {
            Some((jira, resolution)) => clock::judge(jira, asked, took, resolution, signer),
            None => Found::skipped("Jira tells no time"),
        };
        steps.add("clock", found);
    }
    true
}

/// Jira's time, and how exactly it is told: `serverTime` in milliseconds, else `Date` in seconds.
fn time(info: Option<&ServerInfo>, answer: &ControlAnswer) -> Option<(SystemTime, Duration)> {
    let exact = info.and_then(|info| moment::jira(info.server_time.as_deref()?));
    let date = || {
        let date = answer.head.headers.get(header::DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    };
    exact
        .map(|time| (time, Duration::ZERO))
        .or_else(|| date().map(|time| (time, Duration::from_secs(1))))
}

/// Another context path under which a Jira answers on the same host.
async fn elsewhere(client: &ControlClient, target: &HttpTarget) -> Option<String> {
    let mut paths = vec![String::new(), "/jira".to_owned()];
    paths.extend(led_to(client).await);
    paths.retain(|path| *path != target.context_path);
    for path in paths {
        let answer = get(client, &format!("{path}{SERVER_INFO}")).await?;
        let is_jira = serde_json::from_slice::<ServerInfo>(&answer.body).is_ok();
        if answer.head.status == StatusCode::OK && is_jira {
            return Some(path);
        }
    }
    None
}

/// The first segment of where the host's root redirects to.
async fn led_to(client: &ControlClient) -> Option<String> {
    let answer = get(client, "/").await?;
    let location = answer.head.headers.get(header::LOCATION)?.to_str().ok()?;
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map(|at| &rest[at..])?,
        None => location,
    };
    let segment = path.strip_prefix('/')?.split(['/', '?', '#']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!segment.is_empty() && segment.chars().all(plain)).then(|| format!("/{segment}"))
}

/// Whatever the context path, and without a credential.
async fn get(client: &ControlClient, path: &str) -> Option<ControlAnswer> {
    let mut head = client.head("");
    head.uri = path.parse().ok()?;
    client.send(head, Bytes::new()).await.ok()
}

fn signer(auth: &auth::Settings) -> Signer {
    match auth.mode() {
        "oauth1" => Signer::Agent,
        "pass-through" => Signer::Vendor,
        _ => Signer::Nobody,
    }
}

/// `signed_base_url`.
fn signed(auth: &auth::Settings) -> Option<&HttpTarget> {
    match auth {
        auth::Settings::OAuth1(settings) => settings.signed_base.as_ref(),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerInfo {
    base_url: String,
    server_time: Option<String>,
}

const SERVER_INFO: &str = "/rest/api/2/serverInfo";
