//! Channels that an agent opens to a host and port beyond its own forwards (`direct-tcpip`, RFC 4254 §7.2), for events and
//! callbacks of the customer's Jira. `agents/NAME/permit_open` names the targets, as `PermitOpen` of an sshd does; without
//! that file there is none.

use crate::{AgentName, GatewayState, login::read_bounded};
use agent_ssh::channel::{ChannelStream, SessionBudget};
use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Msg},
};
use std::{sync::Arc, time::Duration};
use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream, sync::Semaphore, time::timeout};

/// What an agent asks for.
pub(super) struct PermittedTarget {
    pub agent: AgentName,
    pub host: String,
    pub port: u16,
}

impl PermittedTarget {
    /// Whether the agent's file names it.
    async fn is_permitted(&self, shared: &GatewayState) -> bool {
        let agents = shared.settings.data.join("agents");
        let file = agents.join(self.agent.as_str()).join("permit_open");
        let text = read_bounded(&file).await.ok().flatten();
        names(&text.unwrap_or_default(), &self.host, self.port)
    }
}

/// Whether a line of this text is the target. Names are compared without case, and no name is resolved.
fn names(text: &str, host: &str, port: u16) -> bool {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    lines.flat_map(str::split_whitespace).any(|entry| {
        let Some((named, number)) = entry.rsplit_once(':') else {
            return false;
        };
        let bare = named.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        bare.unwrap_or(named).eq_ignore_ascii_case(host) && number.parse() == Ok(port)
    })
}

/// Connects to the target if it is permitted, then relays the channel until either side ends it.
pub(super) async fn serve_target_channel(
    shared: Arc<GatewayState>,
    target: PermittedTarget,
    budget: Arc<SessionBudget>,
    permits: Arc<Semaphore>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
) {
    let PermittedTarget { agent, host, port } = &target;
    if !target.is_permitted(&shared).await {
        tracing::info!(%agent, host, port, "direct channel refused: neither a forward of this agent nor in its permit_open");
        let refusal = ChannelOpenFailure::AdministrativelyProhibited;
        return reply.reject(refusal).await;
    }
    let Ok(_permit) = permits.try_acquire_owned() else {
        return reply.reject(ChannelOpenFailure::ResourceShortage).await;
    };
    let connecting = TcpStream::connect((host.as_str(), *port));
    let mut stream = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        failed => {
            let error = failed.map_or_else(
                |_| "no answer in time".into(),
                |failed| {
                    failed
                        .err()
                        .map(|error| error.to_string())
                        .unwrap_or_default()
                },
            );
            tracing::info!(%agent, host, port, error, "direct channel failed: the target is not reached");
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    // Fails only on a dead socket, which the first write notices.
    let _ = stream.set_nodelay(true);
    reply.accept().await;
    let mut channel = ChannelStream::new(budget, channel);
    let relayed =
        copy_bidirectional_with_sizes(&mut stream, &mut channel, COPY_BUFFER, COPY_BUFFER);
    tokio::select! {
        () = shared.stop.cancelled() => {}
        _ = relayed => {}
    }
}

/// Per session: as many connections as an outlet of the agent opens at most.
pub(super) const MAX_TARGET_CHANNELS: usize = 64;
/// Less than the time that an agent waits for the channel.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const COPY_BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_host_and_port_is_permitted() {
        let text = "events.vendor.internal:80 127.0.0.1:8443\n# 10.0.0.1:22\n[::1]:90 # the receiver\nbad\n";
        for (host, port) in [
            ("events.vendor.internal", 80),
            ("EVENTS.vendor.internal", 80),
            ("127.0.0.1", 8443),
            ("::1", 90),
        ] {
            assert!(names(text, host, port), "{host} {port}");
        }
        for (host, port) in [
            ("events.vendor.internal", 8443),
            ("127.0.0.1", 80),
            ("10.0.0.1", 22),
            ("bad", 0),
            ("", 80),
        ] {
            assert!(!names(text, host, port), "{host} {port}");
        }
        assert!(!names("", "127.0.0.1", 80));
    }
}
