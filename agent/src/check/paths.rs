//! Names the rules that open nothing, because no path of this kind of Jira answers them. Data Center and Cloud differ in a
//! few paths; a forward that moves from one to the other shows all of them before the reload.

use super::step::{CheckStep, StepRecorder, StepResult};
use crate::{
    auth::oauth2::TokenIssuer,
    config::ForwardConfig,
    policy::presets,
    upstream::{HttpTarget, UpstreamTarget},
};

/// The kinds of Jira whose paths differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JiraKind {
    DataCenter,
    Cloud,
}

/// Where the running agent's forward leads, which the next reload may change.
pub struct RunningUpstream<'a> {
    /// `upstream` of its configuration.
    pub url: &'a str,
    /// The `mode` of `[forward.auth]`.
    pub auth_mode: &'a str,
}

/// The steps `paths` of one forward: warnings alone. A preset serves both kinds, so a path of the other kind in it is
/// worth a warning only when the forward moves. `running`: the same forward in the running agent.
pub fn paths(config: &ForwardConfig, running: Option<&RunningUpstream<'_>>) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(&config.name));
    let (UpstreamTarget::Http(target), true) =
        (&config.upstream.target, config.upstream.profile.is_jira())
    else {
        return steps.into_vec();
    };
    let kind = match config.upstream.cloud {
        Some(_) => JiraKind::Cloud,
        None => JiraKind::DataCenter,
    };
    let former = running.and_then(RunningUpstream::target);
    let moves = former.as_ref().is_some_and(|(was, _)| *was != kind);
    let mut warn =
        |cause: String, remedy: String| steps.add("paths", StepResult::warn(cause, remedy));
    if let Some((_, former)) = former.filter(|_| moves)
        && former.context_path != target.context_path
    {
        warn(
            format!(
                "the reload moves the forward to {}, and the context path changes from {:?} to {:?}: the vendor's URL has it",
                kind.name(),
                former.context_path,
                target.context_path
            ),
            "have the vendor change its base URL at the same time, or give Cloud a forward of its own (docs/move-to-cloud.md)".to_owned(),
        );
    }
    let mode = config.auth.mode();
    if kind == JiraKind::Cloud && ["basic", "pat"].contains(&mode) {
        warn(
            format!("Jira Cloud has no login of mode {mode:?}"),
            "set mode = \"api-token\" or \"oauth2\" (docs/authentication/cloud.md)".to_owned(),
        );
    }
    for name in &config.policy.presets {
        let Some(preset) = presets().iter().find(|preset| preset.name == name) else {
            continue;
        };
        let other: Vec<_> = preset
            .rules()
            .filter_map(|rule| Some((rule, kind.lacks(rule)?)))
            .collect();
        if let [(_, first), ..] = other[..]
            && other.len() == preset.rules().count()
        {
            let cause = format!(
                "preset {name:?} opens nothing: {} has none of its paths",
                kind.name()
            );
            warn(cause, format!("remove it; instead: {}", first.instead));
        } else if moves {
            for (rule, path) in other {
                warn(
                    format!("{} does not answer {rule:?} (preset {name:?})", kind.name()),
                    path.remedy(),
                );
            }
        }
    }
    for rule in &config.policy.allow {
        if let Some(path) = kind.lacks(rule) {
            warn(
                format!("{} does not answer {rule:?}", kind.name()),
                path.remedy(),
            );
        }
    }
    if moves && kind == JiraKind::Cloud {
        warn(
            "Jira Cloud names users by accountId; parameters and fields with a user's name or key match no user there".to_owned(),
            "have the vendor look up account ids (GET /rest/api/2/user/search?query=…) before the move".to_owned(),
        );
    }
    steps.into_vec()
}

impl RunningUpstream<'_> {
    fn target(&self) -> Option<(JiraKind, HttpTarget)> {
        let Ok(UpstreamTarget::Http(target)) = self.url.parse() else {
            return None;
        };
        let cloud = self.auth_mode == "api-token" || TokenIssuer::of(&target) == TokenIssuer::Cloud;
        let kind = if cloud {
            JiraKind::Cloud
        } else {
            JiraKind::DataCenter
        };
        Some((kind, target))
    }
}

