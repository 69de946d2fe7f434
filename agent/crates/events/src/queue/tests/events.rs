use super::*;
use crate::{
    DueEvents, EventSelection, EventState, ListFilter, OpenError, QueueBound, QueueError, WhenFull,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_event_is_lent_as_it_came_and_gone_once_it_is_delivered() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let new = NewEvent {
        headers: vec![("X-A".into(), b"\xff\x00 b".to_vec())],
        target: "/hook?a=%2F+b".into(),
        ..event(1, 1)
    };
    let id = store(&queue, new.clone()).await;
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!((lease.head.id, lease.attempt), (id, 1));
    assert_eq!(lease.body, new.body);
    assert_eq!(
        (&lease.head.target, &lease.head.headers),
        (&new.target, &new.headers)
    );
    assert_eq!(
        (lease.head.lane.as_str(), lease.head.source.as_str()),
        ("issue:1", "10.0.0.1")
    );
    assert_eq!(queue.find(id).unwrap().state, EventState::Delivering);
    assert!(queue.lease_next(Instant::now()).await.unwrap().is_none());
    queue.delivered(lease).await.unwrap();
    assert_eq!(queue.due(Instant::now()), DueEvents::Nothing);
    let figures = queue.figures();
    assert_eq!(
        (figures.events, figures.bytes, figures.totals.delivered),
        (0, 0, 1)
    );
}

#[tokio::test]
async fn a_lease_that_is_dropped_gives_its_lane_back_and_wakes_whoever_waits() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    store(&queue, event(1, 1)).await;
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    let changed = queue.changed();
    drop(lease);
    timeout(LONG, changed).await.unwrap();
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!(lease.attempt, 1);
    queue.failed(lease, "500", Instant::now()).await;
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!(lease.attempt, 2);
}

#[tokio::test]
async fn a_repeat_of_the_sender_has_the_same_id_and_is_stored_once() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let identified = |number| NewEvent {
        identifier: Some("a1b2".into()),
        ..event(1, number)
    };
    let id = store(&queue, identified(1)).await;
    assert_eq!(queue.store(identified(1)).await, Ok(Stored::Repeated(id)));
    // The same identifier, but another event.
    assert_ne!(store(&queue, identified(2)).await, id);
    queue.close().await;
    let queue = open(&path).await;
    assert_eq!(queue.store(identified(1)).await, Ok(Stored::Repeated(id)));
    // Two events without identifier are two events.
    assert_ne!(
        store(&queue, event(1, 3)).await,
        store(&queue, event(1, 3)).await
    );
    assert_eq!(queue.figures().events, 4);
    drain(&queue).await;
    assert!(matches!(
        queue.store(identified(1)).await,
        Ok(Stored::New { .. })
    ));
}

/// Keeps the writer from going on: it needs the index. Storing does not.
fn hold_writer(queue: &EventQueue) -> impl FnOnce() {
    let shared = queue.shared.clone();
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _index = shared.index.lock();
        locked.send(()).unwrap();
        let _ = released.recv();
    });
    is_locked.recv().unwrap();
    move || {
        drop(release);
        holder.join().unwrap();
    }
}

/// What it answers at once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}

#[tokio::test]
async fn many_events_share_a_commit() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let before = queue.shared.commits.load(Ordering::Relaxed);
    let release = hold_writer(&queue);
    let stores = (0..64).map(|number| queue.store(event(number, number)));
    let mut stores: Vec<_> = stores.map(Box::pin).collect();
    for store in &mut stores {
        assert!(poll_once(store).await.is_pending());
    }
    release();
    for store in stores {
        assert!(matches!(store.await, Ok(Stored::New { .. })));
    }
    // The writer had some of them in its hands when it stopped.
    let commits = queue.shared.commits.load(Ordering::Relaxed) - before;
    assert!((1..=2).contains(&commits), "{commits} commits");
}

/// Polls all at the same time.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(result) = one.as_mut().poll(context) {
                *done = Some(result);
            }
        }
        match all.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn more_events_than_may_wait_are_refused_at_once() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let release = hold_writer(&queue);
    let stores = (0..3000).map(|number| queue.store(event(1, number)));
    let mut stores: Vec<_> = stores.map(Box::pin).collect();
    let mut busy = 0;
    for store in &mut stores {
        if let std::task::Poll::Ready(answer) = poll_once(store).await {
            assert_eq!(answer, Err(StoreError::Busy));
            busy += 1;
        }
    }
    release();
    // The writer may have taken the commands of one commit before it stopped.
    assert!((1000..=3000 - 1024).contains(&busy), "{busy}");
}

