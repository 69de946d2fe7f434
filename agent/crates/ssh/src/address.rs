//! Addresses of gateways and of what they listen on.

use crate::bind_template::HIGHEST_SLOT;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// `host:port` of an SSH gateway, `tls://host:port` where SSH goes inside TLS; IPv6 literals in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port of the gateway, 1..=65535.
    pub port: u16,
    /// Whether SSH runs inside TLS.
    pub tls: bool,
}

impl GatewayAddress {
    /// `host:port` without the scheme; IPv6 literals in brackets.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { TLS } else { "" };
        write!(f, "{scheme}{}", self.address())
    }
}

impl FromStr for GatewayAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let inside = text.strip_prefix(TLS);
        let (host, port) = split_host_port(inside.unwrap_or(text))?;
        if port == 0 {
            return Err(AddressError::PortZero);
        }
        Ok(Self {
            host,
            port,
            tls: inside.is_some(),
        })
    }
}

/// Where the gateway listens for the vendor's services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// TCP; port 0 lets the gateway choose.
    Tcp {
        /// Address to listen on, as the gateway understands it.
        host: String,
        /// Port, or 0 for any.
        port: u16,
    },
    /// Absolute path of a unix socket on the gateway.
    Socket(String),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

impl FromStr for BindAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            return socket_path(text).map(Self::Socket);
        }
        let (host, port) = split_host_port(text)?;
        Ok(Self::Tcp { host, port })
    }
}

/// Why an address was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// No colon, or nothing before it.
    #[error("expected host:port, for example gw1.vendor.example:443 (an IPv6 address in brackets)")]
    NoHostPort,
    /// The part after the last colon is no number in 0..=65535.
    #[error("{0:?} is not a port number (1 to 65535)")]
    BadPort(String),
    /// Port 0, which cannot be connected to.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// A path that a terminal, a log line or the gateway's file system could misread.
    #[error(
        "\"{0}\" is not a socket path: it must be printable ASCII without white space, at most {LONGEST_SOCKET} bytes, and not end with a slash"
    )]
    BadSocket(String),
    /// Braces that are not one of the two forms.
    #[error(
        "\"{0}\" names no slot: write {{slot}} in a socket path, like \"/s/jira-{{slot}}.sock\", or the port of slot 0, like \"127.0.0.1:{{8080+slot}}\""
    )]
    BadTemplate(String),
    /// The port of the last slot is no port.
    #[error("port {first} + slot {slot} is more than 65535; begin at a lower port")]
    SlotPort {
        /// The port of slot 0.
        first: u16,
        /// The last slot.
        slot: u16,
    },
    /// Not a range of slot numbers.
    #[error(
        "\"{0}\" is not a range of slot numbers: write the first and the last, 0 to {HIGHEST_SLOT}, like \"0-3\""
    )]
    BadSlots(String),
}

/// A path that is safe in terminals and logs, and fits into `sockaddr_un` on the gateway.
fn socket_path(text: &str) -> Result<String, AddressError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match plain && text.len() <= LONGEST_SOCKET && !text.ends_with('/') {
        true => Ok(text.to_owned()),
        false => Err(AddressError::BadSocket(
            text.escape_default().take(LONGEST_SOCKET).collect(),
        )),
    }
}

/// `sun_path` of Linux has 108 bytes, the last of which is NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;

fn split_host_port(text: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoHostPort)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match bare {
        Some(inner) => inner,
        None if host.contains(':') => return Err(AddressError::NoHostPort),
        None => host,
    };
    // Host names and addresses are ASCII: anything else could imitate another name.
    let is_host_byte = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(is_host_byte) {
        return Err(AddressError::NoHostPort);
    }
    let port = port
        .parse()
        .map_err(|_| AddressError::BadPort(port.to_owned()))?;
    Ok((host.to_owned(), port))
}

/// `gw1.vendor.example:443 (203.0.113.5)`: a name may have several addresses, and one of them failed.
pub fn at_address(place: &str, host: &str, peer: Option<SocketAddr>) -> String {
    match peer {
        Some(peer) if host.parse::<IpAddr>().is_err() => format!("{place} ({})", peer.ip()),
        _ => place.to_owned(),
    }
}

const TLS: &str = "tls://";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_an_address() {
        for good in [
            "/s/jira.sock",
            "127.0.0.1:0",
            "[::1]:8080",
            "localhost:1",
            "*:80",
        ] {
            assert_eq!(good.parse::<BindAddress>().unwrap().to_string(), good);
        }
        let long = format!("/{}", "s".repeat(107));
        for bad in [
            "/s/\u{1b}[31mx",
            "/s/x\nnext",
            "/s/\u{202e}x",
            "/s/a b",
            "/s/\u{e4}",
            "/",
            &long,
            "\u{202e}host:80",
            "ho\u{7}st:80",
            "h\u{f6}st:80",
            "[[::1]]:80",
            "[host:80",
        ] {
            let error = bad.parse::<BindAddress>().unwrap_err().to_string();
            assert!(
                error.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
                "{error}"
            );
        }
        assert!("gw\u{200f}.example:443".parse::<GatewayAddress>().is_err());
    }
}
