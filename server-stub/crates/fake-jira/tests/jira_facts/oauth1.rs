//! The OAuth 1.0a provider: the flow, what is signed, every problem, two-legged and impersonation.

use std::collections::HashMap;

use fake_jira::jira::{AuthKind, OAuth1Consumer, RunningJira, Settings, TomcatConnector};
use reqwest::Method;
use serde_json::json;

use crate::client::{BOT, BOT_PASSWORD, Reply, get, request, send, start_with};
use crate::oauth1_signer::{Consumer, Signing};

const REQUEST_TOKEN: &str = "/plugins/servlet/oauth/request-token";
const ACCESS_TOKEN: &str = "/plugins/servlet/oauth/access-token";
const AUTHORIZE: &str = "/plugins/servlet/oauth/authorize";
const MYSELF: &str = "/rest/api/2/myself";

async fn start() -> (RunningJira, Consumer) {
    start_changed(|_, _| {}).await
}

async fn start_changed(
    change: impl FnOnce(&mut Settings, &mut OAuth1Consumer),
) -> (RunningJira, Consumer) {
    let consumer = Consumer::new("acme");
    let mut registered = OAuth1Consumer::new("acme", &consumer.public_key);
    let jira = start_with(|settings| {
        change(settings, &mut registered);
        settings.oauth1.consumers.push(registered);
    })
    .await;
    (jira, consumer)
}

async fn two_legged() -> (RunningJira, Consumer) {
    start_changed(|_, consumer| consumer.two_legged_user = Some(BOT.into())).await
}

fn fields(reply: &Reply) -> HashMap<String, String> {
    assert_eq!(reply.status, 200, "{}", reply.body);
    url::form_urlencoded::parse(reply.body.as_bytes())
        .into_owned()
        .collect()
}

/// A request token; `None` for a callback is OAuth 1.0.
async fn request_token(jira: &RunningJira, consumer: &Consumer, callback: Option<&str>) -> String {
    let signing = consumer
        .sign(jira, Method::POST, REQUEST_TOKEN)
        .without("oauth_token");
    let signing = match callback {
        Some(callback) => signing.with("oauth_callback", callback),
        None => signing,
    };
    let fields = fields(&send(signing.request(jira, REQUEST_TOKEN)).await);
    assert!(fields.contains_key("oauth_token_secret"));
    let confirmed = fields.get("oauth_callback_confirmed").map(String::as_str);
    assert_eq!(confirmed, callback.map(|_| "true"));
    fields["oauth_token"].clone()
}

async fn decide(jira: &RunningJira, token: &str, decision: &str) -> Reply {
    let form = [
        ("username", BOT),
        ("password", BOT_PASSWORD),
        ("decision", decision),
    ];
    let path = format!("{AUTHORIZE}?oauth_token={token}");
    send(request(jira, Method::POST, &path).form(&form)).await
}

/// The parameter of the redirect.
fn verifier(reply: &Reply) -> String {
    assert_eq!(reply.status, 302, "{}", reply.body);
    let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
    assert_eq!(url.path(), "/back");
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(name, _)| name == "oauth_verifier");
    found.unwrap().1.into_owned()
}

fn exchanging<'a>(
    jira: &RunningJira,
    consumer: &'a Consumer,
    token: &str,
    more: &[(&str, &str)],
) -> Signing<'a> {
    let signing = consumer
        .sign(jira, Method::POST, ACCESS_TOKEN)
        .with("oauth_token", token);
    more.iter()
        .fold(signing, |signing, (name, value)| signing.with(name, value))
}

async fn exchange(
    jira: &RunningJira,
    consumer: &Consumer,
    token: &str,
    more: &[(&str, &str)],
) -> Reply {
    send(exchanging(jira, consumer, token, more).request(jira, ACCESS_TOKEN)).await
}

/// The response at the end of the whole flow.
async fn authorize(jira: &RunningJira, consumer: &Consumer) -> HashMap<String, String> {
    let token = request_token(jira, consumer, Some("https://vendor.example/back?x=1")).await;
    let verifier = verifier(&decide(jira, &token, "allow").await);
    fields(&exchange(jira, consumer, &token, &[("oauth_verifier", &verifier)]).await)
}

