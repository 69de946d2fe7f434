//! Every way in which a configuration can be wrong: the real binary names the place, the key, what is
//! wrong and what would be right, ends with 78, and repeats no secret.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;

use agent::auth::oauth1::SigningKey;
use fixture::{CANARY, Fixture, stderr, stdout};

/// What is done to the good configuration, and what must be said: place and key first.
struct Case {
    name: &'static str,
    change: fn(&Fixture),
    environment: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

const fn file(name: &'static str, change: fn(&Fixture), says: &'static [&'static str]) -> Case {
    Case {
        name,
        change,
        environment: &[],
        says,
    }
}

const fn variable(
    variable: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
) -> Case {
    Case {
        name: variable[0].0,
        change: |_| {},
        environment: variable,
        says,
    }
}

/// Keys of `[tunnel]`, from line 4.
fn tunnel(fixture: &Fixture, keys: &str) {
    let keys = format!("user = \"acme\"\n{keys}");
    fixture.edit("user = \"acme\"", &keys);
}

fn oauth2(fixture: &Fixture, keys: &str) {
    let keys = format!("mode = \"oauth2\"\n{keys}");
    fixture.edit("mode = \"pat\"\ntoken_file = \"jira-pat\"", &keys);
}

fn api_token(fixture: &Fixture, keys: &str) {
    let keys = format!("mode = \"api-token\"\n{keys}");
    fixture.edit("mode = \"pat\"\ntoken_file = \"jira-pat\"", &keys);
}

#[test]
fn each_error_names_its_place_its_key_and_the_remedy() {
    let mut failures = Vec::new();
    for case in CASES {
        let fixture = Fixture::new();
        (case.change)(&fixture);
        let output = fixture.agent(&["config", "show"], case.environment);
        let said = stderr(&output);
        let folder = format!("{}/", fixture.path("").display());
        let said = said.replace(folder.trim_end_matches('/'), "DIR");
        let right = output.status.code() == Some(78)
            && output.stdout.is_empty()
            // One mistake is one line.
            && said.lines().count() == 1
            && said.starts_with(&format!("agent: {}", case.says[0]))
            && case.says.iter().all(|part| said.contains(part))
            && !said.contains(CANARY);
        if !right {
            let code = output.status.code();
            failures.push(format!(
                "{}\n  exit {code:?}: {said}\n  wanted {:?}",
                case.name, case.says
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_configuration_that_the_cases_start_from_is_right() {
    let output = Fixture::new().agent(&["config", "show"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains(CANARY));
}

#[test]
fn every_mistake_is_named_at_once() {
    let fixture = Fixture::new();
    fixture.edit("user =", "usr =");
    fixture.edit("name = \"jira\"", "name = 1");
    fixture.write("agent.d/10.toml", "[log]\nlevel = 1\n", 0o644);
    let shape = stderr(&fixture.agent(&["config", "show"], &[("JIRA_TUNNEL_AGENT__LOG__X", "1")]));
    assert_eq!(shape.lines().count(), 4, "{shape}");

    let fixture = Fixture::new();
    fixture.edit("gw1.vendor.example:443", "gw1.vendor.example");
    fixture.edit("127.0.0.1:8080", "8080");
    fixture.edit("\"jira-pat\"", "\"none\"");
    fixture.edit("\"ticketing\"", "\"ticketing\", \"everything\", \"all\"");
    let values = stderr(&fixture.agent(&["config", "show"], &[]));
    assert_eq!(values.lines().count(), 5, "{values}");
}

#[test]
fn every_command_that_needs_the_configuration_refuses_a_wrong_one() {
    let fixture = Fixture::new();
    fixture.edit("user =", "usr =");
    for arguments in [
        &["run"][..],
        &["config", "show"],
        &["policy", "explain", "GET", "/jira/rest/api/2/issue/A-1"],
    ] {
        let output = fixture.agent(arguments, &[]);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(stderr(&output).contains("did you mean \"user\"?"));
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let auth = |line: &str| {
        let fixture = Fixture::new();
        fixture.edit("token_file = \"jira-pat\"", line);
        fixture.agent(&["config", "show"], &[])
    };
    for line in [
        format!("token = \"{CANARY}\""),
        format!("token_file = \"{CANARY}\""),
        format!("token_file = {CANARY}"),
        format!("token_file = \"{CANARY}"),
        format!("token_file = [\"{CANARY}\"]"),
        format!("token_file = {{ \"{CANARY}\" = 1 }}"),
    ] {
        let output = auth(&line);
        assert_eq!(output.status.code(), Some(78), "{line}");
        assert!(!stderr(&output).contains(CANARY), "{}", stderr(&output));
    }
    let url = format!("https://user:{CANARY}@jira.corp.example/jira");
    let fixture = Fixture::new();
    fixture.edit("https://jira.corp.example/jira", &url);
    assert!(!stderr(&fixture.agent(&["config", "show"], &[])).contains(CANARY));
    let name = "JIRA_TUNNEL_AGENT__FORWARD__JIRA__AUTH__PASSWORD";
    let output = Fixture::new().agent(&["config", "show"], &[(name, CANARY)]);
    assert_eq!(output.status.code(), Some(78));
    assert!(!stderr(&output).contains(CANARY));
}

/// Makes the login `oauth1`, with an RSA key beside.
fn oauth1(fixture: &Fixture, keys: &str) {
    let key = SigningKey::generate(1024).unwrap().private_pem().unwrap();
    let pem = std::str::from_utf8(key.expose()).unwrap();
    fixture.write("rsa.pem", pem, 0o600);
    fixture.edit(
        "mode = \"pat\"\ntoken_file = \"jira-pat\"",
        &format!("mode = \"oauth1\"\n{keys}"),
    );
}

const GOOD_OAUTH1: &str = "consumer_key = \"acme\"\nprivate_key_file = \"rsa.pem\"";

#[test]
fn every_kind_of_oauth1_is_taken() {
    for more in [
        "",
        "two_legged = true",
        "two_legged = false\naccess_token_file = \"jira-pat\"",
        "signed_base_url = \"https://jira.corp.example:8443/jira\"",
    ] {
        let fixture = Fixture::new();
        oauth1(&fixture, &format!("{GOOD_OAUTH1}\n{more}"));
        let output = fixture.agent(&["config", "show"], &[]);
        assert_eq!(output.status.code(), Some(0), "{more}: {}", stderr(&output));
        assert!(!stdout(&output).contains("PRIVATE KEY"));
    }
}

const CASES: &[Case] = &[
    file(
        "a file that anybody may change",
        |f| f.write("agent.toml", fixture::GOOD, 0o646),
        &["DIR/agent.toml", "mode 0646", "chmod o-w"],
    ),
    file(
        "a drop-in that anybody may change",
        |f| f.write("agent.d/10.toml", "[log]\nlevel = \"info\"\n", 0o666),
        &["DIR/agent.d/10.toml", "mode 0666", "chmod go-w"],
    ),
    file(
        "a folder that anybody may put a drop-in into",
        |f| {
            f.write("agent.d/10.toml", "[log]\nlevel = \"info\"\n", 0o644);
            f.mode("agent.d", 0o777);
        },
        &[
            "DIR/agent.d: anybody on this host",
            "mode 0777",
            "chmod go-w DIR/agent.d",
        ],
    ),
    file(
        "a file that a group may change",
        |f| f.write("agent.toml", fixture::GOOD, 0o664),
        &[
            "DIR/agent.toml: whoever is in the group ",
            "mode 0664",
            "chmod g-w DIR/agent.toml",
        ],
    ),
    file(
        "a certificate that a group may change",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_certificate_file = \"client.pem\"\nclient_key_file = \"client.key\"",
            );
            f.mode("client.pem", 0o664);
        },
        &[
            "DIR/agent.toml:12: forward[0] \"jira\".client_certificate_file: DIR/client.pem: whoever is in the group ",
            "chmod g-w DIR/client.pem",
        ],
    ),
    file(
        "a secret in a folder where anybody may put another in its place",
        |f| {
            f.write("open/pat", fixture::CANARY, 0o600);
            f.mode("open", 0o757);
            f.edit("\"jira-pat\"", "\"open/pat\"");
        },
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: DIR/open: anybody on this host",
            "chmod o-w DIR/open",
        ],
    ),
    file(
        "nothing but comments",
        |f| f.write("agent.toml", "# [tunnel]\n", 0o644),
        &[
            "DIR/agent.toml: this host is not configured yet",
            "run as root: agent enroll",
        ],
    ),
    file(
        "a socket's path that a terminal obeys",
        |f| f.edit("127.0.0.1:8080", "/s/\\u001B]0;t\\u0007jira.sock"),
        &[
            "DIR/agent.toml:9: forward[0] \"jira\".bind",
            "is no path of a socket",
            "printable ASCII",
        ],
    ),
    // The file itself.
    file(
        "no file",
        |f| std::fs::remove_file(f.path("agent.toml")).unwrap(),
        &[
            "DIR/agent.toml: no such file; create it",
            "--config FILE or JIRA_TUNNEL_AGENT_CONFIG",
        ],
    ),
    file(
        "no TOML",
        |f| f.edit("user = \"acme\"", "user = acme"),
        &["DIR/agent.toml:3: not valid TOML: "],
    ),
    file(
        "the same key twice",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nuser = \"other\""),
        &["DIR/agent.toml:4: not valid TOML: duplicate key"],
    ),
    file(
        "no UTF-8",
        |f| std::fs::write(f.path("agent.toml"), b"# \xff").unwrap(),
        &["DIR/agent.toml: not UTF-8 text; save it as UTF-8"],
    ),
    file(
        "a folder instead of a drop-in",
        |f| std::fs::create_dir_all(f.path("agent.d/10.toml")).unwrap(),
        &["DIR/agent.d/10.toml: cannot be read: "],
    ),
    file(
        "an error in a drop-in",
        |f| f.write("agent.d/10-log.toml", "\n[log]\nlevle = \"debug\"\n", 0o644),
        &["DIR/agent.d/10-log.toml:3: log.levle: unknown key; did you mean \"level\"?"],
    ),
    // Keys.
    file(
        "unknown key",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nconections = 2"),
        &["DIR/agent.toml:4: tunnel.conections: unknown key; did you mean \"connections\"?"],
    ),
    file(
        "unknown key of a forward",
        |f| f.edit("token_file", "token_fil"),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.token_fil: unknown key; did you mean \"token_file\"?",
        ],
    ),
    file(
        "a key in the wrong section",
        |f| f.edit("roots = \"webpki\"", "roots = \"webpki\"\nmax_head = 65536"),
        &[
            "DIR/agent.toml:12: forward[0] \"jira\".max_head: unknown key here; it belongs to [forward.http]",
        ],
    ),
    file(
        "nothing alike",
        |f| f.edit("[forward.policy]", "[forward.policy]\ncolour = 1"),
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".policy.colour: unknown key; known in [forward.policy]: presets, allow, deny",
        ],
    ),
    file(
        "unknown section",
        |f| f.write("agent.d/10.toml", "[tunel]\nuser = \"x\"\n", 0o644),
        &["DIR/agent.d/10.toml:1: tunel: unknown key; did you mean \"tunnel\"?"],
    ),
    file(
        "missing key",
        |f| f.edit("user = \"acme\"\n", ""),
        &[
            "DIR/agent.toml: tunnel.user: missing; it takes text in quotes: User name on the gateway.",
        ],
    ),
    file(
        "missing key of a forward",
        |f| f.edit("bind = \"127.0.0.1:8080\"\n", ""),
        &[
            "DIR/agent.toml:8: forward[0] \"jira\".bind: missing; it takes text in quotes: Where the gateway is to listen",
        ],
    ),
    file(
        "no forward",
        |f| {
            f.write(
                "agent.toml",
                fixture::GOOD.split("\n[[forward]]").next().unwrap(),
                0o644,
            )
        },
        &[
            "DIR/agent.toml: forward: no forward; add a [[forward]] section with name, bind and upstream",
        ],
    ),
    file(
        "forward as a table",
        |f| {
            f.edit("[[forward]]", "[forward]");
        },
        &["DIR/agent.toml:7: forward: expected a section, written [[forward]] with its keys below"],
    ),
    file(
        "tunnel as an array",
        |f| f.edit("[tunnel]", "[[tunnel]]"),
        &["DIR/agent.toml:1: tunnel: expected a section, written [tunnel] with its keys below"],
    ),
    // Types and ranges.
    file(
        "number for text",
        |f| f.edit("user = \"acme\"", "user = 7"),
        &["DIR/agent.toml:3: tunnel.user: expected text in quotes, found a number"],
    ),
    file(
        "text for an array",
        |f| f.edit("[\"gw1.vendor.example:443\"]", "\"gw1.vendor.example:443\""),
        &[
            "DIR/agent.toml:2: tunnel.gateways: expected an array of texts, like [\"one\", \"two\"], found a text",
        ],
    ),
    file(
        "number in an array of texts",
        |f| f.edit("[\"ticketing\"]", "[\"ticketing\", 2]"),
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".policy.presets: element 1 is a number; expected an array of texts",
        ],
    ),
    file(
        "text for a number",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nconnections = \"two\""),
        &[
            "DIR/agent.toml:4: tunnel.connections: expected a whole number from 1 to 16, found a text",
        ],
    ),
    file(
        "number out of range",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nconnections = 17"),
        &[
            "DIR/agent.toml:4: tunnel.connections: 17 is out of range; expected a whole number from 1 to 16",
        ],
    ),
    file(
        "duration without a unit",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nlogin_timeout = \"30\""),
        &[
            "DIR/agent.toml:4: tunnel.login_timeout: not a duration: write a number with its unit, for example \"30s\"",
        ],
    ),
    file(
        "duration as a number",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nlogin_timeout = 30"),
        &[
            "DIR/agent.toml:4: tunnel.login_timeout: expected a duration from 1s to 5m, like \"30s\", found a number",
        ],
    ),
    file(
        "duration out of range",
        |f| f.edit("user = \"acme\"", "user = \"acme\"\nlogin_timeout = \"1h\""),
        &[
            "DIR/agent.toml:4: tunnel.login_timeout: 1h is out of range; expected a duration from 1s to 5m",
        ],
    ),
    file(
        "no size",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.channel]\nmemory = \"much\"\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:2: tunnel.channel.memory: not a size: write a number of bytes",
            "\"64KiB\"",
        ],
    ),
    file(
        "size out of range",
        |f| f.write("agent.d/1.toml", "[tunnel.channel]\nmemory = -1\n", 0o644),
        &[
            "DIR/agent.d/1.toml:2: tunnel.channel.memory: -1 is out of range; expected a number of bytes from 4KiB to 1GiB",
        ],
    ),
    file(
        "unknown choice",
        |f| f.edit("mode = \"pat\"", "mode = \"pass-trough\""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.mode: not a known value; expected \"pass-through\", \"basic\", \"pat\", \"oauth2\", \"api-token\" or \"oauth1\"",
            "did you mean \"pass-through\"?",
        ],
    ),
    // The way out.
    file(
        "a password in the proxy's URL",
        |f| tunnel(f, "proxy = \"http://acme:S3cretWord@proxy.corp:3128\""),
        &[
            "DIR/agent.toml:4: tunnel.proxy: a login does not belong into the URL: name it in proxy_username and the file with the password in proxy_password_file",
        ],
    ),
    file(
        "a proxy without a port",
        |f| tunnel(f, "proxy = \"http://proxy.corp\""),
        &["DIR/agent.toml:4: tunnel.proxy: the port is missing; write it behind the host"],
    ),
    file(
        "a proxy by TLS",
        |f| tunnel(f, "proxy = \"https://proxy.corp:3128\""),
        &[
            "DIR/agent.toml:4: tunnel.proxy: ",
            "write http://host:port or socks5://host:port",
        ],
    ),
    file(
        "no proxy in the environment",
        |f| tunnel(f, "proxy = \"environment\""),
        &["DIR/agent.toml:4: tunnel.proxy: neither HTTPS_PROXY nor ALL_PROXY is set"],
    ),
    file(
        "a login without a proxy",
        |f| tunnel(f, "proxy_username = \"acme\""),
        &["DIR/agent.toml:4: tunnel.proxy_username: only used with a proxy; name it in proxy"],
    ),
    file(
        "exceptions without a proxy",
        |f| tunnel(f, "no_proxy = [\"vendor.example\"]"),
        &["DIR/agent.toml:4: tunnel.no_proxy: only used with a proxy"],
    ),
    file(
        "a user without a password",
        |f| tunnel(f, "proxy = \"http://p:1\"\nproxy_username = \"acme\""),
        &[
            "DIR/agent.toml:5: tunnel.proxy_password_file: missing beside proxy_username; name the file with the password",
        ],
    ),
    file(
        "a password without a user",
        |f| {
            tunnel(
                f,
                "proxy = \"http://p:1\"\nproxy_password_file = \"jira-pat\"",
            )
        },
        &["DIR/agent.toml:5: tunnel.proxy_username: missing beside proxy_password_file"],
    ),
    file(
        "a colon in the user name",
        |f| {
            tunnel(
                f,
                "proxy = \"http://p:1\"\nproxy_username = \"a:b\"\nproxy_password_file = \"jira-pat\"",
            )
        },
        &["DIR/agent.toml:5: tunnel.proxy_username: no user name of a proxy"],
    ),
    file(
        "an exception from the proxy with a scheme",
        |f| {
            tunnel(
                f,
                "proxy = \"http://p:1\"\nno_proxy = [\"ok.example\", \"10.0.0.0/8\", \"http://x\"]",
            )
        },
        &["DIR/agent.toml:5: tunnel.no_proxy[2]: no host, domain, address or network"],
    ),
    file(
        "an exception from the proxy that is no network",
        |f| tunnel(f, "proxy = \"http://p:1\"\nno_proxy = [\"10.0.0.0/33\"]"),
        &["DIR/agent.toml:5: tunnel.no_proxy[0]: no host, domain, address or network"],
    ),
    file(
        "an exception from the proxy with a star in it",
        |f| tunnel(f, "proxy = \"http://p:1\"\nno_proxy = [\"*.x\"]"),
        &["DIR/agent.toml:5: tunnel.no_proxy[0]: no host, domain, address or network"],
    ),
    file(
        "a CA for gateways without TLS",
        |f| {
            tunnel(f, "gateway_ca_file = \"client.pem\"");
        },
        &[
            "DIR/agent.toml:4: tunnel.gateway_ca_file: only used with gateways that begin with tls://",
        ],
    ),
    file(
        "a CA that is none",
        |f| {
            f.edit("gateways = [\"", "gateways = [\"tls://");
            f.write("ca.pem", "no PEM", 0o644);
            tunnel(f, "gateway_ca_file = \"ca.pem\"");
        },
        &["DIR/agent.toml:4: tunnel.gateway_ca_file: DIR/ca.pem: no certificate in it"],
    ),
    // Mode oauth1.
    file(
        "oauth1 without its keys",
        |f| {
            f.edit(
                "mode = \"pat\"\ntoken_file = \"jira-pat\"",
                "mode = \"oauth1\"\nconsumer_key = \"acme\"",
            )
        },
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.private_key_file: missing; mode \"oauth1\" needs it",
        ],
    ),
    file(
        "oauth1 without a consumer key",
        |f| oauth1(f, "consumer_key = \"\"\nprivate_key_file = \"rsa.pem\""),
        &["DIR/agent.toml:15: forward[0] \"jira\".auth.consumer_key: not a consumer key"],
    ),
    file(
        "oauth1 with a key that is no RSA key",
        |f| {
            oauth1(
                f,
                "consumer_key = \"acme\"\nprivate_key_file = \"client.key\"",
            )
        },
        &[
            "DIR/agent.toml:16: forward[0] \"jira\".auth.private_key_file: DIR/client.key: the private key in it is no usable RSA key",
            "agent login --new-key",
        ],
    ),
    file(
        "oauth1 with a key that others can read",
        |f| {
            oauth1(f, GOOD_OAUTH1);
            let pem = std::fs::read_to_string(f.path("rsa.pem")).unwrap();
            f.write("rsa.pem", &pem, 0o644);
        },
        &[
            "DIR/agent.toml:16: forward[0] \"jira\".auth.private_key_file: DIR/rsa.pem has mode 0644",
            "chmod 0600",
        ],
    ),
    file(
        "oauth1 with a token and without one",
        |f| {
            oauth1(
                f,
                &format!("{GOOD_OAUTH1}\ntwo_legged = true\naccess_token_file = \"jira-pat\""),
            )
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".auth.access_token_file: cannot stand beside two_legged = true",
        ],
    ),
    file(
        "oauth1 with a base URL that is none",
        |f| {
            oauth1(
                f,
                &format!("{GOOD_OAUTH1}\nsigned_base_url = \"jira.corp.example\""),
            )
        },
        &["DIR/agent.toml:17: forward[0] \"jira\".auth.signed_base_url: expected a URL like"],
    ),
    file(
        "a key of oauth1 in another mode",
        |f| f.edit("mode = \"pat\"", "mode = \"pat\"\ntwo_legged = true"),
        &["DIR/agent.toml:15: forward[0] \"jira\".auth.two_legged: belongs to mode \"oauth1\""],
    ),
    // Mode api-token, and what only Cloud's API gateway has.
    file(
        "api-token without an address",
        |f| f.edit("mode = \"pat\"", "mode = \"api-token\""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.email: missing; mode \"api-token\" needs it",
        ],
    ),
    file(
        "api-token without a token",
        |f| api_token(f, "email = \"bot@acme.example\""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.token_file: missing; mode \"api-token\" needs it",
        ],
    ),
    file(
        "api-token with a user name",
        |f| api_token(f, "email = \"bot\"\ntoken_file = \"jira-pat\""),
        &["DIR/agent.toml:15: forward[0] \"jira\".auth.email: not an email address"],
    ),
    file(
        "a key of two modes in a third",
        |f| f.edit("mode = \"pat\"", "mode = \"pat\"\ncloud_id = \"x\""),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.cloud_id: belongs to mode \"oauth2\" or \"api-token\", and the mode is \"pat\"",
        ],
    ),
    file(
        "a gateway without a scoped token",
        |f| {
            let keys = "email = \"bot@acme.example\"\ntoken_file = \"jira-pat\"";
            api_token(
                f,
                &format!("{keys}\napi_url = \"https://api.atlassian.com\""),
            );
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.api_url: is for requests behind Cloud's API gateway",
            "set scoped = true",
        ],
    ),
    file(
        "a cloud id that leads elsewhere",
        |f| {
            let keys = "email = \"bot@acme.example\"\ntoken_file = \"jira-pat\"\nscoped = true";
            api_token(f, &format!("{keys}\ncloud_id = \"../x\""));
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".auth.cloud_id: not a cloud id",
            "/_edge/tenant_info",
        ],
    ),
    file(
        "a gateway in the clear",
        |f| {
            let keys = "email = \"bot@acme.example\"\ntoken_file = \"jira-pat\"\nscoped = true";
            api_token(f, &format!("{keys}\napi_url = \"http://api.corp.example\""));
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".auth.api_url: sends the login in the clear",
            "https://",
        ],
    ),
    file(
        "a key of oauth2 in another mode",
        |f| f.edit("mode = \"pat\"", "mode = \"pat\"\nclient_id = \"x\""),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.client_id: belongs to mode \"oauth2\", and the mode is \"pat\"",
        ],
    ),
    // Mode oauth2.
    file(
        "oauth2 without a client",
        |f| oauth2(f, "client_secret_file = \"jira-pat\""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.client_id: missing; mode \"oauth2\" needs it",
        ],
    ),
    file(
        "oauth2 without a secret",
        |f| oauth2(f, "client_id = \"x\""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.client_secret_file: missing; mode \"oauth2\" needs it",
        ],
    ),
    file(
        "oauth2 with a token file",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ntoken_file = \"jira-pat\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.token_file: belongs to mode \"pat\" or \"api-token\"",
        ],
    ),
    file(
        "an unknown grant",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ngrant = \"password\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.grant: not a known value; expected \"authorization_code\" or \"client_credentials\"",
        ],
    ),
    file(
        "a scope of Cloud on Data Center",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nscope = \"read:jira-work\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.scope: Data Center knows no scope \"read:jira-work\"; it has READ, WRITE",
        ],
    ),
    file(
        "scopes with a comma",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nscope = \"READ,  WRITE\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.scope: expected words with one space between them",
        ],
    ),
    file(
        "a scope of Cloud that does not last",
        |f| {
            f.edit(
                "https://jira.corp.example/jira",
                "https://acme.atlassian.net",
            );
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nscope = \"read:jira-work\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.scope: lacks offline_access",
            "add it",
        ],
    ),
    file(
        "client_credentials on Cloud",
        |f| {
            f.edit(
                "https://jira.corp.example/jira",
                "https://acme.atlassian.net",
            );
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ngrant = \"client_credentials\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.grant: client_credentials is for Data Center service accounts",
        ],
    ),
    file(
        "client_credentials with a redirect",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ngrant = \"client_credentials\"\nredirect_uri = \"https://localhost/\"",
            )
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".auth.redirect_uri: belongs to grant = \"authorization_code\"",
        ],
    ),
    file(
        "a redirect over plain http to elsewhere",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nredirect_uri = \"http://jira.corp.example/cb\"",
            )
        },
        &["DIR/agent.toml:17: forward[0] \"jira\".auth.redirect_uri: expected https://"],
    ),
    file(
        "a redirect that is no address",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nredirect_uri = \"oob\"",
            )
        },
        &["DIR/agent.toml:17: forward[0] \"jira\".auth.redirect_uri: expected https://"],
    ),
    file(
        "a redirect with a fragment",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nredirect_uri = \"https://localhost/#x\"",
            )
        },
        &["DIR/agent.toml:17: forward[0] \"jira\".auth.redirect_uri: may have no fragment"],
    ),
    file(
        "a token endpoint in the clear",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ntoken_url = \"http://jira.corp.example/token\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.token_url: sends the client's secret in the clear",
        ],
    ),
    file(
        "a token endpoint with a query",
        |f| {
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\ntoken_url = \"https://jira.corp.example/token?a=b\"",
            )
        },
        &["DIR/agent.toml:17: forward[0] \"jira\".auth.token_url: "],
    ),
    file(
        "a first refresh token that others can read",
        |f| {
            f.write("first", CANARY, 0o644);
            oauth2(
                f,
                "client_id = \"x\"\nclient_secret_file = \"jira-pat\"\nrefresh_token_file = \"first\"",
            )
        },
        &[
            "DIR/agent.toml:17: forward[0] \"jira\".auth.refresh_token_file: ",
            "chmod 0600",
        ],
    ),
    // The environment.
    variable(
        &[("JIRA_TUNNEL_AGENT__TUNNEL__CONECTIONS", "2")],
        &[
            "environment JIRA_TUNNEL_AGENT__TUNNEL__CONECTIONS: tunnel.conections: unknown key; did you mean \"connections\"?",
        ],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__TUNNEL__CONNECTIONS", "many")],
        &[
            "environment JIRA_TUNNEL_AGENT__TUNNEL__CONNECTIONS: tunnel.connections: expected a whole number from 1 to 16",
        ],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__TUNNEL__PROXY", "http://x")],
        &["environment JIRA_TUNNEL_AGENT__TUNNEL__PROXY: tunnel.proxy: the port is missing"],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__FORWARD__JIAR__BIND", "x:1")],
        &[
            "environment JIRA_TUNNEL_AGENT__FORWARD__JIAR__BIND: forward.jiar: no [[forward]] is named \"jiar\"; the files have: jira",
        ],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__FORWARD__JIRA__NAME", "other")],
        &[
            "environment JIRA_TUNNEL_AGENT__FORWARD__JIRA__NAME: forward.jira.name: forwards are told apart by name",
        ],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__TUNNEL", "x")],
        &[
            "environment JIRA_TUNNEL_AGENT__TUNNEL: tunnel: a section, not a key",
            "two underscores",
        ],
    ),
    variable(
        &[("JIRA_TUNNEL_AGENT__TUNNEL__USER", "")],
        &[
            "environment JIRA_TUNNEL_AGENT__TUNNEL__USER: tunnel.user: not a user name; write the one that the vendor gave you",
        ],
    ),
    // [tunnel].
    file(
        "no gateway",
        |f| f.edit("[\"gw1.vendor.example:443\"]", "[]"),
        &[
            "DIR/agent.toml:2: tunnel.gateways: empty; name at least one gateway, like [\"gw1.vendor.example:443\"]",
        ],
    ),
    file(
        "gateway without a port",
        |f| {
            f.edit(
                "\"gw1.vendor.example:443\"",
                "\"gw1:443\", \"gw2.vendor.example\"",
            )
        },
        &["DIR/agent.toml:2: tunnel.gateways[1]: expected host:port"],
    ),
    file(
        "gateway with a port that is none",
        |f| f.edit("example:443", "example:70000"),
        &["DIR/agent.toml:2: tunnel.gateways[0]: \"70000\" is not a port number (1 to 65535)"],
    ),
    file(
        "gateway with port 0",
        |f| f.edit("example:443", "example:0"),
        &["DIR/agent.toml:2: tunnel.gateways[0]: port 0 cannot be connected to"],
    ),
    file(
        "no host key",
        |f| {
            f.edit(
                "host_keys = [\"SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0\"]\n",
                "",
            )
        },
        &[
            "DIR/agent.toml: tunnel.host_keys: no host key is named",
            "known_hosts_file",
        ],
    ),
    file(
        "bad fingerprint",
        |f| {
            f.edit(
                "SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0",
                "SHA256:short",
            )
        },
        &[
            "DIR/agent.toml:5: tunnel.host_keys: \"SHA256:short\" is no SHA256 fingerprint",
            "ssh-keygen -lf",
        ],
    ),
    file(
        "missing known_hosts",
        |f| {
            f.edit(
                "user = \"acme\"",
                "user = \"acme\"\nknown_hosts_file = \"hosts\"",
            )
        },
        &[
            "DIR/agent.toml:4: tunnel.known_hosts_file: DIR/hosts does not exist; create it or correct the name",
        ],
    ),
    file(
        "known_hosts with nothing but a bad line",
        |f| {
            f.edit(
                "host_keys = [\"SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0\"]\n",
                "known_hosts_file = \"hosts\"\n",
            );
            f.write("hosts", "# comment\ngw1 ssh-ed25519 nonsense\n", 0o644);
        },
        &[
            "DIR/agent.toml:5: tunnel.known_hosts_file: DIR/hosts, line 2: ",
            "correct the line or remove it",
        ],
    ),
    file(
        "missing identity",
        |f| f.edit("\"id_ed25519\"", "\"id_none\""),
        &[
            "DIR/agent.toml:4: tunnel.identity_file: DIR/id_none does not exist; create it with mode 0600",
        ],
    ),
    file(
        "identity that others can read",
        |f| {
            f.write(
                "id_ed25519",
                &std::fs::read_to_string(f.path("id_ed25519")).unwrap(),
                0o640,
            )
        },
        &[
            "DIR/agent.toml:4: tunnel.identity_file: DIR/id_ed25519 has mode 0640",
            "chmod 0600 DIR/id_ed25519",
        ],
    ),
    file(
        "identity that is no key",
        |f| f.write("id_ed25519", CANARY, 0o600),
        &["DIR/agent.toml:4: tunnel.identity_file: DIR/id_ed25519 is no OpenSSH private key"],
    ),
    file(
        "empty file name",
        |f| f.edit("\"id_ed25519\"", "\"\""),
        &["DIR/agent.toml:4: tunnel.identity_file: empty; name a file"],
    ),
    file(
        "passphrase file missing",
        |f| {
            f.edit(
                "user = \"acme\"",
                "user = \"acme\"\nidentity_passphrase_file = \"phrase\"",
            )
        },
        &["DIR/agent.toml:4: tunnel.identity_passphrase_file: DIR/phrase does not exist"],
    ),
    file(
        "stall before keep-alive",
        |f| {
            f.edit(
                "user = \"acme\"",
                "user = \"acme\"\nstall_timeout = \"10s\"",
            )
        },
        &[
            "DIR/agent.toml:4: tunnel.stall_timeout: 10s is not longer than keepalive_interval (15s)",
            "twice as long",
        ],
    ),
    file(
        "low mark above high mark",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.transport]\nlow_mark = \"2MiB\"\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:2: tunnel.transport.low_mark: 2MiB is not less than high_mark (1MiB)",
            "half of it",
        ],
    ),
    file(
        "cap below high mark",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.transport]\nhigh_mark = \"64MiB\"\n",
                0o644,
            )
        },
        &["DIR/agent.d/1.toml:2: tunnel.transport.cap: 64MiB is not more than high_mark (64MiB)"],
    ),
    file(
        "memory of a channel above that of a session",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.channel]\nmemory_per_session = \"1MiB\"\nmemory = \"2MiB\"\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:2: tunnel.channel.memory_per_session: 1MiB is less than memory (2MiB)",
        ],
    ),
    file(
        "spool smaller than memory",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.channel]\nspool_per_session = \"2MiB\"\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:2: tunnel.channel.spool_per_session: 2MiB is less than memory_per_session (64MiB)",
        ],
    ),
    file(
        "no spool folder",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[tunnel.channel]\nspool_dir = \"nowhere\"\n",
                0o644,
            )
        },
        &["DIR/agent.d/1.toml:2: tunnel.channel.spool_dir: DIR/nowhere is not a folder; create it"],
    ),
    // [[forward]].
    file(
        "forward without a name",
        |f| f.edit("name = \"jira\"\n", ""),
        &["DIR/agent.toml:7: forward[0].name: missing; give each forward a name of its own"],
    ),
    file(
        "bad name",
        |f| f.edit("name = \"jira\"", "name = \"ji ra\""),
        &["DIR/agent.toml:8: forward[0].name: not a name; use 1 to 64 letters, digits"],
    ),
    file(
        "the same name twice",
        |f| {
            let text = "[[forward]]\nname = \"a\"\nbind = \"h:1\"\nupstream = \"tcp://h:1\"\n\n[[forward]]\nname = \"a\"\n";
            f.write("agent.d/1.toml", text, 0o644);
        },
        &[
            "DIR/agent.d/1.toml:7: forward[1].name: \"a\" is already the name of the forward at DIR/agent.d/1.toml:2",
        ],
    ),
    file(
        "the same bind twice",
        |f| {
            let text = "[[forward]]\nname = \"two\"\nbind = \"127.0.0.1:8080\"\nupstream = \"tcp://h:1\"\n";
            f.write("agent.d/1.toml", text, 0o644);
        },
        &[
            "DIR/agent.d/1.toml:3: forward[1] \"two\".bind: 127.0.0.1:8080 is already the bind of forward \"jira\"",
        ],
    ),
    file(
        "bad bind",
        |f| f.edit("127.0.0.1:8080", "8080"),
        &["DIR/agent.toml:9: forward[0] \"jira\".bind: expected host:port"],
    ),
    file(
        "no URL",
        |f| f.edit("https://jira.corp.example/jira", "jira.corp.example"),
        &[
            "DIR/agent.toml:10: forward[0] \"jira\".upstream: expected a URL like https://jira.corp.example/jira",
        ],
    ),
    file(
        "URL of another scheme",
        |f| f.edit("https://jira", "ftp://jira"),
        &["DIR/agent.toml:10: forward[0] \"jira\".upstream: the scheme must be https, http or tcp"],
    ),
    file(
        "bad address",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "address = \"jira\"\nroots = \"webpki\"",
            )
        },
        &[
            "DIR/agent.toml:11: forward[0] \"jira\".address: not an IP address; write it like \"10.1.2.3\"",
        ],
    ),
    file(
        "bad server name",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "server_name = \"a b\"\nroots = \"webpki\"",
            )
        },
        &["DIR/agent.toml:11: forward[0] \"jira\".server_name: not a host name"],
    ),
    file(
        "TLS without TLS",
        |f| f.edit("https://", "http://"),
        &[
            "DIR/agent.toml:11: forward[0] \"jira\".roots: has no effect without TLS; write upstream with https://",
        ],
    ),
    file(
        "no roots at all",
        |f| f.edit("roots = \"webpki\"", "roots = \"none\""),
        &[
            "DIR/agent.toml:11: forward[0] \"jira\".roots: no certificate is trusted",
            "ca_file; name one",
        ],
    ),
    file(
        "missing ca_file",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nca_file = \"corp-ca.pem\"",
            )
        },
        &["DIR/agent.toml:12: forward[0] \"jira\".ca_file: DIR/corp-ca.pem does not exist"],
    ),
    file(
        "ca_file without a certificate",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nca_file = \"client.key\"",
            )
        },
        &["DIR/agent.toml:12: forward[0] \"jira\".ca_file: DIR/client.key: no certificate in it"],
    ),
    file(
        "client certificate without its key",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_certificate_file = \"client.pem\"",
            )
        },
        &[
            "DIR/agent.toml:12: forward[0] \"jira\".client_key_file: missing beside client_certificate_file",
        ],
    ),
    file(
        "client key without its certificate",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_key_file = \"client.key\"",
            )
        },
        &[
            "DIR/agent.toml:12: forward[0] \"jira\".client_certificate_file: missing beside client_key_file",
        ],
    ),
    file(
        "client key that others can read",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_certificate_file = \"client.pem\"\nclient_key_file = \"client.key\"",
            );
            f.write(
                "client.key",
                &std::fs::read_to_string(f.path("client.key")).unwrap(),
                0o644,
            );
        },
        &[
            "DIR/agent.toml:13: forward[0] \"jira\".client_key_file: DIR/client.key has mode 0644",
            "chmod 0600",
        ],
    ),
    file(
        "client key that is none",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_certificate_file = \"client.pem\"\nclient_key_file = \"jira-pat\"",
            );
        },
        &[
            "DIR/agent.toml:13: forward[0] \"jira\".client_key_file: DIR/jira-pat: no private key in it",
        ],
    ),
    file(
        "client certificate and key of different pairs",
        |f| {
            f.edit(
                "roots = \"webpki\"",
                "roots = \"webpki\"\nclient_certificate_file = \"client.pem\"\nclient_key_file = \"other.key\"",
            );
            let other = rcgen::KeyPair::generate().unwrap();
            f.write("other.key", &other.serialize_pem(), 0o600);
        },
        &[
            "DIR/agent.toml:12: forward[0] \"jira\".client_certificate_file: client certificate: ",
            "belong together",
        ],
    ),
    // [forward.auth].
    file(
        "missing token",
        |f| f.edit("\"jira-pat\"", "\"none\""),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: DIR/none does not exist; create it with mode 0600",
        ],
    ),
    file(
        "token that others can read",
        |f| f.write("jira-pat", CANARY, 0o644),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: DIR/jira-pat has mode 0644",
            "chmod 0600 DIR/jira-pat",
        ],
    ),
    file(
        "token that its group can read",
        |f| f.write("jira-pat", CANARY, 0o640),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: DIR/jira-pat has mode 0640",
            "chmod 0600 DIR/jira-pat",
        ],
    ),
    file(
        "empty token",
        |f| f.write("jira-pat", "\n", 0o600),
        &["DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: DIR/jira-pat is empty"],
    ),
    file(
        "a folder instead of a token",
        |f| f.edit("\"jira-pat\"", "\"/tmp\""),
        &["DIR/agent.toml:15: forward[0] \"jira\".auth.token_file: /tmp is not a regular file"],
    ),
    file(
        "no token_file",
        |f| f.edit("token_file = \"jira-pat\"\n", ""),
        &["DIR/agent.toml:14: forward[0] \"jira\".auth.token_file: missing; mode \"pat\" needs it"],
    ),
    file(
        "a day that is none",
        |f| f.edit("token_file", "expires = \"31.01.2027\"\ntoken_file"),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.expires: not a day; write it like \"2027-01-31\"",
        ],
    ),
    file(
        "an end for a password",
        |f| {
            f.edit(
                "mode = \"pat\"\ntoken_file",
                "mode = \"basic\"\nusername = \"bot\"\nexpires = \"2027-01-31\"\npassword_file",
            )
        },
        &[
            "DIR/agent.toml:16: forward[0] \"jira\".auth.expires: belongs to mode \"pat\" or \"api-token\", and the mode is \"basic\"",
        ],
    ),
    file(
        "no user name",
        |f| {
            f.edit(
                "mode = \"pat\"\ntoken_file",
                "mode = \"basic\"\npassword_file",
            )
        },
        &["DIR/agent.toml:14: forward[0] \"jira\".auth.username: missing; mode \"basic\" needs it"],
    ),
    file(
        "colon in a user name",
        |f| {
            f.edit(
                "mode = \"pat\"\ntoken_file",
                "mode = \"basic\"\nusername = \"a:b\"\npassword_file",
            )
        },
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.username: not a user name",
            "colon",
        ],
    ),
    file(
        "a key of another mode",
        |f| f.edit("mode = \"pat\"", "mode = \"pat\"\nusername = \"bot\""),
        &[
            "DIR/agent.toml:15: forward[0] \"jira\".auth.username: belongs to mode \"basic\", and the mode is \"pat\"",
        ],
    ),
    file(
        "a token without a mode",
        |f| f.edit("mode = \"pat\"\n", ""),
        &[
            "DIR/agent.toml:14: forward[0] \"jira\".auth.token_file: belongs to mode \"pat\" or \"api-token\", and the mode is \"pass-through\"; set mode = \"pat\"",
        ],
    ),
    // [forward.policy].
    file(
        "unknown preset",
        |f| f.edit("\"ticketing\"", "\"ticketting\""),
        &["DIR/agent.toml:18: forward[0] \"jira\".policy.presets[0]: \"ticketting\": "],
    ),
    file(
        "bad pattern",
        |f| {
            f.edit(
                "presets = [\"ticketing\"]",
                "allow = [\"GET /rest/ok\", \"GET rest/api\"]",
            )
        },
        &["DIR/agent.toml:18: forward[0] \"jira\".policy.allow[1]: \"GET rest/api\": "],
    ),
    file(
        "bad method",
        |f| f.edit("presets = [\"ticketing\"]", "deny = [\"get /rest/api\"]"),
        &["DIR/agent.toml:18: forward[0] \"jira\".policy.deny[0]: \"get /rest/api\": "],
    ),
    file(
        "policy for bytes",
        |f| {
            f.edit(
                "https://jira.corp.example/jira\"\nroots = \"webpki\"",
                "tcp://jira.corp.example:443\"",
            );
            f.edit(
                "\n[forward.auth]\nmode = \"pat\"\ntoken_file = \"jira-pat\"\n",
                "",
            );
        },
        &[
            "DIR/agent.toml:8: forward[0] \"jira\".policy: [forward.policy] cannot hold for a tcp:// upstream",
            "https://",
        ],
    ),
    file(
        "login for bytes",
        |f| {
            f.edit(
                "https://jira.corp.example/jira\"\nroots = \"webpki\"",
                "tcp://jira.corp.example:443\"",
            );
            f.edit("\n[forward.policy]\npresets = [\"ticketing\"]\n", "");
        },
        &[
            "DIR/agent.toml:8: forward[0] \"jira\".auth: [forward.auth] cannot hold for a tcp:// upstream",
        ],
    ),
    // [forward.headers].
    file(
        "a header that carries an identity",
        |f| {
            f.edit(
                "[forward.policy]",
                "[forward.headers]\npass = [\"X-Vendor-Tenant\", \"X-Remote-User\"]\n\n[forward.policy]",
            )
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".headers.pass[1]: \"X-Remote-User\": by its name it carries an identity",
        ],
    ),
    file(
        "a header that frames the request",
        |f| {
            f.edit(
                "[forward.policy]",
                "[forward.headers]\npass = [\"Content-Length\"]\n\n[forward.policy]",
            )
        },
        &[
            "DIR/agent.toml:18: forward[0] \"jira\".headers.pass[0]: \"Content-Length\": it frames the request",
        ],
    ),
    file(
        "headers where all pass",
        |f| {
            f.edit(
                "mode = \"pat\"\ntoken_file = \"jira-pat\"\n",
                "mode = \"pass-through\"\n[forward.headers]\npass = [\"X-Tenant\"]\n",
            )
        },
        &[
            "DIR/agent.toml:16: forward[0] \"jira\".headers.pass: has no effect with mode = \"pass-through\"",
        ],
    ),
    // [audit] and [log].
    file(
        "audit file without a name",
        |f| f.write("agent.d/1.toml", "[audit]\nsink = \"file\"\n", 0o644),
        &["DIR/agent.d/1.toml:2: audit.file: missing with sink = \"file\"; name the file"],
    ),
    file(
        "relative audit file",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[audit]\nsink = \"file\"\nfile = \"audit.jsonl\"\n",
                0o644,
            )
        },
        &["DIR/agent.d/1.toml:3: audit.file: not an absolute path"],
    ),
    file(
        "audit file for another sink",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[audit]\nfile = \"/var/log/audit.jsonl\"\n",
                0o644,
            )
        },
        &["DIR/agent.d/1.toml:2: audit.file: only used with sink = \"file\""],
    ),
    file(
        "an audit that is required and off",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[audit]\nsink = \"off\"\nrequired = true\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:3: audit.required: true with sink = \"off\", so that no request could ever pass",
        ],
    ),
    file(
        "a queue too short for a required audit",
        |f| {
            f.write(
                "agent.d/1.toml",
                "[audit]\nqueue = 255\nrequired = true\n",
                0o644,
            )
        },
        &[
            "DIR/agent.d/1.toml:2: audit.queue: 255 is less than the 256 requests that the forwards may have in flight",
        ],
    ),
    file(
        "no level",
        |f| f.write("agent.d/1.toml", "[log]\nlevel = \"verbose\"\n", 0o644),
        &["DIR/agent.d/1.toml:2: log.level: \"verbose\" is no log level; use error, warn, info"],
    ),
];
