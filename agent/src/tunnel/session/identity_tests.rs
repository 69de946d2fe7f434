#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::super::test_keys;
use super::*;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, text: &str, phrase: Option<&str>) -> Result<SshIdentity, SshIdentityError> {
        let path = self.write("id", text, 0o600);
        let phrase = phrase.map(|p| Secret::new(p.as_bytes().to_vec()));
        SshIdentity::load(&SecretFile::new(path), phrase.as_ref())
    }
}

fn openssh(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

#[test]
fn a_plain_key_is_loaded_without_a_certificate() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let identity = folder.load(&openssh(&key), None).unwrap();
    assert_eq!(identity.fingerprint(), test_keys::fingerprint(&key));
    assert!(identity.certificate.is_none());
}

#[test]
fn a_certificate_beside_the_key_is_used() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let ca = test_keys::ed25519();
    let certificate = test_keys::user_certificate(&key, &ca, "acme");
    folder.write("id-cert.pub", &certificate.to_openssh().unwrap(), 0o644);
    let identity = folder.load(&openssh(&key), None).unwrap();
    assert_eq!(identity.certificate.as_ref(), Some(&certificate));
    assert!(format!("{identity:?}").contains("acme"));
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let ca = test_keys::ed25519();
    let write = |user: &str| {
        let certificate = test_keys::user_certificate(&key, &ca, user);
        folder.write("id-cert.pub", &certificate.to_openssh().unwrap(), 0o644);
        certificate
    };
    write("acme");
    let identity = folder.load(&openssh(&key), None).unwrap();
    let renewed = write("acme2");
    assert_eq!(identity.certificate().await, Some(renewed.clone()));
    folder.write("id-cert.pub", "half a certi", 0o644);
    assert!(
        identity.certificate().await.is_some(),
        "the last good one stays"
    );
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let folder = Folder::new();
    let ca = test_keys::ed25519();
    let certificate = test_keys::user_certificate(&test_keys::ed25519(), &ca, "acme");
    folder.write("id-cert.pub", &certificate.to_openssh().unwrap(), 0o644);
    let error = folder
        .load(&openssh(&test_keys::ed25519()), None)
        .unwrap_err();
    assert!(error.to_string().contains("id-cert.pub"), "{error}");
}

/// As ssh 9.2 reads it: seen there with each of these.
#[test]
fn a_key_is_read_however_its_lines_were_wrapped_when_it_was_pasted() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let text = openssh(&key);
    let lines: Vec<&str> = text.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    let small_segments: Vec<&str> = body
        .as_bytes()
        .chunks(50)
        .map(|part| str::from_utf8(part).unwrap())
        .collect();
    let whole = |body: &str| format!("{OPENSSH_HEADER}\n{body}\n{OPENSSH_FOOTER}\n");
    for pasted in [
        format!("{text}\n\n"),
        format!("{text}with kind regards\n"),
        text.replace('\n', "\n\n"),
        text.replace('\n', " \t\r\n"),
        whole(&body),
        whole(&small_segments.join("\n")),
        whole(&format!("  {}", small_segments.join("\n  "))),
    ] {
        let identity = folder.load(&pasted, None);
        let identity = identity.unwrap_or_else(|error| panic!("{pasted}: {error}"));
        assert_eq!(identity.fingerprint(), test_keys::fingerprint(&key));
    }
    for (broken, named) in [
        (format!("\u{feff}{text}"), "byte order mark"),
        (text[..200].to_owned(), "copy it whole"),
        (whole(&body[..200]), "copy it whole"),
    ] {
        let error = folder.load(&broken, None).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// The same of its certificate.
#[test]
fn a_certificate_is_read_with_whatever_stands_around_it() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let certificate = test_keys::user_certificate(&key, &test_keys::ed25519(), "acme");
    let line = certificate.to_openssh().unwrap();
    let line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let plain = |text: String| text.into_bytes();
    for text in [
        plain(format!("# the vendor's\n\n{line}\r\n")),
        plain(format!("{line} two words # more\n{line}\n")),
        plain(line.replace(' ', "\t")),
        [line.as_bytes(), b" f\xfcr acme\n"].concat(),
    ] {
        std::fs::write(folder.0.path().join("id-cert.pub"), &text).unwrap();
        let identity = folder.load(&openssh(&key), None).unwrap();
        let found = identity.certificate.unwrap();
        assert_eq!(found.public_key(), certificate.public_key());
    }
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let folder = Folder::new();
    let key = test_keys::ed25519();
    let text = openssh(&key.encrypt(&mut safe_rng(), "correct horse").unwrap());
    assert!(matches!(
        folder.load(&text, None),
        Err(SshIdentityError::PassphraseMissing(_))
    ));
    assert!(matches!(
        folder.load(&text, Some("wrong")),
        Err(SshIdentityError::PassphraseWrong(_))
    ));
    let identity = folder.load(&text, Some("correct horse")).unwrap();
    assert_eq!(identity.fingerprint(), test_keys::fingerprint(&key));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = Folder::new();
    let path = folder.write("id", &openssh(&test_keys::ed25519()), 0o640);
    let error = SshIdentity::load(&SecretFile::new(path), None).unwrap_err();
    assert!(error.to_string().contains("chmod 0600"), "{error}");
}