async fn myself(jira: &RunningJira, consumer: &Consumer, token: &str) -> Reply {
    let signing = consumer
        .sign(jira, Method::GET, MYSELF)
        .with("oauth_token", token);
    send(signing.request(jira, MYSELF)).await
}

#[track_caller]
fn problem(reply: &Reply, status: u16, code: &str) {
    let said = format!("{:?} {}", reply.headers, reply.body);
    assert_eq!(reply.status, status, "{said}");
    let body: HashMap<_, _> = url::form_urlencoded::parse(reply.body.as_bytes()).collect();
    assert_eq!(body["oauth_problem"], code, "{said}");
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("OAuth realm=\"http%3A%2F%2F127.0.0.1%3A"),
        "{said}"
    );
    assert!(
        challenge.contains(&format!("oauth_problem=\"{code}\"")),
        "{said}"
    );
}

#[tokio::test]
async fn the_three_legs_end_in_a_token_that_logs_in() {
    let (jira, consumer) = start().await;
    let token = request_token(&jira, &consumer, Some("https://vendor.example/back")).await;
    let page = send(get(&jira, &format!("{AUTHORIZE}?oauth_token={token}"))).await;
    assert!(page.body.contains("acme") && page.body.contains("name=\"password\""));
    let verifier = verifier(&decide(&jira, &token, "allow").await);
    let reply = exchange(&jira, &consumer, &token, &[("oauth_verifier", &verifier)]).await;
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    let answer = fields(&reply);
    let mut names: Vec<_> = answer.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "oauth_authorization_expires_in",
            "oauth_expires_in",
            "oauth_session_handle",
            "oauth_token",
            "oauth_token_secret"
        ]
    );
    assert_eq!(answer["oauth_expires_in"], "157680000");
    assert_eq!(answer["oauth_authorization_expires_in"], "160272000");
    let me = myself(&jira, &consumer, &answer["oauth_token"]).await;
    assert_eq!(me.json()["name"], BOT);
    assert_eq!(jira.requests().last().unwrap().auth, Some(AuthKind::OAuth1));
}

#[tokio::test]
async fn out_of_band_shows_the_verifier_on_the_page() {
    let (jira, consumer) = start().await;
    let token = request_token(&jira, &consumer, Some("oob")).await;
    let page = decide(&jira, &token, "allow").await;
    assert_eq!(page.status, 200);
    let words = "Your verification code is &#39;";
    let words = if page.body.contains(words) {
        words
    } else {
        "Your verification code is '"
    };
    let after = page.body.split(words).nth(1).unwrap();
    let verifier: String = after
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    for (more, status, code) in [
        (None, 400, "parameter_absent"),
        (Some("wrong!"), 401, "token_rejected"),
    ] {
        let more: Vec<_> = more.map(|v| ("oauth_verifier", v)).into_iter().collect();
        problem(
            &exchange(&jira, &consumer, &token, &more).await,
            status,
            code,
        );
    }
    fields(&exchange(&jira, &consumer, &token, &[("oauth_verifier", &verifier)]).await);
}

#[tokio::test]
async fn without_a_callback_it_is_1_0_and_needs_no_verifier() {
    let (jira, consumer) = start().await;
    let token = request_token(&jira, &consumer, None).await;
    let page = decide(&jira, &token, "allow").await;
    assert!(page.body.contains("Access Approved") && !page.body.contains("verification"));
    fields(&exchange(&jira, &consumer, &token, &[]).await);
    let again = exchange(&jira, &consumer, &token, &[]).await;
    problem(&again, 401, "token_rejected");
}

