//! The known_hosts format (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): which lines match which host. What a line means for a
//! presented key is decided in `host_key`.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns};
use sha1::Sha1;

pub(crate) use russh::keys::ssh_key::known_hosts::Marker;

/// One line that names a key.
#[derive(Clone, Debug)]
pub(crate) struct KnownHostsLine {
    entry: Entry,
}

impl KnownHostsLine {
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.entry.marker().copied()
    }

    pub(crate) fn key(&self) -> &russh::keys::PublicKey {
        self.entry.public_key()
    }

    /// Whether the line matches this name, which [`names`] returned.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self.entry.host_patterns() {
            HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mut mac| {
                    mac.update(name.as_bytes());
                    mac.verify_slice(hash).is_ok()
                }),
            HostPatterns::Patterns(patterns) => matches_list(patterns, name),
        }
    }
}

/// The names that a host is looked up by, in lower case: with its port, and, as OpenSSH does if no line names the port,
/// without.
pub(crate) fn names(host: &str, port: u16) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    if port == SSH_PORT {
        vec![host]
    } else {
        vec![format!("[{host}]:{port}"), host]
    }
}

/// A line without a usable key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedLine {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// The lines of a file that name a key, and those that were left out.
pub(crate) type KnownHosts = (Vec<KnownHostsLine>, Vec<SkippedLine>);

/// Reads a whole file. As ssh does, it skips lines that cannot be read: of SSH version 1, with an unknown type of key, or
/// none at all. A line with a marker is an error instead: skipping a revocation would be worse than not starting.
pub(crate) fn parse(content: &str) -> Result<KnownHosts, SkippedLine> {
    let (mut lines, mut skipped) = (Vec::new(), Vec::new());
    for (number, text) in content.lines().enumerate() {
        // The white space of ssh; other characters belong to a host name.
        let text = text.trim_matches([' ', '\t', '\r', '\0']);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = number + 1;
        match parse_line(text) {
            Ok(entry) => lines.push(entry),
            Err(problem) if is_marked(text) => return Err(SkippedLine { line, problem }),
            Err(problem) => skipped.push(SkippedLine { line, problem }),
        }
    }
    Ok((lines, skipped))
}

/// Whether the line has a marker, even if an editor has put invisible characters before it.
fn is_marked(text: &str) -> bool {
    let unseen =
        |c: char| c.is_whitespace() || c.is_control() || !(c.is_ascii() || c.is_alphanumeric());
    text.trim_start_matches(unseen).starts_with('@')
}

fn parse_line(text: &str) -> Result<KnownHostsLine, String> {
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(
            "it begins with a byte order mark; save the file as UTF-8 without it".to_owned(),
        );
    }
    let mut fields = text
        .split([' ', '\t'])
        .filter(|field| !field.is_empty())
        .peekable();
    let marker = fields.next_if(|f| f.starts_with('@'));
    let (Some(hosts), Some(kind), Some(key)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("expected: hosts, key type, key".to_owned());
    };
    // ssh accepts these signature names as the type of the key.
    let kind = match kind {
        "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa",
        kind => kind,
    };
    // The crate's parser knows single spaces only, and would read a comment as a part of the key.
    let normal = match marker {
        Some(marker) => format!("{marker} {hosts} {kind} {key}"),
        None => format!("{hosts} {kind} {key}"),
    };
    let entry = normal.parse().map_err(|error| {
        format!("its marker, hosts or key cannot be read ({error}); a line is whole as ssh-keyscan prints it: hosts, key type, key in base64")
    })?;
    Ok(KnownHostsLine { entry })
}

