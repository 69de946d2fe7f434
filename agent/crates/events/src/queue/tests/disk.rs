//! A disk that is full or broken: nothing that was acknowledged is lost, and the queue works again without a restart.
use super::*;
use crate::{QueueError, tables::faults::DiskFaults};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(30);

async fn open_faulty(path: &std::path::Path) -> (EventQueue, Arc<DiskFaults>) {
    let faults = Arc::new(DiskFaults::default());
    let mut storage = QueueFile::new(path.to_owned());
    storage.faults = Some(faults.clone());
    let queue = EventQueue::open_storage(storage, "hooks", limits()).await;
    (queue.unwrap(), faults)
}

/// Until the file can be written again.
async fn recovered(queue: &EventQueue) {
    let recovered = async {
        loop {
            let changed = queue.changed();
            if queue.figures().disk_error.is_none() {
                break;
            }
            changed.await;
        }
    };
    timeout(LONG, recovered).await.unwrap();
}

fn ids(queue: &EventQueue) -> BTreeSet<EventId> {
    let list = queue.list(crate::ListFilter::All, None, 1000);
    list.into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_events_until_there_is_space() {
    let (_folder, path) = folder();
    let (queue, faults) = open_faulty(&path).await;
    let first = store(&queue, event(1, 1)).await;
    DiskFaults::set(&faults.full, true);
    for _ in 0..3 {
        let refused = queue.store(event(1, 2)).await;
        assert!(
            matches!(refused, Err(StoreError::DiskFull(_))),
            "{refused:?}"
        );
    }
    assert!(queue.figures().disk_error.is_some());
    assert_eq!(queue.figures().events, 1);
    DiskFaults::set(&faults.full, false);
    recovered(&queue).await;
    let second = store(&queue, event(1, 3)).await;
    queue.close().await;
    let queue = open(&path).await;
    let delivered: Vec<_> = drain(&queue).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(delivered, [first, second]);
}

#[tokio::test]
async fn whatever_write_fails_no_acknowledged_event_is_lost_and_the_order_stays() {
    let (_folder, path) = folder();
    let (queue, faults) = open_faulty(&path).await;
    let mut acknowledged = Vec::new();
    let mut failures = 0;
    for writes in 1..30 {
        faults.writes_left.store(writes, Ordering::SeqCst);
        for number in 0..20 {
            // Of several pages, so that the file grows.
            let mut new = event(1, number);
            new.body = Bytes::from([&new.body[..], &[b' '; 10_000]].concat());
            match queue.store(new).await {
                Ok(Stored::New { id, .. }) => acknowledged.push(id),
                Ok(Stored::Repeated(_)) => panic!("no identifier"),
                Err(_) => {
                    failures += 1;
                    break;
                }
            }
        }
        faults.writes_left.store(0, Ordering::SeqCst);
        DiskFaults::set(&faults.full, false);
        recovered(&queue).await;
        let here = ids(&queue);
        assert!(acknowledged.iter().all(|id| here.contains(id)));
    }
    assert!(failures > 10, "{failures}");
    queue.close().await;
    let queue = open(&path).await;
    let delivered = drain(&queue).await.into_iter().map(|(id, _)| id);
    let delivered: Vec<_> = delivered.filter(|id| acknowledged.contains(id)).collect();
    assert_eq!(delivered, acknowledged);
}

#[tokio::test]
async fn a_delivered_event_that_cannot_be_removed_holds_its_lane_and_is_removed_later() {
    let (_folder, path) = folder();
    let (queue, faults) = open_faulty(&path).await;
    store(&queue, event(1, 1)).await;
    let second = store(&queue, event(1, 2)).await;
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    DiskFaults::set(&faults.broken, true);
    let failed = queue.delivered(lease).await;
    assert!(matches!(failed, Err(QueueError::Disk(_))), "{failed:?}");
    assert_eq!(queue.due(Instant::now()), crate::DueEvents::Nothing);
    assert!(queue.store(event(2, 1)).await.is_err());
    DiskFaults::set(&faults.broken, false);
    recovered(&queue).await;
    let delivered: Vec<_> = drain(&queue).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(delivered, [second]);
    assert_eq!(queue.figures().totals.delivered, 2);
}

/// The worst answer of a disk: it did what it was asked, and says that it did not.
#[tokio::test]
async fn an_event_that_is_on_disk_although_its_commit_failed_is_stored_once() {
    let (_folder, path) = folder();
    let (queue, faults) = open_faulty(&path).await;
    let identified = || NewEvent {
        identifier: Some("a1b2".into()),
        ..event(1, 1)
    };
    DiskFaults::set(&faults.lying, true);
    assert!(queue.store(identified()).await.is_err());
    DiskFaults::set(&faults.lying, false);
    recovered(&queue).await;
    // Jira repeats what was not acknowledged.
    let id = store(&queue, identified()).await;
    assert_eq!(ids(&queue), BTreeSet::from([id]));
    let lease = queue.lease_next(Instant::now()).await.unwrap().unwrap();
    DiskFaults::set(&faults.lying, true);
    let failed = queue.dead(lease, "410").await;
    assert!(failed.is_err());
    DiskFaults::set(&faults.lying, false);
    recovered(&queue).await;
    let figures = queue.figures();
    assert_eq!((figures.events, figures.dead_events), (0, 1));
    queue.close().await;
    let queue = open(&path).await;
    let reopened = queue.figures();
    assert_eq!((reopened.events, reopened.dead_events), (0, 1));
    assert_eq!(ids(&queue), BTreeSet::from([id]));
}

#[tokio::test]
async fn storing_leaves_the_reserve_and_the_rest_goes_on() {
    let (_folder, path) = folder();
    let queue = open(&path).await;
    store(&queue, event(1, 1)).await;
    queue.set_limits(QueueLimits {
        reserve_bytes: u64::MAX,
        ..limits()
    });
    let refused = queue.store(event(1, 2)).await;
    assert!(
        matches!(&refused, Err(StoreError::DiskFull(why)) if why.contains("must stay free")),
        "{refused:?}"
    );
    assert_eq!(queue.figures().disk_error, None);
    assert_eq!(drain(&queue).await.len(), 1);
}

/// A real limit of the system, in a process of its own.
#[tokio::test]
async fn a_file_that_may_not_grow_any_more_loses_nothing() {
    let (_folder, path) = folder();
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 20000; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "queue::tests::disk::child_with_a_limit",
            "--nocapture",
        ])
        .env("EVENTS_TEST_FILE", &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let acknowledged: Vec<EventId> = super::crash::words(&text, "ack");
    assert!(
        acknowledged.len() > 100 && text.contains("refused"),
        "{text}"
    );
    let queue = open(&path).await;
    let delivered = drain(&queue).await.into_iter().map(|(id, _)| id);
    let delivered: Vec<_> = delivered.filter(|id| acknowledged.contains(id)).collect();
    assert_eq!(delivered, acknowledged);
}

/// A process of `a_file_that_may_not_grow_any_more_loses_nothing`; by itself it does nothing.
#[tokio::test]
async fn child_with_a_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(path) = std::env::var_os("EVENTS_TEST_FILE") else {
        return;
    };
    let queue = open(&PathBuf::from(path)).await;
    let large = |number| {
        let mut new = event(1, number);
        new.body = Bytes::from([&new.body[..], &[b' '; 10_000]].concat());
        new
    };
    let was_refused = AtomicBool::new(false);
    for number in 0..5000 {
        match queue.store(large(number)).await {
            Ok(stored) => print_ack(&stored),
            Err(StoreError::Disk(_) | StoreError::DiskFull(_)) => {
                was_refused.store(true, Ordering::Relaxed);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(was_refused.load(Ordering::Relaxed));
    println!("\nrefused");
    let hard = getrlimit(Resource::Fsize).maximum;
    let raised = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Fsize, raised).unwrap();
    recovered(&queue).await;
    for number in 5000..5050 {
        print_ack(&queue.store(large(number)).await.unwrap());
    }
    queue.close().await;
}

fn print_ack(stored: &Stored) {
    let Stored::New { id, .. } = stored else {
        panic!("no identifier");
    };
    println!("\nack {id}");
}
