//! Before there is a configuration: tests the gateways of an enrollment token up to their host keys. It does not log in:
//! the token's one-time secret stays unused, and no gateway counts a login attempt.

use super::hop_recorder::HopRecorder;
use crate::{
    check::step::{StepRecorder, StepResult},
    tunnel::{
        GatewayAddress, Settings, SlotRange, channel,
        egress::Egress,
        session::{HostKeys, SessionOpenError, SshIdentity, has_untried_address, verify_host_key},
        transport,
    },
};
use std::{sync::Arc, time::Duration};

/// What a token and the command's flags specify about the gateways.
pub struct TokenGateways {
    /// The gateways of the token, in its order.
    pub gateways: Vec<GatewayAddress>,
    /// User name of the token; shown, since this check does not log in.
    pub user: String,
    /// The host keys that the token trusts.
    pub host_keys: HostKeys,
    /// Direct connections or a proxy, and how to use TLS.
    pub egress: Egress,
}

impl TokenGateways {
    /// The settings of a default configuration. Their key is random and is never offered to a gateway.
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
            stall_timeout: Duration::from_secs(120),
            probe_interval: Duration::from_millis(2500),
            probe_timeout: Duration::from_millis(1600),
            congestion_control: None,
            drain_limit: Duration::from_secs(30),
            max_channels: 1,
            transport: transport::TransportLimits::default(),
            channel: channel::ChannelLimits::default(),
            forwards: Vec::new(),
            slots: SlotRange::default(),
        }
    }
}

/// Tests the gateways one after the other.
pub(in crate::check) async fn check(gateways: TokenGateways) -> Vec<StepRecorder> {
    let settings = Arc::new(gateways.settings());
    let mut all = Vec::new();
    let mut rejected_by = None;
    for gateway in &settings.gateways {
        let mut steps = StepRecorder::for_gateway(gateway);
        let proxy = settings.egress.proxy(gateway);
        match (
            &rejected_by,
            proxy.and_then(|proxy| proxy.credential.as_ref()),
        ) {
            // The same password again could lock an account.
            (Some(by), Some(_)) => {
                let why =
                    format!("the proxy {by} already rejected the credential; not tried again");
                steps.add("proxy", StepResult::skipped(why));
            }
            _ => rejected_by = reach(&mut steps, &settings, gateway).await.or(rejected_by),
        }
        all.push(steps);
    }
    all
}

/// Returns the proxy that rejected its credential, if it did.
async fn reach(
    steps: &mut StepRecorder,
    settings: &Arc<Settings>,
    gateway: &GatewayAddress,
) -> Option<String> {
    loop {
        let hops = HopRecorder::begin();
        let failure = verify_host_key(Arc::clone(settings), gateway.clone(), hops.observer())
            .await
            .err();
        if let Some(error) = &failure
            && has_untried_address(settings, gateway, error)
        {
            hops.record_address_failure(steps, error);
            continue;
        }
        hops.record(steps, settings, gateway, None, failure.as_ref());
        return match failure {
            None => {
                let why = "not tried: agent enroll creates the key, and the token's one-time secret stays unused";
                steps.add("login", StepResult::skipped(why));
                None
            }
            Some(SessionOpenError::Proxy(error)) if error.refused_login() => Some(error.proxy),
            Some(_) => None,
        };
    }
}
