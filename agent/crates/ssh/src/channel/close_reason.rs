//! Why a channel ended. russh alone shows EOF, CLOSE and the end of the session all as an empty read.

use std::{error::Error, io};

/// Why a channel ended before, or instead of, its EOF.
///
/// What the application sees:
///
/// | what happened | a read returns, once the inbox is empty | a write returns |
/// |---|---|---|
/// | the peer sent EOF | `Ok(0)` | as before |
/// | the peer sent EOF, then CLOSE | `Ok(0)` | `BrokenPipe` |
/// | the peer sent CLOSE alone | `ConnectionReset` | `BrokenPipe` |
/// | the SSH session ended | `ConnectionAborted` (after an EOF `Ok(0)`) | `ConnectionAborted` |
/// | the inbox was over its bound | `QuotaExceeded`, at once | `QuotaExceeded` |
/// | the spool file failed, or its disk has no room left | `StorageFull`, at once | `StorageFull` |
/// | no file descriptor was left for the spool file | `StorageFull`, at once | `StorageFull` |
/// | the application shut the stream down | as before | `BrokenPipe` |
///
/// Each [`io::Error`] except the last contains the `CloseReason`; see [`CloseReason::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed the channel.
    #[error("the peer closed the channel")]
    Closed,
    /// The SSH session ended under the channel.
    #[error("the SSH session ended")]
    SessionEnded,
    /// The peer sent more than may be buffered; the channel was reset.
    #[error("more was sent than may be buffered for one channel or all channels; channel reset")]
    Overflow,
    /// The spool file failed or was too slow; the channel was reset.
    #[error("the spool file failed or was too slow; channel reset")]
    SpoolFailed,
    /// The spool's disk is full, or at its floor of free space; the channel was reset.
    #[error("the spool's disk has no room left for what was sent; channel reset")]
    SpoolFull,
    /// The process may open no more files; the channel was reset.
    #[error("no file descriptor is left for the spool file; channel reset")]
    NoDescriptor,
}

impl CloseReason {
    /// Finds the close reason in an error and its sources, for example in a `hyper::Error`.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(end) = error.downcast_ref::<Self>() {
                return Some(*end);
            }
            let inside = error
                .downcast_ref::<io::Error>()
                .and_then(|error| error.get_ref())
                .and_then(|inner| inner.downcast_ref::<Self>());
            if let Some(end) = inside {
                return Some(*end);
            }
            next = error.source();
        }
        None
    }

    /// Whether we reset the channel, rather than the peer or the session ending it.
    pub fn is_reset(self) -> bool {
        match self {
            Self::Closed | Self::SessionEnded => false,
            Self::Overflow | Self::SpoolFailed | Self::SpoolFull | Self::NoDescriptor => true,
        }
    }

    pub(super) fn read_error(self) -> io::Error {
        io::Error::new(self.kind(io::ErrorKind::ConnectionReset), self)
    }

    pub(super) fn write_error(self) -> io::Error {
        io::Error::new(self.kind(io::ErrorKind::BrokenPipe), self)
    }

    fn kind(self, closed: io::ErrorKind) -> io::ErrorKind {
        match self {
            Self::Closed => closed,
            Self::SessionEnded => io::ErrorKind::ConnectionAborted,
            Self::Overflow => io::ErrorKind::QuotaExceeded,
            Self::SpoolFailed | Self::SpoolFull | Self::NoDescriptor => io::ErrorKind::StorageFull,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_end_is_found_below_other_errors() {
        assert_eq!(
            CloseReason::of(&Outer(CloseReason::Overflow.read_error())),
            Some(CloseReason::Overflow)
        );
        assert_eq!(
            CloseReason::of(&Outer(io::ErrorKind::BrokenPipe.into())),
            None
        );
    }

    #[test]
    fn each_end_has_its_own_kind() {
        let kinds = [
            (
                CloseReason::Closed.read_error(),
                io::ErrorKind::ConnectionReset,
            ),
            (CloseReason::Closed.write_error(), io::ErrorKind::BrokenPipe),
            (
                CloseReason::SessionEnded.read_error(),
                io::ErrorKind::ConnectionAborted,
            ),
            (
                CloseReason::Overflow.write_error(),
                io::ErrorKind::QuotaExceeded,
            ),
            (
                CloseReason::SpoolFailed.read_error(),
                io::ErrorKind::StorageFull,
            ),
            (
                CloseReason::SpoolFull.read_error(),
                io::ErrorKind::StorageFull,
            ),
        ];
        for (error, kind) in kinds {
            assert_eq!(error.kind(), kind);
        }
    }
}
