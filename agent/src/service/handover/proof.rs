//! What a process has proven, and what a new one lacks of that.

use crate::status::{ForwardState, LayerReport, LayerState, StatusReport};
use std::collections::BTreeSet;

/// What a process has proven of one forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct ForwardProof {
    name: String,
    /// A session that answers probes holds it.
    tunnel: bool,
    /// Jira answers.
    jira: bool,
    /// Jira accepts the credential, or the vendor brings its own.
    login: bool,
    /// Where gateways listen for it.
    bound: BTreeSet<BoundPlace>,
    /// Where they refuse to.
    refused: BTreeSet<BoundPlace>,
    /// Why something is not proven.
    cause: String,
}

/// An address at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
struct BoundPlace {
    gateway: String,
    bind: String,
}

impl ForwardProof {
    /// Whether a gateway listens for it.
    pub(super) fn is_bound(&self) -> bool {
        !self.bound.is_empty()
    }
}

/// What this report proves.
pub(super) fn of_report(report: &StatusReport) -> Vec<ForwardProof> {
    let proven =
        |layer: &LayerReport| matches!(layer.state, LayerState::Proven | LayerState::NotApplicable);
    let places = |name: &str, wanted: fn(ForwardState) -> bool| {
        let connections = report.connections.iter();
        connections
            .filter(|connection| connection.tunnel.state == LayerState::Proven)
            .flat_map(|connection| {
                let views = connection.forwards.iter();
                let views = views.filter(|view| view.name == name && wanted(view.state));
                views.map(|view| BoundPlace {
                    gateway: connection.gateway.clone(),
                    bind: view.bind.clone(),
                })
            })
            .collect()
    };
    let forward = report.forwards.iter().map(|forward| {
        let layers = [&forward.tunnel, &forward.jira, &forward.login];
        let unproven = layers.into_iter().find(|layer| !proven(layer));
        let no_session = report
            .connections
            .iter()
            .find_map(|c| c.tunnel.cause.as_ref());
        let cause = unproven.and_then(|layer| layer.cause.as_ref().or(no_session));
        ForwardProof {
            name: forward.name.clone(),
            tunnel: proven(&forward.tunnel),
            jira: proven(&forward.jira),
            login: proven(&forward.login),
            bound: places(&forward.name, |state| state == ForwardState::Bound),
            refused: places(&forward.name, |state| {
                matches!(state, ForwardState::Refused | ForwardState::Standby)
            }),
            cause: cause.cloned().unwrap_or_default(),
        }
    });
    forward.collect()
}

/// What the new process has not proven of what this one has. `gateways`: those in the configuration of the new one.
///
/// A forward or gateway that the new configuration does not have is not needed. A place that this process holds, and that a
/// gateway gives to one session only, is refused to the new one: it gets it when this process releases it.
pub(super) fn lacking(
    ours: &[ForwardProof],
    theirs: &[ForwardProof],
    gateways: &[String],
) -> Option<String> {
    ours.iter().find_map(|our| {
        let their = theirs.iter().find(|their| their.name == our.name)?;
        let layer = if our.jira && !their.jira {
            "jira"
        } else if our.login && !their.login {
            "login"
        } else if let Some(gateway) = lacking_gateway(our, their, gateways) {
            return Some(describe(their, &format!("tunnel to {gateway}")));
        } else {
            return None;
        };
        Some(describe(their, layer))
    })
}

fn lacking_gateway<'a>(
    our: &'a ForwardProof,
    their: &ForwardProof,
    gateways: &'a [String],
) -> Option<&'a str> {
    if !our.tunnel {
        return None;
    }
    let shared = |place: &&BoundPlace| gateways.contains(&place.gateway);
    let serves = |gateway: &str| {
        their.bound.iter().any(|place| place.gateway == gateway)
            || their
                .refused
                .iter()
                .any(|place| place.gateway == gateway && our.bound.contains(place))
    };
    let mut known = our.bound.iter().filter(shared).peekable();
    if known.peek().is_none() {
        // All its gateways are new.
        let any = gateways.iter().any(|gateway| serves(gateway));
        return (!any).then(|| gateways.first().map_or("a gateway", String::as_str));
    }
    let missing = known.find(|place| !serves(&place.gateway));
    missing.map(|place| place.gateway.as_str())
}

