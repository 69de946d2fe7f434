#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::{PrivateKey, key::safe_rng};
use std::time::Duration;

const HOST: &str = "gw1.vendor.example";
const NOW: u64 = 1_800_000_000;

fn line(hosts: &str, key: &PrivateKey) -> String {
    format!("{hosts} {}\n", key.public_key().to_openssh().unwrap())
}

fn known(content: &str) -> HostKeys {
    HostKeys::new(vec![], Some((Path::new("known_hosts"), content))).unwrap()
}

fn pinned(key: &PrivateKey) -> HostKeys {
    HostKeys::new(vec![fingerprint(key)], None).unwrap()
}

fn judge(
    keys: &HostKeys,
    presented: impl Into<PublicKeyOrCertificate>,
) -> Result<(), HostKeyRefusalReason> {
    judge_port(keys, 22, presented)
}

fn judge_port(
    keys: &HostKeys,
    port: u16,
    presented: impl Into<PublicKeyOrCertificate>,
) -> Result<(), HostKeyRefusalReason> {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    keys.verify(HOST, port, &presented.into(), now)
        .map_err(|refused| refused.reason)
}

fn bare(key: &PrivateKey) -> PublicKey {
    key.public_key().clone()
}

/// A host certificate that is good in every respect, before `change` has its way.
fn certificate(
    key: &PrivateKey,
    ca: &PrivateKey,
    change: impl FnOnce(&mut Builder),
) -> Certificate {
    certificate_between(key, ca, NOW - 60, NOW + 60, change)
}

fn certificate_between(
    key: &PrivateKey,
    ca: &PrivateKey,
    after: u64,
    before: u64,
    change: impl FnOnce(&mut Builder),
) -> Certificate {
    let mut builder = builder(key, after, before);
    builder.cert_type(CertType::Host).unwrap();
    change(&mut builder);
    builder.sign(ca).unwrap()
}

fn for_host(builder: &mut Builder) {
    builder.valid_principal(HOST).unwrap();
}

#[test]
fn a_pinned_key_is_accepted_and_any_other_refused_with_both_fingerprints() {
    let (right, wrong) = (ed25519(), ed25519());
    let keys = pinned(&right);
    assert_eq!(judge(&keys, bare(&right)), Ok(()));
    let refused = keys
        .verify(HOST, 443, &bare(&wrong).into(), SystemTime::now())
        .unwrap_err();
    let text = refused.to_string();
    assert_eq!(refused.reason, HostKeyRefusalReason::Changed);
    assert!(text.contains(&fingerprint(&right)), "{text}");
    assert!(text.contains(&fingerprint(&wrong)), "{text}");
    assert!(
        refused
            .remedy()
            .contains("ssh-keyscan -p 443 gw1.vendor.example")
    );
}

#[test]
fn a_changed_key_is_refused_and_a_second_line_with_the_right_one_accepted() {
    let (old, new) = (ed25519(), ed25519());
    assert_eq!(
        judge(&known(&line(HOST, &old)), bare(&new)),
        Err(HostKeyRefusalReason::Changed)
    );
    let both = line(HOST, &old) + &line(HOST, &new);
    assert_eq!(judge(&known(&both), bare(&new)), Ok(()));
}

#[test]
fn a_key_known_for_another_host_is_unknown_here() {
    let key = ed25519();
    let keys = known(&line("gw2.vendor.example", &key));
    assert_eq!(judge(&keys, bare(&key)), Err(HostKeyRefusalReason::Unknown));
}

#[test]
fn a_line_with_the_port_hides_lines_without() {
    let (bare_key, port_key) = (ed25519(), ed25519());
    let keys = known(&(line(HOST, &bare_key) + &line(&format!("[{HOST}]:443"), &port_key)));
    assert_eq!(judge_port(&keys, 443, bare(&port_key)), Ok(()));
    assert_eq!(
        judge_port(&keys, 443, bare(&bare_key)),
        Err(HostKeyRefusalReason::Changed)
    );
    assert_eq!(judge_port(&keys, 22, bare(&bare_key)), Ok(()));
    assert_eq!(judge_port(&keys, 8022, bare(&bare_key)), Ok(()));
}

#[test]
fn a_revocation_wins_over_pins_lines_and_authorities() {
    let (key, ca) = (ed25519(), ed25519());
    let all = line(HOST, &key) + &line(&format!("@cert-authority {HOST}"), &ca);
    let with = |revoked: &PrivateKey| {
        let content = all.clone() + &line("@revoked *", revoked);
        HostKeys::new(
            vec![fingerprint(&key)],
            Some((Path::new("known_hosts"), &content)),
        )
        .unwrap()
    };
    assert_eq!(
        judge(&with(&key), bare(&key)),
        Err(HostKeyRefusalReason::Revoked)
    );
    assert_eq!(
        judge_port(&with(&key), 443, bare(&key)),
        Err(HostKeyRefusalReason::Revoked)
    );
    let cert = certificate(&key, &ca, for_host);
    assert_eq!(
        judge(&with(&key), cert.clone()),
        Err(HostKeyRefusalReason::Revoked)
    );
    assert_eq!(judge(&with(&ca), cert), Err(HostKeyRefusalReason::Revoked));
}

#[test]
fn a_certificate_of_a_trusted_authority_is_accepted() {
    let (key, ca) = (ed25519(), ed25519());
    let keys = known(&line("@cert-authority *.vendor.example", &ca));
    assert_eq!(judge(&keys, certificate(&key, &ca, for_host)), Ok(()));
    assert_eq!(
        judge_port(&keys, 443, certificate(&key, &ca, for_host)),
        Ok(())
    );
    assert!(keys.trusts_a_ca_for(HOST, 443));
    assert!(!keys.trusts_a_ca_for("gw.other.example", 443));
    assert_eq!(
        judge(&keys, bare(&key)),
        Err(HostKeyRefusalReason::NoCertificate)
    );
}

