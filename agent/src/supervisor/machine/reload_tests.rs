//! What a reload changes, and what it leaves alone.

use super::*;

/// A machine that serves, before a reload.
fn serving(connections: usize, gateways: usize, forwards: usize) -> World {
    let mut world = calm(connections, gateways, forwards);
    world.run_well(seconds(60), World::everything_serves);
    world
}

fn reloaded(world: &mut World, change: impl FnOnce(&mut DesiredState)) {
    let mut wanted = world.wanted.clone();
    change(&mut wanted);
    world.send(SupervisorEvent::Reload(wanted));
}

#[test]
fn a_reload_that_changes_nothing_does_nothing() {
    let mut world = serving(2, 2, 2);
    let before: Vec<SessionId> = world.sessions.keys().copied().collect();
    let wanted = world.wanted.clone();
    let actions = world
        .machine
        .step(world.now, SupervisorEvent::Reload(wanted), 0.5);
    assert_eq!(actions, []);
    assert!(world.sessions.keys().copied().eq(before));
}

#[test]
fn forwards_come_and_go_on_the_session_that_stands() {
    let mut world = serving(1, 1, 2);
    let id = world.id(0);
    reloaded(&mut world, |wanted| wanted.forwards = vec![1, 7]);
    assert!(world.sessions[&id].cancels.contains(&0));
    world.run_well(seconds(10), World::everything_serves);
    assert_eq!(world.id(0), id);
    assert_eq!(world.sessions[&id].held, BTreeSet::from([1, 7]));
    assert!(!world.machine.involves(0), "forgotten once it is let go of");
}

#[test]
fn where_two_may_listen_a_replaced_session_serves_until_its_successor_does() {
    let mut world = calm(1, 1, 1);
    world.exclusive = false;
    world.run_well(seconds(10), World::everything_serves);
    let old = world.id(0);
    reloaded(&mut world, |wanted| wanted.replace_sessions = true);
    world.run_well(seconds(10), |w| {
        assert!(w.sessions.values().any(|p| p.held.contains(&0)), "a gap");
        !w.sessions.contains_key(&old)
    });
    assert!(world.everything_serves());
}

#[test]
fn where_one_may_listen_the_old_session_lets_go_only_when_the_new_one_has_asked() {
    let mut world = serving(1, 1, 1);
    let old = world.id(0);
    reloaded(&mut world, |wanted| wanted.replace_sessions = true);
    world.settle_a_dial(1.0, 0.0);
    let new = world.id(0);
    assert!(world.sessions[&old].held.contains(&0) && world.sessions[&old].cancels.is_empty());
    world.answer_of(new);
    assert!(world.sessions[&old].cancels.contains(&0));
    world.answer_of(old);
    assert!(
        world.sessions[&new].requests.contains(&0),
        "asked again in the same step"
    );
    world.answer_of(new);
    assert!(world.sessions[&new].held.contains(&0));
}

#[test]
fn sessions_are_replaced_one_at_a_time_and_go_on_while_nobody_can_log_in_anew() {
    let mut world = serving(2, 1, 1);
    let before: BTreeSet<SessionId> = world.sessions.keys().copied().collect();
    reloaded(&mut world, |wanted| wanted.replace_sessions = true);
    for _ in 0..10 {
        assert_eq!(world.dials.len(), 1);
        let id = *world.dials.keys().next().unwrap();
        world.dials.clear();
        world.slow.insert(0, world.now);
        world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
        while world.dials.is_empty() {
            world.now = world.machine.next_deadline().unwrap();
            world.send(SupervisorEvent::Tick);
        }
    }
    assert!(before.iter().all(|id| world.sessions.contains_key(id)));
    // Corrected: tried at once, although a gateway that refuses is left alone for a minute.
    let id = *world.dials.keys().next().unwrap();
    world.dials.clear();
    world.slow.insert(0, world.now);
    world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
    reloaded(&mut world, |wanted| wanted.replace_sessions = true);
    assert_eq!(world.dials.len(), 1);
    world.run_well(seconds(60), |w| {
        w.everything_serves() && !before.iter().any(|id| w.sessions.contains_key(id))
    });
}

/// A gateway that no longer knows the agent is no reason to stay with the old key at the other one.
#[test]
fn a_connection_that_cannot_log_in_anew_does_not_hold_up_the_others() {
    for retry in [RetryPace::Slow, RetryPace::Soon] {
        let mut world = serving(3, 3, 1);
        let before: Vec<SessionId> = (0..3).map(|slot| world.id(slot)).collect();
        reloaded(&mut world, |wanted| wanted.replace_sessions = true);
        let begun = world.now;
        while before[1..].iter().any(|id| world.id(id.slot) == *id) {
            assert!(world.now < begun + seconds(10), "held up");
            let (id, gateway) = world
                .dials
                .iter()
                .map(|(id, (g, _))| (*id, *g))
                .next()
                .unwrap();
            if gateway > 0 {
                world.settle_a_dial(1.0, 0.0);
                let asks = |p: &Peer| !p.requests.is_empty() || !p.cancels.is_empty();
                while world.sessions.values().any(asks) {
                    world.answer();
                }
                continue;
            }
            world.dials.clear();
            if retry == RetryPace::Slow {
                world.slow.insert(0, world.now);
            }
            world.send(SupervisorEvent::OpenFailed(id, retry));
        }
        assert_eq!(world.id(0), before[0], "it serves on");
        let told = world.machine.summaries()[0].next_dial.unwrap();
        assert!(told > world.now, "status says when it is tried again");
        // And is tried again, further and further apart where the network fails.
        let attempt = world.machine.slots[0].attempt;
        while world.dials.is_empty() {
            world.now = world.machine.next_deadline().unwrap();
            world.send(SupervisorEvent::Tick);
        }
        let id = *world.dials.keys().next().unwrap();
        assert_eq!(id.slot, 0);
        world.dials.clear();
        world.slow.insert(0, world.now);
        world.send(SupervisorEvent::OpenFailed(id, retry));
        assert_eq!(world.machine.slots[0].attempt, attempt + 1);
    }
}

