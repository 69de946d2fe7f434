//! While the agent does not run: opens a session to each gateway with the agent's own code, requests the forwards, and
//! releases them.

use super::{hop_recorder::HopRecorder, listens, probe_server::ProbeServer, round_trip};
use crate::{
    auth::UpstreamAuth,
    check::step::{StepRecorder, StepResult},
    config,
    pause::PauseRegistry,
    tunnel::{
        ChannelAcceptor, GatewayAddress, RemoteForward, Settings, SlotRange,
        session::{
            BoundForward, ForwardError, Session, SessionOpenError, has_untried_address,
            probe_banner,
        },
    },
};
use std::sync::Arc;

/// Checks one gateway after the other: a credential that one rejects is not tried at the next.
pub(in crate::check) async fn check(
    settings: &Arc<Settings>,
    forwards: &[(&config::ForwardConfig, &UpstreamAuth)],
    pauses: &PauseRegistry,
) -> Vec<StepRecorder> {
    let probe_server = ProbeServer::new(forwards, pauses).await;
    let mut rejected = RejectedCredentials::default();
    let mut all = Vec::new();
    for gateway in &settings.gateways {
        let mut steps = StepRecorder::for_gateway(gateway);
        if let Some(session) =
            open(&mut steps, settings, gateway, &probe_server, &mut rejected).await
        {
            for (forward, _) in forwards {
                one_forward(&mut steps, &session, forward, settings.slots, &probe_server).await;
            }
            session.cancel_forwards().await;
            session.disconnect().await;
        }
        all.push(steps);
    }
    probe_server.stop();
    all
}

/// Credentials that must not be tried again, and who rejected them.
#[derive(Default)]
struct RejectedCredentials {
    key: Option<String>,
    proxy: Option<String>,
}

async fn open(
    steps: &mut StepRecorder,
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
    probe_server: &Arc<ProbeServer>,
    rejected: &mut RejectedCredentials,
) -> Option<Session> {
    let proxy = settings.egress.proxy(gateway);
    if let (Some(by), Some(_)) = (&rejected.proxy, proxy.and_then(|p| p.credential.as_ref())) {
        let why = format!("the proxy {by} already rejected the credential; not tried again");
        steps.add("proxy", StepResult::skipped(why));
        return None;
    }
    if let Some(by) = rejected.key.clone() {
        let hops = HopRecorder::begin();
        let outcome = probe_banner(settings, gateway, &hops.observer()).await;
        rejected.record_rejection(gateway, outcome.as_ref().err());
        hops.record(steps, settings, gateway, None, outcome.as_ref().err());
        if outcome.is_ok() {
            let why = format!("{by} already rejected this key; not tried again");
            steps.add("login", StepResult::skipped(why));
        }
        return None;
    }
    loop {
        let hops = HopRecorder::begin();
        let accept: Arc<dyn ChannelAcceptor> = Arc::<ProbeServer>::clone(probe_server);
        let (own, to) = (Arc::clone(settings), gateway.clone());
        let opened = Session::open(own, to, 0, accept, hops.observer()).await;
        rejected.record_rejection(gateway, opened.as_ref().err());
        match &opened {
            Err(error) if has_untried_address(settings, gateway, error) => {
                hops.record_address_failure(steps, error);
            }
            _ => {
                let (session, error) = (opened.as_ref().ok(), opened.as_ref().err());
                hops.record(steps, settings, gateway, session, error);
                return opened.ok();
            }
        }
    }
}

impl RejectedCredentials {
    fn record_rejection(&mut self, gateway: &GatewayAddress, error: Option<&SessionOpenError>) {
        match error {
            Some(SessionOpenError::LoginRefused { .. }) => self.key = Some(gateway.to_string()),
            Some(SessionOpenError::Proxy(error)) if error.refused_login() => {
                self.proxy = Some(error.proxy.clone());
            }
            _ => {}
        }
    }
}

async fn one_forward(
    steps: &mut StepRecorder,
    session: &Session,
    forward: &config::ForwardConfig,
    slots: SlotRange,
    probe_server: &ProbeServer,
) {
    steps.set_forward(Some(&forward.name));
    if forward.bind.is_socket() {
        let path = &forward.bind;
        let why = format!(
            "requesting the socket {path} would take it from any other agent that serves it; start the agent, then \
             check again"
        );
        steps.add("forward", StepResult::skipped(why));
        steps.set_forward(None);
        return;
    }
    let asked = steps.run("forward", async {
        let mut refusal = None;
        // As the agent does: the next slot where one is taken.
        for bind in forward.bind.addresses(slots) {
            let name = Arc::clone(&forward.name);
            match session.forward(&RemoteForward { name, bind }).await {
                Ok(BoundForward(bind)) => {
                    let seen = format!("{}; released after this check", listens(&bind));
                    return (StepResult::ok(seen), Some(()));
                }
                Err(error @ ForwardError::Refused(_)) => refusal = refusal.or(Some(error)),
                Err(error @ ForwardError::Lost(_)) => {
                    return (StepResult::fail(error.to_string(), error.remedy()), None);
                }
            }
        }
        let refused = refusal.map(|error| StepResult::fail(error.to_string(), error.remedy()));
        (
            refused.unwrap_or_else(|| StepResult::skipped("no slot to ask for")),
            None,
        )
    });
    if asked.await.is_some() {
        let http = probe_server.named(&forward.name);
        let context_path = &forward.policy.context_path;
        round_trip::check(steps, session, &forward.name, http.as_ref(), context_path).await;
    }
    steps.set_forward(None);
}
