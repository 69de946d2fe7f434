//! The SSH key of the agent, and the user certificate beside it.

use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    plain_file,
    secret::{Secret, SecretFile, SecretFileError},
};
use agent_ssh::certificate_time::{date, instant};
use russh::keys::{
    Algorithm, Certificate, HashAlg, PrivateKey, ssh_key,
    ssh_key::{Cipher, certificate::CertType, private::Ed25519Keypair},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// A private key with its optional OpenSSH user certificate. Holds the key in memory for as long as
/// the agent runs; `Debug` shows its fingerprint only.
pub struct SshIdentity {
    key: Arc<PrivateKey>,
    certificate: Option<Certificate>,
    /// `None` for a key that was not read from a file.
    certificate_path: Option<PathBuf>,
    /// The key's file; `None` for a key that was not read from one.
    file: Option<SecretFile>,
}

impl SshIdentity {
    /// Reads an OpenSSH private key (Ed25519, ECDSA, or RSA of at least 2048 bits, which then signs with
    /// SHA-2 only) and the certificate `KEY-cert.pub` where one lies beside it. Blocks on the disk.
    pub fn load(
        key_file: &SecretFile,
        passphrase: Option<&Secret>,
    ) -> Result<Self, SshIdentityError> {
        let path = key_file.path();
        let text = key_file.read()?;
        let key = parse(path, text.expose())?;
        let key = match (key.is_encrypted(), passphrase) {
            (false, _) => key,
            (true, None) => return Err(SshIdentityError::PassphraseMissing(path.to_owned())),
            (true, _) if key.cipher() == Cipher::TdesCbc => {
                return Err(SshIdentityError::Unsuitable {
                    path: path.to_owned(),
                    problem: "it is encrypted with 3des-cbc; write it again with: ssh-keygen -p -Z aes256-ctr -f FILE".to_owned(),
                });
            }
            (true, Some(phrase)) => key
                .decrypt(phrase.expose())
                .map_err(|_| SshIdentityError::PassphraseWrong(path.to_owned()))?,
        };
        check_kind(path, &key)?;
        let certificate_path = certificate_path(path);
        let certificate = match plain_file::read(&certificate_path, MAX_CERTIFICATE) {
            Ok(text) => Some(parse_certificate(&certificate_path, &text, &key)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(SshIdentityError::CertificateUnreadable {
                    path: certificate_path,
                    problem: error.to_string(),
                });
            }
        };
        Ok(Self {
            key: Arc::new(key),
            certificate,
            certificate_path: Some(certificate_path),
            file: Some(key_file.clone()),
        })
    }

    /// A key that is in no file, without a certificate.
    pub fn of_key(key: PrivateKey) -> Self {
        Self {
            key: Arc::new(key),
            certificate: None,
            certificate_path: None,
            file: None,
        }
    }

    /// A new key that no gateway knows, for a configuration that is only shown.
    pub fn ephemeral() -> Self {
        let seed: zeroize::Zeroizing<[u8; 32]> = zeroize::Zeroizing::new(rand::random());
        Self::of_key(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
    }

    /// The file that the key was read from.
    pub fn file(&self) -> Option<&SecretFile> {
        self.file.as_ref()
    }

    /// `SHA256:…` of the public key, as `ssh-keygen -lf` prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The key type as in an authorized_keys line: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`.
    pub fn algorithm(&self) -> String {
        self.key.algorithm().to_string()
    }

    /// The public key in authorized_keys form, for the vendor.
    pub fn public_key(&self) -> String {
        self.key
            .public_key()
            .to_openssh()
            .unwrap_or_else(|_| self.fingerprint())
    }

    /// Key and certificate as a gateway sees them, to compare two identities.
    pub fn public_form(&self) -> String {
        let certificate = self.certificate.as_ref();
        let certificate = certificate.and_then(|c| c.to_openssh().ok());
        format!("{}\n{}", self.public_key(), certificate.unwrap_or_default())
    }

    pub(super) fn key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.key)
    }

    /// The certificate to log in with now. A new one is read from its file without a restart; if it cannot be read, the
    /// previous one is used.
    pub(super) async fn certificate(&self) -> Option<Certificate> {
        match self.read_certificate().await {
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot use the new user certificate; keeping the previous one");
                self.certificate.clone()
            }
            Some(Ok(certificate)) => Some(certificate),
            None => self.certificate.clone(),
        }
    }

    /// `None` if there is no file that can be read.
    async fn read_certificate(&self) -> Option<Result<Certificate, SshIdentityError>> {
        let path = self.certificate_path.as_ref()?;
        let from = path.clone();
        let text = tokio::task::spawn_blocking(move || plain_file::read(&from, MAX_CERTIFICATE));
        let text = text.await.ok()?.ok()?;
        Some(parse_certificate(path, &text, &self.key))
    }
}

