#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::{
    LinkLoad, LinkSample, LivenessClock, LivenessLimits, LivenessVerdict, SendSample,
    simulated_link::{LinkProfile, Micros, SimulatedLink},
};
use std::time::{Duration, Instant};

/// The defaults of agent and gateway.
const DEFAULTS: LivenessLimits = LivenessLimits {
    interval: Duration::from_millis(2500),
    measure_interval: Duration::from_millis(2500),
    patience: Duration::from_millis(1600),
};

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn micros(seconds: f64) -> Micros {
    secs(seconds).as_micros() as Micros
}

fn is_dead(verdict: LivenessVerdict) -> bool {
    matches!(verdict, LivenessVerdict::Dead(_))
}

/// Seconds until the first verdict after `from` that `wanted` selects.
fn first(
    verdicts: &[(Micros, LivenessVerdict)],
    from: Micros,
    wanted: impl Fn(LivenessVerdict) -> bool,
) -> Option<f64> {
    let mut later = verdicts.iter().filter(|(at, _)| *at >= from);
    let found = later.find(|(_, verdict)| wanted(*verdict));
    found.map(|(at, _)| (*at - from) as f64 / 1e6)
}

/// Runs a living link, and fails if one of its ends takes the other for dead.
fn assert_lives(profile: &LinkProfile, seed: u64, in_flight: bool, seconds: f64) {
    let mut link = SimulatedLink::new(profile.clone(), seed, DEFAULTS);
    link.in_flight = in_flight;
    let verdicts = link.run(secs(seconds));
    for (end, verdicts) in verdicts.iter().enumerate() {
        let dead = first(verdicts, 0, is_dead);
        assert_eq!(dead, None, "end {end}, seed {seed}, {profile:?}");
        // Only a link that moves data is a living one.
        let moved = link.received(1 - end) > 10_000 || profile.backlog[end] == 0;
        assert!(moved, "seed {seed}, {profile:?}");
    }
}

/// The link of the promise: 64 kbit/s, 600 ms, 5 % loss, full for ten minutes in either direction or in both, with queues of
/// 1, 4 and 16 s in front of it.
#[test]
fn a_full_satellite_link_is_never_cut() {
    for backlog in [[128 << 10, 0], [0, 128 << 10], [128 << 10; 2]] {
        for queue in [8 << 10, 32 << 10, 128 << 10] {
            for window in [96 << 10, u64::MAX] {
                let profile = LinkProfile {
                    backlog,
                    queue,
                    window,
                    ..LinkProfile::satellite()
                };
                for seed in 1..=8 {
                    assert_lives(&profile, seed, true, 600.0);
                }
            }
        }
    }
}

/// Rates of 32 kbit/s to 1 Mbit/s, round trips of 2 ms to 0.5 s, up to 6 % loss, any load.
#[test]
fn random_living_links_are_never_cut() {
    for seed in 1..=600_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: u64| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
        };
        let backlogs = [0, 16 << 10, 128 << 10, 256 << 10];
        let profile = LinkProfile {
            rate: 4_000 << random(6),
            delay: 1000 << random(9),
            loss: random(60) as f64 / 1000.0,
            queue: 8192 << random(5),
            backlog: [backlogs[random(4) as usize], backlogs[random(4) as usize]],
            window: [96 << 10, u64::MAX][random(2) as usize],
            ..LinkProfile::satellite()
        };
        assert_lives(&profile, seed, random(2) == 0, 60.0);
    }
}

/// Nothing comes through for 2 s of every 10 s.
#[test]
fn bursts_of_total_loss_cut_nothing() {
    for delay in [500, 25_000, 75_000] {
        for in_flight in [false, true] {
            for seed in 1..=10 {
                let profile = LinkProfile {
                    delay,
                    bursts: Some((micros(2.0), micros(10.0))),
                    ..LinkProfile::lan()
                };
                assert_lives(&profile, seed, in_flight, 120.0);
            }
        }
    }
}

