//! Which host keys are trusted. It decides only; it sends and stores nothing.

use crate::address::at_address;
use crate::certificate_time::date;
use crate::known_hosts::{self, KnownHostsLine, Marker, SkippedLine};
use parking_lot::Mutex;
use russh::keys::ssh_key::{Fingerprint, certificate::CertType, public::KeyData};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Pinned fingerprints and known_hosts entries. Anything else is refused.
///
/// A pinned fingerprint is that of a host key, on any gateway. It never makes a CA: only an `@cert-authority` line does. A
/// `@revoked` line wins over both.
#[derive(Clone, Debug)]
pub struct HostKeys {
    pinned: Vec<Fingerprint>,
    lines: Vec<KnownHostsLine>,
    skipped: Vec<SkippedLine>,
    /// By host and port: the type of the key that was trusted last. At most one for each gateway.
    last_types: Arc<Mutex<HashMap<(String, u16), Algorithm>>>,
}

impl HostKeys {
    /// Takes `SHA256:…` fingerprints (as `ssh-keygen -lf` prints them) and a known_hosts file's path and content. At least
    /// one key must be named, because nothing would be trusted otherwise.
    pub fn new(
        fingerprints: Vec<String>,
        known_hosts: Option<(&Path, &str)>,
    ) -> Result<Self, HostKeyError> {
        let pinned = fingerprints
            .into_iter()
            .map(|text| match text.parse() {
                Ok(print @ Fingerprint::Sha256(_)) => Ok(print),
                _ => Err(HostKeyError::BadFingerprint(text)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (lines, skipped) = match known_hosts {
            None => (Vec::new(), Vec::new()),
            Some((path, content)) => {
                known_hosts::parse(content).map_err(|line| HostKeyError::bad(path, &line))?
            }
        };
        let usable = |line: &KnownHostsLine| line.marker() != Some(Marker::Revoked);
        if pinned.is_empty() && !lines.iter().any(usable) {
            return Err(match (skipped.first(), known_hosts) {
                (Some(line), Some((path, _))) => HostKeyError::bad(path, line),
                _ => HostKeyError::Nothing,
            });
        }
        Ok(Self {
            pinned,
            lines,
            skipped,
            last_types: Arc::default(),
        })
    }

    /// Whether the key or certificate that `host` has presented is trusted at `now`. The library has already verified that
    /// the host holds the private key.
    pub fn verify(
        &self,
        host: &str,
        port: u16,
        presented: &PublicKeyOrCertificate,
        now: SystemTime,
    ) -> Result<(), Box<HostKeyRefusal>> {
        let known = self.known(host, port);
        let key = presented.public_key();
        let verdict = match presented.certificate() {
            // The key in an untrusted certificate may be known itself.
            Some(certificate) => known
                .verify_certificate(certificate, host, now)
                .or_else(|why| match known.verify_key(&key) {
                    Ok(()) if why != HostKeyRefusalReason::Revoked => Ok(()),
                    _ => Err(why),
                }),
            None => known.verify_key(&key),
        };
        verdict.map_err(|reason| {
            Box::new(HostKeyRefusal {
                host: host.to_owned(),
                port,
                address: None,
                kind: key.algorithm(),
                presented: describe(presented, &key),
                expected: known.expected(),
                reason,
            })
        })
    }

    /// Lines of the known_hosts file that were skipped, as ssh skips them.
    pub fn skipped(&self) -> &[SkippedLine] {
        &self.skipped
    }

    /// Whether there are fingerprints, which do not name the type of their key.
    pub fn pins(&self) -> bool {
        !self.pinned.is_empty()
    }

    /// Notes a trusted key: its type is requested first from now on.
    pub fn trusted(&self, host: &str, port: u16, presented: &PublicKeyOrCertificate) {
        let kind = presented.public_key().algorithm();
        let mut types = self.last_types.lock();
        types.insert((host.to_owned(), port), kind);
    }

    /// Whether certificates should be requested: only where a CA is trusted for this host.
    pub fn trusts_a_ca_for(&self, host: &str, port: u16) -> bool {
        !self.known(host, port).authorities.is_empty()
    }

    /// Key types that known_hosts names for this host, and the one that was trusted last: these are requested first.
    pub fn key_types(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let known = self.known(host, port);
        let types = self.last_types.lock();
        let last = types.get(&(host.to_owned(), port)).cloned();
        let named = known.keys.iter().map(|key| key.algorithm());
        named.chain(last).collect()
    }

    fn known(&self, host: &str, port: u16) -> KnownHostKeys<'_> {
        let names = known_hosts::names(host, port);
        let of = |name: &String, revoked: bool| -> Vec<&KnownHostsLine> {
            let line = |l: &&KnownHostsLine| (l.marker() == Some(Marker::Revoked)) == revoked;
            self.lines
                .iter()
                .filter(line)
                .filter(|l| l.matches(name))
                .collect()
        };
        // The bare name counts only if no line names the port; a revocation counts under either.
        let found = names
            .iter()
            .map(|n| of(n, false))
            .find(|lines| !lines.is_empty());
        let (authorities, keys): (Vec<_>, Vec<_>) = found
            .unwrap_or_default()
            .into_iter()
            .partition(|l| l.marker() == Some(Marker::CertAuthority));
        KnownHostKeys {
            pinned: &self.pinned,
            authorities: authorities.into_iter().map(KnownHostsLine::key).collect(),
            keys: keys.into_iter().map(KnownHostsLine::key).collect(),
            revoked: names
                .iter()
                .flat_map(|n| of(n, true))
                .map(KnownHostsLine::key)
                .collect(),
        }
    }
}

/// What is known about one host.
struct KnownHostKeys<'a> {
    pinned: &'a [Fingerprint],
    authorities: Vec<&'a PublicKey>,
    keys: Vec<&'a PublicKey>,
    revoked: Vec<&'a PublicKey>,
}

impl KnownHostKeys<'_> {
    fn verify_key(&self, key: &PublicKey) -> Result<(), HostKeyRefusalReason> {
        if self.revokes(key.key_data()) {
            return Err(HostKeyRefusalReason::Revoked);
        }
        let print = key.fingerprint(HashAlg::Sha256);
        if self.pinned.contains(&print) || self.keys.iter().any(|k| same(k, key.key_data())) {
            return Ok(());
        }
        if self.pinned.is_empty() && self.keys.is_empty() {
            return Err(match self.authorities.is_empty() {
                true => HostKeyRefusalReason::Unknown,
                false => HostKeyRefusalReason::NoCertificate,
            });
        }
        Err(HostKeyRefusalReason::Changed)
    }

