//! What must hold for any bytes of a server before the key exchange, and for any key file. The tests run it with generated
//! bytes, `fuzz/` with many more.

use super::{
    banner::{BannerCapture, await_banner},
    identity,
};
use crate::tunnel::ignore;
use futures_util::FutureExt;
use std::path::Path;

/// The lines before SSH are read the same however they are cut, and no text of them is unprintable.
pub(crate) fn gateway_banner(bytes: &[u8]) {
    let step = usize::from(bytes.first().copied().unwrap_or_default() % 16) + 1;
    let read = |step: usize| {
        let capture = BannerCapture::default();
        let pieces = bytes
            .chunks(step)
            .map(std::io::Cursor::new)
            .collect::<Vec<_>>();
        let mut reader = capture.wrap(ChunkedReader(pieces.into()), ignore());
        let found = await_banner(&mut reader, &capture).now_or_never();
        let outcome = found.map(|found| found.is_ok());
        let shown = [capture.unusable().unwrap_or_default(), capture.first_line()];
        assert!(!shown.concat().chars().any(char::is_control), "{shown:?}");
        // What came in one piece with a wrong line shows beside it.
        let is_ssh = outcome == Some(true) && capture.is_ssh();
        (outcome, is_ssh, capture.unusable())
    };
    assert_eq!(read(step), read(1));
}

/// A key file gives a key or an error that repeats nothing of it.
pub(crate) fn private_key_file(bytes: &[u8]) {
    if let Err(error) = identity::parse(Path::new("id_ed25519"), bytes) {
        assert!(error.to_string().len() < 2048);
    }
    // What an agent reads as OpenSSH does: public keys and certificates beside the key.
    let text = String::from_utf8_lossy(bytes);
    if let Ok(certificate) = russh::keys::Certificate::from_openssh(&text) {
        let described = identity::describe(&certificate);
        assert!(!described.chars().any(char::is_control), "{described:?}");
        identity::certificate_problem(&certificate, "acme");
    }
}

struct ChunkedReader<'a>(std::collections::VecDeque<std::io::Cursor<&'a [u8]>>);

impl tokio::io::AsyncRead for ChunkedReader<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        out: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        while let Some(piece) = self.0.front_mut() {
            if piece.position() < piece.get_ref().len() as u64 {
                return std::pin::Pin::new(piece).poll_read(cx, out);
            }
            self.0.pop_front();
        }
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_banner_is_the_same_however_it_is_cut(text in "(SSH-2.0-|SSH-1|HTTP/1.1 |\r|\n|[ -~]{0,6}|\0|\u{1b}){0,12}") {
            gateway_banner(text.as_bytes());
        }

        #[test]
        fn any_file_is_a_key_or_an_error(text in "(-----BEGIN OPENSSH PRIVATE KEY-----|-----END OPENSSH PRIVATE KEY-----|\n|ssh-ed25519 |PuTTY-|[A-Za-z0-9+/=]{0,9}){0,10}") {
            private_key_file(text.as_bytes());
        }
    }
}
