//! The whole report in one word, and its four layers: how connections, forwards and the rest are summed up.

use super::{
    AuditReport, ConnectionView, DescriptorReport, ForwardReport, LayerReport, LayerState,
    OutletReport, SpoolReport, StateFolderReport,
};

/// All layers in one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Overall")]
pub enum OverallState {
    /// Every layer that this configuration has is proven. Exit code 0.
    Proven,
    /// Requests may pass, but not everything is proven, or a forward is paused. Exit code 1.
    Degraded,
    /// No request can pass. Exit code 2.
    Down,
}

/// The four layers, each summed up over connections and forwards.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Layers")]
pub struct LayerSummary {
    /// A gateway answers: the best of the connections.
    pub network: LayerReport,
    /// A session answered a probe and holds a forward: the worst forward.
    pub tunnel: LayerReport,
    /// Jira answered: the worst forward.
    pub jira: LayerReport,
    /// Jira accepts the agent's credential: the worst forward.
    pub login: LayerReport,
}

impl LayerSummary {
    /// Sums up connections and forwards.
    pub fn of(connections: &[ConnectionView], forwards: &[ForwardReport]) -> Self {
        Self {
            network: LayerReport::best(connections.iter().map(|c| &c.network)),
            tunnel: LayerReport::worst(forwards.iter().map(|f| &f.tunnel)),
            jira: LayerReport::worst(forwards.iter().map(|f| &f.jira)),
            login: LayerReport::worst(forwards.iter().map(|f| &f.login)),
        }
    }
}

impl OverallState {
    /// Down if no forward works; proven if every layer of every connection and forward is and nothing is paused; degraded
    /// in between. A standby connection is proven: with OpenSSH, only one can hold a port.
    pub fn of(connections: &[ConnectionView], forwards: &[ForwardReport]) -> Self {
        let of_forward = |f: &ForwardReport| [f.tunnel.state, f.jira.state, f.login.state];
        let of_connection = |c: &ConnectionView| [c.network.state, c.tunnel.state];
        let dead = |f: &ForwardReport| of_forward(f).contains(&LayerState::Failed);
        let fine = |state| matches!(state, LayerState::Proven | LayerState::NotApplicable);
        if forwards.iter().all(dead) {
            Self::Down
        } else if forwards.iter().all(|f| f.paused.is_none())
            && forwards.iter().flat_map(of_forward).all(fine)
            && connections.iter().flat_map(of_connection).all(fine)
        {
            Self::Proven
        } else {
            Self::Degraded
        }
    }

    /// Requests without a record degrade it; if requests are refused without one, it is down.
    pub fn with_audit(self, audit: &AuditReport) -> Self {
        match (self, audit.state) {
            (_, LayerState::Failed) => Self::Down,
            (Self::Proven, LayerState::Degraded | LayerState::Unknown) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// A full spool degrades it: long requests fail.
    pub fn with_spool(self, spool: &SpoolReport) -> Self {
        match (self, spool.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// An unwritable state folder degrades it: a restart loses what could not be saved.
    pub fn with_state_folder(self, state_folder: &StateFolderReport) -> Self {
        match (self, state_folder.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// A shortage of file descriptors degrades it: requests are refused.
    pub fn with_descriptors(self, descriptors: &DescriptorReport) -> Self {
        match (self, descriptors.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// An outlet that is paused, cannot listen, whose last request did not reach the vendor, or whose queue needs attention
    /// degrades it.
    pub fn with_outlets(self, outlets: &[OutletReport]) -> Self {
        let broken = |state| matches!(state, LayerState::Failed | LayerState::Degraded);
        let is_broken = outlets.iter().any(|outlet| {
            let queue = outlet.queue.as_ref().map(|queue| queue.state);
            broken(outlet.listener.state)
                || broken(outlet.vendor.state)
                || queue.is_some_and(broken)
                || outlet.paused.is_some()
        });
        match (self, is_broken) {
            (Self::Proven, true) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// The exit code of `agent status`: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Degraded => 1,
            Self::Down => 2,
        }
    }
}
