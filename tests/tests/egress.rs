//! From a company network to the gateway: real proxies and TLS, and the real agent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    status::{LayerState, StatusReport},
    tunnel::Hop,
};
use e2e::{
    egress::{
        NetworkPart, PASSWORD, TestCa, USER, dante, haproxy, microsocks, password, squid, stunnel,
    },
    setup::{AgentSetup, RunningAgent},
    sshd::Sshd,
    test_env::vendor,
};
use std::path::Path;

/// Nothing listens there: the agent's own answer shows that bytes pass.
const NO_JIRA: &str = "http://127.0.0.1:9";

fn setup(sshd: &Sshd) -> AgentSetup {
    let setup = AgentSetup::for_sshd(sshd).unwrap();
    setup.forward("jira", "127.0.0.1:0", NO_JIRA)
}

/// Through the proxy at this URL, with this user name and password.
fn by_proxy(sshd: &Sshd, url: &str, login: Option<(&str, &str)>) -> AgentSetup {
    let setup = setup(sshd).tunnel("proxy", url);
    match login {
        None => setup,
        Some((user, word)) => {
            let file = password(sshd.folder(), word).unwrap();
            let setup = setup.tunnel("proxy_username", user);
            setup.tunnel("proxy_password_file", file)
        }
    }
}

/// To sshd through this TLS terminator.
fn inside_tls(setup: AgentSetup, tls: &NetworkPart, ca_file: Option<&Path>) -> AgentSetup {
    let setup = setup.tunnel("gateways", vec![format!("tls://{}", tls.address())]);
    match ca_file {
        None => setup,
        Some(path) => setup.tunnel("gateway_ca_file", path.display().to_string()),
    }
}

/// The tunnel is proven, and a request of the vendor gets the agent's answer.
async fn carries(agent: &RunningAgent) -> StatusReport {
    let bound = agent.until_bound().await.unwrap();
    let proven = |r: &StatusReport| r.layers.tunnel.state == LayerState::Proven;
    let report = agent
        .until_status("the tunnel to be proven", proven)
        .await
        .unwrap();
    let url = format!("http://{bound}/rest/api/2/serverInfo");
    let answer = vendor().get(url).send().await.unwrap();
    assert!(answer.headers().contains_key("proxy-status"), "{answer:?}");
    report
}

