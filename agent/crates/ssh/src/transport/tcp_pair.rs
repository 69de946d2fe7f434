//! Bytes in the kernel that the far side has not acknowledged.
//!
//! `SIOCOUTQ` and `TCP_INFO` need unsafe code; `/proc` has the same number as text.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr},
};
use tokio::{net::TcpStream, task::spawn_blocking};

/// The two ends of one TCP connection in this process's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPair {
    /// Address of the local end.
    pub local: SocketAddr,
    /// The far end: the gateway, or the proxy that leads there.
    pub peer: SocketAddr,
}

impl TcpPair {
    /// The ends of `stream`; `None` if it is closed.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self {
            local: stream.local_addr().ok()?,
            peer: stream.peer_addr().ok()?,
        })
    }

    /// Bytes in the send queue, sent or not, that the far kernel has not acknowledged. `None` if the kernel does not list
    /// the connection. Reads `/proc/self/net/tcp`: for a silent link, not for every packet.
    pub async fn unacknowledged(self) -> Option<u64> {
        spawn_blocking(move || {
            let table = match self.local {
                SocketAddr::V4(_) => "/proc/self/net/tcp",
                SocketAddr::V6(_) => "/proc/self/net/tcp6",
            };
            let table = File::open(table).ok()?.take(MAX_TABLE);
            self.find(BufReader::new(table))
        })
        .await
        .ok()
        .flatten()
    }

    fn find(self, table: impl BufRead) -> Option<u64> {
        let (local, peer) = (listed(self.local), listed(self.peer));
        let lines = table.lines().map_while(Result::ok);
        let mut queues = lines.filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let ours = words.next() == Some(&local) && words.next() == Some(&peer);
            let queue = words.nth(1).filter(|_| ours)?.split(':').next()?;
            u64::from_str_radix(queue, 16).ok()
        });
        queues.next()
    }
}

/// An address as the kernel lists it: words of 32 bits in native byte order, in hexadecimal.
fn listed(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |word: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*word));
    let words: String = octets.as_chunks::<4>().0.iter().map(word).collect();
    format!("{words}:{:04X}", address.port())
}

/// Bytes of the list that are read: more than 100,000 connections.
const MAX_TABLE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use socket2::SockRef;
    use std::time::Duration;
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_written_as_the_kernel_writes_them() {
        assert_eq!(listed("127.0.0.1:22".parse().unwrap()), "0100007F:0016");
        let six = listed("[::1]:8080".parse().unwrap());
        assert_eq!(six, "00000000000000000000000001000000:1F90");
    }

    #[tokio::test]
    async fn bytes_that_the_far_side_does_not_take_are_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else {
                // A machine without IPv6.
                continue;
            };
            let mut near = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let (far, _) = listener.accept().await.unwrap();
            let pair = TcpPair::of(&near).unwrap();
            assert_eq!(pair.unacknowledged().await, Some(0));
            SockRef::from(&far).set_recv_buffer_size(4096).unwrap();
            let chunk = [0; 64 << 10];
            let stuck = Duration::from_millis(300);
            while timeout(stuck, near.write_all(&chunk)).await.is_ok() {}
            assert!(pair.unacknowledged().await.unwrap() > 0);
            drop(far);
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_not_there_has_no_queue() {
        let pair = TcpPair {
            local: "192.0.2.1:1".parse().unwrap(),
            peer: "192.0.2.2:2".parse().unwrap(),
        };
        assert_eq!(pair.unacknowledged().await, None);
    }
}
