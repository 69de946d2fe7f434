//! Creating and changing the signing key.

use crate::common::{consumer, two_legged};
use agent::auth::oauth1::SigningKey;
use e2e::{
    login::{output_text, private_pem},
    test_env::{MYSELF, TestEnv},
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_file_is_picked_up_without_a_restart() {
    let site = two_legged(TestEnv::builder()).start().await.unwrap();
    let next = SigningKey::generate(3072).unwrap();
    let mut link = consumer();
    link.public_key = next.public_pem().unwrap();
    site.jira().register_oauth1_consumer(link).unwrap();
    let pem = private_pem(&next).unwrap();
    site.change_secret(&pem).unwrap();
    site.until_answered(MYSELF).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_made_once_and_what_is_printed_is_what_jira_wants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oauth1.pem");
    let file = path.to_str().unwrap();
    let new_key = |arguments: &[&str]| {
        std::process::Command::new(e2e::agent::binary("agent"))
            .env_clear()
            .args(["login", "--new-key", file])
            .args(arguments)
            .output()
            .unwrap()
    };
    let made = new_key(&["--bits", "3072"]);
    let printed = output_text(&made);
    assert!(made.status.success(), "{printed}");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    for said in [
        "consumer_key",
        "Application links",
        "Consumer key",
        "2-Legged",
        file,
    ] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
    assert!(!printed.contains("PRIVATE KEY"));
    let pem = fs::read_to_string(&path).unwrap();
    assert_eq!(SigningKey::from_pem(pem.as_bytes()).unwrap().bits(), 3072);
    let again = new_key(&[]);
    assert!(
        !again.status.success() && output_text(&again).contains("never overwritten"),
        "{again:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), pem);

    if rustix::process::geteuid().is_root() {
        key_of_the_agents_user(folder.path());
    }

    // Pasted into Jira, it logs the agent in.
    let end = "-----END PUBLIC KEY-----";
    let from = printed.find("-----BEGIN PUBLIC KEY-----").unwrap();
    let to = printed.find(end).unwrap() + end.len();
    let mut link = consumer();
    link.public_key = printed[from..to].to_owned();
    let plan = two_legged(TestEnv::builder()).jira(|jira| jira.oauth1.consumers = vec![link]);
    let mut site = plan.start_unproven().await.unwrap();
    site.change_secret(&pem).unwrap();
    site.until_proven().await.unwrap();
}

/// What root makes in a folder of root's belongs to the owner of the state folder, who must read it.
fn key_of_the_agents_user(folder: &Path) {
    let (config, state, key) = (
        folder.join("agent.toml"),
        folder.join("state"),
        folder.join("second.pem"),
    );
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(64_321), Some(64_322)).unwrap();
    fs::write(&config, "state_dir = \"state\"\n").unwrap();
    let made = std::process::Command::new(e2e::agent::binary("agent"))
        .env_clear()
        .arg("--config")
        .arg(&config)
        .args(["login", "--new-key"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let owner = fs::metadata(&key).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (64_321, 64_322));
    assert_eq!(owner.permissions().mode() & 0o7777, 0o600);
}
