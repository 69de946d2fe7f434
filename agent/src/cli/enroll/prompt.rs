//! The person at the terminal, if there is one: lines, choices, and what is not shown.

use crate::{
    cli::{exit::UsageError, output::print},
    enroll::{EnrollmentToken, EnrollmentTokenError, MAX_LEN},
};
use anyhow::{Context, bail};
use rustix::termios::QueueSelector;
use std::io::{self, BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Asks questions on the terminal, if there is one.
pub struct TerminalPrompt {
    is_interactive: bool,
}

impl TerminalPrompt {
    /// Nobody is asked where standard input is no terminal.
    pub fn new(never: bool) -> Self {
        Self {
            is_interactive: !never && io::stdin().is_terminal(),
        }
    }

    /// Whether anybody can be asked.
    pub fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// A line, until `check` takes it. Without an answer the default counts, where there is one.
    pub fn line<T>(
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
        bail!("no usable answer after {MAX_TRIES} tries; nothing is changed")
    }

    /// A number before one of these texts; the first is the default.
    pub fn choice<'a, T: Copy>(
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
                .ok_or_else(|| format!("a number from 1 to {}, please", choices.len()))
        })
    }

    /// A secret, without echo.
    pub fn hidden(&self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        if !self.is_interactive {
            return Err(UsageError(format!(
                "nobody can be asked here for: {question}; use flags and files (agent enroll --help), or a terminal"
            ))
            .into());
        }
        for _ in 0..MAX_TRIES {
            let answer = rpassword::prompt_password(format!("{question}: "));
            let answer = Zeroizing::new(answer.context("the terminal")?);
            match answer.trim() {
                "" => print("  nothing was typed\n")?,
                text => return Ok(Zeroizing::new(text.to_owned())),
            }
        }
        bail!("no answer after {MAX_TRIES} tries; nothing is changed")
    }
}

impl TerminalPrompt {
    /// A vendor's token, without echo: as many lines as a mail program has made of it. What does not become one is asked
    /// for again.
    pub fn token(&self) -> anyhow::Result<Zeroizing<String>> {
        if !self.is_interactive {
            return Err(UsageError(
                "nobody can be asked here for the token; use --token-file FILE, or a terminal"
                    .to_owned(),
            )
            .into());
        }
        for _ in 0..MAX_TRIES {
            match self.one_token()? {
                Ok(text) => return Ok(text),
                Err(problem) => {
                    // What else was pasted is part of it: neither the next question nor the shell may take it.
                    let _ = rustix::termios::tcflush(io::stdin(), QueueSelector::IFlush);
                    print(&format!("  {problem}\n"))?;
                }
            }
        }
        bail!("no usable token after {MAX_TRIES} tries; nothing is changed")
    }

    fn one_token(&self) -> anyhow::Result<Result<Zeroizing<String>, EnrollmentTokenError>> {
        // Room for everything at once: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * MAX_LEN));
        let mut question = "Enrollment token from the vendor (it is not shown): ";
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
                    question = "  its end is missing: paste the rest of it (it is not shown), or press Enter to begin again: ";
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
        0 => bail!("standard input has ended; nothing is changed"),
        _ => Ok(line),
    }
}

/// Then it is no slip of the keyboard.
const MAX_TRIES: u32 = 5;
/// Bytes of a line; terminals take no more.
const MAX_LINE: u64 = 4096;
