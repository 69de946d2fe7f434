//! https: a chain of two, names, client certificates, a CA that outlives a restart.

use fake_jira::jira::{HttpsSettings, RunningJira};
use reqwest::{Certificate, Client, Identity};

use crate::client::start_with;

fn trusting(jira: &RunningJira) -> reqwest::ClientBuilder {
    let ca = Certificate::from_pem(jira.ca_pem.as_ref().unwrap().as_bytes()).unwrap();
    Client::builder().tls_certs_only([ca])
}

async fn info(client: Client, url: &str) -> reqwest::Result<String> {
    client
        .get(format!("{url}/rest/api/2/serverInfo"))
        .send()
        .await?
        .text()
        .await
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_in_and_another_does_not() {
    let jira = start_with(|settings| settings.https = Some(HttpsSettings::default())).await;
    assert!(jira.url.starts_with("https://127.0.0.1:"));
    let body = info(trusting(&jira).build().unwrap(), &jira.url)
        .await
        .unwrap();
    assert!(body.contains(&jira.url), "{body}");
    assert!(info(Client::new(), &jira.url).await.is_err());
    assert_eq!(
        std::fs::read_to_string(jira.ca_path.as_ref().unwrap()).unwrap(),
        *jira.ca_pem.as_ref().unwrap()
    );
}

#[tokio::test]
async fn the_base_urls_host_and_further_names_are_in_the_certificate() {
    let jira = start_with(|settings| {
        settings.base_url = Some("https://jira.corp.example/jira".into());
        settings.https = Some(HttpsSettings {
            names: vec!["other.example".into()],
            ..HttpsSettings::default()
        });
    })
    .await;
    for (name, reached) in [
        ("jira.corp.example", true),
        ("other.example", true),
        ("evil.example", false),
    ] {
        let client = trusting(&jira).resolve(name, jira.addr).build().unwrap();
        let url = format!("https://{name}:{}/jira", jira.addr.port());
        assert_eq!(info(client, &url).await.is_ok(), reached, "{name}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_wanted_when_set() {
    let jira = start_with(|settings| {
        settings.https = Some(HttpsSettings {
            client_certificate: true,
            ..HttpsSettings::default()
        });
    })
    .await;
    assert!(
        info(trusting(&jira).build().unwrap(), &jira.url)
            .await
            .is_err()
    );
    let leaf = jira.client_certificate("agent").unwrap().unwrap();
    let identity =
        Identity::from_pem(format!("{}{}", leaf.certificate_pem, leaf.key_pem).as_bytes()).unwrap();
    let client = trusting(&jira).identity(identity).build().unwrap();
    assert!(info(client, &jira.url).await.is_ok());
}

#[tokio::test]
async fn an_authority_in_a_directory_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        start_with(|settings| {
            settings.directory = Some(directory.path().to_owned());
            settings.https = Some(HttpsSettings::default());
        })
    };
    let first = start().await;
    let client = trusting(&first).build().unwrap();
    first.stop().await;
    let second = start().await;
    assert!(info(client, &second.url).await.is_ok());
}
