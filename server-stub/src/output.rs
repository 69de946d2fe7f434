//! Standard output and standard error. A reader such as `head` may close them at any time; later output is then dropped
//! without an error.

use std::{
    fmt::Arguments,
    io::{self, Write},
};

/// Prints one line on standard output.
macro_rules! outln {
    () => { $crate::output::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use outln;

/// Prints text on standard output.
pub(crate) fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = out.write_fmt(text).and_then(|()| out.flush());
}

/// Prints an error as one line on standard error.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "server-stub: {text}");
}
