//! Writing to standard output, which the reader may close at any time.

use crate::printable::printable_lines;
use anyhow::Context;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// The reader closed standard output, as `head` does. Counts as success.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct OutputClosed;

/// Writes the text, with control characters replaced: much of it comes from other hosts.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_as_is(&printable_lines(text))
}

/// Writes text that is the agent's own or already printable, colors included.
pub(super) fn print_as_is(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => other.context("standard output"),
    }
}

/// Writes one problem to standard error, made printable. A closed standard error is not a failure.
pub(super) fn print_error(problem: impl Display) {
    let problem = printable_lines(&problem.to_string());
    let _ = writeln!(io::stderr(), "agent: {problem}");
}
