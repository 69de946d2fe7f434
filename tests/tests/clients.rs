//! Unmodified Jira clients as the vendor, each with a password and a token, passed through and replaced by the agent's
//! own. The scripts are in `clients/`; `make setup` installs their libraries.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{
    capture::CapturingProxy,
    client_script,
    test_env::{BOT, BOT_PASSWORD, BOT_TOKEN, TestEnv, TestEnvPlan},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_python_library_jira_works_through_the_tunnel() {
    works_through_the_tunnel(ClientLibrary::Python("jira_everything.py")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_library_atlassian_python_api_works_through_the_tunnel() {
    works_through_the_tunnel(ClientLibrary::Python("atlassian_everything.py")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_library_jira_client_works_through_the_tunnel() {
    works_through_the_tunnel(ClientLibrary::Node("jira_client_everything.js")).await;
}

#[derive(Clone, Copy)]
enum ClientLibrary {
    Python(&'static str),
    Node(&'static str),
}

/// The credential that the library uses.
enum VendorCredential {
    Basic(&'static str, &'static str),
    Pat(&'static str),
}

async fn works_through_the_tunnel(client: ClientLibrary) {
    let agents_basic = || TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let agents_pat = || TestEnv::builder().pat(BOT_TOKEN);
    let basic = |name: &str, password: &str| STANDARD.encode(format!("{name}:{password}"));
    let combinations: [(&str, TestEnvPlan, VendorCredential, String); 4] = [
        (
            "Basic, passed through",
            TestEnv::builder(),
            VendorCredential::Basic("admin", "admin-password"),
            format!("Basic {}", basic("admin", "admin-password")),
        ),
        (
            "PAT, passed through",
            TestEnv::builder(),
            VendorCredential::Pat("admin-token"),
            "Bearer admin-token".into(),
        ),
        (
            "Basic, injected",
            agents_basic(),
            VendorCredential::Basic("vendor", "vendors-secret"),
            format!("Basic {}", basic(BOT, BOT_PASSWORD)),
        ),
        (
            "PAT, injected",
            agents_pat(),
            VendorCredential::Pat("vendors-secret"),
            format!("Bearer {BOT_TOKEN}"),
        ),
    ];
    for (name, plan, login, authorization) in combinations {
        let site = plan.start().await.unwrap();
        let user = if name.ends_with("injected") {
            BOT
        } else {
            "admin"
        };
        let proxy = CapturingProxy::start(site.addr()).await.unwrap();
        let base_url = format!("http://{}/jira", proxy.addr);
        client
            .run(&base_url, &login, user)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));

        let received = site.received();
        assert!(received.len() > 20, "{name}: {} requests", received.len());
        for request in &received {
            assert_eq!(request.user.as_deref(), Some(user), "{name}: {request:?}");
            assert_eq!(
                request.header("host").unwrap(),
                site.jira().addr.to_string(),
                "{name}"
            );
            let values: Vec<_> = request
                .headers
                .iter()
                .filter(|(name, _)| name == "authorization")
                .collect();
            assert_eq!(values.len(), 1, "{name}: {request:?}");
            assert_eq!(values[0].1, authorization.as_bytes(), "{name}");
            // The agent's own session, if any.
            let cookie = request.header("cookie");
            assert!(
                user == "admin"
                    || cookie.is_none_or(|c| c.starts_with("JSESSIONID=") && !c.contains(';')),
                "{name}: {request:?}"
            );
        }
        // Byte for byte: every target, every body.
        let mut arrived: Vec<_> = received
            .into_iter()
            .map(|r| {
                let target = r.target_text();
                (r.method, target, r.body_length, r.body_head)
            })
            .collect();
        let mut sent: Vec<_> = proxy
            .requests()
            .into_iter()
            .map(|r| {
                let head = r.body[..r.body.len().min(BODY_HEAD)].to_vec();
                (r.method, r.target, r.body.len() as u64, head)
            })
            .collect();
        arrived.sort();
        sent.sort();
        assert_eq!(arrived.len(), sent.len(), "{name}");
        for (arrived, sent) in arrived.iter().zip(&sent) {
            assert!(
                arrived == sent,
                "{name}: {:?} became {:?}",
                (&sent.0, &sent.1, sent.2),
                (&arrived.0, &arrived.1, arrived.2)
            );
        }
    }
}

impl ClientLibrary {
    async fn run(self, base_url: &str, login: &VendorCredential, user: &str) -> anyhow::Result<()> {
        let mut command = match self {
            Self::Python(name) => client_script::python(name),
            Self::Node(name) => client_script::node(name),
        };
        command.arg(base_url);
        match login {
            VendorCredential::Basic(name, password) => command.args(["basic", name, password]),
            VendorCredential::Pat(token) => command.args(["pat", token]),
        };
        match self {
            Self::Python(_) => command.args(["--expect-user", user]),
            Self::Node(_) => command.arg(user),
        };
        client_script::run(command, b"").await.map(drop)
    }
}

/// Bytes of a body that the imitation Jira records.
const BODY_HEAD: usize = 64 << 10;
