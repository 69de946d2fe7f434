//! The spool of the channels in the status document.

use super::LayerState;
use crate::tunnel::channel::SpoolResets;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The folder where channels buffer what is not read in time.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct SpoolReport {
    /// `proven` while its disk has space, `degraded` while it has not and for an hour after a channel was reset because
    /// its spool was full or failed; `unknown` before the first probe.
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// Path of the folder.
    pub folder: String,
    /// Channels that were reset since the start because their spool was full or failed.
    pub resets: u64,
    /// Seconds since the last such reset; absent if there was none.
    pub reset_seconds_ago: Option<f64>,
}

impl SpoolReport {
    /// `room`: the result of the last probe of `folder`, if there was one.
    pub fn of(
        folder: &Path,
        room: Option<Result<(), &str>>,
        resets: &SpoolResets,
        now: Instant,
    ) -> Self {
        let ago = resets
            .last
            .map(|(at, end)| (now.saturating_duration_since(at), end));
        let lost = match resets.count {
            0 => String::new(),
            1 => String::from("; 1 channel was reset since the start"),
            many => format!("; {many} channels were reset since the start"),
        };
        let folder = folder.display();
        let (state, cause, remedy) = match (room, ago) {
            (Some(Err(fault)), _) => (
                LayerState::Degraded,
                Some(format!("cannot write to {folder}: {fault}{lost}")),
                Some(NO_ROOM),
            ),
            (_, Some((ago, end))) if ago < RECENT_RESET => (
                LayerState::Degraded,
                Some(format!("{end}, {} s ago{lost}", ago.as_secs())),
                Some(RESET),
            ),
            (Some(Ok(())), _) => (LayerState::Proven, None, None),
            (None, _) => (LayerState::Unknown, None, None),
        };
        Self {
            state,
            cause,
            remedy: remedy.map(str::to_owned),
            folder: folder.to_string(),
            resets: resets.count,
            reset_seconds_ago: ago.map(|(ago, _)| (ago.as_secs_f64() * 10.0).round() / 10.0),
        }
    }
}

/// How long a reset degrades the status.
const RECENT_RESET: Duration = Duration::from_secs(3600);
const NO_ROOM: &str = "free space on its disk, or set tunnel.channel.spool_dir to another folder; until then requests and \
                       answers that exceed the memory of their channel fail";
const RESET: &str = "check the log at that time; this notice ends an hour after the last reset";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tunnel::channel::CloseReason;

    #[test]
    fn no_room_shows_while_it_lasts_and_a_reset_for_an_hour() {
        let report = |room, ago: Option<u64>| {
            let now = Instant::now() + Duration::from_secs(10_000);
            let resets = SpoolResets {
                count: ago.iter().count() as u64,
                last: ago.map(|ago| (now - Duration::from_secs(ago), CloseReason::SpoolFull)),
            };
            let report = SpoolReport::of(Path::new("/spool"), room, &resets, now);
            let is_told = report.cause.is_some() && report.remedy.is_some();
            assert_eq!(is_told, report.state == LayerState::Degraded);
            report
        };
        let fine = Some(Ok(()));
        assert_eq!(report(None, None).state, LayerState::Unknown);
        assert_eq!(report(fine, None).state, LayerState::Proven);
        let full = report(Some(Err("only 1 B are free")), None);
        assert_eq!(full.state, LayerState::Degraded);
        assert!(full.cause.unwrap().contains("/spool: only 1 B are free"));
        let reset = report(fine, Some(3599));
        assert_eq!(reset.state, LayerState::Degraded);
        assert_eq!((reset.resets, reset.reset_seconds_ago), (1, Some(3599.0)));
        assert_eq!(report(fine, Some(3600)).state, LayerState::Proven);
    }

    #[test]
    fn the_last_reset_of_all_sessions_counts() {
        let now = Instant::now();
        let one = |ago| SpoolResets {
            count: 1,
            last: Some((now + Duration::from_secs(ago), CloseReason::SpoolFull)),
        };
        let mut all = SpoolResets::default();
        for ago in [5, 9, 7] {
            all.add(&one(ago));
        }
        all.add(&SpoolResets::default());
        assert_eq!((all.count, all.last), (3, one(9).last));
    }
}
