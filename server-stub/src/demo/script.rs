//! The requests of a vendor's service to a customer's Jira, through the gateway's HTTP listener and
//! without credentials.

use super::{
    environment::{CONTEXT_PATH, DemoEnvironment},
    step::{CompletedStep, StepRequest, json, text},
};
use agent_base::printable::hex;
use futures_util::StreamExt;
use reqwest::{Body, Client, Method, Response, multipart};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Runs all steps and calls `on_step` after each. A failed step does not end the script.
pub(super) async fn run_script(
    environment: &DemoEnvironment,
    on_step: impl Fn(&CompletedStep),
) -> Vec<CompletedStep> {
    let client = Client::builder()
        .no_proxy()
        .resolve(&environment.host(), environment.gateway.http_addr)
        .timeout(STEP_TIMEOUT)
        .build()
        .unwrap_or_default();
    let mut runner = ScriptRunner {
        environment,
        client,
        on_step,
        steps: Vec::new(),
    };
    runner.read_metadata().await;
    let key = runner.create().await;
    runner.update_issue(&key).await;
    runner.attach(&key).await;
    runner.send_denied_request(&key).await;
    runner.steps
}

struct ScriptRunner<'a, F> {
    environment: &'a DemoEnvironment,
    client: Client,
    on_step: F,
    steps: Vec<CompletedStep>,
}

