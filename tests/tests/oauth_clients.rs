//! A vendor that runs its own OAuth with unmodified libraries: the preset `oauth-dance` permits what they need, and a
//! signature over Jira's own URL is valid behind the agent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::auth::oauth1::SigningKey;
use e2e::{
    agent::write_secret,
    capture::CapturingProxy,
    client_script,
    login::private_pem,
    sshd::free_addr,
    tcp_server::TcpServer,
    test_env::{BOT, BOT_PASSWORD, TestEnv, TestEnvPlan, vendor},
};
use server_stub::jira::{AuthKind, OAuth1Consumer, OAuth2Client};
use std::sync::LazyLock;
use tokio::process::Command;

/// Authlib gets a token of OAuth 1.0a, and three libraries sign with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_own_oauth1_works_through_the_tunnel() {
    let site = plan().start_unproven().await.unwrap();
    let proxy = CapturingProxy::start(site.addr()).await.unwrap();
    let key_file = key_file(&site);
    let tokens = dance(&site, &proxy, ["oauth1", CONSUMER, &key_file]).await;
    let [token, secret] = tokens.as_slice() else {
        panic!("{tokens:?}");
    };
    assert_all_went_through(&site, &proxy);

    let login = ["oauth1", CONSUMER, &key_file, token, secret];
    for script in ["jira_everything.py", "atlassian_everything.py"] {
        let (site, proxy) = (&site, &proxy);
        site.jira().clear_requests();
        let mut command = client_script::python(script);
        command.arg(tunnel_url(proxy)).args(login);
        command.args(["--jira-url", &site.jira().url, "--expect-user", BOT]);
        client_script::run(command, b"").await.unwrap();
        assert_signed_by_the_vendor(site);
    }
    site.jira().clear_requests();
    client_script::run(node(&proxy, &site, &login), b"")
        .await
        .unwrap();
    assert_signed_by_the_vendor(&site);
    assert_dance_endpoints_alone(&site).await;
}

/// Jira sends the browser to an outlet of the agent, which takes the verifier to the vendor.
#[tokio::test(flavor = "multi_thread")]
async fn the_callback_of_oauth1_leaves_through_an_outlet() {
    // The vendor's receiver gives back the target that it got.
    let echo = |request: http::Request<hyper::body::Incoming>| async move {
        let target = request.uri().to_string();
        Ok::<_, std::convert::Infallible>(http::Response::new(target))
    };
    let receiver = TcpServer::http(echo).await.unwrap();
    let permit = format!("PermitOpen {}", receiver.addr);
    let plan = plan().sshd("AllowTcpForwarding yes").sshd(permit.leak());
    let site = plan.start_unproven().await.unwrap();
    let listen = free_addr().unwrap();
    let outlet = format!(
        "[[outlet]]\nname = \"callback\"\nlisten = \"{listen}\"\nto = \"{}\"\nallow = [\"GET /back\"]\n",
        receiver.addr
    );
    site.agent.edit_config(|text| text + &outlet).unwrap();
    site.agent.succeed(&["reload"]).unwrap();

    let proxy = CapturingProxy::start(site.addr()).await.unwrap();
    let mut command = client_script::python("authlib_dances.py");
    command.args([&tunnel_url(&proxy), &site.jira().url, BOT, BOT_PASSWORD]);
    command.args(["oauth1", CONSUMER, &key_file(&site)]);
    command.args(["--outlet", &format!("http://{listen}")]);
    client_script::run(command, b"").await.unwrap();
    let lines = site.agent.audit();
    let out = lines.iter().find(|line| line["direction"] == "out");
    let out = out.expect("an audit line of the callback");
    assert_eq!(
        out["target"],
        "/back?from=*&x=*&oauth_token=*&oauth_verifier=*"
    );
}

/// Authlib gets a token with PKCE, and another library uses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_own_oauth2_works_through_the_tunnel() {
    let site = plan().start_unproven().await.unwrap();
    let proxy = CapturingProxy::start(site.addr()).await.unwrap();
    let tokens = dance(&site, &proxy, ["oauth2", CLIENT, CLIENT_SECRET]).await;
    assert_all_went_through(&site, &proxy);
    site.jira().clear_requests();
    let mut command = client_script::python("atlassian_everything.py");
    command
        .arg(tunnel_url(&proxy))
        .args(["oauth2", CLIENT, &tokens[0]]);
    command.args(["--jira-url", &site.jira().url, "--expect-user", BOT]);
    client_script::run(command, b"").await.unwrap();
    for request in site.received() {
        assert!(
            matches!(request.auth, Some(AuthKind::OAuth2(_))),
            "{request:?}"
        );
    }
}

