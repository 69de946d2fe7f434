//! How often a gateway has cut sessions, and after how long. A rule on its side that ends sessions shows only in this,
//! because the agent reconnects within a second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The cuts of one gateway within the last hour.
#[derive(Debug, Default)]
pub(super) struct CutHistory(VecDeque<SessionCut>);

#[derive(Clone, Copy, Debug)]
struct SessionCut {
    at: Instant,
    lived: Duration,
}

impl CutHistory {
    /// Notes that the gateway has ended a session of this age. What ends with another session is not one more cut: a gateway
    /// that is restarted ends all of them.
    pub(super) fn note(&mut self, at: Instant, lived: Duration) {
        let last = self.0.back();
        if last.is_some_and(|last| at.saturating_duration_since(last.at) < TOGETHER) {
            return;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(SessionCut { at, lived });
    }

    /// The pattern of the last hour, if there is one.
    pub(super) fn pattern(&self, now: Instant) -> Option<String> {
        let recent = self.0.iter();
        let recent = recent.filter(|cut| now.saturating_duration_since(cut.at) < WINDOW);
        let mut lives: Vec<Duration> = recent.map(|cut| cut.lived).collect();
        lives.sort_unstable();
        let (count, median) = (lives.len(), *lives.get(lives.len() / 2)?);
        let alike = |lived: &&Duration| lived.abs_diff(median) <= SLACK.max(median / 4);
        let regular = lives.iter().filter(alike).count() * 4 >= count * 3;
        let when = match regular {
            true if count >= REGULAR => format!("each after about {} s", seconds(median)),
            _ if count >= IRREGULAR => {
                let (first, last) = (*lives.first()?, *lives.last()?);
                format!("after {} to {} s", seconds(first), seconds(last))
            }
            _ => return None,
        };
        let times = if count == MOST { "at least " } else { "" };
        Some(format!(
            "the gateway has cut this agent's sessions {times}{count} times in the last hour, {when}"
        ))
    }
}

fn seconds(lived: Duration) -> u64 {
    lived.as_secs_f64().round() as u64
}

/// What an administrator does about it.
pub(super) const REMEDY: &str = "the agent is back within a second each time; ask the vendor what ends sessions: UnusedConnectionTimeout in sshd_config \
     (a session without an open connection counts as unused, even while the gateway listens for it), ClientAliveInterval, or the \
     idle or lifetime limit of a load balancer; and the network team for such limits of the firewall";

const WINDOW: Duration = Duration::from_secs(3600);
/// Sessions that end within this time have one cause.
const TOGETHER: Duration = Duration::from_secs(1);
/// Number of cuts that are kept.
const MOST: usize = 100;
/// This many cuts are a pattern if most of them are after the same time.
const REGULAR: usize = 3;
/// This many cuts are a pattern after any times: more than restarts in an hour.
const IRREGULAR: usize = 6;
/// Tolerance of the same time: a timer of whole seconds, and the time of a login.
const SLACK: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(lives: &[u64]) -> (CutHistory, Instant) {
        let (mut history, mut now) = (CutHistory::default(), Instant::now());
        for lived in lives {
            now += Duration::from_secs(*lived);
            history.note(now, Duration::from_secs(*lived));
        }
        (history, now)
    }

    #[test]
    fn sessions_that_end_after_the_same_time_are_a_pattern() {
        let (history, now) = after(&[10, 11, 10, 10]);
        let text = history.pattern(now).unwrap();
        assert!(
            text.ends_with("4 times in the last hour, each after about 10 s"),
            "{text}"
        );
        assert_eq!(
            history.pattern(now + WINDOW),
            None,
            "an hour later it is none"
        );
    }

    #[test]
    fn a_few_losses_at_different_times_are_none_and_many_are() {
        let (history, now) = after(&[10, 600, 30]);
        assert_eq!(history.pattern(now), None);
        let (history, now) = after(&[10, 300, 30, 90, 200, 70]);
        let text = history.pattern(now).unwrap();
        assert!(
            text.ends_with("6 times in the last hour, after 10 to 300 s"),
            "{text}"
        );
    }

    #[test]
    fn two_restarts_of_a_gateway_with_several_sessions_are_no_pattern() {
        let (mut history, mut now) = (CutHistory::default(), Instant::now());
        for _ in 0..2 {
            now += Duration::from_secs(4);
            for late in 0..3 {
                history.note(now + Duration::from_millis(late), Duration::from_secs(4));
            }
        }
        assert_eq!(history.pattern(now), None);
    }

    #[test]
    fn a_flood_of_cuts_is_bounded() {
        let (history, now) = after(&[1; 1000]);
        assert_eq!(history.0.len(), MOST);
        assert!(history.pattern(now).unwrap().contains("at least 100 times"));
    }
}
