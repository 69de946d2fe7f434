//! What is proven right now. Rooms on the data path write a [`StatusLayer`], and status only reads it, so that a status
//! query never delays a request.
//!
//! | module | what it holds |
//! |---|---|
//! | `layer`, `layer_reporter` | what is known of a layer, and who writes it |
//! | `report` | the whole report |
//! | `layer_report` | a layer in the report |
//! | `overall` | the report in one word, and its four layers |
//! | `connection`, `forward`, `outlet`, `queue`, `credential`, `audit`, `spool`, `state_folder`, `descriptors`, `upgrade` | its sections |
//! | `queue_growth` | when a queue of events will be full |
//! | `headline` | the line that systemd shows |
//! | `render`, `layout` | the report as text, and what other tables share with it |

mod audit;
mod connection;
mod credential;
mod descriptors;
mod forward;
mod headline;
mod layer;
mod layer_report;
mod layer_reporter;
mod layout;
mod outlet;
mod overall;
mod queue;
mod queue_growth;
mod render;
mod report;
mod spool;
mod state_folder;
#[cfg(test)]
mod tests;
mod upgrade;

pub use audit::AuditReport;
pub use connection::{ConnectionPhase, ConnectionView, ForwardState, ForwardView, PlaceState};
pub use credential::CredentialReport;
pub use descriptors::DescriptorReport;
pub use forward::{ForwardReport, ProtectionReport};
pub use headline::headline;
pub use layer::{LayerSnapshot, ProofState, StatusLayer};
pub use layer_report::{LayerReport, LayerState};
pub use layer_reporter::LayerReporter;
pub(crate) use layout::{bytes, count, duration, wrapped};
pub use outlet::OutletReport;
pub use overall::{LayerSummary, OverallState};
pub use queue::{NEARLY_FULL, QueueObservation, QueueReport, queue_forecast};
pub use queue_growth::QueueGrowth;
pub use render::{ColorMode, render, render_rates, render_within};
pub(crate) use render::{NOT_STRICT, NOT_STRICT_REMEDY};
pub(crate) use report::printable_document;
pub use report::{
    AgentReport, ConfigurationReport, REPORT_VERSION, RefusedConfiguration, StatusReport, schema,
};
pub use spool::SpoolReport;
pub use state_folder::StateFolderReport;
pub use upgrade::{UpgradeReport, UpgradeState};
