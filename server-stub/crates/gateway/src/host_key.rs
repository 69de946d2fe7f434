//! The gateway's Ed25519 host key, created on the first start.

use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Reads `ssh_host_ed25519_key` in `dir`, or creates it. Refuses a file that others can read, as
/// OpenSSH does. Blocks on disk access.
pub(super) fn load_or_create(dir: &Path) -> Result<PrivateKey, HostKeyError> {
    let path = dir.join(FILE);
    let failed = |source| HostKeyError::Io {
        path: path.clone(),
        source,
    };
    match fs::metadata(&path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            return Err(HostKeyError::UnsafePermissions(path));
        }
        Ok(_) => return read(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    create(dir, &path).map_err(failed)?;
    // Read back, so that two gateways that start at once both use the key on disk.
    read(&path)
}

/// The known_hosts line of this key.
pub(super) fn known_hosts_line(key: &PrivateKey, address: std::net::SocketAddr) -> String {
    let public = key.public_key().to_openssh().unwrap_or_default();
    let key = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
    match address.port() {
        22 => format!("{} {key}", address.ip()),
        port => format!("[{}]:{port} {key}", address.ip()),
    }
}

fn read(path: &Path) -> Result<PrivateKey, HostKeyError> {
    let text = fs::read_to_string(path).map_err(|source| HostKeyError::Io {
        path: path.to_owned(),
        source,
    })?;
    PrivateKey::from_openssh(text).map_err(|source| HostKeyError::Format {
        path: path.to_owned(),
        source,
    })
}

fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()));
    let text = key
        .to_openssh(LineEnding::LF)
        .map_err(|error| io::Error::other(error.to_string()))?;
    // Created with mode 0600, complete before it gets its name.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => fs::File::open(dir)?.sync_all(),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file could not be read or written.
    #[error("host key {}: {source}", path.display())]
    Io {
        /// Path of the host key.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not an OpenSSH private key.
    #[error("host key {}: {source}; move the file away to create a new key", path.display())]
    Format {
        /// Path of the host key.
        path: PathBuf,
        /// The error of the parser.
        source: russh::keys::ssh_key::Error,
    },
    /// Others can read the file.
    #[error("host key {}: others can read it; run `chmod 600` on it", .0.display())]
    UnsafePermissions(PathBuf),
}

const FILE: &str = "ssh_host_ed25519_key";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_key_is_made_once_with_mode_0600_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let second = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        let mode = fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            load_or_create(dir.path()),
            Err(HostKeyError::UnsafePermissions(_))
        ));
    }

    #[test]
    fn known_hosts_lines_name_a_port_other_than_22_in_brackets() {
        let dir = tempfile::tempdir().unwrap();
        let key = load_or_create(dir.path()).unwrap();
        let line = known_hosts_line(&key, "127.0.0.1:2222".parse().unwrap());
        assert!(
            line.starts_with("[127.0.0.1]:2222 ssh-ed25519 AAAA"),
            "{line}"
        );
        let line = known_hosts_line(&key, "127.0.0.1:22".parse().unwrap());
        assert!(line.starts_with("127.0.0.1 ssh-ed25519 AAAA"), "{line}");
    }
}