/// When each end takes the other for suspect and for dead, in seconds after the fault; the slowest of many runs.
fn noticed(
    profile: &LinkProfile,
    fault: impl Fn(&mut LinkProfile, Micros),
    busy: bool,
) -> [(f64, f64); 2] {
    let mut slowest = [(0.0_f64, 0.0_f64); 2];
    for run in 0..40 {
        let at = micros(30.0) + run * 97_000;
        let mut profile = profile.clone();
        fault(&mut profile, at);
        let mut link = SimulatedLink::new(profile, run + 1, DEFAULTS);
        link.in_flight = busy;
        let verdicts = link.run(secs(60.0));
        for (slowest, verdicts) in slowest.iter_mut().zip(&verdicts) {
            if first(verdicts, 0, is_dead).is_some_and(|dead| dead < at as f64 / 1e6) {
                // An outage before the fault has ended the session already.
                continue;
            }
            let suspect = first(verdicts, at, LivenessVerdict::is_suspect).unwrap_or(f64::MAX);
            let dead = first(verdicts, at, is_dead).unwrap_or(f64::MAX);
            *slowest = (slowest.0.max(suspect), slowest.1.max(dead));
        }
    }
    slowest
}

#[test]
fn a_black_hole_is_noticed_in_five_seconds_busy_and_ten_at_rest() {
    for delay in [500, 25_000, 50_000, 100_000] {
        let profile = LinkProfile {
            delay,
            ..LinkProfile::lan()
        };
        for busy in [false, true] {
            for ways in [[true, true], [true, false], [false, true]] {
                let hole = |profile: &mut LinkProfile, at| {
                    profile.black_hole = ways.map(|way| way.then_some(at));
                };
                let ends = noticed(&profile, hole, busy);
                let limit = if busy { 5.0 } else { 10.0 };
                let text = format!("{delay} {busy} {ways:?} {ends:?}");
                // Where one direction works, the end that notices first closes, and the other one sees that.
                let first = ends[0].1.min(ends[1].1);
                assert!(first < limit - 0.4, "{text}");
                for (suspect, dead) in ends {
                    assert!(suspect < limit - 1.0 && dead < limit + 0.5, "{text}");
                    assert!(suspect > 2.0 && dead > suspect + 1.0, "{text}");
                }
            }
        }
    }
}

/// The end that sends requests hears the probes of the other one, which has nothing to send and waits longer.
#[test]
fn a_direction_that_is_lost_is_noticed_by_the_busy_end_although_it_hears_the_other() {
    for delay in [500, 25_000, 50_000] {
        for caller in [0, 1] {
            let mut profile = LinkProfile {
                delay,
                ..LinkProfile::lan()
            };
            profile.calls[caller] = true;
            let hole = |profile: &mut LinkProfile, at| profile.black_hole[caller] = Some(at);
            let (suspect, dead) = noticed(&profile, hole, false)[caller];
            assert!(
                suspect < 4.0 && dead < 5.5,
                "{delay} {caller} {suspect} {dead}"
            );
        }
    }
}

/// An outage says nothing about the round trip: the next fault is noticed as soon as the first.
#[test]
fn a_black_hole_after_an_outage_is_noticed_as_soon() {
    for delay in [500, 25_000, 100_000] {
        for (outage, busy) in [(1.0, true), (2.0, true), (1.0, false), (3.0, false)] {
            // Ends 4 to 8 s before the fault.
            let profile = LinkProfile {
                delay,
                outage: (micros(26.0 - outage), micros(26.0)),
                ..LinkProfile::lan()
            };
            let hole = |profile: &mut LinkProfile, at| profile.black_hole = [Some(at); 2];
            let ends = noticed(&profile, hole, busy);
            let limit = if busy { 5.0 } else { 10.0 };
            for (suspect, dead) in ends {
                let text = format!("{delay} {outage} {busy} {ends:?}");
                assert!(suspect < limit - 1.0 && dead < limit + 0.5, "{text}");
                assert!(suspect > 2.0, "{text}");
            }
        }
    }
}

/// A gateway's kernel that gave the connection up during the outage sends no more; the agent's packets arrive first.
#[test]
fn a_session_that_ended_during_an_outage_is_replaced_soon() {
    for busy in [false, true] {
        let mut slowest = 0.0_f64;
        for run in 0..40 {
            let at = micros(30.0) + run * 97_000;
            let healed = at + micros(3.7);
            let mut profile = LinkProfile {
                delay: 5_000,
                outage: (at, healed),
                ..LinkProfile::lan()
            };
            profile.stopped[0] = Some(at);
            let mut link = SimulatedLink::new(profile, run + 1, DEFAULTS);
            link.in_flight = busy;
            let verdicts = link.run(secs(60.0));
            let dead = first(&verdicts[1], at, is_dead).unwrap_or(f64::MAX);
            slowest = slowest.max(dead - 3.7);
        }
        assert!(slowest < 5.0, "{busy} {slowest}");
    }
}

