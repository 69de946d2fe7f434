//! The scheme against a token endpoint that does as it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::{
    auth::{self, AuthScheme, CredentialUnavailable, RequestCredential, UpstreamAuth},
    expiry::{ExpiryTime, ExpiryUrgency},
    secret::{Secret, SecretFile},
    status::StatusLayer,
    tokens::{TokenRecord, TokenSet, TokenStore},
    upstream::{self, HttpTarget, UpstreamTarget},
};
use parking_lot::Mutex;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// What the endpoint does with the next request.
type Script = Box<dyn FnMut(usize, &str) -> Option<(u16, String)> + Send>;

struct World {
    folder: tempfile::TempDir,
    settings: Settings,
    asked: Arc<AtomicUsize>,
    /// One permit for each answer that may leave.
    gate: Arc<Semaphore>,
}

impl World {
    /// `script` gives status and body for the n-th request, from 1; `None` hangs up.
    async fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(1000));
        let (count, open) = (asked.clone(), gate.clone());
        let script = Arc::new(Mutex::new(script));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (count, open, script) = (count.clone(), open.clone(), script.clone());
                tokio::spawn(serve(stream, count, open, script));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        write(&secret, "s3cret-of-the-client");
        let target = |path: &str| match format!("http://{address}{path}").parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{path}"),
        };
        let jira: HttpTarget = target("/jira");
        let settings = Settings {
            client_id: "acme".into(),
            client_secret_file: SecretFile::new(&secret),
            grant: GrantType::AuthorizationCode,
            scope: "WRITE".into(),
            authorize_url: target("/authorize"),
            token_url: target("/token"),
            revoke_url: None,
            redirect_uri: "https://localhost/".into(),
            audience: None,
            provider: TokenIssuer::DataCenter,
            refresh_token_file: None,
            store: TokenStore::new(folder.path(), "jira"),
            upstream: upstream::Settings::new(UpstreamTarget::Http(jira)),
        };
        Self {
            folder,
            settings,
            asked,
            gate,
        }
    }

    /// Stores what a login gave: an access token that ends in `seconds`.
    async fn logged_in(&self, seconds: u64) {
        self.logged_in_at(SystemTime::now(), seconds).await;
    }

    async fn logged_in_at(&self, now: SystemTime, seconds: u64) {
        let tokens = TokenSet {
            access: Some(Secret::new(b"access-0".to_vec())),
            access_secret: None,
            access_expires: Some(now + Duration::from_secs(seconds)),
            refresh: Some(Secret::new(b"refresh-0".to_vec())),
            refresh_expires: None,
            obtained: now,
            user: None,
            scope: None,
        };
        let record = TokenRecord::new(self.settings.owner(), tokens);
        let locked = self.settings.store.lock(Duration::ZERO).await.unwrap();
        locked.save(&record).await.unwrap();
    }

    fn scheme(&self) -> OAuth2Scheme {
        OAuth2Scheme::new(self.settings.clone())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn stored(&self) -> TokenRecord {
        self.settings.store.load().await.unwrap().unwrap()
    }

    fn next_file(&self) -> PathBuf {
        self.folder.path().join("tokens/jira.json.new")
    }
}

async fn serve(
    mut stream: TcpStream,
    count: Arc<AtomicUsize>,
    open: Arc<Semaphore>,
    script: Arc<Mutex<Script>>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
                open.acquire().await.unwrap().forget();
                let answer = script.lock()(nth, body);
                if let Some((status, body)) = answer {
                    let text = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
                return;
            }
        }
        match stream.read(&mut buffer).await.unwrap() {
            0 => return,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
}

