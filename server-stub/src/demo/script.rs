//! What a vendor's service does with a customer's Jira: one of everything, through the gateway's HTTP
//! listener, without a login of its own.

use super::{
    environment::{CONTEXT_PATH, DemoEnvironment},
    step::{CompletedStep, StepRequest, json, text},
};
use futures_util::StreamExt;
use reqwest::{Body, Client, Method, Response, multipart};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Plays all steps, telling each as it is done. A step that fails does not end the play.
pub(super) async fn run_script(
    stage: &DemoEnvironment,
    tell: impl Fn(&CompletedStep),
) -> Vec<CompletedStep> {
    let client = Client::builder()
        .no_proxy()
        .resolve(&stage.host(), stage.gateway.http_addr)
        .timeout(PATIENCE)
        .build()
        .unwrap_or_default();
    let mut play = ScriptRunner {
        environment: stage,
        client,
        report: tell,
        steps: Vec::new(),
    };
    play.read_metadata().await;
    let key = play.create().await;
    play.update_issue(&key).await;
    play.attach(&key).await;
    play.send_denied_request(&key).await;
    play.steps
}

struct ScriptRunner<'a, F> {
    environment: &'a DemoEnvironment,
    client: Client,
    report: F,
    steps: Vec<CompletedStep>,
}

impl<F: Fn(&CompletedStep)> ScriptRunner<'_, F> {
    async fn read_metadata(&mut self) {
        let ask = StepRequest::new("who are you", Method::GET, rest("serverInfo"), 200);
        self.simple(ask, async |answer| {
            let answer = json(answer).await?;
            let title = text(&answer, "/serverTitle")?;
            Ok(format!("{title} {}", text(&answer, "/version")?))
        })
        .await;
        let ask = StepRequest::new("who am I", Method::GET, rest("myself"), 200);
        self.simple(ask, async |answer| {
            text(&json(answer).await?, "/displayName")
        })
        .await;
    }

    async fn create(&mut self) -> String {
        let body = json!({ "fields": {
            "project": { "key": "DEMO" },
            "issuetype": { "name": "Task" },
            "summary": SUMMARY,
            "description": "Sent by a program that knows nothing of the tunnel.",
        }});
        let ask = StepRequest::new("create an issue", Method::POST, rest("issue"), 201);
        self.step(
            ask,
            |request| request.json(&body),
            async |answer| {
                let key = text(&json(answer).await?, "/key")?;
                Ok((key.clone(), key))
            },
        )
        .await
    }

    async fn update_issue(&mut self, key: &str) {
        let issue = rest(&format!("issue/{key}"));
        let ask = StepRequest::new("read it", Method::GET, issue.clone(), 200);
        self.simple(ask, async |answer| {
            let summary = text(&json(answer).await?, "/fields/summary")?;
            same(&summary, SUMMARY)?;
            Ok(format!("{summary:?}"))
        })
        .await;

        let ask = StepRequest::new(
            "comment on it",
            Method::POST,
            format!("{issue}/comment"),
            201,
        );
        let body = json!({ "body": "Looked at by the vendor." });
        self.step(
            ask,
            |request| request.json(&body),
            async |answer| {
                let answer = json(answer).await?;
                let author = text(&answer, "/author/name")?;
                Ok(((), format!("comment {} by {author}", text(&answer, "/id")?)))
            },
        )
        .await;

        let transitions = format!("{issue}/transitions");
        let ask = StepRequest::new("what can be done", Method::GET, transitions.clone(), 200);
        let id = self
            .step(
                ask,
                |request| request,
                async |answer| {
                    let answer = json(answer).await?;
                    let list = answer["transitions"].as_array().cloned();
                    let names: Vec<_> = list
                        .iter()
                        .flatten()
                        .filter_map(|transition| transition["name"].as_str())
                        .collect();
                    let id = text(&answer, "/transitions/0/id")?;
                    Ok((id, names.join(", ")))
                },
            )
            .await;
        let ask = StepRequest::new("do it", Method::POST, transitions, 204);
        let body = json!({ "transition": { "id": id } });
        self.step(
            ask,
            |request| request.json(&body),
            async |_| Ok(((), format!("transition {id}"))),
        )
        .await;

        let ask = StepRequest::new("find it", Method::POST, rest("search"), 200);
        let body =
            json!({ "jql": format!("project = DEMO AND key = {key}"), "fields": ["summary"] });
        self.step(
            ask,
            |request| request.json(&body),
            async |answer| {
                let answer = json(answer).await?;
                same(&text(&answer, "/issues/0/key")?, key)?;
                Ok(((), format!("{} found", text(&answer, "/total")?)))
            },
        )
        .await;
    }

    async fn attach(&mut self, key: &str) {
        let path = rest(&format!("issue/{key}/attachments"));
        let ask = StepRequest::new("attach 16 MiB", Method::POST, path, 200);
        let pieces =
            futures_util::stream::iter((0..PIECES).map(|at| Ok::<_, NeverFails>(piece(at))));
        let part = multipart::Part::stream_with_length(Body::wrap_stream(pieces), SIZE)
            .file_name("measurements.bin");
        let form = multipart::Form::new().part("file", part);
        let content = self
            .step(
                ask,
                |request| {
                    request
                        .header("X-Atlassian-Token", "no-check")
                        .multipart(form)
                },
                async |answer| {
                    let answer = json(answer).await?;
                    same(&text(&answer, "/0/size")?, &SIZE.to_string())?;
                    let content = text(&answer, "/0/content")?;
                    Ok((content, format!("attachment {}", text(&answer, "/0/id")?)))
                },
            )
            .await;
        // Links carry Jira's own address, where the vendor cannot go; the path is the same.
        let path = match reqwest::Url::parse(&content) {
            Ok(link) => link.path().to_owned(),
            Err(_) => format!("{CONTEXT_PATH}/secure/attachment/0/measurements.bin"),
        };
        let ask = StepRequest::new("download it", Method::GET, path, 200);
        self.simple(ask, async |answer| {
            let digest = digest(answer).await?;
            let mut whole = Sha256::new();
            (0..PIECES).for_each(|at| whole.update(piece(at)));
            same(&digest, &hex(&whole.finalize()))?;
            Ok(format!(
                "sha256 {}… as sent",
                digest.get(..12).unwrap_or_default()
            ))
        })
        .await;
    }

    async fn send_denied_request(&mut self, key: &str) {
        let ask = StepRequest::new("pose as admin", Method::GET, rest("myself"), 200);
        self.step(
            ask,
            |request| request.basic_auth("admin", Some("admin-password")),
            async |answer| {
                let name = text(&json(answer).await?, "/name")?;
                same(&name, "acme-bot")?;
                Ok(((), format!("still {name}")))
            },
        )
        .await;
        let issue = rest(&format!("issue/{key}"));
        let ask = StepRequest::new("delete it", Method::DELETE, issue.clone(), 403);
        self.simple(ask, problem).await;
        let ask = StepRequest::new(
            "a twisted path",
            Method::GET,
            format!("{issue}%2F..%2Fadmin"),
            400,
        );
        self.simple(ask, problem).await;
    }

    async fn simple(
        &mut self,
        ask: StepRequest,
        read: impl AsyncFnOnce(Response) -> Result<String, String>,
    ) {
        self.step(
            ask,
            |request| request,
            async |answer| Ok(((), read(answer).await?)),
        )
        .await;
    }

    async fn step<T: Default>(
        &mut self,
        ask: StepRequest,
        fill: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
        read: impl AsyncFnOnce(Response) -> Result<(T, String), String>,
    ) -> T {
        let (step, found) = ask.send(self.environment, &self.client, fill, read).await;
        (self.report)(&step);
        self.steps.push(step);
        found
    }
}

