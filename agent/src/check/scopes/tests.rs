#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::{
    secret::SecretFile,
    tokens::TokenStore,
    upstream::{self, HttpTarget, UpstreamTarget},
};
use std::path::Path;

fn settings(provider: TokenIssuer, scope: &str) -> Settings {
    let target = |url: &str| -> HttpTarget {
        match url.parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{url}"),
        }
    };
    let site = target("https://jira.corp.example");
    Settings {
        client_id: "acme".into(),
        client_secret_file: SecretFile::new(Path::new("/nowhere")),
        grant: GrantType::AuthorizationCode,
        scope: scope.into(),
        authorize_url: site.clone(),
        token_url: site.clone(),
        revoke_url: None,
        redirect_uri: "https://localhost/".into(),
        audience: None,
        provider,
        refresh_token_file: None,
        store: TokenStore::new(Path::new("/nowhere"), "jira"),
        upstream: upstream::Settings::new(UpstreamTarget::Http(site)),
    }
}

fn policy(presets: &[&str], allow: &[&str]) -> CompiledPolicy {
    CompiledPolicy::new(&policy::Settings {
        presets: presets.iter().map(|&name| name.to_owned()).collect(),
        allow: allow.iter().map(|&rule| rule.to_owned()).collect(),
        ..policy::Settings::default()
    })
    .unwrap()
}

fn words(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// All granular scopes of the rules, and of the agent's own probe.
fn granular(policy: &CompiledPolicy) -> BTreeSet<String> {
    let requests = login_probe().into_iter().chain(policy.cloud_requests());
    let scopes = requests.flat_map(|request| request.granular);
    scopes.map(str::to_owned).collect()
}

fn in_cloud(policy: &CompiledPolicy, granted: &[String]) -> Vec<ScopeGap> {
    let settings = settings(TokenIssuer::Cloud, TokenIssuer::Cloud.scope());
    cloud_gaps(&settings, policy, granted)
}

#[test]
fn the_scopes_requested_by_default_are_enough_for_ticketing() {
    for provider in [TokenIssuer::Cloud, TokenIssuer::DataCenter] {
        let granted = words(provider.scope());
        let rules = policy(&["ticketing", "ticketing-cloud", "bulk", "delete"], &[]);
        let settings = settings(provider, provider.scope());
        let gaps = match provider {
            TokenIssuer::Cloud => cloud_gaps(&settings, &rules, &granted),
            TokenIssuer::DataCenter => data_center_gaps(&settings, &rules, &granted),
        };
        assert!(gaps.is_empty(), "{provider:?}: {gaps:?}");
    }
}

#[test]
fn each_scope_that_is_taken_from_a_granular_token_is_named_alone() {
    let rules = policy(&["ticketing"], &[]);
    let all = granular(&rules);
    let whole: Vec<String> = all.iter().cloned().collect();
    assert!(in_cloud(&rules, &whole).is_empty());
    for scope in &all {
        let rest: Vec<String> = all
            .iter()
            .filter(|other| *other != scope)
            .cloned()
            .collect();
        let gaps = in_cloud(&rules, &rest);
        assert!(!gaps.is_empty(), "{scope}");
        for gap in gaps {
            let named = format!("the token lacks the scope {scope}, which ");
            assert!(gap.cause.starts_with(&named), "{scope}: {}", gap.cause);
        }
    }
}

#[test]
fn a_gap_names_scope_source_request_and_remedy() {
    let granted = words("read:jira-user read:jira-work");
    let gaps = in_cloud(
        &policy(&["ticketing"], &["GET /rest/agile/1.0/board"]),
        &granted,
    );
    let causes: Vec<&str> = gaps.iter().map(|gap| &*gap.cause).collect();
    assert_eq!(
        causes,
        [
            "the token lacks the scope write:jira-work, which the preset \"ticketing\" needs for POST /rest/api/2/issue \
             and 8 other requests; Jira Cloud refuses that with 401 \"scope does not match\"",
            "the token lacks the scopes read:board-scope:jira-software, read:project:jira, which the rule allow[0] needs \
             for GET /rest/agile/1.0/board; Jira Cloud refuses that with 401 \"scope does not match\"",
        ]
    );
    assert_eq!(
        gaps[0].remedy,
        "add it to the app in the developer console (Permissions), then: agent login jira; or deny these requests in \
         [forward.policy]"
    );
    assert!(
        gaps[1].remedy.contains("and to scope in [forward.auth]"),
        "{:?}",
        gaps[1]
    );
}

#[test]
fn the_agents_own_probe_needs_a_scope_too() {
    let gaps = in_cloud(
        &policy(&[], &["GET /rest/api/3/issue/{issue}"]),
        &words("read:jira-work"),
    );
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let cause = &gaps[0].cause;
    assert!(
        cause.contains("read:jira-user, which the agent's login probe needs"),
        "{cause}"
    );
}

/// What is named is the kind that the token has, and never an administrator's scope.
#[test]
fn the_smaller_grant_is_named() {
    let comment = &policy(&[], &["GET /rest/api/2/issue/{issue}/comment"]).cloud_requests()[0];
    let level = &policy(&[], &["GET /rest/api/2/securitylevel/{number}"]).cloud_requests()[0];
    let missing = |request: &ScopedRequest, granted: &str| {
        let granted = words(granted);
        ScopeKind::of(&granted).missing(request, &granted)
    };
    assert_eq!(
        missing(comment, "read:jira-user read:me"),
        ["read:jira-work"]
    );
    assert_eq!(missing(comment, ""), ["read:jira-work"]);
    assert!(!missing(comment, "read:issue:jira").contains(&"read:jira-work"));
    assert_eq!(
        missing(comment, "read:jira-user read:issue:jira"),
        ["read:jira-work"]
    );
    assert_eq!(missing(comment, "read:jira-work"), [""; 0]);
    assert!(missing(level, "read:jira-work").contains(&"read:issue-security-level:jira"));
    assert_eq!(missing(level, "manage:jira-configuration"), [""; 0]);
}

#[test]
fn a_reading_token_of_data_center_is_named_where_a_rule_writes() {
    let gaps = |presets: &[&str], granted: &str| {
        let settings = settings(TokenIssuer::DataCenter, "READ");
        data_center_gaps(&settings, &policy(presets, &[]), &words(granted))
    };
    for granted in ["WRITE", "SYSTEM_ADMIN", "READ WRITE", "SOMETHING_NEW", ""] {
        assert!(gaps(&["ticketing"], granted).is_empty(), "{granted}");
    }
    assert!(gaps(&["read-only"], "READ").is_empty());
    let named = gaps(&["read-only", "ticketing"], "READ");
    assert_eq!(named.len(), 1);
    let ScopeGap { cause, remedy } = &named[0];
    assert!(
        cause.starts_with("the token has the scope READ and lacks WRITE"),
        "{cause}"
    );
    assert!(cause.contains("the preset \"ticketing\""), "{cause}");
    assert!(
        remedy.contains("scope = \"WRITE\"") && remedy.contains("agent login jira"),
        "{remedy}"
    );
}
