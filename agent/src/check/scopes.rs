//! Compares the scopes of an OAuth login with those that the rules in use need: a request without them passes the policy,
//! and Jira refuses it.

use super::step::{StepRecorder, StepResult};
use crate::{
    auth::{
        self, UpstreamAuth,
        oauth2::{GrantType, Settings, TokenIssuer},
    },
    config::ForwardConfig,
    policy::{self, CompiledPolicy, ScopedRequest},
};
use std::collections::BTreeSet;

/// Scopes that a login lacks for the requests that one preset or rule opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeGap {
    /// One sentence that names the scopes, the preset or rule, and a request.
    pub cause: String,
    /// Where a person adds them, one sentence.
    pub remedy: String,
}

/// Takes the step, if the credential has scopes.
pub(super) async fn check(steps: &mut StepRecorder, config: &ForwardConfig, login: &UpstreamAuth) {
    match &config.auth {
        auth::Settings::OAuth2(_) => {}
        auth::Settings::ApiToken { scoped: true, .. } => {
            steps.add("scopes", StepResult::skipped(unreported(config)));
            return;
        }
        auth::Settings::PassThrough
        | auth::Settings::Basic { .. }
        | auth::Settings::ApiToken { scoped: false, .. }
        | auth::Settings::Pat { .. }
        | auth::Settings::Header { .. }
        | auth::Settings::OAuth1(_) => return,
    }
    if login.refused().is_some() {
        let why = "Jira has not accepted the credential";
        steps.add("scopes", StepResult::skipped(why));
        return;
    }
    let more = steps.run("scopes", async {
        let Some(granted) = login.granted_scopes().await else {
            return (StepResult::skipped(UNKNOWN), None);
        };
        let gaps = scope_gaps(config, &granted).into_iter();
        let mut gaps = gaps.map(|gap| StepResult::warn(gap.cause, gap.remedy));
        match gaps.next() {
            Some(first) => {
                let first = first.with_detail(format!("has {}", shown(&granted)));
                (first, Some(gaps.collect::<Vec<_>>()))
            }
            None => (
                StepResult::ok(format!("{}; the rules need no other", shown(&granted))),
                None,
            ),
        }
    });
    for gap in more.await.unwrap_or_default() {
        steps.add("scopes", gap);
    }
}

/// What a login with these scopes lacks for the rules of the forward, one entry for each preset and rule. Empty also where
/// the forward uses no OAuth 2.0.
pub fn scope_gaps(config: &ForwardConfig, granted: &[String]) -> Vec<ScopeGap> {
    let (auth::Settings::OAuth2(settings), true) =
        (&config.auth, config.upstream.profile.is_jira())
    else {
        return Vec::new();
    };
    // Validated with the configuration.
    let Ok(policy) = CompiledPolicy::new(&config.policy) else {
        return Vec::new();
    };
    match settings.provider {
        TokenIssuer::Cloud => cloud_gaps(settings, &policy, granted),
        TokenIssuer::DataCenter => data_center_gaps(settings, &policy, granted),
    }
}

fn cloud_gaps(settings: &Settings, policy: &CompiledPolicy, granted: &[String]) -> Vec<ScopeGap> {
    let kind = ScopeKind::of(granted);
    let requests: Vec<_> = login_probe()
        .into_iter()
        .chain(policy.cloud_requests())
        .collect();
    let mut gaps = Vec::new();
    for requests in requests.chunk_by(|one, next| one.source == next.source) {
        let lacking: Vec<_> = requests
            .iter()
            .map(|request| (request, kind.missing(request, granted)))
            .filter(|(_, missing)| !missing.is_empty())
            .collect();
        let Some((first, _)) = lacking.first() else {
            continue;
        };
        let missing: BTreeSet<&str> = lacking
            .iter()
            .flat_map(|(_, m)| m.iter().copied())
            .collect();
        let missing: Vec<&str> = missing.into_iter().collect();
        let others = match lacking.len() - 1 {
            0 => String::new(),
            1 => " and one other request".to_owned(),
            more => format!(" and {more} other requests"),
        };
        gaps.push(ScopeGap {
            cause: format!(
                "the token lacks the {} {}, which {} needs for {}{others}; Jira Cloud refuses that with 401 \"scope does not match\"",
                plural(missing.len(), "scope", "scopes"),
                list(&missing),
                named(&first.source),
                first.request,
            ),
            remedy: cloud_remedy(settings, &missing),
        });
    }
    gaps
}

fn cloud_remedy(settings: &Settings, missing: &[&str]) -> String {
    let requested: Vec<_> = settings.scope.split_whitespace().collect();
    let them = plural(missing.len(), "it", "them");
    let console = format!("add {them} to the app in the developer console (Permissions)");
    let key = match missing.iter().all(|scope| requested.contains(scope)) {
        true => String::new(),
        false => " and to scope in [forward.auth]".to_owned(),
    };
    format!(
        "{console}{key}, then: {}; or deny these requests in [forward.policy]",
        settings.login_command()
    )
}

