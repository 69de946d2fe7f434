//! Whole logins: what goes out, and what an answer does to the next request.

use super::*;
use crate::auth::lockout_guard::CONFIDENT;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn pass_through_touches_nothing_at_all() {
    let (login, layer) = login(Settings::PassThrough);
    assert_eq!(login.mode(), "pass-through");
    let headers = [
        ("authorization", "OAuth oauth_token=\"x\""),
        ("cookie", "JSESSIONID=1"),
        ("x-forwarded-user", "fred"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "9"),
    ];
    let target = "/jira/rest/api/2/search?os_username=x&oauth_token=%79";
    let mut head = request(target, &headers);
    let attempt = login.prepare(&mut head).await.unwrap();
    assert_eq!(head.uri, target);
    assert_eq!(head.headers, request(target, &headers).headers);
    let mut heard = answer(200, KNOWN);
    assert_eq!(attempt.on_response(&mut heard), AuthVerdict::Accepted);
    assert_eq!(heard.headers, answer(200, KNOWN).headers);
    let snapshot = layer.snapshot();
    assert_eq!(snapshot.state, ProofState::Proven);
    let told = snapshot.detail.unwrap();
    assert_eq!(told, "user acme-bot (the vendor's own login)");
}

#[tokio::test]
async fn pass_through_leaves_the_vendors_failed_login_to_the_vendor() {
    let (login, layer) = login(Settings::PassThrough);
    for (status, headers) in [(401, REFUSED), (200, &[("x-ausername", "anonymous")][..])] {
        for _ in 0..3 {
            let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
            assert_eq!(
                attempt.on_response(&mut answer(status, headers)),
                AuthVerdict::Accepted
            );
        }
    }
    assert_eq!(layer.snapshot().state, ProofState::Unknown);
}

#[tokio::test]
async fn basic_sends_user_and_password_as_rfc_7617_says() {
    let secrets = Secrets::new("Aladdin:öpen sesame\n");
    let (login, layer) = secrets.basic();
    let mut head = request(MYSELF, &[("authorization", "Bearer vendor")]);
    let attempt = login.prepare(&mut head).await.unwrap();
    let sent: Vec<_> = head.headers.get_all("authorization").iter().collect();
    // acme-bot:Aladdin:öpen sesame
    assert_eq!(sent, ["Basic YWNtZS1ib3Q6QWxhZGRpbjrDtnBlbiBzZXNhbWU="]);
    assert!(sent[0].is_sensitive());
    let mut heard = answer(200, KNOWN);
    assert_eq!(attempt.on_response(&mut heard), AuthVerdict::Accepted);
    assert!(!heard.headers.contains_key("set-cookie"));
    assert_eq!(layer.snapshot().state, ProofState::Proven);
    assert_eq!(layer.snapshot().detail.unwrap(), "user acme-bot");
}

#[tokio::test]
async fn pat_sends_the_token_with_one_space() {
    let secrets = Secrets::new("NjM0OTQyMjE5NDUxOm+/\n");
    let (login, _) = secrets.pat();
    let mut head = get(MYSELF);
    login.prepare(&mut head).await.unwrap();
    assert_eq!(head.headers["authorization"], "Bearer NjM0OTQyMjE5NDUxOm+/");
    assert!(head.headers["authorization"].is_sensitive());
}

#[tokio::test]
async fn a_credential_that_cannot_be_had_is_told_with_file_and_remedy() {
    let secrets = Secrets::new("two words");
    let (login, layer) = secrets.pat();
    let refusal = |refusal| match refusal {
        Err(AuthRefusal::Unavailable(why)) => why,
        _ => panic!("was let through"),
    };
    let path = secrets.path().display().to_string();
    let why = refusal(login.prepare(&mut get(MYSELF)).await.map(drop));
    assert!(
        why.cause.contains(&path) && why.cause.contains("space"),
        "{why:?}"
    );
    assert!(!why.cause.contains("two"), "{why:?}");
    assert_eq!(layer.snapshot().state, ProofState::Failed);
    std::fs::remove_file(secrets.path()).unwrap();
    let (login, _) = secrets.basic();
    let why = refusal(login.prepare(&mut get(MYSELF)).await.map(drop));
    assert!(
        why.cause.contains(&path) && why.cause.contains("does not exist"),
        "{why:?}"
    );
}

