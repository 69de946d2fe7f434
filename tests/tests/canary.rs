//! Marked secrets in every place that holds one, and a search through everything that the agent writes or shows at the
//! most verbose log level, while it works and while it fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::auth::oauth1::SigningKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{
    agent::write_secret,
    login,
    test_env::{BOT, BOT_PASSWORD, MYSELF, OAUTH1, OAUTH2, SEARCH, TestEnv, TestEnvPlan, vendor},
};
use serde_json::json;
use server_stub::{
    certificate_authority::CertificateAuthority,
    cloud::{self, CloudStub},
    jira::{AuthKind, ReceivedRequest},
};
use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere_while_requests_pass_and_fail() {
    let plan = |plan: TestEnvPlan| {
        plan.line("log", "level = \"trace\"").jira(|jira| {
            jira.tokens[0].token = OURS.to_owned();
            let bot = jira.users.iter_mut().find(|user| user.name == BOT).unwrap();
            OURS.clone_into(&mut bot.password);
        })
    };
    for plan in [
        plan(TestEnv::builder().basic(BOT, OURS)),
        plan(TestEnv::builder().pat(OURS)),
        plan(TestEnv::builder()),
    ] {
        let mut site = plan.start().await.unwrap();
        let mut answers = requests(&site).await;
        site.stop_jira().await;
        answers += &requests(&site).await;
        search(&mut site, &answers);
    }
}

