//! Follows the streams of an HTTP/2 connection by its frames (RFC 9113 §4.1), without their contents. The library answers
//! requests that break the protocol itself, and buffers the end of an answer until a window lets it through: the service
//! notices neither.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// The streams of one connection, as far as their frames show.
#[derive(Default)]
pub(in crate::http) struct StreamTracker(Mutex<TrackedStreams>);

#[derive(Default)]
struct TrackedStreams {
    opened: u64,
    served: u64,
    refused: u64,
    last_stream: u32,
    /// Streams whose answer has begun and not ended, and when it last moved. Bounded by the streams that may be open.
    answering: HashMap<u32, Instant>,
    /// The latest streams that the client reset before their answer began: frames of theirs may still be on their way
    /// out, and nothing follows those.
    reset: VecDeque<u32>,
}

/// Requests that the library answered by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct UnservedRequests {
    /// More than may be open at once.
    pub(in crate::http) too_many: u64,
    /// All others: their heads break the protocol, or the connection ended first.
    pub(in crate::http) malformed: u64,
}

impl StreamTracker {
    /// The service has got one request.
    pub(in crate::http) fn serve(&self) {
        self.0.lock().served += 1;
    }

    /// Counts so far; while the connection runs, one request may be on its way to the service.
    pub(in crate::http) fn unserved(&self) -> UnservedRequests {
        let streams = self.0.lock();
        let unserved = streams.opened.saturating_sub(streams.served);
        let too_many = streams.refused.min(unserved);
        UnservedRequests {
            too_many,
            malformed: unserved - too_many,
        }
    }

    /// Whether an answer has begun and not moved for `limit`.
    pub(in crate::http) fn is_stuck(&self, limit: Duration) -> bool {
        let streams = self.0.lock();
        let mut moved = streams.answering.values();
        moved.any(|moved| moved.elapsed() > limit)
    }
}

impl TrackedStreams {
    /// A frame that the client sent.
    fn received(&mut self, frame: &FrameInfo) {
        match frame.kind {
            // A second HEADERS frame of a stream holds its trailers.
            HEADERS if frame.stream > self.last_stream => {
                self.last_stream = frame.stream;
                self.opened += 1;
            }
            RST_STREAM => {
                let answers = self.answering.remove(&frame.stream).is_some();
                if !answers && frame.stream <= self.last_stream {
                    self.reset.truncate(MAX_RESET - 1);
                    self.reset.push_front(frame.stream);
                }
            }
            _ => {}
        }
    }

    /// A frame that the agent sends.
    fn sent(&mut self, frame: &FrameInfo) {
        match frame.kind {
            HEADERS | DATA if frame.flags & END_STREAM != 0 => {
                self.answering.remove(&frame.stream);
            }
            HEADERS | DATA if self.reset.contains(&frame.stream) => {}
            HEADERS | DATA => {
                self.answering.insert(frame.stream, Instant::now());
            }
            RST_STREAM => {
                self.answering.remove(&frame.stream);
                self.refused += u64::from(frame.code == REFUSED_STREAM);
            }
            _ => {}
        }
    }
}

/// The fields of a frame that are read.
struct FrameInfo {
    kind: u8,
    flags: u8,
    stream: u32,
    /// Error code of RST_STREAM.
    code: u32,
}

/// Parses the frames that one side of a connection sends.
#[derive(Default)]
pub(super) struct FrameParser {
    /// The present frame's head, and of RST_STREAM its code.
    head: [u8; HEAD + CODE],
    filled: usize,
    /// Bytes to pass over.
    skip: usize,
    /// Whether the client sends them.
    of_client: bool,
}

impl FrameParser {
    /// For what a client sends: its preface first.
    pub(super) fn of_client() -> Self {
        Self {
            skip: PREFACE,
            of_client: true,
            ..Self::default()
        }
    }

