//! HTTP/2 frame by frame, as no client library would write it.

use super::support::*;
use crate::http::{HttpLimits, http2::CONNECTIONS};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::timeout,
};

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: u32 = 7;
const STALL: Duration = Duration::from_millis(400);

fn options() -> Options {
    Options {
        limits: HttpLimits {
            stall_timeout: STALL,
            ..HttpLimits::default()
        },
        ..Options::default()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS of a GET that ends its stream; no header of it is indexed.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    frame(1, 5, stream, &block)
}

/// A connection of which the peer opens each stream with this window.
struct Peer {
    io: DuplexStream,
    served: JoinHandle<()>,
}

impl Peer {
    async fn connect(agent: &Agent, window: u32) -> Self {
        let (mut io, channel) = tokio::io::duplex(64 << 10);
        let served = agent.serve(channel);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut setting = vec![0, 4];
        setting.extend(window.to_be_bytes());
        bytes.extend(frame(SETTINGS, 0, 0, &setting));
        io.write_all(&bytes).await.unwrap();
        Self { io, served }
    }

    /// The next frame: kind, stream, payload. `None` at the end.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        let read = timeout(LIVENESS, self.io.read_exact(&mut head)).await;
        read.expect("a frame in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], stream, payload))
    }
}

fn code(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

#[tokio::test]
async fn an_answer_that_no_window_lets_through_is_reset_whosever_it_is() {
    let agent = Agent::new(&jira(echo).await, options());
    let mut peer = Peer::connect(&agent, 0).await;
    for (stream, path) in [(1, "/secret"), (3, "/a/../b"), (5, "/x")] {
        peer.io.write_all(&get(stream, path)).await.unwrap();
    }
    let mut reset = Vec::new();
    while reset.len() < 3 {
        match peer.next().await.expect("the connection goes on") {
            (DATA, ..) => panic!("no window for it"),
            (RST_STREAM, stream, _) => reset.push(stream),
            _ => {}
        }
    }
    reset.sort_unstable();
    assert_eq!(reset, [1, 3, 5]);
}

/// hyper gives a part of which one byte passes to its library whole, and has no hand on its end any more.
#[tokio::test]
async fn the_end_of_an_answer_that_no_window_lets_through_ends_the_connection() {
    let agent = Agent::new(&jira(echo).await, options());
    for path in ["/secret", "/a/../b", "/x"] {
        let mut peer = Peer::connect(&agent, 10).await;
        peer.io.write_all(&get(1, path)).await.unwrap();
        let mut data = 0;
        // A request now and then must not keep it.
        let mut stream = 3;
        let ended = async {
            while let Some((kind, _, payload)) = peer.next().await {
                data += if kind == DATA { payload.len() } else { 0 };
                if kind == PING || kind == DATA {
                    let _ = peer.io.write_all(&get(stream, "/secret")).await;
                    stream += 2;
                }
            }
        };
        timeout(LIVENESS, ended).await.unwrap();
        assert!(data <= 10 * stream as usize, "{data} bytes");
    }
}

/// Two `:path`, and more streams than there may be: the library answers these.
#[tokio::test]
async fn what_the_library_refuses_has_its_audit_record() {
    let mut agent = Agent::new("127.0.0.1:9", options());
    let mut peer = Peer::connect(&agent, 65_535).await;
    let mut twice = get(1, "/secret");
    let field = [&[0, 5][..], b":path", &[2], b"/x"].concat();
    twice[2] += field.len() as u8;
    twice.extend(field);
    peer.io.write_all(&twice).await.unwrap();
    while peer.next().await.expect("the connection goes on").0 != RST_STREAM {}
    let record = agent.records.next().await;
    assert_eq!(record["error"], "malformed-request");
    assert_eq!(record["decision"], "refused");
    assert_eq!(record["delivery"], "not_sent");
}

#[tokio::test]
async fn more_streams_than_a_connection_may_have_are_refused() {
    let agent = Agent::new("127.0.0.1:9", options());
    let mut peer = Peer::connect(&agent, 0).await;
    for stream in 0..130 {
        peer.io
            .write_all(&get(2 * stream + 1, "/secret"))
            .await
            .unwrap();
    }
    let mut refused = 0;
    let mut stalled = 0;
    while refused + stalled < 130 {
        match peer.next().await.expect("the connection goes on") {
            (RST_STREAM, _, payload) if code(&payload, 0) == REFUSED_STREAM => refused += 1,
            (RST_STREAM, ..) => stalled += 1,
            _ => {}
        }
    }
    assert_eq!((refused, stalled), (30, 100));
}

#[tokio::test]
async fn more_connections_than_a_forward_may_have_are_turned_away() {
    let mut agent = Agent::new("127.0.0.1:9", Options::default());
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::connect(&agent, 65_535).await;
        assert_eq!(peer.next().await.unwrap().0, SETTINGS);
        open.push(peer);
    }
    let mut late = Peer::connect(&agent, 65_535).await;
    assert_eq!(late.next().await.unwrap().0, SETTINGS);
    let (kind, _, payload) = late.next().await.unwrap();
    assert_eq!(
        (kind, code(&payload, 0), code(&payload, 4)),
        (GOAWAY, 0, 11)
    );
    assert!(late.next().await.is_none());
    let record = agent.records.next().await;
    assert_eq!(record["error"], "overloaded");
    assert_eq!(record["delivery"], "not_sent");

    // HTTP/1.1 is answered beside them, and a place that is left is free again.
    let reply = agent.channel().get("/secret").await;
    assert_eq!(reply.status, 403);
    let Peer { io, served } = open.remove(0);
    drop(io);
    served.await.unwrap();
    let mut next = Peer::connect(&agent, 65_535).await;
    next.io.write_all(&get(1, "/secret")).await.unwrap();
    loop {
        match next.next().await.unwrap() {
            (GOAWAY, ..) => panic!("turned away"),
            (DATA, ..) => break,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_peer_that_reads_no_replies_to_its_pings_is_left() {
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    // At once where it goes on, and it does not fill the channel's spool meanwhile.
    let agent = Agent::new("127.0.0.1:9", Options::default());
    let Peer { mut io, served } = Peer::connect(&agent, 65_535).await;
    let mut taken = 0;
    let flood = async {
        while io.write_all(&pings).await.is_ok() {
            taken += pings.len();
        }
    };
    timeout(LIVENESS, flood).await.unwrap();
    served.await.unwrap();
    assert!(taken < 4 << 20, "{taken} bytes");
    // After the stall limit where it does not.
    let agent = Agent::new("127.0.0.1:9", options());
    let Peer { mut io, served } = Peer::connect(&agent, 65_535).await;
    io.write_all(&pings.repeat(8)).await.unwrap();
    timeout(LIVENESS, served).await.unwrap().unwrap();
}

/// A peer can have hundreds of thousands of streams refused in a moment, and the runtime has others to serve.
#[tokio::test(start_paused = true)]
async fn what_is_refused_unseen_costs_no_more_for_being_more() {
    const COUNT: u64 = 50_000_000;
    let agent = Agent::new("127.0.0.1:1", Options::default());
    let channel = crate::http::exchange::RequestContext {
        place: None,
        draining: false,
        forward: agent.forward.clone(),
        originator: "192.0.2.1:9".into(),
        connection: 0,
        abort: Default::default(),
    };
    let begun = std::time::Instant::now();
    let kind = crate::http::problem::ProblemKind::Overloaded;
    crate::http::exchange::audit_unread_refusals(&channel, kind, "more streams", COUNT);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(agent.forward.counter().total(), COUNT);
    let recorded = u64::from(agent.forward.limits().refusals_per_minute);
    assert_eq!(agent.records.summed(), COUNT - recorded);
}
