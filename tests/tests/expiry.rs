//! Expiring certificates: what a running agent reports of its SSH user certificate and of its TLS client certificate
//! 30, 14 and 7 days before the end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check,
    expiry::{CredentialKind, ExpiryUrgency, timestamps},
    status::{OverallState, StatusReport},
};
use e2e::{
    agent::write_secret,
    login::output_text,
    sshd::{certify, keygen},
    test_env::{BOT_TOKEN, MYSELF, TestEnv},
};
use server_stub::{certificate_authority::CertificateAuthority, jira::HttpsSettings};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

#[tokio::test(flavor = "multi_thread")]
async fn expiring_certificates_are_warned_of_30_14_and_7_days_before() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
    // The first start needs one, which Jira does not accept.
    tls_certificate(
        &CertificateAuthority::new().unwrap(),
        40,
        &certificate,
        &key,
    );
    let plan = TestEnv::builder()
        .pat(BOT_TOKEN)
        .jira(|jira| {
            jira.https = Some(HttpsSettings {
                client_certificate: true,
                ..HttpsSettings::default()
            });
        })
        .line(
            "forward",
            format!("client_certificate_file = {certificate:?}"),
        )
        .line("forward", format!("client_key_file = {key:?}"))
        .sshd("TrustedUserCAKeys {dir}/ca.pub");
    let mut site = plan.start_unproven().await.unwrap();
    let ca = site.sshd.folder().join("ca");
    keygen(&ca, &["-t", "ed25519"], "").unwrap();
    // From here on only the certificate permits the login.
    fs::remove_file(site.sshd.folder().join("authorized_keys")).unwrap();

    for (days, urgency, overall) in [
        (40, ExpiryUrgency::None, OverallState::Proven),
        (20, ExpiryUrgency::Within30Days, OverallState::Proven),
        (10, ExpiryUrgency::Within14Days, OverallState::Proven),
        (5, ExpiryUrgency::Within7Days, OverallState::Degraded),
    ] {
        let public = site.sshd.identity().with_extension("pub");
        let validity = format!("-60d:+{days}d12h");
        certify(&ca, &public, &["-n", &site.sshd.user(), "-V", &validity]).unwrap();
        let authority = site.jira().authority().unwrap();
        tls_certificate(authority, days, &certificate, &key);
        site.agent.restart().unwrap();
        let report = site.agent.until_status("both certificates", |report| {
            let known = |kind| report.credentials.iter().any(|c| c.credential == kind);
            let both =
                known(CredentialKind::SshCertificate) && known(CredentialKind::ClientCertificate);
            report.overall == overall && both
        });
        let report = report.await.unwrap();
        site.until_bound().await.unwrap();
        assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
        for (kind, forward) in [
            (CredentialKind::SshCertificate, None),
            (CredentialKind::ClientCertificate, Some("jira")),
        ] {
            reports_expiry(&site, &report, kind, forward, days, urgency);
            let sentence = format!("the {} ends in {days} days", kind.name());
            if urgency > ExpiryUrgency::None {
                site.agent.logged(&sentence).await.unwrap();
            }
            let logged = site.agent.log().contains(&sentence);
            assert_eq!(logged, urgency > ExpiryUrgency::None, "{sentence}");
        }
        let (checked, _) = site.agent.check(&[]).unwrap();
        for kind in [
            CredentialKind::SshCertificate,
            CredentialKind::ClientCertificate,
        ] {
            let sentence = format!("the {} ends in {days} days", kind.name());
            let has_sentence =
                |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains(&sentence));
            let mut steps = checked.steps.iter().filter(|step| step.step == "expiry");
            let step = steps.find(|step| has_sentence(&step.cause) || has_sentence(&step.detail));
            let verdict = match urgency {
                ExpiryUrgency::None => check::StepVerdict::Ok,
                _ => check::StepVerdict::Warn,
            };
            let found = step.map(|step| step.verdict);
            assert_eq!(found, Some(verdict), "{sentence}: {checked:#?}");
        }
        let (text, code) = site.agent.status_output().unwrap();
        let exit = i32::from(overall != OverallState::Proven);
        assert_eq!(code, exit, "{text}");
    }
    let accepted = site.sshd.logged("Accepted certificate ID \"test\"");
    accepted.await.unwrap();
}

