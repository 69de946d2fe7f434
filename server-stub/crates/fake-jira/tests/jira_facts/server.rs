//! Health, serverInfo, and the context path.

use fake_jira::jira::{JiraStub, ServerState, Settings};
use reqwest::Method;
use serde_json::json;

use crate::client::{get, get_as_bot, send, send_json, start, start_with};

#[tokio::test]
async fn status_tells_the_state_without_a_login_and_nothing_else_is_served_but_when_running() {
    let jira = start().await;
    let status = || send(get(&jira, "/status"));
    assert_eq!(status().await.json(), json!({ "state": "RUNNING" }));
    for (state, name, code) in [
        (ServerState::Starting, "STARTING", 503),
        (ServerState::Maintenance, "MAINTENANCE", 503),
        (ServerState::Error, "ERROR", 500),
    ] {
        jira.set_state(state);
        let reply = status().await;
        assert_eq!(reply.json(), json!({ "state": name }));
        assert_eq!(reply.status, code);
        assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 503);
    }
    jira.set_state(ServerState::Running);
    assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 200);
}

#[tokio::test]
async fn server_info_is_open_and_carries_the_configured_base_url() {
    let jira = start_with(|settings| {
        settings.base_url = Some("https://jira.corp.example/jira/".into());
        settings.version = "9.12.15".into();
    })
    .await;
    let info = send(get(&jira, "/rest/api/2/serverInfo")).await.json();
    assert_eq!(info["baseUrl"], "https://jira.corp.example/jira");
    assert_eq!(info["version"], "9.12.15");
    assert_eq!(info["versionNumbers"], json!([9, 12, 15]));
    assert_eq!(info["deploymentType"], "Server");
    assert!(info["buildNumber"].is_u64());
    assert!(info["serverTime"].is_string() && info["serverTitle"].is_string());
    let me = get_as_bot(&jira, "/rest/api/2/myself").await.json();
    let link = me["self"].as_str().unwrap();
    assert!(
        link.starts_with("https://jira.corp.example/jira/rest/api/2/user"),
        "{link}"
    );
}

#[tokio::test]
async fn latest_is_2_and_one_trailing_slash_is_no_matter() {
    let jira = start().await;
    for path in [
        "/rest/api/2/myself",
        "/rest/api/latest/myself",
        "/rest/api/latest/myself/",
    ] {
        assert_eq!(
            get_as_bot(&jira, path).await.json()["name"],
            "acme-bot",
            "{path}"
        );
    }
}

#[tokio::test]
async fn outside_the_context_path_there_is_nothing() {
    let jira = start().await;
    for path in [
        "/rest/api/2/serverInfo",
        "/",
        "/jirax/rest/api/2/serverInfo",
        "/__stub/requests",
    ] {
        let reply = reqwest::get(format!("http://{}{path}", jira.addr))
            .await
            .unwrap();
        assert_eq!(reply.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_resource_is_404_and_another_method_405() {
    let jira = start().await;
    let missing = get_as_bot(&jira, "/rest/api/2/nothing").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["status-code"], 404);
    let put = send_json(&jira, Method::PUT, "/rest/api/2/myself", json!({})).await;
    assert_eq!(put.status, 405);
}

#[tokio::test]
async fn a_context_path_is_checked_before_listening() {
    for wrong in ["jira", "/jira/", "/"] {
        let settings = Settings {
            context_path: wrong.into(),
            ..Settings::default()
        };
        assert!(JiraStub::start(settings).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn stopping_frees_the_address() {
    let jira = start().await;
    let listen = jira.addr;
    jira.stop().await;
    let again = JiraStub::start(Settings {
        listen,
        ..Settings::default()
    })
    .await
    .unwrap();
    assert_eq!(again.addr, listen);
}

#[tokio::test]
async fn the_catalogues_are_there() {
    let jira = start().await;
    for (path, names) in [
        ("priority", ["Highest", "Low"]),
        ("status", ["To Do", "Done"]),
        ("resolution", ["Done", "Duplicate"]),
        ("issuetype", ["Task", "Bug"]),
        ("field", ["Summary", "Customer Reference"]),
        ("project/DEMO/components", ["API", "Web"]),
        ("project/DEMO/versions", ["1.0", "2.0"]),
        ("project/DEMO/statuses", ["Task", "Bug"]),
        ("project", ["Demo", "Operations"]),
    ] {
        let list = get_as_bot(&jira, &format!("/rest/api/2/{path}"))
            .await
            .json();
        for name in names {
            assert!(
                list.as_array()
                    .unwrap()
                    .iter()
                    .any(|one| one["name"] == name),
                "{path} {name}"
            );
        }
    }
    let types = get_as_bot(&jira, "/rest/api/2/issueLinkType").await.json();
    assert_eq!(types["issueLinkTypes"][0]["outward"], "blocks");
}
