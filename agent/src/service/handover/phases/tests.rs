//! Both machines together: every order of messages, ends and deadlines, to the end.

use super::*;
use std::collections::HashSet;

/// Both processes, and the messages between them that are not received yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Duration,
    old: PredecessorMachine,
    /// `None`: it was not started yet, or has ended.
    new: Option<SuccessorMachine>,
    to_old: Vec<PredecessorEvent>,
    to_new: Vec<SuccessorEvent>,
    /// Who may change the pauses.
    old_writes: bool,
    new_writes: bool,
    old_runs: bool,
    was_committed: bool,
    failures: u8,
    faults: u8,
}

impl World {
    fn start() -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            old: PredecessorMachine::new(),
            new: None,
            to_old: Vec::new(),
            to_new: Vec::new(),
            old_writes: true,
            new_writes: false,
            old_runs: true,
            was_committed: false,
            failures: 0,
            faults: 0,
        };
        world.old_steps(PredecessorEvent::Requested);
        world
    }

    fn old_steps(&mut self, event: PredecessorEvent) {
        if !self.old_runs {
            return;
        }
        for action in self.old.step(self.now, event) {
            match action {
                PredecessorAction::Start => {
                    self.new = Some(SuccessorMachine::new());
                    self.to_old.push(PredecessorEvent::Hello);
                }
                PredecessorAction::Listen => self.to_new.push(SuccessorEvent::Listen),
                PredecessorAction::Freeze => self.old_writes = false,
                PredecessorAction::Commit => {
                    self.was_committed = true;
                    self.to_new.push(SuccessorEvent::Commit);
                }
                PredecessorAction::End => {
                    assert!(!self.was_committed, "could have sent something to Jira");
                    self.new_ends();
                    self.to_old.clear();
                }
                PredecessorAction::Kill => {
                    assert!(self.was_committed, "requests that wait there are cut");
                    self.new_ends();
                    // What it had sent is not read any more.
                    self.to_old.clear();
                }
                PredecessorAction::Thaw => self.old_writes = true,
                PredecessorAction::Fail(_) => self.failures += 1,
                PredecessorAction::Drain => {}
            }
        }
    }

    fn new_steps(&mut self, event: SuccessorEvent) {
        let Some(new) = &mut self.new else {
            return;
        };
        for action in new.step(event) {
            match action {
                SuccessorAction::RequestForwards => {
                    let was_proven = !matches!(
                        self.old.phase(),
                        PredecessorPhase::Starting { .. } | PredecessorPhase::Preparing { .. }
                    );
                    assert!(was_proven, "the vendor's requests wait for Jira");
                }
                SuccessorAction::ReadPauses | SuccessorAction::TakeSocket => {}
                SuccessorAction::Serve => self.new_writes = true,
                SuccessorAction::Confirm => self.to_old.push(PredecessorEvent::Committed),
                SuccessorAction::Refuse => self.to_old.push(PredecessorEvent::Failed("why".into())),
                SuccessorAction::End => {
                    self.new_ends();
                    self.to_old.push(PredecessorEvent::Lost);
                    return;
                }
            }
        }
    }

    fn new_ends(&mut self) {
        self.new = None;
        self.new_writes = false;
        self.to_new.clear();
    }

    fn serving(&self) -> usize {
        let old = self.old_runs && *self.old.phase() != PredecessorPhase::Draining;
        let new = self
            .new
            .is_some_and(|new| matches!(new.phase(), SuccessorPhase::Serving { .. }));
        usize::from(old) + usize::from(new)
    }

    /// All that can happen next.
    fn successors(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            next.push(world);
        };
        if !self.to_old.is_empty() {
            with(&|w| {
                let event = w.to_old.remove(0);
                w.old_steps(event);
            });
        }
        if !self.to_new.is_empty() {
            with(&|w| {
                let event = w.to_new.remove(0);
                w.new_steps(event);
            });
        }
        match self.new.map(|new| new.phase()) {
            Some(SuccessorPhase::Preparing | SuccessorPhase::Proving) => {
                for lacking in [None, Some(String::from("jira"))] {
                    with(&|w| w.old_steps(PredecessorEvent::Proof(lacking.clone())));
                }
                with(&|w| w.new_steps(SuccessorEvent::Stop));
            }
            Some(SuccessorPhase::Reading) => {
                with(&|w| w.new_steps(SuccessorEvent::Read));
                with(&|w| w.new_steps(SuccessorEvent::Unreadable));
            }
            Some(SuccessorPhase::Serving { .. } | SuccessorPhase::Ended) | None => {}
        }
        if matches!(self.old.phase(), PredecessorPhase::Freezing { .. }) {
            with(&|w| w.old_steps(PredecessorEvent::Frozen));
            with(&|w| w.old_steps(PredecessorEvent::Failed("the disk".into())));
        }
        if let Some(deadline) = self.old.deadline() {
            with(&|w| {
                w.now = w.now.max(deadline);
                w.old_steps(PredecessorEvent::Tick);
            });
        }
        if self.new.is_some() && self.faults == 0 {
            // Killed from outside.
            with(&|w| {
                w.faults += 1;
                w.new_ends();
                w.to_old.push(PredecessorEvent::Lost);
            });
        }
        if *self.old.phase() == PredecessorPhase::Draining && self.old_runs {
            with(&|w| {
                w.old_runs = false;
                w.to_new.push(SuccessorEvent::Lost);
            });
        }
        next
    }
}

