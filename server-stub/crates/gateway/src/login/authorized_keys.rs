//! One authorized_keys file (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"): finds a key and reads its options.

use super::{LoginGrant, LoginRefusal, PermittedBind};
use russh::keys::{HashAlg, PublicKey};

/// Decides by the first line with this key; `None` if no line has it.
pub(super) fn find(text: &str, key: &PublicKey) -> Option<Result<LoginGrant, LoginRefusal>> {
    lines(text)
        .find(|(_, found)| found.key_data() == key.key_data())
        .map(|(options, found)| {
            Ok(LoginGrant {
                by: found.fingerprint(HashAlg::Sha256).to_string(),
                binds: permitted(options)?,
            })
        })
}

/// The keys on lines without options. Lines with options are skipped, because their restrictions
/// would be lost.
pub(super) fn plain(text: &str) -> Vec<PublicKey> {
    lines(text)
        .filter(|(options, _)| options.is_empty())
        .map(|(_, key)| key)
        .collect()
}

/// Options and key of each line that has a key. Malformed lines are skipped.
fn lines(text: &str) -> impl Iterator<Item = (&str, PublicKey)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        if let Ok(key) = PublicKey::from_openssh(line) {
            return Some(("", key));
        }
        let (options, rest) = split_unquoted(line, |c| c == ' ' || c == '\t')?;
        let key = PublicKey::from_openssh(rest.trim_start()).ok()?;
        Some((options, key))
    })
}

/// Applies the options that restrict forwards. Those about shells, terminals and outgoing connections
/// are always in effect here. Any other option refuses the key, because it may be a restriction.
fn permitted(options: &str) -> Result<Option<Vec<PermittedBind>>, LoginRefusal> {
    let mut forwarding = true;
    let mut binds = None;
    let mut rest = options;
    while !rest.is_empty() {
        let (option, next) = split_unquoted(rest, |c| c == ',').unwrap_or((rest, ""));
        rest = next;
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let refused = || LoginRefusal::Option(option.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "restrict" | "no-port-forwarding" => forwarding = false,
            "port-forwarding" => forwarding = true,
            "permitlisten" => {
                let value = value.trim_matches('"');
                let (host, port) = value.rsplit_once(':').unwrap_or(("*", value));
                let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
                let host = bare.unwrap_or(host);
                let port = match port {
                    "*" => None,
                    number => Some(number.parse().map_err(|_| refused())?),
                };
                binds.get_or_insert_with(Vec::new).push(PermittedBind {
                    host: (host != "*").then(|| host.to_owned()),
                    port,
                });
            }
            "command"
            | "environment"
            | "permitopen"
            | "tunnel"
            | "pty"
            | "no-pty"
            | "user-rc"
            | "no-user-rc"
            | "agent-forwarding"
            | "no-agent-forwarding"
            | "x11-forwarding"
            | "no-x11-forwarding"
            | "no-touch-required" => {}
            _ => return Err(refused()),
        }
    }
    if forwarding {
        Ok(binds)
    } else {
        Err(LoginRefusal::NoForwarding)
    }
}

/// Splits at the first separator outside double quotes and drops that separator.
fn split_unquoted(text: &str, separator: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == '"' && !escaped {
            quoted = !quoted;
        } else if !quoted && separator(c) {
            return Some((text.get(..at)?, text.get(at + c.len_utf8()..)?));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use russh::keys::{PrivateKey, ssh_key::private::Ed25519Keypair};

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
            .public_key()
            .clone()
    }

    fn granted(options: &str) -> Result<LoginGrant, LoginRefusal> {
        let key = key(1);
        find(&format!("{options} {}", key.to_openssh().unwrap()), &key).unwrap()
    }

    #[test]
    fn a_broken_line_hides_no_other() {
        let text = format!(
            "# keys\n\nnonsense\nssh-ed25519 AAAA broken\n{} jane doe at work\n",
            key(1).to_openssh().unwrap()
        );
        assert!(find(&text, &key(1)).unwrap().is_ok());
        assert!(find(&text, &key(2)).is_none());
    }

    #[test]
    fn permitlisten_names_the_ports_that_may_be_bound() {
        let grant = granted(
            r#"restrict,port-forwarding,permitlisten="localhost:8080",permitlisten="9090""#,
        )
        .unwrap();
        assert!(grant.permits("localhost", 8080) && grant.permits("127.0.0.1", 9090));
        // In the same words, as with OpenSSH: another agent may be called at another loopback address.
        assert!(!grant.permits("127.0.0.1", 8080) && !grant.permits("::1", 8080));
        assert!(!grant.permits("localhost", 8081) && !grant.permits("localhost", 0));
        let six = granted(r#"permitlisten="[::1]:8080""#).unwrap();
        assert!(six.permits("::1", 8080) && !six.permits("127.0.0.1", 8080));
        let any = granted(r#"permitlisten="*:*""#).unwrap();
        assert!(any.permits("127.0.0.1", 0));
        assert!(granted("no-pty").unwrap().permits("localhost", 0));
    }

    #[test]
    fn a_key_without_forwarding_or_with_an_unknown_restriction_is_refused() {
        assert!(matches!(
            granted("restrict"),
            Err(LoginRefusal::NoForwarding)
        ));
        for option in [
            r#"from="10.0.0.0/8""#,
            "cert-authority",
            r#"expiry-time="20260101""#,
            r#"permitlisten="x:y""#,
        ] {
            assert!(
                matches!(granted(option), Err(LoginRefusal::Option(_))),
                "{option}"
            );
        }
    }

    #[test]
    fn quotes_protect_spaces_and_commas() {
        assert!(granted(r#"command="echo a, b",no-pty"#).is_ok());
        assert!(granted(r#"command="say \"hi\", then go",no-pty"#).is_ok());
    }
}
