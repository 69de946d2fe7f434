//! The snapshot as one HTML page without scripts.

use super::{AgentStatus, ForwardStatus, GatewaySnapshot, SessionStatus};
use maud::{DOCTYPE, Markup, html};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn html(snapshot: &GatewaySnapshot) -> String {
    let online = snapshot.agents.iter().filter(|agent| agent.online).count();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                meta http-equiv="refresh" content="5";
                title { "Gateway: " (online) " of " (snapshot.agents.len()) " agents online" }
                style { (STYLE) }
            }
            body {
                h1 { "Gateway" }
                p {
                    "SSH on " code { (snapshot.ssh) } ", host key " code { (snapshot.host_key) }
                    ", HTTP on " code { (snapshot.http) } ", up for " (since(snapshot.started_at)) ". "
                    "The same as JSON: " a href="/status.json" { "/status.json" } "."
                }
                @if snapshot.agents.is_empty() {
                    p { "No agent has connected since the start." }
                }
                @for agent in &snapshot.agents { (section(agent)) }
            }
        }
    }
    .into_string()
}

fn section(agent: &AgentStatus) -> Markup {
    html! {
        h2 {
            (agent.name) " "
            @if agent.online { span.online { "online" } } @else { span.offline { "offline" } }
        }
        p {
            a href=(agent.url) { (agent.url) }
            ", " (bytes(agent.bytes_from_agent)) " from it, " (bytes(agent.bytes_to_agent)) " to it"
            @if let Some(left) = agent.left_at { ", last seen " (since(left)) " ago" }
        }
        @if !agent.forwards.is_empty() { (forwards(&agent.forwards)) }
        @if !agent.sessions.is_empty() { (sessions(&agent.sessions)) }
    }
}

fn forwards(forwards: &[ForwardStatus]) -> Markup {
    html! {
        table {
            thead { tr {
                th { "forward" } th { "called as" } th { "sessions" } th { "channels" } th { "idle" }
                th { "opened" } th { "requests" } th { "from agent" } th { "to agent" }
            } }
            @for forward in forwards { tr {
                td { code { (forward.bind) } }
                td { (forward.url) }
                td { (forward.sessions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")) }
                td { (forward.channels) }
                td { (forward.idle) }
                td { (forward.opened) }
                td { (forward.requests) }
                td { (bytes(forward.bytes_from_agent)) }
                td { (bytes(forward.bytes_to_agent)) }
            } }
        }
    }
}

fn sessions(sessions: &[SessionStatus]) -> Markup {
    html! {
        table {
            thead { tr {
                th { "session" } th { "from" } th { "client" } th { "login" } th { "connected" }
                th { "heard" } th { "channels" } th { "busy" } th { "requests" }
                th { "from agent" } th { "to agent" }
            } }
            @for session in sessions { tr {
                td { (session.id) }
                td { code { (session.remote) } }
                td { (session.client) }
                td { code { (session.login) } }
                td { (since(session.connected_at)) }
                td {
                    (session.silent_seconds) " s ago"
                    @if session.suspect { " " span.offline { "suspect" } }
                    @if session.owes_answer { " " span.offline { "owes an answer" } }
                }
                td { (session.channels) }
                td { (session.busy) }
                td { (session.requests) }
                td { (bytes(session.bytes_from_agent)) }
                td { (bytes(session.bytes_to_agent)) }
            } }
        }
    }
}

fn since(moment: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_secs(moment);
    let passed = SystemTime::now().duration_since(then).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(passed.as_secs())).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse;margin:.5rem 0;display:block;overflow-x:auto}\
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;white-space:nowrap}\
th{font-weight:600;color:#555}code{font-size:.9em}\
.online{color:#0a6b2d}.offline{color:#a40000}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}th{color:#aaa}th,td{border-color:#333}\
a{color:#8ab4f8}.online{color:#5fd38d}.offline{color:#ff8a80}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_of_itself_is_escaped() {
        let session = SessionStatus {
            id: 1,
            remote: String::new(),
            client: "<script>alert(1)</script>".to_owned(),
            login: String::new(),
            connected_at: 0,
            silent_seconds: 0,
            owes_answer: false,
            suspect: false,
            channels: 0,
            opened: 0,
            requests: 0,
            busy: 0,
            bytes_from_agent: 0,
            bytes_to_agent: 0,
        };
        assert!(!sessions(&[session]).into_string().contains("<script>"));
    }

    #[test]
    fn byte_counts_are_readable() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
