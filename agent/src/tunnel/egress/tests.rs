//! What proxies say, and what an administrator is told. The real ones are in `tests/tests/egress.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::{
    secret::Secret,
    tunnel::{ignore, session::RetryPace},
};
use parking_lot::Mutex;
use std::net::SocketAddr;
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinHandle};

const LIMIT: Duration = Duration::from_secs(20);

/// Takes one connection; for each turn, waits until the question ends with what is named, then answers.
struct Script {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<u8>>>,
    _task: JoinHandle<()>,
}

impl Script {
    async fn play(turns: Vec<(&'static [u8], Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (until, answer) in turns {
                loop {
                    let mut byte = [0];
                    if stream.read_exact(&mut byte).await.is_err() {
                        return;
                    }
                    seen.lock().push(byte[0]);
                    if seen.lock().ends_with(until) {
                        break;
                    }
                }
                let _ = stream.write_all(&answer).await;
            }
            let _ = stream.shutdown().await;
            // Reads on, so that nothing is lost to a reset.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        });
        Self {
            address,
            asked,
            _task: task,
        }
    }

    /// One answer of an HTTP proxy.
    async fn http(answer: &str) -> Self {
        Self::play(vec![(b"\r\n\r\n", answer.as_bytes().to_vec())]).await
    }

    fn proxy(&self, scheme: &str) -> ProxyServer {
        ProxyServer::parse(&format!("{scheme}://{}", self.address)).unwrap()
    }

    fn asked(&self) -> Vec<u8> {
        self.asked.lock().clone()
    }
}

fn login(proxy: ProxyServer) -> ProxyServer {
    let password = PasswordSource::Held(Arc::new(Secret::new(b"s3cret".to_vec())));
    let username = "acme".to_owned();
    ProxyServer {
        credential: Some(ProxyCredential { username, password }),
        ..proxy
    }
}

fn gateway(text: &str) -> GatewayAddress {
    text.parse().unwrap()
}

async fn open(proxy: ProxyServer, limit: Duration) -> Result<GatewayConnection, EgressError> {
    let egress = Egress::new(Some(proxy), &[], None);
    let options = socket::SocketOptions::default();
    egress
        .open(
            &gateway("gw.vendor.example:443"),
            limit,
            &options,
            &ignore(),
            AddressChoice::default(),
        )
        .await
}

async fn refused(proxy: ProxyServer) -> ProxyError {
    refused_within(proxy, LIMIT).await
}

