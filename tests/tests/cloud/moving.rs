//! The drill of docs/move-to-cloud.md: a reload moves a forward from Jira Data Center to Jira Cloud.

use crate::common::{CloudEnv, EMAIL, SCOPED, SITE, TOKEN, browser};
use agent::status::StatusReport;
use e2e::{
    agent::{AgentProcess, write_secret},
    caller::HttpCaller,
    setup::AgentSetup,
    sshd::free_addr,
    test_env::{BOT_TOKEN, new_issue, vendor},
    wait::{PATIENCE, until_true},
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use server_stub::jira::{JiraStub, RunningJira, Settings};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// The vendor calls the same address before, during and after the move, and after the way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_moves_a_forward_to_cloud_and_back_and_loses_nothing() {
    let cloud = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let jira = JiraStub::start(Settings::default()).await.unwrap();
    let addr = free_addr().unwrap();
    let data_center = data_center(&cloud, &jira, addr);
    let setup = AgentSetup::for_sshd(&cloud.sshd).unwrap();
    let bind = addr.to_string();
    let in_cloud = setup.forward_with("jira", &bind, cloud.upstream, &cloud.keys);

    let of_data_center = |request: RequestBuilder| request.bearer_auth(BOT_TOKEN);
    let site = format!("https://{}", cloud.cloud.sites[0].addr);
    let host = SITE.trim_start_matches("https://");
    let of_cloud =
        |request: RequestBuilder| request.header("host", host).basic_auth(EMAIL, Some(TOKEN));
    let sides = [
        Side::new(vendor(), &jira.url, &of_data_center),
        Side::new(browser(&cloud), &site, &of_cloud),
    ];
    for side in &sides {
        // Migrated: the same issues on both sides.
        side.create("DEMO-1").await;
        side.create("DEMO-2").await;
    }

    let agent = data_center.start().unwrap();
    agent.until_proven().await.unwrap();
    let phase = requests() / 4;
    let load = VendorLoad::start(addr);
    load.until_more_answered(phase).await;
    assert_eq!(named_paths(&agent), [""; 0]);
    agent.edit_config(|_| in_cloud.text()).unwrap();
    // Before the reload.
    let named = named_paths(&agent).join("\n");
    for what in [
        "search\" (preset \"ticketing\")",
        "/secure/attachment",
        "accountId",
    ] {
        assert!(named.contains(what), "{named}");
    }
    move_to(&agent, &in_cloud).await;
    assert_eq!(named_paths(&agent), [""; 0]);
    load.until_more_answered(phase).await;
    move_to(&agent, &data_center).await;
    load.until_more_answered(phase).await;
    move_to(&agent, &in_cloud).await;
    load.until_more_answered(phase).await;
    let result = load.finish().await;

    let by = &result.answered;
    let count = |base: &str| by.get(base).copied().unwrap_or(0);
    let (before, after) = (count(&jira.url), count(SITE));
    let total: u64 = by.values().sum();
    println!("{total} requests: {before} answered by Data Center, {after} by Cloud");
    assert!(result.lost.is_empty(), "{:#?}", result.lost);
    assert_eq!(before + after, total, "{by:?}");
    // Two phases each; at most the requests in progress are answered by the former Jira.
    let least = 2 * (phase - WORKERS);
    assert!(before >= least && after >= least, "{by:?}");
    let mut written = Vec::new();
    for side in &sides {
        written.extend(side.comments().await);
    }
    written.sort_unstable();
    let mut confirmed = result.confirmed;
    confirmed.sort_unstable();
    assert_eq!(written, confirmed, "each write once, on one side");
    assert_eq!(agent.status().await.unwrap().connections[0].generation, 1);
}

/// The forward before the move.
fn data_center(env: &CloudEnv, jira: &RunningJira, addr: SocketAddr) -> AgentSetup {
    let token = env.path("pat");
    write_secret(Path::new(&token), BOT_TOKEN).unwrap();
    let keys = [
        ("auth.mode", json!("pat")),
        ("auth.token_file", json!(token)),
    ];
    let setup = AgentSetup::for_sshd(&env.sshd).unwrap();
    setup.forward_with("jira", &addr.to_string(), &jira.url, &keys)
}

/// What `agent check` says of paths that one side lacks.
fn named_paths(agent: &AgentProcess) -> Vec<String> {
    let (report, _) = agent.check(&[]).unwrap();
    let paths = report.steps.into_iter().filter(|step| step.step == "paths");
    paths.filter_map(|step| step.cause).collect()
}

/// An administrator's reload, and the status that proves the other Jira and its login.
async fn move_to(agent: &AgentProcess, setup: &AgentSetup) {
    agent.edit_config(|_| setup.text()).unwrap();
    let printed = agent.succeed(&["reload"]).unwrap();
    assert!(printed.starts_with("forward jira: "), "{printed}");
    assert!(printed.contains("upstream"), "{printed}");
    let proven = |r: &StatusReport| r.overall == agent::status::OverallState::Proven;
    agent.until_status("the other Jira", proven).await.unwrap();
}

