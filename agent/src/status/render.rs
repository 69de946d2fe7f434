//! The status as a table for a person.

use super::{
    AuditReport, ConnectionView, ForwardReport, LayerReport, LayerState, OverallState, PlaceState,
    QueueReport, StatusReport, UpgradeReport, UpgradeState,
    layout::{bytes, count, duration, wrapped},
};
use crate::{expiry::ExpiryUrgency, pause::PauseRecord};
use std::{fmt::Write, io::IsTerminal, time::Duration};

/// Whether to use color: only on a terminal, and not if `NO_COLOR` is set or `TERM` is `dumb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorMode {
    /// Print with ANSI colors.
    Yes,
    /// Print plain text, without colors.
    No,
}

impl ColorMode {
    /// The mode for this process's standard output.
    pub fn on_stdout() -> Self {
        match std::io::stdout().is_terminal() && crate::telemetry::color_wanted() {
            true => Self::Yes,
            false => Self::No,
        }
    }

    /// Colors text for what works.
    pub fn green(self, text: &str) -> String {
        self.paint(text, GREEN)
    }

    /// Colors text for what works, but not as it should.
    pub fn yellow(self, text: &str) -> String {
        self.paint(text, YELLOW)
    }

    /// Colors text for what does not work.
    pub fn red(self, text: &str) -> String {
        self.paint(text, RED)
    }

    fn paint(self, text: &str, style: &str) -> String {
        match self {
            Self::Yes if !style.is_empty() => format!("\x1b[{style}m{text}\x1b[0m"),
            Self::Yes | Self::No => text.to_owned(),
        }
    }
}

/// The table that `agent status` prints, with lines of any length.
pub fn render(report: &StatusReport, color: ColorMode) -> String {
    render_within(report, color, None)
}

/// The same table for a terminal of `width` columns: longer lines are wrapped and keep their indentation.
pub fn render_within(report: &StatusReport, color: ColorMode, width: Option<usize>) -> String {
    let mut page = StatusTable {
        text: String::new(),
        color,
        width,
    };
    page.heading(report);
    page.layers(report);
    page.connections(report);
    page.forwards(report);
    page.outlets(report);
    page.credentials(report);
    page.configuration(report);
    let (spool, state_folder) = (&report.spool, &report.state_folder);
    page.folder("spool", spool.state, &spool.cause, &spool.remedy);
    page.folder(
        "state folder",
        state_folder.state,
        &state_folder.cause,
        &state_folder.remedy,
    );
    let descriptors = &report.descriptors;
    page.folder(
        "descriptors",
        descriptors.state,
        &descriptors.cause,
        &descriptors.remedy,
    );
    page.audit(&report.audit);
    page.text
}

/// The traffic between two reports of the same agent, `later` apart: `agent status --watch` shows it below the second.
/// `None`: they are not of the same run.
pub fn render_rates(before: &StatusReport, now: &StatusReport, later: Duration) -> Option<String> {
    let seconds = later.as_secs_f64();
    if before.agent.pid != now.agent.pid || seconds <= 0.0 {
        return None;
    }
    let mut text = format!("\nin the last {}\n", duration(seconds));
    for forward in &now.forwards {
        let former = before.forwards.iter().find(|f| f.name == forward.name);
        let requests = forward
            .requests
            .saturating_sub(former.map_or(0, |former| former.requests));
        let _ = writeln!(
            text,
            "  {}  {} ({:.1} a second)",
            forward.name,
            count(requests, "request"),
            requests as f64 / seconds
        );
    }
    let moved = |of: fn(&ConnectionView) -> u64| -> u64 {
        let each = now.connections.iter().map(|c| {
            let same = |b: &&ConnectionView| (b.index, b.generation) == (c.index, c.generation);
            let former = before.connections.iter().find(same);
            of(c).saturating_sub(former.map_or(0, of))
        });
        each.sum()
    };
    let (received, sent) = (moved(|c| c.bytes_received), moved(|c| c.bytes_sent));
    let rate = |n: u64| bytes((n as f64 / seconds) as u64);
    let _ = writeln!(
        text,
        "  tunnel  {} in ({} a second)  {} out ({} a second)",
        bytes(received),
        rate(received),
        bytes(sent),
        rate(sent)
    );
    Some(text)
}