/// Sends `count` requests at once to a Jira that answers each with `answer`; how many got there.
async fn storm(
    login: &Arc<UpstreamAuth>,
    count: usize,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
) -> usize {
    let sent = Arc::new(AtomicUsize::new(0));
    let all = (0..count).map(|_| {
        let (login, sent) = (login.clone(), sent.clone());
        tokio::spawn(async move {
            let attempt = login.prepare(&mut get(MYSELF)).await?;
            sent.fetch_add(1, Ordering::SeqCst);
            // Jira thinks for a while; all the others arrive meanwhile.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, AuthRefusal>(attempt.on_response(&mut answer(status, headers)))
        })
    });
    for one in all.collect::<Vec<_>>() {
        let _ = one.await.unwrap();
    }
    sent.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn of_many_first_requests_with_a_wrong_password_one_reaches_jira() {
    let secrets = Secrets::new("wrong");
    let (login, layer) = secrets.basic();
    assert_eq!(storm(&login, 100, 401, REFUSED).await, 1);
    assert_eq!(storm(&login, 100, 401, REFUSED).await, 0);
    let told = layer.snapshot();
    assert_eq!(told.state, ProofState::Failed);
    assert!(told.cause.unwrap().contains("acme-bot"));
    let remedy = told.remedy.unwrap();
    assert!(
        remedy.contains(&secrets.path().display().to_string()),
        "{remedy}"
    );
    // A year later too.
    tokio::time::advance(Duration::from_secs(86_400 * 365)).await;
    assert_eq!(storm(&login, 3, 401, REFUSED).await, 0);
    assert!(login.prepare_probe(&mut get(MYSELF)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn once_jira_took_the_password_requests_run_side_by_side() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    let begun = tokio::time::Instant::now();
    assert_eq!(storm(&login, 100, 200, KNOWN).await, 100);
    // The first one alone, then all the others together.
    assert_eq!(begun.elapsed().as_millis() / 100, 10);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_tried_again_once_within_a_second() {
    let secrets = Secrets::new("wrong");
    let (login, layer) = secrets.basic();
    assert_eq!(storm(&login, 5, 401, REFUSED).await, 1);
    secrets.write("wrong too");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(storm(&login, 5, 401, REFUSED).await, 1);
    secrets.write("right");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(storm(&login, 5, 200, KNOWN).await, 5);
    assert_eq!(layer.snapshot().state, ProofState::Proven);
}

#[tokio::test(start_paused = true)]
async fn an_administrator_may_have_it_tried_again() {
    let secrets = Secrets::new("right, but behind a CAPTCHA");
    let (login, _) = secrets.basic();
    let captcha = &[(
        "x-authentication-denied-reason",
        "CAPTCHA_CHALLENGE; login-url=x",
    )];
    assert_eq!(storm(&login, 5, 403, captcha).await, 1);
    assert_eq!(storm(&login, 5, 403, captcha).await, 0);
    login.reset();
    assert_eq!(storm(&login, 5, 200, KNOWN).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_gets_no_answer_lets_the_next_one_try() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    let first = login.prepare(&mut get(MYSELF)).await.unwrap();
    let second = tokio::spawn({
        let login = login.clone();
        async move {
            login
                .prepare(&mut get(MYSELF))
                .await
                .map(|attempt| attempt.on_response(&mut answer(200, KNOWN)))
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap(), Ok(AuthVerdict::Accepted));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_the_first_one() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    let _hanging = login.prepare(&mut get(MYSELF)).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(matches!(
        login.prepare(&mut get(MYSELF)).await.map(drop),
        Err(AuthRefusal::Unavailable(_))
    ));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

/// As after each renewal: the first request may be an upload of many minutes.
#[tokio::test(start_paused = true)]
async fn nobody_waits_at_all_for_the_first_one_with_a_token() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.pat();
    let _uploading = login.prepare(&mut get(MYSELF)).await.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(login.prepare(&mut get(MYSELF)).await.is_ok());
    let probe = login.prepare_probe(&mut get(MYSELF)).await.unwrap();
    assert!(probe.is_some());
    assert!(begun.elapsed().is_zero());
}

/// The words that tell a lacking scope from a dead token are compressed for the vendor.
#[tokio::test]
async fn a_refusal_that_cannot_be_read_stops_only_a_credential_that_jira_never_took() {
    let words: &[(&str, &str)] = &[
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
    assert_eq!(
        attempt.on_response(&mut answer(200, KNOWN)),
        AuthVerdict::Accepted
    );
    for _ in 0..2 {
        let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
        assert_eq!(
            attempt.on_response(&mut answer(401, words)),
            AuthVerdict::Accepted
        );
    }
    let (login, _) = secrets.pat();
    let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
    let verdict = attempt.on_response(&mut answer(401, words));
    assert!(matches!(verdict, AuthVerdict::LoginFailed { .. }));
    assert!(login.prepare(&mut get(MYSELF)).await.is_err());
}

/// Tomcat refuses a head that is too long before anybody has looked at the password.
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_login_does_not_let_a_wrong_password_loose() {
    let secrets = Secrets::new("wrong");
    let (login, _) = secrets.basic();
    for status in [400, 404, 405, 413, 414, 431] {
        let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
        assert_eq!(
            attempt.on_response(&mut answer(status, &[])),
            AuthVerdict::Accepted
        );
        let _trial = login.prepare(&mut get(MYSELF)).await.unwrap();
        assert!(
            login.prepare(&mut get(MYSELF)).await.is_err(),
            "{status} let two at once go out"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_makes_us_anonymous_is_a_failed_login_not_a_success() {
    let secrets = Secrets::new("revoked");
    let (login, layer) = secrets.pat();
    let attempt = login.prepare(&mut get("/rest/api/2/search")).await.unwrap();
    let verdict = attempt.on_response(&mut answer(200, &[("x-ausername", "anonymous")]));
    let AuthVerdict::LoginFailed { cause, remedy } = verdict else {
        panic!("{verdict:?}");
    };
    assert!(cause.contains("anonymous"), "{cause}");
    assert!(remedy.contains("Personal Access Tokens"), "{remedy}");
    assert_eq!(layer.snapshot().state, ProofState::Failed);
    // Nothing more goes out as anonymous, but a probe may look whether it was a passing fault.
    assert!(login.prepare(&mut get(MYSELF)).await.is_err());
    tokio::time::advance(Duration::from_secs(15)).await;
    assert!(login.prepare(&mut get(MYSELF)).await.is_err());
    let probe = login
        .prepare_probe(&mut get(MYSELF))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        probe.on_response(&mut answer(200, KNOWN)),
        AuthVerdict::Accepted
    );
    assert!(login.prepare(&mut get(MYSELF)).await.is_ok());
}

#[tokio::test]
async fn another_user_than_the_configured_one_is_a_failed_login() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
    let verdict = attempt.on_response(&mut answer(200, &[("x-ausername", "admin")]));
    assert!(
        matches!(verdict, AuthVerdict::LoginFailed { cause, .. } if cause.contains("admin, not acme-bot"))
    );
}

#[tokio::test]
async fn a_lacking_permission_does_not_open_the_circuit() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    for (status, headers) in [
        (403, KNOWN),
        (403, &[("content-type", "application/json")]),
        (503, &[]),
    ] {
        let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
        assert_eq!(
            attempt.on_response(&mut answer(status, headers)),
            AuthVerdict::Accepted,
            "{status}"
        );
    }
    login.prepare(&mut get(MYSELF)).await.unwrap();
}

#[tokio::test]
async fn basic_switched_off_stops_the_first_request_and_is_named() {
    let secrets = Secrets::new("right");
    let (login, _) = secrets.basic();
    let attempt = login.prepare(&mut get(MYSELF)).await.unwrap();
    let verdict = attempt.on_response(&mut answer(403, &[("content-type", "application/json")]));
    assert!(matches!(verdict, AuthVerdict::LoginFailed { remedy, .. } if remedy.contains("pat")));
    assert!(login.prepare(&mut get(MYSELF)).await.is_err());
}

/// A login that the agent's probe has proven.
async fn probed(
    settings: (Arc<UpstreamAuth>, Arc<StatusLayer>),
) -> (Arc<UpstreamAuth>, Arc<StatusLayer>) {
    let (login, layer) = settings;
    login.enable_probing();
    assert_eq!(login.probe_need(), ProbeNeed::Untried);
    assert_eq!(probe(&login, 200, KNOWN).await, AuthVerdict::Accepted);
    assert_eq!(layer.snapshot().state, ProofState::Proven);
    assert_eq!(login.probe_need(), ProbeNeed::None);
    (login, layer)
}

async fn probe(login: &UpstreamAuth, status: u16, headers: &[(&str, &str)]) -> AuthVerdict {
    let attempt = login.prepare_probe(&mut get(MYSELF)).await.unwrap();
    attempt.unwrap().on_response(&mut answer(status, headers))
}

async fn ask(login: &UpstreamAuth, status: u16, headers: &[(&str, &str)]) -> AuthVerdict {
    let attempt = login
        .prepare(&mut get("/jira/secure/attachment/1/a.png"))
        .await;
    attempt.unwrap().on_response(&mut answer(status, headers))
}

/// Ways in which one path refuses what Jira takes elsewhere.
const REFUSALS: [(u16, &[(&str, &str)]); 6] = [
    (401, REFUSED),
    (401, &[]),
    (401, &[("www-authenticate", "Basic realm=\"Intranet\"")]),
    (
        302,
        &[
            ("location", "/jira/login.jsp"),
            ("x-ausername", "anonymous"),
        ],
    ),
    (302, &[("location", "/jira/login.jsp?os_destination=x")]),
    (200, &[("x-ausername", "anonymous")]),
];

#[tokio::test(start_paused = true)]
async fn what_one_path_refuses_fails_that_request_alone() {
    let secrets = Secrets::new("right");
    for (status, headers) in REFUSALS {
        let (login, layer) = probed(secrets.pat()).await;
        let verdict = ask(&login, status, headers).await;
        let AuthVerdict::LoginFailed { remedy, .. } = verdict else {
            panic!("{status} {headers:?} passed");
        };
        assert!(remedy.contains("for this request only"), "{remedy}");
        assert_eq!(login.refused(), None);
        assert_eq!(layer.snapshot().state, ProofState::Proven);
        // The probe is called, and nobody waits for it.
        assert_eq!(login.probe_need(), ProbeNeed::Doubted);
        login.probe_requested().await;
        assert_eq!(ask(&login, 200, KNOWN).await, AuthVerdict::Accepted);
        assert_eq!(probe(&login, 200, KNOWN).await, AuthVerdict::Accepted);
        assert_eq!(login.probe_need(), ProbeNeed::None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_waits_for_the_probe_and_goes_on_where_that_is_taken() {
    let secrets = Secrets::new("right");
    for (status, headers) in REFUSALS {
        let (login, _) = probed(secrets.basic()).await;
        ask(&login, status, headers).await;
        assert_eq!(login.probe_need(), ProbeNeed::HeldBack);
        let waiting = tokio::spawn({
            let login = login.clone();
            async move { ask(&login, 200, KNOWN).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        assert_eq!(probe(&login, 200, KNOWN).await, AuthVerdict::Accepted);
        assert_eq!(waiting.await.unwrap(), AuthVerdict::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_changed_in_jira_reaches_it_by_one_request_and_one_probe() {
    let secrets = Secrets::new("changed in Jira");
    let (login, layer) = probed(secrets.basic()).await;
    ask(&login, 401, REFUSED).await;
    let waiting = tokio::spawn({
        let login = login.clone();
        async move { login.prepare(&mut get(MYSELF)).await.map(drop) }
    });
    let verdict = probe(&login, 401, REFUSED).await;
    assert!(matches!(verdict, AuthVerdict::LoginFailed { .. }));
    assert!(matches!(
        waiting.await.unwrap(),
        Err(AuthRefusal::Unavailable(_))
    ));
    assert_eq!(layer.snapshot().state, ProofState::Failed);
    tokio::time::advance(Duration::from_secs(86_400 * 365)).await;
    assert!(login.prepare_probe(&mut get(MYSELF)).await.is_err());
}

/// Jira keeps sessions when a password is changed, and answers may overtake each other.
#[tokio::test(start_paused = true)]
async fn a_good_answer_after_the_probes_refusal_proves_nothing() {
    let secrets = Secrets::new("changed-in-Jira");
    for settings in [secrets.basic(), secrets.pat()] {
        let (login, layer) = probed(settings).await;
        let mut earlier = Vec::new();
        for _ in 0..2 {
            earlier.push(login.prepare(&mut get(MYSELF)).await.unwrap());
        }
        ask(&login, 401, REFUSED).await;
        // In doubt, and after it.
        assert_eq!(
            earlier.pop().unwrap().on_response(&mut answer(200, KNOWN)),
            AuthVerdict::Accepted
        );
        probe(&login, 401, REFUSED).await;
        assert_eq!(layer.snapshot().state, ProofState::Failed);
        assert_eq!(
            earlier.pop().unwrap().on_response(&mut answer(200, KNOWN)),
            AuthVerdict::Accepted
        );
        assert_eq!(layer.snapshot().state, ProofState::Failed);
        assert!(login.prepare(&mut get(MYSELF)).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_unproven_until_the_probe_has_proven_it() {
    let secrets = Secrets::new("first");
    for (login, layer) in [secrets.basic(), secrets.pat()] {
        let (login, layer) = probed((login, layer)).await;
        // On its way while the file changes: it says nothing of the new secret.
        let late = login.prepare(&mut get(MYSELF)).await.unwrap();
        for (status, headers, state) in [
            (401, REFUSED, ProofState::Failed),
            (200, KNOWN, ProofState::Proven),
            (401, REFUSED, ProofState::Failed),
        ] {
            assert!(!login.reload_if_changed().await, "nothing has changed");
            secrets.write(&format!("another-{status}"));
            assert!(login.reload_if_changed().await);
            let told = layer.snapshot();
            assert_eq!((told.state, told.proven_at), (ProofState::Unknown, None));
            assert!(told.cause.unwrap().contains("has changed"));
            assert!(!told.remedy.unwrap().is_empty());
            assert_eq!(login.probe_need(), ProbeNeed::Untried);
            assert_eq!(login.refused().is_some(), state == ProofState::Proven);
            login.probe_requested().await;
            probe(&login, status, headers).await;
            assert_eq!(layer.snapshot().state, state);
        }
        secrets.write("the-last-one");
        login.reload_if_changed().await;
        late.on_response(&mut answer(200, KNOWN));
        assert_eq!(layer.snapshot().state, ProofState::Unknown);
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_fails_the_login_without_any_request() {
    let secrets = Secrets::new("token");
    let (login, layer) = probed(secrets.pat()).await;
    std::fs::remove_file(secrets.path()).unwrap();
    login.reload_if_changed().await;
    let told = layer.snapshot();
    assert_eq!(told.state, ProofState::Failed);
    assert!(told.cause.unwrap().contains("does not exist"));
    secrets.write("token");
    assert!(login.reload_if_changed().await);
    assert_eq!(layer.snapshot().state, ProofState::Unknown);
}

#[tokio::test]
async fn an_answer_for_another_user_than_the_probes_is_a_failed_login_in_every_mode() {
    let secrets = Secrets::new("token");
    let (login, layer) = probed(secrets.pat()).await;
    let verdict = ask(&login, 200, &[("x-ausername", "admin")]).await;
    let AuthVerdict::LoginFailed { cause, .. } = verdict else {
        panic!("passed");
    };
    assert!(cause.contains("user admin, not acme-bot"), "{cause}");
    assert_eq!(layer.snapshot().detail.unwrap(), "user acme-bot");
    assert_eq!(login.probe_need(), ProbeNeed::Doubted);
    // Letter case and encodings are Jira's own.
    let verdict = ask(&login, 200, &[("x-ausername", "Acme%2Dbot")]).await;
    assert_eq!(verdict, AuthVerdict::Accepted);

    // Renamed in Jira: the probe meets the new name, and from then on that one counts.
    assert_eq!(
        probe(&login, 200, &[("x-ausername", "bot")]).await,
        AuthVerdict::Accepted
    );
    assert_eq!(layer.snapshot().detail.unwrap(), "user bot");
    assert_eq!(
        ask(&login, 200, &[("x-ausername", "bot")]).await,
        AuthVerdict::Accepted
    );
    assert_ne!(ask(&login, 200, KNOWN).await, AuthVerdict::Accepted);
}

#[tokio::test]
async fn single_sign_on_in_the_probes_way_is_no_word_about_the_credential() {
    let secrets = Secrets::new("token");
    let (login, layer) = probed(secrets.basic()).await;
    let verdict = probe(&login, 302, &[("location", "/sso/login")]).await;
    assert!(matches!(verdict, AuthVerdict::LoginFailed { .. }));
    assert_eq!(login.refused(), None);
    let told = layer.snapshot();
    assert_eq!(told.state, ProofState::Unknown);
    assert!(told.cause.unwrap().contains("login page"));
}

/// A password that Jira has taken, a while ago.
async fn taken_a_while_ago(secrets: &Secrets) -> Arc<UpstreamAuth> {
    let (login, _) = secrets.basic();
    login.enable_probing();
    let probe = login
        .prepare_probe(&mut get(MYSELF))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        probe.on_response(&mut answer(200, &KNOWN[..2])),
        AuthVerdict::Accepted
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    login
}

/// So many requests that are to be sent at once.
fn at_once(login: &Arc<UpstreamAuth>) -> tokio::task::JoinSet<Result<AuthAttempt, AuthRefusal>> {
    let login = |_| {
        let login = login.clone();
        async move { login.prepare(&mut get(MYSELF)).await }
    };
    (0..40).map(login).collect()
}

async fn first_of(
    requests: &mut tokio::task::JoinSet<Result<AuthAttempt, AuthRefusal>>,
) -> AuthAttempt {
    let first = requests.join_next().await.unwrap().unwrap().unwrap();
    tokio::time::advance(Duration::from_millis(100)).await;
    tokio::task::yield_now().await;
    assert!(requests.try_join_next().is_none(), "a second one was sent");
    first
}

/// A refusal is known only when it comes back, and Jira locks the account after three.
#[tokio::test(start_paused = true)]
async fn of_many_requests_at_once_one_tries_a_password_that_may_have_changed() {
    let secrets = Secrets::new("changed in Jira since");
    let login = taken_a_while_ago(&secrets).await;
    let mut requests = at_once(&login);
    let first = first_of(&mut requests).await;
    let verdict = first.on_response(&mut answer(401, REFUSED));
    assert!(matches!(verdict, AuthVerdict::LoginFailed { .. }));
    login.probe_requested().await;
    let probe = login
        .prepare_probe(&mut get(MYSELF))
        .await
        .unwrap()
        .unwrap();
    probe.on_response(&mut answer(401, REFUSED));
    while let Some(request) = requests.join_next().await {
        assert!(matches!(request.unwrap(), Err(AuthRefusal::Unavailable(_))));
    }
}

/// The same in real parallel: a refusal that comes between what two locks say lets no second request go.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_refusal_in_the_middle_of_many_requests_lets_no_second_one_go() {
    let secrets = Secrets::new("hunter2");
    let mut logins = Vec::new();
    for _ in 0..300 {
        let (login, _) = secrets.basic();
        login.enable_probing();
        let probe = login.prepare_probe(&mut get(MYSELF)).await.unwrap();
        probe.unwrap().on_response(&mut answer(200, &KNOWN[..2]));
        logins.push(login);
    }
    // Real time, since the threads are real: until no good answer speaks for the requests that follow.
    tokio::time::sleep(CONFIDENT + Duration::from_millis(50)).await;
    let mut met = 0;
    for login in logins {
        let sent = Arc::new(AtomicUsize::new(0));
        let requests: Vec<_> = (0..16)
            .map(|_| {
                let (login, sent) = (login.clone(), sent.clone());
                tokio::spawn(async move {
                    // Who waits for the probe waits longer.
                    let limit = Duration::from_millis(20);
                    let request = async { login.prepare(&mut get(MYSELF)).await };
                    if let Ok(Ok(first)) = tokio::time::timeout(limit, request).await {
                        sent.fetch_add(1, Ordering::SeqCst);
                        first.on_response(&mut answer(401, REFUSED));
                    }
                })
            })
            .collect();
        for request in requests {
            request.await.unwrap();
        }
        // None at all where a busy machine takes longer than the limit.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent <= 1, "{sent} requests met the rejected password");
        met += sent;
    }
    assert!(met > 0, "no request was sent at all");
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_the_first_of_many_requests_lets_the_others_go() {
    let secrets = Secrets::new("hunter2");
    let login = taken_a_while_ago(&secrets).await;
    let mut requests = at_once(&login);
    let first = first_of(&mut requests).await;
    // 404 from Jira, say: no word against the login.
    first.on_response(&mut answer(404, &[]));
    let begun = tokio::time::Instant::now();
    for request in requests.join_all().await {
        request.unwrap().on_response(&mut answer(200, &KNOWN[..2]));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // While answers come, nobody waits.
    assert!(at_once(&login).join_all().await.iter().all(Result::is_ok));
}

/// An upload of many minutes has no answer for as long.
#[tokio::test(start_paused = true)]
async fn where_the_first_of_many_requests_takes_long_the_probe_lets_the_others_go() {
    let secrets = Secrets::new("hunter2");
    let login = taken_a_while_ago(&secrets).await;
    let mut requests = at_once(&login);
    let first = first_of(&mut requests).await;
    let begun = tokio::time::Instant::now();
    login.probe_requested().await;
    assert!(begun.elapsed() < Duration::from_millis(300));
    assert_eq!(login.probe_need(), ProbeNeed::HeldBack);
    let probe = login
        .prepare_probe(&mut get(MYSELF))
        .await
        .unwrap()
        .unwrap();
    probe.on_response(&mut answer(200, &KNOWN[..2]));
    assert_eq!(login.probe_need(), ProbeNeed::None);
    assert!(requests.join_all().await.iter().all(Result::is_ok));
    drop(first);
}

/// A tool that writes the file again and again must not lock the account.
#[tokio::test(start_paused = true)]
async fn the_same_secret_written_once_more_is_not_tried_again() {
    let secrets = Secrets::new("wrong");
    let (login, layer) = secrets.basic();
    assert_eq!(storm(&login, 5, 401, REFUSED).await, 1);
    let mode = |mode| std::fs::set_permissions(secrets.path(), Permissions::from_mode(mode));
    for round in 0..5 {
        match round {
            0 => secrets.write("wrong"),
            1 => secrets.write("wrong\n"),
            2 => mode(0o644).unwrap(),
            3 => std::fs::remove_file(secrets.path()).unwrap(),
            _ => secrets.write("\n"),
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!login.reload_if_changed().await);
        let cause = layer.snapshot().cause.unwrap();
        assert_eq!(cause.starts_with("Jira refused"), round < 2, "{cause}");
        match round {
            2 => mode(0o600).unwrap(),
            _ => secrets.write("wrong"),
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!login.reload_if_changed().await, "{round}");
        assert_eq!(storm(&login, 5, 401, REFUSED).await, 0, "{round}");
        let told = layer.snapshot();
        assert_eq!(told.state, ProofState::Failed);
        let (cause, remedy) = (told.cause.unwrap(), told.remedy.unwrap());
        assert!(cause.starts_with("Jira refused the password"), "{cause}");
        assert!(remedy.contains("agent login-retry"), "{remedy}");
    }
    // At an administrator's word, and by another content.
    login.reset();
    assert_eq!(storm(&login, 5, 401, REFUSED).await, 1);
    secrets.write("right");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(storm(&login, 5, 200, KNOWN).await, 5);
}

#[tokio::test(start_paused = true)]
async fn a_proven_secret_that_is_written_once_more_stays_proven_and_one_that_was_gone_is_probed() {
    let secrets = Secrets::new("token");
    for settings in [secrets.pat(), secrets.basic()] {
        let (login, layer) = probed(settings).await;
        secrets.write("token\n");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!login.reload_if_changed().await);
        assert_eq!(layer.snapshot().state, ProofState::Proven);
        assert_eq!(login.probe_need(), ProbeNeed::None);
        std::fs::remove_file(secrets.path()).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        // A request meets it first.
        assert!(login.prepare(&mut get(MYSELF)).await.is_err());
        assert_eq!(layer.snapshot().state, ProofState::Failed);
        secrets.write("token");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(login.reload_if_changed().await, "to be probed at once");
        assert_eq!(layer.snapshot().state, ProofState::Unknown);
        assert_eq!(probe(&login, 200, KNOWN).await, AuthVerdict::Accepted);
        assert_eq!(layer.snapshot().state, ProofState::Proven);
    }
}
