//! The cookies of Jira's side: kept for the agent's own credential only.

use super::*;
use crate::auth::upstream_cookies::{MAX_BYTES, MAX_COOKIES, SESSION_MAX_AGE};

const CREATE: &str = "/jira/rest/api/2/issue";
const AFFINITY: (&str, &str) = ("set-cookie", "SERVERID=n1; path=/; HttpOnly");
const SESSION: (&str, &str) = ("set-cookie", "JSESSIONID=S1.n1; Path=/jira; HttpOnly");
const USER: (&str, &str) = ("x-ausername", "acme-bot");

/// What Jira gets as `Cookie` for a request of the vendor's.
async fn cookie(login: &UpstreamAuth, target: &str) -> Option<String> {
    let (cookie, attempt) = sent(login, target).await;
    drop(attempt);
    cookie
}

/// What the next request would carry, even where none may be sent now.
fn kept(login: &UpstreamAuth) -> Option<String> {
    match &login.mode {
        AuthMode::Inject(inject) => inject.cookies.for_path(CREATE),
        AuthMode::PassThrough(_) => None,
    }
}

async fn sent(login: &UpstreamAuth, target: &str) -> (Option<String>, AuthAttempt) {
    let mut head = request(
        target,
        &[("cookie", "JSESSIONID=of-the-vendor; SERVERID=n9")],
    );
    let attempt = login.prepare(&mut head).await.unwrap();
    let lines: Vec<_> = head.headers.get_all("cookie").iter().collect();
    assert!(lines.len() <= 1);
    let line = lines.first().map(|line| {
        assert!(line.is_sensitive());
        let mut cookies: Vec<_> = line.to_str().unwrap().split("; ").collect();
        cookies.sort_unstable();
        cookies.join("; ")
    });
    (line, attempt)
}

async fn answered(
    login: &UpstreamAuth,
    target: &str,
    status: u16,
    headers: &[(&str, &str)],
) -> AuthVerdict {
    let (_, attempt) = sent(login, target).await;
    let mut head = answer(status, headers);
    let verdict = attempt.on_response(&mut head);
    assert!(!head.headers.contains_key("set-cookie"), "to the vendor");
    verdict
}

const BOTH: Option<&str> = Some("JSESSIONID=S1.n1; SERVERID=n1");

#[tokio::test]
async fn node_and_session_of_the_agents_login_go_back_to_jira_and_never_to_the_vendor() {
    let secrets = Secrets::new("token");
    for (login, _) in [secrets.pat(), secrets.basic()] {
        assert_eq!(cookie(&login, CREATE).await, None, "nor of the vendor");
        answered(&login, CREATE, 201, &[USER, AFFINITY, SESSION]).await;
        assert_eq!(
            cookie(&login, "/jira/rest/api/2/search?jql=x")
                .await
                .as_deref(),
            BOTH
        );
        // The agent's own probe is on the same node; no session answers it in the credential's place.
        let mut probe = get(MYSELF);
        let attempt = login.prepare_probe(&mut probe).await.unwrap().unwrap();
        assert_eq!(probe.headers["cookie"], "SERVERID=n1");
        let moved = [USER, ("set-cookie", "SERVERID=n2; path=/")];
        attempt.on_response(&mut answer(200, &moved));
        let cookies = cookie(&login, CREATE).await;
        assert_eq!(cookies.as_deref(), Some("JSESSIONID=S1.n1; SERVERID=n2"));
    }
}

#[tokio::test]
async fn only_an_answer_to_the_agents_own_user_sets_a_cookie() {
    let other = [("x-ausername", "admin"), AFFINITY, SESSION];
    let anonymous = [("x-ausername", "anonymous"), AFFINITY, SESSION];
    let refused = [REFUSED[0], AFFINITY, SESSION];
    let unnamed = [AFFINITY, SESSION];
    for (status, headers) in [
        (200, &other[..]),
        (200, &anonymous[..]),
        (401, &refused[..]),
        (401, &unnamed[..]),
        (502, &unnamed[..]),
        (403, &unnamed[..]),
    ] {
        let secrets = Secrets::new("token");
        let (login, _) = secrets.basic();
        answered(&login, CREATE, status, headers).await;
        assert_eq!(kept(&login), None, "{status} {headers:?}");
    }
}

