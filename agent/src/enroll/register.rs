//! Registers the public key over SSH with the one-time secret, and tests that the gateway accepts it. Uses only what
//! any SSH server has: a login with a key, one command with the public key on standard input, its exit status.

use super::EnrollmentToken;
use crate::tunnel::{
    ChannelAcceptor, GatewayAddress, InboundChannel, Settings, ignore,
    session::{ExecError, ExecOutput, Session, SessionOpenError, SshIdentity, has_untried_address},
};
use agent_enrollment::REGISTER_COMMAND;
use std::{sync::Arc, time::Duration};

/// Registers `public`, an authorized_keys line without options. `settings` define how gateways are reached and which
/// host keys are trusted. Tries each gateway once, until one answers.
///
/// # Errors
/// The cause, and whether the key may be registered.
pub async fn register(
    settings: &Settings,
    token: &EnrollmentToken,
    public: &str,
) -> Result<(), RegistrationError> {
    let secret = token.secret.as_ref().ok_or(RegistrationError::NoSecret)?;
    let once = Arc::new(SshIdentity::of_key(secret.key()));
    let (gateway, session) = open(settings, once).await?;
    let input = format!("{}\n", public.trim()).into_bytes();
    let result = session.exec(REGISTER_COMMAND, input, REPLY_TIMEOUT).await;
    session.disconnect().await;
    let gateway = gateway.to_string();
    match result {
        Ok(ExecOutput {
            status: Some(0), ..
        }) => Ok(()),
        Ok(ExecOutput {
            status: Some(status),
            output: said,
        }) => Err(RegistrationError::Refused {
            gateway,
            message: said,
            permanent: status == EXIT_REFUSED,
        }),
        Ok(ExecOutput { status: None, .. }) => Err(RegistrationError::Unknown {
            gateway,
            problem: "the gateway sent no exit status".to_owned(),
        }),
        Err(ExecError::Refused) => Err(RegistrationError::Refused {
            gateway,
            message: ExecError::Refused.to_string(),
            permanent: true,
        }),
        Err(error) => Err(RegistrationError::Unknown {
            gateway,
            problem: error.to_string(),
        }),
    }
}

/// Logs in with the key in `settings` and disconnects.
///
/// # Errors
/// The failures of all gateways that were tried.
pub async fn prove(settings: &Settings) -> Result<GatewayAddress, RegistrationError> {
    let (gateway, session) = open(settings, Arc::clone(&settings.identity)).await?;
    session.disconnect().await;
    Ok(gateway)
}

/// A session with the first gateway that accepts the key. An untrusted host key ends the search: it may be an attack.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are treated alike"
)]
async fn open(
    settings: &Settings,
    identity: Arc<SshIdentity>,
) -> Result<(GatewayAddress, Session), RegistrationError> {
    let settings = Arc::new(Settings {
        identity,
        forwards: Vec::new(),
        ..settings.clone()
    });
    // Recorded failures are those of the previous key, and each address is tried once here.
    settings.egress.addresses().clear_failures();
    let mut failures = Vec::new();
    for gateway in &settings.gateways {
        match open_any(&settings, gateway).await {
            Ok(session) => return Ok((gateway.clone(), session)),
            Err(error @ SessionOpenError::HostKey(_)) => {
                return Err(RegistrationError::Unreachable(vec![error]));
            }
            // The same password at the same proxy: another attempt could lock the account.
            Err(SessionOpenError::Proxy(error)) if error.refused_login() => {
                return Err(RegistrationError::Unreachable(vec![
                    SessionOpenError::Proxy(error),
                ]));
            }
            Err(error) => failures.push(error),
        }
    }
    let refused = failures.iter().find_map(|error| match error {
        SessionOpenError::LoginRefused { gateway, .. } => Some(gateway.clone()),
        _ => None,
    });
    Err(match refused {
        Some(gateway) => RegistrationError::LoginRefused { gateway },
        None => RegistrationError::Unreachable(failures),
    })
}

/// A session with the first address that accepts one; else the error of the last address.
async fn open_any(
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
) -> Result<Session, SessionOpenError> {
    loop {
        let opened = Session::open(
            Arc::clone(settings),
            gateway.clone(),
            0,
            Arc::new(RejectChannels),
            ignore(),
        );
        match opened.await {
            Err(error) if has_untried_address(settings, gateway, &error) => {}
            opened => return opened,
        }
    }
}

/// Rejects all channels: nothing is forwarded here.
struct RejectChannels;

impl ChannelAcceptor for RejectChannels {
    fn accept(&self, _: InboundChannel) {}
}

/// Why the key is not registered, or does not work.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The token contains no secret.
    #[error("the token has no one-time secret; send the key to the vendor yourself")]
    NoSecret,
    /// No gateway could be connected to; one error each.
    #[error("{}", with_remedies(.0))]
    Unreachable(Vec<SessionOpenError>),
    /// A gateway was reached, but does not accept the key.
    #[error("{gateway} rejects the key")]
    LoginRefused {
        /// Host and port of the gateway.
        gateway: String,
    },
    /// The gateway accepted the secret but did not register the key.
    #[error("{gateway} did not register the key: {message}")]
    Refused {
        /// Host and port of the gateway.
        gateway: String,
        /// Output of the command.
        message: String,
        /// Whether another attempt with the same key is useless. Otherwise the gateway had a temporary fault.
        permanent: bool,
    },
    /// The key was sent, but no answer arrived.
    #[error("it is unknown whether {gateway} registered the key: {problem}")]
    Unknown {
        /// Host and port of the gateway.
        gateway: String,
        /// Description of the failure.
        problem: String,
    },
}

impl RegistrationError {
    /// Whether a gateway was reached that does not accept the key.
    pub fn refuses_key(&self) -> bool {
        matches!(self, Self::LoginRefused { .. })
    }

    /// Whether the gateway may know the key anyway, or register it on the next attempt.
    pub fn key_may_be_known(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::Refused {
                    permanent: false,
                    ..
                }
        )
    }
}

fn with_remedies(errors: &[SessionOpenError]) -> String {
    let texts: Vec<_> = errors
        .iter()
        .map(|error| format!("{error}; {}", error.remedy()))
        .collect();
    texts.join("\n")
}

/// Exit status of a permanent refusal.
const EXIT_REFUSED: u32 = 2;
/// Time for the command: the gateway only writes one file.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
