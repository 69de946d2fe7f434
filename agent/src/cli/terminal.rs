//! The terminal of the person who runs a command: its width, and a question.

use super::output::print;
use std::io::{self, BufRead, IsTerminal, Read};

/// Columns of the terminal on standard output; `None` if it is not one, or too narrow to wrap for.
pub(super) fn terminal_width() -> Option<usize> {
    let out = io::stdout();
    let size = out
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(&out));
    let columns = size?.ok()?.ws_col;
    (columns >= MIN_COLUMNS).then_some(usize::from(columns))
}

/// Asks a question on the terminal; anything but `y` or `yes` means no.
pub(super) fn confirmed(question: &str) -> anyhow::Result<bool> {
    print(question)?;
    let mut answer = String::new();
    io::stdin().lock().take(MAX_LINE).read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Columns. Wrapping to fewer would not be readable.
const MIN_COLUMNS: u16 = 40;
/// Bytes of a line, the limit of terminals.
const MAX_LINE: u64 = 4096;
