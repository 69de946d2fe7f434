//! The connection of a vendor's service, whose end is seen although bytes before it are not read.
//!
//! hyper does not read a next request while it answers one, and so does not see behind it that the vendor has left.
//! A reset is seen whatever is unread. An ordinary end waits behind bytes for which this kernel has no room: until they are
//! read, nothing tells such a vendor from a living one. `GatewayLimits::body_stall` ends that wait.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, Join, ReadBuf, join},
    net::{TcpStream, tcp::OwnedReadHalf},
};

/// The two ends of `socket` for hyper, and the watch on its end.
pub(super) fn watched(socket: TcpStream) -> (impl AsyncRead + AsyncWrite + Unpin, VendorWatch) {
    let (reader, writer) = socket.into_split();
    let reader = Arc::new(reader);
    let watch = VendorWatch(Arc::clone(&reader));
    let stream: Join<_, _> = join(SharedReader(reader), writer);
    (stream, watch)
}

/// Sees the end of a vendor's connection beside its data.
pub(super) struct VendorWatch(Arc<OwnedReadHalf>);

impl VendorWatch {
    /// Completes once the vendor has closed or reset the connection, or sends no more.
    pub(super) async fn left(&self) {
        // Of what is registered for a socket, this interest is ready with the end of the reading side alone.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}

struct SharedReader(Arc<OwnedReadHalf>);

impl AsyncRead for SharedReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.0.as_ref().as_ref();
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(buf.initialize_unfilled()) {
                Ok(length) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    /// A vendor that has sent until no more was taken, and the gateway's side of its connection.
    async fn full() -> (TcpStream, impl AsyncRead + AsyncWrite + Unpin, VendorWatch) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (vendor, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (vendor, (near, _)) = (vendor.unwrap(), accepted.unwrap());
        let (stream, watch) = watched(near);
        let chunk = [0; 64 << 10];
        while timeout(QUIET, vendor.writable()).await.is_ok() {
            let _ = vendor.try_write(&chunk);
        }
        assert!(timeout(QUIET, watch.left()).await.is_err());
        (vendor, stream, watch)
    }

    #[tokio::test]
    async fn a_reset_is_seen_although_no_more_bytes_have_room() {
        let (vendor, _stream, watch) = full().await;
        vendor.set_zero_linger().unwrap();
        drop(vendor);
        timeout(LONG, watch.left()).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_behind_bytes_without_room_is_seen_once_they_are_read() {
        let (vendor, mut stream, watch) = full().await;
        drop(vendor);
        assert!(timeout(QUIET, watch.left()).await.is_err());
        timeout(LONG, stream.read_to_end(&mut Vec::new()))
            .await
            .unwrap()
            .unwrap();
        timeout(LONG, watch.left()).await.unwrap();
    }

    const QUIET: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn only_the_end_counts_and_not_what_comes_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (vendor, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut vendor, (near, _)) = (vendor.unwrap(), accepted.unwrap());
        let (mut stream, watch) = watched(near);
        vendor.write_all(b"first, second").await.unwrap();
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first");
        assert!(timeout(QUIET, watch.left()).await.is_err());
        drop(vendor);
        timeout(LONG, watch.left()).await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, ", second");
    }
}
