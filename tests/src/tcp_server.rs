//! A TCP or HTTP server of a test's own, on a free port.

use anyhow::Result;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{error::Error, future::Future, net::SocketAddr};
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    task::JoinHandle,
};

/// A running server; it accepts no more connections when dropped.
pub struct TcpServer {
    /// Address on which the server listens.
    pub addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TcpServer {
    /// Listens on a free port of 127.0.0.1 and runs `serve` for each connection, all at the same time.
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Self::bind("127.0.0.1:0", serve).await
    }

    /// As [`start`](Self::start), on this address.
    pub async fn bind<F>(
        addr: impl ToSocketAddrs,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Self::on(TcpListener::bind(addr).await?, serve)
    }

    /// As [`start`](Self::start), on this listener.
    pub fn on<F>(
        listener: TcpListener,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self { addr, accepting })
    }

    /// Answers HTTP/1.1 requests on a free port of 127.0.0.1.
    pub async fn http<F, B, E>(
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        Self::http_on(TcpListener::bind("127.0.0.1:0").await?, answer)
    }

    /// As [`http`](Self::http), on this listener.
    pub fn http_on<F, B, E>(
        listener: TcpListener,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        Self::on(listener, move |stream| {
            let answer = service_fn(answer.clone());
            http1::Builder::new().serve_connection(TokioIo::new(stream), answer)
        })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
