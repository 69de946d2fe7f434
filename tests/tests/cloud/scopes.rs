//! Classic and granular scopes: what Cloud refuses, and how `agent check` and `agent login` name what is lacking.

use crate::common::{ACCOUNT, CloudEnv, SCOPED, get, log_in};
use agent::{
    check::{CheckStep, StepVerdict},
    policy::{self, CompiledPolicy, documented_scopes},
    status::LayerState,
};
use e2e::{
    agent::AgentProcess,
    test_env::{MYSELF, new_issue, vendor},
};
use serde_json::{Value, json};
use server_stub::cloud::RequiredScopes;
use std::collections::BTreeSet;

/// Atlassian's references were read twice: for the agent's table and for the imitation.
#[test]
fn the_agents_table_and_the_imitation_agree() {
    let mut compared = 0;
    for known in documented_scopes() {
        let (method, path) = known.request.split_once(' ').unwrap();
        let required = RequiredScopes::of(&method.parse().unwrap(), path);
        assert_eq!(required.classic, known.classic, "{}", known.request);
        assert_eq!(required.granular, known.granular, "{}", known.request);
        compared += 1;
    }
    assert!(compared > 250, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granular_login_works_and_one_scope_that_is_taken_away_is_named() {
    let all = granular_for_ticketing();
    let site = granular_env(&all).await;
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    assert_eq!(get(&format!("{url}{MYSELF}")).await.1["accountId"], ACCOUNT);
    assert_eq!(create(&url).await.0, 201);
    let steps = scope_steps(&agent);
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert_eq!(steps[0].verdict, StepVerdict::Ok, "{steps:#?}");
    let detail = format!("{} scopes; the rules need no other", all.len());
    assert_eq!(steps[0].detail.as_deref(), Some(&*detail));

    let taken = "write:issue-link:jira";
    let rest = all.into_iter().filter(|scope| *scope != taken).collect();
    let site = granular_env(&rest).await;
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let steps = scope_steps(&agent);
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert_eq!(steps[0].verdict, StepVerdict::Warn);
    assert_eq!(
        steps[0].cause.as_deref(),
        Some(
            "the token lacks the scope write:issue-link:jira, which the preset \"ticketing\" needs for POST \
             /rest/api/2/issueLink; Jira Cloud refuses that with 401 \"scope does not match\""
        )
    );
    let remedy = steps[0].remedy.clone().unwrap();
    assert!(
        remedy.contains("developer console (Permissions)"),
        "{remedy}"
    );
    assert!(remedy.contains("agent login jira"), "{remedy}");
    // The vendor gets what Cloud says, and everything else goes on.
    let refreshes = site.cloud.counts().refreshes;
    let link = vendor().post(format!("{url}/rest/api/2/issueLink"));
    let answer = link.json(&json!({ "type": { "name": "Relates" } })).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 401);
    let body: Value = answer.json().await.unwrap();
    let refusal = json!({ "code": 401, "message": "Unauthorized; scope does not match" });
    assert_eq!(body, refusal);
    assert_eq!(create(&url).await.0, 201);
    assert_eq!(site.cloud.counts().refreshes, refreshes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_name_its_user_says_which_scope_it_lacks() {
    let scope = "read:jira-work offline_access";
    let site = CloudEnv::new(|_| {}).await.oauth2();
    let site = site.with("auth.scope", scope).seeded(scope).await;
    let (agent, _) = site.start().await;
    let named = |report: &agent::status::StatusReport| {
        let cause = report.layers.login.cause.as_deref().unwrap_or_default();
        cause.contains("scopes do not cover the login probe")
    };
    let report = agent.until_status("the scope", named).await.unwrap();
    assert_ne!(report.layers.login.state, LayerState::Proven);
    let causes: Vec<_> = scope_steps(&agent)
        .into_iter()
        .map(|s| s.cause.unwrap())
        .collect();
    assert_eq!(causes.len(), 2, "{causes:#?}");
    assert!(
        causes[0].contains("read:jira-user, which the agent's login probe needs"),
        "{causes:#?}"
    );
    assert!(
        causes[1].starts_with("the token lacks the scopes read:jira-user, write:jira-work, which the preset \"ticketing\""),
        "{causes:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_login_warns_of_scopes_that_the_rules_need() {
    let scope = "read:jira-work read:jira-user offline_access";
    let site = CloudEnv::new(|_| {})
        .await
        .oauth2()
        .with("auth.scope", scope);
    let (agent, _) = site.start().await;
    let (printed, ok) = log_in(&agent).await;
    assert!(ok, "{printed}");
    assert!(
        printed.contains("warning: the token lacks the scope write:jira-work"),
        "{printed}"
    );
    assert!(printed.contains("to scope in [forward.auth]"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_token_needs_is_listed() {
    let site = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let (agent, _) = site.start().await;
    agent.until_proven().await.unwrap();
    let steps = scope_steps(&agent);
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert_eq!(steps[0].verdict, StepVerdict::Skipped);
    let cause = steps[0].cause.clone().unwrap();
    assert!(
        cause.contains("need read:jira-user, read:jira-work, write:jira-work, or"),
        "{cause}"
    );
}

/// Cloud with an app that has these scopes, and a login with all of them.
async fn granular_env(scopes: &BTreeSet<&'static str>) -> CloudEnv {
    let granted: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let scope = format!("{} offline_access", granted.join(" "));
    let site = CloudEnv::new(|settings| settings.apps[0].scopes = granted).await;
    let site = site.oauth2().with("auth.scope", scope.clone());
    site.seeded(&scope).await
}

/// What the documentation lists for the preset; the agent's own probe needs no more.
fn granular_for_ticketing() -> BTreeSet<&'static str> {
    let rules = CompiledPolicy::new(&policy::Settings {
        presets: vec!["ticketing".to_owned()],
        ..policy::Settings::default()
    });
    let requests = rules.unwrap().cloud_requests().into_iter();
    requests.flat_map(|request| request.granular).collect()
}

fn scope_steps(agent: &AgentProcess) -> Vec<CheckStep> {
    let (report, _) = agent.check(&[]).unwrap();
    let steps = report.steps.into_iter();
    steps.filter(|step| step.step == "scopes").collect()
}

async fn create(url: &str) -> (u16, Value) {
    let request = vendor().post(format!("{url}/rest/api/2/issue"));
    let answer = request.json(&new_issue("one")).send().await.unwrap();
    e2e::test_env::json_of(answer).await
}
