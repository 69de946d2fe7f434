#![allow(clippy::unwrap_used)]
use super::*;

const SHARED: RequesterKey = RequesterKey(0);

fn of(requester: RequesterKey, path: &str) -> GatedRequest<'_> {
    GatedRequest {
        requester,
        method: &Method::GET,
        path,
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

fn answered(gate: &mut RateGate, now: Instant, path: &str, status: u16, after: &str) -> bool {
    let status = StatusCode::from_u16(status).unwrap();
    gate.answered(
        now,
        of(SHARED, path),
        status,
        &headers(&[("retry-after", after)]),
    )
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_for_its_requester_until_its_time() {
    let now = Instant::now();
    let mut gate = RateGate::default();
    assert!(answered(&mut gate, now, "/a", 429, "7"));
    let refusal = gate
        .check(now + Duration::from_secs(5), of(SHARED, "/b"))
        .unwrap();
    assert_eq!(refusal.step, FailedStep::RateLimit);
    assert_eq!(refusal.left, Duration::from_secs(2));
    assert_eq!(gate.check(now, of(RequesterKey(1), "/a")), None);
    assert_eq!(
        gate.check(now + Duration::from_secs(7), of(SHARED, "/a")),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn what_jira_asks_for_is_clamped_and_what_it_does_not_ask_for_is_no_wait() {
    let now = Instant::now();
    for (status, after, left) in [
        (429, "9223372036854775807", Some(MOST_RATE_LIMIT)),
        (503, "86400", Some(MOST_PAUSE)),
        (429, "0", None),
        (429, "soon", None),
        (429, "-1", None),
        (429, "99999999999999999999999", None),
        (200, "5", None),
        (403, "5", None),
    ] {
        let mut gate = RateGate::default();
        assert_eq!(
            answered(&mut gate, now, "/a", status, after),
            left.is_some()
        );
        let found = gate
            .check(now, of(SHARED, "/a"))
            .map(|refusal| refusal.left);
        assert_eq!(found, left, "{status} {after}");
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
    let mut gate = RateGate::default();
    assert!(answered(&mut gate, now, "/a", 429, &date));
    let left = gate.check(now, of(SHARED, "/a")).unwrap().left;
    assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_last_token_of_a_success_counts_too() {
    let now = Instant::now();
    let mut gate = RateGate::default();
    for (remaining, after, waits) in [("3", "0", false), ("0", "0", false), ("0", "4", true)] {
        let head = headers(&[("x-ratelimit-remaining", remaining), ("retry-after", after)]);
        let seen = gate.answered(now, of(SHARED, "/a"), StatusCode::OK, &head);
        assert_eq!(seen, waits);
        assert_eq!(gate.check(now, of(SHARED, "/b")).is_some(), waits);
    }
}

#[tokio::test(start_paused = true)]
async fn one_paths_503_is_that_paths_and_three_are_jiras_until_the_probe_is_answered() {
    let now = Instant::now();
    let mut gate = RateGate::default();
    for path in ["/a", "/a", "/b"] {
        assert!(answered(&mut gate, now, path, 503, "20"));
    }
    assert_eq!(
        gate.check(now, of(SHARED, "/a")).unwrap().step,
        FailedStep::JiraPause
    );
    assert_eq!(gate.check(now, of(SHARED, "/other")), None);
    assert!(answered(&mut gate, now, "/c", 503, "30"));
    let left = gate.check(now, of(SHARED, "/other")).unwrap().left;
    assert_eq!(left, Duration::from_secs(20));
    assert_eq!(gate.waiting(now), Some((3, Duration::from_secs(30))));
    gate.found_well(now);
    assert_eq!(gate.check(now, of(SHARED, "/a")), None);
    assert_eq!(gate.waiting(now), None);
}

#[tokio::test(start_paused = true)]
async fn paths_do_not_speak_for_a_jira_that_serves_or_whose_probe_is_well() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut gate = RateGate::default();
    for path in ["/a", "/b", "/c"] {
        answered(&mut gate, now, path, 503, "50");
    }
    assert!(gate.check(now, of(SHARED, "/other")).is_some());
    // One that was sent before is served.
    answered(&mut gate, later, "/other", 404, "");
    assert_eq!(gate.check(later, of(SHARED, "/other")), None);
    assert!(gate.check(later, of(SHARED, "/a")).is_some());

    let mut gate = RateGate::default();
    for round in 0..3_u64 {
        let at = now + Duration::from_secs(round * 2);
        for path in ["/a", "/b", "/c"] {
            answered(&mut gate, at, path, 503, "50");
        }
        let is_held = gate.check(at, of(SHARED, "/other")).is_some();
        assert_eq!(is_held, round == 0, "{round}");
        gate.found_well(at + Duration::from_secs(1));
    }
    let after = now + Duration::from_secs(1) + MOST_PAUSE;
    for path in ["/a", "/b", "/c"] {
        answered(&mut gate, after, path, 503, "50");
    }
    assert!(gate.check(after, of(SHARED, "/other")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_endpoint_holds_its_method_and_path_back() {
    let now = Instant::now();
    let mut gate = RateGate::default();
    let head = headers(&[
        ("retry-after", "5"),
        ("ratelimit-reason", "jira-per-issue-on-write"),
    ]);
    let put = GatedRequest {
        method: &Method::PUT,
        ..of(SHARED, "/issue/A-1")
    };
    assert!(gate.answered(now, put, StatusCode::TOO_MANY_REQUESTS, &head));
    assert_eq!(gate.check(now, put).unwrap().step, FailedStep::RateLimit);
    assert_eq!(gate.check(now, of(SHARED, "/issue/A-1")), None);
    gate.found_well(now);
    assert!(gate.check(now, put).is_some(), "a probe does not end it");
}

#[tokio::test(start_paused = true)]
async fn many_requesters_do_not_grow_it() {
    let now = Instant::now();
    let mut gate = RateGate::default();
    let head = headers(&[("retry-after", "9")]);
    for key in 0..10_000 {
        let status = StatusCode::TOO_MANY_REQUESTS;
        gate.answered(now, of(RequesterKey(key), "/a"), status, &head);
    }
    assert!(gate.closed.len() <= MOST_ENTRIES);
    assert!(gate.check(now, of(RequesterKey(9_999), "/a")).is_some());
}

#[test]
fn requesters_are_told_apart_by_what_they_log_in_with() {
    let key = |lines: &[(&'static str, &str)]| RequesterKey::of(&headers(lines));
    let one = key(&[("authorization", "Bearer one")]);
    assert_eq!(
        one,
        key(&[("authorization", "Bearer one"), ("accept", "x")])
    );
    assert_ne!(one, key(&[("authorization", "Bearer two")]));
    assert_ne!(one, key(&[("cookie", "JSESSIONID=1")]));
    let signed = |nonce: &str, token: &str| {
        let value = format!("OAuth oauth_nonce=\"{nonce}\", oauth_token=\"{token}\"");
        key(&[("authorization", &value)])
    };
    assert_eq!(signed("1", "t"), signed("2", "t"));
    assert_ne!(signed("1", "t"), signed("1", "u"));
}
