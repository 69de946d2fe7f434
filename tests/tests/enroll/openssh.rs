//! With a stock OpenSSH as the gateway and tokens made by the script in docs/vendor-guide.md: the key is handed over,
//! or registered by the script there.

use e2e::{
    enrollment::{CustomerHost, answers, changed_token, jira},
    login::output_text,
    sshd::{Sshd, certify, keygen},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A code block of the vendor guide, from the line that begins with `first`.
fn documented(first: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vendor-guide.md");
    let text = fs::read_to_string(path).unwrap();
    let from = text.find(first).expect(first);
    let block = &text[from..];
    block[..block.find("\n```").unwrap() + 1].to_owned()
}

fn executable(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Makes a token with the guide's script.
fn token(sshd: &Sshd, bind: &str, once: Option<&Path>) -> String {
    let script = executable(
        sshd.folder().join("make-token"),
        &documented("#!/usr/bin/env python3"),
    );
    let mut command = Command::new(script);
    command.args([
        &sshd.user(),
        &sshd.address(),
        &sshd.fingerprint().unwrap(),
        bind,
    ]);
    let made = command.args(once).output().unwrap();
    assert!(made.status.success(), "{}", output_text(&made));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Without a one-time secret, the command prints the line for the vendor's `authorized_keys`, and that line works.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_the_line_for_the_vendor_works() {
    let (sshd, jira) = (Sshd::start().unwrap(), jira().await.unwrap());
    let host = CustomerHost::new().unwrap();
    let mut flags = answers(&jira);
    let token = token(&sshd, "127.0.0.1:0", None);
    let text = host.enroll_ok(&token, &flags).unwrap();
    let line = text
        .lines()
        .find(|line| {
            line.starts_with("restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"127.0.0.1:*\" ssh-ed25519 ")
        })
        .unwrap_or_else(|| panic!("no line for the vendor: {text}"));
    // The vendor pastes it; nothing else lets the agent in.
    fs::write(sshd.folder().join("authorized_keys"), format!("{line}\n")).unwrap();
    host.run().unwrap().until_proven().await.unwrap();

    // A new key is used only once the vendor has it.
    let before = host.files().unwrap();
    let next = other_than(&token, &sshd);
    flags.push("--replace");
    let waiting = host.enroll(&next, &flags).unwrap();
    let text = output_text(&waiting);
    assert_eq!(waiting.status.code(), Some(1), "{text}");
    assert!(text.contains("the old one stays in use"), "{text}");
    let kept = host.files().unwrap();
    assert!(before.iter().all(|file| kept.contains(file)), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("restrict,"))
        .unwrap();
    fs::write(sshd.folder().join("authorized_keys"), format!("{line}\n")).unwrap();
    host.enroll_ok(&next, &flags).unwrap();
    assert_eq!(host.keys().unwrap().len(), 1);
    host.run().unwrap().until_proven().await.unwrap();
}

/// Tokens without a secret differ by the second in which they are made.
fn other_than(first: &str, sshd: &Sshd) -> String {
    loop {
        let next = token(sshd, "127.0.0.1:0", None);
        if next != first {
            return next;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_of_the_vendor_guide_registers_a_key_once() {
    let (sshd, jira) = (Sshd::start().unwrap(), jira().await.unwrap());
    let keys = sshd.folder().join("authorized_keys");
    let script = documented("#!/bin/sh\n# jira-tunnel-enroll");
    let script = script.replace("$HOME/.ssh/authorized_keys", &keys.display().to_string());
    let script = executable(sshd.folder().join("jira-tunnel-enroll"), &script);
    let once = sshd.folder().join("once");
    keygen(&once, &["-t", "ed25519"], "").unwrap();
    let public = fs::read_to_string(once.with_extension("pub")).unwrap();
    let public = public.rsplit_once(' ').unwrap().0;
    let bind = "127.0.0.1:*";
    fs::write(
        &keys,
        format!(
            "restrict,expiry-time=\"20990101\",command=\"{} {bind}\" {public} jira-tunnel-once\n",
            script.display()
        ),
    )
    .unwrap();
    let token = token(&sshd, "127.0.0.1:0", Some(&once));
    let flags = answers(&jira);
    let host = CustomerHost::new().unwrap();
    host.enroll_ok(&token, &flags).unwrap();
    let text = fs::read_to_string(&keys).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("restrict,port-forwarding,command=\"/bin/false\",permitlisten="),
        "{text}"
    );
    host.run().unwrap().until_proven().await.unwrap();

    let second = CustomerHost::new().unwrap();
    let refused = second.enroll(&token, &flags).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        output_text(&refused).contains("rejects the token's one-time secret"),
        "{}",
        output_text(&refused)
    );
    assert_eq!(second.files().unwrap(), []);
}

/// Many gateways behind one name have host certificates, and the token contains the line of their CA.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_a_ca_trusts_its_host_certificates_alone() {
    let prepare = |dir: &Path| {
        keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
        certify(
            &dir.join("ca"),
            &dir.join("host.pub"),
            &["-h", "-n", "127.0.0.1"],
        )
    };
    let sshd = Sshd::prepare(prepare, &["HostCertificate {dir}/host-cert.pub"]).unwrap();
    let (jira, host) = (jira().await.unwrap(), CustomerHost::new().unwrap());
    let authority = fs::read_to_string(sshd.folder().join("ca.pub")).unwrap();
    let token = changed_token(&token(&sshd, "127.0.0.1:0", None), |token| {
        token.host_keys = Vec::new();
        token.known_hosts = vec![format!("@cert-authority 127.0.0.1 {}", authority.trim())];
    });
    let text = host.enroll_ok(&token.unwrap(), &answers(&jira)).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("restrict,"))
        .unwrap();
    fs::write(sshd.folder().join("authorized_keys"), format!("{line}\n")).unwrap();
    host.run().unwrap().until_proven().await.unwrap();
}

/// The gateway registers the key, and the connection ends before its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_registration_answer_is_recovered_by_the_next_run() {
    let (sshd, jira) = (Sshd::start().unwrap(), jira().await.unwrap());
    let keys = sshd.folder().join("authorized_keys");
    let token = token_for(&sshd, &format!("cat > {}\nkill -9 $PPID", keys.display()));
    let flags = answers(&jira);
    let host = CustomerHost::new().unwrap();
    let lost = host.enroll(&token, &flags).unwrap();
    assert_eq!(lost.status.code(), Some(1), "{}", output_text(&lost));
    assert!(
        output_text(&lost).contains("it is unknown whether"),
        "{}",
        output_text(&lost)
    );
    the_key_alone_is_left(&host);
    let text = host.enroll_ok(&token, &flags).unwrap();
    assert!(
        text.contains("the gateway already knows this key"),
        "{text}"
    );
    host.run().unwrap().until_proven().await.unwrap();
}

