//! TLS toward Jira: what is accepted, and what is said where it is not.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// A CA of the test's own.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |_| {})
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.issuer).unwrap().der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        }
    }
}

struct Leaf {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Leaf {
    fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }

    fn as_client(&self) -> Arc<ClientCertificate> {
        Arc::new(ClientCertificate {
            chain: vec![self.certificate.clone()],
            key: self.key(),
        })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_config(leaf: &Leaf, clients: Option<&Authority>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(vec![leaf.certificate.clone()], leaf.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// An https Jira that answers each request with protocol and ALPN.
async fn https(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(move |peer| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(peer.stream).await else {
                return;
            };
            let session = stream.get_ref().1;
            let alpn = String::from_utf8(session.alpn_protocol().unwrap_or_default().to_vec());
            let seen = format!(
                "{:?} {}",
                session.protocol_version().unwrap(),
                alpn.unwrap()
            );
            let mut peer = Peer {
                index: peer.index,
                stream,
                unread: Vec::new(),
            };
            while let Some(head) = peer.head().await {
                if let Some((line, _)) = head.split_once(" HTTP/1.1\r\n")
                    && line.starts_with("POST ")
                {
                    let body = peer.body(5).await;
                    let body = String::from_utf8(body).unwrap();
                    peer.ok(&format!("{line} {body}")).await;
                } else {
                    peer.ok(&seen).await;
                }
            }
        }
    })
    .await
}

fn tls_settings(address: SocketAddr, trusted: &Authority) -> Settings {
    let mut settings = Settings::new("https://jira.test/jira".parse().unwrap());
    settings.address = Some(address);
    settings.tls.roots = TrustRoots::None;
    settings.tls.extra_roots = vec![trusted.certificate.clone()];
    settings
}

async fn ask(settings: Settings) -> Result<String, SendError> {
    let upstream = Upstream::new(settings).unwrap();
    Ok(text(soon("an answer", upstream.send(get("/x"))).await?).await)
}

async fn refused(settings: Settings, words: &[&str]) {
    let error = ask(settings).await.unwrap_err();
    assert_eq!(error.kind, FailedStep::Tls, "{error}");
    assert_eq!(error.delivery, Delivery::NotSent, "{error}");
    for word in words {
        assert!(error.detail.contains(word), "{word:?} in {error}");
    }
}

#[tokio::test]
async fn a_ca_file_is_enough_and_http_1_1_is_agreed_on() {
    let ca = Authority::new("Corp Root");
    let address = https(server_config(&ca.issue(&["jira.test"]), None)).await;
    assert_eq!(
        ask(tls_settings(address, &ca)).await.unwrap(),
        "TLSv1_3 http/1.1"
    );
}

/// TLS writes several buffers at once, head and body among them.
#[tokio::test]
async fn a_raw_query_is_put_on_the_wire_before_its_body() {
    let ca = Authority::new("Corp Root");
    let address = https(server_config(&ca.issue(&["jira.test"]), None)).await;
    let upstream = Upstream::new(tls_settings(address, &ca)).unwrap();
    for query in ["jql=a>b", "jql=\"c\"", "<"] {
        let encoded = query
            .replace('"', "%22")
            .replace('<', "%3C")
            .replace('>', "%3E");
        let mut asked = request("POST", &format!("/jira/x?{encoded}"), full("hello"));
        let raw = RawTarget(format!("/jira/x?{query}").into());
        asked.extensions_mut().insert(raw);
        let said = text(soon("an answer", upstream.send(asked)).await.unwrap()).await;
        assert_eq!(said, format!("POST /jira/x?{query} hello"));
        // The same connection, without.
        let said = text(upstream.send(get("/x")).await.unwrap()).await;
        assert_eq!(said, "TLSv1_3 http/1.1");
    }
    assert_eq!(upstream.pool.idle_count(), 1);
}

#[tokio::test]
async fn tls_1_2_still_works() {
    let ca = Authority::new("Corp Root");
    let leaf = ca.issue(&["jira.test"]);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.certificate.clone()], leaf.key())
        .unwrap();
    let address = https(config).await;
    assert_eq!(ask(tls_settings(address, &ca)).await.unwrap(), "TLSv1_2 ");
}

