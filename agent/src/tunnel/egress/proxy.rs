//! The proxy, and the credential for it.

use crate::secret::{Secret, SecretFile};
use http::Uri;
use percent_encoding::percent_decode_str;
use std::{fmt, sync::Arc};

/// A company's proxy. `Display` prints its URL, never the credential.
#[derive(Clone)]
pub struct ProxyServer {
    /// The protocol that the proxy speaks.
    pub scheme: ProxyScheme,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port of the proxy.
    pub port: u16,
    /// The credential for the proxy, if it needs one.
    pub credential: Option<ProxyCredential>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP CONNECT, with Basic authentication (RFC 7617).
    Http,
    /// SOCKS5 (RFC 1928), with user name and password (RFC 1929). The proxy resolves names.
    Socks5,
}

/// A user name and password for a proxy.
#[derive(Clone)]
pub struct ProxyCredential {
    /// 1 to 255 bytes, without control characters; for HTTP without a colon.
    pub username: String,
    /// 1 to 255 bytes for SOCKS5.
    pub password: PasswordSource,
}

/// Where the password comes from.
#[derive(Clone)]
pub enum PasswordSource {
    /// A file, read for each connection: a changed password needs no restart.
    File(SecretFile),
    /// From the environment's URL.
    Held(Arc<Secret>),
}

/// A credential with its password, for one connection.
pub(super) struct LoadedProxyCredential {
    pub(super) username: String,
    pub(super) password: Arc<Secret>,
}

/// Why a proxy's URL was refused. The texts do not repeat it, because it may contain a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyUrlError {
    /// No URL, or none with a host.
    #[error("not the URL of a proxy; expected http://host:port or socks5://host:port")]
    NoUrl,
    /// A scheme other than `http` and `socks5`.
    #[error(
        "the agent speaks to proxies by HTTP CONNECT and SOCKS5; write http://host:port or socks5://host:port"
    )]
    Scheme,
    /// The URL names no port.
    #[error("the port is missing; write it after the host, like http://proxy.corp:3128")]
    NoPort,
    /// Something behind the port.
    #[error("a proxy's URL ends with the port; remove what follows it")]
    Path,
    /// A credential in the URL of the configuration.
    #[error(
        "a credential does not belong in the URL: set proxy_username, and proxy_password_file to the file with the password"
    )]
    Login,
}

impl ProxyServer {
    /// Reads `http://host:port` or `socks5://host:port`, without a credential.
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        if text.contains('@') {
            return Err(ProxyUrlError::Login);
        }
        Self::parse_any(text)
    }

    /// Reads the value of an environment variable: the scheme is optional, and a credential is allowed.
    pub fn parse_variable(text: &str) -> Result<Self, ProxyUrlError> {
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let (scheme, rest) = whole.split_once("://").ok_or(ProxyUrlError::NoUrl)?;
        let Some((login, place)) = rest.rsplit_once('@') else {
            return Self::parse_any(&whole);
        };
        let mut proxy = Self::parse_any(&format!("{scheme}://{place}"))?;
        let (username, password) = login.split_once(':').unwrap_or((login, ""));
        let username = percent_decode_str(username).decode_utf8();
        let username = username.map_err(|_| ProxyUrlError::NoUrl)?.into_owned();
        let password: Vec<u8> = percent_decode_str(password).collect();
        proxy.credential = Some(ProxyCredential {
            username,
            password: PasswordSource::Held(Arc::new(Secret::new(password))),
        });
        Ok(proxy)
    }

    fn parse_any(text: &str) -> Result<Self, ProxyUrlError> {
        let url: Uri = text.trim().parse().map_err(|_| ProxyUrlError::NoUrl)?;
        let scheme = match url.scheme_str() {
            Some("http") => ProxyScheme::Http,
            Some("socks5" | "socks5h") => ProxyScheme::Socks5,
            Some(_) => return Err(ProxyUrlError::Scheme),
            None => return Err(ProxyUrlError::NoUrl),
        };
        let host = url.host().filter(|host| !host.is_empty());
        let host = host.ok_or(ProxyUrlError::NoUrl)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let port = url.port_u16().filter(|port| *port > 0);
        if !matches!(
            url.path_and_query().map(|p| p.as_str()),
            None | Some("/" | "")
        ) {
            return Err(ProxyUrlError::Path);
        }
        Ok(Self {
            scheme,
            host: bare.unwrap_or(host).to_owned(),
            port: port.ok_or(ProxyUrlError::NoPort)?,
            credential: None,
        })
    }

    /// The credential, with its password read.
    pub(super) async fn load_credential(&self) -> Result<Option<LoadedProxyCredential>, String> {
        let Some(ProxyCredential { username, password }) = self.credential.clone() else {
            return Ok(None);
        };
        let password = match password {
            PasswordSource::Held(password) => password,
            PasswordSource::File(file) => {
                let read = tokio::task::spawn_blocking(move || file.read()).await;
                let read = read.map_err(|_| "reading it panicked".to_owned())?;
                Arc::new(read.map_err(|error| error.to_string())?)
            }
        };
        Ok(Some(LoadedProxyCredential { username, password }))
    }
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}
