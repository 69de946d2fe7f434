//! A small network for measurements: hosts that are network namespaces, joined by links that can be slow, lossy or cut.
//! Needs root, `ip`, `nft` and `/dev/net/tun`.

mod link;
mod namespace;

pub use link::{CutDirection, LabLink, LinkQuality, is_available};
pub use namespace::{LabHost, remove_stale};