/// The warning about a gateway without strict key exchange, which is accepted.
pub(crate) const NOT_STRICT: &str = "the gateway has no strict key exchange: an attacker on the path can drop the first packets of a session undetected (CVE-2023-48795)";
/// What to do about it.
pub(crate) const NOT_STRICT_REMEDY: &str =
    "ask the vendor to update its SSH server (OpenSSH 9.6 or later has it)";

/// Selects one layer of a forward.
type LayerSelector = fn(&ForwardReport) -> &LayerReport;

struct StatusTable {
    text: String,
    color: ColorMode,
    width: Option<usize>,
}

impl StatusTable {
    fn heading(&mut self, report: &StatusReport) {
        let (word, style) = match report.overall {
            OverallState::Proven => ("PROVEN", GREEN),
            OverallState::Degraded => ("DEGRADED", YELLOW),
            OverallState::Down => ("DOWN", RED),
        };
        let word = self.paint(word, style);
        let draining = if report.agent.draining {
            ", draining"
        } else {
            ""
        };
        self.line(&format!(
            "jira-tunnel-agent {}  pid {}  up {}{draining}  {word}\n",
            report.agent.version,
            report.agent.pid,
            match report.agent.uptime_seconds {
                few @ 0..10 => format!("{few} s"),
                more => duration(more as f64),
            },
        ));
    }

    fn layers(&mut self, report: &StatusReport) {
        let layers = &report.layers;
        self.layer("  ", "network", &layers.network);
        let of_forwards: [(_, _, LayerSelector); 3] = [
            ("tunnel", &layers.tunnel, |forward| &forward.tunnel),
            ("jira", &layers.jira, |forward| &forward.jira),
            ("login", &layers.login, |forward| &forward.login),
        ];
        for (name, layer, of) in of_forwards {
            if report.forwards.len() < 2 || is_fine(layer) {
                self.layer("  ", name, layer);
                continue;
            }
            // Cause and remedy are shown once, at the forward itself.
            let unproven = report
                .forwards
                .iter()
                .filter(|forward| !is_fine(of(forward)));
            let names: Vec<_> = unproven.map(|forward| &*forward.name).collect();
            let summary = LayerReport {
                detail: Some(format!("see below: {}", names.join(", "))),
                cause: None,
                remedy: None,
                ..layer.clone()
            };
            self.layer("  ", name, &summary);
        }
    }

    fn connections(&mut self, report: &StatusReport) {
        self.line("\nconnections");
        for c in &report.connections {
            let rtt = c
                .rtt_ms
                .map(|ms| format!("  round trip {ms:.1} ms"))
                .unwrap_or_default();
            let via = c.via.as_deref().map(|proxy| format!(" via {proxy}"));
            // A name may have several addresses.
            let address = c.address.as_deref().filter(|one| !c.gateway.contains(one));
            let via = via.or_else(|| address.map(|address| format!(" ({address})")));
            self.line(&format!(
                "  {}  {}@{}{}  {} for {}{rtt}  {}  {} in  {} out",
                c.index,
                c.user,
                c.gateway,
                via.unwrap_or_default(),
                c.phase,
                duration(c.since_seconds),
                count(c.channels as u64, "channel"),
                bytes(c.bytes_received),
                bytes(c.bytes_sent),
            ));
            let summary = &report.layers;
            for (name, layer, above) in [
                ("network", &c.network, Some(&summary.network)),
                // With several forwards, the summary above names only the forward.
                (
                    "tunnel",
                    &c.tunnel,
                    (report.forwards.len() < 2).then_some(&summary.tunnel),
                ),
            ] {
                // With a single connection, the summary above shows the same.
                let shown_above = report.connections.len() == 1
                    && above.is_some_and(|above| {
                        (above.state, &above.cause) == (layer.state, &layer.cause)
                    });
                if layer.state != LayerState::Proven && !shown_above {
                    self.layer("     ", name, layer);
                }
            }
            if c.strict_key_exchange == Some(false) {
                let word = self.paint("WARNING", YELLOW);
                self.line(&format!("     {word}   {NOT_STRICT}"));
                self.line(&format!("       remedy: {NOT_STRICT_REMEDY}"));
            }
            if let Some(seconds) = c.next_retry_seconds {
                self.line(&format!("     next attempt in {}", duration(seconds)));
            }
        }
    }