fn describe(their: &ForwardProof, layer: &str) -> String {
    let cause = match their.cause.as_str() {
        "" => String::new(),
        cause => format!(" ({cause})"),
    };
    format!("{layer} of forward {}{cause}", their.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(gateway: &str, bind: &str) -> BoundPlace {
        BoundPlace {
            gateway: gateway.to_owned(),
            bind: bind.to_owned(),
        }
    }

    fn proof(bound: &[(&str, &str)], refused: &[(&str, &str)]) -> ForwardProof {
        let places = |places: &[(&str, &str)]| places.iter().map(|(g, b)| place(g, b)).collect();
        ForwardProof {
            name: "jira".into(),
            tunnel: !bound.is_empty(),
            jira: true,
            login: true,
            bound: places(bound),
            refused: places(refused),
            cause: String::new(),
        }
    }

    #[test]
    fn the_new_process_needs_what_the_old_one_has_and_no_more() {
        let both = ["gw1".to_owned(), "gw2".to_owned()];
        let ours = [proof(&[("gw1", "a-0"), ("gw2", "a-1")], &[])];
        let lacks = |theirs: ForwardProof| lacking(&ours, &[theirs], &both);
        assert_eq!(lacks(proof(&[("gw1", "a-2"), ("gw2", "a-3")], &[])), None);
        let one = lacks(proof(&[("gw1", "a-2")], &[]));
        assert_eq!(one.as_deref(), Some("tunnel to gw2 of forward jira"));
        // The second gateway is not configured any more.
        let theirs = [proof(&[("gw1", "a-2")], &[])];
        assert_eq!(lacking(&ours, &theirs, &both[..1]), None);
        // A forward that is new, or was removed.
        assert_eq!(lacking(&[], &theirs, &both), None);
        assert_eq!(lacking(&ours, &[], &both), None);
        // All gateways are others.
        let other = ["gw9".to_owned()];
        assert!(lacking(&ours, &[proof(&[], &[])], &other).is_some());
        assert_eq!(
            lacking(&ours, &[proof(&[("gw9", "a-0")], &[])], &other),
            None
        );
    }

    #[test]
    fn a_place_that_the_old_process_holds_may_be_refused_and_no_other() {
        let gateways = ["gw1".to_owned()];
        let ours = [proof(&[("gw1", "127.0.0.1:8080")], &[])];
        let same = proof(&[], &[("gw1", "127.0.0.1:8080")]);
        assert_eq!(lacking(&ours, &[same], &gateways), None);
        let other = proof(&[], &[("gw1", "127.0.0.1:8081")]);
        assert!(lacking(&ours, &[other], &gateways).is_some());
    }

    #[test]
    fn a_layer_that_the_old_process_has_not_proven_is_not_needed() {
        let gateways = ["gw1".to_owned()];
        let with = |jira, login, cause: &str| ForwardProof {
            jira,
            login,
            cause: cause.into(),
            ..proof(&[("gw1", "a")], &[])
        };
        let lacks = |ours, theirs| lacking(&[ours], &[theirs], &gateways);
        let theirs = with(false, true, "connection refused");
        assert_eq!(lacks(with(false, true, ""), theirs.clone()), None);
        assert_eq!(
            lacks(with(true, true, ""), theirs).as_deref(),
            Some("jira of forward jira (connection refused)")
        );
        assert_eq!(
            lacks(with(true, true, ""), with(true, false, "401")).as_deref(),
            Some("login of forward jira (401)")
        );
    }
}
