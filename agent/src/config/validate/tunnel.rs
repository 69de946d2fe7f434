//! Validates `[tunnel]` and its inner sections.

use super::egress::egress;
use crate::{
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    disk::FreeSpaceFloor,
    tunnel::{
        self, ForwardTemplate, SlotRange,
        session::{HostKeyError, HostKeys, SshIdentity},
    },
};
use std::{path::Path, sync::Arc};

/// The settings. `None` after a problem, which is reported.
pub(super) fn tunnel(
    raw: raw::RawTunnel,
    forwards: Vec<ForwardTemplate>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    state_dir: &Path,
    problems: &mut ConfigProblems,
) -> Option<tunnel::Settings> {
    if raw.gateways.is_empty() {
        let text = "empty; name at least one gateway, like [\"gw1.vendor.example:443\"]";
        section.error("gateways", text, problems);
    }
    let mut gateways = Vec::with_capacity(raw.gateways.len());
    for (index, text) in raw.gateways.iter().enumerate() {
        match text.parse() {
            Ok(gateway) => gateways.push(gateway),
            Err(error) => section.element_error("gateways", index, format!("{error}"), problems),
        }
    }
    if raw.user.is_empty() || raw.user.chars().any(char::is_control) {
        let text = "not a user name; use the one from your vendor";
        section.error("user", text, problems);
    }
    let egress = egress(&raw, &gateways, section, files, problems);
    let identity = identity(&raw, section, files, problems);
    let host_keys = host_keys(
        raw.host_keys,
        raw.known_hosts_file,
        section,
        files,
        problems,
    );
    let transport = transport(raw.transport, &section.section("transport"), problems);
    let channel = channel(
        raw.channel,
        &section.section("channel"),
        files,
        state_dir,
        problems,
    );
    let usual = raw.connections as usize;
    let written_slots = raw.slots.as_deref();
    let written_slots = written_slots
        .and_then(|text| section.value_or_error("slots", text.parse::<SlotRange>(), problems));
    // A host's numbers do not depend on the number of its gateways: those above may be another host's.
    let slots = written_slots.unwrap_or_else(|| SlotRange::for_connections(usual));
    let written = section.is_written("connections").then_some(usual);
    let connections = connections(written, usual, gateways.len(), slots, &forwards);
    check_slots(slots, connections, &forwards, section, problems);
    Some(tunnel::Settings {
        gateways,
        egress: Arc::new(egress?),
        user: raw.user,
        identity: Arc::new(identity?),
        host_keys: Arc::new(host_keys?),
        connections,
        connect_timeout: raw.connect_timeout.0,
        login_timeout: raw.login_timeout.0,
        stall_timeout: raw.stall_timeout.0,
        probe_interval: raw.probe_interval.0,
        probe_timeout: raw.probe_timeout.0,
        congestion_control: Some(raw.congestion_control).filter(|name| name != SYSTEM),
        drain_limit: raw.drain_limit.0,
        max_channels: raw.max_channels as usize,
        transport,
        channel,
        forwards,
        slots,
    })
}

/// At least one for each gateway: when one is lost, the session at the other serves without a dial.
///
/// With `StreamLocalBindUnlink yes`, the later of two sessions on one sshd takes over a socket path. The earlier one
/// gets no notice and seems to serve, but receives no request. There, no more is the default.
fn connections(
    written: Option<usize>,
    usual: usize,
    gateways: usize,
    slots: SlotRange,
    forwards: &[ForwardTemplate],
) -> usize {
    let shares_socket =
        |forward: &ForwardTemplate| forward.bind.is_socket() && !forward.bind.has_slot();
    let least = match written {
        Some(written) => written,
        None if forwards.iter().any(shares_socket) => 1,
        None => usual,
    };
    let most = match needs_slots(forwards) {
        // Of three or more numbers one stays free, which a new session takes while an old one still has its own.
        true => slots.count().saturating_sub(1).max(slots.count().min(2)),
        false => MAX_CONNECTIONS,
    };
    least.max(gateways.min(most).min(MAX_CONNECTIONS))
}

/// The most that may be configured.
const MAX_CONNECTIONS: usize = 16;

/// Each connection needs a number.
fn check_slots(
    slots: SlotRange,
    connections: usize,
    forwards: &[ForwardTemplate],
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) {
    if needs_slots(forwards) && slots.count() < connections {
        let text = format!(
            "{slots} has {} numbers for {connections} connections, and each connection needs one; two for each are best, like \"{}\"",
            slots.count(),
            SlotRange::for_connections(connections)
        );
        section.error_at("slots", "connections", text, problems);
    }
}

fn needs_slots(forwards: &[ForwardTemplate]) -> bool {
    forwards.iter().any(|forward| forward.bind.has_slot())
}

