//! Each profile of a tool against an imitation of it: proven at rest, an allowed request with the agent's credential alone,
//! a denied one, and a wrong credential.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    profile::{JIRA_NAME, builtin_names},
    status::{LayerState, StatusReport},
};
use e2e::{
    agent::{AgentProcess, write_secret},
    imitated_tool::{ImitatedTool, ToolAnswers},
    sshd::{Sshd, free_addr},
    wait::until,
};
use reqwest::{Client, Method, StatusCode};
use std::{fmt::Write, net::SocketAddr};

/// One profile, its imitation, and what the forward is configured with.
struct ToolCase {
    service: &'static str,
    answers: ToolAnswers,
    /// Further keys of `[[forward]]`.
    forward: &'static str,
    /// Lines of `[forward.auth]`; `SECRET` is the name of the file.
    auth: &'static str,
    secret: &'static str,
    user: Option<&'static str>,
    policy: &'static str,
    /// Allowed by the policy, and denied by it.
    allowed: &'static str,
    denied: &'static str,
}

const BASIC: &str = "mode = \"basic\"\nusername = \"svc\"\npassword_file = \"SECRET\"";
const PAT: &str = "mode = \"pat\"\ntoken_file = \"SECRET\"";
/// `svc:pw-1`.
const SVC: (&str, &str) = ("authorization", "Basic c3ZjOnB3LTE=");
const BEARER: (&str, &str) = ("authorization", "Bearer token-1");
const READ_ONLY: &str = "presets = [\"read-only\"]";
const RUNNING: &str = r#"{"state":"RUNNING"}"#;