/// The gateway confirms the registration but does not accept the key yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_registered_and_does_not_work_is_not_put_in_place() {
    let (sshd, jira) = (Sshd::start().unwrap(), jira().await.unwrap());
    let keys = sshd.folder().join("authorized_keys");
    let token = token_for(&sshd, &format!("exec cat > {}.new", keys.display()));
    let flags = answers(&jira);
    let host = CustomerHost::new().unwrap();
    let refused = host.enroll(&token, &flags).unwrap();
    let text = output_text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("the login with it failed"), "{text}");
    the_key_alone_is_left(&host);

    fs::rename(keys.with_extension("new"), &keys).unwrap();
    host.enroll_ok(&token, &flags).unwrap();
    host.run().unwrap().until_proven().await.unwrap();
}

/// A token whose one-time key runs these lines of shell on the gateway.
fn token_for(sshd: &Sshd, lines: &str) -> String {
    let script = executable(
        sshd.folder().join("register"),
        &format!("#!/bin/sh\n{lines}\n"),
    );
    let once = sshd.folder().join("once");
    keygen(&once, &["-t", "ed25519"], "").unwrap();
    let public = fs::read_to_string(once.with_extension("pub")).unwrap();
    fs::write(
        sshd.folder().join("authorized_keys"),
        format!("restrict,command=\"exec {}\" {public}", script.display()),
    )
    .unwrap();
    token(sshd, "127.0.0.1:0", Some(&once))
}

/// Neither Jira's secret nor a configuration is left.
fn the_key_alone_is_left(host: &CustomerHost) {
    let files = host.files().unwrap();
    let left: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        left,
        [
            "enrolment/1/enrolment.json",
            "enrolment/1/id_ed25519",
            "enrolment/1/id_ed25519.pub"
        ]
    );
}