fn data_center_gaps(
    settings: &Settings,
    policy: &CompiledPolicy,
    granted: &[String],
) -> Vec<ScopeGap> {
    // A scope that is not known here may include WRITE.
    let reads_only = |scope: &String| READING.contains(&scope.as_str());
    if granted.is_empty() || !granted.iter().all(reads_only) {
        return Vec::new();
    }
    let login = match settings.grant {
        GrantType::AuthorizationCode => format!(", then: {}", settings.login_command()),
        GrantType::ClientCredentials => {
            "; the agent requests its next token with that scope".to_owned()
        }
    };
    let gap = |rule: policy::ChangingRule| ScopeGap {
        cause: format!(
            "the token has the scope {} and lacks WRITE, which {} needs for {}; Jira refuses what changes something",
            granted.join(" "),
            named(&rule.source),
            rule.rule
        ),
        remedy: format!(
            "in Jira, set the permission of the application link to Write (Administration, Applications, Application links), and scope = \"WRITE\" in [forward.auth]{login}; or use the preset read-only"
        ),
    };
    policy.changing_rules().into_iter().map(gap).collect()
}

/// Whether a token has classic scopes or granular ones. What is missing is named in its kind: a classic scope beside
/// granular ones would allow far more than the one that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScopeKind {
    Classic,
    Granular,
    Both,
}

impl ScopeKind {
    fn of(granted: &[String]) -> Self {
        let mut of_jira = granted.iter().filter(|scope| scope.contains(':'));
        let is_granular = |scope: &&String| scope.matches(':').count() > 1;
        // Those of the account, such as read:me, are neither.
        let is_classic = |scope: &&String| {
            scope.matches(':').count() == 1
                && (scope.contains("jira") || scope.contains("servicedesk"))
        };
        let granular = of_jira.clone().any(|scope| is_granular(&scope));
        let classic = of_jira.any(|scope| is_classic(&scope));
        match (classic, granular) {
            (true, true) => Self::Both,
            (false, true) => Self::Granular,
            (_, false) => Self::Classic,
        }
    }

    /// The scopes to add for this request. Empty: the token has what it needs, or nobody says what it needs.
    fn missing(self, request: &ScopedRequest, granted: &[String]) -> Vec<&'static str> {
        let lacking = |wanted: &[&'static str]| {
            let is_lacking = |scope: &&&'static str| !granted.iter().any(|has| has == **scope);
            wanted
                .iter()
                .filter(is_lacking)
                .copied()
                .collect::<Vec<_>>()
        };
        let (classic, granular) = (lacking(&request.classic), lacking(&request.granular));
        let has_all = |wanted: &[&str], lacking: &[&str]| !wanted.is_empty() && lacking.is_empty();
        if has_all(&request.classic, &classic) || has_all(&request.granular, &granular) {
            return Vec::new();
        }
        if request.classic.is_empty() {
            return granular;
        }
        if request.granular.is_empty() {
            return match self {
                Self::Classic => classic,
                Self::Granular | Self::Both => Vec::new(),
            };
        }
        // An administrator's scope is more than one request is worth.
        let is_broad = classic.iter().any(|scope| scope.starts_with("manage:"));
        match self {
            Self::Classic if !is_broad => classic,
            Self::Classic | Self::Granular => granular,
            Self::Both if !is_broad && classic.len() <= granular.len() => classic,
            Self::Both => granular,
        }
    }
}

/// What the agent itself asks.
fn login_probe() -> Vec<ScopedRequest> {
    let probe = policy::Settings {
        allow: vec!["GET /rest/api/2/myself".to_owned()],
        ..policy::Settings::default()
    };
    let probe = CompiledPolicy::new(&probe).map(|policy| policy.cloud_requests());
    let mut probe = probe.unwrap_or_default();
    for request in &mut probe {
        PROBE.clone_into(&mut request.source);
    }
    probe
}

/// What an API token needs: nothing reports what it has.
fn unreported(config: &ForwardConfig) -> String {
    let requests = CompiledPolicy::new(&config.policy).map(|policy| policy.cloud_requests());
    let mut needed = BTreeSet::new();
    for request in login_probe().iter().chain(&requests.unwrap_or_default()) {
        needed.extend(ScopeKind::Classic.missing(request, &[]));
    }
    let needed: Vec<_> = needed.into_iter().collect();
    format!(
        "Atlassian does not report the scopes of an API token; the rules need {}, or the granular scopes in their place (docs/authentication/cloud.md)",
        list(&needed)
    )
}

fn named(source: &str) -> String {
    match source.strip_prefix("preset ") {
        Some(preset) => format!("the preset {preset:?}"),
        None if source == PROBE => source.to_owned(),
        None => format!("the rule {source}"),
    }
}

fn shown(granted: &[String]) -> String {
    match granted.len() {
        0..=SHORT => granted.join(", "),
        many => format!("{many} scopes"),
    }
}

fn list(scopes: &[&str]) -> String {
    match scopes.len().checked_sub(MAX_NAMED) {
        None | Some(0) => scopes.join(", "),
        Some(more) => format!("{} and {more} more", scopes[..MAX_NAMED].join(", ")),
    }
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

const PROBE: &str = "the agent's login probe";
const UNKNOWN: &str = "nothing says which scopes this login has; agent login stores them";
/// Scopes of Data Center with which nothing is changed.
const READING: [&str; 2] = ["READ", "READ_ALL"];
/// So many scopes of a token are shown by name.
const SHORT: usize = 6;
/// So many missing scopes are named in one message.
const MAX_NAMED: usize = 20;

#[cfg(test)]
mod tests;
