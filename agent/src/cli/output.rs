//! Writing to standard output, whose reader may leave at any time.

use crate::printable::printable_lines;
use anyhow::Context;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// The reader of standard output has left, like `head` does. Counts as success.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// Writes the text. Much of it comes from other hosts: what would steer the terminal is not written.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_as_is(&printable_lines(text))
}

/// Writes a text that is our own, or made printable already, with its colours.
pub fn print_as_is(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        other => other.context("standard output"),
    }
}

/// One problem on standard error, made printable. Where nobody reads it, it is left out: `agent … 2>&1 | head` is no
/// fault.
pub fn print_error(problem: impl Display) {
    let problem = printable_lines(&problem.to_string());
    let _ = writeln!(io::stderr(), "agent: {problem}");
}
