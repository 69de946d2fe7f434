//! Follows a chunked body to its end without holding any of it (RFC 9112 §7.1).

/// Where in a chunked body the reader stands.
#[derive(Clone, Debug, Default)]
pub(super) struct ChunkScanner {
    state: ChunkState,
    /// Bytes of the present size line, or of all trailer lines.
    line: usize,
    /// The present trailer line; empty outside the trailers.
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum ChunkState {
    /// Hexadecimal digits of a chunk's size; how many there were.
    Size {
        size: u64,
        digits: u8,
    },
    /// After a semicolon.
    Extension {
        size: u64,
    },
    /// After the CR of a size line.
    SizeLf {
        size: u64,
    },
    /// Bytes of the chunk still to come.
    Bytes {
        left: u64,
    },
    /// The CRLF after the chunk's bytes.
    EndCr,
    EndLf,
    /// A trailer line, or the empty line that ends the body.
    Trailer,
    TrailerLf,
    Done,
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

/// A chunked body that two readers could take apart differently.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadChunk;

impl ChunkScanner {
    /// Looks at the next bytes of the body. Returns how many belong to it: less than all of them, or
    /// [`ChunkScanner::is_done`], means that the body has ended.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let ChunkState::Bytes { left } = &mut self.state {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                *left -= here as u64;
                at += here;
                if *left == 0 {
                    self.state = ChunkState::EndCr;
                }
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::Done)
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(BadChunk);
        }
        self.state = match (self.state, byte) {
            (ChunkState::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                if digits >= MAX_DIGITS {
                    return Err(BadChunk);
                }
                let digit = (digit as char).to_digit(16).unwrap_or(0);
                ChunkState::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (ChunkState::Size { size, digits: 1.. }, b';') => ChunkState::Extension { size },
            (ChunkState::Size { size, digits: 1.. } | ChunkState::Extension { size }, b'\r') => {
                ChunkState::SizeLf { size }
            }
            (ChunkState::Extension { size }, b'\t' | b' '..=b'~') => ChunkState::Extension { size },
            (ChunkState::SizeLf { size }, b'\n') => {
                self.line = 0;
                match size {
                    0 => ChunkState::Trailer,
                    left => ChunkState::Bytes { left },
                }
            }
            (ChunkState::EndCr, b'\r') => ChunkState::EndLf,
            (ChunkState::EndLf, b'\n') => {
                self.line = 0;
                ChunkState::default()
            }
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
            (ChunkState::Trailer, b'\n') => return Err(BadChunk),
            (ChunkState::Trailer, byte) => {
                self.trailer.push(byte);
                ChunkState::Trailer
            }
            (ChunkState::TrailerLf, b'\n') if self.trailer.is_empty() => ChunkState::Done,
            (ChunkState::TrailerLf, b'\n') if super::head::is_field_line(&self.trailer) => {
                self.trailer.clear();
                ChunkState::Trailer
            }
            _ => return Err(BadChunk),
        };
        Ok(())
    }
}

/// 15 hexadecimal digits stay far below 2^63.
const MAX_DIGITS: u8 = 15;
/// A size line with its extension, or all trailers of one body. No client uses more, and hyper's own
/// limit for both is of the same size.
const MAX_LINE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn all(bytes: &[u8]) -> Result<Option<usize>, BadChunk> {
        let mut chunks = ChunkScanner::default();
        let used = chunks.follow(bytes)?;
        Ok(chunks.is_done().then_some(used))
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        let body = b"5\r\nhello\r\n1a;x=\"y\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n";
        let mut wire = body.to_vec();
        wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(all(&wire), Ok(Some(body.len())));
        for step in 1..body.len() {
            let mut chunks = ChunkScanner::default();
            let mut used = 0;
            for piece in wire.chunks(step) {
                used += chunks.follow(piece).unwrap();
                if chunks.is_done() {
                    break;
                }
            }
            assert_eq!(used, body.len(), "in steps of {step}");
        }
    }

    #[test]
    fn what_two_readers_could_take_apart_differently_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"5\nhello",
            b"5 \r\nhello",
            b" 5\r\nhello",
            b"+5\r\nhello",
            b"0x5\r\nhello",
            b"-1\r\n",
            b"g\r\n",
            b"ffffffffffffffff\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5;a\nb\r\nhello",
            b"5;a\x00\r\nhello",
            b"5\r\rhello",
            b"0\r\n\n",
            b"0\r\nbad line\r\n\r\n",
            b"0\r\n folded: x\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\x00\r\n\r\n",
        ] {
            assert_eq!(
                all(body),
                Err(BadChunk),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
        let endless = [&b"1;"[..], &b"x".repeat(MAX_LINE)].concat();
        assert_eq!(all(&endless), Err(BadChunk));
        let trailers = [&b"0\r\n"[..], &b"A: b\r\n".repeat(MAX_LINE)].concat();
        assert_eq!(all(&trailers), Err(BadChunk));
    }
}
