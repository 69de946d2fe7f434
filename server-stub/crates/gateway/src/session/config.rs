//! russh's settings for the server: algorithms, windows, keep-alive, rekey.

use crate::settings::GatewayLimits;
use russh::{MethodKind, MethodSet, SshId, keys::PrivateKey, server};
use std::{borrow::Cow, time::Duration};

/// The configuration of russh.
pub(crate) fn config(key: PrivateKey, limits: &GatewayLimits) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-ServerStub_",
            env!("CARGO_PKG_VERSION")
        ))),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        limits: russh::Limits {
            rekey_write_limit: limits.rekey_bytes,
            rekey_read_limit: limits.rekey_bytes,
            rekey_time_limit: limits.rekey_interval,
        },
        window_size: limits.channel.window_at(None),
        maximum_packet_size: limits.max_packet,
        channel_buffer_size: CHANNEL_BUFFER,
        preferred: agent_ssh::algorithms::preferred(),
        max_auth_attempts: MAX_ATTEMPTS,
        // The monitor probes, and knows a slow link from a dead one.
        inactivity_timeout: None,
        keepalive_interval: None,
        nodelay: true,
        ..server::Config::default()
    }
}

/// A rejection takes the same time whatever the reason.
const REJECTION_TIME: Duration = Duration::from_millis(300);
/// Agents carry one key; a developer's ssh may offer several first.
const MAX_ATTEMPTS: usize = 10;
/// Messages that russh queues per channel. The channel pump always drains them.
const CHANNEL_BUFFER: usize = 100;
