//! The certificates that a server presented, as an error carries them: they show which one is wrong.

use super::{certificate, verifier};
use rustls::{
    CertificateError,
    pki_types::{CertificateDer, UnixTime},
};
use std::{
    io,
    time::{Duration, SystemTime},
};

/// One certificate of a chain that was refused.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Presented")]
pub struct PresentedCertificate {
    /// Its common name, else its organization; empty where it cannot be read.
    pub subject: String,
    /// Common name of its issuer, else the organization; empty where it cannot be read.
    pub issuer: String,
    /// First day of its validity, `2026-01-31`.
    pub from: Option<String>,
    /// Last day of its validity, `2027-01-31`.
    pub until: Option<String>,
    /// What is wrong with this certificate; `None` if nothing is.
    pub problem: Option<String>,
}

impl PresentedCertificate {
    /// Whether it has expired, or is not valid yet.
    pub fn is_out_of_date(&self) -> bool {
        let problem = self.problem.as_deref();
        problem.is_some_and(|problem| [EXPIRED, NOT_YET].contains(&problem))
    }

    /// Whether no trusted certificate has signed it.
    pub fn is_untrusted(&self) -> bool {
        let problem = self.problem.as_deref();
        problem.is_some_and(|problem| UNTRUSTED.contains(&problem))
    }
}

const EXPIRED: &str = "expired";
const NOT_YET: &str = "not valid yet";
const UNTRUSTED: [&str; 3] = [
    "signed by itself, and not trusted here",
    "its issuer is not trusted here, and no certificate of it was sent along",
    "its issuer is not trusted here",
];

/// The chain behind a failed handshake, the server's own certificate first; empty where it did not fail for its
/// certificates.
pub(crate) fn refused_chain(error: &io::Error) -> &[PresentedCertificate] {
    verifier::find_refusal(error).map_or(&[], |refused| &refused.chain)
}

/// What was presented, each with what is wrong with it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; these are the ones with a text of their own"
)]
pub(super) fn describe(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    problem: &CertificateError,
    now: UnixTime,
) -> Vec<PresentedCertificate> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let all = std::iter::once(leaf).chain(intermediates).take(MAX_CHAIN);
    let mut chain: Vec<_> = all.map(|one| present(one, now)).collect();
    let count = chain.len();
    match problem {
        CertificateError::UnknownIssuer => {
            if let Some(last) = chain.last_mut() {
                let text = match (last.issuer == last.subject, count) {
                    (true, _) => UNTRUSTED[0],
                    (false, 1) => UNTRUSTED[1],
                    (false, _) => UNTRUSTED[2],
                };
                last.problem.get_or_insert_with(|| text.to_owned());
            }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            if let Some(leaf) = chain.first_mut() {
                let text = "made for other names";
                leaf.problem.get_or_insert_with(|| text.to_owned());
            }
        }
        _ => {}
    }
    chain
}

fn present(der: &CertificateDer<'_>, now: SystemTime) -> PresentedCertificate {
    let names = certificate::names(der);
    let validity = certificate::validity(der);
    let problem = match validity {
        Some((from, _)) if now < from => Some(NOT_YET.to_owned()),
        Some((_, until)) if now > until => Some(EXPIRED.to_owned()),
        _ => None,
    };
    let (subject, issuer) = names.map_or_else(Default::default, |n| (n.subject, n.issuer));
    PresentedCertificate {
        subject,
        issuer,
        from: validity.map(|(from, _)| day(from)),
        until: validity.map(|(_, until)| day(until)),
        problem,
    }
}

fn day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Certificates of a chain that are shown; a hostile server could send many.
const MAX_CHAIN: usize = 8;
