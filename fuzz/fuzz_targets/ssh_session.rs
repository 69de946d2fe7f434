//! A gateway that sends packets of any content at any step of a session. The session may end, but must not panic.
//!
//! An honest russh server and a client run without encryption, and a man in the middle adds packets on the way to the
//! client. The first byte of the input says after which packet of the server; then come packets, each a length and a payload.
#![no_main]

use russh::{
    Channel, Preferred, cipher,
    client::{self, ChannelOpenHandle, Msg},
    keys::{PrivateKey, PublicKeyOrCertificate, ssh_key::private::Ed25519Keypair},
    server::{self, Auth},
};
use std::{
    borrow::Cow,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf,
    copy, duplex, split,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    if let Ok(runtime) = runtime {
        runtime.block_on(session(bytes.to_vec()));
    }
});

async fn session(input: Vec<u8>) {
    let (client_end, from_client) = duplex(64 << 10);
    let (server_end, from_server) = duplex(64 << 10);
    let (mut client_reads, client_writes) = split(from_client);
    let (server_reads, mut server_writes) = split(from_server);
    tokio::spawn(async move { copy(&mut client_reads, &mut server_writes).await });
    tokio::spawn(inject(server_reads, client_writes, input));
    tokio::spawn(serve(server_end));
    let whole = connect(client_end);
    let _ = tokio::time::timeout(Duration::from_secs(60), whole).await;
}

/// As an agent does: logs in, asks for a forward, reads what its channels bring, and sends probes.
async fn connect(stream: DuplexStream) {
    let config = client::Config {
        window_size: 1 << 20,
        maximum_packet_size: 32 << 10,
        channel_buffer_size: 100,
        keepalive_interval: Some(Duration::from_secs(5)),
        preferred: unencrypted(),
        ..client::Config::default()
    };
    let Ok(mut handle) = client::connect_stream(Arc::new(config), stream, AgentEnd).await else {
        return;
    };
    if !handle.authenticate_none("acme").await.is_ok_and(|login| login.success()) {
        return;
    }
    let _ = handle.tcpip_forward("127.0.0.1", 8080).await;
    let _ = handle.send_ping().await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let _ = handle.cancel_tcpip_forward("127.0.0.1", 8080).await;
}

async fn serve(stream: DuplexStream) {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    let key = KEY.get_or_init(|| Ed25519Keypair::from_seed(&[7; 32]).into());
    let config = server::Config {
        keys: vec![key.clone()],
        preferred: unencrypted(),
        ..server::Config::default()
    };
    if let Ok(session) = server::run_stream(Arc::new(config), stream, GatewayEnd).await {
        let _ = session.await;
    }
}

/// Passes the server's packets on, and the input's after the one that its first byte names (RFC 4253 §6, without MAC).
async fn inject(
    from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    input: Vec<u8>,
) -> io::Result<()> {
    let (&after, mut rest) = input.split_first().unwrap_or((&0, &[]));
    let mut from = BufReader::new(from);
    let mut identification = Vec::new();
    from.read_until(b'\n', &mut identification).await?;
    to.write_all(&identification).await?;
    let mut passed: u8 = 0;
    loop {
        if passed == after % 16 {
            while let [length, more @ ..] = rest {
                let (payload, more) = more.split_at(more.len().min(usize::from(*length)));
                rest = more;
                to.write_all(&packet(payload)).await?;
            }
        }
        let length = from.read_u32().await?;
        let mut body = vec![0; length.min(256 << 10) as usize];
        from.read_exact(&mut body).await?;
        to.write_u32(length).await?;
        to.write_all(&body).await?;
        passed = passed.saturating_add(1);
    }
}

fn packet(payload: &[u8]) -> Vec<u8> {
    let mut padding = 8 - (payload.len() + 5) % 8;
    if padding < 4 {
        padding += 8;
    }
    let length = (payload.len() + 1 + padding) as u32;
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn unencrypted() -> Preferred {
    Preferred {
        cipher: Cow::Borrowed(&[cipher::NONE]),
        ..Preferred::DEFAULT
    }
}

struct AgentEnd;

impl client::Handler for AgentEnd {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(async move {
            let mut channel = channel;
            while channel.wait().await.is_some() {}
            let _ = channel.data(&b"answer"[..]).await;
            let _ = channel.close().await;
        });
        Ok(())
    }
}

struct GatewayEnd;

impl server::Handler for GatewayEnd {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let (handle, address, port) = (session.handle(), address.to_owned(), *port);
        tokio::spawn(async move {
            let opened = handle.channel_open_forwarded_tcpip(address, port, "127.0.0.1".to_owned(), 1);
            if let Ok(channel) = opened.await {
                let _ = channel.data(&b"GET / HTTP/1.1\r\n\r\n"[..]).await;
                let _ = channel.eof().await;
            }
        });
        Ok(true)
    }
}