#[tokio::test]
async fn an_answer_that_refuses_the_login_ends_the_session() {
    let secrets = Secrets::new("token");
    for (status, headers, left) in [
        (401, REFUSED, Some("SERVERID=n1")),
        (
            200,
            &[("x-ausername", "anonymous")][..],
            Some("SERVERID=n1"),
        ),
        // Whose cookie that was nobody knows.
        (200, &[("x-ausername", "admin")][..], None),
    ] {
        let (login, _) = secrets.basic();
        answered(&login, CREATE, 201, &[USER, AFFINITY, SESSION]).await;
        let (both, in_flight) = sent(&login, CREATE).await;
        assert_eq!(both.as_deref(), BOTH);
        answered(&login, CREATE, status, headers).await;
        assert_eq!(kept(&login).as_deref(), left, "{status}");
        // Nor does one that was in flight bring it back.
        in_flight.on_response(&mut answer(200, &[USER, SESSION]));
        assert_eq!(kept(&login).as_deref(), left, "{status}");
    }
}

#[tokio::test]
async fn a_changed_credential_and_an_administrators_reset_begin_without_cookies() {
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    answered(&login, CREATE, 201, &[USER, AFFINITY, SESSION]).await;
    let (both, of_the_old) = sent(&login, CREATE).await;
    assert_eq!(both.as_deref(), BOTH);
    secrets.write("another");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(cookie(&login, CREATE).await, None);
    of_the_old.on_response(&mut answer(200, &[USER, SESSION]));
    assert_eq!(cookie(&login, CREATE).await, None);

    answered(&login, CREATE, 201, &[USER, AFFINITY, SESSION]).await;
    assert_eq!(cookie(&login, CREATE).await.as_deref(), BOTH);
    login.reset();
    assert_eq!(cookie(&login, CREATE).await, None);
}

/// Jira looks at the session first: behind one, a password that was changed would work for ever.
#[tokio::test]
async fn the_credential_itself_logs_in_at_least_every_half_minute() {
    let secrets = Secrets::new("token");
    let (login, _) = secrets.basic();
    answered(&login, CREATE, 201, &[USER, AFFINITY, SESSION]).await;
    let pass = async |time| {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    };
    pass(SESSION_MAX_AGE / 2).await;
    // Said again, it grows no younger.
    answered(&login, CREATE, 201, &[USER, SESSION]).await;
    assert_eq!(cookie(&login, CREATE).await.as_deref(), BOTH);
    pass(SESSION_MAX_AGE / 2).await;
    let left = cookie(&login, CREATE).await;
    assert_eq!(left.as_deref(), Some("SERVERID=n1"), "the node stays");
    answered(&login, CREATE, 201, &[USER, SESSION]).await;
    assert_eq!(cookie(&login, CREATE).await.as_deref(), BOTH);
}

#[tokio::test]
async fn of_many_requests_at_once_the_first_answer_decides() {
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    let (_, first) = sent(&login, CREATE).await;
    let (_, second) = sent(&login, CREATE).await;
    first.on_response(&mut answer(200, &[USER, AFFINITY, SESSION]));
    let other = [
        USER,
        ("set-cookie", "SERVERID=n2; path=/"),
        ("set-cookie", "JSESSIONID=S2.n2; Path=/jira"),
    ];
    second.on_response(&mut answer(200, &other));
    assert_eq!(cookie(&login, CREATE).await.as_deref(), BOTH);
    // The node is gone: whoever knew of it moves all.
    let (_, third) = sent(&login, CREATE).await;
    let (_, fourth) = sent(&login, CREATE).await;
    third.on_response(&mut answer(200, &other));
    fourth.on_response(&mut answer(200, &[USER, AFFINITY, SESSION]));
    let moved = Some("JSESSIONID=S2.n2; SERVERID=n2");
    assert_eq!(cookie(&login, CREATE).await.as_deref(), moved);
}

#[tokio::test]
async fn no_request_by_which_a_login_could_change_sets_a_cookie() {
    let secrets = Secrets::new("token");
    for target in [
        "/jira/rest/auth/1/session",
        "/jira/rest/auth/latest/websudo",
        "/jira/rest/gadget/1.0/login",
        "/jira/rest/samlsso/1/x",
        "/jira/login.jsp",
        "/jira/secure/attachment/1/a.png",
        "/jira/plugins/servlet/oauth",
    ] {
        let (login, _) = secrets.pat();
        answered(&login, target, 200, &[USER, AFFINITY, SESSION]).await;
        assert_eq!(cookie(&login, CREATE).await, None, "{target}");
    }
}

