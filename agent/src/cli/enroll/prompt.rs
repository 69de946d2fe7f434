//! Questions at the terminal: lines, choices, and hidden input.

use crate::{
    cli::{exit::UsageError, output::print},
    enroll::{EnrollmentToken, EnrollmentTokenError, TOKEN_MAX_LEN},
};
use anyhow::{Context, bail};
use rustix::termios::QueueSelector;
use std::io::{self, BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Asks questions on the terminal, if there is one.
pub(super) struct TerminalPrompt {
    is_interactive: bool,
}

impl TerminalPrompt {
    /// Never asks if standard input is not a terminal.
    pub(super) fn new(never: bool) -> Self {
        Self {
            is_interactive: !never && io::stdin().is_terminal(),
        }
    }

    /// Whether questions can be asked.
    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Asks for a line until `check` accepts it. An empty answer selects the default, if there is one.
    pub(super) fn line<T>(
        &self,
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        for _ in 0..MAX_TRIES {
            print(&match default {
                Some(default) => format!("{question} [{default}]: "),
                None => format!("{question}: "),
            })?;
            let answer = read_line()?;
            let answer = match (answer.trim(), default) {
                ("", Some(default)) => default,
                (text, _) => text,
            };
            match check(answer) {
                Ok(value) => return Ok(value),
                Err(problem) => print(&format!("  {problem}\n"))?,
            }
        }
        bail!("no usable answer after {MAX_TRIES} tries; nothing was changed")
    }

    /// Asks for one of these choices by number. The first is the default.
    pub(super) fn choice<'a, T: Copy>(
        &self,
        question: &str,
        choices: &'a [(T, &'a str)],
    ) -> anyhow::Result<T> {
        let mut text = format!("{question}:\n");
        for (index, (_, choice)) in choices.iter().enumerate() {
            text += &format!("  {}  {choice}\n", index + 1);
        }
        print(&text)?;
        self.line("Number", Some("1"), |answer| {
            let number: Option<usize> = answer.parse().ok();
            let chosen = number.and_then(|number| choices.get(number.checked_sub(1)?));
            chosen
                .map(|(value, _)| *value)
                .ok_or_else(|| format!("enter a number from 1 to {}", choices.len()))
        })
    }

    /// Asks for a secret, without echo.
    pub(super) fn hidden(&self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        if !self.is_interactive {
            return Err(UsageError(format!(
                "not a terminal, so this cannot be asked: {question}; use flags and files (agent enroll --help)"
            ))
            .into());
        }
        for _ in 0..MAX_TRIES {
            let answer = rpassword::prompt_password(format!("{question}: "));
            let answer = Zeroizing::new(answer.context("the terminal")?);
            match answer.trim() {
                "" => print("  the answer is empty\n")?,
                text => return Ok(Zeroizing::new(text.to_owned())),
            }
        }
        bail!("no answer after {MAX_TRIES} tries; nothing was changed")
    }
}

impl TerminalPrompt {
    /// Asks for a token, without echo, in as many lines as a mail program made of it. Asks again if it is not a token.
    pub(super) fn token(&self) -> anyhow::Result<Zeroizing<String>> {
        if !self.is_interactive {
            return Err(UsageError(
                "not a terminal, so the token cannot be asked for; use --token-file FILE"
                    .to_owned(),
            )
            .into());
        }
        for _ in 0..MAX_TRIES {
            match self.one_token()? {
                Ok(text) => return Ok(text),
                Err(problem) => {
                    // The rest of the pasted text must reach neither the next question nor the shell.
                    let _ = rustix::termios::tcflush(io::stdin(), QueueSelector::IFlush);
                    print(&format!("  {problem}\n"))?;
                }
            }
        }
        bail!("no usable token after {MAX_TRIES} tries; nothing was changed")
    }

    fn one_token(&self) -> anyhow::Result<Result<Zeroizing<String>, EnrollmentTokenError>> {
        // Allocated at once: growing would leave copies in memory.
        let mut text = Zeroizing::new(String::with_capacity(2 * TOKEN_MAX_LEN));
        let mut question = "Enrollment token from the vendor (not shown): ";
        loop {
            let line =
                Zeroizing::new(rpassword::prompt_password(question).context("the terminal")?);
            let is_end = line.trim().is_empty();
            if text.len() + line.len() >= text.capacity() {
                return Ok(Err(EnrollmentTokenError::TooLong));
            }
            text.push_str(&line);
            text.push('\n');
            match EnrollmentToken::parse(&text) {
                Ok(_) => return Ok(Ok(text)),
                Err(EnrollmentTokenError::Truncated) if !is_end => {
                    question = "  its end is missing: paste the rest (not shown), or press Enter to start again: ";
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    let read = io::stdin().lock().take(MAX_LINE).read_line(&mut line);
    match read.context("standard input")? {
        0 => bail!("standard input ended; nothing was changed"),
        _ => Ok(line),
    }
}

/// Attempts per question.
const MAX_TRIES: u32 = 5;
/// Bytes of a line, the limit of terminals.
const MAX_LINE: u64 = 4096;