    /// Parses the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8], tracker: &StreamTracker) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 {
                return;
            }
            let wanted = self.wanted();
            let taken = bytes.len().min(wanted - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.wanted() {
                let frame = self.frame();
                match self.of_client {
                    true => tracker.0.lock().received(&frame),
                    false => tracker.0.lock().sent(&frame),
                }
                self.skip = self.length() + HEAD - self.filled;
                self.filled = 0;
            }
        }
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Bytes of the present frame that are read.
    fn wanted(&self) -> usize {
        if self.filled >= HEAD && self.head[3] == RST_STREAM && self.length() >= CODE {
            HEAD + CODE
        } else {
            HEAD
        }
    }

    fn frame(&self) -> FrameInfo {
        let [_, _, _, kind, flags, a, b, c, d, code @ ..] = self.head;
        FrameInfo {
            kind,
            flags,
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
            code: u32::from_be_bytes(code),
        }
    }
}

/// More than the streams of a connection whose answers the library can have written out beforehand.
const MAX_RESET: usize = 128;
const PREFACE: usize = 24;
const HEAD: usize = 9;
const CODE: usize = 4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const REFUSED_STREAM: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream];
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn streams_are_counted_however_their_frames_are_cut() {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, stream, payload) in [
            (4, 0, &b""[..]),
            (HEADERS, 1, b"\x01\x03"),
            (DATA, 1, b"\0\0\0\x01\x01\0\0\0\x05"),
            (HEADERS, 1, b"trailers"),
            (HEADERS, 3, b"x"),
            (RST_STREAM, 3, b"\0\0\0\x08"),
            (HEADERS, 5, b""),
        ] {
            sent.extend(frame(kind, stream, payload));
        }
        let answered = [
            frame(4, 0, b""),
            frame(HEADERS, 1, b"y"),
            frame(RST_STREAM, 5, b"\0\0\0\x07"),
            frame(RST_STREAM, 3, b"\0\0\0\x01"),
        ]
        .concat();
        for step in 1..40 {
            let tracker = StreamTracker::default();
            let (mut ours, mut theirs) = (FrameParser::of_client(), FrameParser::default());
            sent.chunks(step).for_each(|b| ours.follow(b, &tracker));
            answered
                .chunks(step)
                .for_each(|b| theirs.follow(b, &tracker));
            tracker.serve();
            let expected = UnservedRequests {
                too_many: 1,
                malformed: 1,
            };
            assert_eq!(tracker.unserved(), expected, "in steps of {step}");
            let answering: Vec<_> = tracker.0.lock().answering.keys().copied().collect();
            assert_eq!(answering, [1], "in steps of {step}");
        }
    }

    /// The library had written the head of an answer out when its client left the stream; the channel took it later.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_its_client_has_left_is_not_waited_for() {
        let tracker = StreamTracker::default();
        let (mut ours, mut theirs) = (FrameParser::default(), FrameParser::of_client());
        theirs.follow(&[0; PREFACE], &tracker);
        theirs.follow(&frame(HEADERS, 201, b"x"), &tracker);
        theirs.follow(&frame(RST_STREAM, 1, b"\0\0\0\x08"), &tracker);
        ours.follow(&frame(HEADERS, 1, b"y"), &tracker);
        ours.follow(&frame(DATA, 1, b"y"), &tracker);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!tracker.is_stuck(Duration::from_secs(1)));
        for stream in 0..200 {
            theirs.follow(&frame(RST_STREAM, stream, b"\0\0\0\x08"), &tracker);
        }
        assert!(tracker.0.lock().reset.len() <= MAX_RESET);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_begun_and_does_not_move_is_stuck() {
        const LIMIT: Duration = Duration::from_secs(10);
        let tracker = StreamTracker::default();
        let mut ours = FrameParser::default();
        ours.follow(&frame(HEADERS, 1, b"y"), &tracker);
        tokio::time::advance(LIMIT).await;
        ours.follow(&frame(DATA, 1, b"y"), &tracker);
        tokio::time::advance(LIMIT).await;
        assert!(!tracker.is_stuck(LIMIT));
        tokio::time::advance(LIMIT).await;
        assert!(tracker.is_stuck(LIMIT));
        let mut end = frame(DATA, 1, b"");
        end[4] = END_STREAM;
        ours.follow(&end, &tracker);
        assert!(!tracker.is_stuck(LIMIT));
    }
}
