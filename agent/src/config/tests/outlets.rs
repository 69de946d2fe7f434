//! What of `[[outlet]]` is accepted, and the reason where it is not.

use super::{Folder, MINIMAL};
use crate::{
    config::Config,
    upstream::{HttpTarget, UpstreamTarget},
};
use std::net::IpAddr;

const OUTLET: &str = r#"
[[outlet]]
name   = "events"
listen = "127.0.0.1:8090"
to     = "events.vendor.internal:80"
mode   = "pass"
allow  = ["POST /webhooks/jira"]
"#;

/// With `mode = "store"` in place of `mode = "pass"`.
const STORE: &str = "mode = \"store\"\nsecret_file = \"signing\"";
/// The base64 of 32 zeros, and of 32 bytes of 0xff.
const SIGNING: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nwhsec_//////////////////////////////////////////8=";

/// The problem of this configuration.
fn refused(outlet: &str) -> String {
    let folder = Folder::new(&format!("{MINIMAL}{outlet}"));
    folder.secret("secret", "0123456789abcdef0123");
    folder.secret("signing", SIGNING);
    match Config::load(&folder.sources(&[])) {
        Ok(_) => panic!("accepted: {outlet}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn an_outlet_is_off_unless_configured_and_layers_merge_by_name() {
    assert!(Folder::new(MINIMAL).load(&[]).outlets.is_empty());

    let folder = Folder::new(&format!("{MINIMAL}{OUTLET}"));
    folder.write(
        "agent.d/50-events.toml",
        "[[outlet]]\nname = \"events\"\nsources = [\"10.1.0.0/16\"]\n",
    );
    let variable = [("JIRA_TUNNEL_AGENT__OUTLET__EVENTS__LISTEN", "10.1.2.3:8090")];
    let config = folder.load(&variable);
    let [outlet] = config.outlets.as_slice() else {
        panic!("{} outlets", config.outlets.len());
    };
    let settings = &outlet.settings;
    assert_eq!(settings.listen, "10.1.2.3:8090".parse().unwrap());
    let UpstreamTarget::Http(HttpTarget {
        tls, host, port, ..
    }) = &settings.upstream.target
    else {
        panic!("{}", settings.upstream.target);
    };
    assert_eq!(
        (*tls, host.as_str(), *port),
        (false, "events.vendor.internal", 80)
    );
    assert_eq!(settings.policy.allow, ["POST /webhooks/jira"]);
    let allows = |text: &str| settings.sources.allows(text.parse::<IpAddr>().unwrap());
    assert!(allows("10.1.255.1") && !allows("10.2.0.1") && !allows("127.0.0.1"));
    assert!(settings.tls.is_none() && settings.path_secret.is_none());

    // A change of any key is another fingerprint; the same files are the same.
    assert!(outlet.fingerprint == folder.load(&variable).outlets[0].fingerprint);
    assert!(
        outlet.fingerprint
            != folder
                .load(&[("JIRA_TUNNEL_AGENT__OUTLET__EVENTS__LISTEN", "10.1.2.4:8090")])
                .outlets[0]
                .fingerprint
    );
    let shown = folder.show(&variable);
    assert!(
        shown.contains("[[outlet]]") && shown.contains("to = \"events.vendor.internal:80\""),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_safe_or_cannot_work_is_refused_with_the_reason() {
    for (was, is, reason) in [
        ("127.0.0.1:8090", "0.0.0.0:8090", "needs TLS"),
        (
            "127.0.0.1:8090",
            "localhost:8090",
            "not an address and port",
        ),
        (
            "events.vendor.internal:80",
            "events.vendor.internal",
            "names no port",
        ),
        (
            "events.vendor.internal:80",
            "https://events/hooks",
            "has no path",
        ),
        ("\"pass\"", "\"store\"", "required with mode"),
        ("\"events\"", "\"jira\"", "already the name of a forward"),
        ("POST /webhooks/jira", "POST webhooks", "webhooks"),
        (
            "mode   = \"pass\"",
            "secret_file = \"secret\"",
            "only used with mode",
        ),
        (
            "mode   = \"pass\"",
            "client_ca_file = \"ca.pem\"",
            "client certificates exist in TLS only",
        ),
        (
            "mode   = \"pass\"",
            "certificate_file = \"c.pem\"",
            "required with certificate_file",
        ),
        (
            "mode   = \"pass\"",
            "ca_file = \"ca.pem\"",
            "has no effect without TLS",
        ),
        (
            "mode   = \"pass\"",
            "sources = [\"jira\"]",
            "neither an address nor a network",
        ),
        ("mode   = \"pass\"", "path_secret_file = \"none\"", "none"),
        ("mode   = \"pass\"", "bind = \"127.0.0.1:1\"", "bind"),
    ] {
        let problems = refused(&OUTLET.replace(was, is));
        assert!(problems.contains(reason), "{is}: {problems}");
    }
    let twice = format!("{OUTLET}{}", OUTLET.replace("\"events\"", "\"more\""));
    assert!(refused(&twice).contains("already the address of outlet \"events\""));
    assert!(refused(&format!("{OUTLET}{OUTLET}")).contains("already the name of the outlet"));
}

#[test]
fn mode_store_has_bounds_and_a_scope() {
    let outlet = OUTLET.replace("mode   = \"pass\"", STORE);
    let with_scope = format!(
        "{MINIMAL}{outlet}[outlet.scope]\nprojects = [\"SEC\"]\nevents = [\"jira:issue_*\"]\n"
    );
    let folder = Folder::new(&with_scope);
    folder.secret("signing", SIGNING);
    let loaded = |variables: &[(&str, &str)]| folder.load(variables).outlets.remove(0);
    let first = loaded(&[]);
    let Some(store) = &first.settings.store else {
        panic!("mode pass");
    };
    assert_eq!(store.limits, agent_events::QueueLimits::default());
    assert!(store.secrets.is_some() && store.jira_secret.is_none());
    assert!(!store.scope.allows_all());

    let small = [
        ("JIRA_TUNNEL_AGENT__OUTLET__EVENTS__MAX_QUEUE", "32MiB"),
        (
            "JIRA_TUNNEL_AGENT__OUTLET__EVENTS__WHEN_FULL",
            "drop-oldest",
        ),
        ("JIRA_TUNNEL_AGENT__OUTLET__EVENTS__RETRY_FOR", "1h"),
    ];
    let outlet = loaded(&small);
    assert!(outlet.fingerprint != first.fingerprint);
    let limits = &outlet.settings.store.as_ref().unwrap().limits;
    assert_eq!(
        limits.max_bytes_per_source,
        32 << 20,
        "not written: at most max_queue"
    );
    assert_eq!(limits.when_full, agent_events::WhenFull::DropOldest);
    assert_eq!(limits.retry_for.as_secs(), 3600);

    let other = loaded(&[("JIRA_TUNNEL_AGENT__OUTLET__EVENTS__SCOPE__PROJECTS", "OPS")]);
    assert!(other.fingerprint != first.fingerprint);
    // Another secret is another fingerprint.
    folder.secret("signing", SIGNING.split('\n').next().unwrap());
    assert!(loaded(&[]).fingerprint != first.fingerprint);
}

#[test]
fn keys_of_mode_store_are_refused_where_they_cannot_work() {
    for (keys, reason) in [
        ("max_queue = \"1MiB\"", "must be less than max_queue"),
        ("max_body = \"65MiB\"", "at most 64MiB"),
        ("max_queue_per_source = \"1GiB\"", "more than max_queue"),
        (
            "max_queue_per_source = \"2MiB\"",
            "must be less than max_queue_per_source",
        ),
        ("when_full = \"drop\"", "when_full"),
        ("jira_secret_file = \"none\"", "none"),
        ("[outlet.scope]\nprojects = []", "no event could leave"),
        (
            "[outlet.scope]\nprojects = [\"SEC\", \"S EC\"]",
            "is not a project key",
        ),
        ("[outlet.scope]\nevents = [\"*\"]", "is not a kind of event"),
    ] {
        let problems = refused(&format!(
            "{}{keys}\n",
            OUTLET.replace("mode   = \"pass\"", STORE)
        ));
        assert!(problems.contains(reason), "{keys}: {problems}");
    }
    let unsigned = STORE.replace("signing", "secret");
    let problems = refused(&OUTLET.replace("mode   = \"pass\"", &unsigned));
    assert!(problems.contains("whsec_"), "{problems}");
    assert!(!problems.contains("0123456789abcdef"), "{problems}");
    for keys in ["retry_for = \"1h\"", "[outlet.scope]\nprojects = [\"SEC\"]"] {
        let problems = refused(&format!("{OUTLET}{keys}\n"));
        assert!(
            problems.contains("only used with mode"),
            "{keys}: {problems}"
        );
    }
}
