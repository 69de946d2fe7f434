//! kill -9 at any moment: what was acknowledged is there, in order, and what was removed is gone.
use super::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    str::FromStr,
};
use tokio::time::Instant;

const ROUNDS: u32 = 30;
const LANES: u32 = 4;

/// What follows this word in each whole line of the output.
pub(super) fn words<T: FromStr>(text: &str, word: &str) -> Vec<T> {
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let found = whole.filter_map(|line| {
        let (first, rest) = line.trim().split_once(' ')?;
        (first == word).then(|| rest.parse().ok()).flatten()
    });
    found.collect()
}

#[tokio::test]
async fn after_kill_9_every_acknowledged_event_is_there_in_order() {
    let (_folder, path) = folder();
    // By lane, in the order in which they were acknowledged.
    let mut kept: BTreeMap<u32, Vec<EventId>> = BTreeMap::new();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let text = run_and_kill(&path, round, rand::random_range(1..300));
        for ack in words::<Acknowledged>(&text, "ack") {
            kept.entry(ack.lane).or_default().push(ack.id);
            acknowledged += 1;
        }
        let leased: BTreeSet<EventId> = words(&text, "lease").into_iter().collect();
        let done: BTreeSet<EventId> = words(&text, "done").into_iter().collect();
        let queue = open(&path).await;
        let here = list_all(&queue);
        for (lane, ids) in &mut kept {
            // Removed for sure; or perhaps, if it was on the way when the process ended.
            ids.retain(|id| !done.contains(id) && (!leased.contains(id) || here.contains(id)));
            let found: Vec<_> = here.iter().filter(|id| ids.contains(id)).copied().collect();
            assert_eq!(found, *ids, "lane {lane} in round {round}");
        }
        assert!(!here.iter().any(|id| done.contains(id)), "round {round}");
        queue.close().await;
    }
    assert!(acknowledged > ROUNDS, "{acknowledged}");
    // To the end: each body is there, and the numbers of each lane grow.
    let queue = open(&path).await;
    let mut last = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    while let Some(lease) = queue.lease_next(Instant::now()).await.unwrap() {
        let body: serde_json::Value = serde_json::from_slice(&lease.body).unwrap();
        let number = body["number"].as_u64();
        let before = last.insert(lease.head.lane.clone(), number);
        assert!(
            before.is_none_or(|before| before < number),
            "{before:?} {number:?}"
        );
        delivered.insert(lease.head.id);
        queue.delivered(lease).await.unwrap();
    }
    assert!(kept.values().flatten().all(|id| delivered.contains(id)));
}

fn list_all(queue: &EventQueue) -> Vec<EventId> {
    let mut all: Vec<EventId> = Vec::new();
    loop {
        let page = queue.list(crate::ListFilter::All, all.last().copied(), 1000);
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().map(|event| event.id));
    }
}

struct Acknowledged {
    lane: u32,
    id: EventId,
}

impl FromStr for Acknowledged {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (lane, id) = text.split_once(' ').ok_or(())?;
        Ok(Self {
            lane: lane.parse().map_err(drop)?,
            id: id.parse().map_err(drop)?,
        })
    }
}

/// Ends the child where the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the child until it has said this many lines, kills it, and returns all that it has said.
fn run_and_kill(path: &std::path::Path, round: u32, lines: usize) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::tests::crash::child", "--nocapture"])
        .env("EVENTS_TEST_FILE", path)
        .env("EVENTS_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut output = BufReader::new(child.0.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..lines {
        assert_ne!(
            output.read_line(&mut text).unwrap(),
            0,
            "the child ended: {text}"
        );
    }
    child.0.kill().unwrap();
    while output.read_line(&mut text).unwrap() > 0 {}
    text
}

/// A process of `after_kill_9_every_acknowledged_event_is_there_in_order`; by itself it does nothing.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os("EVENTS_TEST_FILE") else {
        return;
    };
    let round: u32 = std::env::var("EVENTS_TEST_ROUND").unwrap().parse().unwrap();
    let queue = open(&PathBuf::from(path)).await;
    // After what the test harness has written without an end of line.
    say(String::new());
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let queue = queue.clone();
        tasks.spawn(async move {
            for number in 0.. {
                // Numbers grow over all rounds.
                let id = store(&queue, event(lane, round * 1_000_000 + number)).await;
                say(format!("ack {lane} {id}"));
            }
        });
    }
    tasks.spawn(async move {
        loop {
            let changed = queue.changed();
            if queue.figures().events > 40
                && let Some(lease) = queue.lease_next(Instant::now()).await.unwrap()
            {
                let id = lease.head.id;
                say(format!("lease {id}"));
                queue.delivered(lease).await.unwrap();
                say(format!("done {id}"));
            } else {
                changed.await;
            }
        }
    });
    // Without a reader any more it ends with an error.
    tasks.join_next().await.unwrap().unwrap();
}

/// One line in one write.
fn say(line: String) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}