#[tokio::test]
async fn a_request_token_is_for_its_consumer_its_ten_minutes_and_a_user_who_allowed() {
    let (jira, consumer) = start().await;
    let other = Consumer::new("other");
    jira.register_oauth1_consumer(OAuth1Consumer::new("other", &other.public_key))
        .unwrap();
    let undecided = request_token(&jira, &consumer, None).await;
    let reply = exchange(&jira, &consumer, &undecided, &[]).await;
    problem(&reply, 401, "permission_unknown");

    let denied = request_token(&jira, &consumer, Some("https://vendor.example/back")).await;
    assert_eq!(verifier(&decide(&jira, &denied, "deny").await), "denied");
    let reply = exchange(&jira, &consumer, &denied, &[("oauth_verifier", "denied")]).await;
    problem(&reply, 401, "permission_denied");

    let stolen = request_token(&jira, &consumer, None).await;
    decide(&jira, &stolen, "allow").await;
    problem(
        &exchange(&jira, &other, &stolen, &[]).await,
        401,
        "token_rejected",
    );

    jira.set_clock_offset(601);
    let late = exchanging(&jira, &consumer, &stolen, &[]);
    let now: i64 = late
        .oauth
        .iter()
        .find(|(n, _)| n == "oauth_timestamp")
        .unwrap()
        .1
        .parse()
        .unwrap();
    let late = late.with("oauth_timestamp", &(now + 601).to_string());
    let reply = send(late.request(&jira, ACCESS_TOKEN)).await;
    problem(&reply, 401, "token_expired");
    let page = send(get(&jira, &format!("{AUTHORIZE}?oauth_token={undecided}"))).await;
    assert_eq!(page.status, 401);
}

#[tokio::test]
async fn a_session_handle_gets_a_new_token_for_an_old_one() {
    let (jira, consumer) = start().await;
    let first = authorize(&jira, &consumer).await;
    let (token, session) = (
        &first["oauth_token"],
        first["oauth_session_handle"].as_str(),
    );
    jira.expire_oauth1_tokens(false);
    problem(&myself(&jira, &consumer, token).await, 401, "token_expired");
    let wrong = [("oauth_session_handle", "wrong")];
    let reply = exchange(&jira, &consumer, token, &wrong).await;
    problem(&reply, 401, "token_rejected");
    let renewal = [("oauth_session_handle", session)];
    let second = fields(&exchange(&jira, &consumer, token, &renewal).await);
    problem(
        &myself(&jira, &consumer, token).await,
        401,
        "token_rejected",
    );
    assert_eq!(
        myself(&jira, &consumer, &second["oauth_token"])
            .await
            .status,
        200
    );
    jira.expire_oauth1_tokens(true);
    let renewal = [(
        "oauth_session_handle",
        second["oauth_session_handle"].as_str(),
    )];
    let reply = exchange(&jira, &consumer, &second["oauth_token"], &renewal).await;
    problem(&reply, 401, "token_expired");
}

#[tokio::test]
async fn an_unknown_consumer_or_token_is_named_so() {
    let (jira, consumer) = start().await;
    let stranger = Consumer::new("stranger");
    problem(
        &myself(&jira, &stranger, "x").await,
        401,
        "consumer_key_unknown",
    );
    problem(&myself(&jira, &consumer, "x").await, 401, "token_rejected");
    let impostor = Consumer::new("acme");
    problem(
        &myself(&jira, &impostor, "x").await,
        401,
        "signature_invalid",
    );
}

#[tokio::test]
async fn malformed_parameters_have_their_problems() {
    let (jira, consumer) = two_legged().await;
    let sign = || consumer.sign(&jira, Method::POST, REQUEST_TOKEN);
    for (name, value, code) in [
        (
            "oauth_signature_method",
            "HMAC-SHA1",
            "signature_method_rejected",
        ),
        (
            "oauth_signature_method",
            "RSA-SHA256",
            "signature_method_rejected",
        ),
        (
            "oauth_signature_method",
            "PLAINTEXT",
            "signature_method_rejected",
        ),
        ("oauth_version", "2.0", "version_rejected"),
        ("oauth_timestamp", "noon", "parameter_rejected"),
        ("oauth_callback", "nowhere", "parameter_rejected"),
        (
            "oauth_callback",
            "javascript:alert(1)",
            "parameter_rejected",
        ),
    ] {
        let reply = send(sign().with(name, value).request(&jira, REQUEST_TOKEN)).await;
        problem(&reply, 400, code);
    }
    for name in [
        "oauth_consumer_key",
        "oauth_signature_method",
        "oauth_timestamp",
        "oauth_nonce",
    ] {
        let reply = send(sign().without(name).request(&jira, REQUEST_TOKEN)).await;
        problem(&reply, 400, "parameter_absent");
        assert!(reply.body.contains(name));
    }
    let mut twice = sign();
    twice.oauth.push(("oauth_nonce".into(), "other".into()));
    let reply = send(twice.request(&jira, REQUEST_TOKEN)).await;
    problem(&reply, 400, "parameter_rejected");
}