#[test]
fn other_formats_are_named_with_the_way_out() {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (text, expected) in [
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4C\n",
            "OpenSSH 9.6 or later",
        ),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", "ssh-keygen -p"),
        (
            "-----BEGIN PRIVATE KEY-----\nMC4C\n",
            "OpenSSH 9.6 or later",
        ),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTYgen"),
        ("ssh-ed25519 AAAAC3Nza comment\n", "without .pub"),
        ("hello\n", "ssh-keygen -y"),
    ] {
        let error = folder.load(text, None).unwrap_err().to_string();
        if !error.contains(expected) {
            wrong.push(format!("{text:?}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_end_of_a_renewed_certificate_is_known_without_a_restart() {
    let folder = Folder::new();
    let (key, ca) = (test_keys::ed25519(), test_keys::ed25519());
    let identity = folder.load(&openssh(&key), None).unwrap();
    assert_eq!(identity.expiry().await, None);
    let write = |before: u64| {
        let mut builder = test_keys::builder(&key, 1_800_000_000, before);
        builder.cert_type(CertType::User).unwrap();
        builder.valid_principal("acme").unwrap();
        let text = builder.sign(&ca).unwrap().to_openssh().unwrap();
        folder.write("id-cert.pub", &text, 0o644);
    };
    write(1_900_000_000);
    let expiry = identity.expiry().await.unwrap();
    let end = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    assert_eq!(expiry.end, ExpiryTime::At(end));
    write(u64::MAX);
    assert_eq!(identity.expiry().await.unwrap().end, ExpiryTime::Never);
    assert!(expiry.remedy.contains("id-cert.pub"));
}

/// The remedies are sentences for people: no gap of the source's indentation is left in one.
#[test]
fn each_doubt_about_a_certificate_has_its_remedy() {
    let (key, ca) = (test_keys::ed25519(), test_keys::ed25519());
    let (year_2000, year_2100) = (946_684_800, 4_102_444_800);
    let doubt = |after, before, principal: &str, source: Option<&str>| {
        let mut builder = test_keys::builder(&key, after, before);
        builder.cert_type(CertType::User).unwrap();
        builder.valid_principal(principal).unwrap();
        if let Some(source) = source {
            builder.critical_option("source-address", source).unwrap();
        }
        certificate_problem(&builder.sign(&ca).unwrap(), "acme")
    };
    assert_eq!(doubt(year_2000, year_2100, "acme", None), None);
    for (found, words) in [
        (doubt(year_2000, year_2000 + 1, "acme", None), "has expired"),
        (doubt(year_2100, u64::MAX, "acme", None), "timedatectl"),
        (
            doubt(year_2000, year_2100, "globex", None),
            "with the principal \"acme\"",
        ),
        (
            doubt(year_2000, year_2100, "acme", Some("192.0.2.0/24")),
            "192.0.2.0/24 only (source-address)",
        ),
    ] {
        let found = found.unwrap();
        assert!(found.contains(words) && !found.contains("  "), "{found}");
    }
}