impl SshIdentity {
    /// When the certificate beside the key expires; `None` without one.
    pub async fn expiry(&self) -> Option<CredentialExpiry> {
        let certificate = match self.read_certificate().await {
            Some(Ok(certificate)) => certificate,
            _ => self.certificate.clone()?,
        };
        let path = self.certificate_path.as_ref()?;
        let remedy = format!(
            "ask the vendor for a new certificate and write it to {}; the next connection uses it",
            path.display()
        );
        let end = certificate.valid_before();
        let end = match instant(end) {
            Some(end) => ExpiryTime::At(end),
            None => ExpiryTime::Never,
        };
        let since = instant(certificate.valid_after()).filter(|at| *at > UNIX_EPOCH);
        Some(CredentialExpiry::new(CredentialKind::SshCertificate, end, remedy).issued(since))
    }
}

impl fmt::Debug for SshIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("key", &self.fingerprint())
            .field("certificate", &self.certificate.as_ref().map(describe))
            .finish()
    }
}

/// A user certificate in one line, with its validity.
pub(super) fn describe(certificate: &Certificate) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let validity = if now >= certificate.valid_before() {
        format!("EXPIRED {}", date(certificate.valid_before()))
    } else if now < certificate.valid_after() {
        format!("not valid before {}", date(certificate.valid_after()))
    } else {
        format!("valid until {}", date(certificate.valid_before()))
    };
    format!(
        "user certificate {:?} for {:?}, {validity}",
        certificate.key_id(),
        certificate.valid_principals(),
    )
}

/// Why a gateway may refuse a certificate, and what to do; `None` if no problem is visible.
pub(super) fn certificate_problem(certificate: &Certificate, user: &str) -> Option<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    if now >= certificate.valid_before() {
        return Some(
            "the certificate has expired: ask the vendor for a new one and replace the old one; the next connection uses it".to_owned(),
        );
    }
    if now < certificate.valid_after() {
        return Some(
            "the certificate is not valid yet: compare this host's clock (timedatectl) with the vendor's".to_owned(),
        );
    }
    let principals = certificate.valid_principals();
    if principals.is_empty() {
        return Some(format!(
            "the certificate has no principal, and OpenSSH does not accept such certificates: ask the vendor for one with the principal {user:?} (ssh-keygen -n)"
        ));
    }
    if !principals.iter().any(|name| name == user) {
        return Some(format!(
            "the certificate is for {principals:?}: set tunnel.user to one of these, or ask the vendor for a certificate with the principal {user:?} (unless the gateway maps names by AuthorizedPrincipalsFile)"
        ));
    }
    if let Some(addresses) = option(certificate, "source-address") {
        return Some(format!(
            "the certificate is valid from {addresses} only (source-address), and the gateway sees the address of this host's firewall or proxy: compare the two with the vendor"
        ));
    }
    let options = certificate.critical_options();
    let unknown = options
        .iter()
        .find(|(name, _)| !KNOWN_OPTIONS.contains(&name.as_str()));
    if let Some((name, _)) = unknown {
        let name = crate::printable::printable(name, 64);
        return Some(format!(
            "the certificate has the critical option {name:?}, and a gateway that does not know it must refuse the certificate: \
             ask the vendor for one without it"
        ));
    }
    if matches!(certificate.algorithm(), Algorithm::Rsa { .. }) {
        return Some(
            "ask the vendor to trust the certificate's CA (TrustedUserCAKeys). OpenSSH before 7.8 accepts certificates of RSA keys with SHA-1 only, which the agent does not sign: use an Ed25519 key there".to_owned(),
        );
    }
    None
}

