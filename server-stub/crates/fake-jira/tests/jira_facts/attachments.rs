//! Attachments: shapes, limits, streaming without memory.

use bytes::Bytes;
use fake_jira::jira::RunningJira;
use futures_util::{StreamExt, stream};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, RequestBuilder};

use crate::client::{
    ADMIN_TOKEN, BOT_TOKEN, get, get_as_bot, new_issue, request, send, start, start_with,
};

fn upload(jira: &RunningJira, key: &str, part: Part) -> RequestBuilder {
    request(
        jira,
        Method::POST,
        &format!("/rest/api/2/issue/{key}/attachments"),
    )
    .bearer_auth(BOT_TOKEN)
    .header("x-atlassian-token", "no-check")
    .multipart(Form::new().part("file", part))
}

#[tokio::test]
async fn an_upload_answers_with_a_list_whose_links_carry_the_base_url() {
    let jira =
        start_with(|settings| settings.base_url = Some("https://jira.corp.example".into())).await;
    let key = new_issue(&jira, "s").await;
    let part = Part::bytes(b"hello".to_vec())
        .file_name("a b/ü.txt")
        .mime_str("text/x-a")
        .unwrap();
    let reply = send(upload(&jira, &key, part)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let bean = &reply.json()[0];
    let id = bean["id"].as_str().unwrap();
    assert_eq!(bean["filename"], "a b/ü.txt");
    assert_eq!(bean["size"], 5);
    assert_eq!(bean["mimeType"], "text/x-a");
    assert_eq!(bean["author"]["name"], "acme-bot");
    assert_eq!(
        bean["content"],
        format!("https://jira.corp.example/secure/attachment/{id}/a+b%2F%C3%BC.txt")
    );
    let fields = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
        .await
        .json()["fields"]
        .clone();
    assert_eq!(fields["attachment"][0]["id"], id);
    let same = get_as_bot(&jira, &format!("/rest/api/2/attachment/{id}"))
        .await
        .json();
    assert_eq!(same["filename"], "a b/ü.txt");
}

#[tokio::test]
async fn a_download_has_length_type_and_the_same_bytes() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let part = Part::bytes(content.clone())
        .file_name("x.bin")
        .mime_str("application/x-x")
        .unwrap();
    let id = send(upload(&jira, &key, part)).await.json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/secure/attachment/{id}/x.bin");
    let answer = get(&jira, &path)
        .bearer_auth(BOT_TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(
        answer.headers()["content-length"],
        content.len().to_string()
    );
    assert_eq!(answer.headers()["content-type"], "application/x-x");
    assert_eq!(
        answer.headers()["content-disposition"],
        "attachment; filename=\"x.bin\""
    );
    assert!(answer.bytes().await.unwrap() == content);
    let head = send(request(&jira, Method::HEAD, &path).bearer_auth(BOT_TOKEN)).await;
    assert_eq!(
        head.header("content-length"),
        Some(content.len().to_string().as_str())
    );
    let anonymous = send(get(&jira, &path)).await;
    assert_eq!(anonymous.status, 302);
    assert!(
        anonymous
            .header("location")
            .unwrap()
            .starts_with("/jira/login.jsp?")
    );
    assert_eq!(
        get_as_bot(&jira, "/secure/attachment/1/x").await.status,
        404
    );
}

#[tokio::test]
async fn the_upload_limit_is_shown_and_enforced_and_leaves_no_file() {
    let jira = start_with(|settings| settings.upload_limit = 1000).await;
    let key = new_issue(&jira, "s").await;
    let meta = get_as_bot(&jira, "/rest/api/2/attachment/meta")
        .await
        .json();
    assert_eq!(
        meta,
        serde_json::json!({ "enabled": true, "uploadLimit": 1000 })
    );
    let part = |size| Part::bytes(vec![0; size]).file_name("x");
    assert_eq!(send(upload(&jira, &key, part(1000))).await.status, 200);
    assert_eq!(send(upload(&jira, &key, part(1001))).await.status, 413);
    assert_eq!(std::fs::read_dir(jira.attachments()).unwrap().count(), 1);
    let fields = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
        .await
        .json()["fields"]
        .clone();
    assert_eq!(fields["attachment"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_attachment_is_gone_from_issue_and_disk() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let part = Part::text("x").file_name("x");
    let id = send(upload(&jira, &key, part)).await.json()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/rest/api/2/attachment/{id}");
    let delete = |token| send(request(&jira, Method::DELETE, &path).bearer_auth(token));
    assert_eq!(delete(BOT_TOKEN).await.status, 403);
    assert_eq!(delete(ADMIN_TOKEN).await.status, 204);
    assert_eq!(std::fs::read_dir(jira.attachments()).unwrap().count(), 0);
    assert_eq!(get_as_bot(&jira, &path).await.status, 404);
}

#[tokio::test]
async fn a_gibibyte_goes_up_and_down_without_being_held_in_memory() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let before = peak_memory();
    let chunks =
        stream::iter((0..GIB / CHUNK).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let part = Part::stream(Body::wrap_stream(chunks)).file_name("big");
    let reply = send(upload(&jira, &key, part)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let bean = reply.json()[0].clone();
    assert_eq!(bean["size"], GIB);
    let path = format!("/secure/attachment/{}/big", bean["id"].as_str().unwrap());
    let answer = get(&jira, &path)
        .bearer_auth(BOT_TOKEN)
        .send()
        .await
        .unwrap();
    let mut read = 0;
    let mut body = answer.bytes_stream();
    while let Some(part) = body.next().await {
        read += part.unwrap().len();
    }
    assert_eq!(read, GIB);
    let grown = peak_memory() - before;
    assert!(grown < MEMORY_BOUND, "{} MiB", grown >> 20);
}

/// The process's peak resident memory, bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

const GIB: usize = 1 << 30;
const CHUNK: usize = 256 << 10;
/// Client and server together; other tests may run in the same process.
const MEMORY_BOUND: usize = 64 << 20;
