//! Every key reaches its setting, and layers override each other in the documented order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod outlets;

use super::*;
use crate::{
    audit::SinkSetting,
    auth,
    telemetry::LogLineFormat,
    tunnel::BindAddress,
    upstream::{CloudRoute, TrustRoots, UpstreamTarget},
};
use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

const MINIMAL: &str = r#"
[tunnel]
gateways = ["gw1.vendor.example:443"]
user = "acme"
identity_file = "id_ed25519"
host_keys = ["SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0"]

[[forward]]
name = "jira"
bind = "127.0.0.1:8080"
upstream = "http://jira.corp.example/jira"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(toml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        folder.secret("id_ed25519", &key.to_openssh(LineEnding::LF).unwrap());
        folder.write("agent.toml", toml);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn secret(&self, name: &str, content: &str) {
        self.write(name, content);
        fs::set_permissions(self.path().join(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn sources(&self, environment: &[(&str, &str)]) -> ConfigSources {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: BTreeMap<_, _> = environment.iter().map(own).collect();
        ConfigSources::new(Some(self.path().join("agent.toml")), environment)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Config {
        Config::load(&self.sources(environment)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn show(&self, environment: &[(&str, &str)]) -> String {
        let sources = self.sources(environment);
        let loaded = Config::load_to_show(&sources);
        let (_, merged) = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        merged.show(sources.folder())
    }
}

/// The origin that `config show` gives for a line that begins with `text`.
fn origin<'a>(shown: &'a str, text: &str) -> &'a str {
    let line = shown.lines().find(|line| line.starts_with(text));
    let line = line.unwrap_or_else(|| panic!("{text:?} is not in:\n{shown}"));
    line.rsplit_once("# ").unwrap().1
}

#[test]
fn what_is_not_written_has_the_defaults_of_the_rooms() {
    let config = Folder::new(MINIMAL).load(&[]);
    let tunnel = &config.tunnel;
    assert_eq!(
        tunnel.transport,
        tunnel::transport::TransportLimits::default()
    );
    let channel = tunnel::channel::ChannelLimits {
        spool_dir: PathBuf::from("/var/lib/jira-tunnel-agent/spool"),
        ..tunnel::channel::ChannelLimits::default()
    };
    assert_eq!(tunnel.channel, channel);
    let forward = &config.forwards[0];
    assert_eq!(forward.http, http::HttpLimits::default());
    assert!(matches!(forward.auth, auth::Settings::PassThrough));
    let policy = policy::Settings {
        context_path: "/jira".to_owned(),
        ..policy::Settings::default()
    };
    assert_eq!(forward.policy, policy);
    let (ours, theirs) = (
        &forward.upstream,
        upstream::Settings::new(forward.upstream.target.clone()),
    );
    assert_eq!(ours.tls.roots, theirs.tls.roots);
    assert_eq!(ours.max_connections, theirs.max_connections);
    assert_eq!(ours.pool_wait, theirs.pool_wait);
    assert_eq!(ours.idle_timeout, theirs.idle_timeout);
    assert_eq!(ours.connect_timeout, theirs.connect_timeout);
    assert_eq!(ours.response_timeout, theirs.response_timeout);
    assert_eq!(ours.tcp_idle_timeout, theirs.tcp_idle_timeout);
    assert_eq!(config.state_dir, Path::new("/var/lib/jira-tunnel-agent"));
    assert_eq!(config.runtime_dir, Path::new("/run/jira-tunnel-agent"));
    assert_eq!(
        config.audit.sink,
        SinkSetting::Auto {
            fallback: "/var/lib/jira-tunnel-agent/audit.log".into()
        }
    );
    assert_eq!(config.log.level, "info");
}

#[test]
fn every_key_reaches_its_own_setting() {
    let folder = Folder::new(
        r#"
state_dir = "state"
runtime_dir = "/run/other"

[tunnel]
gateways = ["gw1:1", "[::1]:2"]
user = "acme"
identity_file = "id_ed25519"
host_keys = ["SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0"]
connections = 5
connect_timeout = "11s"
login_timeout = "12s"
keepalive_interval = "13s"
keepalive_max = 14
stall_timeout = "2m"
probe_interval = "16s"
probe_timeout = "18s"
congestion_control = "reno"
max_channels = 17

[tunnel.transport]
high_mark = 2097152
low_mark = "1MiB"
cap = "9MiB"
read_buffer = "5KiB"
shutdown_grace = "6s"

[tunnel.channel]
window = "3MiB"
memory = "7KiB"
memory_per_session = "8MiB"
memory_per_process = "9MiB"
spool_per_channel = "9MiB"
spool_per_session = "10MiB"
spool_per_process = "11MiB"
spool_dir = "state/elsewhere"
close_wait = "11s"
discard = 12
spool_timeout = "13s"

[[forward]]
name = "jira"
bind = "/run/jira.sock"
upstream = "https://jira.corp.example/ctx"
address = "10.0.0.1"
roots = "webpki"
server_name = "other.example"
max_connections = 21
pool_wait = "22s"
idle_timeout = "23s"
connect_timeout = "24s"
response_timeout = "25s"
tcp_idle_timeout = "26s"

[forward.auth]
mode = "basic"
username = "bot"
password_file = "password"

[forward.policy]
presets = ["read-only"]
allow = ["POST /rest/api/2/issue"]
deny = ["GET /rest/api/2/myself"]

[forward.http]
max_head = "31KiB"
head_timeout = "32s"
idle_timeout = "33s"
stall_timeout = "34s"
min_body_rate = "36B"
max_concurrent = 35

[audit]
sink = "file"
file = "/var/log/audit.jsonl"
queue = 41

[log]
level = "warn,agent::tunnel=debug"
format = "json"
"#,
    );
    folder.secret("password", "s3cret");
    let config = folder.load(&[]);
    let secs = Duration::from_secs;

    let tunnel = &config.tunnel;
    let gateways: Vec<_> = tunnel.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(gateways, ["gw1:1", "[::1]:2"]);
    assert_eq!((tunnel.user.as_str(), tunnel.connections), ("acme", 5));
    assert_eq!(tunnel.connect_timeout, secs(11));
    assert_eq!(tunnel.login_timeout, secs(12));
    assert_eq!(tunnel.stall_timeout, secs(120));
    assert_eq!(tunnel.probe_interval, secs(16));
    assert_eq!(tunnel.probe_timeout, secs(18));
    assert_eq!(tunnel.congestion_control.as_deref(), Some("reno"));
    assert_eq!(tunnel.max_channels, 17);
    assert_eq!(tunnel.forwards[0].name.as_ref(), "jira");
    assert_eq!(tunnel.forwards[0].bind, config.forwards[0].bind);
    let transport = tunnel::transport::TransportLimits {
        high_mark: 2 << 20,
        low_mark: 1 << 20,
        cap: 9 << 20,
        read_buffer: 5 << 10,
        shutdown_grace: secs(6),
    };
    assert_eq!(tunnel.transport, transport);
    let channel = tunnel::channel::ChannelLimits {
        window: Some(3 << 20),
        memory: 7 << 10,
        memory_per_session: 8 << 20,
        memory_per_process: 9 << 20,
        spool_per_channel: 9 << 20,
        spool_per_session: 10 << 20,
        spool_per_process: 11 << 20,
        spool_floor: tunnel::channel::ChannelLimits::default().spool_floor,
        spool_dir: folder.path().join("state/elsewhere"),
        close_wait: secs(11),
        discard: 12,
        spool_timeout: secs(13),
    };
    assert_eq!(tunnel.channel, channel);

    let forward = &config.forwards[0];
    assert_eq!(
        forward.bind,
        BindAddress::Socket("/run/jira.sock".to_owned()).into()
    );
    let upstream = &forward.upstream;
    assert!(matches!(&upstream.target, UpstreamTarget::Http(t) if t.context_path == "/ctx"));
    assert_eq!(upstream.address, Some("10.0.0.1:443".parse().unwrap()));
    assert_eq!(upstream.tls.roots, TrustRoots::Webpki);
    assert_eq!(upstream.tls.server_name.as_deref(), Some("other.example"));
    assert_eq!(upstream.max_connections, 21);
    assert_eq!(upstream.pool_wait, secs(22));
    assert_eq!(upstream.idle_timeout, secs(23));
    assert_eq!(upstream.connect_timeout, secs(24));
    assert_eq!(upstream.response_timeout, secs(25));
    assert_eq!(upstream.tcp_idle_timeout, secs(26));
    let auth::Settings::Basic {
        username,
        password_file,
    } = &forward.auth
    else {
        panic!("{}", forward.auth.mode());
    };
    assert_eq!(username, "bot");
    assert_eq!(password_file.path(), folder.path().join("password"));
    let policy = policy::Settings {
        presets: vec!["read-only".to_owned()],
        allow: vec!["POST /rest/api/2/issue".to_owned()],
        deny: vec!["GET /rest/api/2/myself".to_owned()],
        context_path: "/ctx".to_owned(),
        ..policy::Settings::default()
    };
    assert_eq!(forward.policy, policy);
    let http = http::HttpLimits {
        max_head: 31 << 10,
        head_timeout: secs(32),
        idle_timeout: secs(33),
        stall_timeout: secs(34),
        min_body_rate: 36,
        max_concurrent: 35,
        refusals_per_minute: 600,
    };
    assert_eq!(forward.http, http);

    assert_eq!(config.state_dir, folder.path().join("state"));
    assert_eq!(config.runtime_dir, Path::new("/run/other"));
    assert_eq!(
        config.audit.sink,
        SinkSetting::File("/var/log/audit.jsonl".into())
    );
    assert_eq!(config.audit.queue, 41);
    assert_eq!(config.log.level, "warn,agent::tunnel=debug");
    assert_eq!(config.log.format, LogLineFormat::Json);
}

#[test]
fn later_drop_ins_override_earlier_ones_and_variables_override_all() {
    let folder = Folder::new(&format!("{MINIMAL}\n[log]\nlevel = \"info\"\n"));
    let level = |folder: &Folder, environment: &[(&str, &str)]| {
        let config = folder.load(environment);
        let shown = folder.show(environment);
        (config.log.level, origin(&shown, "level = ").to_owned())
    };
    let is = |level: &str, origin: &str| (level.to_owned(), origin.to_owned());
    assert_eq!(level(&folder, &[]), is("info", "agent.toml:14"));
    folder.write("agent.d/20-b.toml", "[log]\nlevel = \"warn\"\n");
    assert_eq!(level(&folder, &[]), is("warn", "agent.d/20-b.toml:2"));
    folder.write("agent.d/10-a.toml", "[log]\nlevel = \"debug\"\n");
    assert_eq!(level(&folder, &[]), is("warn", "agent.d/20-b.toml:2"));
    for ignored in ["agent.d/.30-c.toml", "agent.d/30-c.toml.bak"] {
        folder.write(ignored, "half written");
    }
    assert_eq!(level(&folder, &[]), is("warn", "agent.d/20-b.toml:2"));
    let variable = ("JIRA_TUNNEL_AGENT__LOG__LEVEL", "error");
    let found = level(&folder, &[variable]);
    assert_eq!(
        found,
        is("error", "environment JIRA_TUNNEL_AGENT__LOG__LEVEL")
    );
}

#[test]
fn a_drop_in_changes_the_forward_of_the_same_name_and_adds_one_of_a_new_name() {
    let folder = Folder::new(MINIMAL);
    let drop_in = r#"
[[forward]]
name = "added"
bind = "127.0.0.1:0"
upstream = "tcp://10.0.0.1:22"

[[forward]]
name = "jira"
bind = "127.0.0.1:9090"
[forward.http]
max_concurrent = 3
"#;
    folder.write("agent.d/10.toml", drop_in);
    let config = folder.load(&[]);
    let names: Vec<_> = config.forwards.iter().map(|f| &*f.name).collect();
    assert_eq!(names, ["jira", "added"]);
    let jira = &config.forwards[0];
    assert_eq!(jira.bind.to_string(), "127.0.0.1:9090");
    assert_eq!(jira.http.max_concurrent, 3);
    assert!(
        matches!(&jira.upstream.target, UpstreamTarget::Http(t) if t.host == "jira.corp.example")
    );
}

#[test]
fn a_variable_reaches_a_forward_by_its_name() {
    let folder = Folder::new(&MINIMAL.replace("\"jira\"", "\"Jira-Test\""));
    let config = folder.load(&[
        (
            "JIRA_TUNNEL_AGENT__FORWARD__JIRA_TEST__BIND",
            "127.0.0.1:9090",
        ),
        (
            "JIRA_TUNNEL_AGENT__FORWARD__JIRA_TEST__HTTP__MAX_CONCURRENT",
            "3",
        ),
        (
            "JIRA_TUNNEL_AGENT__FORWARD__JIRA_TEST__POLICY__ALLOW",
            "GET,POST /rest/api/2/issue",
        ),
        (
            "JIRA_TUNNEL_AGENT__TUNNEL__GATEWAYS",
            r#"["gw1:1", "gw2:2"]"#,
        ),
    ]);
    let forward = &config.forwards[0];
    assert_eq!(&*forward.name, "Jira-Test");
    assert_eq!(forward.bind.to_string(), "127.0.0.1:9090");
    assert_eq!(forward.http.max_concurrent, 3);
    assert_eq!(forward.policy.allow, ["GET,POST /rest/api/2/issue"]);
    assert_eq!(config.tunnel.gateways.len(), 2);
}

#[test]
fn the_folders_that_systemd_names_take_precedence() {
    let folder = Folder::new(&format!(
        "state_dir = \"/a\"\nruntime_dir = \"/b\"\n{MINIMAL}"
    ));
    let environment = [
        ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"),
        ("RUNTIME_DIRECTORY", "/run/one"),
        ("JIRA_TUNNEL_AGENT__STATE_DIR", "/c"),
    ];
    let config = folder.load(&environment);
    assert_eq!(config.state_dir, Path::new("/var/lib/one"));
    assert_eq!(config.runtime_dir, Path::new("/run/one"));
    let shown = folder.show(&environment);
    assert_eq!(
        origin(&shown, "state_dir = \"/var/lib/one\""),
        "environment STATE_DIRECTORY"
    );
    assert_eq!(
        origin(&shown, "spool_dir = \"/var/lib/one/spool\""),
        "default"
    );
}

#[test]
fn a_bare_file_name_is_a_systemd_credential_first() {
    let pat = "\n[forward.auth]\nmode = \"pat\"\ntoken_file = \"jira-pat\"\n";
    let folder = Folder::new(&format!("{MINIMAL}{pat}"));
    folder.secret("jira-pat", "beside the configuration");
    let credentials = tempfile::tempdir().unwrap();
    let variable = (
        "CREDENTIALS_DIRECTORY",
        credentials.path().to_str().unwrap(),
    );
    let token = |environment: &[(&str, &str)]| match &folder.load(environment).forwards[0].auth {
        auth::Settings::Pat { token_file, .. } => {
            String::from_utf8(token_file.read().unwrap().expose().to_vec()).unwrap()
        }
        other @ (auth::Settings::PassThrough
        | auth::Settings::Basic { .. }
        | auth::Settings::ApiToken { .. }
        | auth::Settings::Header { .. }
        | auth::Settings::OAuth2(_)
        | auth::Settings::OAuth1(_)) => panic!("{}", other.mode()),
    };
    assert_eq!(token(&[variable]), "beside the configuration");
    let credential = credentials.path().join("jira-pat");
    fs::write(&credential, "from systemd").unwrap();
    fs::set_permissions(&credential, Permissions::from_mode(0o440)).unwrap();
    assert_eq!(token(&[variable]), "from systemd");
    assert_eq!(token(&[]), "beside the configuration");
}

#[test]
fn what_is_shown_is_a_configuration_that_shows_the_same() {
    let folder = Folder::new(MINIMAL);
    folder.write(
        "agent.d/10.toml",
        "[[forward]]\nname = \"bytes\"\nbind = \"127.0.0.1:0\"\nupstream = \"tcp://h:1\"\n",
    );
    let values = |shown: &str| {
        let lines = shown
            .lines()
            .map(|line| line.rsplit_once("  # ").unwrap_or((line, "")).0);
        lines.map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    let first = folder.show(&[]);
    fs::remove_dir_all(folder.path().join("agent.d")).unwrap();
    folder.write("agent.toml", &first);
    let second = folder.show(&[]);
    assert_eq!(values(&first), values(&second));
    assert!(!second.contains("# default"), "{second}");
}

#[test]
fn the_running_agent_is_found_although_the_configuration_is_wrong() {
    let folder = Folder::new("runtime_dir = \"/run/here\"\n[tunnel]\nnonsense = 1\n");
    assert_eq!(runtime_dir(&folder.sources(&[])), Path::new("/run/here"));
    let there = [("RUNTIME_DIRECTORY", "/run/there")];
    assert_eq!(
        runtime_dir(&folder.sources(&there)),
        Path::new("/run/there")
    );
    let nowhere = ConfigSources::new(Some("/nonexistent/agent.toml".into()), BTreeMap::new());
    assert_eq!(runtime_dir(&nowhere), Path::new("/run/jira-tunnel-agent"));
}

#[test]
fn the_file_is_named_by_argument_then_variable_then_package() {
    let named = [(FILE_VARIABLE.to_owned(), "/b.toml".to_owned())];
    let named = BTreeMap::from(named);
    let file = |argument: Option<&str>, environment: &BTreeMap<String, String>| {
        ConfigSources::new(argument.map(PathBuf::from), environment.clone()).file
    };
    assert_eq!(file(Some("/a.toml"), &named), Path::new("/a.toml"));
    assert_eq!(file(None, &named), Path::new("/b.toml"));
    assert_eq!(file(None, &BTreeMap::new()), Path::new(DEFAULT_FILE));
}

#[test]
fn a_login_for_cloud_knows_whether_it_goes_behind_the_gateway() {
    let api_token = "mode = \"api-token\"\nemail = \"bot@acme.example\"\ntoken_file = \"secret\"";
    let oauth2 = "mode = \"oauth2\"\nclient_id = \"x\"\nclient_secret_file = \"secret\"";
    let pass = "mode = \"pass-through\"";
    let acme = "https://acme.atlassian.net";
    let own = "https://jira.corp.example/jira";
    let behind = "https://api.atlassian.com/ex/jira/1-2";
    let gateway = |api: &str, id: Option<&str>| match api.parse() {
        Ok(UpstreamTarget::Http(api)) => Some(CloudRoute::Gateway {
            api,
            cloud_id: id.map(str::to_owned),
        }),
        _ => panic!("{api}"),
    };
    let default = "https://api.atlassian.com";
    for (upstream, keys, more, expected) in [
        (own, pass, "", None),
        (acme, pass, "", Some(CloudRoute::Site)),
        (acme, api_token, "", Some(CloudRoute::Site)),
        (own, api_token, "", Some(CloudRoute::Site)),
        (acme, api_token, "scoped = true", gateway(default, None)),
        (
            acme,
            api_token,
            "scoped = true\ncloud_id = \"a-1\"\napi_url = \"https://api.eu.example:8443/x\"",
            gateway("https://api.eu.example:8443/x", Some("a-1")),
        ),
        (acme, oauth2, "", gateway(default, None)),
        (
            acme,
            oauth2,
            "cloud_id = \"a-1\"",
            gateway(default, Some("a-1")),
        ),
        (own, oauth2, "", None),
        (behind, oauth2, "", gateway(default, Some("1-2"))),
        (behind, api_token, "", gateway(default, Some("1-2"))),
        (behind, pass, "", gateway(default, Some("1-2"))),
    ] {
        let text = MINIMAL.replace("http://jira.corp.example/jira", upstream);
        let folder = Folder::new(&format!(
            "{text}roots = \"webpki\"\n[forward.auth]\n{keys}\n{more}\n"
        ));
        folder.secret("secret", "x");
        let found = folder.load(&[]).forwards[0].upstream.cloud.clone();
        assert_eq!(found, expected, "{upstream} {keys} {more}");
    }
}

#[test]
fn another_way_to_a_site_of_cloud_is_another_way_and_another_secret_is_none() {
    let folder = |keys: &str| {
        let text = MINIMAL.replace(
            "http://jira.corp.example/jira",
            "https://acme.atlassian.net",
        );
        let folder = Folder::new(&format!(
            "{text}roots = \"webpki\"\n[forward.auth]\nmode = \"api-token\"\nemail = \"bot@acme.example\"\ntoken_file = \"secret\"\n{keys}\n"
        ));
        folder.secret("secret", "x");
        folder
    };
    let fingerprint = |folder: &Folder| folder.load(&[]).forwards[0].upstream_fingerprint.clone();
    let written = folder("");
    let site = fingerprint(&written);
    assert!(site == fingerprint(&written));
    written.secret("secret", "y");
    assert!(site == fingerprint(&written));
    for keys in ["scoped = true", "scoped = true\ncloud_id = \"a-1\""] {
        assert!(site != fingerprint(&folder(keys)), "{keys}");
    }
}

/// On one OpenSSH server a later session takes a socket path from an earlier one, without notice.
#[test]
fn a_socket_bind_defaults_to_one_connection_for_each_gateway() {
    let one = "gateways = [\"gw1.vendor.example:443\"]";
    let two = "gateways = [\"gw1.vendor.example:443\", \"gw2.vendor.example:443\"]";
    let three = &two
        .replace("gw2.", "gw3.")
        .replace("[", "[\"gw2.vendor.example:443\", ");
    let socket = MINIMAL.replace("127.0.0.1:8080", "/s/jira.sock");
    for (toml, connections) in [
        (MINIMAL.to_owned(), 2),
        (socket.clone(), 1),
        (socket.replace(one, two), 2),
        (MINIMAL.replace(one, three), 3),
        (socket.replace("user =", "connections = 3\nuser ="), 3),
    ] {
        let folder = Folder::new(&toml);
        let (config, merged) = Config::load_to_show(&folder.sources(&[])).unwrap();
        assert_eq!(config.tunnel.connections, connections, "{toml}");
        let shown = merged.show(folder.path());
        let line = shown
            .lines()
            .find(|line| line.starts_with("connections = "));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        assert!(
            line.starts_with(&format!("connections = {connections} ")),
            "{line}"
        );
    }
}

/// Each gateway has a session, whatever number is written: the loss of one then needs no dial.
#[test]
fn no_gateway_stays_without_a_connection() {
    for (gateways, written, connections) in [(1, 1, 1), (2, 1, 2), (3, 2, 3), (2, 5, 5)] {
        let names = (1..=gateways).map(|n| format!("\"gw{n}.vendor.example:443\""));
        let names = names.collect::<Vec<_>>().join(", ");
        let toml = MINIMAL
            .replace("\"gw1.vendor.example:443\"", &names)
            .replace("user =", &format!("connections = {written}\nuser ="));
        let tunnel = Folder::new(&toml).load(&[]).tunnel;
        assert_eq!(tunnel.gateways.len(), gateways);
        assert_eq!(tunnel.connections, connections, "{toml}");
    }
}

/// Each connection then has a socket of its own, so that several can serve on one OpenSSH server.
#[test]
fn a_bind_with_a_slot_keeps_two_connections_and_two_slots_for_each() {
    let slotted = MINIMAL.replace("127.0.0.1:8080", "/s/jira-{slot}.sock");
    for (toml, slots) in [
        (slotted.clone(), "0-3"),
        (slotted.replace("user =", "connections = 3\nuser ="), "0-5"),
        (slotted.replace("user =", "slots = \"4-7\"\nuser ="), "4-7"),
        (MINIMAL.to_owned(), "0-3"),
    ] {
        let folder = Folder::new(&toml);
        let (config, merged) = Config::load_to_show(&folder.sources(&[])).unwrap();
        assert_eq!(config.tunnel.slots.to_string(), slots, "{toml}");
        let shown = merged.show(folder.path());
        assert!(shown.contains(&format!("slots = \"{slots}\"")), "{shown}");
    }
    let folder = Folder::new(&slotted);
    assert_eq!(folder.load(&[]).tunnel.connections, 2);
}

/// The numbers above the usual ones may be those of a second host.
#[test]
fn more_gateways_open_more_connections_only_where_the_slots_have_room() {
    let slotted = MINIMAL.replace("127.0.0.1:8080", "/s/jira-{slot}.sock");
    for (gateways, keys, connections, slots) in [
        (3, "", 3, "0-3"),
        (6, "", 3, "0-3"),
        (3, "slots = \"0-1\"\n", 2, "0-1"),
        (5, "slots = \"4-7\"\n", 3, "4-7"),
        (3, "slots = \"0-5\"\n", 3, "0-5"),
        (6, "connections = 6\n", 6, "0-11"),
        (2, "connections = 1\n", 2, "0-1"),
        (2, "connections = 1\nslots = \"3\"\n", 1, "3-3"),
        (3, "connections = 2\nslots = \"0-7\"\n", 3, "0-7"),
    ] {
        let names = (1..=gateways).map(|n| format!("\"gw{n}.vendor.example:443\""));
        let names = names.collect::<Vec<_>>().join(", ");
        let toml = slotted
            .replace("\"gw1.vendor.example:443\"", &names)
            .replace("user =", &format!("{keys}user ="));
        let tunnel = Folder::new(&toml).load(&[]).tunnel;
        assert_eq!(tunnel.gateways.len(), gateways);
        let shown = (tunnel.connections, tunnel.slots.to_string());
        assert_eq!(shown, (connections, slots.to_owned()), "{toml}");
    }
}

#[test]
fn slots_that_cannot_work_are_refused_by_name() {
    let slotted = MINIMAL.replace("127.0.0.1:8080", "127.0.0.1:{8080+slot}");
    let second = "\n[[forward]]\nname = \"second\"\nbind = \"127.0.0.1:8082\"\nupstream = \"https://jira.corp.example\"\n[forward.policy]\npresets = [\"ticketing\"]\n";
    for (toml, text) in [
        (
            slotted.replace("user =", "slots = \"3-1\"\nuser ="),
            "is not a range of slot numbers",
        ),
        (
            slotted.replace("user =", "slots = \"2\"\nuser ="),
            "has 1 numbers for 2 connections",
        ),
        (slotted.replace("8080", "65535"), "is more than 65535"),
        (slotted.replace("{8080+slot}", "{slot}"), "names no slot"),
        (format!("{slotted}{second}"), "have an address in common"),
    ] {
        let folder = Folder::new(&toml);
        let error = Config::load(&folder.sources(&[])).map(drop).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(text), "{error}");
    }
}