#[test]
fn in_every_order_one_serves_and_at_most_one_writes() {
    let mut seen = HashSet::new();
    let mut open = vec![World::start()];
    let (mut handed_over, mut failed) = (0, 0);
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(
            !(world.old_writes && world.new_writes),
            "two write: {world:?}"
        );
        assert!(
            world.serving() >= 1 || world.faults > 0,
            "no process serves: {world:?}"
        );
        let next = world.successors();
        if next.is_empty() {
            match world.old.phase() {
                PredecessorPhase::Serving => {
                    failed += 1;
                    assert!(world.old_writes && world.new.is_none(), "{world:?}");
                    assert_eq!(world.failures, 1, "{world:?}");
                }
                PredecessorPhase::Draining => {
                    handed_over += 1;
                    assert!(world.new_writes || world.faults > 0, "{world:?}");
                }
                phase @ (PredecessorPhase::Starting { .. }
                | PredecessorPhase::Preparing { .. }
                | PredecessorPhase::Proving { .. }
                | PredecessorPhase::Freezing { .. }
                | PredecessorPhase::Committing { .. }) => panic!("stuck in {phase:?}"),
            }
        }
        open.extend(next);
    }
    assert!(handed_over > 0 && failed > 0, "{handed_over} {failed}");
    assert!(seen.len() > 30, "{} states", seen.len());
}

#[test]
fn what_is_lacking_is_the_reason_of_a_late_process() {
    let mut old = PredecessorMachine::new();
    let start = Duration::from_secs(100);
    assert_eq!(
        old.step(start, PredecessorEvent::Requested),
        [PredecessorAction::Start]
    );
    assert_eq!(old.deadline(), Some(start + START_LIMIT));
    old.step(start, PredecessorEvent::Hello);
    old.step(
        start,
        PredecessorEvent::Proof(Some("jira of forward jira".into())),
    );
    let actions = old.step(start + PROVE_LIMIT, PredecessorEvent::Tick);
    let [PredecessorAction::End, PredecessorAction::Fail(cause)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert!(cause.ends_with("jira of forward jira"), "{cause}");
    assert_eq!(*old.phase(), PredecessorPhase::Serving);
    // And the next attempt begins from the start.
    assert_eq!(
        old.step(start + PROVE_LIMIT, PredecessorEvent::Requested),
        [PredecessorAction::Start]
    );
}

/// A stop ends a hand-over that can be taken back, and no other.
#[test]
fn a_stop_does_not_end_a_process_that_may_serve() {
    let mut old = PredecessorMachine::new();
    let now = Duration::ZERO;
    old.step(now, PredecessorEvent::Requested);
    let failed = old.clone().step(now, PredecessorEvent::Stop);
    assert!(
        matches!(&failed[..], [PredecessorAction::End, PredecessorAction::Fail(cause)] if cause == STOPPING)
    );
    for event in [
        PredecessorEvent::Hello,
        PredecessorEvent::Proof(None),
        PredecessorEvent::Proof(None),
        PredecessorEvent::Frozen,
    ] {
        old.step(now, event);
    }
    assert_eq!(old.step(now, PredecessorEvent::Stop), []);
    let committed = old.step(now, PredecessorEvent::Committed);
    assert_eq!(committed, [PredecessorAction::Drain]);
}