impl<F: Fn(&CompletedStep)> ScriptRunner<'_, F> {
    async fn read_metadata(&mut self) {
        let request = StepRequest::new("who are you", Method::GET, rest("serverInfo"), 200);
        self.simple(request, async |response| {
            let response = json(response).await?;
            let title = text(&response, "/serverTitle")?;
            Ok(format!("{title} {}", text(&response, "/version")?))
        })
        .await;
        let request = StepRequest::new("who am I", Method::GET, rest("myself"), 200);
        self.simple(request, async |response| {
            text(&json(response).await?, "/displayName")
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
        let request = StepRequest::new("create an issue", Method::POST, rest("issue"), 201);
        self.step(
            request,
            |builder| builder.json(&body),
            async |response| {
                let key = text(&json(response).await?, "/key")?;
                Ok((key.clone(), key))
            },
        )
        .await
    }

    async fn update_issue(&mut self, key: &str) {
        let issue = rest(&format!("issue/{key}"));
        let request = StepRequest::new("read it", Method::GET, issue.clone(), 200);
        self.simple(request, async |response| {
            let summary = text(&json(response).await?, "/fields/summary")?;
            expect_equal(&summary, SUMMARY)?;
            Ok(format!("{summary:?}"))
        })
        .await;

        let request = StepRequest::new(
            "comment on it",
            Method::POST,
            format!("{issue}/comment"),
            201,
        );
        let body = json!({ "body": "Looked at by the vendor." });
        self.step(
            request,
            |builder| builder.json(&body),
            async |response| {
                let response = json(response).await?;
                let author = text(&response, "/author/name")?;
                Ok((
                    (),
                    format!("comment {} by {author}", text(&response, "/id")?),
                ))
            },
        )
        .await;

        let transitions = format!("{issue}/transitions");
        let request = StepRequest::new("what can be done", Method::GET, transitions.clone(), 200);
        let id = self
            .step(
                request,
                |builder| builder,
                async |response| {
                    let response = json(response).await?;
                    let list = response["transitions"].as_array().cloned();
                    let names: Vec<_> = list
                        .iter()
                        .flatten()
                        .filter_map(|transition| transition["name"].as_str())
                        .collect();
                    let id = text(&response, "/transitions/0/id")?;
                    Ok((id, names.join(", ")))
                },
            )
            .await;
        let request = StepRequest::new("do it", Method::POST, transitions, 204);
        let body = json!({ "transition": { "id": id } });
        self.step(
            request,
            |builder| builder.json(&body),
            async |_| Ok(((), format!("transition {id}"))),
        )
        .await;

        let request = StepRequest::new("find it", Method::POST, rest("search"), 200);
        let body =
            json!({ "jql": format!("project = DEMO AND key = {key}"), "fields": ["summary"] });
        self.step(
            request,
            |builder| builder.json(&body),
            async |response| {
                let response = json(response).await?;
                expect_equal(&text(&response, "/issues/0/key")?, key)?;
                Ok(((), format!("{} found", text(&response, "/total")?)))
            },
        )
        .await;
    }

    async fn attach(&mut self, key: &str) {
        let path = rest(&format!("issue/{key}/attachments"));
        let request = StepRequest::new("attach 16 MiB", Method::POST, path, 200);
        let pieces =
            futures_util::stream::iter((0..PIECE_COUNT).map(|at| Ok::<_, NeverFails>(piece(at))));
        let part = multipart::Part::stream_with_length(Body::wrap_stream(pieces), SIZE)
            .file_name("measurements.bin");
        let form = multipart::Form::new().part("file", part);
        let content = self
            .step(
                request,
                |builder| {
                    builder
                        .header("X-Atlassian-Token", "no-check")
                        .multipart(form)
                },
                async |response| {
                    let response = json(response).await?;
                    expect_equal(&text(&response, "/0/size")?, &SIZE.to_string())?;
                    let content = text(&response, "/0/content")?;
                    Ok((content, format!("attachment {}", text(&response, "/0/id")?)))
                },
            )
            .await;
        // The link has Jira's own address, which the vendor cannot reach; its path is right.
        let path = match reqwest::Url::parse(&content) {
            Ok(link) => link.path().to_owned(),
            Err(_) => format!("{CONTEXT_PATH}/secure/attachment/0/measurements.bin"),
        };
        let request = StepRequest::new("download it", Method::GET, path, 200);
        self.simple(request, async |response| {
            let digest = digest(response).await?;
            let mut whole = Sha256::new();
            (0..PIECE_COUNT).for_each(|at| whole.update(piece(at)));
            expect_equal(&digest, &hex(&whole.finalize()))?;
            Ok(format!(
                "sha256 {}… as sent",
                digest.get(..12).unwrap_or_default()
            ))
        })
        .await;
    }

    async fn send_denied_request(&mut self, key: &str) {
        let request = StepRequest::new("pose as admin", Method::GET, rest("myself"), 200);
        self.step(
            request,
            |builder| builder.basic_auth("admin", Some("admin-password")),
            async |response| {
                let name = text(&json(response).await?, "/name")?;
                expect_equal(&name, "acme-bot")?;
                Ok(((), format!("still {name}")))
            },
        )
        .await;
        let issue = rest(&format!("issue/{key}"));
        let request = StepRequest::new("delete it", Method::DELETE, issue.clone(), 403);
        self.simple(request, problem).await;
        let request = StepRequest::new(
            "a twisted path",
            Method::GET,
            format!("{issue}%2F..%2Fadmin"),
            400,
        );
        self.simple(request, problem).await;
    }

    async fn simple(
        &mut self,
        request: StepRequest,
        read: impl AsyncFnOnce(Response) -> Result<String, String>,
    ) {
        self.step(
            request,
            |builder| builder,
            async |response| Ok(((), read(response).await?)),
        )
        .await;
    }

    async fn step<T: Default>(
        &mut self,
        request: StepRequest,
        fill: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
        read: impl AsyncFnOnce(Response) -> Result<(T, String), String>,
    ) -> T {
        let (step, found) = request
            .send(self.environment, &self.client, fill, read)
            .await;
        (self.on_step)(&step);
        self.steps.push(step);
        found
    }
}

fn rest(path: &str) -> String {
    format!("{CONTEXT_PATH}/rest/api/2/{path}")
}

/// Checks that the agent refused the request and that nothing was sent to Jira.
async fn problem(response: Response) -> Result<String, String> {
    let by = response.headers().get("x-tunnel-answered-by");
    let by_agent = by.is_some_and(|by| by == "agent");
    let response: Value = json(response).await?;
    let kind = text(&response, "/type")?;
    let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
    let delivery = text(&response, "/delivery")?;
    expect_equal(&delivery, "not_sent")?;
    if by_agent {
        Ok(format!("refused by the agent: {kind}, {delivery}"))
    } else {
        Err("the response is not the agent's".to_owned())
    }
}

async fn digest(response: Response) -> Result<String, String> {
    let mut digest = Sha256::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        digest.update(chunk.map_err(|error| error.to_string())?);
    }
    Ok(hex(&digest.finalize()))
}

fn expect_equal(found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found:?} instead of {wanted:?}"))
    }
}

/// The bytes of one piece; no two pieces are alike.
fn piece(at: u64) -> Vec<u8> {
    let byte = |offset: u64| (offset.wrapping_mul(31).wrapping_add(at * 17) >> 3).to_le_bytes()[0];
    (0..PIECE_SIZE).map(byte).collect()
}

type NeverFails = std::convert::Infallible;
const SUMMARY: &str = "Reported by the vendor through the tunnel";
const PIECE_COUNT: u64 = 256;
const PIECE_SIZE: u64 = 64 << 10;
const SIZE: u64 = PIECE_COUNT * PIECE_SIZE;
/// Time limit of one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