#[tokio::test]
async fn a_clock_five_minutes_off_is_refused_and_jiras_own_shows() {
    let (jira, consumer) = two_legged().await;
    for (offset, good) in [(-290, true), (290, true), (-310, false), (310, false)] {
        jira.set_clock_offset(offset);
        let reply = myself(&jira, &consumer, "").await;
        if good {
            assert_eq!(reply.status, 200, "{offset}");
        } else {
            problem(&reply, 400, "timestamp_refused");
            assert!(reply.body.contains("oauth_acceptable_timestamps="));
        }
    }
    let date = |reply: Reply| reply.header("date").unwrap().to_owned();
    let ahead = date(send(get(&jira, "/rest/api/2/serverInfo")).await);
    jira.set_clock_offset(86_400 * 400);
    let year = |date: &str| date[12..16].parse::<i32>().unwrap();
    let later = date(send(get(&jira, "/rest/api/2/serverInfo")).await);
    assert!(year(&later) > year(&ahead), "{later}");
}

#[tokio::test]
async fn a_nonce_is_used_once_per_timestamp() {
    let (jira, consumer) = two_legged().await;
    let signing = consumer.sign(&jira, Method::GET, MYSELF);
    assert_eq!(send(signing.request(&jira, MYSELF)).await.status, 200);
    problem(
        &send(signing.request(&jira, MYSELF)).await,
        401,
        "nonce_used",
    );
    let signing = signing.with("oauth_nonce", "another");
    assert_eq!(send(signing.request(&jira, MYSELF)).await.status, 200);
}

#[tokio::test]
async fn query_and_form_are_signed_json_is_not() {
    let (jira, consumer) = two_legged().await;
    let query = "/rest/api/2/search?jql=project%20%3D%20DEMO&fields=&fields=a%2Bb&u=%C3%BC&x=1+2";
    let good = consumer.sign(&jira, Method::GET, query);
    assert_eq!(send(good.request(&jira, query)).await.status, 200);
    for other in [
        query.replace("DEMO", "OPS"),
        query.replace("fields=&", ""),
        format!("{query}&y"),
    ] {
        let signing = consumer.sign(&jira, Method::GET, query);
        let reply = send(signing.request(&jira, &other)).await;
        problem(&reply, 401, "signature_invalid");
        assert!(
            reply
                .body
                .contains("oauth_signature_base_string=GET%26http")
        );
    }
    let search = "/rest/api/2/search";
    let form = [("a", "1 & 2"), ("a", ""), ("b+", "ü")];
    for (signed, status) in [(true, 415), (false, 401)] {
        let signing = consumer.sign(&jira, Method::POST, search);
        let signing = if signed { signing.form(&form) } else { signing };
        let reply = request(&jira, Method::POST, search)
            .header("authorization", signing.header())
            .header("x-atlassian-token", "no-check")
            .form(&form);
        assert_eq!(send(reply).await.status, status);
    }
    let signing = consumer.sign(&jira, Method::POST, search);
    let json = signing.request(&jira, search).json(&json!({ "jql": "" }));
    assert_eq!(send(json).await.status, 200);
    let signing = consumer.sign(&jira, Method::GET, search);
    let post = request(&jira, Method::POST, search).header("authorization", signing.header());
    problem(&send(post.json(&json!({}))).await, 401, "signature_invalid");
}

#[tokio::test]
async fn the_parameters_may_stand_in_the_query_or_the_form() {
    let (jira, consumer) = two_legged().await;
    let signing = consumer.sign(&jira, Method::GET, MYSELF);
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(signing.pairs())
        .finish();
    let reply = send(get(&jira, &format!("{MYSELF}?{query}"))).await;
    assert_eq!(reply.json()["name"], BOT);
    let signing = consumer.sign(&jira, Method::POST, REQUEST_TOKEN);
    let form = request(&jira, Method::POST, REQUEST_TOKEN).form(&signing.pairs());
    fields(&send(form).await);
}

