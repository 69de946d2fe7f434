//! The status in one line, for `systemctl status`.

use super::{LayerReport, LayerState, OverallState, StatusReport, UpgradeState};
use crate::{printable::is_printable, profile::title_of};

/// The overall state and its cause: one line of at most 200 characters.
pub fn headline(report: &StatusReport) -> String {
    let word = match report.overall {
        OverallState::Proven => "proven",
        OverallState::Degraded => "degraded",
        OverallState::Down => "down",
    };
    let why = if report.agent.draining {
        "draining, requests in progress finish".to_owned()
    } else {
        why(report)
    };
    // First, since a long line is truncated.
    let refused = match report.configuration.refused {
        Some(_) => " (the changed configuration was refused; see agent status)",
        None => "",
    };
    let failed = match &report.upgrade {
        Some(upgrade) if upgrade.state == UpgradeState::Failed => {
            " (the upgrade failed; see agent status)"
        }
        Some(_) | None => "",
    };
    let line = format!("{word}{refused}{failed}: {why}");
    line.chars()
        .map(|c| if is_printable(c) { c } else { ' ' })
        .take(MAX_LENGTH)
        .collect()
}

fn why(report: &StatusReport) -> String {
    let l = &report.layers;
    let audit = |state| {
        let cause = report.audit.cause.as_deref();
        let cause = cause.filter(|_| report.audit.state == state);
        cause.map(|cause| format!("audit: {cause}"))
    };
    let layers = [
        ("network", &l.network),
        ("tunnel", &l.tunnel),
        ("jira", &l.jira),
        ("login", &l.login),
    ];
    let find = |state| layers.iter().find(move |(_, layer)| layer.state == state);
    if let Some((name, layer)) = find(LayerState::Failed) {
        return describe_layer(name, layer);
    }
    if let Some(audit) = audit(LayerState::Failed) {
        return audit;
    }
    if let Some(forward) = report.forwards.iter().find(|f| f.paused.is_some()) {
        return format!("{} is paused; to resume: agent resume", forward.name);
    }
    let outlets = || report.outlets.iter();
    let broken = outlets().flat_map(|o| [(o, "listener", &o.listener), (o, "vendor", &o.vendor)]);
    let mut broken = broken.filter(|(_, _, layer)| layer.state == LayerState::Failed);
    if let Some((outlet, name, layer)) = broken.next() {
        return describe_layer(&format!("outlet {} {name}", outlet.name), layer);
    }
    let queue = |state| {
        let mut queues = outlets().filter_map(|outlet| Some((outlet, outlet.queue.as_ref()?)));
        let (outlet, queue) = queues.find(|(_, queue)| queue.state == state)?;
        let cause = queue.cause.as_deref().unwrap_or("not open yet");
        Some(format!("outlet {} queue: {cause}", outlet.name))
    };
    if let Some(failed) = queue(LayerState::Failed) {
        return failed;
    }
    if let Some(outlet) = outlets().find(|o| o.paused.is_some()) {
        return format!("outlet {} is paused; to resume: agent resume", outlet.name);
    }
    let unproven = find(LayerState::Degraded).or_else(|| find(LayerState::Unknown));
    if let Some((name, layer)) = unproven {
        return describe_layer(name, layer);
    }
    if let Some(audit) = audit(LayerState::Degraded) {
        return audit;
    }
    if let Some(degraded) = queue(LayerState::Degraded) {
        return degraded;
    }
    if let (LayerState::Degraded, Some(cause)) = (report.spool.state, &report.spool.cause) {
        return format!("spool: {cause}");
    }
    let state_folder = &report.state_folder;
    if let (LayerState::Degraded, Some(cause)) = (state_folder.state, &state_folder.cause) {
        return format!("state folder: {cause}");
    }
    let descriptors = &report.descriptors;
    if let (LayerState::Degraded, Some(cause)) = (descriptors.state, &descriptors.cause) {
        return format!("descriptors: {cause}");
    }
    match report.overall {
        OverallState::Proven => format!("network, tunnel, {} and login", tools(report)),
        OverallState::Degraded | OverallState::Down => {
            "not every connection is proven; see agent status".to_owned()
        }
    }
}

/// What is behind the forwards, each once.
fn tools(report: &StatusReport) -> String {
    let mut titles: Vec<&str> = Vec::new();
    for forward in &report.forwards {
        let title = title_of(&forward.service);
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    match titles.is_empty() {
        true => "Jira".to_owned(),
        false => titles.join(", "),
    }
}

fn describe_layer(name: &str, layer: &LayerReport) -> String {
    let cause = layer.cause.as_deref().unwrap_or("not proven yet");
    format!("{name}: {cause}")
}

/// Characters of the line.
const MAX_LENGTH: usize = 200;
