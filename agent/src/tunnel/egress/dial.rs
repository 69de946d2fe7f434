//! From the name of a gateway or proxy to a TCP connection.

use super::error::{ConnectFailure, ConnectKind, DialError};
use crate::tunnel::{Passed, Tell};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};

/// Connects to the first address that answers. Families alternate, and a further address is tried
/// beside the ones under way every quarter of a second (RFC 8305), so that a dead family costs little.
/// `limit` holds for resolving and for each address.
pub(super) async fn dial(
    host: &str,
    port: u16,
    limit: Duration,
    tell: &Tell,
) -> Result<TcpStream, DialError> {
    let addresses = alternate(resolve(host, port, limit).await?);
    tell(Passed::Dns(addresses.clone()));
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    running.extend(waiting.next().map(|a| connect(a, limit)));
    loop {
        tokio::select! {
            Some(outcome) = running.next() => match outcome {
                Ok(stream) => {
                    if let Ok(peer) = stream.peer_addr() {
                        tell(Passed::Tcp(peer));
                    }
                    return Ok(stream);
                }
                Err(failure) => {
                    failures.push(failure);
                    running.extend(waiting.next().map(|a| connect(a, limit)));
                }
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {
                running.extend(waiting.next().map(|a| connect(a, limit)));
            }
            else => return Err(DialError::Connect(failures)),
        }
    }
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

async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectFailure> {
    let failure = |kind, problem| ConnectFailure {
        address,
        kind,
        problem,
    };
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                failure(ConnectKind::Refused, "refused the connection".to_owned())
            }
            io::ErrorKind::TimedOut => failure(ConnectKind::Timeout, "did not answer".to_owned()),
            _ => failure(ConnectKind::Other, error.to_string()),
        }),
        Err(_) => Err(failure(
            ConnectKind::Timeout,
            format!("did not answer within {} s", limit.as_secs()),
        )),
    }
}

/// Keeps the resolver's order within a family and begins with the family it put first.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// Delay before a further address is tried (RFC 8305 §5 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);
/// A name with more addresses than this has more than anybody waits for.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tunnel::tell_nobody;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn families_alternate_in_the_resolvers_order() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| a.parse().unwrap()).collect()
        };
        let given = parse(&[
            "[::1]:1",
            "[::2]:1",
            "[::3]:1",
            "127.0.0.1:1",
            "127.0.0.2:1",
        ]);
        let order = parse(&[
            "[::1]:1",
            "127.0.0.1:1",
            "[::2]:1",
            "127.0.0.2:1",
            "[::3]:1",
        ]);
        assert_eq!(alternate(given), order);
    }

    #[tokio::test]
    async fn a_listening_gateway_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = dial("127.0.0.1", address.port(), LIMIT, &tell_nobody())
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = dial("127.0.0.1", address.port(), LIMIT, &tell_nobody())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(&format!("{address} refused")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_told_apart() {
        let error = dial("gateway.invalid", 443, LIMIT, &tell_nobody())
            .await
            .unwrap_err();
        assert!(
            matches!(error, DialError::Resolve(_) | DialError::Silent(_)),
            "{error}"
        );
    }
}
