//! That no descriptor is left: as an error, how it is recognized, and what to do about it.

use rustix::io::Errno;
use std::{error::Error, io};

/// Only the reserve is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many files are open: of the {limit} file descriptors that this process may have, requests use all but a reserve of {reserve}"
)]
pub struct DescriptorShortage {
    /// The soft limit of open files (`RLIMIT_NOFILE`).
    pub limit: u64,
    /// Descriptors that requests leave.
    pub reserve: u64,
}

/// Whether an error, or a source of it, is a [`DescriptorShortage`] or the system's own (`EMFILE`, `ENFILE`).
pub fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        let inner = io.and_then(io::Error::get_ref);
        let system = io.and_then(Errno::from_io_error);
        if error.is::<DescriptorShortage>()
            || inner.is_some_and(|inner| inner.is::<DescriptorShortage>())
            || matches!(system, Some(Errno::MFILE | Errno::NFILE))
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// The text of an error; with the remedy, if it is a shortage of descriptors.
pub fn describe(error: &io::Error) -> String {
    match is_shortage(error) {
        true => format!("{error}: {REMEDY}"),
        false => error.to_string(),
    }
}

/// What to do about a shortage.
pub const REMEDY: &str =
    "raise the limit of open files (LimitNOFILE= of the unit, or that of the container)";