/// Jira reports when a personal access token ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_warns_of_a_token_whose_end_jira_tells() {
    let plan = TestEnv::builder().pat(BOT_TOKEN).jira(|jira| {
        let mut tokens = jira.tokens.iter_mut();
        let token = tokens.find(|token| token.token == BOT_TOKEN);
        token.unwrap().expires_in = Some(9 * 86_400 + 43_200);
    });
    let site = plan.start().await.unwrap();
    let report = site.agent.until_status("the token's end", |report| {
        report
            .credentials
            .iter()
            .any(|report| report.expires.is_some())
    });
    let report = report.await.unwrap();
    let (kind, urgency) = (
        CredentialKind::PersonalAccessToken,
        ExpiryUrgency::Within14Days,
    );
    reports_expiry(&site, &report, kind, Some("jira"), 9, urgency);
}

/// Checks `agent status`, `--json` and metrics.
fn reports_expiry(
    site: &TestEnv,
    report: &StatusReport,
    kind: CredentialKind,
    forward: Option<&str>,
    days: u64,
    urgency: ExpiryUrgency,
) {
    let mut credentials = report.credentials.iter();
    let credential = credentials
        .find(|credential| {
            credential.credential == kind && credential.forward.as_deref() == forward
        })
        .unwrap_or_else(|| panic!("{kind:?}: {:?}", report.credentials));
    assert_eq!(credential.urgency, urgency, "{credential:?}");
    let left = credential.days_left.unwrap();
    assert!((left - days as f64 - 0.5).abs() < 0.2, "{credential:?}");
    let pressing = urgency > ExpiryUrgency::None;
    assert_eq!(credential.remedy.is_some(), pressing, "{credential:?}");

    let sentence = format!("the {} ends in {days} days", kind.name());
    let (shown, _) = site.agent.status_output().unwrap();
    let holder = forward.unwrap_or("tunnel");
    let mut lines = shown.lines().map(str::trim_start);
    let line = lines.find(|line| line.starts_with(holder) && line.contains(&sentence));
    let line = line.unwrap_or_else(|| panic!("{sentence}: {shown}"));
    assert_eq!(line.contains("WARNING"), pressing, "{line}");
    let json = output_text(&site.agent.run(&["status", "--json"]).unwrap());
    let json: StatusReport = serde_json::from_str(&json).unwrap();
    assert!(
        json.credentials
            .iter()
            .any(|c| c.expires == credential.expires)
    );

    let page = site.agent.succeed(&["metrics"]).unwrap();
    let labels = format!(
        "credential=\"{}\",forward=\"{}\"",
        kind.code(),
        forward.unwrap_or_default()
    );
    let end = timestamps::jira(credential.expires.as_ref().unwrap()).unwrap();
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let timestamp = format!(
        "credential_expiry_timestamp_seconds{{{labels}}} {}\n",
        end.as_secs()
    );
    assert!(page.contains(&timestamp), "{timestamp}: {page}");
    for (within, threshold) in [("30d", 30), ("14d", 14), ("7d", 7)] {
        let flag = u8::from(days < threshold);
        let warning = format!("credential_expiry_warning{{{labels},within=\"{within}\"}} {flag}\n");
        assert!(page.contains(&warning), "{warning}: {page}");
    }
}

/// Issues a certificate that began 60 days ago and ends in this many days and a half.
fn tls_certificate(authority: &CertificateAuthority, days: u64, certificate: &Path, key: &Path) {
    let now = SystemTime::now();
    let end = now + DAY * u32::try_from(days).unwrap() + DAY / 2;
    let leaf = authority.client_for("agent", now - DAY * 60, end).unwrap();
    fs::write(certificate, leaf.certificate_pem).unwrap();
    write_secret(key, &leaf.key_pem).unwrap();
}

const DAY: Duration = Duration::from_secs(86_400);
