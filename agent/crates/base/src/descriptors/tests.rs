#![allow(clippy::unwrap_used)]
use super::*;
use rustix::io::Errno;
use std::{io, thread};
use tokio::sync::mpsc;

fn budget(limit: fn() -> Option<u64>) -> Arc<DescriptorBudget> {
    Arc::new(DescriptorBudget::new(limit, 16))
}

use DescriptorUse::{Connection, SpoolFile};

#[test]
fn what_is_promised_never_reaches_the_reserve() {
    let budget = budget(|| Some(64));
    // Of 64, 16 are open and 28 are the reserve.
    assert_eq!(
        (budget.capacity(Connection), budget.capacity(SpoolFile)),
        (13, 7)
    );
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                let taken = (0..100).map(|_| budget.take(Connection, 2).ok());
                taken.collect::<Vec<_>>()
            })
        })
        .collect();
    let taken = threads.into_iter().flat_map(|t| t.join().unwrap());
    let held: Vec<_> = taken.flatten().collect();
    assert_eq!(held.len(), 6);
    let spooled: Vec<_> = (0..9)
        .filter_map(|_| budget.take(SpoolFile, 1).ok())
        .collect();
    assert_eq!(spooled.len(), 7, "connections take none of theirs");
    let full = budget.snapshot();
    assert_eq!((full.promised, full.refused), (19, 794 + 2));
    assert!(full.last_refused.is_some());
    drop((held, spooled));
    assert_eq!(budget.snapshot().promised, 0);
}

#[test]
fn sessions_are_always_counted_and_leave_less_for_requests() {
    let budget = budget(|| Some(64));
    let sessions = budget.claim(17);
    assert_eq!(budget.capacity(Connection), 2);
    let one = budget.take(Connection, 2).unwrap();
    let more = budget.claim(100);
    assert!(budget.take(Connection, 1).is_err());
    drop((sessions, more, one));
    assert_eq!(budget.capacity(Connection), 13);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, outside of any runtime"
)]
fn a_shortage_that_lasts_is_counted_once_and_stays_recent() {
    let budget = budget(|| Some(64));
    budget.note_shortage(&io::Error::from(Errno::NFILE));
    thread::sleep(Duration::from_millis(20));
    budget.note_lasting_shortage(&io::Error::from(Errno::NFILE));
    let now = budget.snapshot();
    assert_eq!(now.refused, 1);
    assert!(now.last_refused.unwrap() < Duration::from_millis(20));
}

#[test]
fn a_permit_is_returned_in_parts() {
    let budget = budget(|| Some(64));
    let mut two = budget.take(Connection, 2).unwrap();
    let one = two.split_one().unwrap();
    drop(two);
    assert_eq!(budget.snapshot().promised, 1);
    drop(one);
    assert_eq!(budget.snapshot().promised, 0);
    let mut one = budget.take(Connection, 1).unwrap();
    let split = one.split_one();
    assert!(one.split_one().is_none());
    drop((one, split));
    assert_eq!(budget.snapshot().promised, 0);
}

#[test]
fn a_limit_below_the_reserve_promises_nothing_and_none_promises_all() {
    assert_eq!(
        budget(|| Some(32)).take(Connection, 1).unwrap_err(),
        DescriptorShortage {
            limit: 32,
            reserve: 26
        }
    );
    assert!(budget(|| None).take(Connection, u64::MAX).is_ok());
    assert_eq!(budget(|| Some(65_536)).snapshot().reserve, MOST_RESERVE);
}

#[tokio::test(start_paused = true)]
async fn a_listener_accepts_only_with_a_promised_descriptor() {
    let budget = budget(|| Some(64));
    let listener = || {
        let (connect, mut connections) = mpsc::channel::<()>(1);
        let budget = Arc::clone(&budget);
        let accepting = tokio::spawn(async move {
            let accept = |cx: &mut Context<'_>| {
                let connection = connections.poll_recv(cx);
                connection.map(|one| one.ok_or(io::ErrorKind::BrokenPipe.into()))
            };
            budget.accept(accept).await.unwrap().1
        });
        (connect, accepting)
    };
    let settle = || tokio::time::sleep(Duration::from_secs(5));
    // More listeners than the reserve has descriptors, and all wait since one was free.
    let listeners: Vec<_> = (0..40).map(|_| listener()).collect();
    settle().await;
    assert_eq!(budget.snapshot().promised, 0, "an idle one takes nothing");
    let mut all = budget.take(Connection, 13).unwrap();
    for (connect, _) in &listeners {
        connect.try_send(()).unwrap();
    }
    settle().await;
    let accepted = || {
        listeners
            .iter()
            .filter(|(_, one)| one.is_finished())
            .count()
    };
    assert_eq!(accepted(), 0);
    assert_eq!(budget.snapshot().refused, 40, "one wait is one shortage");
    drop((all.split_one(), all.split_one()));
    settle().await;
    assert_eq!((accepted(), budget.snapshot().promised), (2, 13));
    drop(all);
    settle().await;
    assert_eq!((accepted(), budget.snapshot().promised), (13, 13));
}

#[test]
fn a_shortage_is_found_below_other_errors_and_has_a_remedy() {
    let shortage = budget(|| Some(16)).take(SpoolFile, 1).unwrap_err();
    let system = io::Error::from(Errno::MFILE);
    for error in [io::Error::other(shortage), system] {
        assert!(is_shortage(&error));
        assert!(describe(&error).contains("LimitNOFILE"), "{error}");
    }
    let other = io::Error::from(io::ErrorKind::NotFound);
    assert!(!is_shortage(&other));
    assert_eq!(describe(&other), other.to_string());
}

#[test]
fn the_process_has_a_limit_and_files_open() {
    let budget = DescriptorBudget::of_process();
    assert!(budget.at_start >= 3, "{}", budget.at_start);
    assert!(budget.capacity(Connection) > 0);
}
