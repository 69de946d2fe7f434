//! One SSH session of the agent against a stock OpenSSH sshd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod failures;
mod forwards;
mod host_keys;
mod identities;

use agent::tunnel::{
    ChannelAcceptor, Settings, ignore,
    session::{Session, SessionOpenError},
};
use e2e::tunnel::EchoForwards;
use std::sync::Arc;

async fn open(settings: Settings) -> Result<Session, SessionOpenError> {
    open_with(settings, Arc::new(EchoForwards::default())).await
}

async fn open_with(
    settings: Settings,
    accept: Arc<dyn ChannelAcceptor>,
) -> Result<Session, SessionOpenError> {
    let gateway = settings.gateways[0].clone();
    Session::open(Arc::new(settings), gateway, 0, accept, ignore()).await
}
