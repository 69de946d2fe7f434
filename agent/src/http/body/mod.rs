//! Bodies on their way, counted and watched: the vendor's to Jira, Jira's to the vendor.

mod download;
mod upload;
mod vendor;

pub(super) use download::{DownloadBody, ResponseBody};
pub(super) use upload::{BodyCopy, UploadBody, UploadEnd, UploadProgress};
pub(super) use vendor::{ReadAheadError, VendorBody, collect};

use http_body::SizeHint;

/// The hint of a body before which `bytes` more come.
pub(super) fn hint_with_prefix(bytes: u64, rest: &SizeHint) -> SizeHint {
    let mut whole = SizeHint::new();
    whole.set_lower(rest.lower().saturating_add(bytes));
    if let Some(upper) = rest.upper() {
        whole.set_upper(upper.saturating_add(bytes));
    }
    whole
}
