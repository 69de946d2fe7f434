//! What a process has proven, and what a new one lacks of that.

use crate::status::{ForwardState, ForwardView, LayerReport, LayerState, StatusReport};
use std::collections::BTreeSet;

/// What a process has proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct ProcessProof {
    forwards: Vec<ForwardProof>,
    /// Gateways to which a session answers probes.
    sessions: BTreeSet<String>,
}

/// What a process has proven of one forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct ForwardProof {
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

impl ProcessProof {
    /// Whether a gateway listens for a forward.
    pub(super) fn is_bound(&self) -> bool {
        self.forwards
            .iter()
            .any(|forward| !forward.bound.is_empty())
    }

    /// What is proven now and what was proven before, of the forwards that there are now: a layer that fails for a moment
    /// is still needed.
    pub(super) fn with_earlier(mut self, earlier: &Self) -> Self {
        for forward in &mut self.forwards {
            let before = earlier.forwards.iter().find(|f| f.name == forward.name);
            if let Some(before) = before {
                forward.tunnel |= before.tunnel;
                forward.jira |= before.jira;
                forward.login |= before.login;
                forward.bound.extend(before.bound.iter().cloned());
            }
        }
        self
    }

    /// What is not proven of this process itself, except its forwards.
    pub(super) fn unproven(&self) -> Option<String> {
        if self.sessions.is_empty() {
            return self.forwards.first().map(|f| describe(f, "tunnel"));
        }
        self.forwards.iter().find_map(|forward| match forward {
            ForwardProof { jira: false, .. } => Some(describe(forward, "jira")),
            ForwardProof { login: false, .. } => Some(describe(forward, "login")),
            _ => None,
        })
    }
}

/// What this report proves.
pub(super) fn of_report(report: &StatusReport) -> ProcessProof {
    let proven =
        |layer: &LayerReport| matches!(layer.state, LayerState::Proven | LayerState::NotApplicable);
    let sessions = || {
        let connections = report.connections.iter();
        connections.filter(|connection| {
            // One broken place makes the connection degraded, and says nothing of its others.
            let only_a_place = connection.forwards.iter().any(ForwardView::is_broken)
                && connection.suspect_seconds.is_none();
            connection.tunnel.state == LayerState::Proven || only_a_place
        })
    };
    let places = |name: &str, wanted: fn(&ForwardView) -> bool| {
        sessions()
            .flat_map(|connection| {
                let views = connection.forwards.iter();
                let views = views.filter(|view| view.name == name && wanted(view));
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
            bound: places(&forward.name, |view| {
                view.state == ForwardState::Bound && !view.is_broken()
            }),
            refused: places(&forward.name, |view| {
                matches!(view.state, ForwardState::Refused | ForwardState::Standby)
            }),
            cause: cause.cloned().unwrap_or_default(),
        }
    });
    ProcessProof {
        forwards: forward.collect(),
        sessions: sessions().map(|c| c.gateway.clone()).collect(),
    }
}

/// How far the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProofStage {
    /// It has sessions, and requests no forward yet.
    Sessions,
    /// It requests its forwards.
    Forwards,
}