impl JiraKind {
    fn name(self) -> &'static str {
        match self {
            Self::DataCenter => "Jira Data Center",
            Self::Cloud => "Jira Cloud",
        }
    }

    /// The path of the other kind that this rule names.
    fn lacks(self, rule: &str) -> Option<&'static OneSidedPath> {
        let (_, path) = rule.split_once(' ')?;
        ONE_SIDED
            .iter()
            .find(|known| known.only != self && known.covers(path.trim()))
    }
}

/// A path that one kind of Jira answers and the other does not.
struct OneSidedPath {
    only: JiraKind,
    /// Segments; `A` is any version of the API but 3.
    path: &'static str,
    /// Paths below it are one-sided too.
    below: bool,
    /// What the other kind has.
    instead: &'static str,
}

impl OneSidedPath {
    const fn exactly(only: JiraKind, path: &'static str, instead: &'static str) -> Self {
        Self {
            only,
            path,
            below: false,
            instead,
        }
    }

    const fn all(only: JiraKind, path: &'static str, instead: &'static str) -> Self {
        Self {
            only,
            path,
            below: true,
            instead,
        }
    }

    fn covers(&self, path: &str) -> bool {
        let mut asked = path.trim_end_matches('/').split('/');
        for segment in self.path.split('/') {
            match asked.next() {
                Some(found) if found == segment => {}
                Some(found) if segment == "A" && VERSIONS.contains(&found) => {}
                _ => return false,
            }
        }
        self.below || asked.next().is_none()
    }

    fn remedy(&self) -> String {
        format!("the vendor uses instead: {}", self.instead)
    }
}

const VERSIONS: [&str; 4] = ["2", "latest", "(2|latest)", "(latest|2)"];

use JiraKind::{Cloud, DataCenter};

/// From the REST references of Jira 9 to 11 and of Cloud; CHANGE-2046 for the searches.
const ONE_SIDED: [OneSidedPath; 17] = [
    OneSidedPath::all(
        Cloud,
        "/rest/api/3",
        "/rest/api/2 (preset ticketing, two-way-sync)",
    ),
    OneSidedPath::all(Cloud, "/rest/api/A/search/jql", "/rest/api/2/search"),
    OneSidedPath::all(
        Cloud,
        "/rest/api/A/search/approximate-count",
        "total in the answer of /rest/api/2/search",
    ),
    OneSidedPath::exactly(Cloud, "/rest/api/A/project/search", "/rest/api/2/project"),
    OneSidedPath::exactly(Cloud, "/rest/api/A/user/bulk", "/rest/api/2/user/search"),
    OneSidedPath::all(
        Cloud,
        "/rest/api/A/attachment/content",
        "/secure/attachment/{number}/*",
    ),
    OneSidedPath::all(
        Cloud,
        "/rest/api/A/attachment/thumbnail",
        "/secure/thumbnail/{number}/*",
    ),
    OneSidedPath::exactly(
        DataCenter,
        "/rest/api/A/search",
        "/rest/api/2/search/jql, with pages by nextPageToken",
    ),
    OneSidedPath::all(
        DataCenter,
        "/secure/attachment",
        "/rest/api/2/attachment/content/{number}",
    ),
    OneSidedPath::all(
        DataCenter,
        "/secure/thumbnail",
        "/rest/api/2/attachment/thumbnail/{number}",
    ),
    OneSidedPath::exactly(DataCenter, "/status", "/rest/api/2/serverInfo"),
    OneSidedPath::all(
        DataCenter,
        "/rest/oauth2",
        "the agent's own login, mode = \"oauth2\"",
    ),
    OneSidedPath::all(
        DataCenter,
        "/rest/pat",
        "API tokens of the Atlassian account",
    ),
    OneSidedPath::all(DataCenter, "/rest/auth", "the agent's own login"),
    OneSidedPath::all(
        DataCenter,
        "/rest/jira-webhook",
        "/rest/webhooks/1.0/webhook",
    ),
    OneSidedPath::all(DataCenter, "/rest/greenhopper", "/rest/agile/1.0"),
    OneSidedPath::all(
        DataCenter,
        "/rest/api/A/cluster",
        "nothing: Atlassian operates Cloud",
    ),
];

#[cfg(test)]
mod tests;
