//! The state folder in the status document.

use super::LayerState;
use std::path::Path;

/// The folder where pauses and refreshed tokens are saved.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct StateFolderReport {
    /// `proven` while pauses and refreshed tokens can be saved, `degraded` while they cannot; `unknown` before the first
    /// probe.
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// Path of the folder.
    pub folder: String,
}

impl StateFolderReport {
    /// `found`: the result of the last probe of `folder`, if there was one.
    pub fn of(folder: &Path, found: Option<Result<(), &str>>) -> Self {
        let folder = folder.display();
        let (state, fault) = match found {
            None => (LayerState::Unknown, None),
            Some(Ok(())) => (LayerState::Proven, None),
            Some(Err(fault)) => (LayerState::Degraded, Some(fault)),
        };
        Self {
            state,
            cause: fault.map(|fault| format!("cannot write to {folder}: {fault}")),
            remedy: fault.map(|_| REMEDY.to_owned()),
            folder: folder.to_string(),
        }
    }
}

const REMEDY: &str = "free space on its disk, or make it writable for the agent's user; until then a restart loses new \
                      pauses and refreshed tokens";