/// What the new process has not proven. `needed`: what this one has proven since the hand-over began; `ours`: what it has
/// proven now; `gateways`: those in the configuration of the new one.
///
/// A forward or gateway that the new configuration does not have is not needed. A place that this process holds, and that a
/// gateway gives to one session only, is refused to the new one: it gets it when this process releases it.
pub(super) fn lacking(
    stage: ProofStage,
    needed: &ProcessProof,
    ours: &ProcessProof,
    theirs: &ProcessProof,
    gateways: &[String],
) -> Option<String> {
    needed.forwards.iter().find_map(|needed| {
        let of = |proof: &'_ ProcessProof| {
            let found = proof.forwards.iter().find(|f| f.name == needed.name);
            found.cloned()
        };
        let their = of(theirs)?;
        if needed.jira && !their.jira {
            return Some(describe(&their, "jira"));
        }
        if needed.login && !their.login {
            return Some(describe(&their, "login"));
        }
        let held = of(ours).map(|our| our.bound).unwrap_or_default();
        let serves = |gateway: &str| match stage {
            ProofStage::Sessions => theirs.sessions.contains(gateway),
            ProofStage::Forwards => {
                let bound = their.bound.iter().any(|place| place.gateway == gateway);
                let held_here =
                    |place: &BoundPlace| place.gateway == gateway && held.contains(place);
                bound || their.refused.iter().any(held_here)
            }
        };
        let gateway = lacking_gateway(needed, gateways, serves)?;
        Some(describe(&their, &format!("tunnel to {gateway}")))
    })
}

fn lacking_gateway<'a>(
    needed: &'a ForwardProof,
    gateways: &'a [String],
    serves: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    if !needed.tunnel {
        return None;
    }
    let shared = |place: &&BoundPlace| gateways.contains(&place.gateway);
    let mut known = needed.bound.iter().filter(shared).peekable();
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
    #![allow(clippy::unwrap_used)]
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

    fn process(forwards: &[ForwardProof]) -> ProcessProof {
        ProcessProof {
            forwards: forwards.to_vec(),
            sessions: BTreeSet::new(),
        }
    }

    /// With its forwards requested, and what this process has now.
    fn lacking(
        ours: &[ForwardProof],
        theirs: &[ForwardProof],
        gateways: &[String],
    ) -> Option<String> {
        let (ours, theirs) = (process(ours), process(theirs));
        super::lacking(ProofStage::Forwards, &ours, &ours, &theirs, gateways)
    }

    #[test]
    fn the_new_process_requests_its_forwards_when_all_else_is_proven() {
        let both = ["gw1".to_owned(), "gw2".to_owned()];
        let ours = process(&[proof(&[("gw1", "a-0"), ("gw2", "a-1")], &[])]);
        let lacks = |jira, sessions: &[&str]| {
            let theirs = ProcessProof {
                sessions: sessions.iter().map(|&gateway| gateway.to_owned()).collect(),
                ..process(&[ForwardProof {
                    jira,
                    ..proof(&[], &[])
                }])
            };
            super::lacking(ProofStage::Sessions, &ours, &ours, &theirs, &both)
        };
        assert_eq!(
            lacks(false, &["gw1", "gw2"]).unwrap(),
            "jira of forward jira"
        );
        let one = lacks(true, &["gw1"]);
        assert_eq!(one.unwrap(), "tunnel to gw2 of forward jira");
        assert_eq!(lacks(true, &["gw1", "gw2"]), None);
    }

    #[test]
    fn what_fails_for_a_moment_is_still_needed_and_a_removed_forward_is_not() {
        let gateways = ["gw1".to_owned()];
        let before = process(&[proof(&[("gw1", "a-0")], &[])]);
        let now = process(&[ForwardProof {
            jira: false,
            ..proof(&[], &[])
        }]);
        let theirs = process(&[proof(&[], &[])]);
        let lacks = |needed: &ProcessProof| {
            super::lacking(ProofStage::Forwards, needed, &now, &theirs, &gateways)
        };
        assert_eq!(lacks(&now), None);
        let needed = now.clone().with_earlier(&before);
        assert_eq!(lacks(&needed).unwrap(), "tunnel to gw1 of forward jira");
        let removed = process(&[]).with_earlier(&before);
        assert_eq!(lacks(&removed), None);
        // The place that this process has lost may be refused for another reason.
        let refused = process(&[proof(&[], &[("gw1", "a-0")])]);
        let lacks = |ours: &ProcessProof| {
            super::lacking(ProofStage::Forwards, &needed, ours, &refused, &gateways)
        };
        assert!(lacks(&now).is_some());
        assert_eq!(lacks(&before), None);
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
