//! Which algorithms are offered to a gateway, in which order.

use super::HostKeys;
use crate::tunnel::GatewayAddress;
use agent_ssh::algorithms::{self, HOST_KEYS};
use russh::{Preferred, keys::Algorithm};
use std::borrow::Cow;

/// The algorithms to offer this gateway: host key types that are known for it come first, and host certificates only if a
/// CA is trusted for it. `seen`: types of untrusted host keys that it has presented; it may have others.
pub(super) fn preferred(
    host_keys: &HostKeys,
    gateway: &GatewayAddress,
    seen: &[Algorithm],
) -> Preferred {
    let (host, port) = (gateway.host.as_str(), gateway.port);
    let known = host_keys.key_types(host, port);
    let mut keys = HOST_KEYS.to_vec();
    // A gateway with several keys must present the one we know. The sort is stable.
    let among =
        |list: &[Algorithm], offered: &Algorithm| list.iter().any(|one| same_type(one, offered));
    keys.sort_by_key(|offered| (among(seen, offered), !among(&known, offered)));
    let certificates = match host_keys.trusts_a_ca_for(host, port) {
        true => Cow::Borrowed(HOST_KEYS),
        false => Cow::Borrowed(&[][..]),
    };
    Preferred {
        key: Cow::Owned(keys),
        host_key_certificates: certificates,
        ..algorithms::preferred()
    }
}

fn same_type(known: &Algorithm, offered: &Algorithm) -> bool {
    let rsa = |a: &Algorithm| matches!(a, Algorithm::Rsa { .. });
    known == offered || (rsa(known) && rsa(offered))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::test_keys::ed25519;
    use super::*;
    use russh::{cipher, kex};
    use std::path::Path;

    fn gateway() -> GatewayAddress {
        "gw1.vendor.example:443".parse().unwrap()
    }

    fn host_keys(known_hosts: &str) -> HostKeys {
        HostKeys::new(vec![], Some((Path::new("known_hosts"), known_hosts))).unwrap()
    }

    fn line(hosts: &str) -> String {
        format!("{hosts} {}\n", ed25519().public_key().to_openssh().unwrap())
    }

    #[test]
    fn post_quantum_comes_first_and_strict_key_exchange_stays_on() {
        let preferred = preferred(&host_keys(&line("*")), &gateway(), &[]);
        assert_eq!(preferred.kex[0], kex::MLKEM768X25519_SHA256);
        assert_eq!(preferred.kex[1], kex::CURVE25519);
        for marker in [
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
        ] {
            assert!(preferred.kex.contains(&marker), "{marker:?}");
        }
        assert_eq!(preferred.cipher[0], cipher::AES_128_GCM);
    }

    #[test]
    fn nothing_with_sha1_is_offered() {
        let preferred = preferred(&host_keys(&line("*")), &gateway(), &[]);
        assert!(!preferred.key.contains(&Algorithm::Rsa { hash: None }));
        let names = |list: Vec<&str>| list.into_iter().any(|n| n.contains("sha1"));
        assert!(!names(preferred.kex.iter().map(AsRef::as_ref).collect()));
        assert!(!names(preferred.mac.iter().map(AsRef::as_ref).collect()));
    }

    #[test]
    fn certificates_are_asked_for_only_where_an_authority_is_known() {
        let bare = preferred(&host_keys(&line("*")), &gateway(), &[]);
        assert!(bare.host_key_certificates.is_empty());
        let authority = host_keys(&line("@cert-authority *.vendor.example"));
        assert!(
            !preferred(&authority, &gateway(), &[])
                .host_key_certificates
                .is_empty()
        );
    }

    #[test]
    fn the_key_type_in_known_hosts_is_asked_for_first() {
        let ecdsa = "gw1.vendor.example ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=\n";
        let preferred = preferred(&host_keys(ecdsa), &gateway(), &[]);
        assert!(
            matches!(preferred.key[0], Algorithm::Ecdsa { .. }),
            "{:?}",
            preferred.key
        );
    }

    #[test]
    fn a_type_that_was_presented_and_is_not_the_pinned_one_is_asked_for_last() {
        let host_keys = host_keys(&line("*"));
        let seen = [Algorithm::Ed25519, Algorithm::Rsa { hash: None }];
        let preferred = preferred(&host_keys, &gateway(), &seen);
        assert!(matches!(preferred.key[0], Algorithm::Ecdsa { .. }));
        assert_eq!(preferred.key.len(), HOST_KEYS.len(), "and still offered");
        assert!(matches!(preferred.key[5], Algorithm::Rsa { .. }));
    }
}