    fn forwards(&mut self, report: &StatusReport) {
        self.line("\nforwards");
        for f in &report.forwards {
            let bound = match f.bound.as_slice() {
                [] => format!("{} (not bound)", f.bind),
                [one] => one.clone(),
                [one, more @ ..] => format!("{one} (on {} connections)", more.len() + 1),
            };
            self.line(&format!(
                "  {}  {bound} -> {}  login {}  {}, {} in progress",
                f.name,
                f.upstream,
                f.auth_mode,
                count(f.requests, "request"),
                f.in_flight
            ));
            if let Some(file) = &f.profile_file {
                self.line(&format!(
                    "      service {}, by your own profile {file}",
                    f.service
                ));
            } else if f.service != crate::profile::JIRA_NAME {
                self.line(&format!("      service {}", f.service));
            }
            if let Some(pause) = &f.paused {
                self.paused(pause);
            }
            self.places(&report.connections, &f.name);
            self.protection(f);
            if report.forwards.len() > 1 {
                for layer in [
                    ("tunnel", &f.tunnel),
                    ("jira", &f.jira),
                    ("login", &f.login),
                ] {
                    self.layer("     ", layer.0, layer.1);
                }
            }
        }
    }

    fn outlets(&mut self, report: &StatusReport) {
        if report.outlets.is_empty() {
            return;
        }
        self.line("\noutlets");
        for outlet in &report.outlets {
            self.line(&format!(
                "  {}  {} -> {}  mode {}  {}, {} in progress",
                outlet.name,
                outlet.listen,
                outlet.to,
                outlet.mode,
                count(outlet.requests, "request"),
                outlet.in_flight
            ));
            if let Some(pause) = &outlet.paused {
                self.paused(pause);
            }
            self.layer("     ", "listener", &outlet.listener);
            self.layer("     ", "vendor", &outlet.vendor);
            if let Some(queue) = &outlet.queue {
                self.queue(&outlet.name, queue);
            }
        }
    }

    fn queue(&mut self, outlet: &str, queue: &QueueReport) {
        let word = self.state_word(queue.state);
        let used = match (queue.events, queue.oldest_seconds) {
            (0, _) => String::from("empty"),
            (events, oldest) => {
                let oldest = oldest.map(|age| format!(", the oldest for {}", duration(age)));
                let verb = if events == 1 { "waits" } else { "wait" };
                format!(
                    "{} {verb}{} ({} of {})",
                    count(events, "event"),
                    oldest.unwrap_or_default(),
                    bytes(queue.bytes),
                    bytes(queue.max_bytes)
                )
            }
        };
        // The cause says why a queue that is not open holds nothing.
        let used = if queue.max_bytes == 0 { "" } else { &used };
        self.line(format!("     {:<8} {word} {used}", "queue").trim_end());
        if let Some(cause) = &queue.cause {
            self.line(&format!("              cause:  {cause}"));
        }
        if let Some(remedy) = &queue.remedy {
            self.line(&format!("              remedy: {remedy}"));
        }
        if let Some(forecast) = &queue.forecast {
            let word = self.paint("WARNING", YELLOW);
            self.line(&format!("              {word} {forecast}"));
        }
        if let Some(error) = queue.last_error.as_ref().filter(|_| queue.events > 0) {
            let next = queue.next_attempt.as_ref();
            let next = next.map(|at| format!("; next attempt at {at}"));
            self.line(&format!(
                "              last attempt failed: {error}{}",
                next.unwrap_or_default()
            ));
        }
        if queue.dead_letters > 0 {
            self.line(&format!(
                "              {}: agent events --outlet {outlet} --dead",
                count(queue.dead_letters, "dead letter")
            ));
        }
    }