/// Gets tokens with Authlib; they are the last line of the script's output.
async fn dance(site: &TestEnv, proxy: &CapturingProxy, login: [&str; 3]) -> Vec<String> {
    let mut command = client_script::python("authlib_dances.py");
    command.args([&tunnel_url(proxy), &site.jira().url, BOT, BOT_PASSWORD]);
    command.args(login);
    let printed = client_script::run(command, b"").await.unwrap();
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

/// All requests at Jira except the browser's went through the tunnel unchanged.
fn assert_all_went_through(site: &TestEnv, proxy: &CapturingProxy) {
    let sent = proxy.requests();
    let received = site.received();
    let by_vendor = received
        .iter()
        .filter(|request| !request.target_text().contains("/authorize?"));
    let mut count = 0;
    for request in by_vendor {
        count += 1;
        let target = request.target_text();
        let same = sent.iter().any(|sent| {
            (&sent.method, &sent.target) == (&request.method, &target)
                && sent.body == request.body_head
        });
        assert!(same, "{request:?}");
        assert_eq!(
            request.header("host").unwrap(),
            site.jira().addr.to_string()
        );
    }
    assert!(count >= 6, "{received:?}");
}

fn assert_signed_by_the_vendor(site: &TestEnv) {
    let received = site.received();
    assert!(received.len() > 20, "{} requests", received.len());
    for request in received {
        assert_eq!(request.auth, Some(AuthKind::OAuth1), "{request:?}");
        assert_eq!(request.user.as_deref(), Some(BOT), "{request:?}");
    }
}

/// Of all OAuth endpoints the preset permits only those of the dance, with one method each.
async fn assert_dance_endpoints_alone(site: &TestEnv) {
    site.jira().clear_requests();
    let url = site.vendor_url();
    for path in [
        "/plugins/servlet/oauth/authorize",
        "/plugins/servlet/oauth/access-token/x",
        "/plugins/servlet/oauth/consumer-info",
        "/plugins/servlet/oauth/users/access-tokens",
        "/plugins/servlet/applinks/listApplicationLinks",
        "/rest/oauth2/latest/authorize",
        "/rest/oauth2/latest/client",
        "/rest/oauth2/2.0/token",
        "/rest/oauth2/latest/token/x",
        "/rest/applinks/3.0/applinks",
    ] {
        for request in [
            vendor().get(url.clone() + path),
            vendor().post(url.clone() + path),
        ] {
            assert_eq!(request.send().await.unwrap().status(), 403, "{path}");
        }
    }
    for path in DANCE {
        let get = vendor().get(url.clone() + path).send().await.unwrap();
        assert_eq!(get.status(), 403, "{path}");
    }
    assert!(site.received().is_empty());
    for path in DANCE {
        let post = vendor().post(url.clone() + path).send().await.unwrap();
        assert!(
            !post.headers().contains_key("proxy-status"),
            "{path}: {post:?}"
        );
    }
    assert_eq!(site.received().len(), DANCE.len());
}

const DANCE: &[&str] = &[
    "/plugins/servlet/oauth/request-token",
    "/plugins/servlet/oauth/access-token",
    "/rest/oauth2/latest/token",
    "/rest/oauth2/1.0/token",
    "/rest/oauth2/latest/revoke",
];

fn plan() -> TestEnvPlan {
    TestEnv::builder()
        .presets(&["ticketing", "oauth-dance"])
        .jira(|jira| {
            let public = KEY.public_pem().unwrap();
            jira.oauth1.consumers = vec![OAuth1Consumer::new(CONSUMER, &public)];
            jira.oauth2.clients = vec![OAuth2Client::new(CLIENT, CLIENT_SECRET, CALLBACK)];
        })
}

fn tunnel_url(proxy: &CapturingProxy) -> String {
    format!("http://{}/jira", proxy.addr)
}

fn key_file(site: &TestEnv) -> String {
    let path = site.dir().join("vendors-key.pem");
    write_secret(&path, &private_pem(&KEY).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn node(proxy: &CapturingProxy, site: &TestEnv, login: &[&str]) -> Command {
    let mut command = client_script::node("jira_client_everything.js");
    command.arg(tunnel_url(proxy)).args(login).arg(BOT);
    command.env("JIRA_URL", &site.jira().url);
    command
}

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(2048).unwrap());
const CONSUMER: &str = "vendor-consumer";
const CLIENT: &str = "vendor-client";
const CLIENT_SECRET: &str = "vendor-client-secret";
/// As in `authlib_dances.py`.
const CALLBACK: &str = "https://vendor.example/back?from=jira&x=1";
