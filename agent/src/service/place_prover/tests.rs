//! What calls of several addresses show together.
#![allow(clippy::unwrap_used)]
use super::*;

fn at(address: &str) -> BindAddress {
    address.parse().unwrap()
}

fn strange(address: &str) -> CallOutcome {
    CallOutcome::Strange(at(address), "answers 200".into())
}

#[test]
fn a_half_bound_port_is_told_from_a_taken_one() {
    let (four, six) = ("127.0.0.1:8080", "[::1]:8080");
    let seen = |first: CallOutcome, on_four, on_six| {
        outcome_of_all(first, vec![(at(four), on_four), (at(six), on_six)])
    };
    let named = || strange("localhost:8080");
    let (arrived, gone) = (CallOutcome::Arrived, CallOutcome::NotConnected);
    for first in [arrived.clone(), named()] {
        // The name leads to either of the two.
        assert_eq!(
            seen(first.clone(), arrived.clone(), strange(six)),
            strange(six)
        );
        assert_eq!(seen(first, strange(four), arrived.clone()), strange(four));
    }
    assert_eq!(seen(named(), strange(four), gone.clone()), named());
    assert_eq!(
        seen(named(), CallOutcome::Prohibited, CallOutcome::Prohibited),
        named()
    );
    let free = CallOutcome::OtherFree(at(six));
    assert_eq!(seen(arrived.clone(), arrived.clone(), gone), free);
    assert_eq!(
        seen(arrived.clone(), arrived.clone(), arrived.clone()),
        arrived
    );
    assert_eq!(
        seen(arrived.clone(), arrived, CallOutcome::OtherAgent),
        CallOutcome::OtherAgent
    );
}

#[tokio::test]
async fn a_place_whose_call_has_panicked_is_called_again() {
    let mut calls: JoinSet<()> = JoinSet::new();
    let (first, other) = (calls.spawn(async {}).id(), calls.spawn(async {}).id());
    let now = Instant::now();
    let mut watched = WatchedPlace {
        judge: PlaceJudge::new(now.into_std(), true),
        place: Arc::new(ListeningPlace::new(at("/s/jira.sock"))),
        running: Some(first),
        other_families: Vec::new(),
        seen: now,
    };
    watched.note_panic(other, now.into_std());
    assert_eq!(watched.running, Some(first));
    watched.note_panic(first, now.into_std());
    assert_eq!(watched.running, None);
    let later = (now + Duration::from_secs(2)).into_std();
    assert!(watched.judge.poll(later, 0, None));
}