/// The forward is kept by the older of two sessions of the connection, for a successor that is not wanted any more.
#[test]
fn a_connection_that_is_taken_out_while_it_is_replaced_lets_go_at_once() {
    let mut world = serving(2, 1, 1);
    let holds = |w: &World, slot: usize| w.sessions[&w.id(slot)].held.contains(&0);
    if !holds(&world, 1) {
        let first = world.id(0);
        world.end(first);
        world.run_well(seconds(60), |w| w.everything_serves() && holds(w, 1));
    }
    let old = world.id(1);
    world.send(SupervisorEvent::NeedsReplacement(old));
    world.settle_a_dial(1.0, 0.0);
    assert_ne!(world.id(1), old);
    assert!(
        world.sessions[&old].held.contains(&0),
        "kept for its successor"
    );
    reloaded(&mut world, |wanted| wanted.connections = 1);
    world.run_well(seconds(10), |w| w.everything_serves() && holds(w, 0));
}

#[test]
fn a_forward_is_held_until_the_gateway_says_that_it_is_not() {
    let mut world = serving(1, 1, 2);
    let id = world.id(0);
    assert!(world.machine.expects_channels(0));
    reloaded(&mut world, |wanted| wanted.forwards = vec![1]);
    assert!(world.machine.expects_channels(0) && world.machine.expects_channels(1));
    world.answer_of(id);
    assert!(!world.machine.expects_channels(0) && world.machine.expects_channels(1));
    world.send(SupervisorEvent::Drain(seconds(30)));
    assert!(world.machine.expects_channels(1));
    world.answer_of(id);
    assert!(!world.machine.expects_channels(1));
}

#[test]
fn connections_and_gateways_come_and_go_without_touching_the_others() {
    let mut world = serving(2, 1, 1);
    let (first, second) = (world.id(0), world.id(1));
    reloaded(&mut world, |wanted| {
        wanted.connections = 3;
        wanted.gateways = vec![0, 8];
    });
    world.run_well(seconds(60), |w| {
        w.everything_serves() && !w.sessions.contains_key(&second)
    });
    assert_eq!(world.id(0), first, "at its own gateway already");
    let spread: Vec<usize> = (0..3)
        .map(|n| world.sessions[&world.id(n)].gateway)
        .collect();
    assert_eq!(spread, [0, 8, 0]);
    let second = world.id(1);
    reloaded(&mut world, |wanted| wanted.connections = 2);
    world.run_well(seconds(60), |w| w.machine.slots.len() == 2);
    assert_eq!((world.id(0), world.id(1)), (first, second));
    reloaded(&mut world, |wanted| wanted.gateways = vec![8]);
    world.run_well(seconds(60), |w| {
        w.everything_serves() && !w.sessions.contains_key(&first)
    });
    assert_eq!(world.id(1), second);
}

#[test]
fn at_another_gateway_the_new_session_serves_before_the_old_one_lets_go() {
    let mut world = serving(1, 1, 1);
    let old = world.id(0);
    reloaded(&mut world, |wanted| wanted.gateways = vec![8]);
    world.run_well(seconds(10), |w| {
        assert!(w.sessions.values().any(|p| p.held.contains(&0)), "a gap");
        !w.sessions.contains_key(&old)
    });
    assert!(world.everything_serves());
}

/// Another name or port of the same machine.
#[test]
fn at_another_gateway_that_refuses_the_old_session_lets_go_first() {
    let mut world = serving(1, 1, 1);
    let old = world.id(0);
    reloaded(&mut world, |wanted| wanted.gateways = vec![8]);
    world.settle_a_dial(1.0, 0.0);
    let new = world.id(0);
    world.answer_by(new, true);
    assert!(world.sessions[&old].cancels.contains(&0));
    world.answer_of(old);
    assert!(world.sessions[&new].requests.contains(&0), "asked at once");
}

#[test]
fn a_dial_by_the_former_configuration_is_given_up_and_never_serves() {
    let mut world = calm(1, 1, 1);
    let id = *world.dials.keys().next().unwrap();
    reloaded(&mut world, |wanted| wanted.replace_sessions = true);
    assert!(world.dials[&id].1, "given up");
    // It was faster.
    world.dials.get_mut(&id).unwrap().1 = true;
    world.open(id);
    assert!(world.sessions[&id].disconnecting && world.sessions[&id].held.is_empty());
    assert_eq!(world.dials.len(), 1, "and dialled anew at once");
    world.run_well(seconds(10), World::everything_serves);
    assert_ne!(world.id(0), id);
}
