//! Listening, TLS and HTTP/1.1 connections, for any router.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::aborted_response;
pub(crate) use super::aborted_response::abort_response;

/// Accepts until `stop` is set, then drops every connection.
pub(crate) async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (tls, router) = (tls.clone(), router.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    if let Err(error) = connection(stream, tls, router).await {
                        debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = slots
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match tls {
        None => http(stream, router).await,
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
            http(stream, router).await
        }
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answered = router.call(request.map(Body::new));
        async move {
            let response: Response = answered.await.unwrap_or_else(|never| match never {});
            if aborted_response::is_abort(&response) {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
            Ok(response)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// Above the 200 simultaneous channels of the tests, each with pooled connections.
const MAX_CONNECTIONS: usize = 2048;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time limit for a request head, including the next one on an idle connection.
const HEAD: Duration = Duration::from_secs(60);
