//! What changes about forwards leaves the sessions alone.

use crate::common::{TIMES, change, free_addr, reload, setup, soon};
use e2e::{
    agent::write_secret,
    background_load::BackgroundLoad,
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    sshd::Sshd,
};
use std::fs;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_of_every_part_of_a_forward_lose_no_request_and_leave_the_session_alone() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let (addr, other) = (free_addr(), free_addr());
    let mut agent = setup(&sshd, addr, &jira).start().unwrap();
    for token in ["one", "two"] {
        write_secret(&agent.dir().join(token), token).unwrap();
    }
    agent.until_proven().await.unwrap();
    let load = BackgroundLoad::start(addr, 4);
    load.until_answered(50).await.unwrap();

    let policy = "[forward.policy]\n";
    let second = format!(
        "[[forward]]\nname = \"other\"\nbind = \"{other}\"\nupstream = \"{}\"\n[forward.policy]\n",
        jira.url()
    );
    type Change<'a> = (&'a str, &'a str, String);
    // What is said of it, after which text, and what is added there; each is taken out again in the next turn.
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
    for (said, after, more) in &kinds {
        for turn in 0..TIMES {
            change(&agent, |text| match turn % 2 {
                0 => text.replacen(after, &format!("{after}{more}"), 1),
                _ => text.replacen(more.as_str(), "", 1),
            });
            let told = reload(&agent);
            assert!(told.starts_with(said), "{told:?} of {said:?}");
            load.until_answered(10).await.unwrap();
        }
    }
    assert_eq!(reload(&agent), "nothing has changed\n");

    let account = load.stop().await;
    let report = agent.until_proven().await.unwrap();
    let reloads = kinds.len() * TIMES;
    println!(
        "{reloads} reloads: {} answered, {} failed",
        account.answered, account.failed
    );
    assert_eq!(account.failed, 0);
    assert!(
        report.forwards[0].requests >= account.answered,
        "counted on"
    );
    let metrics = agent.run(&["metrics"]).unwrap();
    let metrics = String::from_utf8(metrics.stdout).unwrap();
    let counted = metrics
        .lines()
        .find(|l| {
            l.starts_with("jira_tunnel_agent_requests_total")
                && l.contains("2xx")
                && l.contains("complete")
        })
        .and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    assert!(
        counted.unwrap() >= account.answered as f64 - 10.0,
        "{metrics}"
    );
    assert_eq!(report.connections[0].generation, 1, "the same session");
    assert_eq!(report.forwards.len(), 1);
    account.verify_against(&jira.comments()).unwrap();
    assert!(agent.process().is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_policy_holds_for_the_next_request_of_a_connection_and_not_for_those_under_way() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = free_addr();
    let agent = setup(&sshd, addr, &jira).start().unwrap();
    agent.until_proven().await.unwrap();
    let mut kept_alive = HttpCaller::connect(addr).await.unwrap();
    let first = soon(kept_alive.get("/rest/api/2/issue/DEMO-1"))
        .await
        .unwrap();
    assert_eq!(*first.body(), issue("DEMO-1"));
    let mut slow = HttpCaller::connect(addr).await.unwrap();
    let slow = tokio::spawn(async move { slow.get("/rest/api/2/issue/HELD-1").await });
    jira.wait_until_held(1).await.unwrap();

    change(&agent, |text| {
        text.replace(
            "[forward.policy]\n",
            "[forward.policy]\ndeny = [\"GET /rest/api/2/issue/*\"]\n",
        )
    });
    assert_eq!(reload(&agent), "forward jira: policy\n");
    let refused = soon(kept_alive.get("/rest/api/2/issue/DEMO-2"))
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    let report = agent.status().await.unwrap();
    assert_eq!(report.forwards[0].in_flight, 1, "of the former policy");
    jira.release();
    let answer = soon(slow).await.unwrap().unwrap();
    assert_eq!(*answer.body(), issue("HELD-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_that_is_taken_out_is_cancelled_and_its_requests_finish() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let (addr, other) = (free_addr(), free_addr());
    let agent = setup(&sshd, addr, &jira)
        .forward("other", &other.to_string(), &jira.url())
        .start()
        .unwrap();
    agent.until_proven().await.unwrap();
    let mut caller = HttpCaller::connect(other).await.unwrap();
    let slow = tokio::spawn(async move { caller.get("/rest/api/2/issue/HELD-1").await });
    jira.wait_until_held(1).await.unwrap();

    let without = |text: String| {
        let (kept, _) = text.split_once("[[forward]]\nname = \"other\"").unwrap();
        kept.to_owned()
    };
    change(&agent, without);
    assert_eq!(reload(&agent), "forward other: removed\n");
    soon(async {
        while TcpStream::connect(other).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut first = HttpCaller::connect(addr).await.unwrap();
    soon(first.get("/rest/api/2/issue/DEMO-1")).await.unwrap();
    jira.release();
    let answer = soon(slow).await.unwrap().unwrap();
    assert_eq!(*answer.body(), issue("HELD-1"));
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the same session");
    assert_eq!(report.connections[0].forwards.len(), 1);

    // A place of its own for the one that stayed: cancelled there, bound here.
    change(&agent, |text| {
        text.replace(&addr.to_string(), &other.to_string())
    });
    assert_eq!(reload(&agent), "forward jira: bind\n");
    let moved = |r: &agent::status::StatusReport| r.forwards[0].bound == [other.to_string()];
    agent
        .until_status("the new place to be bound", moved)
        .await
        .unwrap();
    let mut there = HttpCaller::connect(other).await.unwrap();
    soon(there.get("/rest/api/2/issue/DEMO-2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reloads_leave_nothing_behind() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = free_addr();
    let mut agent = setup(&sshd, addr, &jira).start().unwrap();
    write_secret(&agent.dir().join("one"), "one").unwrap();
    agent.until_proven().await.unwrap();
    let load = BackgroundLoad::start(addr, 2);
    load.until_answered(20).await.unwrap();
    let pid = agent.process().pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let login = "[forward.auth]\nmode = \"pat\"\ntoken_file = \"one\"\n";
    let mut turns = 0..;
    let mut some = |count: usize| {
        for _ in 0..count {
            let turn: usize = turns.next().unwrap();
            change(&agent, |text| match turn % 2 {
                0 => text + "\n[forward.http]\nmax_concurrent = 200\n" + login,
                _ => text.split("\n[forward.http]").next().unwrap().to_owned(),
            });
            reload(&agent);
        }
    };
    some(20);
    let (memory, descriptors) = (agent_memory(pid), open());
    some(200);
    load.until_answered(20).await.unwrap();
    let (grown, now) = (agent_memory(pid).saturating_sub(memory), open());
    println!(
        "200 reloads: {} KiB more, {descriptors} descriptors before, {now} after",
        grown >> 10
    );
    // What a site takes, 200 times, would be more.
    assert!(grown < 8 << 20, "{} KiB more", grown >> 10);
    assert!(
        now <= descriptors + 8,
        "{descriptors} descriptors before, {now} after"
    );
    let account = load.stop().await;
    assert_eq!(account.failed, 0);
}

/// Bytes.
fn agent_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
