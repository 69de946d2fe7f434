//! What answers in place of a healthy Jira, and what is said of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

#[tokio::test]
async fn each_condition_of_jira_has_its_cause_and_remedy() {
    for (status, headers, body, cause, remedy) in [
        (200, "", r#"{"state":"STARTING"}"#, "is starting", "wait"),
        (503, "", r#"{"state":"STARTING"}"#, "is starting", "wait"),
        (
            503,
            "",
            r#"{"state":"MAINTENANCE"}"#,
            "maintenance",
            "Indexing",
        ),
        (500, "", r#"{"state":"ERROR"}"#, "error state", "log"),
        (502, "", "<html>", "502", "proxy"),
        (404, "", "nope", "context path", "upstream"),
        (200, "", "<html>It works!", "not Jira", "host, port"),
        (
            302,
            "location: https://jira.corp.example/jira/status?token=s3cret\r\n",
            "",
            "redirects to https://jira.corp.example/jira/status",
            "https",
        ),
    ] {
        let jira = Jira::healthy();
        jira.answers("/jira/status", status, headers, body);
        // What answers for the status page answers for the rest, too.
        jira.answers("/jira/rest/api/2/serverInfo", status, headers, body);
        let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
        assert!(!fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        let state = match status {
            // No request can pass.
            404 => ProofState::Failed,
            _ => ProofState::Degraded,
        };
        assert_eq!(told.state, state);
        let (told_cause, told_remedy) = (told.cause.unwrap(), told.remedy.unwrap());
        assert!(told_cause.contains(cause), "{told_cause}");
        assert!(told_remedy.contains(remedy), "{told_remedy}");
        assert!(!told_cause.contains("s3cret"), "{told_cause}");
    }
}

#[tokio::test]
async fn a_status_page_that_is_not_jiras_proves_nothing_and_spoils_nothing() {
    let html = "content-type: text/html\r\n";
    for (status, headers) in [
        (302, "location: https://idp.example/saml\r\n"),
        (401, "www-authenticate: Negotiate\r\n"),
        (403, html),
        (404, ""),
        (429, "retry-after: 7\r\n"),
    ] {
        let jira = Jira::healthy();
        jira.answers("/jira/status", status, headers, "");
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        assert_eq!(told.state, ProofState::Proven);
        let detail = told.detail.unwrap();
        assert!(detail.contains(&format!("does not ({status})")), "{detail}");
        assert!(detail.contains("version 9.12.4"), "{detail}");
    }
}

#[tokio::test]
async fn what_a_cache_kept_proves_nothing() {
    for kept in [
        "age: 3600\r\nx-arequestid: 1x1x1\r\n",
        "x-cache-status: HIT\r\nx-arequestid: 1x1x1\r\n",
        "x-cache: HIT from squid\r\n",
    ] {
        let jira = Jira::healthy();
        let ours = format!("{kept}x-ausername: acme-bot\r\n");
        jira.answers("/jira/status", 200, kept, r#"{"state":"RUNNING"}"#);
        jira.answers(
            "/jira/rest/api/2/myself",
            200,
            &ours,
            r#"{"name":"acme-bot"}"#,
        );
        // Jira itself, behind the cache.
        for (below_rest, jiras, proven) in [
            (200, "", ProofState::Proven),
            (504, "", ProofState::Degraded),
            (200, kept, ProofState::Degraded),
        ] {
            let info = "/jira/rest/api/2/serverInfo";
            let body = match below_rest {
                200 => r#"{"version":"9.12.4"}"#,
                _ => "<html>",
            };
            jira.answers(info, below_rest, jiras, body);
            let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
            fixture.health.probe().await;
            let told = fixture.jira.snapshot();
            assert_eq!(told.state, proven, "{kept} {below_rest} {jiras}");
            if proven != ProofState::Proven {
                assert!(told.cause.unwrap().contains("a cache in front of Jira"));
            }
            let told = fixture.login.snapshot();
            assert_eq!(told.state, ProofState::Unknown, "{kept}");
            assert!(told.cause.unwrap().contains("a cache in front of Jira"));
        }
    }
}

/// A request of the vendor met a failure: the status page alone may be well.
#[tokio::test]
async fn a_doubted_jira_is_asked_below_rest_as_well() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    jira.answers("/jira/rest/api/2/serverInfo", 503, "", "<html>");
    fixture.jira.doubt();
    assert!(!fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Degraded);
    let cause = told.cause.unwrap();
    assert!(cause.contains("below /rest"), "{cause}");
}

#[tokio::test]
async fn what_stands_before_jira_is_named_for_both_layers_alike() {
    for (status, headers, body, part, login, then) in [
        (
            302,
            "location: https://idp.example/saml?x=s3cret\r\n",
            "",
            "single sign-on",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            200,
            "content-type: text/html\r\n",
            "<html>",
            "not Jira",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            401,
            "www-authenticate: Negotiate\r\nwww-authenticate: NTLM\r\n",
            "<html>",
            "Negotiate, NTLM",
            ProofState::Failed,
            // The login layer says already that nothing passes.
            ProofState::Degraded,
        ),
        (
            403,
            "content-type: text/html\r\n",
            "<html>",
            "firewall",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            429,
            "retry-after: 7\r\n",
            "{}",
            "in 7 s",
            ProofState::Unknown,
            ProofState::Degraded,
        ),
        (
            503,
            "",
            "",
            "answers 503",
            ProofState::Unknown,
            ProofState::Degraded,
        ),
        (
            407,
            "",
            "",
            "(407)",
            ProofState::Unknown,
            ProofState::Failed,
        ),
    ] {
        let jira = Jira::default();
        for path in [
            "/jira/status",
            "/jira/rest/api/2/serverInfo",
            "/jira/rest/api/2/myself",
        ] {
            jira.answers(path, status, headers, body);
        }
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(!fixture.health.probe().await);
        let (jira, told) = (fixture.jira.snapshot(), fixture.login.snapshot());
        assert_eq!(
            (jira.state, told.state),
            (ProofState::Degraded, login),
            "{status}"
        );
        // What lasts is no odd answer: no request can pass.
        assert!(!fixture.health.probe().await);
        let after = fixture.jira.snapshot();
        assert_eq!(after.state, then, "{status}");
        assert_eq!((&after.cause, &after.remedy), (&jira.cause, &jira.remedy));
        let cause = jira.cause.unwrap();
        assert!(cause.contains(part), "{cause}");
        let login_cause = told.cause.unwrap();
        let same = match status {
            200 => "web page",
            503 => "503",
            _ => part,
        };
        assert!(login_cause.contains(same), "{login_cause}");
        for remedy in [jira.remedy, told.remedy] {
            let remedy = remedy.unwrap();
            assert!(!remedy.is_empty() && !remedy.contains("s3cret"), "{remedy}");
            assert!(!remedy.contains("Personal Access Tokens"), "{remedy}");
        }
    }
}

/// Where our own credential brings an answer of Jira's, requests pass; so they may with the vendor's own.
#[tokio::test]
async fn single_sign_on_before_the_status_page_alone_is_degraded_for_as_long_as_it_lasts() {
    for mode in [Mode::Pat, Mode::PassThrough] {
        let injects = matches!(mode, Mode::Pat);
        let jira = Jira::default();
        let idp = "location: https://idp.example/saml\r\n";
        for path in ["/jira/status", "/jira/rest/api/2/serverInfo"] {
            jira.answers(path, 302, idp, "");
        }
        match injects {
            true => jira.answers(MYSELF, 200, "x-ausername: acme-bot\r\n", "{}"),
            false => jira.answers(MYSELF, 302, idp, ""),
        }
        let mut fixture = health(settings(jira.serve(None).await), mode);
        for _ in 0..4 {
            assert!(!fixture.health.probe().await);
            assert_eq!(
                fixture.jira.snapshot().state,
                ProofState::Degraded,
                "{injects}"
            );
        }
    }
}

#[tokio::test]
async fn a_round_that_jira_answered_breaks_the_row_of_those_that_it_did_not() {
    let jira = Jira::default();
    let idp = "location: https://idp.example/saml\r\n";
    let paths = ["/jira/status", "/jira/rest/api/2/serverInfo", MYSELF];
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    for _ in 0..3 {
        for path in paths {
            jira.answers(path, 302, idp, "");
        }
        assert!(!fixture.health.probe().await);
        assert_eq!(fixture.jira.snapshot().state, ProofState::Degraded);
        jira.answers(MYSELF, 200, "x-ausername: acme-bot\r\n", "{}");
        fixture.login.unknown("once more", "");
        assert!(!fixture.health.probe().await);
        assert_eq!(fixture.jira.snapshot().state, ProofState::Degraded);
        fixture.login.unknown("once more", "");
    }
}

/// As nginx and Tomcat answer, and as a server that just hangs up.
#[tokio::test]
async fn plain_http_to_a_port_that_speaks_tls_is_asked_about() {
    for text in [
        "HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n",
        "",
        "\x15\x03\x01\0\x02\x02\x0a",
    ] {
        let jira = Jira::healthy();
        lock(&jira.answers).insert("/jira/status", text.to_owned());
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(!fixture.health.probe().await);
        let remedy = fixture.jira.snapshot().remedy.unwrap();
        assert!(
            remedy.contains("https:// in upstream"),
            "{text:?}: {remedy}"
        );
    }
}

#[tokio::test]
async fn a_wrong_context_path_is_a_failure_with_the_line_to_write() {
    let jira = Jira::healthy();
    let address = jira.serve(None).await;
    let mut settings = upstream::Settings::new("http://jira.test/wrong".parse().unwrap());
    settings.address = Some(address);
    let mut fixture = health(settings, Mode::Pat);
    assert!(!fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Failed);
    assert_eq!(
        told.remedy.unwrap(),
        "write upstream = \"http://jira.test/jira\""
    );
}

#[tokio::test]
async fn a_jira_that_is_not_reached_is_told_with_the_step_that_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let unresolved = upstream::Settings::new("http://no-such-host.invalid/jira".parse().unwrap());
    for (settings, cause) in [
        (settings(address), "refused the connection"),
        (unresolved, "\"no-such-host.invalid\" does not resolve"),
    ] {
        let mut fixture = health(settings, Mode::Pat);
        assert!(!fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        assert_eq!(told.state, ProofState::Failed);
        assert!(told.cause.as_ref().unwrap().contains(cause), "{told:?}");
        // Nothing is known of the login.
        assert_eq!(fixture.login.snapshot().state, ProofState::Unknown);
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_to_its_bound_alone() {
    let jira = Jira::default();
    // More is announced than ever comes: whoever reads on meets a broken answer.
    let endless = format!(
        "HTTP/1.1 200 X\r\ncontent-length: 99999999\r\n\r\n{}",
        "x".repeat(1 << 20)
    );
    lock(&jira.answers).insert("/jira/status", endless);
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(!fixture.health.probe().await);
    assert!(fixture.jira.snapshot().cause.unwrap().contains("not Jira"));
}

#[tokio::test]
async fn tls_is_verified_as_on_the_path_with_name_and_address_overridden() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    for (name, url, overridden) in [
        ("jira.test", "https://jira.test/jira", None),
        ("inner.test", "https://jira.test/jira", Some("inner.test")),
        ("inner.test", "https://192.0.2.1/jira", Some("inner.test")),
        ("192.0.2.1", "https://192.0.2.1/jira", None),
    ] {
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into(),
            )
            .unwrap();
        let jira = Jira::healthy();
        let mut settings = upstream::Settings::new(url.parse().unwrap());
        settings.address = Some(jira.serve(Some(config.into())).await);
        settings.tls.roots = TrustRoots::None;
        settings.tls.extra_roots = vec![ca.clone()];
        settings.tls.server_name = overridden.map(str::to_owned);
        let mut fixture = health(settings.clone(), Mode::Pat);
        assert!(
            fixture.health.probe().await,
            "{url}: {:?}",
            fixture.jira.snapshot()
        );
        settings.tls.server_name = Some("other.test".to_owned());
        let mut fixture = health(settings, Mode::Pat);
        assert!(!fixture.health.probe().await);
        let cause = fixture.jira.snapshot().cause.unwrap();
        assert!(cause.contains("\"other.test\""), "{cause}");
    }
}