/// A list matches if one pattern does and no negated one does.
fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(negated) if wildcard(negated.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= wildcard(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `*` any run, `?` any one byte. Linear in memory and quadratic at worst in time.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                resume = Some((p + 1, t));
                p += 1;
            }
            Some(&b) if b == b'?' || b == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match resume {
                Some((after, from)) => {
                    resume = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

const SSH_PORT: u16 = 22;
/// Some editors put it before a text; ssh reads it as a part of the first host.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";

    fn speaks_of(hosts: &str, host: &str, port: u16) -> bool {
        let line = parse_line(&format!("{hosts} {KEY}")).unwrap();
        names(host, port).iter().any(|n| line.matches(n))
    }

    #[test]
    fn names_wildcards_ports_and_negation_are_matched_as_openssh_does() {
        for (hosts, host, port, expected) in [
            ("gw1.vendor.example", "gw1.vendor.example", 22, true),
            ("gw1.vendor.example", "GW1.Vendor.Example", 22, true),
            ("gw1.vendor.example", "gw2.vendor.example", 22, false),
            ("gw1.vendor.example", "gw1.vendor.example", 443, true),
            ("[gw1.vendor.example]:443", "gw1.vendor.example", 443, true),
            ("[gw1.vendor.example]:443", "gw1.vendor.example", 444, false),
            ("[gw1.vendor.example]:443", "gw1.vendor.example", 22, false),
            ("*.vendor.example", "gw1.vendor.example", 443, true),
            ("*.vendor.example", "vendor.example", 22, false),
            ("gw?.vendor.example", "gw1.vendor.example", 22, true),
            ("gw?.vendor.example", "gw12.vendor.example", 22, false),
            (
                "*.vendor.example,!gw9.vendor.example",
                "gw9.vendor.example",
                22,
                false,
            ),
            (
                "!gw9.vendor.example,*.vendor.example",
                "gw1.vendor.example",
                22,
                true,
            ),
            ("!gw9.vendor.example", "gw1.vendor.example", 22, false),
            ("a,b,192.0.2.7", "192.0.2.7", 22, true),
            ("[2001:db8::1]:2222", "2001:db8::1", 2222, true),
        ] {
            assert_eq!(
                speaks_of(hosts, host, port),
                expected,
                "{hosts} {host}:{port}"
            );
        }
    }

    #[test]
    fn a_hashed_name_speaks_of_its_host_alone() {
        // ssh-keygen -H of "gw1.vendor.example" and "[gw1.vendor.example]:443", salt of twenty bytes 0x61.
        let hash = |name: &str| {
            let salt = [0x61; 20];
            let mut mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap();
            mac.update(name.as_bytes());
            let digest = mac.finalize().into_bytes();
            let patterns = HostPatterns::HashedName {
                salt: salt.to_vec(),
                hash: digest.into(),
            };
            #[allow(clippy::to_string_in_format_args)]
            patterns.to_string()
        };
        assert!(speaks_of(
            &hash("gw1.vendor.example"),
            "gw1.vendor.example",
            22
        ));
        assert!(speaks_of(
            &hash("[gw1.vendor.example]:443"),
            "gw1.vendor.example",
            443
        ));
        assert!(!speaks_of(
            &hash("gw1.vendor.example"),
            "gw2.vendor.example",
            22
        ));
    }

    #[test]
    fn comments_blank_lines_tabs_and_trailing_comments_are_understood() {
        let text =
            format!("# comment\n\n\tgw1\t{KEY}  vendor's # key\n@revoked  *  {KEY}\n   \n# end");
        let (lines, skipped) = parse(&text).unwrap();
        assert_eq!((lines.len(), skipped.len()), (2, 0));
        assert_eq!(lines[1].marker(), Some(Marker::Revoked));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_left_out_and_named_by_its_number() {
        for bad in [
            "gw1 ssh-ed25519",
            "gw1 ssh-ed25519 notbase64!",
            "gw1 1024 35 1234567890",
            "<<<<<<< HEAD",
            "=======",
            "\u{feff}# saved by an editor",
        ] {
            let (lines, skipped) = parse(&format!("gw1 {KEY}\n{bad}\ngw2 {KEY}\n")).unwrap();
            assert_eq!(lines.len(), 2, "{bad}");
            assert_eq!((skipped.len(), skipped[0].line), (1, 2), "{bad}");
        }
    }

    /// Seen with ssh 9.2.
    #[test]
    fn only_what_ssh_takes_for_space_is_space_and_a_signatures_name_is_a_type() {
        let (_, key) = KEY.split_once(' ').unwrap();
        for host in ["\u{a0}gw1", "\u{c}gw1", "gw1\u{b}"] {
            let (lines, _) = parse(&format!("{host} {KEY}\n")).unwrap();
            assert!(!lines.iter().any(|line| line.matches("gw1")), "{host:?}");
        }
        let rsa = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQDa0m6tFqBW2bHhSWZcv5d5C4qjC8bUCwvM4T0mkcUkTtWv";
        let named = |kind: &str| {
            parse(&format!("gw1 {kind} {rsa}"))
                .unwrap()
                .1
                .remove(0)
                .problem
        };
        assert_eq!(named("rsa-sha2-512"), named("ssh-rsa"));
        let (lines, _) = parse(&format!("gw1 ssh-ed25519\t{key} \r\n")).unwrap();
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn a_line_with_a_marker_that_cannot_be_read_stops_everything() {
        for bad in [
            "@revokd * ssh-ed25519 AAAA",
            "@revoked * ssh-xmss AAAA",
            "@revoked *",
            // Put there by an editor or a page; the line would speak of a host of that name otherwise.
            "\u{feff}@revoked * ssh-ed25519 AAAA",
            "\u{a0}@revoked * ssh-ed25519 AAAA",
            "\u{200b}\u{c}@revoked * ssh-ed25519 AAAA",
        ] {
            let refused = parse(&format!("gw1 {KEY}\n{bad}\n")).unwrap_err();
            assert_eq!(refused.line, 2, "{bad}");
        }
    }
}
