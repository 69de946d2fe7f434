//! Where the agent does not run: a session to each gateway, by the code that opens the agent's own, asked for the
//! forwards, and given back.

use super::{listens, round_trip, stand_in::StandIn, trace::Trace};
use crate::{
    auth::Login,
    check::step::{Found, Steps},
    config,
    pause::Pauses,
    tunnel::{
        Accept, Bind, Gateway, RemoteForward, Settings,
        session::{Bound, OpenError, Session, greet, has_untried_address},
    },
};
use std::sync::Arc;

/// One gateway after the other: what one refuses is not tried at the next.
pub(in crate::check) async fn check(
    settings: &Arc<Settings>,
    forwards: &[(&config::Forward, &Login)],
    pauses: &Pauses,
) -> Vec<Steps> {
    let stand_in = StandIn::new(forwards, pauses).await;
    let mut refused = Refused::default();
    let mut all = Vec::new();
    for gateway in &settings.gateways {
        let mut steps = Steps::to(gateway);
        if let Some(session) = open(&mut steps, settings, gateway, &stand_in, &mut refused).await {
            for (forward, _) in forwards {
                one_forward(&mut steps, &session, forward, &stand_in).await;
            }
            session.cancel_forwards().await;
            session.disconnect().await;
        }
        all.push(steps);
    }
    stand_in.leave();
    all
}

/// Credentials that must not be tried again, and who refused them.
#[derive(Default)]
struct Refused {
    key: Option<String>,
    proxy: Option<String>,
}

async fn open(
    steps: &mut Steps,
    settings: &Arc<Settings>,
    gateway: &Gateway,
    stand_in: &Arc<StandIn>,
    refused: &mut Refused,
) -> Option<Session> {
    let proxy = settings.egress.proxy(gateway);
    if let (Some(by), Some(_)) = (&refused.proxy, proxy.and_then(|p| p.login.as_ref())) {
        let why = format!("the proxy {by} has refused the login already; it is not tried again");
        steps.add("proxy", Found::skipped(why));
        return None;
    }
    if let Some(by) = refused.key.clone() {
        let trace = Trace::begin();
        let outcome = greet(settings, gateway, &trace.tell()).await;
        refused.learn(gateway, outcome.as_ref().err());
        trace.note(steps, settings, gateway, None, outcome.as_ref().err());
        if outcome.is_ok() {
            let why = format!("{by} has refused this key already; it is not tried again");
            steps.add("login", Found::skipped(why));
        }
        return None;
    }
    loop {
        let trace = Trace::begin();
        let accept: Arc<dyn Accept> = Arc::<StandIn>::clone(stand_in);
        let (own, to) = (Arc::clone(settings), gateway.clone());
        let opened = Session::open(own, to, 0, accept, trace.tell()).await;
        refused.learn(gateway, opened.as_ref().err());
        match &opened {
            Err(error) if has_untried_address(settings, gateway, error) => {
                trace.note_address(steps, error);
            }
            _ => {
                let (session, error) = (opened.as_ref().ok(), opened.as_ref().err());
                trace.note(steps, settings, gateway, session, error);
                return opened.ok();
            }
        }
    }
}

impl Refused {
    fn learn(&mut self, gateway: &Gateway, error: Option<&OpenError>) {
        match error {
            Some(OpenError::LoginRefused { .. }) => self.key = Some(gateway.to_string()),
            Some(OpenError::Proxy(error)) if error.refused_login() => {
                self.proxy = Some(error.proxy.clone());
            }
            _ => {}
        }
    }
}

async fn one_forward(
    steps: &mut Steps,
    session: &Session,
    forward: &config::Forward,
    stand_in: &StandIn,
) {
    steps.about(Some(&forward.name));
    if let Bind::Socket(path) = &forward.bind {
        let why = format!(
            "a gateway gives the socket {path} to whoever asks last, so that asking here would take it from an agent \
             elsewhere that serves it; start the agent, and check again"
        );
        steps.add("forward", Found::skipped(why));
        steps.about(None);
        return;
    }
    let wanted = RemoteForward {
        name: Arc::clone(&forward.name),
        bind: forward.bind.clone(),
    };
    let asked = steps.take("forward", async {
        match session.forward(&wanted).await {
            Ok(Bound(bind)) => {
                let seen = format!("{}; given back after this check", listens(&bind));
                (Found::ok(seen), Some(()))
            }
            Err(error) => (Found::fail(error.to_string(), error.remedy()), None),
        }
    });
    if asked.await.is_some() {
        let http = stand_in.named(&forward.name);
        let context_path = &forward.policy.context_path;
        round_trip::check(steps, session, &forward.name, http.as_ref(), context_path).await;
    }
    steps.about(None);
}
