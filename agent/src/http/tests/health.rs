//! The health request, which the agent answers alone.

use super::support::*;
use crate::{
    http::{HEALTH_PATH, HealthReport, HealthState},
    pause::PauseRegistry,
};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

fn report(reply: &Reply) -> HealthReport {
    serde_json::from_slice(&reply.body).unwrap()
}

/// With a policy that allows everything, it reaches neither Jira nor the audit.
#[tokio::test]
async fn a_health_request_names_the_place_and_reaches_nothing_else() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    let agent = Agent::new(&jira, Options::default());
    let mut vendor = agent.channel();
    for method in ["GET", "HEAD"] {
        vendor
            .send(format!(
                "{method} {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\n\r\n"
            ))
            .await;
        let reply = vendor.reply_to(method).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-tunnel-answered-by"), Some("agent"));
        if method == "GET" {
            let report = report(&reply);
            assert_eq!((report.state, report.connection), (HealthState::Serving, 1));
            assert_eq!(
                (&*report.forward, &*report.place),
                ("jira", "/s/jira-0.sock")
            );
            assert_eq!(report.instance, crate::tunnel::instance());
        }
    }
    assert_eq!(agent.place.health_requests(), 2);
    assert!(agent.place.checked_at().is_some());
    assert_eq!(agent.forward.counter().total(), 0, "counted apart");
    assert!(agent.records.is_empty());
}

/// Whatever is not exactly this request is judged by policy, and audited.
#[tokio::test]
async fn what_resembles_a_health_request_is_a_request_like_any_other() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    for request in [
        format!("GET {HEALTH_PATH}? HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET {HEALTH_PATH}/ HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!(
            "GET /%2Ewell-known{} HTTP/1.1\r\nhost: x\r\n\r\n",
            &HEALTH_PATH[12..]
        ),
        format!(
            "GET {} HTTP/1.1\r\nhost: x\r\n\r\n",
            HEALTH_PATH.to_uppercase()
        ),
        format!("POST {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"),
        format!("GET {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx"),
        format!("CONNECT {HEALTH_PATH} HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut agent = Agent::new(
            &jira,
            Options {
                allow: "GET /nothing",
                ..Options::default()
            },
        );
        let mut vendor = agent.channel();
        vendor.send(&request).await;
        let reply = vendor.reply().await;
        assert!(reply.status >= 400, "{request}: {}", reply.status);
        assert_eq!(
            agent.records.next().await["outcome"],
            "refused",
            "{request}"
        );
        assert_eq!(agent.place.health_requests(), 0);
    }
}

/// The gateway then chooses another session.
#[tokio::test]
async fn a_session_that_is_suspect_or_drains_says_503() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    let agent = Agent::new(&jira, Options::default());
    let mut vendor = agent.channel();
    agent.place.set_suspect(true);
    let reply = vendor.get(HEALTH_PATH).await;
    assert_eq!(
        (reply.status, report(&reply).state),
        (503, HealthState::Suspect)
    );
    agent.place.set_suspect(false);
    assert_eq!(vendor.get(HEALTH_PATH).await.status, 200);
    agent.replaced.cancel();
    let reply = vendor.get(HEALTH_PATH).await;
    assert_eq!(
        (reply.status, report(&reply).state),
        (503, HealthState::Draining)
    );
    assert_eq!(reply.header("connection"), Some("close"));
}

/// A balancer uses the channels that it keeps until its next check says that the place is gone.
#[tokio::test(start_paused = true)]
async fn a_balancer_may_use_its_channels_until_it_has_noticed_the_end() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    let agent = Agent::new(&jira, Options::default());
    let (mut used, mut unused) = (agent.channel(), agent.channel());
    for channel in [&mut used, &mut unused] {
        assert_eq!(channel.get(HEALTH_PATH).await.status, 200);
    }
    let began = Instant::now();
    agent.drain.cancel();
    sleep(Duration::from_secs(1)).await;
    let reply = used.get(HEALTH_PATH).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(unused.end().await.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(1250));
}

/// A process that takes over lets requests wait; the one before it still answers them.
#[tokio::test]
async fn a_process_that_has_not_taken_over_says_503() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    let pauses = PauseRegistry::unknown(Path::new("/nonexistent"));
    let options = Options {
        pauses: pauses.clone(),
        ..Options::default()
    };
    let agent = Agent::new(&jira, options);
    let mut vendor = agent.channel();
    let reply = vendor.get(HEALTH_PATH).await;
    assert_eq!(
        (reply.status, report(&reply).state),
        (503, HealthState::Starting)
    );
    pauses.set_known();
    assert_eq!(vendor.get(HEALTH_PATH).await.status, 200);
}

#[tokio::test]
async fn while_a_check_runs_in_its_place_no_request_is_wanted() {
    let jira = raw_jira(|_| async { panic!("it reached Jira") }).await;
    let options = Options {
        only_expected: true,
        ..Options::default()
    };
    let agent = Agent::new(&jira, options);
    let reply = agent.channel().get(HEALTH_PATH).await;
    assert_eq!(
        (reply.status, report(&reply).state),
        (503, HealthState::Checking)
    );
}
