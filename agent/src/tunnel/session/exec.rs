//! One command on the gateway (RFC 4254 §6.5): its standard input, what it says, its exit status. Enrolment is what it is
//! for; the running agent opens no such channel.

use super::{error::printable, handler::SessionHandler};
use russh::{ChannelMsg, client::Handle};
use std::time::Duration;

/// A command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit status; `None` where the gateway tells none, as after a signal.
    pub status: Option<u32>,
    /// The beginning of what it said on either output, fit for a terminal: printable, one line.
    pub output: String,
}

/// Why a command's end is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// No session channel, or no commands on it. Nothing has been run.
    #[error("the gateway runs no commands for this login")]
    Refused,
    /// It may have been run.
    #[error("the session ended before the gateway answered")]
    Lost,
    /// It may have been run.
    #[error("the gateway did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

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
    let mut said = Vec::new();
    let mut ran = ExecOutput {
        status: None,
        output: String::new(),
    };
    let mut closed = false;
    let mut input = Some(input);
    // Drained to its end, whatever comes: who does not read holds the whole session up.
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
                let room = MAX_SAID.saturating_sub(said.len());
                said.extend_from_slice(data.get(..room).unwrap_or(&data));
            }
            ChannelMsg::ExitStatus { exit_status } => ran.status = Some(exit_status),
            ChannelMsg::Close => {
                closed = true;
                break;
            }
            _ => {}
        }
    }
    ran.output = printable(&String::from_utf8_lossy(&said));
    match closed || ran.status.is_some() {
        true => Ok(ran),
        false => Err(ExecError::Lost),
    }
}

/// Bytes; more than anybody reads.
const MAX_SAID: usize = 4096;
