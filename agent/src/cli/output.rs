//! Writing to standard output, whose reader may leave at any time.

use anyhow::Context;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// The reader of standard output has left, like `head` does. Counts as success.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

/// One line on standard error. Where nobody reads it, it is left out: `agent … 2>&1 | head` is no fault.
pub fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "agent: {text}");
}

/// Writes the text as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        other => other.context("standard output"),
    }
}
