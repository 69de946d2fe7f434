//! Checks an OpenSSH user certificate (PROTOCOL.certkeys). russh has verified only its holder's
//! signature; this module checks CA, type, time, principal and options.

use super::{LoginGrant, LoginRefusal};
use crate::AgentName;
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey,
    ssh_key::{Fingerprint, certificate::CertType},
};

/// Grants the login if every check passes.
pub(super) fn check(
    agent: &AgentName,
    certificate: &Certificate,
    authorities: &[PublicKey],
) -> Result<LoginGrant, LoginRefusal> {
    let refuse = |why| Err(LoginRefusal::Certificate(why));
    if authorities.is_empty() {
        return refuse("this gateway trusts no user CA (user_ca.pub)");
    }
    if certificate.cert_type() != CertType::User {
        return refuse("it is not a user certificate");
    }
    if matches!(
        certificate.signature().algorithm(),
        Algorithm::Rsa { hash: None }
    ) {
        return refuse("its CA signed with SHA-1");
    }
    let trusted: Vec<Fingerprint> = authorities
        .iter()
        .map(|authority| authority.fingerprint(HashAlg::Sha256))
        .collect();
    if certificate.validate(&trusted).is_err() {
        return refuse("its CA is not trusted, its signature is invalid, or it has expired");
    }
    // An empty list would mean any user.
    if !certificate
        .valid_principals()
        .iter()
        .any(|principal| principal == agent.as_str())
    {
        return refuse("the agent's name is not among its principals");
    }
    if !certificate.critical_options().is_empty() {
        return refuse("it has a critical option, which this gateway does not support");
    }
    if !certificate
        .extensions()
        .iter()
        .any(|(name, _)| name == "permit-port-forwarding")
    {
        return refuse("it does not permit port forwarding");
    }
    Ok(LoginGrant {
        by: format!(
            "certificate {:?} serial {}",
            certificate.key_id(),
            certificate.serial()
        ),
        binds: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use russh::keys::{
        PrivateKey,
        ssh_key::{certificate::Builder, private::Ed25519Keypair},
    };
    use std::time::{SystemTime, UNIX_EPOCH};

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn made(change: impl FnOnce(&mut Builder)) -> Certificate {
        made_as(CertType::User, change)
    }

    fn made_as(kind: CertType, change: impl FnOnce(&mut Builder)) -> Certificate {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut builder = Builder::new(
            [7; 16],
            key(1).public_key().key_data().clone(),
            now - 60,
            now + 60,
        )
        .unwrap();
        builder.cert_type(kind).unwrap();
        builder.key_id("acme-1").unwrap();
        change(&mut builder);
        builder.sign(&key(9)).unwrap()
    }

    fn usual(builder: &mut Builder) {
        builder.valid_principal("acme").unwrap();
        builder.extension("permit-port-forwarding", "").unwrap();
    }

    fn decide(certificate: &Certificate) -> Result<LoginGrant, LoginRefusal> {
        check(
            &"acme".parse().unwrap(),
            certificate,
            &[key(9).public_key().clone()],
        )
    }

    #[test]
    fn a_certificate_of_the_trusted_authority_logs_its_principal_in() {
        assert!(decide(&made(usual)).is_ok());
    }

    #[test]
    fn anything_short_of_that_is_refused() {
        let other_principal = made(|b| {
            b.valid_principal("globex").unwrap();
            b.extension("permit-port-forwarding", "").unwrap();
        });
        let any_principal = made(|b| {
            b.all_principals_valid().unwrap();
            b.extension("permit-port-forwarding", "").unwrap();
        });
        let critical = made(|b| {
            usual(b);
            b.critical_option("force-command", "true").unwrap();
        });
        let no_forwarding = made(|b| {
            b.valid_principal("acme").unwrap();
        });
        let host = made_as(CertType::Host, usual);
        for refused in [
            other_principal,
            any_principal,
            critical,
            no_forwarding,
            host,
        ] {
            assert!(decide(&refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn an_unknown_authority_is_refused() {
        let agent: AgentName = "acme".parse().unwrap();
        let certificate = made(usual);
        assert!(check(&agent, &certificate, &[]).is_err());
        assert!(check(&agent, &certificate, &[key(8).public_key().clone()]).is_err());
    }

    #[test]
    fn an_expired_certificate_is_refused() {
        let mut builder =
            Builder::new([7; 16], key(1).public_key().key_data().clone(), 1000, 2000).unwrap();
        builder.cert_type(CertType::User).unwrap();
        usual(&mut builder);
        assert!(decide(&builder.sign(&key(9)).unwrap()).is_err());
    }
}
