//! The browser's answer to an authorization: received by a listener on this host, if the redirect leads there, or pasted by
//! the person. The first one counts.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io::{BufRead, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use url::{Host, Url};
use zeroize::Zeroizing;

/// What the authorization server sent back through the browser.
pub(super) enum AuthorizationResponse {
    /// The parameters of the redirect, decoded.
    Query(Vec<(String, Zeroizing<String>)>),
    /// Something that is no URL: a code typed off the page.
    Code(Zeroizing<String>),
}

impl AuthorizationResponse {
    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        match self {
            Self::Query(pairs) => pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str()),
            Self::Code(_) => None,
        }
    }
}

/// Listens for the browser where `redirect_uri` leads to this host over plain HTTP.
pub(super) struct RedirectListener {
    path: String,
    listeners: Vec<TcpListener>,
}

impl RedirectListener {
    /// Binds the listener if the redirect leads here. The text is why there is none although there should be.
    pub(super) async fn bind(redirect_uri: &str) -> (Self, Option<String>) {
        let mut receiver = Self {
            path: String::new(),
            listeners: Vec::new(),
        };
        let Some((addresses, port, path)) = loopback(redirect_uri) else {
            return (receiver, None);
        };
        receiver.path = path;
        let mut failure = None;
        for address in addresses {
            match TcpListener::bind((address, port)).await {
                Ok(listener) => receiver.listeners.push(listener),
                Err(error) => failure = Some(format!("{address} port {port}: {error}")),
            }
        }
        // A host without IPv6 is no trouble.
        let failure = failure.filter(|_| receiver.listeners.is_empty());
        (receiver, failure)
    }

    /// Whether a browser on this host, or one whose SSH forwards the port, can come back by itself.
    pub(super) fn listens(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Waits for the browser or for one line of standard input, ten minutes at most. An answer that `verify` refuses is
    /// reported to the browser, and the wait continues; a refused paste ends it.
    pub(super) async fn receive<T>(
        self,
        verify: impl Fn(&AuthorizationResponse) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let listens = self.listens();
        let (redirects, mut inbox) = mpsc::channel::<ReceivedRedirect>(1);
        let path: Arc<str> = self.path.into();
        let mut tasks = tokio::task::JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(serve(listener, path.clone(), redirects.clone()));
        }
        drop(redirects);
        let mut pasted = read_pasted();
        let mut typing = true;
        let wait = async {
            loop {
                tokio::select! {
                    Some(redirect) = inbox.recv() => {
                        let verified = verify(&redirect.answer);
                        let refusal = verified.as_ref().err().map(|error| format!("{error:#}"));
                        let _ = redirect.reply.send(refusal);
                        if let Ok(done) = verified {
                            return Ok(done);
                        }
                    }
                    line = &mut pasted, if typing => match line {
                        Ok(Some(line)) => return verify(&parse(&line)),
                        _ if listens => typing = false,
                        _ => bail!("standard input ended before anything was pasted"),
                    },
                    else => bail!("no answer can arrive any more"),
                }
            }
        };
        let done = tokio::time::timeout(LONGEST, wait)
            .await
            .context("nothing came back within ten minutes; start again")?;
        // The browser gets its page before the listener goes.
        tokio::time::sleep(LAST_PAGE).await;
        done
    }
}

/// Addresses, port and path, where the redirect leads to this host over plain HTTP.
fn loopback(redirect_uri: &str) -> Option<(Vec<IpAddr>, u16, String)> {
    let url = Url::parse(redirect_uri).ok()?;
    if url.scheme() != "http" {
        return None;
    }
    let addresses = match url.host()? {
        Host::Domain("localhost") => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Host::Ipv4(address) if address.is_loopback() => vec![address.into()],
        Host::Ipv6(address) if address.is_loopback() => vec![address.into()],
        Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => return None,
    };
    Some((
        addresses,
        url.port_or_known_default()?,
        url.path().to_owned(),
    ))
}

/// A redirect that arrived, and the channel for its outcome: `None` accepts it.
struct ReceivedRedirect {
    answer: AuthorizationResponse,
    reply: oneshot::Sender<Option<String>>,
}

async fn serve(listener: TcpListener, path: Arc<str>, redirects: mpsc::Sender<ReceivedRedirect>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(connection(stream, path.clone(), redirects.clone()));
    }
}

