//! The measured round trip of a link. It rises with the second slow answer and falls slowly, because a link that has lost
//! packets loses more.

use std::time::Duration;

/// A peak of the recent round trips and pauses, which decays with each answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTripEstimate {
    /// `None` until the first answer.
    answered: Option<Duration>,
    /// Of the last answer alone.
    last: Option<Duration>,
    pause: Duration,
}

impl RoundTripEstimate {
    /// The estimate; until the first answer, that of a satellite link.
    pub(super) fn get(self) -> Duration {
        let answered = self.answered.unwrap_or(UNKNOWN);
        answered
            .max(self.pause / PAUSES_PER_ROUND_TRIP)
            .min(LONGEST)
    }

    /// A probe was answered after this time.
    pub(super) fn on_answer(&mut self, round_trip: Duration) {
        // One slow answer is an outage or a process that paused; a slow link has two.
        let last = self.last.replace(round_trip).unwrap_or(UNKNOWN);
        let round_trip = round_trip.min(last);
        let before = self.answered.unwrap_or(round_trip);
        let decayed = before - before.saturating_sub(round_trip) / DECAY;
        self.answered = Some(decayed.max(round_trip));
        self.pause -= self.pause / DECAY;
    }

    /// The next sign of life came after this time: packets were lost, or other data came first.
    pub(super) fn on_pause(&mut self, pause: Duration) {
        self.pause = self.pause.max(pause);
    }
}

/// The round trip of a satellite link.
const UNKNOWN: Duration = Duration::from_millis(600);
/// Longer ones are not believed: a session must end some time.
const LONGEST: Duration = Duration::from_secs(15);
/// Each answer takes this part off the difference to the peak.
const DECAY: u32 = 8;
/// A pause counts as a quarter of a round trip: it is a whole chain of repeated packets.
const PAUSES_PER_ROUND_TRIP: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn it_rises_with_two_answers_and_falls_slowly() {
        let mut estimate = RoundTripEstimate::default();
        assert_eq!(estimate.get(), UNKNOWN);
        estimate.on_answer(ms(10));
        assert_eq!(estimate.get(), ms(10));
        estimate.on_answer(ms(3000));
        assert_eq!(estimate.get(), ms(10), "one alone");
        estimate.on_answer(ms(810));
        assert_eq!(estimate.get(), ms(810));
        estimate.on_answer(ms(10));
        assert_eq!(estimate.get(), ms(710));
        for _ in 0..30 {
            estimate.on_answer(ms(10));
        }
        assert!(estimate.get() < ms(30));
    }

    #[test]
    fn a_pause_counts_as_a_quarter() {
        let mut estimate = RoundTripEstimate::default();
        estimate.on_pause(ms(4000));
        assert_eq!(estimate.get(), ms(1000), "also before the first answer");
        estimate.on_answer(ms(10));
        assert_eq!(estimate.get(), ms(875));
        estimate.on_pause(Duration::from_secs(3600));
        assert_eq!(estimate.get(), LONGEST);
    }
}
