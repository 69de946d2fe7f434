//! Which host keys and host certificates the agent accepts.

use crate::open;
use agent::tunnel::session::{
    HostKeyRefusalReason, HostKeys, RetryPace, Session, SessionOpenError,
};
use e2e::{
    sshd::{Sshd, certify, fingerprint, keygen},
    tunnel::{PATIENCE, settings},
};
use std::{fs, path::Path, sync::Arc};

fn known_hosts(text: &str) -> Arc<HostKeys> {
    Arc::new(HostKeys::new(vec![], Some((Path::new("known_hosts"), text))).unwrap())
}

fn line(hosts: &str, public_key: &Path) -> String {
    format!("{hosts} {}", fs::read_to_string(public_key).unwrap())
}

fn refused(outcome: Result<Session, SessionOpenError>) -> agent::tunnel::session::HostKeyRefusal {
    match outcome {
        Err(SessionOpenError::HostKey(refused)) => *refused,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("the host key was accepted"),
    }
}

/// An sshd with a host certificate made by `ca` with these ssh-keygen options.
fn with_host_certificate(options: &[&str]) -> Sshd {
    let prepare = |dir: &Path| {
        keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
        let mut all = vec!["-h"];
        all.extend(options);
        certify(&dir.join("ca"), &dir.join("host.pub"), &all)
    };
    Sshd::prepare(prepare, &["HostCertificate {dir}/host-cert.pub"]).unwrap()
}

async fn open_trusting_ca(sshd: &Sshd, more: &str) -> Result<Session, SessionOpenError> {
    let mut settings = settings(sshd, &[]).unwrap();
    let ca = line("@cert-authority *", &sshd.folder().join("ca.pub"));
    settings.host_keys = known_hosts(&(ca + more));
    open(settings).await
}

#[tokio::test]
async fn a_host_certificate_of_a_trusted_authority_is_accepted() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1,gw.vendor.example"]);
    let session = open_trusting_ca(&sshd, "").await.unwrap();
    session.probe(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_expired_host_certificate_is_refused() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1", "-V", "20200101:20210101"]);
    let refused = refused(open_trusting_ca(&sshd, "").await);
    assert!(
        matches!(refused.reason, HostKeyRefusalReason::Expired(_)),
        "{refused}"
    );
    assert!(refused.to_string().contains("2021-01-01"), "{refused}");
}

#[tokio::test]
async fn a_host_certificate_for_another_name_is_refused() {
    let sshd = with_host_certificate(&["-n", "gw.vendor.example"]);
    let refused = refused(open_trusting_ca(&sshd, "").await);
    assert_eq!(
        refused.reason,
        HostKeyRefusalReason::WrongPrincipal(vec!["gw.vendor.example".to_owned()])
    );
    assert!(refused.remedy().contains("gw.vendor.example"));
}

#[tokio::test]
async fn a_host_certificate_of_a_revoked_authority_or_key_is_refused() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1"]);
    for revoked in ["ca.pub", "host.pub"] {
        let revocation = line("@revoked *", &sshd.folder().join(revoked));
        let refused = refused(open_trusting_ca(&sshd, &revocation).await);
        assert_eq!(refused.reason, HostKeyRefusalReason::Revoked, "{revoked}");
    }
}

#[tokio::test]
async fn a_hashed_known_hosts_line_is_understood() {
    let sshd = Sshd::start().unwrap();
    let hosts = format!("[127.0.0.1]:{}", sshd.port());
    let file = sshd.folder().join("hashed");
    fs::write(&file, line(&hosts, &sshd.folder().join("host.pub"))).unwrap();
    let done = std::process::Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(done.success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|"), "{text}");
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = known_hosts(&text);
    open(settings).await.unwrap();
}

#[tokio::test]
async fn a_wrong_host_key_is_refused_with_both_fingerprints_and_retried_slowly() {
    let sshd = Sshd::start().unwrap();
    let other = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other.clone()], None).unwrap());
    let error = open(settings).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&other), "{text}");
    assert!(text.contains(&sshd.fingerprint().unwrap()), "{text}");
    assert_eq!(error.retry(), RetryPace::Slow);
}

