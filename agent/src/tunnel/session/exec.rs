//! One command on the gateway (RFC 4254 §6.5): its standard input, its output, its exit status. Only enrollment uses it; the
//! running agent opens no such channel.

use super::{error::printable, handler::SessionHandler};
use russh::{ChannelMsg, client::Handle};
use std::time::Duration;

/// The result of a command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit status; `None` if the gateway reports none, as after a signal.
    pub status: Option<u32>,
    /// The beginning of its standard output and error, printable and on one line.
    pub output: String,
}

/// Why the result of a command is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The gateway refuses session channels, or commands on them. Nothing was run.
    #[error("the gateway runs no commands for this login")]
    Refused,
    /// The session ended; the command may have been run.
    #[error("the session ended before the gateway answered")]
    Lost,
    /// There was no answer in time; the command may have been run.
    #[error("the gateway did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "russh adds messages; the others do not concern this channel"
)]
pub(super) async fn run(
    handle: &Handle<SessionHandler>,
    command: &str,
    input: Vec<u8>,
) -> Result<ExecOutput, ExecError> {
    let opened = handle.channel_open_session().await;
    let mut channel = match opened {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(_)) => return Err(ExecError::Refused),
        Err(_) => return Err(ExecError::Lost),
    };
    let lost = |_| ExecError::Lost;
    channel.exec(true, command).await.map_err(lost)?;
    let mut output = Vec::new();
    let mut result = ExecOutput {
        status: None,
        output: String::new(),
    };
    let mut closed = false;
    let mut input = Some(input);
    // Received to the end: an unread channel blocks the whole session.
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => {
                if let Some(input) = input.take() {
                    channel.data_bytes(input).await.map_err(lost)?;
                    channel.eof().await.map_err(lost)?;
                }
            }
            ChannelMsg::Failure => return Err(ExecError::Refused),
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                let room = MAX_OUTPUT.saturating_sub(output.len());
                output.extend_from_slice(data.get(..room).unwrap_or(&data));
            }
            ChannelMsg::ExitStatus { exit_status } => result.status = Some(exit_status),
            ChannelMsg::Close => {
                closed = true;
                break;
            }
            _ => {}
        }
    }
    result.output = printable(&String::from_utf8_lossy(&output));
    match closed || result.status.is_some() {
        true => Ok(result),
        false => Err(ExecError::Lost),
    }
}

/// Bytes of the output that are kept.
const MAX_OUTPUT: usize = 4096;
