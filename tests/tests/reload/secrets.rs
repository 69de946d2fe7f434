//! Secrets are rotated without an outage: what docs/authentication.md says of each.

use crate::common::{errors, reload, start};
use agent::status::StatusReport;
use e2e::{
    background_load::BackgroundLoad,
    caller::HttpCaller,
    sshd::{fingerprint, keygen},
    test_env::{BOT_TOKEN, TestEnv, vendor},
    wait::soon,
};
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ssh_key_in_the_same_file_is_taken_over_under_load() {
    let env = start().await;
    let addr = env.addr;
    let load = BackgroundLoad::start(addr, 2);
    load.until_answered(20).await.unwrap();

    // Half a key is refused, and the previous one stays in use.
    let file = env.sshd.identity();
    let former = fs::read(&file).unwrap();
    fs::write(&file, &former[..former.len() / 2]).unwrap();
    let refused = env.agent.run(&["reload"]).unwrap();
    assert_eq!(refused.status.code(), Some(78));
    assert!(
        errors(&refused).contains("identity_file"),
        "{}",
        errors(&refused)
    );
    load.until_answered(20).await.unwrap();

    // The vendor authorizes the new key first; then it replaces the file, and the old one is removed.
    let new = env.sshd.folder().join("new");
    keygen(&new, &["-t", "ed25519"], "").unwrap();
    let print = fingerprint(&new.with_extension("pub")).unwrap();
    env.sshd.authorize(&new.with_extension("pub"), "").unwrap();
    fs::rename(&new, &file).unwrap();
    assert_eq!(
        reload(&env.agent),
        "tunnel: the sessions are replaced one after another\n"
    );
    let next =
        |r: &StatusReport| r.connections[0].generation == 2 && !r.forwards[0].bound.is_empty();
    env.agent
        .until_status("the next session", next)
        .await
        .unwrap();
    env.sshd.logged(&print).await.unwrap();
    let public = fs::read(new.with_extension("pub")).unwrap();
    fs::write(env.sshd.folder().join("authorized_keys"), public).unwrap();
    let mut caller = HttpCaller::connect(addr).await.unwrap();
    soon(caller.get("/rest/api/2/issue/DEMO-1")).await.unwrap();
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0);
    assert_eq!(reload(&env.agent), "nothing has changed\n");
}

/// A changed CA file replaces the connections to Jira at the next reload; a changed token needs no reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_ca_file_replaces_the_connections_to_jira() {
    let mut site = TestEnv::start().await.unwrap();
    let file = site.dir().join("ca.pem");
    let pem = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# renewed\n{pem}")).unwrap();
    assert_eq!(reload(&site.agent), "forward jira: content of ca.pem\n");
    let url = site.vendor_url() + "/rest/api/2/serverInfo";
    let answer = soon(vendor().get(&url).send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    site.until_proven().await.unwrap();
    // The agent reads a changed secret within a second, without a reload.
    site.change_secret(BOT_TOKEN).unwrap();
    assert_eq!(reload(&site.agent), "nothing has changed\n");
    // No certificate at all.
    fs::write(&file, "nothing").unwrap();
    let refused = site.agent.run(&["reload"]).unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let answer = soon(vendor().get(&url).send()).await.unwrap();
    assert_eq!(answer.status(), 200, "by the former one");
}