fn write(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn rotated(nth: usize, body: &str) -> Option<(u16, String)> {
    assert!(
        body.contains(&format!("refresh_token=refresh-{}", nth - 1)),
        "{body}"
    );
    let answer = format!(
        r#"{{"access_token":"access-{nth}","token_type":"bearer","expires_in":7200,"refresh_token":"refresh-{nth}"}}"#
    );
    Some((200, answer))
}

async fn ask(scheme: &OAuth2Scheme) -> Result<RequestCredential, CredentialUnavailable> {
    let (head, ()) = http::Request::new(()).into_parts();
    scheme.authorization(&head).await
}

fn bearer(credential: &RequestCredential) -> &str {
    credential.fields[0].1.to_str().unwrap()
}

#[tokio::test]
async fn a_token_that_has_ended_is_renewed_by_one_request_while_the_others_wait() {
    let world = World::new(Box::new(rotated)).await;
    world.logged_in(0).await;
    let scheme = world.scheme();
    let answers = futures_util::future::join_all((0..20).map(|_| ask(&scheme))).await;
    for answer in answers {
        assert_eq!(bearer(&answer.unwrap()), "Bearer access-1");
    }
    assert_eq!(world.asked(), 1);
    let stored = world.stored().await;
    assert!(stored.pending.is_none());
    assert_eq!(
        stored.tokens.unwrap().refresh.as_ref().unwrap().expose(),
        b"refresh-1"
    );
}

/// Cloud: a login lasts a year from the consent, whatever is refreshed, and the last month of it warns.
#[tokio::test]
async fn a_login_in_cloud_ends_a_year_after_the_consent() {
    let mut world = World::new(Box::new(rotated)).await;
    world.settings.provider = TokenIssuer::Cloud;
    let now = SystemTime::now();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let tokens = |refresh_expires: Option<SystemTime>, obtained: SystemTime| TokenSet {
        access: Some(Secret::new(b"access-0".to_vec())),
        access_secret: None,
        access_expires: Some(now),
        refresh: Some(Secret::new(b"refresh-0".to_vec())),
        refresh_expires,
        obtained,
        user: None,
        scope: None,
    };
    for (consent, obtained, left, urgency) in [
        (Some(10), 0, 355, ExpiryUrgency::None),
        // Refreshed five days ago: not the 90 days, which would come first.
        (Some(10), 5, 355, ExpiryUrgency::None),
        (None, 8, 82, ExpiryUrgency::None),
        (Some(340), 0, 25, ExpiryUrgency::Within30Days),
        (Some(360), 0, 5, ExpiryUrgency::Within7Days),
        // Not refreshed for long: the 90 days without use come first.
        (Some(100), 80, 10, ExpiryUrgency::Within14Days),
        (None, 80, 10, ExpiryUrgency::Within14Days),
    ] {
        let end = consent.map(|ago| now - days(ago) + days(365));
        let tokens = tokens(end, now - days(obtained));
        let scheme = world.scheme();
        let found = scheme.refresh_token_expiry(&tokens, String::new(), now);
        assert_eq!(found.end, ExpiryTime::At(now + days(left)), "{consent:?}");
        assert_eq!(found.urgency(now), urgency, "{consent:?}");
    }

    // The day of the consent is not known, and the 90 days are far.
    let found = world
        .scheme()
        .refresh_token_expiry(&tokens(None, now), String::new(), now);
    assert!(matches!(found.end, ExpiryTime::Unknown(_)), "{found:?}");

    // A refresh carries the end over.
    let end = now + days(100);
    let tokens = tokens(Some(end), now);
    let record = TokenRecord::new(world.settings.owner(), tokens);
    let locked = world.settings.store.lock(Duration::ZERO).await.unwrap();
    locked.save(&record).await.unwrap();
    drop(locked);
    assert_eq!(
        bearer(&ask(&world.scheme()).await.unwrap()),
        "Bearer access-1"
    );
    let stored = world
        .stored()
        .await
        .tokens
        .unwrap()
        .refresh_expires
        .unwrap();
    assert!(end.duration_since(stored).unwrap() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_token_near_its_end_serves_while_the_next_one_is_fetched() {
    let world = World::new(Box::new(rotated)).await;
    world.gate.forget_permits(1000);
    let issued = SystemTime::now() - Duration::from_secs(6400);
    world.logged_in_at(issued, 7200).await;
    let scheme = world.scheme();
    for _ in 0..3 {
        assert_eq!(bearer(&ask(&scheme).await.unwrap()), "Bearer access-0");
    }
    world.gate.add_permits(1);
    while bearer(&ask(&scheme).await.unwrap()) == "Bearer access-0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.asked(), 1);
}

/// The vendor that happened to start it hangs up: the rotation is finished all the same.
#[tokio::test]
async fn a_renewal_outlives_the_request_that_started_it() {
    let world = World::new(Box::new(rotated)).await;
    world.gate.forget_permits(1000);
    world.logged_in(0).await;
    let scheme = world.scheme();
    {
        let mut asking = std::pin::pin!(ask(&scheme));
        while world.asked() == 0 {
            let a_while = tokio::time::sleep(Duration::from_millis(1));
            tokio::select! {
                _ = &mut asking => panic!("answered"),
                () = a_while => {}
            }
        }
        assert!(world.stored().await.pending.is_some());
    }
    world.gate.add_permits(1);
    scheme.wait_idle().await;
    assert!(world.stored().await.pending.is_none());
    assert_eq!(bearer(&ask(&scheme).await.unwrap()), "Bearer access-1");
    assert_eq!(world.asked(), 1);
}

/// The disk fails between Jira's answer and our write: the only tokens that live are kept, and used once saved.
#[tokio::test]
async fn new_tokens_that_cannot_be_saved_are_kept_and_not_used_before_they_are() {
    let blocked = Arc::new(Mutex::new(None::<PathBuf>));
    let block = blocked.clone();
    let world = World::new(Box::new(move |nth, body| {
        // The mark is on the disk; what comes next cannot be.
        fs::create_dir(block.lock().as_ref().unwrap()).unwrap();
        rotated(nth, body)
    }))
    .await;
    *blocked.lock() = Some(world.next_file());
    world.logged_in(0).await;
    let scheme = world.scheme();
    let mut asking = std::pin::pin!(ask(&scheme));
    // A file of that name is the mark on its way; the folder is the obstacle.
    while !world.next_file().is_dir() {
        let a_while = tokio::time::sleep(Duration::from_millis(1));
        tokio::select! {
            _ = &mut asking => panic!("used before it was saved"),
            () = a_while => {}
        }
    }
    assert!(world.stored().await.pending.is_some());
    fs::remove_dir(world.next_file()).unwrap();
    assert_eq!(bearer(&asking.await.unwrap()), "Bearer access-1");
    assert!(world.stored().await.pending.is_none());
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_mark_and_a_living_token_in_use() {
    let world = World::new(Box::new(|_, _| None)).await;
    world.logged_in(7200).await;
    let scheme = world.scheme();
    let first = ask(&scheme).await.unwrap();
    assert_eq!(bearer(&first), "Bearer access-0");
    let why = scheme.refresh(first.generation, true).await.unwrap_err();
    assert!(why.cause.contains("gave no answer"), "{}", why.cause);
    let stored = world.stored().await;
    assert!(stored.pending.is_some() && stored.ended.is_none());

    // The next process tries the old token once; while nobody answers, what is held is better than nothing.
    let next = world.scheme();
    assert_eq!(bearer(&ask(&next).await.unwrap()), "Bearer access-0");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn each_refusal_has_a_cause_and_a_remedy_and_only_a_dead_token_ends_the_login() {
    for (status, body, ends, says) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid refresh token"}"#,
            true,
            "agent login jira",
        ),
        (
            403,
            r#"{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}"#,
            true,
            "agent login jira",
        ),
        (
            403,
            r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
            true,
            "agent login jira",
        ),
        (401, r#"{"error":"invalid_client"}"#, false, "client_id"),
        (400, r#"{"error":"invalid_scope"}"#, false, "scope"),
        (
            400,
            r#"{"error":"invalid_request","error_description":"Please ensure that your server is using HTTPS"}"#,
            false,
            "https://",
        ),
        (404, "<html>", false, "8.22"),
        (302, "", false, "redirects"),
        (503, "<html>", false, "log"),
        (200, "<html>", false, "token_url"),
        (
            200,
            r#"{"access_token":"a b","token_type":"bearer"}"#,
            false,
            "token_url",
        ),
    ] {
        let world = World::new(Box::new(move |_, _| Some((status, body.to_owned())))).await;
        world.logged_in(0).await;
        let why = ask(&world.scheme()).await.map(|_| ()).unwrap_err();
        assert!(why.remedy.contains(says), "{status} {body}: {why:?}");
        assert!(!why.cause.contains("refresh-0") && !why.cause.contains("s3cret"));
        assert_eq!(world.stored().await.ended.is_some(), ends, "{body}");
        // What may have been carried out is remembered; what was refused is not.
        let unknown = matches!(status, 200 | 503);
        assert_eq!(world.stored().await.pending.is_some(), unknown, "{status}");
    }
}

#[tokio::test]
async fn tokens_of_another_client_are_not_used() {
    let mut world = World::new(Box::new(rotated)).await;
    world.logged_in(7200).await;
    world.settings.client_id = "other".into();
    let why = ask(&world.scheme()).await.map(|_| ()).unwrap_err();
    assert!(
        why.cause
            .contains("no login is stored for client \"other\"")
    );
    assert_eq!(world.asked(), 0);
}

/// A user who may not log in gets fresh tokens that Jira refuses all the same.
#[tokio::test]
async fn a_fresh_token_that_is_refused_too_is_not_renewed_again_and_again() {
    let world = World::new(Box::new(rotated)).await;
    world.logged_in(7200).await;
    let scheme = world.scheme();
    let mut generation = ask(&scheme).await.unwrap().generation;
    assert_eq!(scheme.refresh(generation, false).await, Ok(true));
    for _ in 0..5 {
        generation = ask(&scheme).await.unwrap().generation;
        assert_eq!(scheme.refresh(generation, false).await, Ok(false));
    }
    assert_eq!(world.asked(), 1);
}

/// A dead token on which many requests go out at once, before Jira has taken it for the first time.
#[tokio::test]
async fn all_who_hear_of_the_same_refused_token_get_the_next_one() {
    let world = World::new(Box::new(rotated)).await;
    world.logged_in(7200).await;
    let scheme = world.scheme();
    let generation = ask(&scheme).await.unwrap().generation;
    let renewed = (0..5).map(|_| scheme.refresh(generation, false));
    for renewed in futures_util::future::join_all(renewed).await {
        assert_eq!(renewed, Ok(true));
    }
    assert_eq!(world.asked(), 1);
}

/// The file's token was never taken up, because the agent did not run before the person logged in.
#[tokio::test]
async fn a_login_by_a_person_outlives_an_older_first_refresh_token() {
    let mut world = World::new(Box::new(rotated)).await;
    let file = world.folder.path().join("first");
    write(&file, "first-refresh-token");
    world.settings.refresh_token_file = Some(SecretFile::new(&file));
    world.logged_in(7200).await;
    let tokens = world.stored().await.tokens.unwrap();
    let tokens = Arc::into_inner(tokens).unwrap();
    let record = logged_in(&world.settings, tokens, None).await;
    let locked = world.settings.store.lock(Duration::ZERO).await.unwrap();
    locked.save(&record).await.unwrap();
    drop(locked);
    assert_eq!(
        bearer(&ask(&world.scheme()).await.unwrap()),
        "Bearer access-0"
    );
    assert_eq!(world.asked(), 0);

    // A file that cannot be read leaves what is known of an earlier one.
    fs::remove_file(&file).unwrap();
    let tokens = Arc::into_inner(world.stored().await.tokens.unwrap()).unwrap();
    let again = logged_in(&world.settings, tokens, Some(record.clone())).await;
    assert_eq!(again.seed, record.seed);
}

#[tokio::test]
async fn an_endpoint_that_issues_the_same_token_again_is_not_asked_back_to_back() {
    let same = r#"{"access_token":"access-0","token_type":"bearer","expires_in":7200}"#;
    let world = World::new(Box::new(move |_, _| Some((200, same.to_owned())))).await;
    let issued = SystemTime::now() - Duration::from_secs(6400);
    world.logged_in_at(issued, 7200).await;
    let scheme = world.scheme();
    for _ in 0..5 {
        let credential = ask(&scheme).await.unwrap();
        assert_eq!(bearer(&credential), "Bearer access-0");
        scheme.wait_idle().await;
    }
    assert_eq!(world.asked(), 1);
    // Refused and issued once more, it is not asked for in a circle either.
    let generation = ask(&scheme).await.unwrap().generation;
    assert_eq!(scheme.refresh(generation, true).await, Ok(false));
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_token_that_is_said_to_be_dead_as_it_comes_serves_until_it_is_refused() {
    let dead = r#"{"access_token":"access-1","token_type":"bearer","expires_in":0}"#;
    let world = World::new(Box::new(move |_, _| Some((200, dead.to_owned())))).await;
    world.logged_in(0).await;
    let scheme = world.scheme();
    for _ in 0..5 {
        assert_eq!(bearer(&ask(&scheme).await.unwrap()), "Bearer access-1");
        scheme.wait_idle().await;
    }
    assert_eq!(world.asked(), 1);
}

/// Cloud: whether the login reaches the site is no reason to hold up each request.
#[tokio::test]
async fn an_unanswered_question_for_the_sites_is_not_asked_by_each_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let (asked, count) = {
        let asked = Arc::new(AtomicUsize::new(0));
        (asked.clone(), asked)
    };
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut world = World::new(Box::new(rotated)).await;
    let Ok(UpstreamTarget::Http(api)) = api.parse() else {
        panic!("{api}");
    };
    world.settings.upstream.cloud = Some(upstream::CloudRoute::Gateway {
        api,
        cloud_id: Some("abc".into()),
    });
    world.logged_in(7200).await;
    let scheme = world.scheme();
    for answer in futures_util::future::join_all((0..10).map(|_| ask(&scheme))).await {
        assert_eq!(bearer(&answer.unwrap()), "Bearer access-0");
    }
    ask(&scheme).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tokens_of_another_client_are_not_shown_to_this_server_at_logout() {
    let mut world = World::new(Box::new(rotated)).await;
    world.logged_in(7200).await;
    let mut record = world.stored().await;
    assert_eq!(other_owner(&world.settings, &record), None);
    let issuer = record.owner.issuer.clone();
    world.settings.client_id = "other".into();
    let told = other_owner(&world.settings, &record).unwrap();
    assert!(
        told.contains("\"acme\"") && told.contains(&issuer),
        "{told}"
    );
    record.tokens = None;
    assert_eq!(other_owner(&world.settings, &record), None);
}

/// A load balancer knows the agent by its cookie, whatever token comes with it.
#[tokio::test]
async fn the_node_of_a_cluster_is_kept_across_renewals_and_not_across_logins() {
    let world = World::new(Box::new(rotated)).await;
    let issued = SystemTime::now() - Duration::from_secs(6400);
    world.logged_in_at(issued, 7200).await;
    let settings = auth::Settings::OAuth2(Box::new(world.settings.clone()));
    let login = UpstreamAuth::new(settings, Arc::new(StatusLayer::default()));
    let send = async || {
        let request = http::Request::get("/jira/rest/api/2/search");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let attempt = login.prepare(&mut head).await.unwrap();
        let answer = http::Response::builder().header("x-ausername", "acme-bot");
        let answer = answer.header("set-cookie", "SERVERID=n1; Path=/");
        attempt.on_response(&mut answer.body(()).unwrap().into_parts().0);
        let text = |name| Some(head.headers.get(name)?.to_str().unwrap().to_owned());
        (text("authorization").unwrap(), text("cookie"))
    };
    assert_eq!(send().await, ("Bearer access-0".to_owned(), None));
    loop {
        let (token, cookie) = send().await;
        assert_eq!(cookie.as_deref(), Some("SERVERID=n1"), "{token}");
        if token == "Bearer access-1" {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Somebody else's, perhaps.
    world.logged_in(7200).await;
    login.reload_if_changed().await;
    assert_eq!(send().await, ("Bearer access-0".to_owned(), None));
}

/// The next token is fetched only hours later: until then nothing but the concern tells of the wrong secret.
#[tokio::test]
async fn a_secret_that_is_refused_while_the_token_serves_is_told_until_it_is_right_again() {
    let answer = |_, body: &str| {
        Some(match body.contains("client_secret=wrong") {
            true => (401, r#"{"error":"invalid_client"}"#.to_owned()),
            false => (
                200,
                r#"{"access_token":"next","token_type":"bearer","expires_in":7200,"refresh_token":"refresh-0"}"#.to_owned(),
            ),
        })
    };
    for grant in [GrantType::AuthorizationCode, GrantType::ClientCredentials] {
        let mut world = World::new(Box::new(answer)).await;
        world.settings.grant = grant;
        world.logged_in(7200).await;
        let scheme = world.scheme();
        let first = bearer(&ask(&scheme).await.unwrap()).to_owned();
        assert_eq!(scheme.concern(), None);
        let secret = world.folder.path().join("secret");
        let version = scheme.version();
        // The endpoint does not answer yet: what was proven counts no more all the same.
        let gate = world.gate.available_permits();
        world.gate.forget_permits(gate);
        write(&secret, "wrong");
        scheme.reload().await.unwrap();
        assert!(scheme.version() > version);
        let untried = scheme.concern().unwrap();
        assert!(untried.why.cause.contains("has changed"), "{untried:?}");
        assert_eq!(bearer(&ask(&scheme).await.unwrap()), first);
        world.gate.add_permits(gate);
        scheme.wait_idle().await;
        let refused = scheme.concern().unwrap();
        assert!(
            refused.why.cause.contains("the secret is wrong"),
            "{refused:?}"
        );
        assert!(refused.why.remedy.contains(secret.to_str().unwrap()));
        scheme.reload().await.unwrap();
        assert_eq!(bearer(&ask(&scheme).await.unwrap()), first);
        assert_eq!(scheme.concern(), Some(refused));

        write(&secret, "right");
        scheme.reload().await.unwrap();
        ask(&scheme).await.unwrap();
        scheme.wait_idle().await;
        assert_eq!(bearer(&ask(&scheme).await.unwrap()), "Bearer next");
        assert_eq!(scheme.concern(), None);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_while_the_token_serves_is_told_until_it_can() {
    let mut world = World::new(Box::new(rotated)).await;
    let file = world.folder.path().join("first");
    write(&file, "first-refresh-token");
    world.settings.refresh_token_file = Some(SecretFile::new(&file));
    world.logged_in(7200).await;
    let tokens = Arc::into_inner(world.stored().await.tokens.unwrap()).unwrap();
    let record = logged_in(&world.settings, tokens, None).await;
    let locked = world.settings.store.lock(Duration::ZERO).await.unwrap();
    locked.save(&record).await.unwrap();
    drop(locked);
    let scheme = world.scheme();
    ask(&scheme).await.unwrap();
    assert_eq!(scheme.concern(), None);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    scheme.reload().await.unwrap();
    assert_eq!(bearer(&ask(&scheme).await.unwrap()), "Bearer access-0");
    let concern = scheme.concern().unwrap();
    assert!(
        concern.why.cause.contains(file.to_str().unwrap()),
        "{concern:?}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    scheme.reload().await.unwrap();
    assert_eq!(scheme.concern(), None);
}

#[tokio::test]
async fn a_client_secret_that_is_written_once_more_is_no_other_one() {
    let answer = |_, _: &str| {
        let tokens = r#"{"access_token":"next","token_type":"bearer","expires_in":7200,"refresh_token":"refresh-0"}"#;
        Some((200, tokens.to_owned()))
    };
    for grant in [GrantType::AuthorizationCode, GrantType::ClientCredentials] {
        let mut world = World::new(Box::new(answer)).await;
        world.settings.grant = grant;
        world.logged_in(7200).await;
        let scheme = world.scheme();
        ask(&scheme).await.unwrap();
        let (version, asked) = (scheme.version(), world.asked());
        let secret = world.folder.path().join("secret");
        for _ in 0..3 {
            fs::remove_file(&secret).unwrap();
            scheme.reload().await.unwrap();
            write(&secret, "s3cret-of-the-client\n");
            scheme.reload().await.unwrap();
            ask(&scheme).await.unwrap();
            scheme.wait_idle().await;
        }
        assert_eq!((scheme.version(), world.asked()), (version, asked));
        assert_eq!(scheme.concern(), None);
        write(&secret, "another");
        scheme.reload().await.unwrap();
        ask(&scheme).await.unwrap();
        scheme.wait_idle().await;
        assert_eq!((scheme.version(), world.asked()), (version + 1, asked + 1));
    }
}