#[tokio::test]
async fn a_cookie_that_logs_in_by_itself_is_not_kept() {
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    for name in [
        "seraph.rememberme.cookie",
        "atlassian.xsrf.token",
        "crowd.token_key",
        "cloud.session.token",
        "JSESSIONIDSSO",
        "_oauth2_proxy",
        "MOD_AUTH_OPENIDC",
        "_shibsession_64656661",
        "SMSESSION",
    ] {
        let line = format!("{name}=x; Path=/");
        answered(&login, CREATE, 200, &[USER, ("set-cookie", &line)]).await;
        assert_eq!(cookie(&login, CREATE).await, None, "{name}");
    }
    for name in [
        "BIGipServer~sso~jira-auth",
        "AWSALB",
        "NSC_mc-kjsb",
        "ROUTEID",
        "ARRAffinity",
    ] {
        let line = format!("{name}=x; Path=/");
        answered(&login, CREATE, 200, &[USER, ("set-cookie", &line)]).await;
        assert!(cookie(&login, CREATE).await.unwrap().contains(name));
    }
}

#[tokio::test]
async fn path_expiry_and_secure_are_heeded() {
    let secrets = Secrets::new("token");
    for (line, target, kept) in [
        ("a=1; Path=/jira", "/jira/rest/api/2/x", true),
        ("a=1; Path=/jira", "/jiranew/rest/api/2/x", false),
        ("a=1; Path=/jira/", "/jira/rest/api/2/x", true),
        ("a=1; Path=/other", "/jira/rest/api/2/x", false),
        // Without a path: where the request was.
        ("a=1", "/jira/rest/api/2/search", true),
        ("a=1", "/jira/rest/agile/1.0/board", false),
        ("a=1; Max-Age=60; Path=/", "/jira/rest/x", true),
        ("a=1; Max-Age=0; Path=/", "/jira/rest/x", false),
        (
            "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/",
            "/jira/rest/x",
            false,
        ),
        (
            "a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT; Path=/",
            "/jira/rest/x",
            true,
        ),
        ("a=1; Secure; Path=/", "/jira/rest/x", false),
        ("=1; Path=/", "/jira/rest/x", false),
        ("nonsense", "/jira/rest/x", false),
    ] {
        let (login, _) = secrets.pat();
        answered(&login, CREATE, 200, &[USER, ("set-cookie", line)]).await;
        let cookies = cookie(&login, target).await;
        assert_eq!(cookies.as_deref(), kept.then_some("a=1"), "{line}");
    }
    let settings = Settings::Pat {
        token_file: secrets.file(),
        expires: None,
    };
    let over_tls = UpstreamAuth::new_with_tls(settings, Arc::default(), true);
    let secure = [USER, ("set-cookie", "a=1; Secure; Path=/")];
    answered(&over_tls, CREATE, 200, &secure).await;
    assert_eq!(cookie(&over_tls, CREATE).await.as_deref(), Some("a=1"));
    let gone = [USER, ("set-cookie", "a=; Max-Age=0; Path=/")];
    answered(&over_tls, CREATE, 200, &gone).await;
    assert_eq!(cookie(&over_tls, CREATE).await, None);
}

#[tokio::test]
async fn a_jira_that_sets_cookies_without_end_fills_a_bounded_jar() {
    let (most, bytes) = (MAX_COOKIES, MAX_BYTES);
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    for round in 0..100 {
        let lines: Vec<_> = (0..50)
            .map(|n| format!("c{round}x{n}={}; Path=/", "v".repeat(200)))
            .collect();
        let mut headers = vec![USER];
        headers.extend(lines.iter().map(|line| ("set-cookie", line.as_str())));
        answered(&login, CREATE, 200, &headers).await;
    }
    let cookies = cookie(&login, CREATE).await.unwrap();
    assert!(cookies.split("; ").count() <= most && cookies.len() <= bytes + 3 * most);
    let huge = format!("huge={}", "v".repeat(bytes));
    let (login, _) = secrets.pat();
    answered(&login, CREATE, 200, &[USER, ("set-cookie", &huge)]).await;
    assert_eq!(cookie(&login, CREATE).await, None);
}