#[tokio::test]
async fn what_is_waiting_dead_or_counted_is_found_again() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let ids = [
        store(&queue, event(1, 1)).await,
        store(&queue, event(1, 2)).await,
        store(&queue, event(2, 3)).await,
    ];
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!(queue.dead(lease, "410 Gone").await, Ok(vec![]));
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!(lease.head.id, ids[2]);
    queue.failed(lease, "503", Instant::now() + HOUR).await;
    queue.close().await;
    assert_eq!(queue.store(event(1, 4)).await, Err(StoreError::Closed));
    assert_eq!(
        queue.expire(SystemTime::now()).await,
        Ok(crate::Expired::default())
    );

    let queue = open(&path).await;
    let list = |what| {
        let list = queue.list(what, None, 10);
        list.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(list(ListFilter::Queued), [ids[1], ids[2]]);
    assert_eq!(list(ListFilter::Dead), [ids[0]]);
    let dead = queue.find(ids[0]).unwrap();
    assert_eq!((dead.state, dead.attempts), (EventState::Dead, 1));
    assert_eq!(dead.last_error.as_deref(), Some("410 Gone"));
    let totals = queue.figures().totals;
    assert_eq!((totals.stored, totals.died), (3, 1));
    // The time of the next attempt is not kept: a new process tries at once.
    let delivered = drain(&queue).await;
    assert_eq!(
        delivered.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [ids[1], ids[2]]
    );
}

#[tokio::test]
async fn a_list_goes_on_after_an_event_and_has_a_bound() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(store(&queue, event(number, number)).await);
    }
    for _ in 0..2 {
        let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
        queue.dead(lease, "410").await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let page = queue.list(ListFilter::All, seen.last().copied(), 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|event| event.id));
    }
    assert_eq!(seen, [ids[2], ids[3], ids[4], ids[0], ids[1]]);
    let head = queue.head(ids[0]).await.unwrap().unwrap();
    assert_eq!((head.id, head.target.as_str()), (ids[0], "/hook"));
    assert_eq!(queue.head(ids[4]).await.unwrap().unwrap().id, ids[4]);
    assert_eq!(queue.head(EventId::random()).await, Ok(None));
}

#[tokio::test]
async fn an_administrator_retries_and_drops() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(store(&queue, event(1, number)).await);
        let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
        queue.dead(lease, "410").await.unwrap();
    }
    // One by one, then all that are left.
    assert_eq!(queue.retry(EventSelection::Id(ids[1])).await, Ok(1));
    let dropped = queue.drop_events(EventSelection::Id(ids[2])).await.unwrap();
    assert_eq!((dropped.len(), dropped[0].id), (1, ids[2]));
    assert_eq!(queue.retry(EventSelection::AllDead).await, Ok(2));
    assert_eq!(queue.retry(EventSelection::AllDead).await, Ok(0));
    assert_eq!(queue.retry(EventSelection::Id(ids[2])).await, Ok(0));
    // A waiting event is due now, and one that is being delivered is not dropped.
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    assert_eq!(lease.head.id, ids[1]);
    assert!(lease.head.retried_at.is_some());
    assert_eq!(
        queue.drop_events(EventSelection::Id(ids[1])).await,
        Ok(vec![])
    );
    queue.failed(lease, "503", Instant::now() + HOUR).await;
    assert!(matches!(queue.due(Instant::now()), DueEvents::At(_)));
    let changed = queue.changed();
    assert_eq!(queue.retry(EventSelection::Id(ids[1])).await, Ok(1));
    timeout(LONG, changed).await.unwrap();
    assert_eq!(queue.due(Instant::now()), DueEvents::Now);
    let dropped = queue.drop_events(EventSelection::Id(ids[1])).await.unwrap();
    assert_eq!(dropped[0].id, ids[1]);
    let delivered = drain(&queue).await;
    assert_eq!(
        delivered.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [ids[0], ids[3]]
    );
    assert_eq!(queue.figures().totals.dropped_by_hand, 2);
}

