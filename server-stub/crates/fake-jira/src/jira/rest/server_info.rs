//! `serverInfo`, also for anonymous requests.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::RestState;
use super::extract::QueryParameters;
use crate::jira::response::{ok, timestamp};

pub(super) async fn server_info(State(shared): RestState, parameters: QueryParameters) -> Response {
    let settings = &shared.settings;
    let numbers = settings.version_numbers();
    let mut bean = json!({
        "baseUrl": shared.base_url,
        "version": settings.version,
        "versionNumbers": numbers,
        "deploymentType": if shared.cloud { "Cloud" } else { "Server" },
        "buildNumber": build_number(&numbers),
        "buildDate": "2025-01-15T00:00:00.000+0000",
        "databaseBuildNumber": build_number(&numbers),
        "serverTime": timestamp(shared.now()),
        "scmInfo": "0000000000000000000000000000000000000000",
        "serverTitle": settings.title,
    });
    if parameters.get("doHealthCheck") == Some("true") {
        bean["healthChecks"] = Value::Array(Vec::new());
    }
    ok(&bean)
}

/// Build numbers grow with the version: 10.3.2 is 1003002.
pub(super) fn build_number(numbers: &[u32]) -> u32 {
    let at = |index| numbers.get(index).copied().unwrap_or(0);
    at(0) * 100_000 + at(1) * 1_000 + at(2)
}
