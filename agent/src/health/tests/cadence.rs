//! When is probed: regularly, after failures, and at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[tokio::test]
async fn when_a_token_ends_is_asked_a_few_times_a_day_and_at_once_for_a_new_one() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    let http = fixture.health.http.as_ref().unwrap();
    let login = http.login.clone();
    assert!(matches!(login.expiries()[0].end, ExpiryTime::Unknown(_)));
    let asked = || {
        let asked = jira.asked();
        asked.iter().filter(|h| h.contains("/rest/pat/")).count()
    };
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    let end = login.expiries()[0].end.clone();
    assert_eq!(Some(end), timestamps::day("2099-01-31").map(ExpiryTime::At));
    fixture.health.probe().await;
    assert_eq!(asked(), 0);

    // A Jira that refuses this says nothing about the login.
    jira.answers("/jira/rest/pat/latest/tokens", 401, "", "");
    pass(Duration::from_secs(6 * 3600)).await;
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    assert!(matches!(&login.expiries()[0].end, ExpiryTime::Unknown(why) if why.contains("401")));
    assert_eq!(login.refused(), None);

    let new = fixture.folder.path().join("new");
    std::fs::write(&new, "an0ther").unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, fixture.folder.path().join("secret")).unwrap();
    pass(LONGEST_INTERVAL * 2).await;
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    fixture.health.probe().await;
    assert_eq!(asked(), 0);
}

#[tokio::test]
async fn what_traffic_has_just_proven_is_not_asked() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    // Whether Jira takes the credential at all is the probe's to find out, once.
    assert!(fixture.health.probe().await);
    jira.asked();
    pass(LONGEST_INTERVAL).await;
    fixture.jira.proven(None);
    fixture.login.proven(None);
    pass(ProbeCadence::JIRA.jira_fresh / 2).await;
    assert!(fixture.health.probe().await);
    assert!(jira.asked().is_empty());
    pass(Duration::from_secs(6 * 3600)).await;
    fixture.jira.proven(None);
    fixture.login.proven(None);
    assert!(fixture.health.probe().await);
    // But when the token ends no traffic tells.
    let asked = jira.asked();
    assert!(asked.iter().all(|h| h.contains("/rest/pat/")), "{asked:?}");
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    // Jira beside the login, which may wait for long.
    let asked = jira.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().any(|head| head.contains("/myself")));
}

#[tokio::test]
async fn it_probes_at_once_and_stops_when_told() {
    let jira = Jira::healthy();
    let fixture = health(settings(jira.serve(None).await), Mode::Pat);
    let stop = CancellationToken::new();
    let running = tokio::spawn(fixture.health.run(stop.clone()));
    let proven = async {
        while fixture.login.snapshot().state != ProofState::Proven {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), proven)
        .await
        .unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap();
}

