//! Options of the TCP socket below SSH. russh sets none of them on the stream that it gets.

use socket2::{SockRef, TcpKeepalive};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// Values of the socket options. `Default` is for a tunnel across the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_USER_TIMEOUT`: the kernel closes the connection when sent bytes stay unacknowledged for this long.
    pub user_timeout: Duration,
    /// Time without traffic after which the kernel starts TCP keep-alive probes.
    pub keepalive: Duration,
    /// `TCP_NOTSENT_LOWAT` in bytes: how much the kernel may buffer beyond what is in flight. Without it megabytes of bulk
    /// data wait in the socket buffer before each small response.
    pub unsent: u32,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            user_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
            unsent: 128 << 10,
        }
    }
}

/// Sets `TCP_NODELAY` and [`SocketOptions`].
///
/// # Errors
/// Where `TCP_NODELAY` cannot be set, which means that the socket is closed. An option that the kernel does not know is
/// logged and skipped.
pub fn configure(stream: &TcpStream, options: &SocketOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(options.keepalive)
        .with_interval(options.keepalive / 3)
        .with_retries(3);
    for (option, result) in [
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        (
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(Some(options.user_timeout)),
        ),
        (
            "TCP_NOTSENT_LOWAT",
            socket.set_tcp_notsent_lowat(options.unsent),
        ),
    ] {
        if let Err(error) = result {
            tracing::debug!(option, %error, "cannot set a socket option");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_option_is_on_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        configure(&stream, &SocketOptions::default()).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(30))
        );
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 128 << 10);
    }
}