    /// The places of a forward that no request has proven.
    fn places(&mut self, connections: &[ConnectionView], forward: &str) {
        for connection in connections {
            let views = connection.forwards.iter();
            for view in views.filter(|view| view.name == forward) {
                let (word, rest) = match (view.proof, &view.unproven) {
                    (Some(PlaceState::Granted), Some(why)) => (
                        String::from("granted"),
                        format!(", not proven by a request: {why}"),
                    ),
                    (Some(PlaceState::Taken), _) => (self.paint("TAKEN", RED), String::new()),
                    (Some(PlaceState::Lost), _) => (self.paint("LOST", RED), String::new()),
                    (
                        Some(PlaceState::Granted | PlaceState::Proven | PlaceState::Shared) | None,
                        _,
                    ) => continue,
                };
                let place = view.bound.as_ref().unwrap_or(&view.bind);
                let index = connection.index;
                self.line(&format!("     {place} of connection {index}: {word}{rest}"));
            }
        }
    }

    /// Shown only if somebody has to act.
    fn configuration(&mut self, report: &StatusReport) {
        let configuration = &report.configuration;
        if let Some(refused) = &configuration.refused {
            let word = self.paint("REFUSED", YELLOW);
            self.line(&format!(
                "\nconfiguration: {word} at {}; the agent uses the one loaded at {}",
                refused.time, configuration.loaded
            ));
            for problem in &refused.problems {
                self.line(&format!("  {problem}"));
            }
            self.line("  remedy: correct the files, then: agent reload");
        }
        match &report.upgrade {
            Some(upgrade) if upgrade.state == UpgradeState::Failed => {
                let word = self.paint("FAILED", YELLOW);
                let version = version_of(upgrade);
                let (since, own) = (&upgrade.since, &report.agent.version);
                self.line(&format!(
                    "\nupgrade: {word} at {since}: the new process{version} did not take over; this one, version {own}, keeps serving"
                ));
                for (name, text) in [("cause", &upgrade.cause), ("remedy", &upgrade.remedy)] {
                    if let Some(text) = text {
                        self.line(&format!("  {name}: {text}"));
                    }
                }
            }
            Some(upgrade) if upgrade.state == UpgradeState::InProgress => self.line(&format!(
                "\nupgrade: since {} a new process proves its own sessions",
                upgrade.since
            )),
            Some(upgrade) => self.line(&format!(
                "\nupgrade: the process before this one finishes its requests since {}",
                upgrade.since
            )),
            None => {}
        }
        if !configuration.restart.is_empty() {
            self.line(&format!(
                "\nconfiguration: {} changed; to apply it: systemctl restart jira-tunnel-agent",
                configuration.restart.join(", ")
            ));
        }
    }

    /// Shown only while something keeps requests from Jira.
    fn protection(&mut self, forward: &ForwardReport) {
        let protection = &forward.protection;
        let tool = crate::profile::title_of(&forward.service);
        if protection.breaker_open {
            let word = self.paint("HELD BACK ", YELLOW);
            self.line(&format!(
                "     {word}{tool} does not answer: requests fail at once until a trial is answered"
            ));
        }
        if protection.held > 0 {
            let word = self.paint("HELD BACK ", YELLOW);
            self.line(&format!(
                "     {word}{} that {tool} asked for, the last for {}",
                count(protection.held, "pause"),
                duration(protection.held_seconds)
            ));
        }
        if protection.queued > 0 {
            self.line(&format!(
                "     {} with {tool} (at most {} now), {} queued",
                count(protection.with_jira, "request"),
                protection.concurrency_limit,
                protection.queued
            ));
        }
    }

    fn paused(&mut self, pause: &PauseRecord) {
        let by = match pause.by_uid {
            Some(uid) => format!("by uid {uid}"),
            None => "by the agent itself".to_owned(),
        };
        let reason = pause.reason.as_deref().unwrap_or("no reason given");
        let word = self.paint("PAUSED    ", YELLOW);
        self.line(&format!("     {word}since {} {by}: {reason}", pause.since));
        self.line("               remedy: agent resume");
    }