#[tokio::test]
async fn the_key_type_that_known_hosts_names_is_asked_for() {
    let prepare = |dir: &Path| keygen(&dir.join("rsa"), &["-t", "rsa", "-b", "3072"], "");
    let sshd = Sshd::prepare(prepare, &["HostKey {dir}/rsa", "HostKey {dir}/host"]).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = known_hosts(&line("*", &sshd.folder().join("rsa.pub")));
    let session = open(settings).await.unwrap();
    let rsa = fingerprint(&sshd.folder().join("rsa.pub")).unwrap();
    assert_eq!(session.negotiated().unwrap().host_key, rsa);
}

/// sshd with host keys of three types; it presents the first that the client asks for.
fn three_host_keys() -> Sshd {
    Sshd::prepare(
        |dir| {
            keygen(&dir.join("rsa"), &["-t", "rsa", "-b", "2048"], "")?;
            keygen(&dir.join("ecdsa"), &["-t", "ecdsa"], "")
        },
        &["HostKey {dir}/rsa", "HostKey {dir}/ecdsa"],
    )
    .unwrap()
}

fn connections(sshd: &Sshd) -> usize {
    sshd.log().matches("Connection from").count()
}

#[tokio::test]
async fn a_pinned_key_of_any_type_is_asked_for_before_any_alarm() {
    for name in ["rsa", "ecdsa", "host"] {
        let sshd = three_host_keys();
        let print = fingerprint(&sshd.folder().join(format!("{name}.pub"))).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.host_keys = Arc::new(HostKeys::new(vec![print.clone()], None).unwrap());
        let session = open(settings.clone()).await.unwrap();
        assert_eq!(session.negotiated().unwrap().host_key, print, "{name}");
        let before = connections(&sshd);
        let _again = open(settings).await.unwrap();
        assert_eq!(
            connections(&sshd),
            before + 1,
            "{name}: asked for first now"
        );
    }
}

/// The error names the key of each type.
#[tokio::test]
async fn an_unpinned_key_is_refused_in_every_type() {
    let sshd = three_host_keys();
    let other = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other], None).unwrap());
    let refused = refused(open(settings).await);
    assert_eq!(refused.reason, HostKeyRefusalReason::Changed);
    for name in ["rsa", "ecdsa", "host"] {
        let print = fingerprint(&sshd.folder().join(format!("{name}.pub"))).unwrap();
        assert!(refused.presented.contains(&print), "{name}: {refused}");
    }
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
}

#[tokio::test]
async fn foreign_lines_in_known_hosts_are_skipped_as_ssh_does() {
    let sshd = Sshd::start().unwrap();
    let key = line(
        &format!("[127.0.0.1]:{}", sshd.port()),
        &sshd.folder().join("host.pub"),
    );
    let foreign: [&[u8]; 6] = [
        b"old.example 1024 35 1234567890123",
        b"pq.example ssh-xmss@openssh.com AAAAFHNzaC14bXNzQG9wZW5zc2guY29tAAAAAA==",
        b"<<<<<<< HEAD",
        b"# f\xfcr Jira",
        b"\xef\xbb\xbf# saved by an editor",
        b"half.example ssh-ed25519",
    ];
    for foreign in foreign {
        let text = [foreign, b"\n", key.as_bytes()].concat();
        let path = sshd.folder().join("hosts");
        fs::write(&path, &text).unwrap();
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(["-F", "none", "-p", &sshd.port().to_string(), "-N"]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "PreferredAuthentications=none",
            &format!("UserKnownHostsFile={}", path.display()),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("127.0.0.1");
        let printed = String::from_utf8_lossy(&ssh.output().unwrap().stderr).into_owned();
        assert!(
            printed.contains("Permission denied"),
            "ssh trusts the host: {printed}"
        );
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.host_keys = known_hosts(&String::from_utf8_lossy(&text));
        open(settings).await.unwrap();
    }
}
