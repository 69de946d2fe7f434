//! The person at the terminal, if there is one: lines, choices, and what is not shown.

use crate::cli::{exit::BadUsage, output::print};
use anyhow::{Context, bail};
use std::io::{self, BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Where questions go.
pub struct Console {
    asks: bool,
}

impl Console {
    /// Nobody is asked where standard input is no terminal.
    pub fn new(never: bool) -> Self {
        Self {
            asks: !never && io::stdin().is_terminal(),
        }
    }

    /// Whether anybody can be asked.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// A line, until `check` takes it. Without an answer the default counts, where there is one.
    pub fn line<T>(
        &self,
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        for _ in 0..TRIES {
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
        bail!("no usable answer after {TRIES} tries; nothing is changed")
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
        if !self.asks {
            return Err(BadUsage(format!(
                "nobody can be asked here for: {question}; use flags and files (agent enroll --help), or a terminal"
            ))
            .into());
        }
        for _ in 0..TRIES {
            let answer = rpassword::prompt_password(format!("{question}: "));
            let answer = Zeroizing::new(answer.context("the terminal")?);
            match answer.trim() {
                "" => print("  nothing was typed\n")?,
                text => return Ok(Zeroizing::new(text.to_owned())),
            }
        }
        bail!("no answer after {TRIES} tries; nothing is changed")
    }
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    let read = io::stdin().lock().take(LONGEST).read_line(&mut line);
    match read.context("standard input")? {
        0 => bail!("standard input has ended; nothing is changed"),
        _ => Ok(line),
    }
}

/// Then it is no slip of the keyboard.
const TRIES: u32 = 5;
/// Bytes of a line; terminals take no more.
const LONGEST: u64 = 4096;
