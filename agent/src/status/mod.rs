//! What is proven right now. Rooms on the data path write a [`StatusLayer`], and status only reads it, so that a status
//! query never delays a request.

mod connection;
mod credential;
mod descriptors;
mod headline;
mod layer;
mod layer_report;
mod layer_reporter;
mod render;
mod report;
mod spool;
mod state_folder;

pub use connection::{ConnectionPhase, ConnectionView, ForwardState, ForwardView, PlaceState};
pub use credential::CredentialReport;
pub use descriptors::DescriptorReport;
pub use headline::headline;
pub use layer::{LayerSnapshot, ProofState, StatusLayer};
pub use layer_report::{LayerReport, LayerState};
pub use layer_reporter::LayerReporter;
pub use render::{ColorMode, render, render_rates, render_within};
pub(crate) use render::{NOT_STRICT, NOT_STRICT_REMEDY};
pub use report::{
    AgentReport, AuditReport, ConfigurationReport, ForwardReport, LayerSummary, OverallState,
    ProtectionReport, REPORT_VERSION, RefusedConfiguration, StatusReport, UpgradeReport,
    UpgradeState, schema,
};
pub use spool::SpoolReport;
pub use state_folder::StateFolderReport;
