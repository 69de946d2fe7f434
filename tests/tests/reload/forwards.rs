//! Changes of forwards do not affect the sessions.

use crate::common::{TIMES, change, reload, start};
use agent::status::StatusReport;
use e2e::{
    agent::write_secret,
    background_load::BackgroundLoad,
    caller::HttpCaller,
    process::resident,
    recording_origin::issue,
    setup::RecordedTunnel,
    sshd::free_addr,
    wait::{soon, until},
};
use std::fs;
use tokio::net::TcpStream;

/// Reloads of every part of a forward lose no request, and the SSH session stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloading_a_forward_loses_no_request_and_no_session() {
    let mut env = start().await;
    write_secret(&env.agent.dir().join("one"), "one").unwrap();
    let other = free_addr().unwrap();
    let load = BackgroundLoad::start(env.addr, 4);
    load.until_answered(50).await.unwrap();

    let policy = "[forward.policy]\n";
    let second = format!(
        "[[forward]]\nname = \"other\"\nbind = \"{other}\"\nupstream = \"{}\"\n[forward.policy]\n",
        env.jira.url()
    );
    type Change<'a> = (&'a str, &'a str, String);
    // The reload's text, and what is added after which text; every second turn removes it again.
    let kinds: [Change<'_>; 6] = [
        (
            "forward jira: policy\n",
            policy,
            "deny = [\"* /rest/api/2/user/**\"]\n".into(),
        ),
        (
            "forward jira: max_connections\n",
            "name = \"jira\"\n",
            "max_connections = 8\n".into(),
        ),
        (
            "forward jira: http\n",
            "presets = [\"ticketing\"]\n",
            "[forward.http]\nmax_concurrent = 100\nidle_timeout = \"20s\"\n".into(),
        ),
        (
            "forward jira: auth\n",
            "presets = [\"ticketing\"]\n",
            "[forward.auth]\nmode = \"pat\"\ntoken_file = \"one\"\n".into(),
        ),
        ("forward other: ", "presets = [\"ticketing\"]\n", second),
        (
            "log.level: ",
            "[log]\n",
            "level = \"info,agent::http=warn\"\n".into(),
        ),
    ];
    for (expected, after, more) in &kinds {
        for turn in 0..TIMES {
            change(&env.agent, |text| match turn % 2 {
                0 => text.replacen(after, &format!("{after}{more}"), 1),
                _ => text.replacen(more.as_str(), "", 1),
            });
            let printed = reload(&env.agent);
            assert!(printed.starts_with(expected), "{printed:?} of {expected:?}");
            load.until_answered(10).await.unwrap();
        }
    }
    assert_eq!(reload(&env.agent), "nothing has changed\n");

    let summary = load.stop().await;
    let report = env.agent.until_proven().await.unwrap();
    let reloads = kinds.len() * TIMES;
    println!(
        "{reloads} reloads: {} answered, {} failed",
        summary.answered, summary.failed
    );
    assert_eq!(summary.failed, 0);
    assert!(
        report.forwards[0].requests >= summary.answered,
        "counted on"
    );
    let metrics = env.agent.succeed(&["metrics"]).unwrap();
    let counted = metrics
        .lines()
        .find(|l| {
            l.starts_with("jira_tunnel_agent_requests_total")
                && l.contains("2xx")
                && l.contains("complete")
        })
        .and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(
        counted.unwrap() >= summary.answered as f64 - 10.0,
        "{metrics}"
    );
    assert_eq!(report.connections[0].generation, 1, "the same session");
    assert_eq!(report.forwards.len(), 1);
    summary.verify_against(&env.jira.comments()).unwrap();
    assert!(env.agent.process().is_running());
}

