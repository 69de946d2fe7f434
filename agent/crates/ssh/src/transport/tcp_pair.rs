//! Bytes in the kernel that the far side has not acknowledged.
//!
//! `SIOCOUTQ` and `TCP_INFO` need unsafe code; `/proc` has the same numbers as text. One read of the list serves all callers
//! that wait for it, at most every [`PAUSE`]: a gateway may lose a thousand connections in one moment.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

/// The two ends of one TCP connection in this process's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPair {
    /// Address of the local end.
    pub local: SocketAddr,
    /// The far end: the gateway, or the proxy that leads there.
    pub peer: SocketAddr,
}

/// What the kernel lists of a connection's send queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendQueue {
    /// Bytes, sent or not, that the far kernel has not acknowledged.
    pub(super) unacknowledged: u64,
    /// How often the first of them was sent again since the last acknowledgment; `None` while the timer for that does not
    /// run, because everything is acknowledged or the far window is closed.
    pub(super) retransmissions: Option<u32>,
}

impl TcpPair {
    /// The ends of `stream`; `None` if it is closed.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self {
            local: stream.local_addr().ok()?,
            peer: stream.peer_addr().ok()?,
        })
    }

    /// The send queue, as it is after the call. `None` if the kernel does not list the connection. Reads
    /// `/proc/self/net/tcp`: for a silent link, not for every packet.
    pub(super) async fn send_queue(self) -> Option<SendQueue> {
        let table = match self.local {
            SocketAddr::V4(_) => &TABLES[0],
            SocketAddr::V6(_) => &TABLES[1],
        };
        let queues = table.queues().await?;
        queues
            .get(&(listed(self.local), listed(self.peer)))
            .copied()
    }
}

/// Local and far address, as the kernel lists them.
type ListedPair = (String, String);
type SendQueues = HashMap<ListedPair, SendQueue>;

/// The last copy of one list of the kernel's.
struct TcpTable {
    path: &'static str,
    copy: Mutex<Option<(Instant, Arc<SendQueues>)>>,
}

impl TcpTable {
    const fn new(path: &'static str) -> Self {
        Self {
            path,
            copy: Mutex::const_new(None),
        }
    }

    async fn queues(&self) -> Option<Arc<SendQueues>> {
        let asked_at = Instant::now();
        let mut copy = self.copy.lock().await;
        if let Some((read_at, queues)) = &*copy {
            // An older one lacks bytes that the caller has counted since, which would pass for acknowledged.
            if *read_at >= asked_at {
                return Some(Arc::clone(queues));
            }
            sleep_until(*read_at + PAUSE).await;
        }
        let read_at = Instant::now();
        let path = self.path;
        let read = spawn_blocking(move || {
            let table = File::open(path).ok()?.take(MAX_TABLE);
            Some(send_queues(BufReader::new(table)))
        });
        let queues = Arc::new(read.await.ok().flatten()?);
        *copy = Some((read_at, Arc::clone(&queues)));
        Some(queues)
    }
}

fn send_queues(table: impl BufRead) -> SendQueues {
    let lines = table.lines().map_while(Result::ok);
    let entries = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let pair = (words.next()?.to_owned(), words.next()?.to_owned());
        let queue = words.nth(1)?.split(':').next()?;
        let timer = words.next()?.split(':').next()?;
        let retransmissions = u32::from_str_radix(words.next()?, 16).ok()?;
        let queue = SendQueue {
            unacknowledged: u64::from_str_radix(queue, 16).ok()?,
            retransmissions: (timer == RETRANSMISSION_TIMER).then_some(retransmissions),
        };
        Some((pair, queue))
    });
    entries.collect()
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
/// Time between two reads of the list.
const PAUSE: Duration = Duration::from_millis(10);
/// The number of the timer for retransmissions in the list.
const RETRANSMISSION_TIMER: &str = "01";

static TABLES: [TcpTable; 2] = [
    TcpTable::new("/proc/self/net/tcp"),
    TcpTable::new("/proc/self/net/tcp6"),
];

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
            assert_eq!(pair.send_queue().await.unwrap().unacknowledged, 0);
            SockRef::from(&far).set_recv_buffer_size(4096).unwrap();
            let chunk = [0; 64 << 10];
            let stuck = Duration::from_millis(300);
            while timeout(stuck, near.write_all(&chunk)).await.is_ok() {}
            let queue = pair.send_queue().await.unwrap();
            assert!(queue.unacknowledged > 0);
            // The list is read again, however soon the next call is.
            let more = near.try_write(&[0; 1000]).unwrap_or(0) as u64;
            let later = pair.send_queue().await.unwrap();
            assert!(later.unacknowledged >= queue.unacknowledged + more);
            drop(far);
        }
    }

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0016 0200007F:C350 01 0000002A:00000001 01:00000030 00000003     0        0 1 2 0 20 4 30 10 -1\n\
             1: 0100007F:0016 0300007F:C350 01 00000000:00000000 02:00000030 00000000     0        0 1\n\
             2: broken";
        let queues = send_queues(table.as_bytes());
        let queue = |far: &str| queues.get(&("0100007F:0016".to_owned(), far.to_owned()));
        let lost = SendQueue {
            unacknowledged: 42,
            retransmissions: Some(3),
        };
        assert_eq!(queue("0200007F:C350"), Some(&lost));
        let rest = SendQueue {
            unacknowledged: 0,
            retransmissions: None,
        };
        assert_eq!(queue("0300007F:C350"), Some(&rest));
        assert_eq!(queues.len(), 2);
    }

    #[tokio::test]
    async fn a_connection_that_is_not_there_has_no_queue() {
        let pair = TcpPair {
            local: "192.0.2.1:1".parse().unwrap(),
            peer: "192.0.2.2:2".parse().unwrap(),
        };
        assert_eq!(pair.send_queue().await, None);
    }
}
