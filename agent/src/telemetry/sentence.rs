//! Formats an event as one self-contained sentence: which forward or connection, what, why, what to do.
//!
//! `journalctl` and a terminal show nothing else, so the sentence contains every field of the event. JSON and the journal
//! also have the fields separately (`F_*`).

use super::lines::LogFields;
use crate::printable::is_printable;
use std::fmt::{self, Display};

/// The values of one event, each already printable and bounded.
#[derive(Default)]
pub(super) struct LogSentence {
    subject: Vec<String>,
    message: String,
    cause: Vec<String>,
    remedy: Option<String>,
    /// All other fields, in their order.
    others: Vec<(&'static str, String)>,
}

impl LogSentence {
    pub(super) fn of(fields: &LogFields) -> Self {
        let mut sentence = Self::default();
        for (name, value) in fields.texts() {
            sentence.add(name, value);
        }
        sentence
    }

    fn add(&mut self, name: &'static str, value: String) {
        match name {
            "message" => self.message = value,
            "forward" | "connection" | "gateway" if !value.is_empty() => {
                self.subject.push(format!("{name} {value}"));
            }
            "cause" | "error" if !value.is_empty() => {
                self.cause.push(value.trim_end_matches('.').to_owned());
            }
            "remedy" if !value.is_empty() => self.remedy = Some(value),
            _ => self.others.push((name, value)),
        }
    }
}

impl Display for LogSentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject.join(", "))?;
        }
        f.write_str(&self.message)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause.join(": "))?;
        }
        for (index, (name, value)) in self.others.iter().enumerate() {
            let before = if index == 0 { " (" } else { ", " };
            write!(f, "{before}{} ", name.replace('_', " "))?;
            match value.contains([' ', ',']) {
                true => write!(f, "\"{value}\"")?,
                false => f.write_str(value)?,
            }
        }
        if !self.others.is_empty() {
            f.write_str(")")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

/// One bounded line, with all characters escaped that are not printable: part of it may come from a peer.
pub(super) fn printable(value: &str) -> String {
    let mut printed = String::with_capacity(value.len().min(MAX_VALUE));
    for character in value.chars() {
        if printed.len() >= MAX_VALUE {
            printed.push('…');
            break;
        }
        match character {
            // Text of several lines is indented for a terminal.
            '\n' | '\r' | '\t' | ' ' => {
                if !printed.ends_with(' ') {
                    printed.push(' ');
                }
            }
            c if !is_printable(c) => printed.extend(c.escape_unicode()),
            c => printed.push(c),
        }
    }
    printed
}

/// Bytes of one value. The agent's own causes and remedies are below 1 KiB; a datagram with all values of an event is far
/// below the limit of a socket (208 KiB).
const MAX_VALUE: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::lines::{LineFormat, tests::logged};

    /// The sentence alone.
    fn line(log: impl FnOnce()) -> String {
        let line = logged(LineFormat::Human { color: false }, log);
        let place = concat!(module_path!(), ": ");
        line.split_once(place)
            .map_or("", |(_, sentence)| sentence)
            .trim()
            .to_owned()
    }

    #[test]
    fn a_sentence_says_who_what_why_and_what_to_do() {
        let said = line(|| {
            tracing::warn!(
                connection = 1,
                gateway = "gw1.vendor.example:443",
                hop = "tcp",
                error = %"connection refused.",
                remedy = "open the port",
                "cannot connect; retrying"
            );
        });
        assert_eq!(
            said,
            "connection 1, gateway gw1.vendor.example:443: cannot connect; retrying: connection refused (hop tcp); remedy: open the port"
        );
        let said = line(|| {
            tracing::warn!(
                forward = Some("jira"),
                reason = Some("an audit of ours"),
                by_uid = Some(1000),
                cause = None::<&str>,
                "paused"
            );
        });
        assert_eq!(
            said,
            "forward jira: paused (reason \"an audit of ours\", by uid 1000)"
        );
        assert_eq!(line(|| tracing::info!("agent stopped")), "agent stopped");
    }

    #[test]
    fn what_a_peer_says_cannot_write_a_line_of_its_own() {
        let said = line(|| {
            tracing::warn!(
                cause = "bye\n\n  2026 forged \u{1b}[31m\u{202e}line",
                "session lost"
            );
        });
        assert_eq!(
            said,
            "session lost: bye 2026 forged \\u{1b}[31m\\u{202e}line"
        );
        let long = "x".repeat(1 << 20);
        let said = line(|| tracing::warn!(cause = long, "session lost"));
        assert!(said.len() < MAX_VALUE + 64 && said.ends_with('…'));
    }
}
