//! What Jira says about itself: whether it answers under this context path, its base URL, its clock.

use super::{
    base_url,
    clock::{self, SigningParty},
    step::{StepRecorder, StepResult},
};
use crate::{
    auth, config,
    expiry::timestamps,
    health::{
        jira::{ask_cloud, probe_jira},
        service::probe_service,
    },
    upstream::{AnswerSource, ControlAnswer, ControlClient, HttpTarget},
};
use bytes::Bytes;
use http::header;
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// Takes the steps. Returns whether a Jira answers.
pub(super) async fn check(
    steps: &mut StepRecorder,
    client: &ControlClient,
    forward: &config::ForwardConfig,
    target: &HttpTarget,
) -> bool {
    let cloud = forward.upstream.cloud.is_some();
    let is_jira = forward.upstream.profile.is_jira();
    let answered = steps.run("http", async {
        let asked = match (cloud, is_jira) {
            (true, _) => ask_cloud(client).await,
            (false, true) => probe_jira(client, target, &mut None, false).await,
            (false, false) => probe_service(client, target).await,
        };
        match asked {
            Ok(seen) => (StepResult::ok(seen), Some(())),
            Err(trouble) => (StepResult::fail(trouble.cause, trouble.remedy), None),
        }
    });
    if answered.await.is_none() {
        return false;
    }
    if !is_jira {
        return true;
    }
    let signer = signer(&forward.auth);
    let server_info = steps.run("server-info", async {
        let asked = SystemTime::now();
        let head = client.head(SERVER_INFO);
        let answer = match client.send(head, Bytes::new()).await {
            Ok(answer) => answer,
            Err(failure) => {
                return (
                    StepResult::fail(failure.detail, crate::health::jira::REACH),
                    None,
                );
            }
        };
        let took = asked.elapsed().unwrap_or_default();
        let info: Option<CheckedServerInfo> = serde_json::from_slice(&answer.body).ok();
        let source = AnswerSource::noted(&answer.head);
        let found = match &info {
            Some(info) => {
                let needs = base_url::BaseUrlNeeds {
                    signer,
                    signed: signed(&forward.auth),
                    oauth2: forward.auth.mode() == "oauth2" && !cloud,
                };
                base_url::compare_base_url(target, &info.base_url, &needs)
            }
            None if source.intermediary().is_some() => StepResult::skipped(
                source
                    .intermediary()
                    .map_or_else(String::new, |by| by.diagnosis().cause),
            ),
            None => StepResult::skipped(format!(
                "Jira does not return its base URL to anonymous requests ({})",
                answer.head.status.as_u16()
            )),
        };
        (found, Some((info, answer, asked, took)))
    });
    if let Some((info, answer, asked, took)) = server_info.await {
        let found = match time(info.as_ref(), &answer) {
            Some((jira, resolution)) => {
                clock::compare_clocks(jira, asked, took, resolution, signer)
            }
            None => StepResult::skipped("Jira's answer has no time"),
        };
        steps.add("clock", found);
    }
    true
}

/// Jira's time and its precision: `serverTime` in milliseconds, else `Date` in seconds.
fn time(
    info: Option<&CheckedServerInfo>,
    answer: &ControlAnswer,
) -> Option<(SystemTime, Duration)> {
    let exact = info.and_then(|info| timestamps::jira(info.server_time.as_deref()?));
    let date = || {
        let date = answer.head.headers.get(header::DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    };
    exact
        .map(|time| (time, Duration::ZERO))
        .or_else(|| date().map(|time| (time, Duration::from_secs(1))))
}

fn signer(auth: &auth::Settings) -> SigningParty {
    match auth.mode() {
        "oauth1" => SigningParty::Agent,
        "pass-through" => SigningParty::Vendor,
        _ => SigningParty::None,
    }
}

/// The value of `signed_base_url`, if set.
fn signed(auth: &auth::Settings) -> Option<&HttpTarget> {
    match auth {
        auth::Settings::OAuth1(settings) => settings.signed_base.as_ref(),
        auth::Settings::PassThrough
        | auth::Settings::Basic { .. }
        | auth::Settings::ApiToken { .. }
        | auth::Settings::Pat { .. }
        | auth::Settings::Header { .. }
        | auth::Settings::OAuth2(_) => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckedServerInfo {
    base_url: String,
    server_time: Option<String>,
}

const SERVER_INFO: &str = "/rest/api/2/serverInfo";