async fn connection(stream: TcpStream, path: Arc<str>, redirects: mpsc::Sender<ReceivedRedirect>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (path, redirects) = (path.clone(), redirects.clone());
        async move { Ok::<_, Infallible>(answer(&request, &path, &redirects).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(PAGE_DEADLINE, serving).await;
}

async fn answer(
    request: &Request<Incoming>,
    path: &str,
    redirects: &mpsc::Sender<ReceivedRedirect>,
) -> Response<Full<Bytes>> {
    let query = match request.uri().query() {
        Some(query) if request.uri().path() == path => query,
        _ => return page(StatusCode::NOT_FOUND, "Nothing is here."),
    };
    let (reply, outcome) = oneshot::channel();
    let answer = AuthorizationResponse::Query(parameters(query));
    if redirects
        .send(ReceivedRedirect { answer, reply })
        .await
        .is_err()
    {
        return page(
            StatusCode::GONE,
            "The agent is no longer waiting for a login.",
        );
    }
    match outcome.await {
        Ok(None) => page(
            StatusCode::OK,
            "The agent has what it needs; go back to its terminal. You can close this window.",
        ),
        Ok(Some(_)) => page(
            StatusCode::BAD_REQUEST,
            "This is not the answer that the agent is waiting for. Open the address that it printed.",
        ),
        Err(_) => page(
            StatusCode::GONE,
            "The agent is no longer waiting for a login.",
        ),
    }
}

/// Plain text: nothing of the query comes back as markup.
fn page(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    // The code is in the address; it must not travel on.
    let referrer = header::HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, referrer);
    let cache = header::HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, cache);
    response
}

/// One line of standard input; `None` at its end. It needs a thread: a terminal cannot be read with a deadline, and the
/// process may end while it waits.
fn read_pasted() -> oneshot::Receiver<Option<Zeroizing<String>>> {
    let (done, line) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::with_capacity(MAX_PASTE as usize));
        let mut limited = std::io::stdin().lock().take(MAX_PASTE);
        let got = loop {
            text.clear();
            match limited.read_line(&mut text) {
                Ok(0) | Err(_) => break None,
                Ok(_) if text.trim().is_empty() => {}
                Ok(_) => break Some(text),
            }
        };
        let _ = done.send(got);
    });
    line
}

/// A whole URL, its query alone, or a bare code.
fn parse(line: &str) -> AuthorizationResponse {
    let text = line.trim().trim_matches(['"', '\'', '<', '>']);
    let query = match text.split_once('?') {
        Some((_, query)) => Some(query),
        None => text.contains('=').then_some(text),
    };
    match query {
        Some(query) => {
            AuthorizationResponse::Query(parameters(query.split('#').next().unwrap_or_default()))
        }
        None => AuthorizationResponse::Code(Zeroizing::new(text.to_owned())),
    }
}

fn parameters(query: &str) -> Vec<(String, Zeroizing<String>)> {
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(key, value)| (key.into_owned(), Zeroizing::new(value.into_owned())))
        .collect()
}

/// A person finds the browser, logs in with a second factor, reads what is to be allowed.
const LONGEST: Duration = Duration::from_secs(600);
/// Local, and small.
const LAST_PAGE: Duration = Duration::from_millis(100);
const PAGE_DEADLINE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Bytes. The least hyper allows is 8 KiB; a redirect is well below.
const MAX_HEAD: usize = 16 << 10;
/// Bytes. Codes of some servers are 2 KiB long.
const MAX_PASTE: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_pasted_url_its_query_or_the_bare_code_are_all_understood() {
        for line in [
            "https://localhost/callback?code=a%2Fb&state=s\n",
            " 'http://127.0.0.1:8400/?state=s&code=a%2Fb#frag' ",
            "code=a%2Fb&state=s",
        ] {
            let answer = parse(line);
            assert_eq!(answer.parameter("code"), Some("a/b"), "{line}");
            assert_eq!(answer.parameter("state"), Some("s"), "{line}");
        }
        assert!(
            matches!(parse("abc-123\n"), AuthorizationResponse::Code(code) if *code == "abc-123")
        );
    }

    #[test]
    fn only_plain_http_to_this_host_is_listened_for() {
        assert_eq!(loopback("http://127.0.0.1:8400/cb").unwrap().1, 8400);
        assert_eq!(loopback("http://localhost:8400/cb").unwrap().0.len(), 2);
        assert_eq!(loopback("http://[::1]:8400").unwrap().2, "/");
        for elsewhere in [
            "https://localhost:8400/cb",
            "http://jira.corp.example/cb",
            "http://192.0.2.7:8400/cb",
            "oob",
        ] {
            assert!(loopback(elsewhere).is_none(), "{elsewhere}");
        }
    }
}
