//! Where the agent does not run: a session to each gateway, by the code that opens the agent's own, asked for the
//! forwards, and given back.

use super::{hop_recorder::HopRecorder, listens, probe_server::ProbeServer, round_trip};
use crate::{
    auth::UpstreamAuth,
    check::step::{StepRecorder, StepResult},
    config,
    pause::PauseRegistry,
    tunnel::{
        BindAddress, ChannelAcceptor, GatewayAddress, RemoteForward, Settings,
        session::{BoundForward, Session, SessionOpenError, has_untried_address, probe_banner},
    },
};
use std::sync::Arc;

/// One gateway after the other: what one refuses is not tried at the next.
pub(in crate::check) async fn check(
    settings: &Arc<Settings>,
    forwards: &[(&config::ForwardConfig, &UpstreamAuth)],
    pauses: &PauseRegistry,
) -> Vec<StepRecorder> {
    let stand_in = ProbeServer::new(forwards, pauses).await;
    let mut refused = RejectedCredentials::default();
    let mut all = Vec::new();
    for gateway in &settings.gateways {
        let mut steps = StepRecorder::for_gateway(gateway);
        if let Some(session) = open(&mut steps, settings, gateway, &stand_in, &mut refused).await {
            for (forward, _) in forwards {
                one_forward(&mut steps, &session, forward, &stand_in).await;
            }
            session.cancel_forwards().await;
            session.disconnect().await;
        }
        all.push(steps);
    }
    stand_in.stop();
    all
}

/// Credentials that must not be tried again, and who refused them.
#[derive(Default)]
struct RejectedCredentials {
    key: Option<String>,
    proxy: Option<String>,
}

async fn open(
    steps: &mut StepRecorder,
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
    stand_in: &Arc<ProbeServer>,
    refused: &mut RejectedCredentials,
) -> Option<Session> {
    let proxy = settings.egress.proxy(gateway);
    if let (Some(by), Some(_)) = (&refused.proxy, proxy.and_then(|p| p.credential.as_ref())) {
        let why = format!("the proxy {by} has refused the login already; it is not tried again");
        steps.add("proxy", StepResult::skipped(why));
        return None;
    }
    if let Some(by) = refused.key.clone() {
        let trace = HopRecorder::begin();
        let outcome = probe_banner(settings, gateway, &trace.observer()).await;
        refused.record_rejection(gateway, outcome.as_ref().err());
        trace.record(steps, settings, gateway, None, outcome.as_ref().err());
        if outcome.is_ok() {
            let why = format!("{by} has refused this key already; it is not tried again");
            steps.add("login", StepResult::skipped(why));
        }
        return None;
    }
    loop {
        let trace = HopRecorder::begin();
        let accept: Arc<dyn ChannelAcceptor> = Arc::<ProbeServer>::clone(stand_in);
        let (own, to) = (Arc::clone(settings), gateway.clone());
        let opened = Session::open(own, to, 0, accept, trace.observer()).await;
        refused.record_rejection(gateway, opened.as_ref().err());
        match &opened {
            Err(error) if has_untried_address(settings, gateway, error) => {
                trace.record_address_failure(steps, error);
            }
            _ => {
                let (session, error) = (opened.as_ref().ok(), opened.as_ref().err());
                trace.record(steps, settings, gateway, session, error);
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
    stand_in: &ProbeServer,
) {
    steps.set_forward(Some(&forward.name));
    if let BindAddress::Socket(path) = &forward.bind {
        let why = format!(
            "a gateway gives the socket {path} to whoever asks last, so that asking here would take it from an agent \
             elsewhere that serves it; start the agent, and check again"
        );
        steps.add("forward", StepResult::skipped(why));
        steps.set_forward(None);
        return;
    }
    let wanted = RemoteForward {
        name: Arc::clone(&forward.name),
        bind: forward.bind.clone(),
    };
    let asked = steps.run("forward", async {
        match session.forward(&wanted).await {
            Ok(BoundForward(bind)) => {
                let seen = format!("{}; given back after this check", listens(&bind));
                (StepResult::ok(seen), Some(()))
            }
            Err(error) => (StepResult::fail(error.to_string(), error.remedy()), None),
        }
    });
    if asked.await.is_some() {
        let http = stand_in.named(&forward.name);
        let context_path = &forward.policy.context_path;
        round_trip::check(steps, session, &forward.name, http.as_ref(), context_path).await;
    }
    steps.set_forward(None);
}
