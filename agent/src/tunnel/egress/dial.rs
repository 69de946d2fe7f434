//! From the name of a gateway or proxy to a TCP connection.

use super::{
    AddressChoice,
    addresses::{AddressLease, AddressMemory, DialOrder},
    error::{ConnectFailure, ConnectFailureKind, DialError},
};
use crate::tunnel::{HopEvent, HopObserver};
use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::SockRef;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, sleep, timeout},
};

/// A TCP connection, its address, and the lease on that address if it was dialed for a numbered connection.
#[derive(Debug)]
pub(super) struct DialedConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// How long the TCP handshake took: one round trip.
    pub(super) round_trip: Duration,
    pub(super) lease: Option<AddressLease>,
}

/// Connects to the first address that answers, in the order of `memory`. Every 250 ms another address is tried in parallel
/// (RFC 8305), so that an address family that does not work costs little. `limit` applies to name resolution and to each
/// address.
pub(super) async fn dial(
    host: &str,
    port: u16,
    limit: Duration,
    observer: &HopObserver,
    memory: &AddressMemory,
    choice: AddressChoice,
) -> Result<DialedConnection, DialError> {
    let (order, lease) = match (choice.only, choice.connection) {
        (Some(address), connection) => {
            let open = vec![address];
            let lease = connection.map(|connection| memory.claim(address, connection));
            let barred = Vec::new();
            (DialOrder { open, barred }, lease)
        }
        (None, connection) => {
            let resolved = match memory.fixed(host, port) {
                Some(fixed) => fixed,
                None => resolve(host, port, limit).await?,
            };
            memory.order(host, port, resolved, connection, connection.is_some())
        }
    };
    let barred = order.barred.iter().map(|(address, _)| *address);
    observer(HopEvent::Dns(
        order.open.iter().copied().chain(barred).collect(),
    ));
    let mut waiting = order.open.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    let connect = |address| connect(address, limit, memory.segment(&address));
    running.extend(waiting.next().map(connect));
    loop {
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok((peer, stream, round_trip)) => {
                    observer(HopEvent::Tcp(peer));
                    if let Some(lease) = &lease {
                        lease.move_to(peer);
                    }
                    return Ok(DialedConnection { stream, peer, round_trip, lease });
                }
                Err(failure) => {
                    failures.push(failure);
                    running.extend(waiting.next().map(connect));
                }
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {
                running.extend(waiting.next().map(connect));
            }
            else => break,
        }
    }
    failures.extend(
        order
            .barred
            .into_iter()
            .map(|(address, left)| ConnectFailure {
                address,
                kind: ConnectFailureKind::Barred,
                problem: format!(
                    "is not tried for another {} s, because it refused the agent",
                    left.as_secs() + 1
                ),
            }),
    );
    Err(DialError::Connect(failures))
}

async fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, DialError> {
    let found = match timeout(limit, lookup_host((host, port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(problem)) => return Err(DialError::Resolve(problem.to_string())),
        Err(_) => return Err(DialError::Silent(limit)),
    };
    let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
    match addresses.is_empty() {
        true => Err(DialError::Resolve("it has no address".to_owned())),
        false => Ok(addresses),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
async fn connect(
    address: SocketAddr,
    limit: Duration,
    segment: Option<u32>,
) -> Result<(SocketAddr, TcpStream, Duration), ConnectFailure> {
    let failure = |kind, problem| ConnectFailure {
        address,
        kind,
        problem,
    };
    let connected = async {
        let Some(segment) = segment else {
            return TcpStream::connect(address).await;
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Before the connection is made, so that the handshake announces it to the far side too.
        if let Err(error) = SockRef::from(&socket).set_tcp_mss(segment) {
            tracing::debug!(option = "TCP_MAXSEG", %error, "cannot set a socket option");
        }
        socket.connect(address).await
    };
    let begun = Instant::now();
    match timeout(limit, connected).await {
        Ok(Ok(stream)) => Ok((address, stream, begun.elapsed())),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => failure(
                ConnectFailureKind::Refused,
                "refused the connection".to_owned(),
            ),
            io::ErrorKind::TimedOut => {
                failure(ConnectFailureKind::Timeout, "did not answer".to_owned())
            }
            _ => failure(ConnectFailureKind::Other, error.to_string()),
        }),
        Err(_) => Err(failure(
            ConnectFailureKind::Timeout,
            format!("did not answer within {} s", limit.as_secs()),
        )),
    }
}

/// Delay before a further address is tried (RFC 8305 §5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tunnel::ignore;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    async fn dial(port: u16, host: &str) -> Result<DialedConnection, DialError> {
        let memory = AddressMemory::default();
        let choice = AddressChoice::default();
        super::dial(host, port, LIMIT, &ignore(), &memory, choice).await
    }

    #[tokio::test]
    async fn a_listening_gateway_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialed = dial(address.port(), "127.0.0.1").await.unwrap();
        assert_eq!(dialed.peer, address);
    }

    #[tokio::test]
    async fn where_large_packets_are_lost_segments_are_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = AddressMemory::default();
        for suspected in [false, true] {
            if suspected {
                assert!(memory.suspect_mtu(address) && !memory.suspect_mtu(address));
            }
            let choice = AddressChoice::default();
            let (observer, host) = (ignore(), "127.0.0.1");
            let dialed = super::dial(host, address.port(), LIMIT, &observer, &memory, choice);
            let stream = dialed.await.unwrap().stream;
            let (accepted, _) = listener.accept().await.unwrap();
            for end in [&stream, &accepted] {
                let small = SockRef::from(end).tcp_mss().unwrap() <= 1100;
                assert_eq!(small, suspected);
            }
        }
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = dial(address.port(), "127.0.0.1").await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("{address} refused")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_told_apart() {
        let error = dial(443, "gateway.invalid").await.unwrap_err();
        assert!(
            matches!(error, DialError::Resolve(_) | DialError::Silent(_)),
            "{error}"
        );
    }
}
