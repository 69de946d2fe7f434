//! What is proven right now. Rooms on the path write a [`Layer`]; only status reads it, so a look at the
//! status can never hold up a request.

mod connection;
mod credential;
mod headline;
mod layer;
mod layer_report;
mod render;
mod report;
mod spool;
mod state_folder;
mod witness;

pub use connection::{ConnectionView, ForwardState, ForwardView, Phase};
pub use credential::CredentialReport;
pub use headline::headline;
pub use layer::{Layer, Snapshot, State};
pub use layer_report::{LayerReport, LayerState};
pub use render::{Colour, render, render_rates, render_within};
pub(crate) use render::{NOT_STRICT, NOT_STRICT_REMEDY};
pub use report::{
    AgentReport, AuditReport, ConfigurationReport, ForwardReport, Layers, Overall, REPORT_VERSION,
    RefusedConfiguration, Report, schema,
};
pub use spool::SpoolReport;
pub use state_folder::StateFolderReport;
pub use witness::Witness;
