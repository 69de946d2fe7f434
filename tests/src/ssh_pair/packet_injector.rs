//! A man in the middle of an unencrypted session: inserts an empty CHANNEL_DATA before every CHANNEL_DATA to the agent.
//! Neither russh nor OpenSSH sends such a packet, although RFC 4254 §5.2 allows it.

use crate::tcp_server::TcpServer;
use anyhow::{Result, ensure};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A running injector; stops when dropped.
pub struct PacketInjector {
    server: TcpServer,
    injected: Arc<AtomicUsize>,
}

impl PacketInjector {
    /// Listens on a free port of 127.0.0.1 and forwards connections to `gateway`.
    pub async fn start(gateway: String) -> Result<Self> {
        let injected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&injected);
        let server = TcpServer::start(move |agent| {
            let (gateway, count) = (gateway.clone(), Arc::clone(&count));
            async move {
                if let Err(error) = forward(agent, &gateway, &count).await {
                    eprintln!("packet injector: {error:#}");
                }
            }
        })
        .await?;
        Ok(Self { server, injected })
    }

    /// Address of the injector as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.server.addr.to_string()
    }

    /// How many packets it has injected.
    pub fn injected(&self) -> usize {
        self.injected.load(Relaxed)
    }
}

async fn forward(agent: TcpStream, gateway: &str, count: &AtomicUsize) -> Result<()> {
    let (mut from_agent, to_agent) = agent.into_split();
    let (from_gateway, mut to_gateway) = TcpStream::connect(gateway).await?.into_split();
    tokio::spawn(async move { copy(&mut from_agent, &mut to_gateway).await });
    inject(from_gateway, to_agent, count).await
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
