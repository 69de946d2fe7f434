//! With server-stub as the gateway, which issues and consumes tokens.

use e2e::{
    agent::write_secret,
    egress::{NetworkPart, PASSWORD, TestCa, USER, squid, stunnel},
    enrollment::{CustomerHost, PAT, VendorSetup, changed_token, vendor_and_host},
    login::output_text,
    test_env::new_issue,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn one_pasted_token_and_what_the_customer_knows_lead_to_a_ticket() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let text = host.enroll_ok(&token, &vendor.answers()).unwrap();
    assert!(
        text.contains("registered it, and logged in with it"),
        "{text}"
    );
    assert!(text.contains("/jira/rest/api/2/"), "{text}");

    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
    let url = format!("http://{}/jira/rest/api/2/issue", vendor.gateway.http_addr);
    let answer = reqwest::Client::new()
        .post(url)
        .header("host", format!("acme.{}", vendor.gateway.snapshot().domain))
        .json(&new_issue("enrolled"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());

    // Secrets are readable by their owner only, and the drop-in has none.
    for (name, content) in host.files().unwrap() {
        let mode = fs::metadata(host.dir().join(&name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        let secret = name.ends_with("/id_ed25519") || name.ends_with("/jira-token");
        assert_eq!(mode, if secret { 0o600 } else { 0o644 }, "{name}");
        let has_it = content
            .windows(PAT.len())
            .any(|part| part == PAT.as_bytes());
        assert_eq!(has_it, name.ends_with("/jira-token"), "{name}");
    }
}

/// The company's proxy is the only way out, also for the first connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_registered_through_the_proxy_that_the_agent_then_uses() {
    let (vendor, host, squid) = behind_proxy(PASSWORD).await;
    let url = format!("http://{}", squid.address());
    let mut flags = through(&vendor, &url);
    // The check would ask the proxy too.
    flags.push("--no-check");
    host.enroll_ok(&vendor.token(&[]).unwrap(), &flags).unwrap();
    squid
        .logged(&format!("CONNECT {}", vendor.gateway.ssh_addr))
        .await
        .unwrap();
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
}

/// A refused password is sent to the proxy once, whatever the number of gateways.
/// Repeated wrong passwords would lock the account.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_the_password_is_asked_once() {
    let (vendor, host, squid) = behind_proxy("mistyped").await;
    let url = format!("http://{}", squid.address());
    let flags = through(&vendor, &url);
    let token = changed_token(&vendor.token(&[]).unwrap(), |token| {
        token.gateways.push(token.gateways[0].clone());
        token.gateways[1].host = "localhost".to_owned();
    });
    let refused = host.enroll(&token.unwrap(), &flags).unwrap();
    let text = output_text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("407"), "{text}");
    // squid logs in order: this line is the last.
    let mut last = TcpStream::connect(squid.address()).await.unwrap();
    let marker = b"GET http://last.invalid/ HTTP/1.1\r\nHost: last.invalid\r\n\r\n";
    last.write_all(marker).await.unwrap();
    squid.logged("last.invalid").await.unwrap();
    let log = squid.log();
    let asked = log.lines().filter(|line| line.contains(" CONNECT "));
    assert_eq!(asked.count(), 1, "{log}");
}

/// A vendor, a host with a password for the proxy, and squid between them, which demands a login.
async fn behind_proxy(password: &str) -> (VendorSetup, CustomerHost, NetworkPart) {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let ports = [vendor.gateway.ssh_addr.port()];
    let squid = squid(&ports, true).await.unwrap();
    write_secret(&host.work_dir().join("proxy"), password).unwrap();
    (vendor, host, squid)
}

/// The customer's answers, with this proxy.
fn through<'a>(vendor: &'a VendorSetup, url: &'a str) -> Vec<&'a str> {
    let mut flags = vendor.answers();
    flags.extend(["--proxy", url, "--proxy-user", USER]);
    flags.extend(["--proxy-password-file", "proxy"]);
    flags
}

/// Only TLS is permitted; the gateway's CA comes beside the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_inside_tls_is_enrolled_at_by_its_own_authority() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let ca = TestCa::new("Vendor CA").unwrap();
    let tls = stunnel(vendor.gateway.ssh_addr.port(), &ca).await.unwrap();
    ca.write(host.work_dir()).unwrap();
    let gateway = format!("tls://{}", tls.address());
    let token = vendor.token_at(&gateway, &[]).unwrap();
    let mut flags = vendor.answers();
    flags.extend(["--gateway-ca-file", "ca.pem"]);
    host.enroll_ok(&token, &flags).unwrap();
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
}

/// The service runs as the owner of the state folder, and root enrolls.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_root_writes_belong_to_the_services_user() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let state = host.dir().join("state");
    fs::create_dir(&state).unwrap();
    if chown(&state, Some(NOBODY), Some(NOBODY)).is_err() {
        // Only root can give files away.
        return;
    }
    host.enroll_ok(&vendor.token(&[]).unwrap(), &vendor.answers())
        .unwrap();
    for (name, _) in host.files().unwrap() {
        let owner = fs::metadata(host.dir().join(&name)).unwrap().uid();
        let secret = name.ends_with("/id_ed25519") || name.ends_with("/jira-token");
        assert_eq!(owner, if secret { NOBODY } else { 0 }, "{name}");
    }
}

const NOBODY: u32 = 65534;
