//! The state folder, as status tells it.

use super::LayerState;
use std::path::Path;

/// Where pauses and refreshed tokens are saved.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct StateFolderReport {
    /// `proven` while a pause and refreshed tokens can be saved, `degraded` while they cannot; `unknown` before the first
    /// look.
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// Its path.
    pub folder: String,
}

impl StateFolderReport {
    /// `found`: what the last look at `folder` found, if there was one.
    pub fn of(folder: &Path, found: Option<Result<(), &str>>) -> Self {
        let folder = folder.display();
        let (state, fault) = match found {
            None => (LayerState::Unknown, None),
            Some(Ok(())) => (LayerState::Proven, None),
            Some(Err(fault)) => (LayerState::Degraded, Some(fault)),
        };
        Self {
            state,
            cause: fault.map(|fault| format!("nothing can be saved in {folder}: {fault}")),
            remedy: fault.map(|_| REMEDY.to_owned()),
            folder: folder.to_string(),
        }
    }
}

const REMEDY: &str = "make room on its disk, or let the agent's user write there; until then a restart forgets a new pause and \
                      refreshed tokens";
