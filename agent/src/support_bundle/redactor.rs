//! Removes secrets from text: those in this agent's files, in any encoding, and whatever looks like one.
//!
//! No part should contain a secret in the first place. This is the second line of defense, such as for the journal of a
//! unit in which an administrator has put a password.

use super::secret_patterns;
use crate::config::AgentPaths;
use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use std::{fs, path::Path};
use zeroize::Zeroizing;

/// Removes a set of known secrets, and whatever looks like one.
pub struct Redactor {
    known: Option<AhoCorasick>,
}

impl std::fmt::Debug for Redactor {
    /// It holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Reads every secret that this process may read: the files in the configuration, and the stored tokens. Blocks on
    /// the disk.
    pub fn of(paths: &AgentPaths) -> Self {
        let mut secrets = Vec::new();
        for file in &paths.secret_files {
            secrets.extend(read(file));
        }
        let tokens = fs::read_dir(paths.state_dir.join("tokens"));
        for entry in tokens.into_iter().flatten().flatten().take(MAX_FILES) {
            secrets.extend(read(&entry.path()).into_iter().flat_map(tokens_in));
        }
        Self::for_secrets(secrets.iter().map(|secret| secret.as_slice()))
    }

    /// A redactor for these secrets: each as a whole, and each of its lines.
    pub fn for_secrets<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut needles: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let lines = secret.split(|byte| *byte == b'\n');
            for piece in std::iter::once(secret).chain(lines) {
                let piece = piece.trim_ascii();
                if piece.len() >= MIN_SECRET && !is_heading(piece) {
                    needles.extend(forms(piece));
                }
            }
        }
        needles.sort();
        needles.dedup();
        let known = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&needles);
        // It fails only if it becomes too large; a secret has at most 64 KiB.
        Self { known: known.ok() }
    }

    /// The text without secrets, and how many were removed.
    pub fn redact(&self, text: &str) -> (String, usize) {
        let Some(known) = &self.known else {
            return (String::new(), 1);
        };
        let mut count = 0;
        // As bytes: a binary secret may begin in the middle of a character.
        let mut clean = Vec::with_capacity(text.len());
        known.replace_all_with_bytes(text.as_bytes(), &mut clean, |_, _, out| {
            count += 1;
            out.extend_from_slice(REMOVED.as_bytes());
            true
        });
        let (clean, alike) = secret_patterns::redact(&String::from_utf8_lossy(&clean));
        (clean, count + alike)
    }
}

/// The text that replaces a secret.
pub(super) const REMOVED: &str = "[removed]";

fn read(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let found = fs::metadata(path).ok()?;
    let small = found.is_file() && found.len() <= MAX_SECRET;
    let bytes = small.then(|| fs::read(path).ok()).flatten()?;
    Some(Zeroizing::new(bytes))
}

/// The secrets in a token file; all of a file that cannot be understood.
fn tokens_in(file: Zeroizing<Vec<u8>>) -> Vec<Zeroizing<Vec<u8>>> {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&file) else {
        return vec![file];
    };
    let members = ["access", "access_secret", "refresh"].iter();
    let tokens = members.filter_map(|name| document["tokens"][name].as_str());
    tokens
        .map(|token| Zeroizing::new(token.as_bytes().to_vec()))
        .collect()
}

/// The first and last line of a key are the same in every key.
fn is_heading(piece: &[u8]) -> bool {
    piece.starts_with(b"-----") && !piece.contains(&b'\n')
}

/// The secret itself, in JSON, percent-encoded, and in Base64 at any offset.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    let text = String::from_utf8_lossy(secret);
    if let Ok(json) = serde_json::to_string(&text) {
        forms.push(json.trim_matches('"').as_bytes().to_vec());
    }
    let percent = percent_encode(secret, NON_ALPHANUMERIC).to_string();
    forms.push(percent.to_lowercase().into_bytes());
    forms.push(percent.into_bytes());
    let usual = percent_encode(secret, UNRESERVED).to_string();
    forms.push(usual.replace("%20", "+").into_bytes());
    forms.push(usual.into_bytes());
    let every_byte: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    forms.push(every_byte.to_lowercase().into_bytes());
    forms.push(every_byte.into_bytes());
    for before in 0..3_usize {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret);
        // Only the characters that depend on the secret alone.
        let (begin, end) = ([0, 2, 3][before], bytes.len() * 8 / 6);
        for encoded in [
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            if end >= begin + MIN_SECRET {
                forms.push(encoded.as_bytes()[begin..end].to_vec());
            }
        }
    }
    forms.retain(|form| form.len() >= MIN_SECRET);
    forms
}