    fn credentials(&mut self, report: &StatusReport) {
        if report.credentials.is_empty() {
            return;
        }
        self.line("\ncredentials");
        for c in &report.credentials {
            let (word, style) = match c.urgency {
                ExpiryUrgency::None => ("", PLAIN),
                ExpiryUrgency::Within30Days | ExpiryUrgency::Within14Days => ("WARNING   ", YELLOW),
                ExpiryUrgency::Within7Days | ExpiryUrgency::Over => ("WARNING   ", RED),
            };
            let word = self.paint(word, style);
            let holder = c.forward.as_deref().unwrap_or("tunnel");
            self.line(&format!("  {holder}  {word}{}", c.summary));
            if let Some(remedy) = &c.remedy {
                self.line(&format!("           remedy: {remedy}"));
            }
        }
    }

    /// Shown only if somebody has to act.
    fn folder(
        &mut self,
        name: &str,
        state: LayerState,
        cause: &Option<String>,
        remedy: &Option<String>,
    ) {
        if state != LayerState::Degraded {
            return;
        }
        self.line(&format!("\n{name}"));
        let word = self.paint("DEGRADED  ", YELLOW);
        let cause = cause.as_deref().unwrap_or_default();
        self.line(&format!("  {word}{cause}"));
        if let Some(remedy) = remedy {
            self.line(&format!("            remedy: {remedy}"));
        }
    }

    fn audit(&mut self, audit: &AuditReport) {
        if audit.state == LayerState::Unknown && audit.sink.is_empty() {
            // An agent of an earlier version, which does not report its sink.
            return;
        }
        self.line("\naudit");
        let dropped = match audit.dropped {
            0 => String::new(),
            dropped => format!(", {dropped} DROPPED"),
        };
        let reason = match audit.sink_reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        self.line(&format!("  to {}{reason}", audit.sink));
        self.line(&format!("  records: {} written{dropped}", audit.written));
        let (word, style) = match audit.state {
            LayerState::Failed => ("FAILED    ", RED),
            LayerState::Degraded => ("DEGRADED  ", YELLOW),
            LayerState::Proven | LayerState::Unknown | LayerState::NotApplicable => return,
        };
        let word = self.paint(word, style);
        let cause = audit.cause.as_deref().unwrap_or_default();
        self.line(&format!("  {word}{cause}"));
        if let Some(remedy) = &audit.remedy {
            self.line(&format!("            remedy: {remedy}"));
        }
    }

    fn layer(&mut self, indent: &str, name: &str, layer: &LayerReport) {
        let word = self.state_word(layer.state);
        let age = match (layer.proven_seconds_ago, layer.state) {
            (Some(age), LayerState::Proven) => format!("{} ago", duration(age)),
            (Some(age), _) => format!("last proven {} ago", duration(age)),
            (None, LayerState::NotApplicable) => String::new(),
            (None, _) => "never proven".to_owned(),
        };
        let detail = layer.detail.as_deref().unwrap_or_default();
        self.line(format!("{indent}{name:<8} {word} {age:<15}  {detail}").trim_end());
        if let Some(cause) = &layer.cause {
            self.line(&format!("{indent}         cause:  {cause}"));
        }
        if let Some(remedy) = &layer.remedy {
            self.line(&format!("{indent}         remedy: {remedy}"));
        }
    }

    fn line(&mut self, text: &str) {
        let _ = match self.width {
            Some(width) => writeln!(self.text, "{}", wrapped(text, width)),
            None => writeln!(self.text, "{text}"),
        };
    }

    /// Nine columns wide.
    fn state_word(&self, state: LayerState) -> String {
        let (word, style) = match state {
            LayerState::Proven => ("proven", GREEN),
            LayerState::Degraded => ("degraded", YELLOW),
            LayerState::Failed => ("FAILED", RED),
            LayerState::Unknown => ("unknown", YELLOW),
            LayerState::NotApplicable => ("n/a", PLAIN),
        };
        self.paint(&format!("{word:<9}"), style)
    }

    fn paint(&self, text: &str, style: &str) -> String {
        self.color.paint(text, style)
    }
}

fn is_fine(layer: &LayerReport) -> bool {
    matches!(layer.state, LayerState::Proven | LayerState::NotApplicable)
}

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const PLAIN: &str = "";

fn version_of(upgrade: &UpgradeReport) -> String {
    let version = upgrade.version.as_ref();
    version.map_or_else(String::new, |version| format!(", version {version},"))
}