/// The network layer fails at this hop, with this cause and this remedy.
async fn fails(agent: &RunningAgent, hop: Hop, cause: &[&str], remedy: &str) {
    // The status changes before the log line is written.
    let failed = |r: &StatusReport| {
        r.connections[0].network.state == LayerState::Failed && agent.log().contains("(hop ")
    };
    let report = agent
        .until_status("the network to fail", failed)
        .await
        .unwrap();
    assert_eq!(report.connections[0].failed_hop, Some(hop));
    let line = format!("(hop {hop})");
    assert!(agent.log().contains(&line), "{line} is not in the log");
    let network = &report.connections[0].network;
    let text = network.cause.clone().unwrap();
    for part in cause {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
    let text = network.remedy.clone().unwrap();
    assert!(text.contains(remedy), "{remedy:?} is missing in {text:?}");
    assert!(!agent.log().contains(PASSWORD), "the password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_with_a_login_works_and_is_in_the_status() {
    let sshd = Sshd::start().unwrap();
    let proxy = squid(&[sshd.port()], true).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let setup = by_proxy(&sshd, &url, Some((USER, PASSWORD)));
    let agent = setup.start().unwrap();
    let report = carries(&agent).await;
    assert_eq!(report.connections[0].via, Some(url.clone()));
    let (shown, _) = agent.status_output().unwrap();
    assert!(shown.contains(&format!("via {url}")), "{shown}");
    drop(agent);
    proxy
        .logged(&format!("CONNECT {} {USER}", sshd.address()))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_the_login_is_not_retried_soon() {
    let sshd = Sshd::start().unwrap();
    let proxy = squid(&[sshd.port()], true).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let agent = by_proxy(&sshd, &url, None).start().unwrap();
    let cause = [
        url.as_str(),
        "requires a credential, and none is configured",
        "407",
    ];
    fails(&agent, Hop::Proxy, &cause, "proxy_username").await;
    drop(agent);

    let agent = by_proxy(&sshd, &url, Some((USER, "wrong")))
        .start()
        .unwrap();
    let cause = [url.as_str(), "rejected the credential", "407", "\"acme\""];
    fails(&agent, Hop::Proxy, &cause, "may be locked").await;
    // The next attempt is a minute away, so that the account is not locked.
    let report = agent.status().await.unwrap();
    let next = report.connections[0].next_retry_seconds.unwrap();
    assert!(next > 20.0, "next attempt in {next} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_tells_its_policy_from_a_gateway_that_is_gone() {
    let sshd = Sshd::start().unwrap();
    let proxy = squid(&[1], false).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let agent = by_proxy(&sshd, &url, None).start().unwrap();
    let cause = [
        "forbids connections to 127.0.0.1",
        "403",
        "ERR_ACCESS_DENIED",
    ];
    fails(&agent, Hop::Proxy, &cause, "allow CONNECT from this host").await;
    drop(agent);

    let gone = by_proxy(&sshd, &url, None).tunnel("gateways", vec!["127.0.0.1:1"]);
    let agent = gone.start().unwrap();
    let cause = ["cannot connect to 127.0.0.1:1", "503", "ERR_CONNECT_FAIL"];
    fails(&agent, Hop::Proxy, &cause, "lets the proxy connect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_excepted_from_the_proxy_is_reached_without_it() {
    let sshd = Sshd::start().unwrap();
    // Nothing listens at this proxy.
    let setup = by_proxy(&sshd, "http://127.0.0.1:1", None);
    let agent = setup.clone().start().unwrap();
    let cause = ["cannot connect to the proxy http://127.0.0.1:1", "refused"];
    fails(&agent, Hop::Tcp, &cause, "tunnel.proxy").await;
    drop(agent);
    let agent = setup
        .tunnel("no_proxy", vec!["127.0.0.0/8"])
        .start()
        .unwrap();
    assert_eq!(carries(&agent).await.connections[0].via, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn dante_lets_the_agent_out_and_its_rules_are_told() {
    let sshd = Sshd::start().unwrap();
    let proxy = dante(sshd.port()).await.unwrap();
    let url = format!("socks5://{}", proxy.address());
    let agent = by_proxy(&sshd, &url, None).start().unwrap();
    assert_eq!(carries(&agent).await.connections[0].via, Some(url.clone()));
    drop(agent);

    let denied = by_proxy(&sshd, &url, None).tunnel("gateways", vec!["127.0.0.1:1"]);
    let agent = denied.start().unwrap();
    fails(
        &agent,
        Hop::Proxy,
        &["forbids connections to 127.0.0.1:1"],
        "allow",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn microsocks_takes_the_login_and_without_it_says_so() {
    let sshd = Sshd::start().unwrap();
    let proxy = microsocks().await.unwrap();
    let url = format!("socks5://{}", proxy.address());
    let agent = by_proxy(&sshd, &url, None).start().unwrap();
    let cause = [
        url.as_str(),
        "requires a credential, and none is configured",
    ];
    fails(&agent, Hop::Proxy, &cause, "proxy_username").await;
    drop(agent);
    let agent = by_proxy(&sshd, &url, Some((USER, "wrong")))
        .start()
        .unwrap();
    fails(
        &agent,
        Hop::Proxy,
        &[&url, "rejected the credential", "acme"],
        "proxy_password_file",
    )
    .await;
    drop(agent);
    let setup = by_proxy(&sshd, &url, Some((USER, PASSWORD)));
    let agent = setup.start().unwrap();
    carries(&agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_inside_tls_works_directly_and_through_a_proxy() {
    let sshd = Sshd::start().unwrap();
    let vendor = TestCa::new("Vendor CA").unwrap();
    let tls = stunnel(sshd.port(), &vendor).await.unwrap();
    let ca_file = vendor.write(sshd.folder()).unwrap();
    let agent = inside_tls(setup(&sshd), &tls, Some(&ca_file))
        .start()
        .unwrap();
    let report = carries(&agent).await;
    let gateway = format!("tls://{}", tls.address());
    assert_eq!(report.connections[0].gateway, gateway);
    drop(agent);

    let tls = haproxy(sshd.port(), &vendor).await.unwrap();
    let proxy = squid(&[tls.port()], false).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let both = inside_tls(by_proxy(&sshd, &url, None), &tls, Some(&ca_file));
    let agent = both.start().unwrap();
    let report = carries(&agent).await;
    assert_eq!(report.connections[0].via, Some(url));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_intercepted_names_the_issuer() {
    let sshd = Sshd::start().unwrap();
    let vendor = TestCa::new("Vendor CA").unwrap();
    let inspecting = TestCa::new("Corp Inspection CA").unwrap();
    let tls = stunnel(sshd.port(), &inspecting).await.unwrap();
    let ca_file = vendor.write(sshd.folder()).unwrap();
    // The system's trust store often contains the CA of an inspecting proxy; only the vendor's file counts.
    let folder = tempfile::tempdir().unwrap();
    let system = inspecting.write(folder.path()).unwrap();
    let inspected = [("SSL_CERT_FILE", system.to_str().unwrap())];
    let nothing: &[(&str, &str)] = &[];
    for (trusted, system) in [(Some(ca_file.as_path()), &inspected[..]), (None, nothing)] {
        let setup = inside_tls(setup(&sshd), &tls, trusted);
        let agent = setup.start_with(system).unwrap();
        let address = tls.address();
        let cause = [
            address.as_str(),
            "issued by \"Corp Inspection CA\"",
            "not trusted",
        ];
        fails(&agent, Hop::Tls, &cause, "exempt").await;
    }
    // Without a CA file, the system's trust store counts.
    let setup = inside_tls(setup(&sshd), &tls, None);
    carries(&setup.start_with(&inspected).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_environment_is_used_only_if_configured_so() {
    let sshd = Sshd::start().unwrap();
    let proxy = squid(&[sshd.port()], true).await.unwrap();
    let url = format!("http://{USER}:s3cret%3A%20word@{}", proxy.address());
    let variables = [("HTTPS_PROXY", url.as_str())];
    let agent = setup(&sshd).start_with(&variables).unwrap();
    assert_eq!(carries(&agent).await.connections[0].via, None);
    drop(agent);
    let configured = setup(&sshd).tunnel("proxy", "environment");
    let agent = configured.start_with(&variables).unwrap();
    let via = carries(&agent).await.connections[0].via.clone();
    assert_eq!(via, Some(format!("http://{}", proxy.address())));
    drop(agent);
    let around = [variables[0], ("NO_PROXY", "127.0.0.1")];
    let agent = configured.start_with(&around).unwrap();
    assert_eq!(carries(&agent).await.connections[0].via, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mix_of_tls_and_plain_ssh_is_named() {
    let sshd = Sshd::start().unwrap();
    let plain = format!("tls://{}", sshd.address());
    let agent = setup(&sshd)
        .tunnel("gateways", vec![plain])
        .start()
        .unwrap();
    fails(
        &agent,
        Hop::Tls,
        &["TLS with 127.0.0.1", "not TLS"],
        "without tls://",
    )
    .await;
    drop(agent);
    let tls = stunnel(sshd.port(), &TestCa::new("CA").unwrap())
        .await
        .unwrap();
    let mute = setup(&sshd).tunnel("gateways", vec![tls.address()]);
    let agent = mute.tunnel("login_timeout", "2s").start().unwrap();
    let failed = |r: &StatusReport| r.connections[0].network.state == LayerState::Failed;
    let report = agent.until_status("no SSH banner", failed).await.unwrap();
    let cause = report.connections[0].network.cause.clone().unwrap();
    assert!(cause.contains("SSH"), "{cause}");
    assert_eq!(report.connections[0].failed_hop, Some(Hop::Banner));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_failed_is_named_until_it_is_passed() {
    let mut sshd = Sshd::start().unwrap();
    sshd.kill();
    let agent = setup(&sshd).start().unwrap();
    let failed = |r: &StatusReport| r.connections[0].failed_hop == Some(Hop::Tcp);
    agent
        .until_status("an attempt to fail", failed)
        .await
        .unwrap();
    sshd.restart().unwrap();
    assert_eq!(carries(&agent).await.connections[0].failed_hop, None);
}
