//! What proves the credential.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[tokio::test]
async fn both_layers_are_proven_by_what_jira_says() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    assert!(fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Proven);
    assert_eq!(told.detail.unwrap(), "RUNNING, version 9.12.4");
    let told = fixture.login.snapshot();
    assert_eq!(told.state, ProofState::Proven);
    assert_eq!(told.detail.unwrap(), "user acme-bot");
    let asked = jira.asked();
    assert_eq!(asked.len(), 4);
    for head in &asked {
        assert!(head.contains("host: jira.test\r\n"), "{head}");
        assert_eq!(
            head.contains("authorization: Bearer s3cret\r\n"),
            head.contains("/myself") || head.contains("/rest/pat/"),
            "the credential goes where it is needed alone: {head}"
        );
    }
}

#[tokio::test]
async fn all_probes_meet_one_node_and_no_session_answers_for_the_credential() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        200,
        "x-ausername: acme-bot\r\nset-cookie: SERVERID=n1; path=/\r\n\
         set-cookie: JSESSIONID=S1; Path=/jira; HttpOnly\r\n",
        r#"{"name":"acme-bot"}"#,
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    assert!(fixture.health.probe().await);
    jira.asked();
    fixture.jira.failed(ProofState::Degraded, "x", "y");
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    let asked = jira.asked();
    assert!(asked.len() >= 2, "{asked:?}");
    for head in &asked {
        let cookies = match head.contains("authorization:") {
            true => "cookie: SERVERID=n1\r\n",
            false => "cookie: JSESSIONID=S1; SERVERID=n1\r\n",
        };
        assert!(head.contains(cookies), "{head}");
    }
}

#[tokio::test]
async fn in_pass_through_mode_nobody_logs_in() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    assert!(jira.asked().iter().all(|head| !head.contains("/myself")));
    assert_eq!(fixture.login.snapshot().state, ProofState::Unknown);
}

/// Jira names the user in each answer for `myself`. What looks like a success and names nobody is no proof of the login.
#[tokio::test]
async fn a_success_that_names_nobody_proves_no_login() {
    let json = "content-type: application/json\r\n";
    for (status, headers, body) in [
        (200, json, "{}"),
        (200, json, r#"{"error":"blocked","support_id":"17"}"#),
        (
            200,
            "content-type: application/json\r\nx-arequestid: 1x1x1\r\n",
            "[]",
        ),
        (
            200,
            "content-type: text/html\r\nx-arequestid: 1x1x1\r\n",
            "<html><form>",
        ),
        (200, "", ""),
        (204, "", ""),
    ] {
        for mode in [Mode::Pat, Mode::Basic] {
            let jira = Jira::healthy();
            jira.answers("/jira/rest/api/2/myself", status, headers, body);
            let mut fixture = health(settings(jira.serve(None).await), mode);
            assert!(!fixture.health.probe().await, "{status} {headers} {body}");
            let told = fixture.login.snapshot();
            assert_eq!(told.state, ProofState::Unknown, "{status} {headers} {body}");
            let cause = told.cause.unwrap();
            assert!(cause.contains("names no user"), "{cause}");
            assert_eq!(told.detail, None);
        }
    }
}

#[tokio::test]
async fn a_changed_secret_is_unproven_and_probed_within_two_seconds_either_way() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        login: layer,
        folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::Pat);
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let reaches = async |state| {
        let reached = async {
            while layer.snapshot().state != state {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), reached)
            .await
            .unwrap_or_else(|_| panic!("never {state:?}: {:?}", layer.snapshot()));
    };
    reaches(ProofState::Proven).await;
    for (status, state) in [(401, ProofState::Failed), (200, ProofState::Proven)] {
        jira.answers(
            "/jira/rest/api/2/myself",
            status,
            "x-arequestid: 1x1x1\r\n",
            r#"{"name":"acme-bot"}"#,
        );
        let new = folder.path().join("new");
        std::fs::write(&new, format!("secret-for-{status}")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, folder.path().join("secret")).unwrap();
        let begun = std::time::Instant::now();
        reaches(state).await;
        // Two seconds on a quiet machine; far below the half minute of the regular probe on any.
        assert!(begun.elapsed() < Duration::from_secs(10), "{state:?}");
    }
    stop.cancel();
    probing.await.unwrap();
}

#[tokio::test]
async fn a_refused_password_is_sent_once_however_often_is_probed() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        401,
        "x-seraph-loginreason: AUTHENTICATED_FAILED\r\n",
        "",
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Basic);
    for _ in 0..5 {
        assert!(!fixture.health.probe().await);
    }
    let logins = jira.asked();
    let logins = logins.iter().filter(|head| head.contains("/myself"));
    assert_eq!(logins.count(), 1);
    assert_eq!(fixture.login.snapshot().state, ProofState::Failed);
}

#[tokio::test]
async fn basic_switched_off_is_named_from_the_body() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        403,
        "content-type: text/plain\r\n",
        r#"{"message":"Basic Authentication has been disabled on this instance."}"#,
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Basic);
    assert!(!fixture.health.probe().await);
    let told = fixture.login.snapshot();
    assert!(told.cause.unwrap().contains("switched off"));
    assert!(told.remedy.unwrap().contains("pat"));
}

#[tokio::test]
async fn where_a_proxy_takes_the_user_header_away_the_body_names_the_user() {
    let jira = Jira::healthy();
    jira.answers("/jira/rest/api/2/myself", 200, "", r#"{"name":"acme-bot"}"#);
    let address = jira.serve(None).await;
    let mut fixture = health(settings(address), Mode::Basic);
    assert!(fixture.health.probe().await);
    assert_eq!(fixture.login.snapshot().detail.unwrap(), "user acme-bot");
    jira.answers("/jira/rest/api/2/myself", 200, "", r#"{"name":"admin"}"#);
    let mut fixture = health(settings(address), Mode::Basic);
    assert!(!fixture.health.probe().await);
    assert!(fixture.login.snapshot().cause.unwrap().contains("admin"));
}