/// Credentials that Jira rejects, that cannot be in a header, and that others may read.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere_while_the_login_fails() {
    let service = format!("{OAUTH2}\ngrant = \"client_credentials\"");
    let first =
        format!("{OAUTH2}\ngrant = \"authorization_code\"\nrefresh_token_file = \"secret\"");
    let api_token = "mode = \"api-token\"\nemail = \"bot@corp.example\"\ntoken_file = \"secret\"";
    for plan in [
        TestEnv::builder().basic(BOT, OURS),
        TestEnv::builder().pat(OURS),
        TestEnv::builder().auth(&service, OURS),
        TestEnv::builder().auth(&first, OURS),
        TestEnv::builder().auth(api_token, OURS),
    ] {
        let plan = plan.line("log", "level = \"trace\"");
        let mut site = plan.start_unproven().await.unwrap();
        let mut answers = requests(&site).await;
        for spoiled in [
            format!("{OURS}\u{1}{OURS}"),
            format!("{OURS} {OURS}\n\n{OURS}"),
            format!("{OURS}ä"),
        ] {
            site.change_secret(&spoiled).unwrap();
            site.agent.succeed(&["login-retry"]).unwrap();
            answers += &requests(&site).await;
        }
        search(&mut site, &answers);
        let secret = site.dir().join("secret");
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
        answers += &requests(&site).await;
        search(&mut site, &answers);

        // A start with open secrets is refused before a socket is opened.
        site.agent.process().kill();
        for arguments in [&["run"][..], &["config", "show"], &["check"]] {
            let text = format!("{:?}", site.agent.run(arguments).unwrap());
            assert!(text.contains("0644"), "{text}");
            clean(
                "what a start with open secrets tells",
                &text,
                &secrets(&site),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_private_key_nor_its_passphrase_is_written_anywhere() {
    let plan = TestEnv::builder().line("log", "level = \"trace\"");
    let mut site = plan.start().await.unwrap();
    let identity = site.sshd.identity();
    let encrypted = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", OURS, "-f"])
        .arg(&identity)
        .status()
        .unwrap();
    assert!(encrypted.success());
    write_secret(&site.dir().join("secret"), OURS).unwrap();
    let with = "[tunnel]\nidentity_passphrase_file = \"secret\"\n";
    let edited = site
        .agent
        .edit_config(|text| text.replace("[tunnel]\n", with));
    edited.unwrap();
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    let answers = requests(&site).await;
    search(&mut site, &answers);

    write_secret(&site.dir().join("secret"), &format!("not{OURS}")).unwrap();
    for arguments in [&["run"][..], &["check"], &["config", "show"]] {
        let text = format!("{:?}", site.agent.run(arguments).unwrap());
        assert!(text.contains("passphrase does not decrypt"), "{text}");
        clean("what a wrong passphrase tells", &text, &secrets(&site));
    }
}

/// No line of a private key is written.
#[tokio::test(flavor = "multi_thread")]
async fn signing_and_client_keys_are_written_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let client = CertificateAuthority::new()
        .unwrap()
        .client("agent")
        .unwrap();
    fs::write(file("client.pem"), &client.certificate_pem).unwrap();
    write_secret(&file("client.key"), &client.key_pem).unwrap();
    let key = SigningKey::generate(2048).unwrap();
    let pem = login::private_pem(&key).unwrap();
    let plan = TestEnv::builder().oauth1(&key).unwrap();
    let plan = plan
        .auth(&format!("{OAUTH1}\ntwo_legged = true"), &pem)
        .jira(|jira| jira.oauth1.consumers[0].two_legged_user = Some(BOT.into()));
    let certificate = format!("client_certificate_file = {:?}", file("client.pem"));
    let plan = plan
        .line("log", "level = \"trace\"")
        .line("forward", certificate)
        .line(
            "forward",
            format!("client_key_file = {:?}", file("client.key")),
        );
    let mut site = plan.start().await.unwrap();
    let mut answers = requests(&site).await;
    let mut secrets = secrets(&site);
    secrets.extend(
        pem.lines()
            .chain(client.key_pem.lines())
            .filter(|line| line.len() >= 40)
            .map(str::to_owned),
    );
    search_for(&mut site, &answers, &secrets);

    // A truncated key is named as such and not shown.
    site.change_secret(&pem[..pem.len() / 2]).unwrap();
    answers += &requests(&site).await;
    search_for(&mut site, &answers, &secrets);
}

/// Jira creates the tokens, so they are read from its requests and from the store.
#[tokio::test(flavor = "multi_thread")]
async fn oauth2_secrets_are_only_in_the_store() {
    for grant in ["client_credentials", "authorization_code"] {
        let plan = match grant {
            "client_credentials" => TestEnv::builder().oauth2_service(OURS),
            _ => TestEnv::builder().oauth2(OURS, ""),
        };
        let plan = plan.line("log", "level = \"trace\"");
        let mut site = plan.start_unproven().await.unwrap();
        let mut printed = String::new();
        if grant == "authorization_code" {
            let done = login::log_in(site.agent.dir(), BOT, BOT_PASSWORD).await;
            printed = format!("{:?}", done.unwrap());
        }
        site.until_proven().await.unwrap();
        let mut answers = requests(&site).await;
        // The next request gets a 401, and the agent refreshes the token.
        site.jira().expire_oauth2_tokens(true);
        answers += &requests(&site).await;
        let tokens = tokens(&site);
        assert!(tokens.len() >= 2, "{grant}: {tokens:?}");
        // The address that the person pastes must not be printed.
        answers += &printed;
        let mut secrets = secrets(&site);
        secrets.extend(tokens);
        search_for(&mut site, &answers, &secrets);
    }
}

/// Jira issues a token, its secret and a session over an application link; all are secrets.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_application_link_are_only_in_the_store() {
    let key = SigningKey::generate(2048).unwrap();
    let plan = TestEnv::builder().oauth1(&key).unwrap();
    let plan = plan.line("log", "level = \"trace\"");
    let mut site = plan.start_unproven().await.unwrap();
    let done = login::log_in_by_code(site.agent.dir(), BOT, BOT_PASSWORD).await;
    let mut answers = format!("{:?}", done.unwrap());
    site.until_proven().await.unwrap();
    answers += &requests(&site).await;
    let mut secrets = secrets(&site);
    secrets.extend(tokens(&site));
    // The next request gets a 401, and the agent refreshes the token; then the session ends too.
    site.jira().expire_oauth1_tokens(false);
    answers += &requests(&site).await;
    let renewed = tokens(&site);
    assert!(
        renewed.len() == 3 && !secrets.contains(&renewed[0]),
        "{renewed:?}"
    );
    secrets.extend(renewed);
    site.jira().expire_oauth1_tokens(true);
    answers += &requests(&site).await;
    search_for(&mut site, &answers, &secrets);
}

/// An API token on the site's own URL and behind the API gateway, before and after it is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_is_written_nowhere_while_it_works_and_when_it_is_revoked() {
    for scoped in [false, true] {
        let mut settings = cloud::Settings::default();
        settings.api_tokens[usize::from(scoped)].token = OURS.to_owned();
        let email = settings.accounts[0].email.clone();
        let cloud = CloudStub::start(settings).await.unwrap();
        let lines = format!(
            "mode = \"api-token\"\nemail = {email:?}\ntoken_file = \"secret\"\nscoped = {scoped}{}",
            match scoped {
                true => format!("\napi_url = {:?}", cloud.api_url),
                false => String::new(),
            }
        );
        let plan = TestEnv::builder()
            .auth(&lines, OURS)
            .upstream(&cloud.sites[0].url)
            .trusted_ca(&cloud.ca_pem)
            .jira(|jira| jira.context_path = String::new())
            .line("log", "level = \"trace\"");
        let mut site = plan.start().await.unwrap();
        let mut answers = requests(&site).await;
        let passed = cloud.requests(0);
        let logged_in = |request: &&ReceivedRequest| request.auth == Some(AuthKind::ApiToken);
        assert!(passed.iter().filter(logged_in).count() >= 5, "{passed:?}");
        cloud.revoke_api_token(OURS);
        answers += &requests(&site).await;
        let mut secrets = secrets(&site);
        secrets.push(STANDARD.encode(format!("{email}:{OURS}")));
        search_for(&mut site, &answers, &secrets);
    }
}

