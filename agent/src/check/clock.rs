//! This host's clock against Jira's.

use super::step::StepResult;
use std::time::{Duration, SystemTime};

/// Who signs requests by the clock, if anybody (OAuth 1.0a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigningParty {
    /// The agent signs requests itself.
    Agent,
    /// Perhaps the vendor, whose own clock counts.
    Vendor,
    /// No request is signed with a timestamp.
    None,
}

/// `jira` is what its clock showed; it was asked at `asked` and answered `took` later. `resolution` is how
/// exactly Jira told.
pub(super) fn compare_clocks(
    jira: SystemTime,
    asked: SystemTime,
    took: Duration,
    resolution: Duration,
    signer: SigningParty,
) -> StepResult {
    // The answer was made somewhere between, and a time told in seconds was cut.
    let ours = asked + took / 2;
    let (off, side) = match jira.duration_since(ours + resolution / 2) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => {
            let exact = behind.duration().saturating_sub(resolution);
            (exact, "behind")
        }
    };
    let told = humantime::format_duration(Duration::from_secs(off.as_secs()));
    let cause = format!("Jira's clock is {told} {side} this host's");
    let remedy = "let timedatectl on both hosts show which one is off, and set it by NTP";
    match (signer, off) {
        (_, off) if off <= took / 2 + TOLERANCE => {
            StepResult::ok("as Jira's, within a few seconds")
        }
        (SigningParty::Agent, off) if off > JIRA_ACCEPTS => StepResult::fail(
            format!(
                "{cause}: Jira answers every signed request timestamp_refused, for it takes 5 minutes either way"
            ),
            remedy,
        ),
        (SigningParty::Vendor, off) if off > JIRA_ACCEPTS => StepResult::warn(
            format!(
                "{cause}: if it is Jira's that is off, a vendor that signs by OAuth 1.0a gets timestamp_refused, for Jira takes 5 minutes either way"
            ),
            remedy,
        ),
        (SigningParty::Agent | SigningParty::Vendor, _) => StepResult::warn(
            format!("{cause}: at 5 minutes signed requests (OAuth 1.0a) get timestamp_refused"),
            remedy,
        ),
        (SigningParty::None, off) if off > JIRA_ACCEPTS => StepResult::warn(
            format!(
                "{cause}: logs cannot be compared, and a token may end sooner or later than told"
            ),
            remedy,
        ),
        (SigningParty::None, _) => StepResult::ok(cause),
    }
}

/// Either way.
const JIRA_ACCEPTS: Duration = Duration::from_secs(300);
/// What the way and two schedulers may cost.
const TOLERANCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::step::StepRecorder;
    use super::*;
    use crate::check::{CheckStep, StepVerdict};

    fn judged(offset: i64, signer: SigningParty) -> CheckStep {
        let asked = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let shift = Duration::from_secs(offset.unsigned_abs());
        let jira = if offset < 0 {
            asked - shift
        } else {
            asked + shift
        };
        let took = Duration::from_millis(40);
        let mut steps = StepRecorder::new(None);
        steps.add(
            "clock",
            compare_clocks(jira, asked, took, Duration::ZERO, signer),
        );
        steps.into_vec().remove(0)
    }

    #[test]
    fn past_five_minutes_a_signer_is_refused_and_is_told_by_how_much_and_which_side() {
        for (offset, part) in [
            (-420, "6m 59s behind"),
            (420, "6m 59s ahead of"),
            (-420, "7m behind"),
        ] {
            let step = judged(offset, SigningParty::Agent);
            assert_eq!(step.verdict, StepVerdict::Fail);
            let cause = step.cause.unwrap_or_default();
            assert!(cause.contains("timestamp_refused"), "{cause}");
            let near = part.replace("6m 59s", "7m");
            assert!(cause.contains(part) || cause.contains(&near), "{cause}");
        }
        assert_eq!(
            judged(-420, SigningParty::Vendor).verdict,
            StepVerdict::Warn
        );
        assert_eq!(judged(-420, SigningParty::None).verdict, StepVerdict::Warn);
    }

    #[test]
    fn a_few_seconds_are_the_way_and_not_the_clock() {
        for signer in [
            SigningParty::Agent,
            SigningParty::Vendor,
            SigningParty::None,
        ] {
            assert_eq!(judged(-9, signer).verdict, StepVerdict::Ok);
        }
        assert_eq!(judged(60, SigningParty::Agent).verdict, StepVerdict::Warn);
        assert_eq!(judged(60, SigningParty::None).verdict, StepVerdict::Ok);
    }
}
