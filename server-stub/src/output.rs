//! Writing to standard output and standard error, whose readers may leave at any time, as `head` does: what cannot be
//! written any more is left out, and nothing ends for it.

use std::{
    fmt::Arguments,
    io::{self, Write},
};

/// One line on standard output.
macro_rules! outln {
    () => { $crate::output::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use outln;

/// Text on standard output as it is.
pub(crate) fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = out.write_fmt(text).and_then(|()| out.flush());
}

/// One line on standard error.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "server-stub: {text}");
}
