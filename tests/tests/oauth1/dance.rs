//! `agent login` and `agent logout`: by code, by callback, as OAuth 1.0; a token from a file.

use crate::common::{decide, log_in_by_code, three_legged};
use crate::corners::{send_corner_cases, verified_by_others};
use e2e::{
    agent::write_secret,
    login::{LoginProcess, browser, consent, output_text},
    sshd::free_port,
    test_env::{BOT, BOT_PASSWORD, MYSELF, TestEnv},
    wait::until,
};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_with_a_code_and_the_running_agent_takes_it_up() {
    let mut site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.0.contains("no login is stored"), "{login:?}");
    assert!(login.1.contains("agent login jira"), "{login:?}");

    let done = log_in_by_code(&site).await;
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    assert!(text.contains("logged in as acme-bot"), "{text}");
    assert!(
        text.contains("access token: until 2") && text.contains("session"),
        "{text}"
    );
    site.until_proven().await.unwrap();
    assert_eq!(
        site.agent.status().await.unwrap().forwards[0].auth_mode,
        "oauth1"
    );

    site.jira().clear_requests();
    send_corner_cases(&site).await;
    let token = site.stored_tokens().unwrap()["tokens"]["access"]
        .as_str()
        .unwrap()
        .to_owned();
    let origin = format!("https://{}", site.jira().addr);
    verified_by_others(&origin, &token, &site.received()).await;

    // The tokens are readable by their owner only.
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(site.token_file()), 0o600);
    let refresh = site.stored_tokens().unwrap()["tokens"]["refresh"]
        .as_str()
        .unwrap()
        .to_owned();
    for secret in [&token, &refresh] {
        assert!(!text.contains(secret.as_str()) && !site.agent.log().contains(secret.as_str()));
    }

    // Jira cannot revoke the token by request; the command names the page for it.
    let out = site.agent.run(&["logout"]).unwrap();
    assert!(
        !out.status.success() && output_text(&out).contains("View OAuth Access Tokens"),
        "{out:?}"
    );
    assert!(!site.token_file().exists());
    let held_back = async || (site.get(MYSELF).await.ok()?.status() == 503).then_some(());
    until("requests to be held back", held_back).await.unwrap();
    site.agent.login_failure().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_this_host_comes_back_by_itself() {
    let mut site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    let port = free_port().unwrap();
    let callback = format!("http://127.0.0.1:{port}/back?to=us");
    let arguments = ["login", "--callback", &callback];
    let mut dialogue = LoginProcess::start_with(site.agent.dir(), &arguments).unwrap();
    let address = dialogue.address().await.unwrap();
    // A forged answer is refused, and the command keeps waiting.
    let forged = browser().get(format!("{callback}&oauth_token=other&oauth_verifier=x"));
    assert_eq!(forged.send().await.unwrap().status(), 400);
    let location = consent(&address, BOT, BOT_PASSWORD).await.unwrap();
    assert!(location.starts_with(&callback), "{location}");
    assert_eq!(browser().get(location).send().await.unwrap().status(), 200);
    let done = dialogue.end().await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth_1_0_needs_no_code() {
    let mut site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    let arguments = ["login", "--callback", "none"];
    let mut dialogue = LoginProcess::start_with(site.agent.dir(), &arguments).unwrap();
    let address = dialogue.address().await.unwrap();
    let page = decide(&address, "allow").await;
    assert!(!page.contains("verification code"), "{page}");
    dialogue.paste("done").await.unwrap();
    let done = dialogue.end().await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    // No verifier is sent, whatever was typed.
    let mut requests = site.jira().requests().into_iter();
    let exchange = requests.find(|request| request.target_text().ends_with("/access-token"));
    let signed = exchange.unwrap().header("authorization").unwrap();
    assert!(!signed.contains("oauth_verifier"), "{signed}");
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_not_allowed_stores_nothing_and_says_why() {
    let site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    for (decision, pasted, complaint) in [
        (None, "123456", "does not let the consumer"),
        (Some("deny"), "123456", "does not let the consumer"),
        (Some("allow"), "wrong1", "does not know the access token"),
        (
            Some("allow"),
            "https://x/?oauth_token=other&oauth_verifier=1",
            "not that of this login",
        ),
        (
            Some("allow"),
            "https://x/?oauth_verifier=denied",
            "not that of this login",
        ),
    ] {
        let mut dialogue = LoginProcess::start(site.agent.dir()).unwrap();
        let address = dialogue.address().await.unwrap();
        if let Some(decision) = decision {
            decide(&address, decision).await;
        }
        dialogue.paste(pasted).await.unwrap();
        let done = dialogue.end().await.unwrap();
        assert!(!done.status.success());
        assert!(
            output_text(&done).contains(complaint),
            "{}",
            output_text(&done)
        );
    }
    assert!(!site.token_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_may_come_from_a_file() {
    let issuing = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    assert!(log_in_by_code(&issuing).await.status.success());
    let token = issuing.stored_tokens().unwrap()["tokens"]["access"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = issuing.dir().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "consumer_key",
        "access_token_file = \"token\"\nconsumer_key",
    );
    write_secret(&issuing.dir().join("token"), &token).unwrap();
    fs::remove_file(issuing.token_file()).unwrap();
    fs::write(config, text).unwrap();
    let mut site = issuing;
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    let refused = site.agent.run(&["login"]).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(
        output_text(&refused).contains("access_token_file is set"),
        "{refused:?}"
    );
}
