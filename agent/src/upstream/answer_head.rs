//! The header for which hyper refused an answer. hyper does not name it, and keeps no bytes of it; they pass below hyper.
//!
//! RFC 9110 §5.5 forbids a NUL and a CR without LF in a value: two parsers can read such a head differently, so the whole
//! answer is refused. Of a header with another control character only that header is dropped.

use crate::printable::printable;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The head of the answer that is being read on one connection.
#[derive(Clone, Default)]
pub(super) struct AnswerHead(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_awaited: AtomicBool,
    /// A byte has come since it is awaited.
    has_begun: AtomicBool,
    read: Mutex<Vec<u8>>,
}

impl AnswerHead {
    /// The next bytes are those of an answer's head.
    pub(super) fn await_next(&self) {
        self.0.read.lock().clear();
        self.0.has_begun.store(false, Ordering::Release);
        self.0.is_awaited.store(true, Ordering::Release);
    }

    /// Takes bytes that were read; those after the head are ignored.
    pub(super) fn read(&self, bytes: &[u8]) {
        if !self.0.is_awaited.load(Ordering::Acquire) {
            return;
        }
        if !bytes.is_empty() {
            self.0.has_begun.store(true, Ordering::Release);
        }
        let mut read = self.0.read.lock();
        let room = MAX_HEAD.saturating_sub(read.len());
        let mut searched = read.len().saturating_sub(3);
        read.extend_from_slice(&bytes[..bytes.len().min(room)]);
        while let Some(end) = end_of_head(&read, searched) {
            if invalid_line(&read[..end]).is_some() {
                break;
            }
            // Others follow an interim answer.
            if read[..end].get(STATUS) != Some(&b'1') {
                *read = Vec::new();
                self.0.is_awaited.store(false, Ordering::Release);
                return;
            }
            read.drain(..end);
            searched = 0;
        }
        if read.len() >= MAX_HEAD {
            self.0.is_awaited.store(false, Ordering::Release);
        }
    }

    /// Whether a byte of the answer has come, be it an interim one's.
    pub(super) fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Acquire)
    }

    /// The name of the header that breaks the head.
    pub(super) fn invalid_header(&self) -> Option<String> {
        let read = self.0.read.lock();
        let line = invalid_line(&read)?;
        let name = line.split(|byte| *byte == b':').next()?;
        Some(printable(&String::from_utf8_lossy(name), MAX_NAME))
    }
}

/// The first header line with a NUL, or with a CR that no LF follows.
fn invalid_line(head: &[u8]) -> Option<&[u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.find(|line| line.iter().any(|byte| matches!(byte, 0 | b'\r')))
}

fn end_of_head(head: &[u8], searched: usize) -> Option<usize> {
    let rest = head.get(searched..)?;
    let ends = |end: &[u8]| {
        let at = rest.windows(end.len()).position(|part| part == end)?;
        Some(searched + at + end.len())
    };
    // hyper accepts a bare LF, so that the first of both ends the head.
    [ends(b"\n\n"), ends(b"\n\r\n")].into_iter().flatten().min()
}

/// Position of the status code in `HTTP/1.1 200 OK`.
const STATUS: usize = 9;
/// Bytes of a head that are searched.
const MAX_HEAD: usize = 16 << 10;
/// Characters of a header's name that an error shows.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &[u8], step: usize) -> AnswerHead {
        let answer = AnswerHead::default();
        answer.await_next();
        head.chunks(step).for_each(|bytes| answer.read(bytes));
        answer
    }

    #[test]
    fn the_header_with_a_nul_or_a_bare_cr_is_found_however_it_is_cut() {
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        for (lines, name) in [
            ("server: x\r\nx-odd: a\0b\r\n\r\n", Some("x-odd")),
            ("x-odd: a\rb\r\nlater: y\r\n\r\n", Some("x-odd")),
            ("x-odd: a\0b", Some("x-odd")),
            ("x-fine: y\n\nbody: with\0nul\r\n\r\n", None),
            ("x-fine: y\n\r\nbody: with\0nul\r\n\r\n", None),
            ("server: x\r\nx-fine: y\r\n\r\nbody: with\0nul\n", None),
        ] {
            for head in [
                format!("HTTP/1.1 200 OK\r\n{lines}"),
                format!("{interim}HTTP/1.1 200 OK\r\n{lines}"),
            ] {
                for step in [1, 2, 7, 1000] {
                    let answer = read(head.as_bytes(), step);
                    assert_eq!(
                        answer.invalid_header().as_deref(),
                        name,
                        "{head:?} by {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_printable() {
        let answer = read(&[b'a'; 100_000], 1000);
        assert!(answer.0.read.lock().len() <= MAX_HEAD);
        let head = format!(
            "HTTP/1.1 200 OK\r\n\u{1b}[31m{}\0: x\r\n\r\n",
            "y".repeat(1000)
        );
        let name = read(head.as_bytes(), 10)
            .invalid_header()
            .unwrap_or_default();
        assert!(
            name.chars().count() <= MAX_NAME + 1 && !name.contains('\u{1b}'),
            "{name}"
        );
    }
}