#[tokio::test]
async fn in_pass_through_mode_the_cookies_are_the_vendors() {
    let (login, _) = login(Settings::PassThrough);
    for _ in 0..2 {
        let mut head = request(CREATE, &[("cookie", "JSESSIONID=of-the-vendor")]);
        let attempt = login.prepare(&mut head).await.unwrap();
        assert_eq!(head.headers["cookie"], "JSESSIONID=of-the-vendor");
        let mut head = answer(200, &[USER, SESSION]);
        attempt.on_response(&mut head);
        assert_eq!(head.headers["set-cookie"], SESSION.1);
    }
}

/// A balancer's cookie is no session, whatever its name.
#[tokio::test]
async fn a_cookie_of_a_node_outlives_the_session_whatever_its_name() {
    let secrets = Secrets::new("token");
    for name in [
        "X-Contour-Session-Affinity",
        "stickysession",
        "session_persist",
    ] {
        let (login, _) = secrets.pat();
        let node = format!("{name}=n1; Path=/");
        answered(&login, CREATE, 201, &[USER, ("set-cookie", &node), SESSION]).await;
        tokio::time::pause();
        tokio::time::advance(SESSION_MAX_AGE).await;
        tokio::time::resume();
        let left = cookie(&login, CREATE).await;
        assert_eq!(left, Some(format!("{name}=n1")));
    }
}

/// Many requests at once without a session would each try the password.
#[tokio::test(start_paused = true)]
async fn one_request_in_a_while_logs_in_anew_so_that_the_others_have_a_session() {
    let secrets = Secrets::new("hunter2");
    let (login, _) = secrets.basic();
    login.enable_probing();
    let probe = login
        .prepare_probe(&mut get(MYSELF))
        .await
        .unwrap()
        .unwrap();
    probe.on_response(&mut answer(200, &[USER, AFFINITY, SESSION]));
    let mut without = 0;
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(900)).await;
        let (cookie, attempt) = sent(&login, CREATE).await;
        let (second, also) = sent(&login, CREATE).await;
        assert!(second.unwrap().contains("JSESSIONID"));
        also.on_response(&mut answer(201, &[USER]));
        let cookie = cookie.unwrap();
        assert!(cookie.contains("SERVERID=n1"), "{cookie}");
        if cookie.contains("JSESSIONID") {
            attempt.on_response(&mut answer(201, &[USER]));
        } else {
            without += 1;
            let session = format!("JSESSIONID=N{without}.n1; Path=/jira; HttpOnly");
            attempt.on_response(&mut answer(201, &[USER, ("set-cookie", &session)]));
        }
    }
    assert!((4..=5).contains(&without), "{without} in 90 s");
}

#[tokio::test]
async fn names_that_rotate_keep_no_node_out() {
    let secrets = Secrets::new("token");
    let (login, _) = secrets.pat();
    for n in 0..MAX_COOKIES {
        let line = format!("rotating{n}=x; Path=/");
        answered(&login, CREATE, 200, &[USER, ("set-cookie", &line)]).await;
    }
    // Said once more, the first one is the youngest.
    let again = ("set-cookie", "rotating0=y; Path=/");
    answered(&login, CREATE, 200, &[USER, again]).await;
    answered(&login, CREATE, 200, &[USER, AFFINITY]).await;
    let cookies = cookie(&login, CREATE).await.unwrap();
    let names: Vec<_> = cookies.split("; ").collect();
    assert_eq!(names.len(), MAX_COOKIES);
    assert!(names.contains(&"SERVERID=n1"), "{cookies}");
    assert!(names.contains(&"rotating0=y"), "{cookies}");
    assert!(
        !names.contains(&"rotating1=x"),
        "the oldest goes: {cookies}"
    );
    // One that can never fit replaces no other.
    let huge = format!("huge={}; Path=/", "v".repeat(MAX_BYTES));
    answered(&login, CREATE, 200, &[USER, ("set-cookie", &huge)]).await;
    assert_eq!(cookie(&login, CREATE).await, Some(cookies));
}
