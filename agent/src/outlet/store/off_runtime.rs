//! Work whose time grows with a body, off the runtime where the body is long.

use tokio::task::spawn_blocking;

/// Does `work` on a body of this length. `None`: it panicked.
pub(super) async fn off_runtime<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match length <= INLINE {
        true => Some(work()),
        false => spawn_blocking(work).await.ok(),
    }
}

/// Bytes that are hashed or parsed within a fraction of a millisecond. Most events are shorter.
const INLINE: usize = 64 << 10;
