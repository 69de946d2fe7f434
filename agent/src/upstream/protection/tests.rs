//! What several callers of one Jira do to each other.

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::{breaker::TRIAL_PAUSE, *};
use crate::upstream::{BodyError, Delivery, FailedStep, UpstreamBody, exchange};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::time::{advance, sleep};

const WAIT: Duration = Duration::from_secs(10);

fn protection(ceiling: usize) -> Arc<UpstreamProtection> {
    Arc::new(UpstreamProtection::new(ceiling, WAIT))
}

fn read_of(path: &str) -> ProtectedRequest {
    ProtectedRequest {
        requester: RequesterKey::default(),
        method: Method::GET,
        path: path.to_owned(),
    }
}

async fn turn(protection: &Arc<UpstreamProtection>) -> Result<UpstreamPermit, SendError> {
    protection.permit(read_of("/x")).await
}

/// Hands the request to Jira, which lets it wait from now on.
fn send(permit: &UpstreamPermit) {
    let body: UpstreamBody = Empty::<Bytes>::new()
        .map_err(|never| -> BodyError { match never {} })
        .boxed_unsync();
    let host = HeaderValue::from_static("jira");
    let progress = exchange::outgoing(Request::new(body), &host)
        .body()
        .progress();
    progress.restart();
    permit.sent(&progress);
}

/// A request that Jira answers after this time.
async fn exchange_of(
    protection: &Arc<UpstreamProtection>,
    takes: Duration,
) -> Result<(), SendError> {
    let permit = turn(protection).await?;
    send(&permit);
    sleep(takes).await;
    permit.answered(StatusCode::OK, &HeaderMap::new());
    Ok(())
}

fn spawn_exchange(protection: &Arc<UpstreamProtection>, takes: Duration) {
    let protection = Arc::clone(protection);
    tokio::spawn(async move { exchange_of(&protection, takes).await });
}

const QUICK: Duration = Duration::from_millis(20);

