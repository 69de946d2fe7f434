//! A man in the middle of a session in clear: puts an empty CHANNEL_DATA in front of every CHANNEL_DATA that goes to
//! the agent. No russh and no OpenSSH sends such a packet, although RFC 4254 §5.2 allows it.

use anyhow::{Result, ensure};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// A running tap; stops when dropped.
pub struct PacketInjector {
    address: String,
    injected: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl PacketInjector {
    /// Listens on a free port of 127.0.0.1 and joins whoever comes to `gateway`.
    pub async fn start(gateway: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let injected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&injected);
        let accepting = tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let Ok(gateway) = TcpStream::connect(&gateway).await else {
                    continue;
                };
                let (mut from_agent, to_agent) = agent.into_split();
                let (from_gateway, mut to_gateway) = gateway.into_split();
                tokio::spawn(async move { copy(&mut from_agent, &mut to_gateway).await });
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    if let Err(error) = inject(from_gateway, to_agent, &count).await {
                        eprintln!("tap: {error:#}");
                    }
                });
            }
        });
        Ok(Self {
            address,
            injected,
            accepting,
        })
    }

    /// Address of the injector as `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many packets were put in.
    pub fn injected(&self) -> usize {
        self.injected.load(Relaxed)
    }
}

impl Drop for PacketInjector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// RFC 4253 §4.2 (identification), §6 (packets without MAC): length, padding length, payload, padding.
async fn inject(from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicUsize) -> Result<()> {
    let mut from = BufReader::new(from);
    let mut identification = Vec::new();
    from.read_until(b'\n', &mut identification).await?;
    to.write_all(&identification).await?;
    loop {
        let length = from.read_u32().await?;
        ensure!((6..256 << 10).contains(&length), "no packet in clear");
        let mut packet = vec![0; length as usize];
        from.read_exact(&mut packet).await?;
        if packet[1] == CHANNEL_DATA
            && let Some(channel) = packet.get(2..6)
        {
            to.write_all(&empty_data(channel)).await?;
            count.fetch_add(1, Relaxed);
        }
        to.write_u32(length).await?;
        to.write_all(&packet).await?;
    }
}

fn empty_data(channel: &[u8]) -> Vec<u8> {
    // 1 + 4 + 4 bytes of payload; with the length and the padding a multiple of 8.
    let mut packet = vec![0, 0, 0, 20, 10, CHANNEL_DATA];
    packet.extend_from_slice(channel);
    packet.extend_from_slice(&[0; 4 + 10]);
    packet
}

const CHANNEL_DATA: u8 = 94;