/// All tokens in requests, in what was sent to the token endpoint, and in the store.
fn tokens(site: &TestEnv) -> Vec<String> {
    let mut tokens = BTreeSet::new();
    for request in site.jira().requests() {
        let sent = request.header("authorization").unwrap_or_default();
        tokens.extend(sent.strip_prefix("Bearer ").map(str::to_owned));
        let body = String::from_utf8_lossy(&request.body_head).into_owned();
        for pair in body.split('&') {
            let secret = pair.split_once('=').filter(|(name, _)| {
                ["refresh_token", "code", "code_verifier", "token"].contains(name)
            });
            tokens.extend(secret.map(|(_, value)| value.to_owned()));
        }
    }
    let stored = site.stored_tokens().unwrap_or_default();
    for kind in ["access", "access_secret", "refresh"] {
        tokens.extend(stored["tokens"][kind].as_str().map(str::to_owned));
    }
    // The vendor's marked secret is searched for anyway.
    tokens
        .into_iter()
        .filter(|t| t.len() >= 16 && t != THEIRS)
        .collect()
}

/// Sends requests with the vendor's secrets in every place; returns the answers.
async fn requests(site: &TestEnv) -> String {
    let url = site.vendor_url();
    let query = format!("?jql=project%20%3D%20{THEIRS}&os_username={THEIRS}&{THEIRS}");
    let get = |target: &str| vendor().get(format!("{url}{target}"));
    let requests = [
        get(MYSELF).basic_auth(THEIRS, Some(THEIRS)),
        get(MYSELF)
            .bearer_auth(THEIRS)
            .header("Cookie", format!("JSESSIONID={THEIRS}")),
        get(MYSELF).header(
            "Authorization",
            format!("OAuth oauth_token=\"{THEIRS}\", oauth_signature=\"{THEIRS}\""),
        ),
        get(&format!("{SEARCH}?jql=summary~{THEIRS}")),
        get(&format!(
            "{SEARCH}?oauth_token={THEIRS}&oauth_signature={THEIRS}"
        )),
        get(&format!("{SEARCH}{query}")),
        get(&format!("/secure/admin/x{query}")),
        get(&format!("/rest/api/2/issue/..%2f{query}")),
        vendor()
            .post(format!("{url}{SEARCH}"))
            .form(&[("os_password", THEIRS)]),
        vendor()
            .post(format!("{url}{SEARCH}"))
            .json(&json!({ "jql": format!("summary ~ {THEIRS}") })),
    ];
    let mut answers = String::new();
    for request in requests {
        let answer = request.send().await.unwrap();
        answers += &format!("{:?}", answer.headers());
        // Jira's own answer may quote the search; the agent's may not.
        if answer.headers().contains_key("proxy-status") {
            answers += &answer.text().await.unwrap();
        }
    }
    answers
}