async fn settle(protection: &Arc<UpstreamProtection>) {
    for _ in 0..100 {
        exchange_of(protection, QUICK).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn slow_searches_of_one_caller_refuse_no_other() {
    let protection = protection(64);
    settle(&protection).await;
    for _ in 0..40 {
        spawn_exchange(&protection, Duration::from_secs(30));
    }
    for _ in 0..200 {
        sleep(Duration::from_millis(80)).await;
        exchange_of(&protection, QUICK).await.unwrap();
    }
    assert_eq!(protection.snapshot().limit, 64);
}

#[tokio::test(start_paused = true)]
async fn one_old_request_makes_no_full_pool_look_stuck() {
    let protection = protection(8);
    settle(&protection).await;
    spawn_exchange(&protection, Duration::from_secs(60));
    sleep(Duration::from_secs(20)).await;
    for _ in 0..7 {
        spawn_exchange(&protection, QUICK);
    }
    tokio::task::yield_now().await;
    assert_eq!(protection.free(), 0);
    exchange_of(&protection, QUICK).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_that_hangs_lowers_the_limit() {
    let protection = protection(64);
    settle(&protection).await;
    for _ in 0..64 {
        spawn_exchange(&protection, Duration::from_secs(60));
    }
    for _ in 0..6 {
        sleep(Duration::from_secs(1)).await;
        protection.snapshot();
    }
    assert!(protection.snapshot().limit < 32);
}

/// As measured with 200 callers of a slow Jira, also of one whose usual time is not known yet.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_served_is_answered_within_a_second() {
    for is_known in [true, false] {
        let protection = protection(64);
        if is_known {
            settle(&protection).await;
        }
        let began = Instant::now();
        let callers: Vec<_> = (0..200)
            .map(|_| {
                let protection = Arc::clone(&protection);
                tokio::spawn(async move {
                    let sent = exchange_of(&protection, WAIT).await.is_ok();
                    (sent, began.elapsed())
                })
            })
            .collect();
        let mut refused = Vec::new();
        for caller in callers {
            let (sent, took) = caller.await.unwrap();
            refused.extend((!sent).then_some(took));
        }
        assert_eq!(refused.len(), 136);
        let longest = refused.into_iter().max().unwrap();
        // The vendor's way to the agent and back takes time too.
        assert!(longest <= Duration::from_millis(850), "{longest:?}");
    }
}

fn no_connection() -> SendError {
    SendError {
        kind: FailedStep::Connect,
        detail: "refused".to_owned(),
        delivery: Delivery::NotSent,
        retry_after: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_caller_leaves_keeps_no_other_out() {
    let protection = protection(64);
    for _ in 0..3 {
        protection.connect_failed(&no_connection());
    }
    for _ in 0..3 {
        advance(TRIAL_PAUSE).await;
        // It leaves while the connection is being made.
        drop(turn(&protection).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_old_trial_begins_no_third_one() {
    let protection = protection(64);
    for _ in 0..3 {
        protection.connect_failed(&no_connection());
    }
    advance(TRIAL_PAUSE).await;
    let old = turn(&protection).await.unwrap();
    send(&old);
    advance(Duration::from_secs(10)).await;
    let present = turn(&protection).await.unwrap();
    send(&present);
    advance(TRIAL_PAUSE).await;
    drop(old);
    assert!(turn(&protection).await.is_err());
    drop(present);
    assert!(turn(&protection).await.is_ok());
}

fn retry_after(seconds: &'static str) -> HeaderMap {
    let value = HeaderValue::from_static(seconds);
    [(http::header::RETRY_AFTER, value)].into_iter().collect()
}

async fn answer(
    protection: &Arc<UpstreamProtection>,
    path: &str,
    status: u16,
    headers: &HeaderMap,
) -> Result<(), SendError> {
    let permit = protection.permit(read_of(path)).await?;
    send(&permit);
    permit.answered(StatusCode::from_u16(status).unwrap(), headers);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_paths_ask_for_pauses_locks_no_other_out() {
    let protection = protection(64);
    let pause = retry_after("60");
    let mut refused = 0;
    for second in 0..120 {
        for index in 0..10 {
            let path = format!("/plugin/{second}/{index}");
            let _ = answer(&protection, &path, 503, &pause).await;
        }
        refused += u32::from(
            answer(&protection, "/issue", 200, &HeaderMap::new())
                .await
                .is_err(),
        );
        advance(Duration::from_secs(1)).await;
        // As the agent's own probe does, which a 503 requests.
        if second % 3 == 2 {
            protection.probe_ended(ProbeOutcome::Well);
        }
    }
    assert!(refused <= 10, "{refused} of 120");
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_keeps_a_limit_that_came_meanwhile() {
    let protection = protection(1);
    let first = turn(&protection).await.unwrap();
    send(&first);
    let queued = tokio::spawn({
        let protection = Arc::clone(&protection);
        async move { turn(&protection).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(protection.snapshot().queued, 1);
    first.answered(StatusCode::TOO_MANY_REQUESTS, &retry_after("7"));
    drop(first);
    let error = queued.await.unwrap().unwrap_err();
    assert_eq!(error.kind, FailedStep::RateLimit);
    assert_eq!(protection.free(), 1);
}

/// Else the vendor that comes back would be refused by a forecast from turns of no length.
#[tokio::test(start_paused = true)]
async fn turns_without_a_request_to_jira_teach_nothing() {
    let protection = protection(4);
    let slow = Duration::from_secs(3);
    for _ in 0..10 {
        exchange_of(&protection, slow).await.unwrap();
    }
    let first: Vec<_> = [turn(&protection).await, turn(&protection).await]
        .into_iter()
        .chain([turn(&protection).await, turn(&protection).await])
        .map(Result::unwrap)
        .collect();
    first.iter().for_each(send);
    let queued: Vec<_> = (0..4)
        .map(|_| {
            let protection = Arc::clone(&protection);
            tokio::spawn(async move { turn(&protection).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(protection.snapshot().queued, 4);
    sleep(slow).await;
    first[0].answered(StatusCode::TOO_MANY_REQUESTS, &retry_after("7"));
    drop(first);
    for one in queued {
        let error = one.await.unwrap().unwrap_err();
        assert_eq!(error.kind, FailedStep::RateLimit);
    }
    // The connections of these fail.
    sleep(Duration::from_secs(7)).await;
    for _ in 0..40 {
        drop(turn(&protection).await.unwrap());
    }
    let usual = protection.state.lock().turns.quantile(0.5).unwrap();
    assert!(usual >= slow, "{usual:?}");
}

/// Jira Cloud limits an endpoint, and the writes to one issue, beside its quotas.
#[tokio::test(start_paused = true)]
async fn a_limit_of_one_endpoint_is_not_that_of_the_requester() {
    for reason in ["jira-burst-based", "jira-per-issue-on-write"] {
        let protection = protection(4);
        let mut limit = retry_after("7");
        let name = HeaderName::from_static("ratelimit-reason");
        limit.insert(name, HeaderValue::from_static(reason));
        answer(&protection, "/issue/A-1", 429, &limit)
            .await
            .unwrap();
        let error = answer(&protection, "/issue/A-1", 200, &limit).await;
        assert_eq!(error.unwrap_err().kind, FailedStep::RateLimit);
        answer(&protection, "/search", 200, &HeaderMap::new())
            .await
            .unwrap();
    }
}
