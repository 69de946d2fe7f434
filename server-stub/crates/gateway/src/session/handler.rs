//! russh's callbacks of one connection: logins, remote forwards, direct channels to the agent's own forwards and to
//! permitted targets, and the enrollment command. russh refuses everything else by default. Nothing here may wait on a channel, because these calls
//! run inside the session.

use super::{
    AgentSession,
    direct_channel::serve_direct_channel,
    login_queue::LoginSlot,
    monitor::monitor,
    permitted_target::{PermittedTarget, serve_target_channel},
};
use crate::{
    AgentName, GatewayState,
    enrollment::{InvitationStore, RegistrationSession},
    forward::{BindError, RequestedBind, listen},
    login::{LoginGrant, LoginRefusal},
};
use agent_ssh::{channel::SessionBudget, transport::TransportHandle};
use russh::{
    Channel, ChannelId, ChannelOpenFailure,
    keys::{Certificate, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, VerifiedPublicKey},
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::Semaphore;

/// The SSH handler of one connection.
pub(super) struct ServerHandler {
    pub shared: Arc<GatewayState>,
    pub remote: SocketAddr,
    pub transport: Arc<TransportHandle>,
    pub budget: Arc<SessionBudget>,
    /// Its slot among the connections before login; freed by the login.
    pub login_slot: Option<LoginSlot>,
    /// Set by the login; read by the grace timer of the connection.
    pub logged_in: Arc<OnceLock<Arc<AgentSession>>>,
    /// Agent and rights of the last accepted signature.
    pub granted: Option<(AgentName, LoginGrant)>,
    /// Set by a login with a one-time key, which may only register a key.
    pub registration: Option<RegistrationSession>,
    /// Permits for direct channels.
    pub direct_channel_permits: Arc<Semaphore>,
    /// Permits for channels to targets.
    pub target_channel_permits: Arc<Semaphore>,
}

impl ServerHandler {
    fn decide(&mut self, agent: AgentName, decision: Result<LoginGrant, LoginRefusal>) -> Auth {
        match decision {
            Ok(grant) => {
                self.granted = Some((agent, grant));
                Auth::Accept
            }
            Err(refusal) => self.refuse(agent.as_str(), &refusal),
        }
    }

    /// The registration of a one-time key. Used and expired ones may log in, so that the agent learns the reason.
    async fn find_invitation(
        &self,
        agent: &AgentName,
        key: &PublicKey,
    ) -> Option<RegistrationSession> {
        let store = InvitationStore::new(&self.shared.settings.data);
        let (agent, key) = (agent.clone(), key.clone());
        let found = tokio::task::spawn_blocking(move || {
            let found = store.find(&agent, &key);
            found.map(|invitation| invitation.map(|found| RegistrationSession::new(store, found)))
        });
        match found.await {
            Ok(Ok(registration)) => registration,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot read the invitations");
                None
            }
            Err(_) => None,
        }
    }

    fn refuse(&self, user: &str, refusal: &dyn std::fmt::Display) -> Auth {
        tracing::info!(user = user.get(..64).unwrap_or("?"), remote = %self.remote, %refusal, "login refused");
        Auth::reject()
    }

    /// Retries while an address is in use: the listener of a session that has just ended closes in a task.
    async fn listen(&self, requested: RequestedBind) -> Result<RequestedBind, BindError> {
        let (Some(session), Some((_, grant))) = (self.logged_in.get(), &self.granted) else {
            return Err(BindError::Ended);
        };
        if let RequestedBind::Tcp { host, port } = &requested
            && !grant.permits(host, *port)
        {
            return Err(BindError::NotPermitted);
        }
        let mut tries = 0;
        loop {
            let run = |forward, listener| {
                let shared = Arc::clone(&self.shared);
                self.shared.tasks.spawn(listen(shared, forward, listener));
            };
            match self.shared.registry.listen(session, &requested, run) {
                Ok(bind) => return Ok(bind),
                Err(BindError::Io(error))
                    if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(BIND_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn listened(&self, requested: &RequestedBind, result: &Result<RequestedBind, BindError>) {
        let Some(session) = self.logged_in.get() else {
            return;
        };
        let (agent, session) = (&session.agent, session.id);
        match result {
            Ok(bind) => tracing::info!(%agent, session, %bind, "forward bound"),
            Err(error) => {
                tracing::info!(%agent, session, bind = %requested, %error, "forward refused")
            }
        }
    }

    /// Relays a channel to one of the agent's own forwards, or to a target that its `permit_open` names; refuses any other.
    async fn open_direct(
        &self,
        bind: &RequestedBind,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let session = self.logged_in.get();
        let address =
            session.and_then(|session| self.shared.registry.listen_address_of(session, bind));
        let Some(address) = address else {
            if let (Some(session), RequestedBind::Tcp { host, port }) = (session, bind) {
                let target = PermittedTarget {
                    agent: session.agent.clone(),
                    host: host.clone(),
                    port: *port,
                };
                let (shared, budget) = (Arc::clone(&self.shared), Arc::clone(&self.budget));
                let permits = Arc::clone(&self.target_channel_permits);
                let calling = serve_target_channel(shared, target, budget, permits, channel, reply);
                self.shared.tasks.spawn(calling);
                return;
            }
            tracing::info!(remote = %self.remote, "direct channel refused: not a forward of this agent");
            let refusal = ChannelOpenFailure::AdministrativelyProhibited;
            return reply.reject(refusal).await;
        };
        let Ok(permit) = Arc::clone(&self.direct_channel_permits).try_acquire_owned() else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        let (shared, budget) = (Arc::clone(&self.shared), Arc::clone(&self.budget));
        let own = session.and_then(|own| shared.registry.own_candidate(own, &address));
        let calling = serve_direct_channel(shared, address, own, budget, channel, reply, permit);
        self.shared.tasks.spawn(calling);
    }

    fn cancel(&self, bind: &RequestedBind) -> bool {
        let Some(session) = self.logged_in.get() else {
            return false;
        };
        let Some(forward) = self.shared.registry.cancel(session, bind) else {
            return false;
        };
        // A draining agent waits for its channels to end.
        self.shared.pool.close_idle((session.id, forward.id));
        tracing::info!(agent = %session.agent, session = session.id, %bind, "forward released");
        true
    }
}

impl Handler for ServerHandler {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let agent = match user.parse::<AgentName>() {
            Ok(agent) => agent,
            Err(error) => return Ok(self.refuse(user, &error)),
        };
        let offered = self
            .shared
            .logins
            .accepts_offer(&agent, offer.public_key, offer.algorithm)
            .await;
        Ok(match offered {
            Ok(()) => Auth::Accept,
            Err(LoginRefusal::UnknownKey(_))
                if self
                    .find_invitation(&agent, offer.public_key)
                    .await
                    .is_some() =>
            {
                Auth::Accept
            }
            Err(refusal) => self.refuse(user, &refusal),
        })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let agent = match user.parse::<AgentName>() {
            Ok(agent) => agent,
            Err(error) => return Ok(self.refuse(user, &error)),
        };
        let decision = self
            .shared
            .logins
            .check_key(&agent, key.public_key, key.algorithm)
            .await;
        if let Err(LoginRefusal::UnknownKey(_)) = decision {
            self.registration = self.find_invitation(&agent, key.public_key).await;
            if self.registration.is_some() {
                return Ok(Auth::Accept);
            }
        }
        Ok(self.decide(agent, decision))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let agent = match user.parse::<AgentName>() {
            Ok(agent) => agent,
            Err(error) => return Ok(self.refuse(user, &error)),
        };
        let decision = self
            .shared
            .logins
            .check_certificate(&agent, certificate)
            .await;
        Ok(self.decide(agent, decision))
    }

    async fn auth_succeeded(&mut self, ssh: &mut server::Session) -> Result<(), Self::Error> {
        if let Some(registration) = &self.registration {
            let invitation = registration.invitation();
            tracing::info!(agent = %invitation.agent, invitation = invitation.id, remote = %self.remote, "enrollment started");
            // Not a session of the agent; the login grace is enough time for it.
            return Ok(());
        }
        let Some((agent, grant)) = &self.granted else {
            return Err(russh::Error::Disconnect);
        };
        let session = Arc::new(AgentSession::new(
            self.shared.registry.next_id(),
            agent.clone(),
            grant.by.clone(),
            self.remote,
            client(ssh.remote_sshid()),
            ssh.handle(),
            Arc::clone(&self.budget),
            Arc::clone(&self.transport),
            &self.shared.settings.limits,
        ));
        tracing::info!(%agent, session = session.id, remote = %self.remote, client = session.client, "agent connected");
        if self.logged_in.set(Arc::clone(&session)).is_ok() {
            self.shared.registry.add_session(Arc::clone(&session));
            let watched = monitor(Arc::clone(&self.shared), session);
            self.shared.tasks.spawn(watched);
        }
        // Only now, because an evicted connection must not be logged in.
        self.login_slot = None;
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let opens = self
            .registration
            .as_mut()
            .is_some_and(|registration| registration.open(channel.id()));
        match opens {
            true => reply.accept().await,
            false => {
                reply
                    .reject(ChannelOpenFailure::AdministrativelyProhibited)
                    .await;
            }
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        ssh: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let right = self
            .registration
            .as_mut()
            .is_some_and(|registration| registration.exec(channel, command));
        match right {
            true => ssh.channel_success(channel),
            false => ssh.channel_failure(channel),
        }
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if let Some(registration) = &mut self.registration {
            registration.data(channel, data);
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        ssh: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let Some(registration) = &mut self.registration else {
            return Ok(());
        };
        if let Some(answer) = registration.finish(channel).await {
            ssh.data(channel, answer.text + "\n")?;
            ssh.exit_status_request(channel, answer.status)?;
            ssh.eof(channel)?;
            ssh.close(channel)?;
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let Ok(number) = u16::try_from(*port) else {
            return Ok(false);
        };
        let requested = RequestedBind::Tcp {
            host: address.to_owned(),
            port: number,
        };
        let result = self.listen(requested.clone()).await;
        self.listened(&requested, &result);
        if let Ok(RequestedBind::Tcp { port: chosen, .. }) = result {
            *port = u32::from(chosen);
        }
        Ok(result.is_ok())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let Ok(port) = u16::try_from(port) else {
            return Ok(false);
        };
        Ok(self.cancel(&RequestedBind::Tcp {
            host: address.to_owned(),
            port,
        }))
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        let requested = RequestedBind::Socket(path.to_owned());
        let result = self.listen(requested.clone()).await;
        self.listened(&requested, &result);
        Ok(result.is_ok())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let bind = RequestedBind::Tcp {
            host: host.to_owned(),
            // No forward has port 0.
            port: u16::try_from(port).unwrap_or(0),
        };
        self.open_direct(&bind, channel, reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let bind = RequestedBind::Socket(path.to_owned());
        self.open_direct(&bind, channel, reply).await;
        Ok(())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.cancel(&RequestedBind::Socket(path.to_owned())))
    }
}

impl Drop for ServerHandler {
    /// russh drops its handler however the session ends, even after a panic.
    fn drop(&mut self) {
        if let Some(session) = self.logged_in.get() {
            self.shared.registry.remove_session(session);
        }
    }
}

/// The client's SSH identification, made printable for logs and pages.
fn client(id: &[u8]) -> String {
    let text = String::from_utf8_lossy(id);
    text.trim()
        .trim_start_matches("SSH-2.0-")
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(64)
        .collect()
}

/// 200 ms in all; the old listener closes long before.
const BIND_TRIES: u32 = 10;
const BIND_PAUSE: Duration = Duration::from_millis(20);