    fn verify_certificate(
        &self,
        certificate: &Certificate,
        host: &str,
        now: SystemTime,
    ) -> Result<(), HostKeyRefusalReason> {
        let authority = certificate.signature_key();
        if self.revokes(authority) || self.revokes(certificate.public_key()) {
            return Err(HostKeyRefusalReason::Revoked);
        }
        if !self.authorities.iter().any(|a| same(a, authority)) {
            return Err(HostKeyRefusalReason::UnknownCa(print(authority)));
        }
        validate(certificate, host, now)
    }

    fn revokes(&self, key: &KeyData) -> bool {
        self.revoked.iter().any(|r| same(r, key))
    }

    fn expected(&self) -> Vec<String> {
        let keys = self.keys.iter().map(|k| print(k.key_data()));
        let authorities = self
            .authorities
            .iter()
            .map(|k| format!("a certificate by {}", print(k.key_data())));
        self.pinned
            .iter()
            .map(ToString::to_string)
            .chain(keys)
            .chain(authorities)
            .collect()
    }
}

/// The requirements for a host certificate of a trusted CA (PROTOCOL.certkeys).
fn validate(
    certificate: &Certificate,
    host: &str,
    now: SystemTime,
) -> Result<(), HostKeyRefusalReason> {
    if matches!(
        certificate.signature().algorithm(),
        Algorithm::Rsa { hash: None } | Algorithm::Dsa
    ) {
        return Err(HostKeyRefusalReason::Sha1);
    }
    if certificate.verify_signature().is_err() {
        return Err(HostKeyRefusalReason::BadSignature);
    }
    if certificate.cert_type() != CertType::Host {
        return Err(HostKeyRefusalReason::NotAHostCertificate);
    }
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if seconds < certificate.valid_after() {
        return Err(HostKeyRefusalReason::NotYetValid(date(
            certificate.valid_after(),
        )));
    }
    if seconds >= certificate.valid_before() {
        return Err(HostKeyRefusalReason::Expired(date(
            certificate.valid_before(),
        )));
    }
    let principals = certificate.valid_principals();
    if !principals.iter().any(|p| p.eq_ignore_ascii_case(host)) {
        return Err(HostKeyRefusalReason::WrongPrincipal(principals.to_vec()));
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Err(HostKeyRefusalReason::CriticalOption(option.clone()));
    }
    Ok(())
}

/// A host key or certificate that is not trusted, and the details that explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyRefusal {
    /// The gateway's host as configured.
    pub host: String,
    /// The gateway's port as configured.
    pub port: u16,
    /// The host's address that presented it; none behind a proxy.
    pub address: Option<SocketAddr>,
    /// Type of the key that was presented.
    pub kind: Algorithm,
    /// Fingerprint and type of the presented key; of each one, if the gateway has several.
    pub presented: String,
    /// Fingerprints of keys and CAs that would be trusted.
    pub expected: Vec<String>,
    /// Why it is not trusted.
    pub reason: HostKeyRefusalReason,
}