fn identity(
    raw: &raw::RawTunnel,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<SshIdentity> {
    let file = files.locate_secret(section, "identity_file", &raw.identity_file, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(SshIdentity::ephemeral());
    }
    let passphrase = match &raw.identity_passphrase_file {
        Some(name) => {
            Some(files.read_secret(section, "identity_passphrase_file", name, problems)?)
        }
        None => None,
    };
    let identity = SshIdentity::load(&file, passphrase.as_ref());
    let identity = section.value_or_error("identity_file", identity, problems)?;
    let shown = identity.public_form();
    files.recorder.note(file.path(), shown.as_bytes());
    Some(identity)
}

fn host_keys(
    fingerprints: Vec<String>,
    known_hosts: Option<String>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<HostKeys> {
    if fingerprints.is_empty() && known_hosts.is_none() {
        let text = "no host key, so no gateway can be trusted; list the fingerprints from your vendor, like [\"SHA256:…\"], or set known_hosts_file";
        section.error("host_keys", text, problems);
        return None;
    }
    let known_hosts = match known_hosts {
        Some(name) => Some(files.read_text(section, "known_hosts_file", &name, problems)?),
        None => None,
    };
    let content = known_hosts
        .as_ref()
        .map(|(path, text)| (path.as_path(), text.as_str()));
    match HostKeys::new(fingerprints, content) {
        Ok(keys) => Some(keys),
        Err(error) => {
            let key = match error {
                HostKeyError::BadLine { .. } => "known_hosts_file",
                HostKeyError::BadFingerprint(_) | HostKeyError::Nothing => "host_keys",
            };
            section.error_at(key, "known_hosts_file", error.to_string(), problems);
            None
        }
    }
}

fn transport(
    raw: raw::RawTransport,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> tunnel::transport::TransportLimits {
    if raw.low_mark >= raw.high_mark {
        let text = format!(
            "{} is not less than high_mark ({}); half of it is a good value",
            raw.low_mark, raw.high_mark
        );
        section.error_at("low_mark", "high_mark", text, problems);
    }
    if raw.cap <= raw.high_mark {
        let text = format!(
            "{} is not more than high_mark ({}); make it several times as large",
            raw.cap, raw.high_mark
        );
        section.error_at("cap", "high_mark", text, problems);
    }
    tunnel::transport::TransportLimits {
        high_mark: raw.high_mark.as_usize(),
        low_mark: raw.low_mark.as_usize(),
        cap: raw.cap.as_usize(),
        read_buffer: raw.read_buffer.as_usize(),
        shutdown_grace: raw.shutdown_grace.0,
    }
}

fn channel(
    raw: raw::RawChannel,
    section: &MergedSection<'_>,
    files: &FileResolver,
    state_dir: &Path,
    problems: &mut ConfigProblems,
) -> tunnel::channel::ChannelLimits {
    if raw.memory_per_session < raw.memory {
        let text = format!(
            "{} is less than memory ({}), the limit of one channel; increase it",
            raw.memory_per_session, raw.memory
        );
        section.error_at("memory_per_session", "memory", text, problems);
    }
    if raw.spool_per_session < raw.memory_per_session {
        let text = format!(
            "{} is less than memory_per_session ({}), which it includes; increase it",
            raw.spool_per_session, raw.memory_per_session
        );
        section.error_at("spool_per_session", "memory_per_session", text, problems);
    }
    let spool_dir = match &raw.spool_dir {
        Some(folder) => {
            let folder = files.resolve(folder);
            // In the state folder the agent creates it.
            if !folder.is_dir() && !folder.starts_with(state_dir) {
                let text = format!("{} is not a folder; create it", folder.display());
                section.error("spool_dir", text, problems);
            }
            folder
        }
        None => state_dir.join("spool"),
    };
    tunnel::channel::ChannelLimits {
        memory: raw.memory.as_usize(),
        window: raw
            .window
            .map(|window| u32::try_from(window.0).unwrap_or(u32::MAX)),
        memory_per_session: raw.memory_per_session.as_usize(),
        memory_per_process: raw.memory_per_process.as_usize(),
        spool_per_channel: raw.spool_per_channel.0,
        spool_per_session: raw.spool_per_session.0,
        spool_per_process: raw.spool_per_process.0,
        spool_floor: FreeSpaceFloor {
            bytes: raw.spool_min_free.0,
            ..tunnel::channel::ChannelLimits::default().spool_floor
        },
        spool_dir,
        close_wait: raw.close_wait.0,
        discard: raw.discard.0,
        spool_timeout: raw.spool_timeout.0,
    }
}

/// The value of `congestion_control` that leaves it to the kernel.
const SYSTEM: &str = "system";