/// Bytes in the far kernel prove nothing of the process that should read them.
#[test]
fn a_stopped_process_is_noticed_although_its_kernel_answers() {
    for (busy, limit) in [(false, 10.0), (true, 5.0)] {
        for backlog in [[0; 2], [0, 128 << 10]] {
            let profile = LinkProfile {
                backlog,
                rate: 1_000_000,
                queue: 64 << 10,
                ..LinkProfile::lan()
            };
            let stop = |profile: &mut LinkProfile, at| profile.stopped = [Some(at), None];
            let (suspect, dead) = noticed(&profile, stop, busy)[1];
            assert!(
                suspect < limit && dead < limit,
                "{busy} {backlog:?} {suspect} {dead}"
            );
        }
    }
}

#[test]
fn a_link_at_rest_is_probed_every_interval_and_never_suspect() {
    let mut link = SimulatedLink::new(LinkProfile::lan(), 1, DEFAULTS);
    let verdicts = link.run(secs(60.0));
    assert!(
        verdicts.iter().all(|verdicts| verdicts.len() == 1),
        "{verdicts:?}"
    );
    // 24 probes and 24 answers of 52 bytes each way.
    assert!(link.received(0) < 24 * 2 * 52 + 200, "{}", link.received(0));
}

/// A clock that has sent a probe at the returned time.
fn with_probe() -> (LivenessClock, Instant) {
    let start = Instant::now();
    let mut clock = LivenessClock::new(DEFAULTS, start, LinkSample::default());
    clock.on_probe_sent(start, LinkSample::default());
    clock.on_probe_answered(start + secs(0.01));
    let at = start + secs(2.5);
    clock.on_probe_sent(at, LinkSample::default());
    (clock, at)
}

#[test]
fn time_in_which_this_process_did_not_run_does_not_count() {
    let (mut clock, at) = with_probe();
    let load = LinkLoad::Rest;
    for tenth in 1..=20 {
        clock.on_tick(at + secs(f64::from(tenth) / 10.0));
    }
    let resumed = at + secs(60.0);
    clock.on_tick(resumed);
    assert_eq!(
        clock.verdict(resumed, load),
        LivenessVerdict::Delayed(secs(62.49))
    );
    let later = resumed + secs(3.1);
    assert!(clock.verdict(later, load).is_suspect());
}

#[test]
fn a_probe_that_the_kernel_repeats_is_not_given_up_early() {
    let (mut clock, at) = with_probe();
    let load = LinkLoad::Busy(at);
    for (tries, dead) in [(0, false), (2, false), (3, true)] {
        let sent = SendSample {
            acknowledged: 0,
            retransmissions: Some(tries),
        };
        clock.on_acknowledged(at + secs(4.0), sent);
        assert_eq!(
            is_dead(clock.verdict(at + secs(4.0), load)),
            dead,
            "{tries}"
        );
    }
    // The far window is closed: nothing is repeated.
    clock.on_acknowledged(at + secs(4.0), SendSample::default());
    assert!(is_dead(clock.verdict(at + secs(4.0), load)));
}

/// The task that probes hangs: no probe is sent, and the proof ages all the same.
#[test]
fn a_proof_that_no_probe_renews_ends() {
    let start = Instant::now();
    let clock = LivenessClock::new(DEFAULTS, start, LinkSample::default());
    let verdict = |seconds| clock.verdict(start + secs(seconds), LinkLoad::Rest);
    assert_eq!(verdict(8.0), LivenessVerdict::Alive);
    assert!(verdict(16.0).is_suspect());
}

#[test]
fn something_unanswered_is_probed_after_a_second() {
    let start = Instant::now();
    let mut clock = LivenessClock::new(DEFAULTS, start, LinkSample::default());
    clock.on_probe_sent(start, LinkSample::default());
    let answered = start + secs(0.01);
    clock.on_probe_answered(answered);
    assert_eq!(clock.next_probe(LinkLoad::Rest), Some(start + secs(2.5)));
    let sent = answered + secs(0.5);
    assert_eq!(
        clock.next_probe(LinkLoad::Busy(sent)),
        Some(sent + secs(1.0))
    );
    // Four round trips, if that is longer.
    for at in [sent, sent + secs(0.4)] {
        clock.on_probe_sent(at, LinkSample::default());
        clock.on_probe_answered(at + secs(0.4));
    }
    let due = clock.next_probe(LinkLoad::Busy(sent)).unwrap();
    assert_eq!(due, sent + secs(0.8) + secs(1.6));
}
