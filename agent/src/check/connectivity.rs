//! The hops to Jira: DNS, TCP, TLS.

use super::step::{StepRecorder, StepResult};
use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime, ExpiryUrgency},
    upstream::{
        HandshakeFailure, PresentedCertificate, SendError, Settings, TlsHandshakeInfo, UpstreamHops,
    },
};
use std::time::SystemTime;

/// Takes the steps. Returns whether a request could be sent now.
pub(super) async fn check(steps: &mut StepRecorder, settings: &Settings) -> bool {
    let made = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || UpstreamHops::new(settings)).await
    };
    let hops = match made {
        Ok(Ok(hops)) => hops,
        Ok(Err(error)) => {
            steps.add(
                "tls",
                StepResult::fail(error.to_string(), "correct it in [[forward]]"),
            );
            return false;
        }
        Err(error) => {
            steps.add("tls", StepResult::fail(error.to_string(), "try again"));
            return false;
        }
    };
    let resolved = steps.run("dns", async {
        match hops.resolve().await {
            Ok(addresses) if settings.address.is_some() => (
                StepResult::ok("address is set; no DNS lookup"),
                Some(addresses),
            ),
            Ok(addresses) => {
                let list: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
                (StepResult::ok(list.join(", ")), Some(addresses))
            }
            Err(error) => (
                failed(&error, "ask your DNS administrator, or set address"),
                None,
            ),
        }
    });
    let Some(addresses) = resolved.await else {
        return false;
    };
    let connected = steps.run("tcp", async {
        match hops.connect(addresses.clone()).await {
            Ok(tcp) => {
                let peer = tcp.peer_addr().map(|peer| peer.to_string());
                (StepResult::ok(peer.unwrap_or_default()), Some(tcp))
            }
            Err(error) => {
                let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                let remedy = format!(
                    "ask the network team to allow TCP from this host to {}, and check that Jira is running",
                    list.join(" and ")
                );
                (failed(&error, &remedy), None)
            }
        }
    });
    let Some(tcp) = connected.await else {
        return false;
    };
    let agreed = steps.run("tls", async {
        match hops.handshake(tcp).await {
            None => (
                StepResult::skipped("upstream is plain http; traffic to Jira is not encrypted"),
                Some(()),
            ),
            Some(Ok(seen)) => (check_certificate(&seen, SystemTime::now()), Some(())),
            Some(Err(error)) => (refused(&error), None),
        }
    });
    agreed.await.is_some()
}

/// Warns before Jira's own certificate expires.
fn check_certificate(seen: &TlsHandshakeInfo, now: SystemTime) -> StepResult {
    let detail = format!("{}, issued by {:?}", seen.version, seen.issuer);
    let Some(end) = seen.ends else {
        return StepResult::ok(detail);
    };
    let expiry = CredentialExpiry::new(CredentialKind::ClientCertificate, ExpiryTime::At(end), "");
    let date = humantime::format_rfc3339_seconds(end).to_string();
    let date = date.split('T').next().unwrap_or_default();
    match expiry.urgency(now) {
        ExpiryUrgency::None | ExpiryUrgency::Within30Days => {
            StepResult::ok(format!("{detail}, valid until {date}"))
        }
        ExpiryUrgency::Within14Days | ExpiryUrgency::Within7Days | ExpiryUrgency::Over => {
            StepResult::warn(
                format!("Jira's certificate expires on {date}; after that, no request passes"),
                "renew it on Jira, or on the proxy in front of it",
            )
            .with_detail(detail)
        }
    }
}

/// A failed handshake, with the presented certificates and who has to act.
fn refused(error: &HandshakeFailure) -> StepResult {
    let is = |what: fn(&PresentedCertificate) -> bool| error.chain.iter().any(what);
    let remedy = match error.chain.as_slice() {
        _ if is(PresentedCertificate::is_out_of_date) => "renew the marked certificate on Jira, or on the proxy in front of it; if its dates are right, correct this host's clock (timedatectl)".to_owned(),
        [_, ..] if !is(PresentedCertificate::is_untrusted) => {
            "follow the cause; another CA in ca_file does not help".to_owned()
        }
        [] => "follow the cause; docs/configuration.md describes ca_file, server_name and client_certificate_file".to_owned(),
        chain => {
            let last = chain.last().map(|last| last.issuer.as_str()).unwrap_or_default();
            format!(
                "compare the chain with the one that a browser shows for Jira: if {last:?} is your company's CA, put its certificate (PEM) into ca_file; if Jira's CA is a different one, TLS is intercepted on the way: ask the network team to exempt this host"
            )
        }
    };
    StepResult::fail(error.detail.clone(), remedy).presented(&error.chain)
}

fn failed(error: &SendError, remedy: &str) -> StepResult {
    StepResult::fail(error.detail.clone(), remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::step::StepRecorder;

    /// A CA in `ca_file` makes no certificate younger.
    #[test]
    fn the_remedy_of_a_refused_certificate_fits_what_is_wrong_with_it() {
        for (problem, part) in [
            ("expired", "renew the marked"),
            ("not valid yet", "timedatectl"),
            ("made for other names", "follow the cause"),
            ("its issuer is not trusted here", "into ca_file"),
            ("signed by itself, and not trusted here", "into ca_file"),
        ] {
            let presented = PresentedCertificate {
                subject: "jira.corp.example".into(),
                issuer: "Corp CA".into(),
                from: None,
                until: None,
                problem: Some(problem.into()),
            };
            let failure = HandshakeFailure {
                detail: "refused".into(),
                chain: vec![presented],
            };
            let mut steps = StepRecorder::new(None);
            steps.add("tls", refused(&failure));
            let remedy = steps.into_vec().remove(0).remedy.unwrap();
            assert!(remedy.contains(part), "{problem}: {remedy}");
        }
    }
}