const CASES: [ToolCase; 10] = [
    ToolCase {
        service: "confluence",
        answers: ToolAnswers {
            own: &[("x-ausername", "svc"), ("x-confluence-request-time", "1")],
            health: ("/status", 200, RUNNING),
            login: (
                "/rest/api/user/current",
                r#"{"type":"known","username":"svc"}"#,
            ),
            credential: BEARER,
            refusal: (401, None, r#"{"message":"no"}"#),
        },
        forward: "",
        auth: PAT,
        secret: "token-1",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/rest/api/content/1",
        denied: "/rest/api/group",
    },
    ToolCase {
        service: "bitbucket",
        answers: ToolAnswers {
            own: &[("x-arequestid", "1"), ("x-ausername", "svc")],
            health: ("/status", 200, RUNNING),
            login: (
                "/rest/api/latest/profile/recent/repos?limit=1",
                r#"{"size":0}"#,
            ),
            credential: BEARER,
            refusal: (401, None, r#"{"errors":[{"message":"no"}]}"#),
        },
        forward: "",
        auth: PAT,
        secret: "token-1",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/rest/api/latest/projects",
        denied: "/rest/api/latest/admin/users",
    },
    ToolCase {
        service: "gitlab",
        answers: ToolAnswers {
            own: &[("x-gitlab-meta", "{}")],
            health: ("/api/v4/version", 401, r#"{"message":"401 Unauthorized"}"#),
            login: ("/api/v4/user", r#"{"username":"svc"}"#),
            credential: ("private-token", "glpat-1"),
            refusal: (401, None, r#"{"message":"401 Unauthorized"}"#),
        },
        forward: "",
        auth: "mode = \"header\"\nheaders = [{ name = \"PRIVATE-TOKEN\", value_file = \"SECRET\" }]",
        secret: "glpat-1",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/api/v4/projects/7/issues",
        denied: "/api/v4/users",
    },
    ToolCase {
        service: "github",
        answers: ToolAnswers {
            own: &[("x-github-request-id", "1")],
            health: ("/status", 200, "lives"),
            login: ("/api/v3/user", r#"{"login":"svc"}"#),
            credential: BEARER,
            refusal: (401, None, r#"{"message":"Bad credentials"}"#),
        },
        forward: "",
        auth: PAT,
        secret: "token-1",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/api/v3/repos/o/r/issues",
        denied: "/api/v3/admin/users",
    },
    ToolCase {
        service: "servicenow",
        answers: ToolAnswers {
            own: &[("x-is-logged-in", "false")],
            health: (
                "/api/now/table/sys_user?sysparm_limit=1",
                401,
                r#"{"error":{"message":"User Not Authenticated"},"status":"failure"}"#,
            ),
            login: (
                "/api/now/table/sys_user?sysparm_query=user_name%3Djavascript:gs.getUserName()&sysparm_fields=user_name&sysparm_limit=1",
                r#"{"result":[{"user_name":"svc"}]}"#,
            ),
            credential: SVC,
            refusal: (
                401,
                Some("Basic realm=\"Service-now\""),
                r#"{"error":{"message":"User Not Authenticated"},"status":"failure"}"#,
            ),
        },
        forward: "",
        auth: BASIC,
        secret: "pw-1",
        user: Some("svc"),
        policy: "presets = [\"ticketing\"]",
        allowed: "/api/now/table/incident",
        denied: "/api/now/table/sys_user",
    },
    ToolCase {
        service: "tenable-sc",
        answers: ToolAnswers {
            own: &[("securitycenter", "6.4.0")],
            health: (
                "/rest/system",
                200,
                r#"{"response":{"version":"6.4.0"},"error_code":0}"#,
            ),
            login: (
                "/rest/currentUser",
                r#"{"response":{"username":"svc"},"error_code":0}"#,
            ),
            credential: ("x-apikey", "accesskey=a; secretkey=s;"),
            refusal: (403, None, r#"{"error_code":74,"error_msg":"no"}"#),
        },
        forward: "",
        auth: "mode = \"header\"\nheaders = [{ name = \"x-apikey\", value_file = \"SECRET\" }]",
        secret: "accesskey=a; secretkey=s;",
        user: Some("svc"),
        policy: "allow = [\"GET /rest/analysis\", \"POST /rest/analysis\"]",
        allowed: "/rest/analysis",
        denied: "/rest/user",
    },
    ToolCase {
        service: "nessus",
        answers: ToolAnswers {
            own: &[],
            health: ("/server/status", 200, r#"{"code":200,"status":"ready"}"#),
            login: ("/session", r#"{"username":"svc"}"#),
            credential: ("x-apikeys", "accessKey=a; secretKey=s"),
            refusal: (401, None, r#"{"error":"Invalid Credentials"}"#),
        },
        forward: "",
        auth: "mode = \"header\"\nheaders = [{ name = \"X-ApiKeys\", value_file = \"SECRET\" }]",
        secret: "accessKey=a; secretKey=s",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/scans",
        denied: "/users",
    },
    ToolCase {
        service: "insightvm",
        answers: ToolAnswers {
            own: &[],
            health: ("/api/3", 401, r#"{"status":401,"message":"no"}"#),
            login: ("/api/3", r#"{"links":[]}"#),
            credential: SVC,
            refusal: (
                401,
                Some("Basic realm=\"Security Console\""),
                r#"{"status":401,"message":"no"}"#,
            ),
        },
        forward: "",
        auth: BASIC,
        secret: "pw-1",
        user: None,
        policy: READ_ONLY,
        allowed: "/api/3/assets",
        denied: "/api/3/users",
    },
    ToolCase {
        service: "jenkins",
        answers: ToolAnswers {
            own: &[("x-jenkins", "2.479.1")],
            health: ("/login", 200, "<html>"),
            login: ("/whoAmI/api/json", r#"{"anonymous":false,"name":"svc"}"#),
            credential: SVC,
            refusal: (401, Some("Basic realm=\"Jenkins\""), "<html>"),
        },
        forward: "",
        auth: BASIC,
        secret: "pw-1",
        user: Some("svc"),
        policy: READ_ONLY,
        allowed: "/job/build/api/json",
        denied: "/script",
    },
    ToolCase {
        service: "http",
        answers: ToolAnswers {
            own: &[],
            health: ("/health", 204, ""),
            login: ("/api/me", r#"{"user":{"name":"svc"}}"#),
            credential: ("x-auth-token", "t-1"),
            refusal: (403, None, "{}"),
        },
        forward: "health = { path = \"/health\", status = 204 }\nlogin = { path = \"/api/me\", user = \"/user/name\" }",
        auth: "mode = \"header\"\nheaders = [{ name = \"X-Auth-Token\", value_file = \"SECRET\" }]",
        secret: "t-1",
        user: Some("svc"),
        policy: "allow = [\"GET /api/items\"]",
        allowed: "/api/items",
        denied: "/api/keys",
    },
];

#[test]
fn every_profile_but_jiras_has_a_case() {
    let mut names: Vec<_> = builtin_names().filter(|name| *name != JIRA_NAME).collect();
    let mut cases: Vec<_> = CASES.iter().map(|case| case.service).collect();
    names.sort_unstable();
    cases.sort_unstable();
    assert_eq!(names, cases);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tool_is_proven_at_rest_and_gets_only_the_agents_credential() {
    let sshd = Sshd::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!(
        "[log]\nformat = \"human\"\n[audit]\nsink = \"off\"\n[tunnel]\ngateways = [{:?}]\nuser = {:?}\nidentity_file = {:?}\nhost_keys = [{:?}]\nconnections = 1\n",
        sshd.address(),
        sshd.user(),
        sshd.identity().display().to_string(),
        sshd.fingerprint().unwrap(),
    );
    let mut sites: Vec<(&ToolCase, ImitatedTool, SocketAddr)> = Vec::new();
    for case in &CASES {
        let tool = ImitatedTool::start(case.answers).await.unwrap();
        let bind = free_addr().unwrap();
        write_secret(&folder.path().join(case.service), case.secret).unwrap();
        let auth = case.auth.replace("SECRET", case.service);
        write!(
            config,
            "[[forward]]\nname = {0:?}\nservice = {0:?}\nbind = \"{bind}\"\nupstream = {1:?}\n{2}\n[forward.auth]\n{auth}\n[forward.policy]\n{3}\n",
            case.service, tool.url, case.forward, case.policy
        )
        .unwrap();
        sites.push((case, tool, bind));
    }
    let agent = AgentProcess::start(folder.path(), &config).unwrap();
    let report = agent.until_proven().await.unwrap();
    for ((case, tool, _), forward) in sites.iter().zip(&report.forwards) {
        assert_eq!(forward.service, case.service);
        let (health, login) = (tool.requests(case.answers.health.0), &forward.login);
        assert!(
            health
                .iter()
                .any(|seen| !seen.headers.contains_key(case.answers.credential.0)),
            "{}: health is asked without the credential",
            case.service
        );
        if let Some(user) = case.user {
            let detail = login.detail.as_deref().unwrap_or_default();
            assert!(
                detail.ends_with(&format!("user {user}")),
                "{}: {detail}",
                case.service
            );
        }
    }

    let client = Client::builder().no_proxy().build().unwrap();
    for (case, tool, bind) in &sites {
        let (name, valid) = case.answers.credential;
        let ask = |path: &str| {
            client
                .request(Method::GET, format!("http://{bind}{path}"))
                .header("authorization", "Bearer of-the-vendor")
                .header("cookie", "session=of-the-vendor")
                .header(name, "of-the-vendor")
                .send()
        };
        let answer = ask(case.allowed).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", case.service);
        let seen = tool.requests(case.allowed);
        let [seen] = &seen[..] else {
            panic!("{}: {} requests", case.service, seen.len());
        };
        let values: Vec<_> = seen.headers.get_all(name).iter().collect();
        assert_eq!(values, [valid], "{}", case.service);
        let all = format!("{:?}", seen.headers);
        assert!(!all.contains("of-the-vendor"), "{}: {all}", case.service);

        let denied = ask(case.denied).await.unwrap();
        assert_eq!(denied.status(), StatusCode::FORBIDDEN, "{}", case.service);
        assert_eq!(denied.headers()["x-tunnel-answered-by"], "agent");
        assert!(tool.requests(case.denied).is_empty(), "{}", case.service);
    }

    // A wrong credential reaches each tool in the agent's own probe alone, and then nothing is sent.
    for case in &CASES {
        write_secret(&folder.path().join(case.service), "wrong").unwrap();
    }
    let all_failed = |report: &StatusReport| {
        let mut logins = report.forwards.iter().map(|forward| &forward.login);
        logins.all(|login| login.state == LayerState::Failed)
    };
    let report = agent
        .until_status("wrong logins", all_failed)
        .await
        .unwrap();
    for ((case, tool, bind), forward) in sites.iter().zip(&report.forwards) {
        assert!(forward.circuit_open, "{}", case.service);
        assert_eq!(forward.jira.state, LayerState::Proven, "{}", case.service);
        let cause = forward.login.cause.as_deref().unwrap_or_default();
        assert!(!cause.contains("Jira"), "{cause}");
        let before = tool.requests(case.allowed).len();
        let url = format!("http://{bind}{}", case.allowed);
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{cause}");
        let document: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(document["delivery"], "not_sent", "{document}");
        assert!(!document.to_string().contains("Jira"), "{document}");
        assert_eq!(
            tool.requests(case.allowed).len(),
            before,
            "{}",
            case.service
        );
    }
    for (case, tool, _) in &sites {
        if case.auth == BASIC {
            // `svc:wrong`.
            let seen = tool.requests(case.answers.login.0);
            let wrong = seen.iter().filter(|seen| {
                seen.headers
                    .get("authorization")
                    .is_some_and(|v| v == "Basic c3ZjOndyb25n")
            });
            assert_eq!(
                wrong.count(),
                1,
                "{}: a password is tried once",
                case.service
            );
        }
        write_secret(&folder.path().join(case.service), case.secret).unwrap();
    }
    agent.until_proven().await.unwrap();
}

/// What people read names the tool. What programs compare keeps its name: problem types, layers, steps.
#[tokio::test]
async fn each_text_names_the_tool_and_each_code_stays() {
    let sshd = Sshd::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tool = ImitatedTool::start(CASES[2].answers).await.unwrap();
    write_secret(&folder.path().join("gitlab"), "wrong").unwrap();
    let (down, wrong) = (free_addr().unwrap(), free_addr().unwrap());
    let forward = |name: &str, bind: SocketAddr, upstream: &str, auth: &str| {
        format!(
            "[[forward]]\nname = {name:?}\nservice = \"gitlab\"\nbind = \"{bind}\"\nupstream = {upstream:?}\n{auth}\n[forward.policy]\n{READ_ONLY}\n"
        )
    };
    let config = format!(
        "[log]\nformat = \"human\"\n[audit]\nsink = \"file\"\nfile = {:?}\n[tunnel]\ngateways = [{:?}]\nuser = {:?}\nidentity_file = {:?}\nhost_keys = [{:?}]\nconnections = 1\n{}{}",
        folder.path().join("audit.log"),
        sshd.address(),
        sshd.user(),
        sshd.identity().display().to_string(),
        sshd.fingerprint().unwrap(),
        // Nothing listens there.
        forward(
            "down",
            down,
            &format!("http://{}", free_addr().unwrap()),
            ""
        ),
        forward(
            "wrong",
            wrong,
            &tool.url,
            &format!(
                "[forward.auth]\n{}",
                CASES[2].auth.replace("SECRET", "gitlab")
            ),
        ),
    );
    let agent = AgentProcess::start(folder.path(), &config).unwrap();
    let failed = |report: &StatusReport| {
        let bound = report
            .forwards
            .iter()
            .all(|forward| !forward.bound.is_empty());
        bound
            && report.forwards[0].jira.state == LayerState::Failed
            && report.forwards[1].login.state == LayerState::Failed
    };
    agent.until_status("both to fail", failed).await.unwrap();

    let client = Client::builder().no_proxy().build().unwrap();
    for (bind, kind, title) in [
        (down, "jira-unreachable", "GitLab cannot be reached"),
        (
            wrong,
            "login-unavailable",
            "The agent has no credential for GitLab right now",
        ),
    ] {
        let url = format!("http://{bind}{}", CASES[2].allowed);
        let answer = client.get(url).send().await.unwrap();
        let document: serde_json::Value = answer.json().await.unwrap();
        let code = format!("urn:jira-tunnel-agent:problem:{kind}");
        assert_eq!(document["type"], code, "{document}");
        assert_eq!(document["title"], title);
        assert!(!document.to_string().contains("Jira"), "{document}");
    }
    let causes = async || {
        let records = agent.audit().into_iter();
        let causes: Vec<_> = records
            .filter_map(|one| one["cause"].as_str().map(str::to_owned))
            .collect();
        (causes.len() == 2).then_some(causes)
    };
    for cause in until("both audit records", causes).await.unwrap() {
        assert!(!cause.contains("Jira"), "{cause}");
    }

    let (status, _) = agent.status_output().unwrap();
    let checked = agent.run(&["check"]).unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    let log = agent.log();
    let logged = log.lines().filter(|line| line.contains("forward "));
    let logged: Vec<_> = logged.collect();
    assert!(logged.len() > 2, "{log}");
    assert!(checked.contains("GitLab"), "{checked}");
    for text in [status.as_str(), &checked, &logged.join("\n")] {
        assert!(!text.contains("Jira"), "{text}");
    }
}

#[tokio::test]
async fn a_tool_that_starts_or_is_another_one_is_not_proven() {
    let sshd = Sshd::start().unwrap();
    let starting = ImitatedTool::start(ToolAnswers {
        health: ("/server/status", 503, r#"{"code":503,"status":"loading"}"#),
        ..CASES[6].answers
    });
    let other = ImitatedTool::start(ToolAnswers {
        own: &[],
        ..CASES[8].answers
    });
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!(
        "[audit]\nsink = \"off\"\n[tunnel]\ngateways = [{:?}]\nuser = {:?}\nidentity_file = {:?}\nhost_keys = [{:?}]\nconnections = 1\n",
        sshd.address(),
        sshd.user(),
        sshd.identity().display().to_string(),
        sshd.fingerprint().unwrap(),
    );
    let (starting, other) = (starting.await.unwrap(), other.await.unwrap());
    for (service, tool) in [("nessus", &starting), ("jenkins", &other)] {
        let bind = free_addr().unwrap();
        write!(
            config,
            "[[forward]]\nname = {service:?}\nservice = {service:?}\nbind = \"{bind}\"\nupstream = {:?}\n",
            tool.url
        )
        .unwrap();
    }
    let agent = AgentProcess::start(folder.path(), &config).unwrap();
    let report = agent
        .until_status("both to be degraded", |report| {
            let mut layers = report.forwards.iter().map(|forward| &forward.jira);
            layers.all(|layer| layer.state == LayerState::Degraded)
        })
        .await
        .unwrap();
    let cause = |index: usize| report.forwards[index].jira.cause.clone().unwrap();
    assert_eq!(
        cause(0),
        "Nessus answers 503: /status is \"loading\", not \"ready\""
    );
    assert_eq!(
        cause(1),
        "what answers is not Jenkins (200, without x-jenkins)"
    );
}

#[tokio::test]
async fn a_profile_of_the_customers_own_replaces_the_built_in_one() {
    let sshd = Sshd::start().unwrap();
    let tool = ImitatedTool::start(ToolAnswers {
        health: ("/ready", 200, "{}"),
        ..CASES[6].answers
    });
    let tool = tool.await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    let text = include_str!("../../packaging/files/profiles/nessus.toml");
    let text = text
        .replace("\"/server/status\"", "\"/ready\"")
        .replace("member = { at = \"/status\", is = \"ready\" }\n", "");
    let file = profiles.join("nessus.toml");
    std::fs::write(&file, &text).unwrap();
    let config = format!(
        "[audit]\nsink = \"off\"\n[tunnel]\ngateways = [{:?}]\nuser = {:?}\nidentity_file = {:?}\nhost_keys = [{:?}]\nconnections = 1\n[[forward]]\nname = \"scanner\"\nservice = \"nessus\"\nbind = \"{}\"\nupstream = {:?}\n",
        sshd.address(),
        sshd.user(),
        sshd.identity().display().to_string(),
        sshd.fingerprint().unwrap(),
        free_addr().unwrap(),
        tool.url
    );
    let agent = AgentProcess::start(folder.path(), &config).unwrap();
    let proven = |report: &StatusReport| report.forwards[0].jira.state == LayerState::Proven;
    let report = agent.until_status("the tool", proven).await.unwrap();
    let shown = report.forwards[0].profile_file.clone();
    assert_eq!(shown, Some(file.display().to_string()));
    let (text_shown, _) = agent.status_output().unwrap();
    assert!(text_shown.contains("by your own profile"), "{text_shown}");

    // A mistake in it keeps what runs, and names file and line.
    std::fs::write(&file, text.replace("status = [200]", "status = [20]")).unwrap();
    let done = agent.run(&["reload"]).unwrap();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && error.contains("nessus.toml:1"),
        "{error}"
    );
    assert!(error.contains("write one from 200 to 599"), "{error}");
    let still = until("the tool", async || {
        let report = agent.status().await.ok()?;
        proven(&report).then_some(())
    });
    still.await.unwrap();
}
