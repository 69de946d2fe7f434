//! Behind Cloud's API gateway: the site is asked for its id, and the prefix stands before the target.

use super::*;
use crate::upstream::{CloudRoute, ControlClient};
use tokio::sync::mpsc;

const ID: &str = "11223344-a1b2-4b33-8c44-def123456789";

/// A server that answers every head with `body` and passes the head on.
async fn telling(body: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let (heads, seen) = mpsc::channel(8);
    let address = server(move |mut peer| {
        let heads = heads.clone();
        async move {
            while let Some(head) = peer.head().await {
                heads.send(head).await.unwrap();
                peer.ok(body).await;
            }
        }
    })
    .await;
    (address, seen)
}

fn behind(site: SocketAddr, api: SocketAddr, cloud_id: Option<&str>) -> Settings {
    let mut settings = Settings::new("http://acme.test".parse().unwrap());
    settings.address = Some(site);
    let Ok(UpstreamTarget::Http(api)) = format!("http://{api}").parse() else {
        panic!("{api}");
    };
    settings.cloud = Some(CloudRoute::Gateway {
        api,
        cloud_id: cloud_id.map(str::to_owned),
    });
    settings
}

#[tokio::test]
async fn the_site_tells_its_id_once_and_targets_keep_their_bytes_after_the_prefix() {
    let (site, mut asked) = telling(r#"{"cloudId":"11223344-a1b2-4b33-8c44-def123456789"}"#).await;
    let (api, mut seen) = telling("").await;
    let upstream = Upstream::new(behind(site, api, None)).unwrap();
    for target in [
        "/rest/api/2/issue/A%2FB",
        "/rest/api/3/search?jql=a+b%20c%2Bd&x=%7e",
        "/rest/api/2/x?{a}|b",
        "/",
    ] {
        text(upstream.send(get(target)).await.unwrap()).await;
        let head = seen.recv().await.unwrap();
        let mut lines = head.lines();
        assert_eq!(
            lines.next().unwrap(),
            format!("GET /ex/jira/{ID}{target} HTTP/1.1")
        );
        assert!(head.contains(&format!("host: {api}\r\n")), "{head}");
    }
    let head = asked.recv().await.unwrap();
    assert!(head.starts_with("GET /_edge/tenant_info HTTP/1.1\r\n"));
    assert!(head.contains("host: acme.test\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert!(asked.try_recv().is_err(), "asked once");
}

#[tokio::test]
async fn a_written_id_spares_the_question_and_control_traffic_goes_the_same_way() {
    let (site, mut asked) = telling("").await;
    let (api, mut seen) = telling("{}").await;
    let settings = behind(site, api, Some("abc"));
    let UpstreamTarget::Http(target) = settings.target.clone() else {
        panic!("no http");
    };
    let client = ControlClient::like_data_path(&settings, &target).unwrap();
    let head = client.head("/rest/api/2/myself");
    client.send(head, Bytes::new()).await.unwrap();
    text(
        Upstream::new(settings)
            .unwrap()
            .send(get("/a"))
            .await
            .unwrap(),
    )
    .await;
    for path in ["/rest/api/2/myself", "/a"] {
        let head = seen.recv().await.unwrap();
        assert!(
            head.starts_with(&format!("GET /ex/jira/abc{path} HTTP/1.1\r\n")),
            "{head}"
        );
    }
    assert!(asked.try_recv().is_err());
}

#[tokio::test]
async fn without_an_id_nothing_is_sent_and_after_a_moment_the_site_is_asked_again() {
    let (api, mut seen) = telling("").await;
    for answer in ["{}", r#"{"cloudId":"../admin"}"#, "<html>"] {
        let (site, mut asked) = telling(answer).await;
        let upstream = Upstream::new(behind(site, api, None)).unwrap();
        for _ in 0..2 {
            for _ in 0..3 {
                let error = upstream.send(get("/a")).await.err().unwrap();
                assert_eq!(error.delivery, Delivery::NotSent);
                assert!(error.detail.contains("cloud id of http://acme.test"));
                assert!(error.detail.contains("cloud_id"), "{}", error.detail);
            }
            assert!(asked.recv().await.is_some());
            assert!(asked.try_recv().is_err(), "asked once");
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(5)).await;
            tokio::time::resume();
        }
    }
    assert!(seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn requests_do_not_queue_one_behind_another_for_a_site_that_does_not_answer() {
    let (heads, mut asked) = mpsc::channel(64);
    let site = server(move |mut peer| {
        let heads = heads.clone();
        async move {
            while let Some(head) = peer.head().await {
                heads.send(head).await.unwrap();
            }
        }
    })
    .await;
    let upstream = Upstream::new(behind(site, site, None)).unwrap();
    let begun = tokio::time::Instant::now();
    let all = (0..10).map(|_| upstream.send(get("/a")));
    for one in futures_util::future::join_all(all).await {
        assert_eq!(one.err().unwrap().delivery, Delivery::NotSent);
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
    asked.close();
    let mut count = 0;
    while asked.recv().await.is_some() {
        count += 1;
    }
    assert!(count <= 1, "asked {count} times");
}
