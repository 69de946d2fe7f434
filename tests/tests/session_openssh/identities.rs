//! Keys and user certificates that the agent logs in with.

use crate::open;
use agent::{
    secret::{Secret, SecretFile},
    tunnel::session::{RetryPace, SessionOpenError, SshIdentity},
};
use e2e::{
    sshd::{Sshd, certify, fingerprint, keygen},
    tunnel::{PATIENCE, identity, settings},
};
use std::{path::Path, sync::Arc};

#[tokio::test]
async fn an_unauthorized_key_is_refused_with_details_for_the_vendor() {
    let sshd = Sshd::start().unwrap();
    let stranger = sshd.folder().join("stranger");
    keygen(&stranger, &["-t", "ed25519"], "").unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.identity = identity(&stranger).unwrap();
    let error = open(settings).await.err().unwrap();
    let text = error.to_string();
    assert!(
        matches!(error, SessionOpenError::LoginRefused { .. }),
        "{text}"
    );
    assert!(text.contains(&sshd.user()), "{text}");
    let print = fingerprint(&stranger.with_extension("pub")).unwrap();
    assert!(text.contains(&print), "{text}");
    assert!(text.contains("offers publickey"), "{text}");
    assert_eq!(error.retry(), RetryPace::Slow);
}

#[tokio::test]
async fn ecdsa_and_rsa_keys_log_in_and_rsa_signs_with_sha2() {
    let sshd = Sshd::start().unwrap();
    for (name, kind) in [
        ("ecdsa256", ["-t", "ecdsa", "-b", "256"]),
        ("ecdsa521", ["-t", "ecdsa", "-b", "521"]),
        ("rsa", ["-t", "rsa", "-b", "2048"]),
    ] {
        let key = sshd.folder().join(name);
        keygen(&key, &kind, "").unwrap();
        sshd.authorize(&key.with_extension("pub"), "").unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        let session = open(settings)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        session.probe(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn an_encrypted_key_logs_in_with_its_passphrase() {
    let sshd = Sshd::start().unwrap();
    let key = sshd.folder().join("locked");
    keygen(&key, &["-t", "ed25519"], "correct horse").unwrap();
    sshd.authorize(&key.with_extension("pub"), "").unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    let phrase = Secret::new(b"correct horse".to_vec());
    let identity = SshIdentity::load(&SecretFile::new(&key), Some(&phrase)).unwrap();
    settings.identity = Arc::new(identity);
    open(settings).await.unwrap();
}

#[test]
fn a_short_rsa_key_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("short");
    keygen(&key, &["-t", "rsa", "-b", "1024"], "").unwrap();
    let error = SshIdentity::load(&SecretFile::new(&key), None).unwrap_err();
    assert!(error.to_string().contains("less than 2048"), "{error}");
}

/// An sshd that trusts user certificates of the key `ca`.
fn trusting_user_ca() -> Sshd {
    let prepare = |dir: &Path| keygen(&dir.join("ca"), &["-t", "ed25519"], "");
    Sshd::prepare(prepare, &["TrustedUserCAKeys {dir}/ca.pub"]).unwrap()
}

#[tokio::test]
async fn user_certificates_log_in_for_ed25519_and_rsa_keys() {
    for kind in [["-t", "ed25519"].as_slice(), &["-t", "rsa", "-b", "2048"]] {
        let sshd = trusting_user_ca();
        let dir = sshd.folder();
        let key = dir.join("certified");
        keygen(&key, kind, "").unwrap();
        let public = key.with_extension("pub");
        certify(&dir.join("ca"), &public, &["-n", &sshd.user()]).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        open(settings)
            .await
            .unwrap_or_else(|e| panic!("{kind:?}: {e}\n{}", sshd.log()));
        sshd.logged("Accepted certificate ID \"test\"")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_expired_user_certificate_is_named_in_the_error() {
    let sshd = trusting_user_ca();
    let key = sshd.folder().join("late");
    keygen(&key, &["-t", "ed25519"], "").unwrap();
    let user = sshd.user();
    let options = ["-n", user.as_str(), "-V", "20200101:20210101"];
    let ca = sshd.folder().join("ca");
    certify(&ca, &key.with_extension("pub"), &options).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.identity = identity(&key).unwrap();
    let error = open(settings).await.err().unwrap().to_string();
    assert!(error.contains("EXPIRED 2021-01-01"), "{error}");
}

/// Certificates that sshd refuses without a reason: each has its own remedy.
#[tokio::test]
async fn each_certificate_that_sshd_refuses_has_a_remedy_of_its_own() {
    let ed25519 = ["-t", "ed25519"].as_slice();
    let rsa = &["-t", "rsa", "-b", "2048"];
    let sha1 = "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-rsa-cert-v01@openssh.com";
    let mut wrong = Vec::new();
    for (kind, ca, options, line, remedy) in [
        (
            ed25519,
            "ca",
            &["-n", "USER", "-V", "20200101:20210101"][..],
            "",
            "the certificate has expired",
        ),
        (
            ed25519,
            "ca",
            &["-n", "USER", "-V", "20990101:21000101"],
            "",
            "not valid yet: compare this host's clock (timedatectl)",
        ),
        (
            ed25519,
            "ca",
            &["-n", "globex"],
            "",
            "the certificate is for [\"globex\"]: set tunnel.user to one of these",
        ),
        (ed25519, "ca", &[], "", "the certificate has no principal"),
        (
            ed25519,
            "ca",
            &["-n", "USER", "-O", "source-address=192.0.2.0/24"],
            "",
            "valid from 192.0.2.0/24 only",
        ),
        (rsa, "other", &["-n", "USER"], "", "TrustedUserCAKeys"),
        // As OpenSSH before 7.8 does.
        (rsa, "ca", &["-n", "USER"], sha1, "OpenSSH before 7.8"),
        // Nothing is visibly wrong: the key or its CA must be authorized.
        (ed25519, "other", &["-n", "USER"], "", "authorize this key"),
    ] {
        let prepare = |dir: &Path| {
            keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
            keygen(&dir.join("other"), &["-t", "ed25519"], "")
        };
        let sshd = Sshd::prepare(prepare, &["TrustedUserCAKeys {dir}/ca.pub", line]).unwrap();
        let key = sshd.folder().join("key");
        keygen(&key, kind, "").unwrap();
        let user = sshd.user();
        let options: Vec<_> = options.iter().map(|o| o.replace("USER", &user)).collect();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let public = key.with_extension("pub");
        certify(&sshd.folder().join(ca), &public, &options).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        let error = open(settings).await.err().unwrap();
        let actual = error.remedy();
        if !actual.contains(remedy) || actual.contains("  ") || error.retry() != RetryPace::Slow {
            wrong.push(format!("{remedy}: {error}: {actual}\n{}", sshd.log()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_certificate_beside_an_authorised_key_does_not_keep_it_out() {
    let sshd = Sshd::start().unwrap();
    let ca = sshd.folder().join("unknown-ca");
    keygen(&ca, &["-t", "ed25519"], "").unwrap();
    certify(&ca, &sshd.folder().join("id.pub"), &["-n", "somebody"]).unwrap();
    open(settings(&sshd, &[]).unwrap()).await.unwrap();
}