fn rest(path: &str) -> String {
    format!("{CONTEXT_PATH}/rest/api/2/{path}")
}

/// A refusal of the agent, typed, and nothing of it sent to Jira.
async fn problem(answer: Response) -> Result<String, String> {
    let by = answer.headers().get("x-tunnel-answered-by");
    let by_agent = by.is_some_and(|by| by == "agent");
    let answer: Value = json(answer).await?;
    let kind = text(&answer, "/type")?;
    let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
    let delivery = text(&answer, "/delivery")?;
    same(&delivery, "not_sent")?;
    if by_agent {
        Ok(format!("refused by the agent: {kind}, {delivery}"))
    } else {
        Err("the answer is not the agent's".to_owned())
    }
}

async fn digest(answer: Response) -> Result<String, String> {
    let mut digest = Sha256::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        digest.update(chunk.map_err(|error| error.to_string())?);
    }
    Ok(hex(&digest.finalize()))
}

fn same(found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found:?} instead of {wanted:?}"))
    }
}

/// Bytes that differ from piece to piece.
fn piece(at: u64) -> Vec<u8> {
    let byte = |place: u64| (place.wrapping_mul(31).wrapping_add(at * 17) >> 3).to_le_bytes()[0];
    (0..PIECE).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type NeverFails = std::convert::Infallible;
const SUMMARY: &str = "Reported by the vendor through the tunnel";
const PIECES: u64 = 256;
const PIECE: u64 = 64 << 10;
const SIZE: u64 = PIECES * PIECE;
/// For one step.
const PATIENCE: Duration = Duration::from_secs(60);
