//! Destinations of audit lines: a file that survives rotation, the journal, or standard error.

mod choice;
mod file;
mod journal;

pub use choice::{ServiceEnvironment, SinkChoice, default_audit_files};

use std::io::{self, Write};

/// Takes whole lines. Called only from the writer's thread; it may block.
pub(super) trait LineSink: Send {
    /// Writes `batch`, lines that each end in a newline, from the byte `from` on: earlier calls have taken the bytes before.
    fn write(&mut self, batch: &[u8], from: usize) -> BatchProgress;

    /// Checks that lines can be written now. Writes nothing.
    fn probe(&mut self) -> io::Result<()>;

    /// The sink as messages name it.
    fn name(&self) -> String;
}

/// How far a batch got.
pub(super) struct BatchProgress {
    /// Bytes of the batch that are taken, including those before `from`.
    pub(super) taken: usize,
    /// Lines that the sink can never take; they count as taken.
    pub(super) lost: u64,
    /// Why writing stopped there; `None` at the end of the batch.
    pub(super) error: Option<io::Error>,
}

/// Writes from `from` on, as much as `out` takes.
fn write_from(out: &mut impl Write, batch: &[u8], from: usize) -> BatchProgress {
    let mut taken = from;
    while taken < batch.len() {
        match out.write(&batch[taken..]) {
            Ok(0) => return BatchProgress::stopped(taken, io::ErrorKind::WriteZero.into()),
            Ok(n) => taken += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return BatchProgress::stopped(taken, error),
        }
    }
    BatchProgress::done(batch)
}

impl BatchProgress {
    fn done(batch: &[u8]) -> Self {
        Self {
            taken: batch.len(),
            lost: 0,
            error: None,
        }
    }

    fn stopped(taken: usize, error: io::Error) -> Self {
        Self {
            taken,
            lost: 0,
            error: Some(error),
        }
    }
}

/// Standard error, as it was at the start.
struct StderrSink;

impl LineSink for StderrSink {
    fn write(&mut self, batch: &[u8], from: usize) -> BatchProgress {
        write_from(&mut io::stderr().lock(), batch, from)
    }

    fn probe(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        String::from("standard error")
    }
}