/// Searches everything that is written or shown.
fn search(site: &mut TestEnv, answers: &str) {
    let secrets = secrets(site);
    search_for(site, answers, &secrets);
}

fn search_for(site: &mut TestEnv, answers: &str, secrets: &[String]) {
    let pid = site.agent.process().pid();
    // A file that only root may read, of a process without core dumps, counts as clean.
    let proc = |name: &str| match fs::read(format!("/proc/{pid}/{name}")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => error.to_string(),
        read => String::from_utf8_lossy(&read.unwrap()).into_owned(),
    };
    let core = proc("limits")
        .lines()
        .find(|l| l.starts_with("Max core"))
        .map(str::to_owned);
    let core: Vec<_> = core.iter().flat_map(|l| l.split_whitespace()).collect();
    assert_eq!(core[4..6], ["0", "0"], "a core dump would hold secrets");
    let command = |arguments: &[&str]| format!("{:?}", site.agent.run(arguments).unwrap());
    let log = site.agent.log();
    assert!(log.contains("TRACE"), "the level was not trace");
    for (place, text) in [
        ("answers", answers.to_owned()),
        ("cmdline", proc("cmdline")),
        ("environ", proc("environ")),
        ("status", command(&["status"])),
        ("status --json", command(&["status", "--json"])),
        ("metrics", command(&["metrics"])),
        ("check", command(&["check"])),
        ("check --json", command(&["check", "--json"])),
        ("config show", command(&["config", "show"])),
        ("log", site.agent.log()),
    ] {
        assert!(!text.is_empty(), "{place}");
        clean(place, &text, secrets);
    }
    // No other file holds a secret, the audit log included.
    let files = files_below(&site.dir());
    assert!(files.iter().any(|file| file.ends_with("audit.log")));
    for file in files {
        let own = file.file_name().is_some_and(|name| name == "secret");
        let store = file.starts_with(site.dir().join("state/tokens"));
        let bytes = fs::read(&file).unwrap_or_default();
        if !own && !store {
            let text = String::from_utf8_lossy(&bytes);
            clean(&file.display().to_string(), &text, secrets);
        }
    }
}

fn clean(place: &str, text: &str, secrets: &[String]) {
    for secret in secrets {
        if let Some(at) = text.find(secret.as_str()) {
            let around: String = text[..at].chars().rev().take(400).collect();
            let around: String = around.chars().rev().collect();
            panic!("{place} holds {secret:?} after: {around}");
        }
    }
}

/// The secrets as they are, as Basic encodes them, and each line of the private key.
fn secrets(site: &TestEnv) -> Vec<String> {
    let key = fs::read_to_string(site.sshd.identity()).unwrap();
    let lines = key.lines().filter(|line| line.len() >= 40);
    let pairs = [(BOT, OURS), (THEIRS, THEIRS)];
    let encoded = pairs.map(|(name, secret)| STANDARD.encode(format!("{name}:{secret}")));
    [OURS, THEIRS]
        .into_iter()
        .map(str::to_owned)
        .chain(encoded)
        .chain(lines.map(str::to_owned))
        .collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

const OURS: &str = "canary-of-the-agent";
const THEIRS: &str = "canary-of-the-vendor";