async fn refused_within(proxy: ProxyServer, limit: Duration) -> ProxyError {
    match open(proxy, limit).await {
        Err(EgressError::Proxy(error)) => *error,
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn connect_names_the_gateway_and_keeps_what_came_with_the_answer() {
    let script = Script::http("HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-early\r\n").await;
    let mut way = open(login(script.proxy("http")), LIMIT).await.unwrap();
    let mut banner = [0; 15];
    way.reader.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-early\r\n");
    let asked = String::from_utf8(script.asked()).unwrap();
    let head = "CONNECT gw.vendor.example:443 HTTP/1.1\r\n";
    assert!(asked.starts_with(head), "{asked}");
    assert!(asked.contains("host: gw.vendor.example:443\r\n"), "{asked}");
    let basic = "proxy-authorization: Basic YWNtZTpzM2NyZXQ=\r\n";
    assert!(asked.contains(basic), "{asked}");
}

#[tokio::test]
async fn an_answer_with_a_folded_header_or_space_before_a_colon_opens_the_way() {
    for head in ["Via : x", "Via: a,\r\n b"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
        let script = Script::http(&answer).await;
        open(script.proxy("http"), LIMIT).await.expect(head);
    }
}

#[tokio::test]
async fn without_a_login_none_is_sent() {
    let script = Script::http("HTTP/1.1 200 OK\r\n\r\n").await;
    open(script.proxy("http"), LIMIT).await.unwrap();
    let asked = String::from_utf8(script.asked()).unwrap();
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
}

#[tokio::test]
async fn each_refusal_of_an_http_proxy_is_told_apart() {
    let mut wrong = Vec::new();
    const BASIC: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
    const NTLM: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n";
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n";
    const GONE: &str =
        "HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n";
    for (answer, with_login, kind, retry, text, remedy) in [
        (
            BASIC,
            false,
            ProxyFault::LoginMissing,
            RetryPace::Slow,
            "none is configured",
            "proxy_password_file",
        ),
        (
            BASIC,
            true,
            ProxyFault::LoginRefused,
            RetryPace::Slow,
            "user \"acme\"",
            "may be locked",
        ),
        (
            NTLM,
            true,
            ProxyFault::LoginScheme,
            RetryPace::Slow,
            "it offers Negotiate, NTLM",
            "Basic account",
        ),
        (
            DENIED,
            true,
            ProxyFault::Policy,
            RetryPace::Slow,
            "403 Forbidden (ERR_ACCESS_DENIED 0)",
            "CONNECT",
        ),
        (
            GONE,
            true,
            ProxyFault::Gateway,
            RetryPace::Soon,
            "cannot connect to gw.vendor.example:443",
            "lets the proxy connect",
        ),
        (
            "HTTP/1.1 504 Gateway Timeout\r\n\r\n",
            false,
            ProxyFault::Gateway,
            RetryPace::Soon,
            "504",
            "lets the proxy connect",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login\r\n\r\n",
            false,
            ProxyFault::Redirect,
            RetryPace::Slow,
            "302 Found to http://login",
            "without that page",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login/?session=s3cret\r\n\r\n",
            false,
            ProxyFault::Redirect,
            RetryPace::Slow,
            "redirects to a web page",
            "without that page",
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\n\r\n",
            false,
            ProxyFault::Busy,
            RetryPace::Slow,
            "accepts no more connections from this host: 429",
            "higher limit",
        ),
        (
            "HTTP/1.1 500 Internal Server Error\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n",
            false,
            ProxyFault::Failing,
            RetryPace::Soon,
            "ERR_CANNOT_FORWARD",
            "its log at this time",
        ),
        (
            "HTTP/1.1 404 Not Found\r\n\r\n",
            false,
            ProxyFault::NotAProxy,
            RetryPace::Soon,
            "answered 404 Not Found to CONNECT",
            "another server answers",
        ),
        (
            "HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate, NTLM, Basic realm=\"a, Digest b\", charset=\"UTF-8\"\r\n\r\n",
            true,
            ProxyFault::LoginRefused,
            RetryPace::Slow,
            "user \"acme\"",
            "may be locked",
        ),
        (
            "HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm=\"Basic, Basic\", nonce = \"x\", Negotiate\r\n\r\n",
            true,
            ProxyFault::LoginScheme,
            RetryPace::Slow,
            "it offers Digest, Negotiate",
            "Basic account",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nServer : x\r\nX-Squid-Error: ERR_ACCESS_DENIED\r\n 0\r\n\r\n",
            true,
            ProxyFault::Policy,
            RetryPace::Slow,
            "403 Forbidden (ERR_ACCESS_DENIED",
            "CONNECT",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n",
            false,
            ProxyFault::NotAProxy,
            RetryPace::Soon,
            "does not speak HTTP",
            "tunnel.proxy",
        ),
        (
            "",
            false,
            ProxyFault::Closed,
            RetryPace::Soon,
            "without an answer",
            "tunnel.proxy",
        ),
    ] {
        let script = Script::http(answer).await;
        let proxy = script.proxy("http");
        let error = refused(if with_login { login(proxy) } else { proxy }).await;
        let (told, cure) = (error.to_string(), error.remedy());
        let is_told = told.contains(text) && told.contains(&format!("http://{}", script.address));
        let is_right = (error.kind, error.retry()) == (kind, retry) && cure.contains(remedy);
        if !is_told || !is_right || told.contains("s3cret") {
            wrong.push(format!("{kind:?}: {error:?}: {told}; {cure}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn an_answer_without_end_and_one_that_never_comes_are_bounded() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let script = Script::http(&endless).await;
    let error = refused(script.proxy("http")).await;
    assert!(error.to_string().contains("too long"), "{error}");

    for scheme in ["http", "socks5"] {
        // Its queue takes the connection, and nobody is there.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let proxy = ProxyServer::parse(&url).unwrap();
        let error = refused_within(proxy, Duration::from_millis(200)).await;
        assert_eq!(error.kind, ProxyFault::Silent);
        assert!(
            error.to_string().contains("did not answer within"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn control_bytes_of_a_proxy_do_not_reach_a_message() {
    let answer = format!(
        "HTTP/1.1 403 x\r\nX-Squid-Error: \tA\u{9b}31m{}\r\n\r\n",
        "y".repeat(5000)
    );
    let script = Script::http(&answer).await;
    let text = refused(script.proxy("http")).await.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() < 400, "{text}");
}

#[tokio::test]
async fn socks_lets_the_proxy_resolve_the_name_and_loses_no_early_byte() {
    let mut reply = vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    reply.extend_from_slice(b"SSH-2.0-early\r\n");
    let script = Script::play(vec![
        (&[5, 2, 0, 2], vec![5, 2]),
        (b"s3cret", vec![1, 0]),
        (&[1, 187], reply),
    ])
    .await;
    let mut way = open(login(script.proxy("socks5")), LIMIT).await.unwrap();
    let mut banner = [0; 15];
    way.reader.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-early\r\n");
    let asked = script.asked();
    let mut end = vec![5, 1, 0, 3, 21];
    end.extend_from_slice(b"gw.vendor.example\x01\xbb");
    // The length of the name stands before it.
    end[4] = u8::try_from("gw.vendor.example".len()).unwrap();
    assert!(asked.ends_with(&end), "{asked:?}");
}

#[tokio::test]
async fn each_refusal_of_a_socks_proxy_is_told_apart() {
    let reply = |code: u8| {
        (
            b"\x01\xbb".as_slice(),
            vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0],
        )
    };
    let greeted = || (b"\x05\x01\x00".as_slice(), vec![5, 0]);
    for (turns, with_login, kind, text) in [
        (
            vec![(b"\x05\x01\x00".as_slice(), vec![5, 255])],
            false,
            ProxyFault::LoginMissing,
            "none is configured",
        ),
        (
            vec![(b"\x05\x02\x00\x02".as_slice(), vec![5, 255])],
            true,
            ProxyFault::LoginScheme,
            "no login by user name",
        ),
        (
            vec![
                (b"\x05\x02\x00\x02".as_slice(), vec![5, 2]),
                (b"s3cret", vec![1, 1]),
            ],
            true,
            ProxyFault::LoginRefused,
            "acme",
        ),
        (
            vec![greeted(), reply(2)],
            false,
            ProxyFault::Policy,
            "forbids connections to gw.vendor.example:443",
        ),
        (
            vec![greeted(), reply(4)],
            false,
            ProxyFault::Gateway,
            "Host unreachable",
        ),
        (
            vec![greeted(), reply(5)],
            false,
            ProxyFault::Gateway,
            "Connection refused",
        ),
        (
            vec![greeted(), reply(77)],
            false,
            ProxyFault::Answer,
            "SOCKS5 does not have",
        ),
        (
            vec![(b"\x05\x01\x00".as_slice(), b"HTTP/1.1 400\r\n\r\n".to_vec())],
            false,
            ProxyFault::NotAProxy,
            "does not speak SOCKS5",
        ),
        (
            vec![(b"\x05\x01\x00".as_slice(), vec![])],
            false,
            ProxyFault::Closed,
            "closed the connection",
        ),
    ] {
        let script = Script::play(turns).await;
        let proxy = script.proxy("socks5");
        let error = refused(if with_login { login(proxy) } else { proxy }).await;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_not_the_gateway() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let proxy = ProxyServer::parse(&format!("http://{address}")).unwrap();
    let error = refused(proxy).await;
    assert_eq!(error.kind, ProxyFault::Connect);
    assert!(
        error.to_string().contains(&format!("{address} refused")),
        "{error}"
    );
    let error = refused(ProxyServer::parse("http://proxy.invalid:3128").unwrap()).await;
    assert_eq!(error.kind, ProxyFault::Resolve);
    assert!(error.to_string().contains("proxy.invalid"), "{error}");
}

#[tokio::test]
async fn a_password_file_that_is_gone_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::http("").await;
    let file = crate::secret::SecretFile::new(folder.path().join("gone"));
    let mut proxy = script.proxy("http");
    proxy.credential = Some(ProxyCredential {
        username: "acme".to_owned(),
        password: PasswordSource::File(file),
    });
    let error = refused(proxy).await;
    assert_eq!(
        (error.kind, error.retry()),
        (ProxyFault::Password, RetryPace::Slow)
    );
    assert!(error.to_string().contains("gone"), "{error}");
}

#[test]
fn no_proxy_excepts_hosts_domains_addresses_and_networks() {
    let proxy = ProxyServer::parse("http://proxy.corp:3128").unwrap();
    let list = ["vendor.example", "10.0.0.0/8", "::1", "192.0.2.7"].map(str::to_owned);
    let egress = Egress::new(Some(proxy.clone()), &list, None);
    let straight = |text: &str| egress.proxy(&gateway(text)).is_none();
    for excepted in [
        "vendor.example:443",
        "GW.vendor.example:1",
        "tls://gw.vendor.example:1",
        "10.9.9.9:1",
        "[::1]:1",
        "192.0.2.7:1",
    ] {
        assert!(straight(excepted), "{excepted}");
    }
    for proxied in [
        "notvendor.example:443",
        "11.0.0.1:1",
        "[::2]:1",
        "192.0.2.8:1",
    ] {
        assert!(!straight(proxied), "{proxied}");
    }
    let all = Egress::new(Some(proxy.clone()), &["*".to_owned()], None);
    assert!(all.proxy(&gateway("a:1")).is_none());
    let none = Egress::new(Some(proxy), &[], None);
    assert!(none.proxy(&gateway("a:1")).is_some());
}

#[test]
fn urls_are_taken_or_refused_for_a_reason() {
    for (text, shown) in [
        ("http://proxy.corp:3128", "http://proxy.corp:3128"),
        ("http://proxy.corp:3128/", "http://proxy.corp:3128"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("socks5h://proxy:1080", "socks5://proxy:1080"),
    ] {
        assert_eq!(ProxyServer::parse(text).unwrap().to_string(), shown);
    }
    for (text, error) in [
        ("https://proxy.corp:3128", ProxyUrlError::Scheme),
        ("socks4://proxy.corp:3128", ProxyUrlError::Scheme),
        ("http://proxy.corp", ProxyUrlError::NoPort),
        ("proxy.corp:3128", ProxyUrlError::NoUrl),
        ("http://proxy.corp:3128/x", ProxyUrlError::Path),
        ("http://acme:s3cret@proxy.corp:3128", ProxyUrlError::Login),
        ("", ProxyUrlError::NoUrl),
    ] {
        assert_eq!(ProxyServer::parse(text).err(), Some(error), "{text}");
    }
}

#[tokio::test]
async fn a_variable_may_leave_the_scheme_out_and_hold_a_login() {
    let plain = ProxyServer::parse_variable("proxy.corp:3128").unwrap();
    assert_eq!(plain.to_string(), "http://proxy.corp:3128");
    let proxy = ProxyServer::parse_variable("socks5://ac%40me:s3%3Acret@proxy.corp:1080").unwrap();
    assert_eq!(proxy.to_string(), "socks5://proxy.corp:1080");
    let login = proxy.load_credential().await.unwrap().unwrap();
    assert_eq!(login.username, "ac@me");
    assert_eq!(login.password.expose(), b"s3:cret");
}