/// A reloaded policy applies to the next request on an open connection, and not to requests in progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_policy_applies_from_the_next_request() {
    let env = start().await;
    let addr = env.addr;
    let mut kept_alive = HttpCaller::connect(addr).await.unwrap();
    let first = soon(kept_alive.get("/rest/api/2/issue/DEMO-1"))
        .await
        .unwrap();
    assert_eq!(*first.body(), issue("DEMO-1"));
    let mut slow = HttpCaller::connect(addr).await.unwrap();
    let slow = tokio::spawn(async move { slow.get("/rest/api/2/issue/HELD-1").await });
    env.jira.wait_until_held(1).await.unwrap();

    change(&env.agent, |text| {
        text.replace(
            "[forward.policy]\n",
            "[forward.policy]\ndeny = [\"GET /rest/api/2/issue/*\"]\n",
        )
    });
    assert_eq!(reload(&env.agent), "forward jira: policy\n");
    let refused = soon(kept_alive.get("/rest/api/2/issue/DEMO-2"))
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    let report = env.agent.status().await.unwrap();
    assert_eq!(report.forwards[0].in_flight, 1, "of the former policy");
    env.jira.release();
    let answer = soon(slow).await.unwrap().unwrap();
    assert_eq!(*answer.body(), issue("HELD-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_that_is_taken_out_is_cancelled_and_its_requests_finish() {
    let other = free_addr().unwrap();
    let env = RecordedTunnel::start_with(|setup, jira| {
        setup.forward("other", &other.to_string(), &jira.url())
    });
    let env = env.await.unwrap();
    let addr = env.addr;
    let mut caller = HttpCaller::connect(other).await.unwrap();
    let slow = tokio::spawn(async move { caller.get("/rest/api/2/issue/HELD-1").await });
    env.jira.wait_until_held(1).await.unwrap();

    let without = |text: String| {
        let (kept, _) = text.split_once("[[forward]]\nname = \"other\"").unwrap();
        kept.to_owned()
    };
    change(&env.agent, without);
    assert_eq!(reload(&env.agent), "forward other: removed\n");
    let closed = async || TcpStream::connect(other).await.is_err().then_some(());
    until("a closed port", closed).await.unwrap();
    let mut first = HttpCaller::connect(addr).await.unwrap();
    soon(first.get("/rest/api/2/issue/DEMO-1")).await.unwrap();
    env.jira.release();
    let answer = soon(slow).await.unwrap().unwrap();
    assert_eq!(*answer.body(), issue("HELD-1"));
    let report = env.agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the same session");
    assert_eq!(report.connections[0].forwards.len(), 1);

    // The remaining forward moves to the other address.
    change(&env.agent, |text| {
        text.replace(&addr.to_string(), &other.to_string())
    });
    assert_eq!(reload(&env.agent), "forward jira: bind\n");
    let moved = |r: &StatusReport| r.forwards[0].bound == [other.to_string()];
    env.agent
        .until_status("the new place to be bound", moved)
        .await
        .unwrap();
    let mut there = HttpCaller::connect(other).await.unwrap();
    soon(there.get("/rest/api/2/issue/DEMO-2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reloads_leave_nothing_behind() {
    let mut env = start().await;
    write_secret(&env.agent.dir().join("one"), "one").unwrap();
    let load = BackgroundLoad::start(env.addr, 2);
    load.until_answered(20).await.unwrap();
    let pid = env.agent.process().pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let login = "[forward.auth]\nmode = \"pat\"\ntoken_file = \"one\"\n";
    let mut turns = 0..;
    let mut some = |count: usize| {
        for _ in 0..count {
            let turn: usize = turns.next().unwrap();
            change(&env.agent, |text| match turn % 2 {
                0 => text + "\n[forward.http]\nmax_concurrent = 200\n" + login,
                _ => text.split("\n[forward.http]").next().unwrap().to_owned(),
            });
            reload(&env.agent);
        }
    };
    some(20);
    let (memory, descriptors) = (resident(pid).unwrap(), open());
    some(200);
    load.until_answered(20).await.unwrap();
    let (grown, now) = (resident(pid).unwrap().saturating_sub(memory), open());
    println!(
        "200 reloads: {} KiB more, {descriptors} descriptors before, {now} after",
        grown >> 10
    );
    // A leak of one forward's state 200 times would be more.
    assert!(grown < 8 << 20, "{} KiB more", grown >> 10);
    assert!(
        now <= descriptors + 8,
        "{descriptors} descriptors before, {now} after"
    );
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0);
}
