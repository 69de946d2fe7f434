//! Deadlines, the stall limit, the cap of concurrent requests, and draining.

use super::support::*;
use crate::{
    http::HttpLimits,
    pause::{PauseRegistry, PauseRequest},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::Instant,
};

fn limited(change: impl FnOnce(&mut HttpLimits)) -> Options {
    let mut options = Options::default();
    change(&mut options.limits);
    options
}

#[tokio::test(start_paused = true)]
async fn a_silent_channel_is_closed_when_idle_for_too_long() {
    for first in ["", "GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let agent = Agent::new("127.0.0.1:9", Options::default());
        let mut vendor = agent.channel();
        vendor.send(first).await;
        if !first.is_empty() {
            assert_eq!(vendor.reply().await.status, 400);
        }
        let begun = Instant::now();
        assert!(vendor.end().await.is_empty());
        let idle = agent.forward.limits().idle_timeout;
        assert!(begun.elapsed() >= idle && begun.elapsed() < idle + Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_channel_is_idle_only_from_its_last_answer() {
    let agent = Agent::new("127.0.0.1:9", Options::default());
    let mut vendor = agent.channel();
    let idle = agent.forward.limits().idle_timeout;
    for _ in 0..5 {
        tokio::time::sleep(idle - Duration::from_secs(1)).await;
        vendor.send("GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(vendor.reply().await.status, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_to_its_end_is_408() {
    for (head, after_one) in [
        ("GET / HTTP/1.1\r\nhost:", false),
        ("GET / HT", true),
        ("PRI * HT", false),
    ] {
        let mut agent = Agent::new("127.0.0.1:9", Options::default());
        let mut vendor = agent.channel();
        if after_one {
            vendor.send("GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(vendor.reply().await.status, 400);
            agent.records.next().await;
        }
        let begun = Instant::now();
        vendor.send(head).await;
        let limit = agent.forward.limits().head_timeout;
        if head == "GET / HT" {
            // A byte now and then does not help.
            tokio::time::sleep(limit - Duration::from_secs(1)).await;
            vendor.send("TP").await;
        }
        let reply = vendor.reply().await;
        reply.assert_problem("head-timeout", "not_sent");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 2 + Duration::from_secs(1));
        assert!(vendor.end().await.is_empty());
        assert_eq!(agent.records.next().await["error"], "head-timeout");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_small_pieces_has_one_limit() {
    let agent = Agent::new("127.0.0.1:9", Options::default());
    let mut vendor = agent.channel();
    let limit = agent.forward.limits().head_timeout;
    let begun = Instant::now();
    for byte in ["P", "R", "I"] {
        vendor.send(byte).await;
        tokio::time::sleep(limit - Duration::from_secs(1)).await;
    }
    let replied = vendor.reply().await;
    replied.assert_problem("head-timeout", "not_sent");
    // The half preface, then the head it is taken for, while the vendor sat out three.
    assert!(begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
    assert!(vendor.served.await.is_ok());
}

/// Jira is a real socket here, so time is real and the limit short; what moves does so twelve times
/// within it.
const STALL: Duration = Duration::from_millis(600);

async fn read_all(request: Request<Incoming>) -> Response<JiraBody> {
    let _ = request.into_body().collect().await;
    Response::new(full("read"))
}

#[tokio::test]
async fn an_upload_that_stands_still_is_broken_off_and_one_that_moves_is_not() {
    let mut agent = Agent::new(&jira(read_all).await, limited(|l| l.stall_timeout = STALL));
    let mut vendor = agent.channel();
    let head = "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    vendor.send(head).await;
    let begun = Instant::now();
    while begun.elapsed() < STALL * 2 {
        tokio::time::sleep(STALL / 12).await;
        vendor.send("1\r\na\r\n").await;
    }
    vendor.send("0\r\n\r\n").await;
    assert_eq!(vendor.reply().await.text(), "read");
    drop(vendor);
    assert_eq!(agent.records.next().await["outcome"], "complete");

    let mut vendor = agent.channel();
    vendor
        .send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\nhello")
        .await;
    let reply = vendor.reply().await;
    reply.assert_problem("upload-stalled", "maybe_sent");
    assert_eq!(reply.header("retry-after"), None);
    assert!(vendor.end().await.is_empty());
    let record = agent.records.next().await;
    assert_eq!(
        (&record["error"], &record["request_bytes"]),
        (&"upload-stalled".into(), &5.into())
    );
}

#[tokio::test]
async fn an_answer_that_jira_lets_stand_still_is_broken_off() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let mut agent = Agent::new(&jira.await, limited(|l| l.stall_timeout = STALL));
    let mut vendor = agent.channel();
    vendor.send("GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await;
    vendor.try_reply("GET").await.expect_err("a broken answer");
    vendor.end().await;
    let record = agent.records.next().await;
    assert_eq!(
        (&record["outcome"], &record["response_bytes"]),
        (&"stalled".into(), &5.into())
    );
    assert_eq!(agent.forward.in_flight(), 0);
}

#[tokio::test]
async fn an_answer_that_the_vendor_does_not_read_is_broken_off() {
    // Both larger and smaller than what is buffered on the way.
    for (size, outcome) in [(32 << 20, "stalled"), (4 << 10, "complete")] {
        let jira = jira(move |_| async move { Response::new(full(vec![b'x'; size])) });
        let mut agent = Agent::new(&jira.await, limited(|l| l.stall_timeout = STALL));
        let (mut io, channel) = tokio::io::duplex(1 << 10);
        let served = agent.serve(channel);
        io.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        tokio::time::timeout(LIVENESS, served)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(agent.records.next().await["outcome"], outcome);
        assert_eq!(agent.forward.in_flight(), 0);
        drop(io);
    }
}

#[tokio::test]
async fn a_download_that_is_read_slowly_is_not_broken_off() {
    let jira = jira(|_| async { Response::new(full(vec![b'x'; 512 << 10])) });
    let mut agent = Agent::new(&jira.await, limited(|l| l.stall_timeout = STALL));
    let (mut io, channel) = tokio::io::duplex(16 << 10);
    let _served = agent.serve(channel);
    io.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut read = 0;
    let mut buffer = [0; 16 << 10];
    while read < 512 << 10 {
        tokio::time::sleep(STALL / 12).await;
        read += io.read(&mut buffer).await.unwrap();
    }
    assert_eq!(agent.records.next().await["outcome"], "complete");
}

#[tokio::test]
async fn an_upload_that_drips_is_broken_off_and_an_export_that_jira_writes_slowly_is_not() {
    let stall = Duration::from_millis(200);
    let rate = |l: &mut HttpLimits| (l.stall_timeout, l.min_body_rate) = (stall, 1 << 20);
    let mut agent = Agent::new(&jira(read_all).await, limited(rate));
    let (mut io, channel) = tokio::io::duplex(16 << 10);
    let _served = agent.serve(channel);
    io.write_all(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n")
        .await
        .unwrap();
    let record = tokio::select! {
        record = agent.records.next() => record,
        () = async {
            loop {
                tokio::time::sleep(stall / 12).await;
                let _ = io.write_all(b"a").await;
            }
        } => unreachable!(),
    };
    assert_eq!(record["error"], "upload-stalled");
    assert_eq!(record["delivery"], "maybe_sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert_ne!(io.read_buf(&mut answer).await.unwrap(), 0);
    }
    // Not for a pause: a busy machine may make one.
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("slower than 1048576 bytes"), "{answer}");

    let slow = raw_jira(move |mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
        stream.write_all(head).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(stall / 12).await;
            stream.write_all(b"x").await.unwrap();
        }
        std::future::pending().await
    });
    let mut agent = Agent::new(&slow.await, limited(rate));
    let reply = agent.channel().get("/x").await;
    assert_eq!(reply.body.len(), 100);
    assert_eq!(agent.records.next().await["outcome"], "complete");
}

#[tokio::test(start_paused = true)]
async fn empty_lines_neither_keep_a_channel_nor_stand_for_a_request() {
    let agent = Agent::new("127.0.0.1:9", Options::default());
    let idle = agent.forward.limits().idle_timeout;
    // One that came late moves no timer.
    let mut vendor = agent.channel();
    vendor.send("\r\n").await;
    let begun = Instant::now();
    tokio::time::sleep(idle - Duration::from_secs(1)).await;
    vendor.send("\r\n").await;
    assert!(vendor.end().await.is_empty());
    assert!(begun.elapsed() < idle + Duration::from_secs(1));
    // Nor does one in two pieces, more often than there may be lines.
    let mut vendor = agent.channel();
    let begun = Instant::now();
    let dripped = async {
        loop {
            for piece in ["\r", "\n"] {
                vendor.io.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if vendor.served.is_finished() {
                return;
            }
        }
    };
    tokio::time::timeout(idle, dripped).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    // As old clients send it after a body.
    let mut vendor = agent.channel();
    vendor
        .send("\r\n\r\nGET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    vendor
        .reply()
        .await
        .assert_problem("ambiguous-target", "not_sent");
}

#[tokio::test]
async fn what_is_pipelined_too_far_is_thrown_away_and_told_so() {
    let (jira, gate) = gated().await;
    let mut agent = Agent::new(&jira, Options::default());
    let mut vendor = agent.channel();
    vendor.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    // It is taken, or this would wait for ever, and not kept: the memory of this process is looked at end to end.
    let next = "GET /next HTTP/1.1\r\nhost: x\r\n\r\n";
    vendor.send(next.repeat(200_000)).await;
    gate.add_permits(1);
    assert!(vendor.reply().await.text().starts_with("GET /slow\n"));
    let last = vendor.reply().await;
    last.assert_problem("overloaded", "not_sent");
    assert_eq!(last.header("connection"), Some("close"));
    assert!(vendor.end().await.is_empty());
    assert_eq!(agent.records.next().await["target"], "/slow");
    let refused = agent.records.next().await;
    assert_eq!(refused["error"], "overloaded");
    assert!(agent.records.is_empty(), "none of the others was looked at");
}

/// Jira has no connection free, so that nobody asks for the body. What lies behind that is bounded all the same.
#[tokio::test]
async fn what_is_pipelined_behind_a_body_that_nobody_asks_for_is_thrown_away_too() {
    for (begin, rest) in [
        ("content-length: 10\r\n\r\n01234", "56789"),
        (
            "transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n",
            "5\r\n56789\r\n0\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
            "",
        ),
    ] {
        let (jira, gate) = gated().await;
        let mut agent = Agent::new(
            &jira,
            Options {
                max_connections: 1,
                ..Options::default()
            },
        );
        let mut busy = agent.channel();
        busy.send("GET /busy HTTP/1.1\r\nhost: x\r\n\r\n").await;
        while agent.forward.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        let mut vendor = agent.channel();
        let head = "POST /slow HTTP/1.1\r\nhost: x\r\n";
        vendor.send(format!("{head}{begin}")).await;
        while agent.forward.in_flight() < 2 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        vendor.send(rest).await;
        // It is taken, or this would wait for ever.
        let next = "GET /next HTTP/1.1\r\nhost: x\r\n\r\n";
        let sent = vendor.send(next.repeat(100_000));
        tokio::time::timeout(Duration::from_secs(5), sent)
            .await
            .unwrap();
        gate.add_permits(2);
        assert!(busy.reply().await.text().starts_with("GET /busy\n"));
        let slow = vendor.reply().await;
        let slow = slow.text();
        assert!(slow.starts_with("POST /slow\n"), "{slow}");
        assert!(slow.contains("0123456789"), "{slow}");
        let last = vendor.reply().await;
        last.assert_problem("overloaded", "not_sent");
        assert!(vendor.end().await.is_empty());
        let mut targets = [agent.records.next().await, agent.records.next().await];
        targets.sort_by_key(|record| record["target"].to_string());
        assert_eq!(targets[1]["target"], "/slow");
        assert_eq!(agent.records.next().await["error"], "overloaded");
        assert!(agent.records.is_empty(), "none of the others was looked at");
    }
}

/// A Jira that answers one request for each permit.
async fn gated() -> (String, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let permits = gate.clone();
    let jira = jira(move |request| {
        let permits = permits.clone();
        async move {
            permits.acquire().await.unwrap().forget();
            echo(request).await
        }
    });
    (jira.await, gate)
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back() {
    let (jira, gate) = gated().await;
    let mut agent = Agent::new(&jira, limited(|l| l.max_concurrent = 2));
    let mut busy = [agent.channel(), agent.channel()];
    for vendor in &mut busy {
        vendor.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    }
    while agent.forward.in_flight() < 2 {
        tokio::task::yield_now().await;
    }
    let mut third = agent.channel();
    let reply = third.get("/x").await;
    reply.assert_problem("overloaded", "not_sent");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(agent.records.next().await["error"], "overloaded");
    gate.add_permits(3);
    for vendor in &mut busy {
        assert_eq!(vendor.reply().await.status, 200);
    }
    assert_eq!(third.get("/x").await.status, 200);
    while agent.forward.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
}

/// No request is lost: the client is told with the answer that it gets.
#[tokio::test]
async fn a_client_on_a_session_that_is_left_comes_by_another_channel_next_time() {
    let jira = jira(|_| async { Response::new(full(b"hello".to_vec())) });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    let get = "GET /x HTTP/1.1\r\nhost: x\r\n\r\n";
    vendor.send(get).await;
    assert_eq!(vendor.reply().await.header("connection"), None);
    agent.replaced.cancel();
    vendor.send(get).await;
    let last = vendor.reply().await;
    assert_eq!((last.status, last.text()), (200, "hello"));
    assert_eq!(last.header("connection"), Some("close"));
    vendor.end().await;
}

#[tokio::test]
async fn who_has_the_seat_answers_the_next_request_of_a_channel_and_counts_on() {
    let (first, second) = (
        jira(|_| async { Response::new(full(b"first".to_vec())) }),
        jira(|_| async { Response::new(full(b"second".to_vec())) }),
    );
    let former = Agent::new(&first.await, Options::default());
    let next = Agent::new(&second.await, limited(|l| l.max_concurrent = 7));
    let mut vendor = former.channel();
    let get = "GET /x HTTP/1.1\r\nhost: x\r\n\r\n";
    vendor.send(get).await;
    assert_eq!(vendor.reply().await.text(), "first");
    let Agent {
        forward, current, ..
    } = next;
    drop(current);
    let forward = Arc::into_inner(forward).unwrap();
    let forward = Arc::new(forward.with_counters_of(&former.forward));
    former.current.replace(Arc::clone(&forward));
    vendor.send(get).await;
    let reply = vendor.reply().await;
    assert_eq!(reply.text(), "second");
    assert_eq!(forward.counter().total(), 2);
    // Opened with limits that hold no more.
    assert_eq!(reply.header("connection"), Some("close"));
    vendor.end().await;
}

#[tokio::test]
async fn what_is_cut_off_is_told_how_far_it_got() {
    let arrived = Arc::new(Semaphore::new(0));
    let jira = jira({
        let arrived = Arc::clone(&arrived);
        move |_| {
            arrived.add_permits(1);
            std::future::pending()
        }
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    let post = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    vendor.send(post).await;
    arrived.acquire().await.unwrap().forget();
    agent.abort.cancel();
    let reply = vendor.reply_to("POST").await;
    reply.assert_problem("agent-stopping", "maybe_sent");
    let record = agent.records.next().await;
    assert_eq!(record["error"], "agent-stopping");
}

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let (jira, gate) = gated().await;
    let mut agent = Agent::new(&jira, Options::default());
    let idle = agent.channel();
    let mut used = agent.channel();
    gate.add_permits(1);
    assert_eq!(used.get("/x").await.status, 200);
    let mut busy = agent.channel();
    busy.send("GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    agent.drain.cancel();
    assert!(idle.end().await.is_empty());
    assert!(used.end().await.is_empty());
    gate.add_permits(2);
    let reply = busy.reply().await;
    assert!(reply.text().starts_with("GET /slow\n"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(busy.end().await.is_empty());
    let late = agent.channel();
    assert!(late.end().await.is_empty());
    assert_eq!(agent.records.next().await["target"], "/x");
    assert_eq!(agent.records.next().await["target"], "/slow");
    assert!(agent.records.is_empty());
}

/// An agent with one connection to Jira, and a short time for a body that does not move.
fn one_connection() -> Options {
    Options {
        max_connections: 1,
        pool_wait: STALL / 4,
        ..limited(|l| l.stall_timeout = STALL)
    }
}

#[tokio::test]
async fn a_body_that_never_begins_takes_no_connection_to_jira() {
    for framing in [
        "expect: 100-continue\r\ncontent-length: 4",
        "content-length: 4",
        "content-length: 400000",
        "transfer-encoding: chunked",
    ] {
        let mut agent = Agent::new(&jira(echo).await, one_connection());
        let mut vendor = agent.channel();
        let post = format!("POST /slow HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
        vendor.send(post).await;
        while agent.forward.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(agent.channel().get("/x").await.status, 200, "{framing}");
        assert_eq!(agent.records.next().await["target"], "/x");
        let mut reply = vendor.reply().await;
        if framing.starts_with("expect") {
            assert_eq!(reply.status, 100);
            reply = vendor.reply().await;
        }
        reply.assert_problem("upload-stalled", "not_sent");
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(vendor.end().await.is_empty());
        let record = agent.records.next().await;
        assert_eq!(
            (&record["error"], &record["delivery"], &record["outcome"]),
            (
                &"upload-stalled".into(),
                &"not_sent".into(),
                &"failed".into()
            )
        );
        assert_eq!(agent.forward.in_flight(), 0);
    }
}

#[tokio::test]
async fn a_body_whose_begin_was_awaited_reaches_jira_as_it_was_framed() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    for (framing, parts, body) in [
        ("content-length: 6", &["one", "two"][..], "onetwo"),
        (
            "transfer-encoding: chunked",
            &["3\r\none\r\n", "3\r\ntwo\r\n0\r\n\r\n"],
            "onetwo",
        ),
        ("transfer-encoding: chunked", &["0\r\n\r\n"], ""),
    ] {
        let mut vendor = agent.channel();
        let post = format!("POST /x HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
        vendor.send(post).await;
        for part in parts {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            vendor.send(part).await;
        }
        let reply = vendor.reply().await;
        assert!(reply.text().contains(framing), "{}", reply.text());
        assert!(
            reply.text().ends_with(&format!("\n\n{body}")),
            "{}",
            reply.text()
        );
    }
}

/// Its head came before the pause, and nothing of it has gone to Jira.
#[tokio::test]
async fn what_is_paused_before_its_body_begins_is_not_sent() {
    let pauses = PauseRegistry::default();
    let options = Options {
        pauses: pauses.clone(),
        ..Options::default()
    };
    let agent = Agent::new(&jira(echo).await, options);
    let mut vendor = agent.channel();
    vendor
        .send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
        .await;
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    pauses.pause(PauseRequest::default(), None).await.unwrap();
    vendor.send("body").await;
    vendor.reply().await.assert_problem("paused", "not_sent");
}
