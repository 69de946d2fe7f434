//! The bind that an agent requests, and the address that the gateway listens on for it: loopback, or a socket in the
//! agent's folder.

use crate::AgentName;
use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, UnixListener},
};

/// A bind as the agent requested it (RFC 4254 §7.1, `streamlocal-forward@openssh.com`); its channels
/// must name it in the same words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RequestedBind {
    Tcp { host: String, port: u16 },
    Socket(String),
}

/// The address that the gateway listens on for a bind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

impl RequestedBind {
    /// The listen address of this bind. As in OpenSSH with `GatewayPorts no`, "any address" means
    /// loopback. Other addresses are refused, and so are sockets outside the agent's folder.
    pub(crate) fn listen_address(
        &self,
        agent: &AgentName,
        agents: &Path,
    ) -> Result<ListenAddress, BindError> {
        match self {
            Self::Tcp { host, port } => {
                let ip = match host.as_str() {
                    "" | "*" | "localhost" | "0.0.0.0" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    "::" | "::1" => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    other => other
                        .parse()
                        .ok()
                        .filter(IpAddr::is_loopback)
                        .ok_or(BindError::NotLoopback)?,
                };
                if (1..FIRST_UNPRIVILEGED).contains(port) {
                    return Err(BindError::Privileged);
                }
                Ok(ListenAddress::Tcp(SocketAddr::new(ip, *port)))
            }
            Self::Socket(path) => {
                let folder = agents.join(agent.as_str());
                let name = Path::new(path)
                    .strip_prefix(&folder)
                    .ok()
                    .and_then(Path::to_str)
                    .filter(|name| {
                        name.len() > SOCKET_SUFFIX.len()
                            && name.ends_with(SOCKET_SUFFIX)
                            && !name.starts_with('.')
                            && name
                                .bytes()
                                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                    })
                    .ok_or(BindError::OutsideFolder)?;
                Ok(ListenAddress::Socket(folder.join(name)))
            }
        }
    }

    /// This bind with the port of `address`.
    pub(crate) fn with_port(&self, address: &ListenAddress) -> Self {
        match (self, address) {
            (Self::Tcp { host, .. }, ListenAddress::Tcp(address)) => Self::Tcp {
                host: host.clone(),
                port: address.port(),
            },
            _ => self.clone(),
        }
    }

    /// The label in `<label>--<agent>.<domain>`: the port, or the socket's file name without `.sock`.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Tcp { port, .. } => port.to_string(),
            Self::Socket(path) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                name.strip_suffix(SOCKET_SUFFIX)
                    .unwrap_or(name)
                    .to_ascii_lowercase()
            }
        }
    }
}

impl ListenAddress {
    /// Whether a client of one may reach the other: the same socket, or the same port on any address.
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(own), Self::Tcp(other)) => own.port() == other.port(),
            _ => self == other,
        }
    }
}

impl fmt::Display for RequestedBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Why a bind was refused, for the gateway's log. The agent does not learn the reason.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("the gateway listens only on loopback addresses")]
    NotLoopback,
    #[error("agents may not use ports below 1024")]
    Privileged,
    #[error("the agent's key does not permit this port")]
    NotPermitted,
    #[error("a socket must be in the agent's own folder and be named NAME.sock")]
    OutsideFolder,
    #[error("it belongs to agent {0}")]
    InUseBy(AgentName),
    #[error("this session already has it")]
    AlreadyBound,
    #[error("this session has reached its limit of forwards")]
    TooMany,
    #[error("the session has ended")]
    Ended,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The listener of a forward.
pub(crate) enum ForwardListener {
    Tcp(TcpListener),
    Socket(UnixListener, SocketFile),
}

/// The file of a socket. Its inode is not used again while the socket is open, so that it shows whether another program has
/// replaced the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file at this path.
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Whether the path still leads to it. One system call.
    pub(crate) fn is_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|found| found == self)
    }
}

/// The originator of a connection (RFC 4254 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Originator {
    pub host: String,
    pub port: u16,
}