/// Reads and writes of the vendor, each sent once.
struct VendorLoad {
    answered: Arc<AtomicU64>,
    stop: CancellationToken,
    workers: JoinSet<LoadResult>,
}

#[derive(Default)]
struct LoadResult {
    /// By the base URL of the Jira in the answer.
    answered: HashMap<String, u64>,
    /// Comments that a Jira acknowledged.
    confirmed: Vec<String>,
    /// Everything else.
    lost: Vec<String>,
}

impl VendorLoad {
    /// Continues through all moves, however long they take.
    fn start(addr: SocketAddr) -> Self {
        let (next, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = CancellationToken::new();
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
            let stop = stop.clone();
            workers.spawn(async move {
                let mut result = LoadResult::default();
                let mut caller = None;
                while !stop.is_cancelled() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let asked = timeout(PATIENCE, ask(&mut caller, addr, number)).await;
                    match asked.map_err(anyhow::Error::from).and_then(|asked| asked) {
                        Ok(base) => {
                            *result.answered.entry(base).or_default() += 1;
                            if writes(number) {
                                result.confirmed.push(comment(number));
                            }
                        }
                        Err(error) => {
                            caller = None;
                            result.lost.push(format!("{number}: {error:#}"));
                        }
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                result
            });
        }
        Self {
            answered,
            stop,
            workers,
        }
    }

    async fn until_more_answered(&self, count: u64) {
        let answered = || self.answered.load(Ordering::Relaxed);
        let enough = answered() + count;
        let what = format!("{count} more requests to be answered");
        until_true(&what, || answered() >= enough).await.unwrap();
    }

    async fn finish(self) -> LoadResult {
        self.stop.cancel();
        let mut all = LoadResult::default();
        for one in self.workers.join_all().await {
            for (base, count) in one.answered {
                *all.answered.entry(base).or_default() += count;
            }
            all.confirmed.extend(one.confirmed);
            all.lost.extend(one.lost);
        }
        all
    }
}

/// The base URL of the Jira that answered as it should.
async fn ask(
    caller: &mut Option<HttpCaller>,
    addr: SocketAddr,
    number: u64,
) -> anyhow::Result<String> {
    let on = match caller {
        Some(caller) => caller,
        None => caller.insert(HttpCaller::connect(addr).await?),
    };
    let answer = match writes(number) {
        true => {
            let body = json!({ "body": comment(number) }).to_string();
            on.post(COMMENTS, &body).await?
        }
        false => on.get("/rest/api/2/issue/DEMO-2?fields=summary").await?,
    };
    if answer
        .headers()
        .get("connection")
        .is_some_and(|v| v == "close")
    {
        *caller = None;
    }
    let status = if writes(number) { 201 } else { 200 };
    anyhow::ensure!(answer.status() == status, "{answer:?}");
    let document: Value = serde_json::from_str(answer.body())?;
    let link = document["self"].as_str().unwrap_or_default();
    let base = link.split_once("/rest/").map_or(link, |(base, _)| base);
    Ok(base.to_owned())
}

fn writes(number: u64) -> bool {
    number.is_multiple_of(2)
}

fn comment(number: u64) -> String {
    format!("comment {number}")
}

/// One Jira, called without the tunnel.
struct Side<'a> {
    client: reqwest::Client,
    base: &'a str,
    login: &'a (dyn Fn(RequestBuilder) -> RequestBuilder + Sync),
}

impl<'a> Side<'a> {
    fn new(
        client: reqwest::Client,
        base: &'a str,
        login: &'a (dyn Fn(RequestBuilder) -> RequestBuilder + Sync),
    ) -> Self {
        Self {
            client,
            base,
            login,
        }
    }

    async fn create(&self, key: &str) {
        let request = self.client.post(format!("{}/rest/api/2/issue", self.base));
        let answer = (self.login)(request.json(&new_issue(key)))
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["key"], key, "{answer}");
    }

    /// The vendor's comments on the issue.
    async fn comments(&self) -> Vec<String> {
        let request = self.client.get(format!("{}{COMMENTS}", self.base));
        let answer = (self.login)(request).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let bodies = answer["comments"].as_array().unwrap();
        let text = |comment: &Value| comment["body"].as_str().unwrap().to_owned();
        bodies.iter().map(text).collect()
    }
}

/// At least; `MOVE_REQUESTS=10000` for the drill of docs/move-to-cloud.md.
fn requests() -> u64 {
    let asked = std::env::var("MOVE_REQUESTS").ok();
    asked.and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

const COMMENTS: &str = "/rest/api/2/issue/DEMO-1/comment";
const WORKERS: u64 = 8;
