//! The public key, registered over SSH by the one-time secret, and the proof that the gateway takes it. Only what any
//! SSH server has: a login with a key, one command with the public key on its standard input, its exit status.

use super::EnrollmentToken;
use crate::tunnel::{
    ChannelAcceptor, GatewayAddress, InboundChannel, Settings, ignore,
    session::{ExecError, ExecOutput, Session, SessionOpenError, SshIdentity, has_untried_address},
};
use std::{sync::Arc, time::Duration};

/// Registers `public`, an authorized_keys line without options. `settings` say how the gateway is reached and which
/// host keys are trusted. The first gateway that can answer does; each is asked once.
///
/// # Errors
/// With the cause, and what is known about whether the key was registered.
pub async fn register(
    settings: &Settings,
    token: &EnrollmentToken,
    public: &str,
) -> Result<(), RegistrationError> {
    let secret = token.secret.as_ref().ok_or(RegistrationError::NoSecret)?;
    let once = Arc::new(SshIdentity::of_key(secret.key()));
    let (gateway, session) = open(settings, once).await?;
    let input = format!("{}\n", public.trim()).into_bytes();
    let result = session.exec(COMMAND, input, REPLY_TIMEOUT).await;
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
            problem: "the gateway did not say how it ended".to_owned(),
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

/// Logs in with the key that `settings` name, and leaves.
///
/// # Errors
/// What the gateways said.
pub async fn prove(settings: &Settings) -> Result<GatewayAddress, RegistrationError> {
    let (gateway, session) = open(settings, Arc::clone(&settings.identity)).await?;
    session.disconnect().await;
    Ok(gateway)
}

/// A session with the first gateway that lets us in. A host key that is not trusted ends it: somebody may be in between.
async fn open(
    settings: &Settings,
    identity: Arc<SshIdentity>,
) -> Result<(GatewayAddress, Session), RegistrationError> {
    let settings = Arc::new(Settings {
        identity,
        forwards: Vec::new(),
        ..settings.clone()
    });
    // What an address refused was the key before this one; nothing is asked of it again and again here.
    settings.egress.addresses().clear_failures();
    let mut failures = Vec::new();
    for gateway in &settings.gateways {
        match open_any(&settings, gateway).await {
            Ok(session) => return Ok((gateway.clone(), session)),
            Err(error @ SessionOpenError::HostKey(_)) => {
                return Err(RegistrationError::Unreachable(vec![error]));
            }
            // The same password at the same proxy: asking again could lock an account.
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

/// A session with the first address of the gateway that is one; the error of the last.
async fn open_any(
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
) -> Result<Session, SessionOpenError> {
    loop {
        let (settings, to) = (Arc::clone(settings), gateway.clone());
        let opened = Session::open(settings, to, 0, Arc::new(RejectChannels), ignore()).await;
        match opened {
            Err(error) if has_untried_address(settings, gateway, &error) => {}
            opened => return opened,
        }
    }
}

/// Nothing is forwarded here.
struct RejectChannels;

impl ChannelAcceptor for RejectChannels {
    fn accept(&self, _: InboundChannel) {}
}

/// Why the key is not registered or not proven.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The token has none.
    #[error("the token has no one-time secret, so that the vendor must be given the key by hand")]
    NoSecret,
    /// No session came about.
    #[error("{}", with_remedies(.0))]
    Unreachable(Vec<SessionOpenError>),
    /// The gateway does not know the key that was tried.
    #[error("{gateway} does not let us in")]
    LoginRefused {
        /// Which.
        gateway: String,
    },
    /// The gateway let us in and would not register the key.
    #[error("{gateway} did not register the key: {message}")]
    Refused {
        /// Which.
        gateway: String,
        /// Its own words.
        message: String,
        /// Trying again with the same key changes nothing; else the fault was the gateway's own.
        permanent: bool,
    },
    /// It was sent, and no answer came.
    #[error("whether {gateway} has registered the key is not known: {problem}")]
    Unknown {
        /// Which.
        gateway: String,
        /// What happened.
        problem: String,
    },
}

impl RegistrationError {
    /// Whether a gateway was reached that does not know the key.
    pub fn refuses_key(&self) -> bool {
        matches!(self, Self::LoginRefused { .. })
    }

    /// Whether the gateway may know the key all the same, or take it at the next try.
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

/// What the command is called. A gateway that runs one command whatever is asked for can look at it.
pub const COMMAND: &str = "jira-tunnel-enroll 1";
/// Exit status of a refusal that stays one.
const EXIT_REFUSED: u32 = 2;
/// The gateway writes one file.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
