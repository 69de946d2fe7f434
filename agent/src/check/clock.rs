//! Compares this host's clock with Jira's.

use super::step::StepResult;
use std::time::{Duration, SystemTime};

/// Who signs requests with a timestamp (OAuth 1.0a), if anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigningParty {
    /// The agent signs requests itself.
    Agent,
    /// The vendor may sign, by its own clock.
    Vendor,
    /// No request is signed with a timestamp.
    None,
}

/// `jira` is the time in Jira's answer, which came `took` after the request at `asked`; `resolution` is its precision.
pub(super) fn compare_clocks(
    jira: SystemTime,
    asked: SystemTime,
    took: Duration,
    resolution: Duration,
    signer: SigningParty,
) -> StepResult {
    // Jira answered somewhere in between, and a time in seconds was truncated.
    let ours = asked + took / 2;
    let (offset, side) = match jira.duration_since(ours + resolution / 2) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => {
            let exact = behind.duration().saturating_sub(resolution);
            (exact, "behind")
        }
    };
    let difference = humantime::format_duration(Duration::from_secs(offset.as_secs()));
    let cause = format!("Jira's clock is {difference} {side} this host's");
    let remedy =
        "run timedatectl on both hosts to see which clock is wrong, and synchronize it with NTP";
    match (signer, offset) {
        (_, offset) if offset <= took / 2 + TOLERANCE => {
            StepResult::ok("matches Jira's within a few seconds")
        }
        (SigningParty::Agent, offset) if offset > JIRA_ACCEPTS => StepResult::fail(
            format!(
                "{cause}; Jira allows 5 minutes and rejects every signed request with timestamp_refused"
            ),
            remedy,
        ),
        (SigningParty::Vendor, offset) if offset > JIRA_ACCEPTS => StepResult::warn(
            format!(
                "{cause}; if Jira's is wrong, a vendor that signs with OAuth 1.0a gets timestamp_refused (Jira allows 5 minutes)"
            ),
            remedy,
        ),
        (SigningParty::Agent | SigningParty::Vendor, _) => StepResult::warn(
            format!(
                "{cause}; beyond 5 minutes, Jira rejects signed requests (OAuth 1.0a) with timestamp_refused"
            ),
            remedy,
        ),
        (SigningParty::None, offset) if offset > JIRA_ACCEPTS => StepResult::warn(
            format!(
                "{cause}; times in logs differ, and a token may expire earlier or later than shown"
            ),
            remedy,
        ),
        (SigningParty::None, _) => StepResult::ok(cause),
    }
}

/// Clock difference that Jira accepts, in either direction.
const JIRA_ACCEPTS: Duration = Duration::from_secs(300);
/// For network and scheduling delays.
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
