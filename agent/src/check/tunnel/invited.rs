//! Before there is a configuration: to the gateways of an enrollment token, as far as their host keys. Nothing logs in: the
//! token's one-time secret stays unused, and a gateway that counts attempts to log in counts none.

use super::hop_recorder::HopRecorder;
use crate::{
    check::step::{StepRecorder, StepResult},
    tunnel::{
        GatewayAddress, Settings, channel,
        egress::Egress,
        session::{HostKeys, SessionOpenError, SshIdentity, has_untried_address, verify_host_key},
        transport,
    },
};
use std::{sync::Arc, time::Duration};

/// What a token and the flags beside it say of the way to the gateways.
pub struct Invited {
    /// As the token names them.
    pub gateways: Vec<GatewayAddress>,
    /// User name there; it is not used before a login.
    pub user: String,
    /// Which host keys the token trusts.
    pub host_keys: HostKeys,
    /// The way out.
    pub egress: Egress,
}

impl Invited {
    /// With the default of every key that would be in a configuration. The key is one that nobody knows: it is not shown
    /// to a gateway.
    fn settings(self) -> Settings {
        Settings {
            gateways: self.gateways,
            egress: Arc::new(self.egress),
            user: self.user,
            identity: Arc::new(SshIdentity::ephemeral()),
            host_keys: Arc::new(self.host_keys),
            connections: 1,
            connect_timeout: Duration::from_secs(15),
            login_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(15),
            keepalive_max: 3,
            stall_timeout: Duration::from_secs(60),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(4),
            drain_limit: Duration::from_secs(30),
            max_channels: 1,
            transport: transport::TransportLimits::default(),
            channel: channel::ChannelLimits::default(),
            forwards: Vec::new(),
        }
    }
}

/// Every gateway, one after the other.
pub(in crate::check) async fn check(invited: Invited) -> Vec<StepRecorder> {
    let settings = Arc::new(invited.settings());
    let mut all = Vec::new();
    let mut refusing = None;
    for gateway in &settings.gateways {
        let mut steps = StepRecorder::for_gateway(gateway);
        let proxy = settings.egress.proxy(gateway);
        match (&refusing, proxy.and_then(|proxy| proxy.credential.as_ref())) {
            // The same password again could lock an account.
            (Some(by), Some(_)) => {
                let why =
                    format!("the proxy {by} has refused the login already; it is not tried again");
                steps.add("proxy", StepResult::skipped(why));
            }
            _ => refusing = reach(&mut steps, &settings, gateway).await.or(refusing),
        }
        all.push(steps);
    }
    all
}

/// Gives the proxy that refused its login.
async fn reach(
    steps: &mut StepRecorder,
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
) -> Option<String> {
    loop {
        let trace = HopRecorder::begin();
        let failure = verify_host_key(Arc::clone(settings), gateway.clone(), trace.observer())
            .await
            .err();
        if let Some(error) = &failure
            && has_untried_address(settings, gateway, error)
        {
            trace.record_address_failure(steps, error);
            continue;
        }
        trace.record(steps, settings, gateway, None, failure.as_ref());
        return match failure {
            None => {
                let why = "not tried: agent enroll makes the key, and the token's one-time secret stays unused";
                steps.add("login", StepResult::skipped(why));
                None
            }
            Some(SessionOpenError::Proxy(error)) if error.refused_login() => Some(error.proxy),
            Some(_) => None,
        };
    }
}
