use super::liveness::{LinkSample, Liveness, LivenessLimits, LivenessVerdict};
use std::time::{Duration, Instant};

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A link and its clock: what a monitor does, in steps of 100 ms.
struct Link {
    start: Instant,
    now: f64,
    liveness: Liveness,
    sample: LinkSample,
    acknowledged: u64,
    in_flight: bool,
}

impl Link {
    fn new(in_flight: bool) -> Self {
        let start = Instant::now();
        let bounds = LivenessLimits {
            interval: secs(5.0),
            timeout: secs(4.0),
            cut_after: secs(20.0),
        };
        let sample = LinkSample::default();
        Self {
            start,
            now: 0.0,
            liveness: Liveness::new(bounds, start, sample),
            sample,
            acknowledged: 0,
            in_flight,
        }
    }

    fn at(&self) -> Instant {
        self.start + secs(self.now)
    }

    /// Lets time pass; `each` changes what the link shows, every 100 ms.
    fn pass(
        &mut self,
        seconds: f64,
        mut each: impl FnMut(&mut Self),
    ) -> Vec<(f64, LivenessVerdict)> {
        let mut verdicts = Vec::new();
        let until = self.now + seconds;
        while self.now < until {
            self.now += 0.1;
            each(self);
            let now = self.at();
            self.liveness.on_sample(now, self.sample);
            if self.liveness.probe_sent_at().is_some() {
                self.liveness.on_acknowledged(now, self.acknowledged);
            }
            if self
                .liveness
                .next_probe(self.in_flight)
                .is_some_and(|due| due <= now)
            {
                self.liveness.on_probe_sent(now, self.sample);
                self.sample.written += 64;
            }
            verdicts.push((self.now, self.liveness.verdict(now)));
        }
        verdicts
    }
}

fn first_silence(verdicts: &[(f64, LivenessVerdict)]) -> Option<f64> {
    let silent = |verdict: &LivenessVerdict| *verdict != LivenessVerdict::Alive;
    verdicts.iter().find(|(_, v)| silent(v)).map(|(at, _)| *at)
}

fn death(verdicts: &[(f64, LivenessVerdict)]) -> Option<f64> {
    let dead = |verdict: &LivenessVerdict| matches!(verdict, LivenessVerdict::Dead { .. });
    verdicts.iter().find(|(_, v)| dead(v)).map(|(at, _)| *at)
}

#[test]
fn a_gateway_that_says_nothing_is_noticed_in_ten_seconds_at_rest_and_five_in_flight() {
    for (in_flight, noticed) in [(false, 10.0), (true, 5.0)] {
        // Its kernel takes everything, or nothing comes through at all.
        for delivered in [true, false] {
            let verdicts = Link::new(in_flight).pass(40.0, |link| {
                if delivered {
                    link.acknowledged = link.sample.written;
                }
            });
            let slow = |(_, v): &(f64, LivenessVerdict)| {
                matches!(v, LivenessVerdict::Silent { moving: true, .. })
            };
            assert!(!verdicts.iter().any(slow), "told as a slow link");
            let silent = first_silence(&verdicts).unwrap_or(f64::MAX);
            assert!(silent < noticed, "{silent} {in_flight} {delivered}");
            assert!(silent > 4.0, "{silent}");
            let dead = death(&verdicts).unwrap_or(f64::MAX);
            assert!(dead > silent + 10.0 && dead < 30.0, "{dead}");
        }
    }
}

#[test]
fn a_gateway_that_answers_is_alive() {
    let mut link = Link::new(true);
    let verdicts = link.pass(60.0, |link| {
        if link.liveness.probe_sent_at().is_some() {
            link.sample.received += 64;
        }
    });
    assert_eq!(first_silence(&verdicts), None);
}

/// 64 kbit/s, 256 KiB in front of each question. The gateway opens the window about every 96 KiB, as OpenSSH does, or so
/// seldom that its answers alone are heard, each half a minute after the question.
#[test]
fn a_slow_link_under_a_full_upload_is_slow_and_not_dead() {
    for window in [98_304, u64::MAX] {
        let mut link = Link::new(true);
        link.sample.written = 256 << 10;
        let mut question = None;
        let verdicts = link.pass(600.0, |link| {
            let before = link.acknowledged;
            link.acknowledged += 800;
            link.sample.written += 800;
            let opened = before / window != link.acknowledged / window;
            let asked = link.liveness.probe_sent_at();
            if asked != question.map(|(at, _)| at) {
                question = asked.map(|at| (at, link.sample.written));
            }
            let answered = question.is_some_and(|(_, end)| link.acknowledged >= end);
            if opened || answered {
                link.sample.received += 40;
            }
        });
        assert_eq!(death(&verdicts), None, "{window}");
        let dead = |(_, verdict): &(f64, LivenessVerdict)| {
            matches!(verdict, LivenessVerdict::Silent { moving: false, .. })
        };
        let dead = verdicts.iter().find(|at| dead(at));
        assert_eq!(dead, None, "not told from a dead one ({window})");
        let slow = |(_, verdict): &(f64, LivenessVerdict)| {
            matches!(verdict, LivenessVerdict::Silent { moving: true, .. })
        };
        // Where the window opens every 12 s, it is heard of often enough to say so only now and then.
        assert!(verdicts.iter().any(slow), "never told as slow ({window})");
    }
}

/// Bytes in the far kernel prove nothing of the process that should read them.
#[test]
fn a_stopped_gateway_whose_kernel_goes_on_taking_is_noticed() {
    let mut link = Link::new(true);
    let verdicts = link.pass(40.0, |link| {
        link.sample.written += 10_000;
        link.acknowledged = link.sample.written;
    });
    assert!(first_silence(&verdicts).is_some_and(|at| at < 5.0));
    assert!(death(&verdicts).is_some());
}

#[test]
fn losses_of_two_seconds_on_a_slow_way_cut_nothing() {
    let mut link = Link::new(true);
    let verdicts = link.pass(300.0, |link| {
        // Nothing comes through for 2 s of every 10, and what was lost is sent again a second later.
        let lost = link.now % 10.0 < 3.0;
        let asked = link.liveness.probe_sent_at();
        let waited = asked.map_or(0.0, |asked| (link.at() - asked).as_secs_f64());
        if !lost && waited > 0.6 {
            link.acknowledged = link.sample.written;
            link.sample.received += 64;
        }
    });
    assert_eq!(first_silence(&verdicts), None);
}

/// The task that asks hangs: no question is put, and the proof ages all the same.
#[test]
fn a_proof_older_than_an_interval_and_a_deadline_is_none() {
    let link = Link::new(false);
    let verdict = |seconds| link.liveness.verdict(link.start + secs(seconds));
    assert_eq!(verdict(8.9), LivenessVerdict::Alive);
    assert!(matches!(verdict(9.1), LivenessVerdict::Silent { .. }));
}
