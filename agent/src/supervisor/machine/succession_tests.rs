//! When a new session takes the place of the one that serves.

use super::*;

/// A connection that serves at the second gateway, because its own was down until now.
fn away() -> World {
    let mut world = calm(1, 2, 1);
    let home = world.dial_to(0);
    world.fail(home, RetryPace::Soon);
    let second = world.dial_to(1);
    world.open(second);
    world.answer_of(second);
    assert!(world.sessions[&second].held.contains(&0));
    world.now += seconds(60);
    world.send(SupervisorEvent::Tick);
    world
}

/// The home gateway accepts the login; its session answers nothing yet.
fn log_in_at_home(world: &mut World) -> SessionId {
    while world.dials.is_empty() {
        world.now = world.machine.next_deadline().unwrap();
        world.send(SupervisorEvent::Tick);
    }
    let id = world.dial_to(0);
    world.accept(id);
    id
}

#[test]
fn a_session_that_returns_home_serves_once_it_is_proven() {
    let mut world = away();
    let serves = world.id(0);
    let home = log_in_at_home(&mut world);
    assert_eq!(world.id(0), serves);
    assert!(world.sessions[&home].requests.is_empty());
    world.send(SupervisorEvent::Proven(home));
    assert_eq!(world.id(0), home);
    assert!(world.sessions[&home].requests.contains(&0));
}

#[test]
fn a_home_gateway_that_ends_each_session_leaves_the_one_that_serves() {
    let mut world = away();
    let serves = world.id(0);
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let home = log_in_at_home(&mut world);
        last = world.now;
        world.end(home);
        assert_eq!(world.id(0), serves);
        assert!(world.sessions[&serves].cancels.is_empty());
        assert!(world.machine.slots[0].draining.is_empty());
    }
    let history = world.machine.slots[0].histories[&0];
    assert_eq!(history.bad_sessions, 20);
    assert!(history.not_before <= last + backoff::SHAKY_CEILING);
}

/// A probe is answered, and then the session is cut.
#[test]
fn after_a_session_of_no_use_the_next_must_live_for_a_second_too() {
    let mut world = away();
    let serves = world.id(0);
    let first = log_in_at_home(&mut world);
    world.end(first);
    for _ in 0..6 {
        let home = log_in_at_home(&mut world);
        world.send(SupervisorEvent::Proven(home));
        world.now += Duration::from_millis(300);
        world.end(home);
        assert_eq!(world.id(0), serves);
    }
    let home = log_in_at_home(&mut world);
    let opened = world.now;
    world.send(SupervisorEvent::Proven(home));
    assert_eq!(world.machine.next_deadline(), Some(opened + SERVED));
    world.now += SERVED;
    world.send(SupervisorEvent::Tick);
    assert_eq!(world.id(0), home);
}

#[test]
fn a_successor_that_is_not_proven_yet_serves_if_the_session_ends() {
    let mut world = away();
    let serves = world.id(0);
    let home = log_in_at_home(&mut world);
    world.end(serves);
    assert_eq!(world.id(0), home);
    assert!(world.sessions[&home].requests.contains(&0));
}

#[test]
fn a_drain_and_a_change_of_the_login_end_a_successor_that_is_not_proven() {
    let mut world = away();
    let home = log_in_at_home(&mut world);
    let mut wanted = world.wanted.clone();
    wanted.replace_sessions = true;
    world.send(SupervisorEvent::Reload(wanted));
    assert!(world.sessions[&home].disconnecting);
    let again = world.dial_to(0);
    world.accept(again);
    world.send(SupervisorEvent::Drain(seconds(30)));
    assert!(world.sessions[&again].disconnecting);
    world.run_well(seconds(60), |w| w.stopped);
}
