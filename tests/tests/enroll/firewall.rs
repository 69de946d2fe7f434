//! `agent check --firewall --token-file`: the change request for the network team, before the enrollment.

use agent::check::{CheckReport, StepVerdict};
use e2e::{
    agent::{binary, command},
    enrollment::{CustomerHost, VendorSetup, vendor_and_host},
    login::output_text,
    sshd::free_addr,
};
use russh::{
    keys::load_secret_key,
    server::{self, Auth, PublicKeyOffer},
};
use std::{
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Notify};

/// Checks every hop without a credential, prints the firewall rules, and leaves the token unused.
#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_gateways_is_checked_before_the_token_is_used() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let done = check(&host, &token, &[]);
    let text = output_text(&done);
    assert_eq!(done.status.code(), Some(0), "{text}");
    for part in [
        "token          ok",
        "host-key       ok",
        "login          skipped",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let port = vendor.gateway.ssh_addr.port();
    assert!(
        text.contains(&format!("to 127.0.0.1 port {port}, stateful")),
        "{text}"
    );
    assert!(host.files().unwrap().is_empty());
    let enrolled = host.enroll(&token, &vendor.answers()).unwrap();
    assert!(enrolled.status.success(), "{}", output_text(&enrolled));
}

/// A gateway that counts login attempts counts none.
#[tokio::test(flavor = "multi_thread")]
async fn no_authentication_is_begun() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap().to_string();
    let (attempts, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let counting = AuthCounter(Arc::clone(&attempts));
    let config = server::Config {
        keys: vec![
            load_secret_key(vendor.gateway_folder().join("ssh_host_ed25519_key"), None).unwrap(),
        ],
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        ..server::Config::default()
    };
    let end = Arc::clone(&ended);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let session = server::run_stream(Arc::new(config), stream, counting).await;
        // The server has read everything.
        let _ = session.unwrap().await;
        end.notify_one();
    });
    let token = vendor.token_at(&there, &[]).unwrap();
    let done = tokio::task::spawn_blocking(move || check(&host, &token, &[]));
    let done = done.await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", output_text(&done));
    ended.notified().await;
    assert_eq!(attempts.load(Ordering::SeqCst), 0);
}

/// A closed port, another host key and an unreachable proxy have different causes.
#[tokio::test(flavor = "multi_thread")]
async fn each_obstacle_to_the_gateway_is_named() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let closed = free_addr().unwrap().to_string();
    let token = vendor.token_at(&closed, &[]).unwrap();
    fails(&host, &token, &[], "tcp", "refused the connection");

    let other = VendorSetup::start().await.unwrap();
    let there = other.gateway.ssh_addr.to_string();
    let token = vendor.token_at(&there, &[]).unwrap();
    fails(&host, &token, &[], "host-key", "SHA256:");

    let token = vendor.token(&[]).unwrap();
    let proxy = format!("http://{closed}");
    let report = fails(
        &host,
        &token,
        &["--proxy", &proxy],
        "tcp",
        "refused the connection",
    );
    let purposes: Vec<_> = report.firewall.iter().map(|r| &*r.purpose).collect();
    assert_eq!(purposes, ["proxy", "on-the-proxy"]);
}

/// Nothing else is used as a configuration.
#[tokio::test(flavor = "multi_thread")]
async fn the_flags_of_a_token_need_one() {
    let host = CustomerHost::new().unwrap();
    for flags in [
        &["check", "--token-file", "-"][..],
        &["check", "--firewall", "--proxy", "http://proxy.corp:3128"],
        &["check", "--firewall", "--token-file", "-", "jira"],
    ] {
        let done = run(&host, "", flags);
        assert_eq!(done.status.code(), Some(64), "{}", output_text(&done));
    }
    let done = run(
        &host,
        "jtaenroll1.",
        &["check", "--firewall", "--token-file", "-"],
    );
    assert_eq!(done.status.code(), Some(1), "{}", output_text(&done));
    assert!(
        output_text(&done).contains("this token is truncated"),
        "{}",
        output_text(&done)
    );
}

struct AuthCounter(Arc<AtomicUsize>);

impl server::Handler for AuthCounter {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::reject())
    }
}

/// Exactly this step fails, with this part in its cause.
fn fails(host: &CustomerHost, token: &str, more: &[&str], step: &str, part: &str) -> CheckReport {
    let mut flags = vec!["--json"];
    flags.extend(more);
    let done = check(host, token, &flags);
    assert_eq!(done.status.code(), Some(2), "{}", output_text(&done));
    let report: CheckReport = serde_json::from_slice(&done.stdout).unwrap();
    let failed: Vec<_> = report
        .steps
        .iter()
        .filter(|step| step.verdict == StepVerdict::Fail)
        .collect();
    assert_eq!(failed.len(), 1, "{report:#?}");
    assert_eq!(failed[0].step, step, "{report:#?}");
    assert!(failed[0].cause.as_ref().unwrap().contains(part));
    report
}

fn check(host: &CustomerHost, token: &str, more: &[&str]) -> Output {
    let mut words = vec!["check", "--firewall", "--token-file", "-"];
    words.extend(more);
    run(host, token, &words)
}

fn run(host: &CustomerHost, input: &str, words: &[&str]) -> Output {
    let program = Command::new(binary("agent"));
    host.pipe(command(program, &host.dir(), words), input)
        .unwrap()
}
