//! The SSH window of a session's channels, chosen by the distance to the peer (RFC 4254 §5.2).
//!
//! russh has one window per session, set before the session begins, and opens it again when half of it is used. So one
//! channel receives at most half a window per round trip.

use std::time::Duration;

/// The window in bytes for a peer at this round trip: twice what a link of 4 Gbit/s has in flight, between
/// [`DISTANT_MIN`] and [`DISTANT_MAX`]. [`NEAR_WINDOW`] on the same host or network, where a larger window only lets data
/// wait in the peer's memory; [`DISTANT_MIN`] where the round trip is not known.
pub(super) fn window_for(round_trip: Option<Duration>) -> u32 {
    let Some(round_trip) = round_trip else {
        return DISTANT_MIN;
    };
    if round_trip < NEAR {
        return NEAR_WINDOW;
    }
    let in_flight = u64::try_from(round_trip.as_micros())
        .unwrap_or(u64::MAX)
        .saturating_mul(BYTES_PER_MICROSECOND);
    u32::try_from(in_flight.saturating_mul(2))
        .unwrap_or(u32::MAX)
        .clamp(DISTANT_MIN, DISTANT_MAX)
}

/// A shorter round trip is that of a local network.
const NEAR: Duration = Duration::from_millis(2);
/// Fastest on loopback: what waits fits into the caches.
const NEAR_WINDOW: u32 = 1 << 20;
/// 1 GiB/s at 2 ms.
const DISTANT_MIN: u32 = 4 << 20;
/// 80 MiB/s at 100 ms, which needs more buffer than most kernels give one connection.
const DISTANT_MAX: u32 = 16 << 20;
/// 4 Gbit/s. A connection at 10 ms reaches half of it with the buffers that Linux gives it.
const BYTES_PER_MICROSECOND: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> u32 {
        window_for(Some(Duration::from_micros(micros)))
    }

    #[test]
    fn a_near_peer_gets_a_small_window() {
        assert_eq!((at(0), at(1_999)), (1 << 20, 1 << 20));
    }

    #[test]
    fn a_distant_peer_gets_twice_what_a_fast_link_has_in_flight() {
        assert_eq!((at(2_000), at(10_000)), (4 << 20, 10_000_000));
    }

    #[test]
    fn the_window_is_bounded_at_any_distance() {
        assert_eq!((at(17_000), at(u64::MAX)), (16 << 20, 16 << 20));
    }

    #[test]
    fn an_unknown_distance_counts_as_one() {
        assert_eq!(window_for(None), 4 << 20);
    }
}