#[tokio::test]
async fn all_dead_letters_are_dropped_however_many() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let stores = futures((0..600).map(|number| queue.store(event(number, number)))).await;
    assert!(stores.iter().all(Result::is_ok));
    queue.set_limits(QueueLimits {
        retry_for: Duration::ZERO,
        ..limits()
    });
    let mut dead = 0;
    loop {
        let expired = queue.expire(SystemTime::now()).await.unwrap();
        dead += expired.dead.len();
        if !expired.more {
            break;
        }
    }
    assert_eq!(dead, 600);
    let dropped = queue.drop_events(EventSelection::AllDead).await.unwrap();
    assert_eq!(dropped.len(), 600);
    assert_eq!(queue.figures().dead_events, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_or_drops_the_oldest_as_configured() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let few = |when_full| QueueLimits {
        max_events: 2,
        when_full,
        ..limits()
    };
    queue.set_limits(few(WhenFull::Refuse));
    let first = store(&queue, event(1, 1)).await;
    store(&queue, event(1, 2)).await;
    let which = QueueBound::Events;
    assert_eq!(
        queue.store(event(1, 3)).await,
        Err(StoreError::Full { which })
    );
    assert_eq!(queue.figures().full_since.map(|full| full.1), Some(which));
    queue.set_limits(few(WhenFull::DropOldest));
    let Ok(Stored::New { dropped, .. }) = queue.store(event(1, 3)).await else {
        panic!("there is room");
    };
    assert_eq!((dropped.len(), dropped[0].id), (1, first));
    let totals = queue.figures().totals;
    assert_eq!((totals.refused_full, totals.dropped_full), (1, 1));
    // The file has dropped it as well.
    queue.close().await;
    let queue = open(&path).await;
    let bodies: Vec<_> = drain(&queue)
        .await
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert_eq!(bodies, [event(1, 2).body, event(1, 3).body]);
}

#[tokio::test]
async fn the_file_belongs_to_one_process_and_is_free_after_close() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let second = EventQueue::open(path.clone(), "hooks", limits()).await;
    assert!(matches!(second, Err(OpenError::InUse(_))));
    store(&queue, event(1, 1)).await;
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    queue.close().await;
    // A delivery that ends after that is made again by whoever opens the file.
    assert_eq!(queue.delivered(lease).await, Err(QueueError::Closed));
    let queue = open(&path).await;
    assert_eq!(queue.figures().events, 1);
    // Dropping all handles closes it, too; the thread takes its time.
    let closed = queue.shared.closed.clone();
    drop(queue);
    let mut closed = closed;
    let _ = timeout(LONG, closed.changed()).await.unwrap();
    open(&path).await;
}

#[tokio::test]
async fn a_body_that_is_no_json_and_an_empty_one_are_events() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let long = vec![b'x'; 300 << 10];
    for body in [&b""[..], b"\xff\xfe", &long] {
        let new = NewEvent {
            body: Bytes::copy_from_slice(body),
            ..event(1, 1)
        };
        store(&queue, new).await;
    }
    let delivered = drain(&queue).await;
    assert_eq!(
        delivered
            .iter()
            .map(|(_, body)| body.len())
            .collect::<Vec<_>>(),
        [0, 2, long.len()]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_stored_while_others_are_delivered_keep_their_order() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    let feeder = queue.clone();
    let fed = tokio::spawn(async move {
        for number in 0..200 {
            store(&feeder, event(number % 7, number)).await;
        }
    });
    let got = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut workers = Vec::new();
    for _ in 0..4 {
        let (queue, got) = (queue.clone(), got.clone());
        workers.push(tokio::spawn(async move {
            while got.lock().len() < 200 {
                let changed = queue.changed();
                match queue.lease_next(Instant::now()).await.unwrap() {
                    Some(lease) => {
                        got.lock()
                            .push((lease.head.lane.clone(), lease.body.clone()));
                        queue.delivered(lease).await.unwrap();
                    }
                    None => changed.await,
                }
            }
        }));
    }
    timeout(LONG, fed).await.unwrap().unwrap();
    for worker in workers {
        timeout(LONG, worker).await.unwrap().unwrap();
    }
    let got = got.lock();
    for lane in 0..7 {
        let bodies = got
            .iter()
            .filter(|(name, _)| *name == format!("issue:{lane}"));
        let bodies: Vec<_> = bodies.map(|(_, body)| body.clone()).collect();
        let sent: Vec<_> = (0..200)
            .filter(|number| number % 7 == lane)
            .map(|number| event(lane, number).body)
            .collect();
        assert_eq!(bodies, sent);
    }
}