#[test]
fn after_failures_it_looks_sooner_and_then_less_and_less_often() {
    let seconds: Vec<u64> = (1..8)
        .map(|failures| RETRY.after(failures).as_secs())
        .collect();
    assert_eq!(seconds, [2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(RETRY.after(u32::MAX).as_secs(), 30);
}

/// Whenever traffic proved it last, a Jira that hangs from then on is probed early enough to be named within 10 s.
#[test]
fn jira_is_probed_before_its_proof_is_six_seconds_old() {
    let cadence = ProbeCadence::JIRA;
    for tenths in 0..=50 {
        for random in [0.0, 0.5, 1.0] {
            let age = Duration::from_millis(tenths * 100);
            // A probe that is due while the proof is fresh is skipped.
            let pause = match age < cadence.jira_fresh {
                true => cadence.pause(age, random),
                false => Duration::ZERO,
            };
            assert!(age + pause <= Duration::from_secs(6), "{age:?} {pause:?}");
            assert!(age + pause >= cadence.jira_fresh, "{age:?} {pause:?}");
        }
    }
}

/// One line in Jira's access log every five seconds, and the credential no more often than with the other cadence.
#[test]
fn the_status_page_is_probed_often_and_the_credential_seldom() {
    let probes = |cadence: ProbeCadence| {
        let (mut jira, mut login, mut counts) = (Duration::ZERO, Duration::ZERO, (0, 0));
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(600) {
            now += cadence.pause(now - jira, 1.0);
            if now - jira >= cadence.jira_fresh {
                (jira, counts.0) = (now, counts.0 + 1);
            }
            if now - login >= cadence.login_fresh {
                (login, counts.1) = (now, counts.1 + 1);
            }
        }
        counts
    };
    assert_eq!(probes(ProbeCadence::JIRA), (120, 24));
    assert_eq!(probes(ProbeCadence::SELDOM), (20, 20));
}

/// Jira is back, and its database is cold: neither the layer nor the vendor waits for the login.
#[tokio::test]
async fn what_jira_answers_counts_before_the_login_is_answered() {
    let jira = Jira::healthy();
    jira.hangs(MYSELF);
    let address = jira.serve(None).await;
    let upstream = Arc::new(Upstream::new(settings(closed_port().await)).unwrap());
    open_breaker(&upstream).await;
    let fixture = health(settings(address), Mode::Pat);
    let mut health = fixture.health.watching(Some(upstream.clone()));
    tokio::select! {
        _ = health.probe() => panic!("the login was answered"),
        () = until(|| {
            fixture.jira.snapshot().state == ProofState::Proven
                && !upstream.protection().breaker_open
        }) => {}
    }
}

/// Cloud, which is probed seldom while all is well.
#[tokio::test]
async fn while_requests_are_held_back_cloud_is_probed_every_few_seconds_too() {
    let mut settings = settings(closed_port().await);
    settings.cloud = Some(upstream::CloudRoute::Site);
    let upstream = Arc::new(Upstream::new(settings.clone()).unwrap());
    let fixture = health(settings, Mode::PassThrough);
    let health = fixture.health.watching(Some(upstream.clone()));
    fixture.jira.failed(ProofState::Failed, "x", "y");
    assert_eq!(health.pause_after(9), LONGEST_INTERVAL);
    open_breaker(&upstream).await;
    assert_eq!(health.pause_after(9), ProbeCadence::JIRA.interval);
    assert_eq!(health.pause_after(1), FIRST_PAUSE);
}

/// The status page may be answered while nothing else is: it alone ends no silence and no pause.
#[tokio::test]
async fn while_requests_are_held_back_the_probe_asks_rest_too() {
    let jira = Jira::healthy();
    let address = jira.serve(None).await;
    let upstream = Arc::new(Upstream::new(settings(closed_port().await)).unwrap());
    let Fixture {
        health,
        jira: layer,
        folder: _folder,
        ..
    } = health(settings(address), Mode::PassThrough);
    let mut health = health.watching(Some(upstream.clone()));
    let asked_rest = || {
        let asked = jira.asked();
        asked.iter().any(|head| head.contains("/serverInfo"))
    };
    // For the version, once.
    assert!(health.probe().await);
    assert!(asked_rest());
    layer.failed(ProofState::Degraded, "x", "y");
    assert!(health.probe().await);
    assert!(!asked_rest());
    open_breaker(&upstream).await;
    layer.failed(ProofState::Degraded, "x", "y");
    assert!(health.probe().await);
    assert!(asked_rest());
    assert!(!upstream.protection().breaker_open);
}

#[test]
fn what_waits_and_what_is_held_back_asks_more_than_the_status_page() {
    assert!(!proves_too_little(&ProtectionSnapshot::default()));
    let held = Some((1, Duration::from_secs(9)));
    for busy in [
        ProtectionSnapshot {
            unanswered: 1,
            ..ProtectionSnapshot::default()
        },
        ProtectionSnapshot {
            breaker_open: true,
            ..ProtectionSnapshot::default()
        },
        ProtectionSnapshot {
            held,
            ..ProtectionSnapshot::default()
        },
    ] {
        assert!(proves_too_little(&busy), "{busy:?}");
    }
}

/// However fresh the proof is that it throws doubt on.
#[tokio::test]
async fn what_a_request_met_is_looked_at_within_seconds() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        jira: layer,
        folder: _folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::PassThrough);
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let until = async |state| {
        while layer.snapshot().state != state {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(ProofState::Proven).await;
    jira.answers("/jira/status", 503, "", r#"{"state":"MAINTENANCE"}"#);
    layer.doubt();
    let seen = tokio::time::timeout(LONGEST_INTERVAL / 4, until(ProofState::Degraded)).await;
    assert!(seen.is_ok());
    stop.cancel();
    probing.await.unwrap();
}

#[tokio::test]
async fn an_administrators_word_is_probed_at_once() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        login: layer,
        folder: _folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::Pat);
    let login = health.http.as_ref().unwrap().login.clone();
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let proven = async || {
        while layer.snapshot().state != ProofState::Proven {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    proven().await;
    // Well before the next regular probe.
    layer.failed(ProofState::Failed, "the former failure", "wait");
    login.reset();
    let waited = tokio::time::timeout(LONGEST_INTERVAL / 3, proven()).await;
    assert!(waited.is_ok());
    stop.cancel();
    probing.await.unwrap();
}

#[tokio::test]
async fn a_tcp_upstream_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = upstream::Settings::new(format!("tcp://{address}").parse().unwrap());
    let mut fixture = health(settings.clone(), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    assert_eq!(
        fixture.jira.snapshot().detail.unwrap(),
        "accepts connections"
    );
    drop(listener);
    let mut fixture = health(settings, Mode::PassThrough);
    assert!(!fixture.health.probe().await);
}