/// A critical option of a certificate (PROTOCOL.certkeys).
fn option<'a>(certificate: &'a Certificate, name: &str) -> Option<&'a str> {
    let options = certificate.critical_options();
    let found = options.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str())
}

/// Why a key or its certificate cannot be used. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SshIdentityError {
    /// The file is missing, unreadable, or accessible to others.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Not in OpenSSH's format: PEM, PKCS#8, PuTTY, or a public key.
    #[error(
        "{} is not an OpenSSH private key ({problem}); {remedy}", path.display()
    )]
    NotOpenSsh {
        /// Path of the key file.
        path: PathBuf,
        /// What was found instead.
        problem: String,
        /// How to convert or what to name.
        remedy: String,
    },
    /// The key is encrypted, and no passphrase is configured.
    #[error(
        "{} is encrypted; name a file with its passphrase in tunnel.identity_passphrase_file", .0.display()
    )]
    PassphraseMissing(PathBuf),
    /// The passphrase does not decrypt the key.
    #[error(
        "the passphrase does not decrypt {}; check with: ssh-keygen -y -f {}", .0.display(), .0.display()
    )]
    PassphraseWrong(PathBuf),
    /// A key of an unsupported type: DSA, FIDO, short RSA.
    #[error(
        "{} contains a key that cannot be used ({problem}); make one with: ssh-keygen -t ed25519 -f {}", path.display(), path.display()
    )]
    Unsuitable {
        /// Path of the key file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate exists and cannot be read.
    #[error(
        "{} cannot be read ({problem}); make it readable to the user the agent runs as, or remove it", path.display()
    )]
    CertificateUnreadable {
        /// Path of the certificate file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// Not a user certificate for this key.
    #[error(
        "{} is not a certificate for this key ({problem}); ask the vendor for one made from {}.pub, or remove it",
        path.display(), path.display().to_string().trim_end_matches("-cert.pub")
    )]
    CertificateUnfit {
        /// Path of the certificate file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

pub(super) fn parse(path: &Path, text: &[u8]) -> Result<PrivateKey, SshIdentityError> {
    let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let wrong = |problem: &str, remedy: String| {
        Err(SshIdentityError::NotOpenSsh {
            path: path.to_owned(),
            problem: problem.to_owned(),
            remedy,
        })
    };
    let shown = path.display();
    if first.starts_with("PuTTY-") {
        return wrong(
            "it is a PuTTY key",
            "export it with PuTTYgen, \"Export OpenSSH key\"".to_owned(),
        );
    }
    if first.starts_with("ssh-") || first.starts_with("ecdsa-") {
        return wrong(
            "it is a public key",
            "name the file without .pub".to_owned(),
        );
    }
    if first.starts_with("---- BEGIN SSH2 ") {
        return wrong(
            "it is in the form of ssh.com's programs",
            format!("convert it with: ssh-keygen -i -f {shown} > {shown}.new"),
        );
    }
    if first.starts_with("-----BEGIN ") && !first.starts_with(OPENSSH_HEADER) {
        return match first.trim_end() {
            label if label.contains("CERTIFICATE") || label.contains("PUBLIC KEY") => wrong(
                "it is a certificate or a public key",
                "name the file of the private key".to_owned(),
            ),
            PKCS8 | PKCS8_ENCRYPTED => wrong(
                "it is in PKCS#8 form",
                format!(
                    "convert it with: ssh-keygen -p -f {shown} (for an Ed25519 key that takes OpenSSH 9.6 or later; or make a new key with: \
                     ssh-keygen -t ed25519 -f {shown}.new, and give the vendor {shown}.new.pub)"
                ),
            ),
            _ => wrong(
                "it is in PEM form",
                format!("convert it with: ssh-keygen -p -f {shown}"),
            ),
        };
    }
    if first.starts_with(BYTE_ORDER_MARK) {
        return wrong(
            "it begins with a byte order mark",
            "save it as UTF-8 without that mark".to_owned(),
        );
    }
    let found = PrivateKey::from_openssh(text).or_else(|error| match rewrapped(text) {
        Some(text) => PrivateKey::from_openssh(&**text),
        None => Err(error),
    });
    found.or_else(|error| {
        wrong(
            &error.to_string(),
            format!("copy it whole, each line as it is; check with: ssh-keygen -y -f {shown}"),
        )
    })
}

/// A key as it was pasted, written as ssh-keygen writes it. As ssh does, this looks at neither the spaces in it, nor the
/// length of its lines, nor what comes behind it. None where it does not begin as a key.
fn rewrapped(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.strip_prefix(OPENSSH_HEADER.as_bytes())?;
    let footer = OPENSSH_FOOTER.as_bytes();
    let end = body.windows(footer.len()).position(|part| part == footer)?;
    let body = body.get(..end)?.iter().filter(|b| !b.is_ascii_whitespace());
    // All at once: growing would leave copies behind.
    let mut key = Zeroizing::new(Vec::with_capacity(text.len() * 2 + 2 * footer.len()));
    key.extend_from_slice(OPENSSH_HEADER.as_bytes());
    for (at, byte) in body.enumerate() {
        if at % PEM_WIDTH == 0 {
            key.push(b'\n');
        }
        key.push(*byte);
    }
    key.push(b'\n');
    key.extend_from_slice(footer);
    key.push(b'\n');
    Some(key)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the crate adds algorithms")]
fn check_kind(path: &Path, key: &PrivateKey) -> Result<(), SshIdentityError> {
    let unsuitable = |problem: String| {
        Err(SshIdentityError::Unsuitable {
            path: path.to_owned(),
            problem,
        })
    };
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(()),
        Algorithm::Rsa { .. } => match key.public_key().key_data().rsa() {
            Some(rsa) if rsa.key_size() >= MIN_RSA_BITS => Ok(()),
            _ => unsuitable(format!("RSA of less than {MIN_RSA_BITS} bits")),
        },
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            unsuitable("it is in a security key that a person must touch".to_owned())
        }
        other => unsuitable(format!("{other} is not supported")),
    }
}