impl HostKeyRefusal {
    /// Sets the address that presented the key.
    pub fn at(self, address: Option<SocketAddr>) -> Self {
        Self { address, ..self }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        let Self { host, port, .. } = self;
        match &self.reason {
            HostKeyRefusalReason::Revoked => "do not connect: ask the vendor which key replaces the revoked one".to_owned(),
            HostKeyRefusalReason::Unknown | HostKeyRefusalReason::Changed | HostKeyRefusalReason::NoCertificate => format!(
                "ask the vendor, through another channel than this connection, for the gateway's fingerprints. If the \
                 presented one is among them, add it to tunnel.host_keys; if not, someone may intercept the connection. \
                 The gateway's keys: ssh-keyscan -p {port} {host} | ssh-keygen -lf -"
            ),
            HostKeyRefusalReason::UnknownCa(_) => "ask the vendor for its CA key and add it to known_hosts_file \
                 as an @cert-authority line (host_keys pins host keys only)"
                .to_owned(),
            HostKeyRefusalReason::Expired(_) | HostKeyRefusalReason::NotYetValid(_) => {
                "check this host's clock (timedatectl), then ask the vendor for a new host certificate".to_owned()
            }
            HostKeyRefusalReason::WrongPrincipal(names) if !names.is_empty() => format!(
                "use the name in the certificate ({}) in tunnel.gateways, or ask the vendor for a \
                 certificate that names {host}",
                names.join(", ")
            ),
            HostKeyRefusalReason::WrongPrincipal(_) => format!("ask the vendor for a host certificate that names {host}"),
            HostKeyRefusalReason::BadSignature
            | HostKeyRefusalReason::NotAHostCertificate
            | HostKeyRefusalReason::CriticalOption(_)
            | HostKeyRefusalReason::Sha1 => "ask the vendor for a proper host certificate (ssh-keygen -s CA -h -n NAME)".to_owned(),
        }
    }
}

impl fmt::Display for HostKeyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}:{}", self.host, self.port);
        let place = at_address(&place, &self.host, self.address);
        write!(
            f,
            "the host key of {place} is not trusted: {}; presented {}, expected {}",
            self.reason,
            self.presented,
            match self.expected.is_empty() {
                true => "nothing (no entry for this host)".to_owned(),
                false => self.expected.join(" or "),
            }
        )
    }
}

impl std::error::Error for HostKeyRefusal {}

/// Why a host key or certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyRefusalReason {
    /// Nothing is known about this host.
    #[error("nothing is known about this host")]
    Unknown,
    /// Other keys are known: it was replaced, or someone intercepts the connection.
    #[error("it is not the key that is known")]
    Changed,
    /// Only a CA is known, and a bare key was presented.
    #[error("a certificate is expected and a bare key was presented")]
    NoCertificate,
    /// A `@revoked` line names the key or its CA.
    #[error("it is revoked")]
    Revoked,
    /// Signed by a CA that is not trusted; its fingerprint.
    #[error("its certificate is signed by an unknown CA, {0}")]
    UnknownCa(String),
    /// The certificate has expired; since when.
    #[error("its certificate expired on {0}")]
    Expired(String),
    /// The certificate is not valid yet; from when on.
    #[error("its certificate is not valid before {0}")]
    NotYetValid(String),
    /// The names that it is valid for; a certificate without names is refused too.
    #[error("its certificate is for {0:?}")]
    WrongPrincipal(Vec<String>),
    /// The signature does not verify: forged or damaged.
    #[error("the signature on its certificate is wrong")]
    BadSignature,
    /// A user certificate instead of a host certificate.
    #[error("its certificate is not a host certificate")]
    NotAHostCertificate,
    /// A critical option of a host certificate; none is supported.
    #[error("its certificate has the unknown critical option {0:?}")]
    CriticalOption(String),
    /// The CA signed with SHA-1.
    #[error("its certificate is signed with SHA-1")]
    Sha1,
}

/// Why host keys could not be read from the configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostKeyError {
    /// Not as `ssh-keygen -lf` prints it.
    #[error(
        "{0:?} is not a SHA256 fingerprint; expected SHA256: and 43 characters, as printed by: ssh-keygen -lf KEY.pub"
    )]
    BadFingerprint(String),
    /// A line of the known_hosts file.
    #[error("{}, line {line}: {problem}; correct the line or remove it", path.display())]
    BadLine {
        /// Path of the known_hosts file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// Neither a fingerprint nor a key or authority.
    #[error(
        "no host key is named, so that no gateway could ever be trusted; put the fingerprints that the vendor gave you into host_keys"
    )]
    Nothing,
}

impl HostKeyError {
    fn bad(path: &Path, line: &SkippedLine) -> Self {
        Self::BadLine {
            path: path.to_owned(),
            line: line.line,
            problem: line.problem.clone(),
        }
    }
}

fn same(known: &PublicKey, key: &KeyData) -> bool {
    known.key_data() == key
}

fn print(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn describe(presented: &PublicKeyOrCertificate, key: &PublicKey) -> String {
    let kind = key.algorithm();
    let print = key.fingerprint(HashAlg::Sha256);
    match presented.certificate() {
        None => format!("{print} ({kind})"),
        Some(certificate) => format!(
            "{print} ({kind}, certificate {:?} by {})",
            certificate.key_id(),
            self::print(certificate.signature_key())
        ),
    }
}

#[cfg(test)]
#[path = "host_key_tests.rs"]
mod tests;