#[tokio::test]
async fn the_signature_is_over_the_url_that_the_servlet_sees() {
    let proxied = TomcatConnector {
        scheme: Some("https".into()),
        proxy_name: Some("jira.corp.example".into()),
        proxy_port: Some(443),
    };
    for (connector, base) in [
        (TomcatConnector::default(), "http://inner.example:81"),
        (proxied, "https://jira.corp.example"),
    ] {
        let (jira, consumer) = start_changed(|settings, consumer| {
            settings.connector = connector;
            settings.base_url = Some("http://127.0.0.1:1/of/no/matter".into());
            consumer.two_legged_user = Some(BOT.into());
        })
        .await;
        let path = "/rest/api/2/issue/a%20%2d";
        let sent = |url: String| {
            let mut signing = consumer.sign(&jira, Method::GET, path);
            signing.url = url;
            let request = signing.request(&jira, path);
            send(request.header("host", "inner.example:81"))
        };
        let reply = sent(format!("{base}/jira{path}")).await;
        assert_eq!(reply.status, 404, "{}", reply.body);
        for wrong in [
            format!("{base}{path}"),
            format!("{base}/jira/rest/api/2/issue/a%20-"),
            format!("{}{path}", jira.base_url),
            format!("{}{path}", jira.url),
        ] {
            problem(&sent(wrong).await, 401, "signature_invalid");
        }
    }
}

#[tokio::test]
async fn a_plus_that_is_not_escaped_in_the_header_is_a_space() {
    let (jira, consumer) = two_legged().await;
    let header = loop {
        let header = consumer.sign(&jira, Method::GET, MYSELF).header();
        if header.contains("%2B") {
            break header;
        }
    };
    let raw = get(&jira, MYSELF).header("authorization", header.replace("%2B", "+"));
    problem(&send(raw).await, 401, "signature_invalid");
    let escaped = get(&jira, MYSELF).header("authorization", header);
    assert_ne!(send(escaped).await.status, 200, "the nonce is used");
}

#[tokio::test]
async fn two_legs_are_the_user_of_the_link_and_want_a_link_that_allows_them() {
    let (jira, consumer) = two_legged().await;
    assert_eq!(myself(&jira, &consumer, "").await.json()["name"], BOT);
    let (jira, consumer) = start().await;
    problem(
        &myself(&jira, &consumer, "").await,
        401,
        "permission_denied",
    );
}

#[tokio::test]
async fn a_missing_token_or_nonce_is_no_attempt_to_log_in() {
    let (jira, consumer) = two_legged().await;
    for name in ["oauth_token", "oauth_nonce"] {
        let signing = consumer.sign(&jira, Method::GET, "/rest/api/2/search");
        let reply = send(signing.without(name).request(&jira, "/rest/api/2/search")).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-ausername"), Some("anonymous"));
    }
}

#[tokio::test]
async fn impersonation_is_for_links_that_allow_it() {
    for allowed in [false, true] {
        let (jira, consumer) = start_changed(|_, consumer| {
            consumer.two_legged_user = Some(BOT.into());
            consumer.impersonation = allowed;
        })
        .await;
        let ask = |parameter: &str| {
            let path = format!("{MYSELF}?{parameter}");
            let signing = consumer.sign(&jira, Method::GET, &path);
            send(signing.request(&jira, &path))
        };
        let requestor = ask("xoauth_requestor_id=admin").await;
        let user_id = ask("user_id=admin").await;
        if allowed {
            assert_eq!(requestor.json()["name"], "admin");
            assert_eq!(user_id.json()["name"], "admin");
            let nobody = ask("xoauth_requestor_id=nobody").await;
            problem(&nobody, 401, "permission_denied");
        } else {
            problem(&requestor, 401, "permission_denied");
            assert_eq!(user_id.json()["name"], BOT);
        }
    }
}

#[tokio::test]
async fn three_legs_are_their_user_whomever_the_request_names() {
    let (jira, consumer) = start_changed(|_, consumer| consumer.impersonation = true).await;
    let answer = authorize(&jira, &consumer).await;
    let path = format!("{MYSELF}?xoauth_requestor_id=admin");
    let signing = consumer.sign(&jira, Method::GET, &path);
    let signing = signing.with("oauth_token", &answer["oauth_token"]);
    let reply = send(signing.request(&jira, &path)).await;
    assert_eq!(reply.json()["name"], BOT);
}

#[tokio::test]
async fn a_consumer_with_an_invalid_key_is_refused() {
    let (jira, _) = start().await;
    let error = jira
        .register_oauth1_consumer(OAuth1Consumer::new("acme", "not a key"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("acme") && error.contains("PEM"), "{error}");
}
