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

/// The problem of this configuration.
fn refused(outlet: &str) -> String {
    let folder = Folder::new(&format!("{MINIMAL}{outlet}"));
    folder.secret("secret", "0123456789abcdef0123");
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
        ("\"pass\"", "\"store\"", "not available in this version"),
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
