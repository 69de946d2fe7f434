//! Adding, enrolling, confining and removing customers.

use crate::{TwoCustomers, ask, gateway_error, host};
use agent::{
    enroll::EnrollmentToken,
    status::{ForwardState, LayerState, StatusReport},
};
use e2e::{
    enrollment::{CustomerHost, answers, jira},
    gateway::{InstalledGateway, PLACES},
    login::output_text,
    recording_origin::{RecordingOrigin, issue},
    sshd::signal,
    stub::GatewayCallers,
    test_env::vendor,
    wait::{PATIENCE, until},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::task::{JoinHandle, JoinSet};

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_can_bind_its_own_socket_and_nothing_else() {
    let two = TwoCustomers::start().await;
    let key = two.gateway.path("/etc/jira-gateway/keys/acme");
    let line = fs::read_to_string(key).unwrap();
    assert!(
        line.starts_with("restrict,port-forwarding ssh-ed25519 "),
        "{line}"
    );
    let folder = fs::metadata(two.gateway.path("/srv/jira-gateway/bolt/s")).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o2710);
    let socket = fs::metadata(two.gateway.path("/srv/jira-gateway/bolt/s/jira-0.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, folder.gid()));

    let (key, _) = two.gateway.add("acme").unwrap();
    // A permitted bind first: the refusals below are not caused by the test.
    refused_or_bound(&two.gateway, &key, "/s/other.sock", ForwardState::Bound).await;
    for bind in [
        "127.0.0.1:0",
        "127.0.0.1:18080",
        "[::1]:18080",
        "/bolt/s/jira-0.sock",
        "/srv/jira-gateway/bolt/s/jira-0.sock",
        "/s/../../bolt/s/jira-0.sock",
        "/jira.sock",
        "/tmp/jira.sock",
        "/run/jira.sock",
    ] {
        refused_or_bound(&two.gateway, &key, bind, ForwardState::Refused).await;
    }
    // No connection from the gateway, no command and no other user name is permitted.
    let inside = format!("127.0.0.1:{}", two.gateway.monitoring().port());
    let asked: [(&str, &[&str], &[&str]); 5] = [
        ("acme", &["-W", &inside], &[]),
        ("acme", &["-T"], &["true"]),
        ("acme", &["-s"], &["sftp"]),
        ("bolt", &["-N"], &[]),
        ("root", &["-N"], &[]),
    ];
    for (user, options, command) in asked {
        let mut ssh = two.gateway.ssh(user, &key, options, command);
        let done = ssh.stdin(Stdio::null()).output().unwrap();
        assert_eq!(
            done.status.code(),
            Some(255),
            "{user} {options:?} {command:?}: {done:?}"
        );
    }
    let answer = ask(
        two.gateway.services(),
        &host("bolt"),
        "/rest/api/2/issue/DEMO-7",
    )
    .await;
    assert_eq!(
        String::from_utf8_lossy(&answer.body),
        issue("DEMO-7"),
        "bolt is as it was"
    );
}

async fn refused_or_bound(
    gateway: &InstalledGateway,
    key: &Path,
    bind: &str,
    wanted: ForwardState,
) {
    let agent = gateway.agent_with_bind("acme", key, bind).start().unwrap();
    let settled = |r: &StatusReport| {
        matches!(
            r.connections[0].forwards[0].state,
            ForwardState::Bound | ForwardState::Refused
        )
    };
    let report = agent
        .until_status("an answer to the bind", settled)
        .await
        .unwrap();
    assert_eq!(report.connections[0].forwards[0].state, wanted, "{bind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_is_removed_is_cut_off_and_leaves_nothing() {
    let two = TwoCustomers::start().await;
    let (gateway, at) = (&two.gateway, two.gateway.services());
    // Adding the same customer again does not affect its tunnel.
    gateway.add("acme").unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
    let before: JoinHandle<_> = tokio::spawn(slow_download(at));

    gateway.customer(&["remove", "acme"]).unwrap();
    // HAProxy loads the new list a moment later; until then the customer is offline.
    let forgotten = async || {
        let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
        match gateway_error(&answer) {
            (421, kind, delivery) => Some((kind, delivery)),
            gateway_error => {
                assert_eq!(
                    gateway_error,
                    (503, "agent-offline".into(), "not_sent".into())
                );
                None
            }
        }
    };
    let forgotten = until("the new list", forgotten).await.unwrap();
    assert_eq!(forgotten, ("unknown-host".into(), "not_sent".into()));
    let refused = |r: &StatusReport| r.layers.tunnel.state == LayerState::Failed;
    let refused = two.acme.until_status("the login to be refused", refused);
    refused.await.unwrap();
    assert!(!before.await.unwrap(), "the request in flight has ended");
    for path in [
        "/srv/jira-gateway/acme",
        "/etc/jira-gateway/keys/acme",
        "/etc/jira-gateway/customers/acme.cfg",
    ] {
        assert!(!gateway.path(path).exists(), "{path}");
    }
    let users = fs::read_to_string(gateway.path("/etc/passwd")).unwrap();
    assert!(!users.contains("acme") && users.contains("bolt"));
    gateway.customer(&["remove", "acme"]).unwrap();
    let answer = ask(at, &host("bolt"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
}

/// Whether a long download completes.
async fn slow_download(at: SocketAddr) -> bool {
    let url = format!("http://{at}/secure/attachment/500000000/x");
    let answer = vendor().get(url).header("host", host("acme")).send().await;
    match answer {
        Ok(answer) => answer
            .bytes()
            .await
            .is_ok_and(|bytes| bytes.len() == 500_000_000),
        Err(_) => false,
    }
}

#[test]
fn the_token_of_the_script_is_one_that_agent_enroll_reads() {
    let gateway = InstalledGateway::start().unwrap();
    let printed = gateway.customer(&[
        "token",
        "acme",
        "gw1.vendor.example:443",
        "tls://[::1]:8443",
    ]);
    let token = EnrollmentToken::parse(&printed.unwrap()).unwrap();
    let gateways: Vec<_> = token.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(gateways, ["gw1.vendor.example:443", "tls://[::1]:8443"]);
    assert_eq!(token.user, "acme");
    assert_eq!(token.forward.bind.to_string(), PLACES);
    assert_eq!(token.forward.slots().to_string(), "0-3");
    let second = gateway.customer(&["token", "--second", "acme", "gw1.vendor.example:443"]);
    let second = EnrollmentToken::parse(&second.unwrap()).unwrap();
    assert_eq!(second.forward.slots().to_string(), "4-7");
    let (_, printed) = gateway.add("acme").unwrap();
    assert!(printed.contains(&token.host_keys[0]), "{printed}");
    assert!(token.secret.is_none());
    let week = Duration::from_secs(7 * 24 * 3600);
    token
        .check_expiry(SystemTime::now() + week - Duration::from_secs(600))
        .unwrap();
    token
        .check_expiry(SystemTime::now() + week + Duration::from_secs(600))
        .unwrap_err();
    let refused = gateway
        .customer(&["token", "acme", "gw1\",\"x:443"])
        .unwrap_err();
    assert!(
        refused.to_string().contains("is not HOST:PORT"),
        "{refused}"
    );
}

/// From the token to the first request, with the commands of the README alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_enrollment_works_from_token_to_request() {
    let (gateway, jira) = (InstalledGateway::start().unwrap(), jira().await.unwrap());
    let address = gateway.ssh_address();
    let token = gateway.customer(&["token", "hosp", &address]).unwrap();
    let customer = CustomerHost::new().unwrap();
    let text = customer.enroll_ok(token.trim(), &answers(&jira)).unwrap();
    let line = text.lines().find(|line| line.starts_with("restrict,"));
    let line = line.unwrap_or_else(|| panic!("no line for the vendor: {text}"));
    // With a line end as mail programs on Windows may add it.
    let added = gateway.customer_reads(&["add", "hosp", "-"], &format!("{line}\r\n"));
    assert!(added.unwrap().contains("hosp"));
    gateway.add("never").unwrap();

    let agent = customer.run().unwrap();
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections.len(), 2, "each with a socket of its own");
    let answer = ask(
        gateway.services(),
        &host("hosp"),
        "/jira/rest/api/2/serverInfo",
    )
    .await;
    assert_eq!(answer.status, 200);

    let checked = agent.run(&["check", "--json"]).unwrap();
    let text = output_text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{text}");
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let steps = checked["steps"].as_array().unwrap();
    let trip = steps.iter().find(|step| step["step"] == "round-trip");
    assert_eq!(trip.unwrap()["verdict"], "skipped", "{checked:#}");

    // The metrics show who is connected.
    let shown = async || {
        let both = (up(&gateway, "hosp").await, up(&gateway, "never").await);
        (both == (Some(true), Some(false))).then_some(())
    };
    until("metrics of who is connected", shown).await.unwrap();
}

/// Whether a customer is up according to the metrics.
async fn up(gateway: &InstalledGateway, customer: &str) -> Option<bool> {
    Some(servers_up(gateway, customer).await? != 0)
}

async fn servers_up(gateway: &InstalledGateway, customer: &str) -> Option<u32> {
    let metrics = ask(gateway.monitoring(), "any", "/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let name = format!("haproxy_backend_active_servers{{proxy=\"customer-{customer}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line?.parse().ok()
}

/// A second host has a token, a key and sockets of its own. While one host is stopped, the other serves alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_enrolls_and_serves_beside_the_first() {
    let (gateway, jira) = (InstalledGateway::start().unwrap(), jira().await.unwrap());
    let address = gateway.ssh_address();
    let enrolled = |second: &[&str]| {
        let token = [&["token"], second, &["duo", &address]].concat();
        let token = gateway.customer(&token).unwrap();
        let customer = CustomerHost::new().unwrap();
        let text = customer.enroll_ok(token.trim(), &answers(&jira)).unwrap();
        let line = text.lines().find(|line| line.starts_with("restrict,"));
        let line = line.unwrap_or_else(|| panic!("no line for the vendor: {text}"));
        let add = [&["add"], second, &["duo", "-"]].concat();
        (customer, add.join(" "), format!("{line}\n"))
    };
    let add = |arguments: &str, line: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        gateway.customer_reads(&arguments, line)
    };
    let (first, add_first, first_line) = enrolled(&[]);
    let (second, add_second, second_line) = enrolled(&["--second"]);
    let refused = add(&add_second, &second_line).unwrap_err();
    assert!(refused.to_string().contains("is no customer"), "{refused}");
    // Each host's key may be replaced again; that of the other stays.
    for _ in 0..2 {
        add(&add_first, &first_line).unwrap();
        add(&add_second, &second_line).unwrap();
    }
    let keys = fs::read_to_string(gateway.path("/etc/jira-gateway/keys/duo")).unwrap();
    assert_eq!(keys.lines().count(), 2, "{keys}");
    let listed = gateway.customer(&["list"]).unwrap();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(listed.matches("SHA256:").count(), 2, "{listed}");

    let [mut first, mut second] = [&first, &second].map(|host| host.run().unwrap());
    let all_up = async || (servers_up(&gateway, "duo").await == Some(4)).then_some(());
    until("two places of each host", all_up).await.unwrap();
    let url = format!("http://{}/jira/rest/api/2/serverInfo", gateway.services());
    let callers = GatewayCallers::start(&url, &host("duo"), 4);
    for agent in [&mut first, &mut second] {
        signal(agent.process().pid(), "TERM").unwrap();
        agent.process().wait(PATIENCE).await.unwrap();
        let half = async || (servers_up(&gateway, "duo").await == Some(2)).then_some(());
        until("the places of the other host alone", half)
            .await
            .unwrap();
        agent.restart().unwrap();
        until("all places again", all_up).await.unwrap();
    }
    let (counts, failures) = callers.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new());
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

/// HAProxy ignores a reload signal that it gets while it loads a configuration.
#[tokio::test(flavor = "multi_thread")]
async fn customers_added_and_removed_at_the_same_moment_are_in_use_at_once() {
    let gateway = InstalledGateway::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let names = ["one", "two", "three", "four", "five"];
    let add = |name: &&str| gateway.add(name).unwrap().0;
    let keys = std::thread::scope(|all| {
        let adding = names.map(|name| all.spawn(move || add(&name)));
        adding.map(|one| one.join().unwrap())
    });
    let mut known = JoinSet::new();
    for name in names {
        let at = gateway.services();
        known.spawn(async move { ask(at, &host(name), "/rest/api/2/issue/A-1").await });
    }
    while let Some(answer) = known.join_next().await {
        let error = gateway_error(&answer.unwrap());
        assert!(error.1.ends_with("agent-offline"), "{error:?}");
    }
    let agents: Vec<_> = names
        .iter()
        .zip(&keys)
        .map(|(name, key)| gateway.agent(name, key, &jira.url()).start().unwrap())
        .collect();
    for name in names {
        let served = async || {
            let answer = ask(gateway.services(), &host(name), "/rest/api/2/issue/A-1").await;
            (answer.status == 200).then_some(())
        };
        until(name, served).await.unwrap();
    }
    std::thread::scope(|all| {
        for name in ["one", "two", "three"] {
            let gateway = &gateway;
            all.spawn(move || gateway.customer(&["remove", name]).unwrap());
        }
    });
    for (name, status) in names.iter().zip([421, 421, 421, 200, 200]) {
        let answer = ask(gateway.services(), &host(name), "/rest/api/2/issue/A-1").await;
        assert_eq!(answer.status, status, "{name}");
    }
    drop(agents);
}

#[test]
fn harmful_customer_names_and_keys_are_refused() {
    let gateway = InstalledGateway::start().unwrap();
    let (key, printed) = gateway.add("acme").unwrap();
    assert!(
        printed.contains(PLACES) && printed.contains("SHA256:"),
        "{printed}"
    );
    let public = key.with_extension("pub");
    let public = public.display().to_string();
    let listed = gateway.customer(&["list"]).unwrap();
    let folder = key.parent().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let line = fs::read_to_string(&public).unwrap();
    let with_options = file("options", &format!("command=\"/bin/sh\",pty {line}"));
    let two_keys = file("two", &format!("{line}{line}"));
    let damaged = file("damaged", &line.replacen("AAAA", "AAAB", 1));
    let private = key.display().to_string();
    for (arguments, why) in [
        (["add", "root", &public], "a user of this machine already"),
        (["add", "../x", &public], "a name is"),
        (["add", "Acme", &public], "a name is"),
        (["add", "a b", &public], "a name is"),
        (["add", "-x", &public], "a name is"),
        (
            ["add", "bolt", &with_options],
            "not one line with a public key",
        ),
        (["add", "bolt", &two_keys], "not one line with a public key"),
        (["add", "bolt", &damaged], "damaged"),
        (["add", "bolt", &private], "not one line with a public key"),
        (["add", "bolt", "/nowhere"], "cannot be read"),
    ] {
        let refused = gateway
            .customer(&arguments)
            .expect_err(&format!("{arguments:?}"));
        assert!(
            refused.to_string().contains(why),
            "{arguments:?}: {refused}"
        );
    }
    let refused = gateway
        .customer(&["remove", "root"])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("no customer"), "{refused}");
    assert_eq!(gateway.customer(&["list"]).unwrap(), listed);
    assert!(
        !fs::read_to_string(gateway.path("/etc/passwd"))
            .unwrap()
            .contains("bolt")
    );
}