impl From<SocketAddr> for Originator {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// A raw connection of the vendor's side.
pub(crate) trait VendorStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> VendorStream for T {}

impl ForwardListener {
    /// Listens at `address` and returns it with the actual port. Replaces a stale socket file, but no
    /// other file. Blocks only for a few system calls.
    pub(crate) fn bind(address: &ListenAddress) -> io::Result<(Self, ListenAddress)> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = if address.is_ipv4() {
                    TcpSocket::new_v4()?
                } else {
                    TcpSocket::new_v6()?
                };
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let listener = socket.listen(BACKLOG)?;
                let address = ListenAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
            ListenAddress::Socket(path) => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                match fs::symlink_metadata(path) {
                    Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
                    Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                let listener = Self::Socket(listener, SocketFile::at(path)?);
                Ok((listener, address.clone()))
            }
        }
    }

    /// The file that it has bound.
    pub(crate) fn socket_file(&self) -> Option<SocketFile> {
        match self {
            Self::Tcp(_) => None,
            Self::Socket(_, file) => Some(*file),
        }
    }

    /// Accepts the next connection; a socket has an empty originator.
    pub(crate) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn VendorStream>, Originator)>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), peer.into()))
            }
            Self::Socket(listener, _) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                let originator = Originator {
                    host: String::new(),
                    port: 0,
                };
                Ok((Box::new(stream), originator))
            }
        })
    }
}

/// Lower ports are privileged (`ip_unprivileged_port_start`).
const FIRST_UNPRIVILEGED: u16 = 1024;
/// Connections that the kernel queues while the accept loop is busy.
const BACKLOG: u32 = 1024;
/// Required, so that no bind can replace `authorized_keys` in the same folder.
const SOCKET_SUFFIX: &str = ".sock";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn address(bind: &RequestedBind) -> Result<ListenAddress, BindError> {
        bind.listen_address(&"acme".parse().unwrap(), Path::new("/data/agents"))
    }

    fn tcp(host: &str, port: u16) -> RequestedBind {
        RequestedBind::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_tcp_bind_ends_on_loopback() {
        for any in ["", "*", "localhost", "0.0.0.0", "127.0.0.1"] {
            let expected = ListenAddress::Tcp("127.0.0.1:8080".parse().unwrap());
            assert_eq!(address(&tcp(any, 8080)).unwrap(), expected, "{any}");
        }
        let expected = ListenAddress::Tcp("[::1]:8080".parse().unwrap());
        assert_eq!(address(&tcp("::", 8080)).unwrap(), expected);
        for other in ["10.0.0.1", "example.com", "fe80::1", "127.0.0.1.example"] {
            assert!(
                matches!(address(&tcp(other, 8080)), Err(BindError::NotLoopback)),
                "{other}"
            );
        }
        assert!(matches!(address(&tcp("", 80)), Err(BindError::Privileged)));
        assert!(address(&tcp("", 0)).is_ok());
    }

    #[test]
    fn sockets_stay_in_the_agents_own_folder() {
        let good = RequestedBind::Socket("/data/agents/acme/jira.sock".to_owned());
        assert!(address(&good).is_ok());
        assert_eq!(good.label(), "jira");
        for bad in [
            "/data/agents/globex/jira.sock",
            "/data/agents/acme/../globex/jira.sock",
            "/data/agents/acme/sub/jira.sock",
            "/data/agents/acme/authorized_keys",
            "/data/agents/acme/.sock",
            "/data/agents/acme/",
            "/tmp/jira.sock",
            "jira.sock",
        ] {
            let bind = RequestedBind::Socket(bad.to_owned());
            assert!(
                matches!(address(&bind), Err(BindError::OutsideFolder)),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jira.sock");
        let address = ListenAddress::Socket(path.clone());
        drop(ForwardListener::bind(&address).unwrap());
        assert!(path.exists());
        let (_listener, _) = ForwardListener::bind(&address).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let file = dir.path().join("file.sock");
        fs::write(&file, "kept").unwrap();
        assert!(ForwardListener::bind(&ListenAddress::Socket(file.clone())).is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    }
}