#[test]
fn an_authority_for_other_hosts_vouches_for_nothing_here() {
    let (key, ca) = (ed25519(), ed25519());
    let keys = known(&line("@cert-authority *.other.example", &ca));
    let verdict = judge(&keys, certificate(&key, &ca, for_host));
    assert_eq!(
        verdict,
        Err(HostKeyRefusalReason::UnknownCa(fingerprint(&ca)))
    );
}

#[test]
fn each_fault_of_a_certificate_refuses_it() {
    let (key, ca) = (ed25519(), ed25519());
    let keys = known(&line("@cert-authority *", &ca));
    let early = certificate_between(&key, &ca, NOW + 1, NOW + 60, for_host);
    let late = certificate_between(&key, &ca, NOW - 60, NOW, for_host);
    let other = certificate(&key, &ca, |b| {
        b.valid_principal("gw2.vendor.example").unwrap();
    });
    let nobody = certificate(&key, &ca, |b| {
        b.all_principals_valid().unwrap();
    });
    let pattern = certificate(&key, &ca, |b| {
        b.valid_principal("*.vendor.example").unwrap();
    });
    let user = {
        let mut builder = builder(&key, NOW - 60, NOW + 60);
        builder.cert_type(CertType::User).unwrap();
        for_host(&mut builder);
        builder.sign(&ca).unwrap()
    };
    let critical = certificate(&key, &ca, |b| {
        for_host(b);
        b.critical_option("force-command", "true").unwrap();
    });
    let stranger = certificate(&key, &ed25519(), for_host);
    assert!(matches!(
        judge(&keys, early),
        Err(HostKeyRefusalReason::NotYetValid(_))
    ));
    assert!(matches!(
        judge(&keys, late),
        Err(HostKeyRefusalReason::Expired(_))
    ));
    assert!(
        matches!(judge(&keys, other), Err(HostKeyRefusalReason::WrongPrincipal(p)) if !p.is_empty())
    );
    assert!(
        matches!(judge(&keys, nobody), Err(HostKeyRefusalReason::WrongPrincipal(p)) if p.is_empty())
    );
    assert!(matches!(
        judge(&keys, pattern),
        Err(HostKeyRefusalReason::WrongPrincipal(_))
    ));
    assert_eq!(
        judge(&keys, user),
        Err(HostKeyRefusalReason::NotAHostCertificate)
    );
    assert!(matches!(
        judge(&keys, critical),
        Err(HostKeyRefusalReason::CriticalOption(_))
    ));
    assert!(matches!(
        judge(&keys, stranger),
        Err(HostKeyRefusalReason::UnknownCa(_))
    ));
}

#[test]
fn a_certificate_whose_signature_does_not_hold_is_refused() {
    let (key, ca) = (ed25519(), ed25519());
    let keys = known(&line("@cert-authority *", &ca));
    let mut bytes = certificate(&key, &ca, for_host).to_bytes().unwrap();
    let at = bytes
        .windows(HOST.len())
        .position(|w| w == HOST.as_bytes())
        .unwrap();
    bytes[at + 2] = b'2';
    let forged = Certificate::from_bytes(&bytes).unwrap();
    let verdict = keys.verify(
        "gw2.vendor.example",
        22,
        &forged.into(),
        UNIX_EPOCH + Duration::from_secs(NOW),
    );
    assert_eq!(
        verdict.unwrap_err().reason,
        HostKeyRefusalReason::BadSignature
    );
}

#[test]
fn a_known_key_is_accepted_even_in_a_certificate_that_does_not_convince() {
    let (key, ca) = (ed25519(), ed25519());
    let late = certificate_between(&key, &ca, NOW - 60, NOW, for_host);
    assert_eq!(judge(&pinned(&key), late), Ok(()));
}

#[test]
fn pinning_an_authority_does_not_make_it_one() {
    let (key, ca) = (ed25519(), ed25519());
    let refused = pinned(&ca)
        .verify(
            HOST,
            22,
            &certificate(&key, &ca, for_host).into(),
            SystemTime::now(),
        )
        .unwrap_err();
    assert_eq!(
        refused.reason,
        HostKeyRefusalReason::UnknownCa(fingerprint(&ca))
    );
    assert!(refused.remedy().contains("@cert-authority"));
}

#[test]
fn key_types_of_known_hosts_are_asked_for_first() {
    let keys = known(&line(HOST, &ed25519()));
    assert_eq!(keys.key_types(HOST, 22), vec![Algorithm::Ed25519]);
    assert!(keys.key_types("gw2.vendor.example", 22).is_empty());
}

#[test]
fn a_configuration_that_can_trust_nothing_is_an_error() {
    assert_eq!(
        HostKeys::new(vec![], None).unwrap_err(),
        HostKeyError::Nothing
    );
    let only_revoked = line("@revoked *", &ed25519());
    let known_hosts = Some((Path::new("known_hosts"), only_revoked.as_str()));
    assert_eq!(
        HostKeys::new(vec![], known_hosts).unwrap_err(),
        HostKeyError::Nothing
    );
    for bad in [
        "MD5:00:11",
        "SHA256:short",
        "nonsense",
        "SHA512:gq5e/T4j6fZKvZKvZKvZ",
    ] {
        let error = HostKeys::new(vec![bad.to_owned()], None).unwrap_err();
        assert_eq!(error, HostKeyError::BadFingerprint(bad.to_owned()));
    }
}

fn ed25519() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn builder(key: &PrivateKey, after: u64, before: u64) -> Builder {
    Builder::new_with_random_nonce(&mut safe_rng(), key.public_key(), after, before).unwrap()
}
