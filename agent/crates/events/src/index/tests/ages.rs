//! How old events become, whatever the clock of the host does.
use super::*;

#[test]
fn events_die_at_their_age_and_dead_letters_go_at_theirs() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    bench.pass(2 * DAY);
    bench.store("1", "a", 1).unwrap();
    assert_eq!(bench.expire(), (0, 0));
    bench.pass(DAY);
    assert_eq!(bench.expire(), (1, 0));
    let dead = bench.index.list(ListFilter::Dead, None, 9, bench.now);
    assert_eq!(
        dead[0].last_error.as_deref(),
        Some("not delivered within 3 d")
    );
    bench.pass(30 * DAY);
    assert_eq!(bench.expire(), (1, 1));
    bench.pass(30 * DAY);
    assert_eq!(bench.expire(), (0, 1));
    assert_eq!(bench.index.totals.dropped_dead, 2);
}

#[test]
fn what_is_being_delivered_does_not_die() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    bench.index.lease(bench.now).unwrap();
    bench.pass(10 * DAY);
    assert_eq!(bench.expire(), (0, 0));
}

#[test]
fn no_more_die_in_one_commit_than_it_takes() {
    let mut bench = Bench::new(limits());
    for _ in 0..5 {
        bench.store("1", "a", 1).unwrap();
    }
    bench.pass(10 * DAY);
    let now = bench.clocks();
    let old = bench.index.too_old(now, 3);
    assert!(old.more && old.dead.len() == 3);
    let old = bench.index.too_old(now, 3);
    assert!(!old.more && old.dead.len() == 2);
}

#[test]
fn a_wall_clock_that_jumps_ends_no_event_of_this_process() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    bench.bury(10);
    bench.wall += 365 * DAY;
    assert_eq!(bench.expire(), (0, 0));
    bench.wall -= 2 * 365 * DAY;
    assert_eq!(bench.expire(), (0, 0));
    bench.pass(3 * DAY);
    assert_eq!(bench.expire().0, 1);
}

/// An index that has found one event of this age in its file.
fn found(bench: &mut Bench, age: Duration) {
    let mut head = bench.head("1", "a");
    head.received_at = bench.wall - age;
    let now = bench.clocks();
    bench.index.load_queued(7, &head, 1, now);
}

#[test]
fn a_wall_clock_that_is_wrong_at_the_start_or_later_ends_no_queue() {
    // Set forward while the agent did not run, and set right after its start.
    let mut bench = Bench::new(limits());
    found(&mut bench, 365 * DAY);
    bench.wall -= 365 * DAY;
    bench.pass(2 * HOUR);
    assert_eq!(bench.expire(), (0, 0));
    // The event lives no longer than without the jumps.
    bench.pass(3 * DAY);
    assert_eq!(bench.expire(), (1, 0));

    // Set forward after the start.
    let mut bench = Bench::new(limits());
    found(&mut bench, DAY);
    bench.wall += 365 * DAY;
    bench.pass(DAY);
    assert_eq!(bench.expire(), (0, 0));
    bench.pass(DAY);
    assert_eq!(bench.expire(), (1, 0));

    // Wrong all along, or the host was off: there is time for some attempts.
    let mut bench = Bench::new(limits());
    found(&mut bench, 365 * DAY);
    assert_eq!(bench.expire(), (0, 0));
    bench.pass(HOUR);
    assert_eq!(bench.expire(), (1, 0));

    // Set back: it lives for its time from the start.
    let mut bench = Bench::new(limits());
    found(&mut bench, DAY);
    bench.wall -= 365 * DAY;
    bench.pass(3 * DAY - HOUR);
    assert_eq!(bench.expire(), (0, 0));
    bench.pass(HOUR);
    assert_eq!(bench.expire(), (1, 0));
}
