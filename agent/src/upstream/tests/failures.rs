//! Every step that can fail, with its own name, its own words and what is known of the delivery.

use super::*;

async fn failure(settings: Settings) -> SendError {
    let upstream = Upstream::new(settings).unwrap();
    soon("an error", upstream.send(get("/x?secret=1")))
        .await
        .unwrap_err()
}

fn assert_told(error: &SendError, kind: FailedStep, delivery: Delivery, words: &str) {
    assert_eq!((error.kind, error.delivery), (kind, delivery), "{error}");
    assert!(error.detail.contains(words), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let settings = Settings::new("http://no-such-host.invalid".parse().unwrap());
    let error = failure(settings).await;
    assert_told(
        &error,
        FailedStep::Resolve,
        Delivery::NotSent,
        "no-such-host.invalid",
    );
}

#[tokio::test]
async fn a_port_that_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = failure(settings(address)).await;
    assert_told(
        &error,
        FailedStep::Connect,
        Delivery::NotSent,
        "refused the connection",
    );
    assert!(error.detail.contains("jira.test:80"), "{error}");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let alive = server(Peer::serve).await;
    let dialer = UpstreamDialer::new(&settings(alive)).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let stream = dialer.connect(vec![dead, alive], deadline).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), alive);
    let error = dialer
        .connect(vec![dead, dead], deadline)
        .await
        .unwrap_err();
    let told = format!("{dead} refused the connection, {dead} refused the connection");
    assert!(error.detail.contains(&told), "{error}");
}

#[tokio::test]
async fn a_name_is_resolved() {
    let address = server(Peer::serve).await;
    let url = format!("http://localhost:{}", address.port());
    let upstream = Upstream::new(Settings::new(url.parse().unwrap())).unwrap();
    assert_eq!(text(upstream.send(get("/x")).await.unwrap()).await, "0");
}

#[tokio::test]
async fn an_answer_that_is_no_http() {
    let address = server(|mut peer| async move {
        peer.head().await;
        peer.say("SSH-2.0-OpenSSH_9.2\r\n").await;
        peer.rest().await;
    })
    .await;
    let error = failure(settings(address)).await;
    assert_told(
        &error,
        FailedStep::Exchange,
        Delivery::MaybeSent,
        "no valid HTTP",
    );
}

/// hyper says only that there is one.
#[tokio::test]
async fn a_header_that_breaks_the_answer_is_named_and_its_value_is_not() {
    for value in ["a\0secret", "a\rsecret"] {
        let address = server(move |mut peer| async move {
            peer.head().await;
            let head = "HTTP/1.1 200 OK\r\nserver: x\r\n";
            peer.say(&format!(
                "{head}x-odd: {value}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
            peer.rest().await;
        })
        .await;
        let error = failure(settings(address)).await;
        assert_told(
            &error,
            FailedStep::AnswerHead,
            Delivery::MaybeSent,
            "its header x-odd contains",
        );
        assert!(!error.detail.contains("secret"), "{}", error.detail);
    }
}

#[tokio::test]
async fn a_connection_closed_instead_of_an_answer() {
    let address = server(|mut peer| async move {
        peer.head().await;
    })
    .await;
    let error = failure(settings(address)).await;
    assert_told(
        &error,
        FailedStep::Exchange,
        Delivery::MaybeSent,
        "closed the connection",
    );
}

#[tokio::test]
async fn an_unasked_switch_of_protocols() {
    let address = server(|mut peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
            .await;
        peer.rest().await;
    })
    .await;
    let error = failure(settings(address)).await;
    assert_told(
        &error,
        FailedStep::Exchange,
        Delivery::MaybeSent,
        "switched protocols",
    );
}

#[tokio::test]
async fn a_pool_that_stays_busy() {
    let address = server(|mut peer| async move {
        peer.head().await;
        peer.rest().await;
    })
    .await;
    let mut settings = settings(address);
    settings.max_connections = 1;
    settings.pool_wait = Duration::from_millis(50);
    let upstream = Arc::new(Upstream::new(settings).unwrap());
    let first = tokio::spawn({
        let upstream = upstream.clone();
        async move { upstream.send(get("/x")).await.map(drop) }
    });
    until("the first request holds the connection", || {
        upstream.protection.free() == 0
    })
    .await;
    let error = upstream.send(get("/x")).await.unwrap_err();
    assert_told(
        &error,
        FailedStep::PoolExhausted,
        Delivery::NotSent,
        "max_connections",
    );
    first.abort();
}

#[test]
fn a_tcp_target_is_no_http_upstream() {
    let settings = Settings::new("tcp://127.0.0.1:1".parse().unwrap());
    assert!(matches!(
        Upstream::new(settings),
        Err(UpstreamSettingsError::NotHttp)
    ));
}