/// RFC 3986 §2.3.
const UNRESERVED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Bytes. A shorter secret would match ordinary words, and reveal itself by its absence.
const MIN_SECRET: usize = 6;
/// Bytes; see `secret.rs`.
const MAX_SECRET: u64 = 64 << 10;
/// Token files: one for each forward, at most a hundred, with their locks.
const MAX_FILES: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const SECRET: &str = "p\u{e4}ss/word+\"7\"&x";

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let redactor = Redactor::for_secrets([SECRET.as_bytes()]);
        let encoded = percent_encode(SECRET.as_bytes(), NON_ALPHANUMERIC).to_string();
        let mut paths = vec![
            SECRET.to_owned(),
            serde_json::to_string(SECRET).unwrap(),
            encoded.to_lowercase(),
            encoded,
        ];
        for before in ["", "a", "ab", "abc", "name:"] {
            paths.push(STANDARD.encode(format!("{before}{SECRET}")));
            paths.push(STANDARD.encode(format!("{before}{SECRET} and more")));
        }
        for place in paths {
            let (clean, count) = redactor.redact(&format!("before {place} after"));
            assert_eq!(count, 1, "{place}: {clean}");
            assert!(
                clean.starts_with("before ") && clean.ends_with(" after"),
                "{clean}"
            );
            // No more than what the bytes beside the secret decide with it.
            assert!(
                clean.len() <= "before  after".len() + REMOVED.len() + 24,
                "{clean}"
            );
        }
    }

    #[test]
    fn each_line_of_a_key_is_a_secret_and_its_headings_are_not() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\nAnotherLineOfTheKey1\n-----END PRIVATE KEY-----\n";
        let redactor = Redactor::for_secrets([key.as_bytes()]);
        assert_eq!(
            redactor.redact("x AnotherLineOfTheKey1 y").0,
            "x [removed] y"
        );
        assert_eq!(redactor.redact("-----END PRIVATE KEY-----").1, 0);
        let as_json = redactor.redact(&key.replace('\n', "\\n")).0;
        assert!(!as_json.contains("MIIEvQ"), "{as_json}");
        assert!(!as_json.contains("AnotherLine"), "{as_json}");
    }

    #[test]
    fn a_secret_that_is_no_text_spoils_no_text() {
        let redactor = Redactor::for_secrets([&b"\xa4abcdefgh"[..]]);
        let (clean, _) = redactor.redact("\u{e4}abcdefgh");
        assert!(!clean.contains("abcdefgh"), "{clean}");
    }

    #[test]
    fn of_a_token_file_the_tokens_are_secret_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let file = r#"{"version":1,"mode":"oauth2","issuer":"https://jira.corp.example","tokens":
            {"access":"token-that-works","refresh":"token-that-renews","user":"acme-bot"}}"#;
        fs::write(folder.path().join("tokens/jira.json"), file).unwrap();
        let redactor = Redactor::of(&AgentPaths {
            runtime_dir: folder.path().to_owned(),
            state_dir: folder.path().to_owned(),
            audit_file: None,
            secret_files: Vec::new(),
        });
        let text = "oauth2 https://jira.corp.example acme-bot token-that-works token-that-renews";
        let clean = "oauth2 https://jira.corp.example acme-bot [removed] [removed]";
        assert_eq!(redactor.redact(text), (clean.to_owned(), 2));
    }

    #[test]
    fn short_words_are_not_taken_out() {
        let redactor = Redactor::for_secrets([&b"jira"[..]]);
        assert_eq!(redactor.redact("jira is up"), ("jira is up".to_owned(), 0));
    }
}
