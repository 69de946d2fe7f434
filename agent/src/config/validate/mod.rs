//! From the raw values to the types of the other rooms, which cannot hold a wrong value. Collects all problems instead
//! of stopping at the first.

mod auth;
mod cloud;
mod egress;
mod forward;
mod oauth1;
mod oauth2;
mod outlet;
mod outlet_store;
mod service;
mod tunnel;

use super::{
    Config, ConfigFingerprint, ForwardConfig,
    files::FileResolver,
    merged::{MergedConfig, MergedSection},
    problem::ConfigProblems,
    raw,
};
use crate::{
    audit,
    disk::FreeSpaceFloor,
    telemetry,
    tunnel::{ForwardTemplate, SlotRange},
    upstream::{HttpTarget, UpstreamTarget},
};
use forward::forward;
pub(super) use forward::{HTTP_SECTIONS, TLS_KEYS};
use std::{path::Path, sync::Arc};

/// The whole configuration. `None` after a problem, which is reported.
pub(super) fn config(
    raw: raw::RawConfig,
    merged: &MergedConfig,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Config> {
    let before = problems.len();
    let top = merged.top();
    let state_dir = files.resolve(&raw.state_dir);
    let mut forwards = Vec::with_capacity(raw.forward.len());
    for (index, raw) in raw.forward.into_iter().enumerate() {
        let section = merged.forward(index);
        forwards.extend(forward(raw, &section, files, &state_dir, problems));
    }
    let mut outlets = Vec::with_capacity(raw.outlet.len());
    for (index, raw) in raw.outlet.into_iter().enumerate() {
        let section = merged.entry("outlet", index);
        outlets.extend(outlet::outlet(raw, &section, files, problems));
    }
    outlet::check_distinct(&outlets, merged, problems);
    let remote = |forward: &ForwardConfig| ForwardTemplate {
        name: Arc::clone(&forward.name),
        bind: forward.bind.clone(),
    };
    let remote = forwards.iter().map(remote).collect();
    let section = top.section("tunnel");
    let written = raw.tunnel.clone();
    files.recorder.take();
    let tunnel = tunnel::tunnel(raw.tunnel, remote, &section, files, &state_dir, problems);
    let slots = tunnel.as_ref().map(|tunnel| tunnel.slots);
    check_binds(&forwards, slots.unwrap_or_default(), merged, problems);
    let tunnel_fingerprint = ConfigFingerprint::of_tunnel(&written, files.recorder.take());
    let inward = forwards.iter().map(|f| f.http.max_concurrent);
    let outward = outlets.iter().map(|o| o.settings.http.max_concurrent);
    let in_flight = inward.chain(outward).sum();
    let audit = audit(
        raw.audit,
        &top.section("audit"),
        &state_dir,
        in_flight,
        problems,
    );
    let log = log(raw.log, &top.section("log"), problems);
    if problems.len() > before {
        return None;
    }
    Some(Config {
        tunnel: Arc::new(tunnel?),
        tunnel_fingerprint,
        forwards,
        outlets,
        audit: audit?,
        log: log?,
        state_dir,
        runtime_dir: files.resolve(&raw.runtime_dir),
    })
}

/// `in_flight`: requests that all forwards may have in flight.
fn audit(
    raw: raw::RawAudit,
    section: &MergedSection<'_>,
    state_dir: &Path,
    in_flight: usize,
    problems: &mut ConfigProblems,
) -> Option<audit::Settings> {
    if raw.required && raw.sink == raw::RawSink::Off {
        let text = "true with sink = \"off\" would refuse every request; set another sink, or remove this key";
        section.error_at("required", "sink", text, problems);
        return None;
    }
    if raw.required && (raw.queue as usize) < in_flight {
        let text = format!(
            "{} is less than the {in_flight} requests that the forwards may have in flight (max_concurrent), and required reserves a place for each; increase it",
            raw.queue
        );
        section.error_at("queue", "required", text, problems);
        return None;
    }
    let sink = match (raw.sink, raw.file) {
        (raw::RawSink::File, Some(path)) if path.is_absolute() => audit::SinkSetting::File(path),
        (raw::RawSink::File, Some(_)) => {
            let text =
                "not an absolute path; write it like \"/var/log/jira-tunnel-agent/audit.jsonl\"";
            section.error("file", text, problems);
            return None;
        }
        (raw::RawSink::File, None) => {
            let text = "required with sink = \"file\"; name the file, like \"/var/log/jira-tunnel-agent/audit.jsonl\"";
            section.error_at("file", "sink", text, problems);
            return None;
        }
        (_, Some(_)) => {
            section.error(
                "file",
                "only used with sink = \"file\"; set that, or remove this key",
                problems,
            );
            return None;
        }
        (raw::RawSink::Auto, None) => audit::SinkSetting::Auto {
            fallback: state_dir.join("audit.log"),
        },
        (raw::RawSink::Journal, None) => audit::SinkSetting::Journal,
        (raw::RawSink::Off, None) => audit::SinkSetting::Off,
    };
    Some(audit::Settings {
        sink,
        queue: raw.queue as usize,
        required: raw.required,
        floor: FreeSpaceFloor {
            bytes: raw.min_free.0,
            parts: AUDIT_DISK_PARTS,
        },
    })
}

fn log(
    raw: raw::RawLog,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<telemetry::Settings> {
    section.value_or_error("level", telemetry::parse_level(&raw.level), problems)?;
    Some(telemetry::Settings {
        level: raw.level,
        format: match raw.format {
            raw::RawLogFormat::Auto => telemetry::LogLineFormat::Auto,
            raw::RawLogFormat::Human => telemetry::LogLineFormat::Human,
            raw::RawLogFormat::Json => telemetry::LogLineFormat::Json,
            raw::RawLogFormat::Journald => telemetry::LogLineFormat::Journald,
        },
    })
}

/// Parses a URL that receives `secret`: https, unless the upstream itself is unencrypted.
fn url_for_secret(text: &str, upstream: &HttpTarget, secret: &str) -> Result<HttpTarget, String> {
    match text.parse::<UpstreamTarget>() {
        Ok(UpstreamTarget::Http(url)) if !url.tls && upstream.tls => Err(format!(
            "would send the {secret} unencrypted, although upstream uses https://; write https://"
        )),
        Ok(UpstreamTarget::Http(url)) => Ok(url),
        Ok(UpstreamTarget::Tcp { .. }) => Err("expected an https:// URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Every slot must have an address, and two forwards cannot listen at the same one; several may let the gateway choose.
fn check_binds(
    forwards: &[ForwardConfig],
    slots: SlotRange,
    merged: &MergedConfig,
    problems: &mut ConfigProblems,
) {
    for (index, forward) in forwards.iter().enumerate() {
        let section = || merged.forward(merged.position(&forward.name));
        if let Err(error) = forward.bind.check(slots) {
            section().error("bind", error.to_string(), problems);
            continue;
        }
        let first = forwards[..index]
            .iter()
            .find(|other| other.bind.overlaps(&forward.bind, slots));
        if let Some(first) = first {
            let text = match first.bind == forward.bind {
                true => format!(
                    "{} is already the bind of forward {:?}; give each its own port or path",
                    forward.bind, first.name
                ),
                false => format!(
                    "{} and the bind of forward {:?}, {}, have an address in common in the slots {slots}; give each its own ports or paths",
                    forward.bind, first.name, first.bind
                ),
            };
            section().error("bind", text, problems);
        }
    }
}

/// On a small disk the audit leaves half of what the spool leaves free, so that the spool stops first.
const AUDIT_DISK_PARTS: u64 = 20;