#[tokio::test]
async fn an_unknown_issuer_is_named_with_the_remedy() {
    let ca = Authority::new("Corp Root G2");
    let address = https(server_config(&ca.issue(&["jira.test"]), None)).await;
    let other = Authority::new("Another");
    let settings = tls_settings(address, &other);
    refused(settings, &["Corp Root G2", "ca_file", "jira.test"]).await;
    let mut settings = tls_settings(address, &other);
    settings.tls.roots = TrustRoots::Webpki;
    refused(settings, &["Corp Root G2", "Mozilla"]).await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_called_that() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["jira.test".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "jira box");
    let leaf = Leaf {
        certificate: params.self_signed(&key).unwrap().der().clone(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()),
    };
    let address = https(server_config(&leaf, None)).await;
    let settings = tls_settings(address, &Authority::new("Corp Root"));
    refused(settings, &["self-signed", "jira box"]).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_tells_both_names() {
    let ca = Authority::new("Corp Root");
    let address = https(server_config(&ca.issue(&["jira-prod.corp.example"]), None)).await;
    let settings = tls_settings(address, &ca);
    refused(
        settings,
        &["for jira-prod.corp.example", "\"jira.test\"", "server_name"],
    )
    .await;
    let mut settings = tls_settings(address, &ca);
    settings.tls.server_name = Some("jira-prod.corp.example".to_owned());
    ask(settings).await.unwrap();
}

#[tokio::test]
async fn an_expired_or_future_certificate_tells_by_how_much() {
    let ca = Authority::new("Corp Root");
    let leaf = ca.issue_with(&["jira.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let address = https(server_config(&leaf, None)).await;
    refused(tls_settings(address, &ca), &["expired", "days ago"]).await;
    let leaf = ca.issue_with(&["jira.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        params.not_after = rcgen::date_time_ymd(3000, 1, 1);
    });
    let address = https(server_config(&leaf, None)).await;
    refused(tls_settings(address, &ca), &["valid only in", "clock"]).await;
}

#[tokio::test]
async fn a_ca_certificate_used_as_the_servers_own_is_explained() {
    let ca = Authority::new("Corp Root");
    let leaf = ca.issue_with(&["jira.test"], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let address = https(server_config(&leaf, None)).await;
    refused(
        tls_settings(address, &ca),
        &["CA certificate used as the server's own"],
    )
    .await;
}

#[tokio::test]
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds versions")]
async fn a_client_certificate_is_presented_and_its_absence_is_explained() {
    let (ca, clients) = (Authority::new("Corp Root"), Authority::new("Corp Clients"));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = server_config(&ca.issue(&["jira.test"]), Some(&clients));
        let mut roots = RootCertStore::empty();
        roots.add(clients.certificate.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
        let leaf = ca.issue(&["jira.test"]);
        let config = match version.version {
            rustls::ProtocolVersion::TLSv1_3 => config,
            _ => ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(verifier.build().unwrap())
                .with_single_cert(vec![leaf.certificate.clone()], leaf.key())
                .unwrap(),
        };
        let address = https(config).await;
        refused(tls_settings(address, &ca), &["client certificate"]).await;
        let own = clients.issue_with(&["agent"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let mut settings = tls_settings(address, &ca);
        settings.tls.client_certificate = Some(own.as_client());
        ask(settings).await.unwrap();
    }
}

#[tokio::test]
async fn a_plain_http_port_is_recognised() {
    let address = server(|mut peer| async move {
        peer.fill().await;
        peer.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        peer.rest().await;
    })
    .await;
    refused(
        tls_settings(address, &Authority::new("x")),
        &["not TLS", "http port"],
    )
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_move_runs_into_the_deadline() {
    let address = server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let mut settings = tls_settings(address, &Authority::new("x"));
    settings.connect_timeout = Duration::from_millis(100);
    refused(settings, &["did not finish within 100ms"]).await;
}

#[test]
fn settings_that_cannot_work_are_refused_before_any_socket() {
    let base = Settings::new("https://jira.test".parse().unwrap());
    let mut none = base.clone();
    none.tls.roots = TrustRoots::None;
    let error = Upstream::new(none).err().unwrap();
    assert!(error.to_string().contains("ca_file"), "{error}");

    let mut garbage = base.clone();
    garbage.tls.roots = TrustRoots::None;
    garbage.tls.extra_roots = vec![CertificateDer::from(vec![1, 2, 3])];
    let error = Upstream::new(garbage).err().unwrap();
    assert!(
        error.to_string().contains("certificate 1 of ca_file"),
        "{error}"
    );

    let ca = Authority::new("x");
    let (one, two) = (ca.issue(&["a"]), ca.issue(&["b"]));
    let mut mismatched = base;
    mismatched.tls.roots = TrustRoots::Webpki;
    mismatched.tls.client_certificate = Some(Arc::new(ClientCertificate {
        chain: vec![one.certificate.clone()],
        key: two.key(),
    }));
    let error = Upstream::new(mismatched).err().unwrap();
    assert!(error.to_string().contains("belong together"), "{error}");
}
