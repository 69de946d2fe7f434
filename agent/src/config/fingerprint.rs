//! Fingerprint of a section, to detect whether a reload changes it.

use super::{raw, units::HumanDuration};
use crate::upstream::CloudRoute;
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// The keys of a section, with defaults, and digests of the files that are read once. Equal fingerprints give equal
/// settings. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFingerprint {
    keys: FingerprintedKeys,
    /// For an upstream: the route that the keys of `[forward.auth]` select.
    cloud: Option<CloudRoute>,
    files: FileDigests,
}

#[derive(Clone, PartialEq, Eq)]
enum FingerprintedKeys {
    Tunnel(Box<raw::RawTunnel>),
    Forward(Box<raw::RawForward>),
    Auth(Box<raw::RawAuth>),
    Outlet(Box<raw::RawOutlet>),
}

impl ConfigFingerprint {
    /// Of `[tunnel]`, without the keys that apply to open sessions: their number, gateways and drain limit.
    pub(super) fn of_tunnel(raw: &raw::RawTunnel, files: FileDigests) -> Self {
        let fixed_keys = raw::RawTunnel {
            connections: 1,
            gateways: Vec::new(),
            drain_limit: HumanDuration(Duration::ZERO),
            ..raw.clone()
        };
        Self {
            keys: FingerprintedKeys::Tunnel(Box::new(fixed_keys)),
            cloud: None,
            files,
        }
    }

    /// Of the upstream in `[[forward]]`: without `bind` and the inner sections.
    pub(super) fn of_upstream(
        raw: &raw::RawForward,
        cloud: Option<CloudRoute>,
        files: FileDigests,
    ) -> Self {
        let upstream_keys = raw::RawForward {
            bind: String::new(),
            auth: raw::RawAuth::default(),
            policy: raw::RawPolicy::default(),
            headers: raw::RawHeaders::default(),
            http: raw::RawHttp::default(),
            ..raw.clone()
        };
        Self {
            keys: FingerprintedKeys::Forward(Box::new(upstream_keys)),
            cloud,
            files,
        }
    }

    /// Names of the keys and files that differ between two upstreams. Empty if they are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (FingerprintedKeys::Forward(old), FingerprintedKeys::Forward(new)) =
            (&self.keys, &other.keys)
        else {
            return Vec::new();
        };
        macro_rules! changed {
            ($($key:ident),*) => { [$((stringify!($key), old.$key != new.$key)),*] };
        }
        let keys = changed!(
            upstream,
            service,
            health,
            login,
            address,
            roots,
            ca_file,
            client_certificate_file,
            client_key_file,
            server_name,
            max_connections,
            pool_wait,
            idle_timeout,
            connect_timeout,
            response_timeout,
            tcp_idle_timeout
        );
        let changed = keys.into_iter().filter(|(_, changed)| *changed);
        let mut names: Vec<_> = changed.map(|(key, _)| key.to_owned()).collect();
        let content = self.files.iter().filter(|(path, digest)| {
            let now = other.files.get(*path);
            now.is_some_and(|now| now != *digest)
        });
        names.extend(content.map(|(path, _)| {
            let name = path.file_name().unwrap_or(path.as_os_str());
            format!("content of {}", name.to_string_lossy())
        }));
        // The route selected by `[forward.auth]`, or a key of another version.
        if names.is_empty() && self != other {
            names.push("upstream".to_owned());
        }
        names
    }

    /// Of `[[outlet]]`, with the files that are read once.
    pub(super) fn of_outlet(raw: &raw::RawOutlet, files: FileDigests) -> Self {
        Self {
            keys: FingerprintedKeys::Outlet(Box::new(raw.clone())),
            cloud: None,
            files,
        }
    }

    /// Of `[forward.auth]`, with the files that are read once.
    pub(super) fn of_auth(raw: &raw::RawAuth, files: FileDigests) -> Self {
        Self {
            keys: FingerprintedKeys::Auth(Box::new(raw.clone())),
            cloud: None,
            files,
        }
    }
}

/// SHA-256 digests of files, by path.
pub(super) type FileDigests = BTreeMap<PathBuf, [u8; 32]>;

/// Records the files read for one section after another.
#[derive(Default)]
pub(super) struct ReadRecorder(RefCell<FileDigests>);

impl ReadRecorder {
    pub(super) fn note(&self, path: &Path, content: &[u8]) {
        let digest = Sha256::digest(content).into();
        self.0.borrow_mut().insert(path.to_owned(), digest);
    }

    /// The files read since the last call.
    pub(super) fn take(&self) -> FileDigests {
        self.0.take()
    }
}