fn parse_certificate(
    path: &Path,
    text: &[u8],
    key: &PrivateKey,
) -> Result<Certificate, SshIdentityError> {
    let unfit = |problem: String| SshIdentityError::CertificateUnfit {
        path: path.to_owned(),
        problem,
    };
    // As ssh does: comments and other lines before it are skipped, and everything after the key, in any encoding.
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines
        .find(|line| line.contains("-cert-v01@"))
        .unwrap_or_default();
    let fields: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
    let certificate =
        Certificate::from_openssh(&fields.join(" ")).map_err(|error| unfit(error.to_string()))?;
    if certificate.cert_type() != CertType::User {
        return Err(unfit("it is a host certificate".to_owned()));
    }
    if certificate.public_key() != key.public_key().key_data() {
        let theirs = ssh_key::PublicKey::from(certificate.public_key().clone());
        return Err(unfit(format!(
            "it was made for the key {}",
            theirs.fingerprint(HashAlg::Sha256)
        )));
    }
    Ok(certificate)
}

/// OpenSSH's own rule: `id_ed25519` has its certificate in `id_ed25519-cert.pub`.
fn certificate_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-cert.pub");
    PathBuf::from(name)
}

const OPENSSH_HEADER: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
/// Critical options that OpenSSH knows (ssh-keygen(1)).
const KNOWN_OPTIONS: [&str; 3] = ["force-command", "source-address", "verify-required"];
/// Bytes. A certificate has a few KiB.
const MAX_CERTIFICATE: u64 = 64 << 10;
const OPENSSH_FOOTER: &str = "-----END OPENSSH PRIVATE KEY-----";
/// Characters in a line of an OpenSSH key.
const PEM_WIDTH: usize = 70;
const BYTE_ORDER_MARK: char = '\u{feff}';
const PKCS8: &str = "-----BEGIN PRIVATE KEY-----";
const PKCS8_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
/// Below it OpenSSH refuses the key by default too (`RequiredRSASize` is 1024, NIST says 2048).
const MIN_RSA_BITS: u32 = 2048;

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
