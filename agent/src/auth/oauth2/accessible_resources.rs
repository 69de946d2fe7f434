//! Which Cloud sites a token gives access to: a person consents for some of them, and the forward's site must be one.

use super::{Settings, granted_scopes};
use crate::printable::printable;
use crate::{
    auth::{
        CredentialUnavailable,
        credential::{bearer, sensitive},
    },
    secret::Secret,
    upstream::{CloudRoute, ControlClient, HttpTarget, UpstreamTarget},
};
use bytes::Bytes;
use http::{StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of the access to the forward's site.
#[derive(Default)]
pub(super) struct SiteAccess {
    known: Mutex<Option<SiteAccessState>>,
    /// Held by the one task that checks.
    check_lock: tokio::sync::Mutex<()>,
}

enum SiteAccessState {
    /// The token gives access. `agent login` proves that for each later login.
    Granted,
    /// This generation's token does not; checked again after a while.
    Denied(u64, Instant, CredentialUnavailable),
    /// The request failed; checked again after a while.
    Unknown(Instant),
}

impl SiteAccess {
    /// Refuses a token without access to the forward's site. A check that fails refuses nothing: the request itself will
    /// show it.
    pub(super) async fn check(
        &self,
        settings: &Settings,
        access: &Secret,
        generation: u64,
    ) -> Result<(), CredentialUnavailable> {
        if let Some(known) = self.known(generation) {
            return known;
        }
        let _guard = self.check_lock.lock().await;
        if let Some(known) = self.known(generation) {
            return known;
        }
        let answer = check_site_access(settings, access).await;
        let mut known = self.known.lock();
        match answer {
            Ok(()) => *known = Some(SiteAccessState::Granted),
            Err(SiteAccessError::OtherSites(why)) => {
                *known = Some(SiteAccessState::Denied(
                    generation,
                    Instant::now(),
                    why.clone(),
                ));
                return Err(why);
            }
            Err(SiteAccessError::Unknown(why)) => {
                tracing::debug!(why, "cannot determine the sites of the login");
                *known = Some(SiteAccessState::Unknown(Instant::now()));
            }
        }
        Ok(())
    }

    /// `None` where it is time to ask.
    fn known(&self, generation: u64) -> Option<Result<(), CredentialUnavailable>> {
        match &*self.known.lock() {
            Some(SiteAccessState::Granted) => Some(Ok(())),
            Some(SiteAccessState::Denied(of, at, why))
                if *of == generation && at.elapsed() < RECHECK_AFTER =>
            {
                Some(Err(why.clone()))
            }
            Some(SiteAccessState::Unknown(at)) if at.elapsed() < RECHECK_AFTER => Some(Ok(())),
            _ => None,
        }
    }
}

/// Why a token's access to the site is not proven.
#[derive(Debug)]
pub enum SiteAccessError {
    /// The token gives access to other sites only.
    OtherSites(CredentialUnavailable),
    /// The check failed; the text is the reason.
    Unknown(String),
}

/// Asks which sites a token gives access to. Without Cloud's API gateway there is nothing to ask.
pub async fn check_site_access(
    settings: &Settings,
    access: &Secret,
) -> Result<(), SiteAccessError> {
    let Some((site, cloud_id)) = gateway_site(settings) else {
        return Ok(());
    };
    let sites = fetch_sites(settings, access).await;
    let sites = sites.map_err(SiteAccessError::Unknown)?;
    find_site(&sites, site, cloud_id).map_err(|why| {
        SiteAccessError::OtherSites(CredentialUnavailable {
            cause: why,
            remedy: format!(
                "log in again as a user of that site, and choose it where consent is asked for: {}; or correct upstream",
                settings.login_command()
            ),
        })
    })
}

/// The scopes that the token has for the forward's site, as Atlassian reports them now. `None`: there is nothing to ask, or no
/// usable answer.
pub(super) async fn site_scopes(settings: &Settings, access: &Secret) -> Option<Vec<String>> {
    let (site, cloud_id) = gateway_site(settings)?;
    let sites = match fetch_sites(settings, access).await {
        Ok(sites) => sites,
        Err(why) => {
            tracing::debug!(why, "cannot determine the scopes of the login");
            return None;
        }
    };
    let ours = sites.iter().filter(|found| found.is_site(site, cloud_id));
    let scopes = ours.flat_map(AccessibleResource::scopes);
    Some(granted_scopes::usable(scopes)).filter(|scopes| !scopes.is_empty())
}

/// The site of a forward that goes through Cloud's API gateway, and its cloud id if it is configured.
fn gateway_site(settings: &Settings) -> Option<(&HttpTarget, Option<&str>)> {
    match (&settings.upstream.cloud, &settings.upstream.target) {
        (Some(CloudRoute::Gateway { cloud_id, .. }), UpstreamTarget::Http(site)) => {
            Some((site, cloud_id.as_deref()))
        }
        _ => None,
    }
}

/// The sites, or why there is no list.
async fn fetch_sites(
    settings: &Settings,
    access: &Secret,
) -> Result<Vec<AccessibleResource>, String> {
    let Some(CloudRoute::Gateway { api, .. }) = &settings.upstream.cloud else {
        return Ok(Vec::new());
    };
    let (upstream, place) = (settings.upstream.clone(), api.clone());
    // At the first time it reads the system's certificates.
    let client = tokio::task::spawn_blocking(move || ControlClient::for_host(&upstream, &place));
    let client = client.await.map_err(|e| e.to_string())?;
    let client = client.map_err(|e| e.to_string())?;
    let mut head = client.head(RESOURCES);
    let value = sensitive(bearer(access).expose())
        .map_err(|_| "the token does not fit into an HTTP header".to_owned())?;
    head.headers.insert(header::AUTHORIZATION, value);
    let answer = client.send(head, Bytes::new()).await;
    let answer = answer.map_err(|failure| failure.detail)?;
    let sites = serde_json::from_slice(&answer.body).ok();
    match (answer.head.status, sites) {
        (StatusCode::OK, Some(sites)) => Ok(sites),
        (status, _) => Err(format!("{RESOURCES} answers {}", status.as_u16())),
    }
}

/// One entry of `accessible-resources`: each site is there once for each of its products.
#[derive(Deserialize)]
struct AccessibleResource {
    id: String,
    url: String,
    /// Those of this product: texts, and whatever else comes must not cost the entry.
    #[serde(default)]
    scopes: Value,
}

impl AccessibleResource {
    fn scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = self.scopes.as_array().into_iter().flatten();
        scopes.filter_map(Value::as_str)
    }

    /// By its URL, or by its id if that is configured.
    fn is_site(&self, site: &HttpTarget, cloud_id: Option<&str>) -> bool {
        match (cloud_id, self.url.parse()) {
            (Some(id), _) => self.id == id,
            (None, Ok(UpstreamTarget::Http(url))) => {
                (url.tls, &url.host, url.port) == (site.tls, &site.host, site.port)
            }
            (None, _) => false,
        }
    }
}

/// Whether the site is among them, by its URL or its id.
fn find_site(
    sites: &[AccessibleResource],
    site: &HttpTarget,
    cloud_id: Option<&str>,
) -> Result<(), String> {
    if sites.iter().any(|found| found.is_site(site, cloud_id)) {
        return Ok(());
    }
    let mut urls: Vec<String> = sites
        .iter()
        .map(|found| printable_url(&found.url))
        .collect();
    urls.sort();
    urls.dedup();
    let more = urls.len().saturating_sub(MAX_NAMED);
    urls.truncate(MAX_NAMED);
    let mut reached = urls.join(", ");
    if more > 0 {
        reached += &format!(" and {more} more");
    }
    Err(match reached.as_str() {
        "" => {
            format!("the login gives access to no site of Jira Cloud, but the forward needs {site}")
        }
        reached => format!("the login gives access to {reached}, but the forward needs {site}"),
    })
}

fn printable_url(url: &str) -> String {
    printable(url, MAX_URL)
}

const RESOURCES: &str = "/oauth/token/accessible-resources";
/// The user may add the site to the consent.
const RECHECK_AFTER: Duration = Duration::from_secs(60);
/// Sites named in one message.
const MAX_NAMED: usize = 10;
const MAX_URL: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn site(url: &str) -> HttpTarget {
        match url.parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{url}"),
        }
    }

    fn list(urls: &[&str]) -> Vec<AccessibleResource> {
        let resource = |(index, url): (usize, &&str)| AccessibleResource {
            id: format!("id-{index}"),
            url: (*url).to_owned(),
            scopes: json!(["read:jira-work", 7]),
        };
        urls.iter().enumerate().map(resource).collect()
    }

    #[test]
    fn the_site_is_found_among_several_by_its_url_or_its_id() {
        let sites = list(&["https://other.atlassian.net", "https://Acme.atlassian.net/"]);
        let acme = site("https://acme.atlassian.net");
        assert_eq!(find_site(&sites, &acme, None), Ok(()));
        let own = site("https://jira.acme.example");
        assert_eq!(find_site(&sites, &own, Some("id-1")), Ok(()));
        assert!(find_site(&sites, &acme, Some("id-7")).is_err());
        assert!(find_site(&sites, &site("https://acme.atlassian.net:8443"), None).is_err());
    }

    #[test]
    fn an_entry_with_odd_scopes_is_an_entry_all_the_same() {
        let found = |text: &str| serde_json::from_str::<AccessibleResource>(text).unwrap();
        let none: &[&str] = &[];
        for (scopes, expected) in [
            (r#", "scopes": ["a", 7, "b"]"#, &["a", "b"][..]),
            (r#", "scopes": null"#, none),
            (r#", "scopes": {"a": 1}"#, none),
            ("", none),
        ] {
            let entry = found(&format!(
                r#"{{"id": "1", "url": "https://a.example"{scopes}}}"#
            ));
            assert_eq!(entry.scopes().collect::<Vec<_>>(), expected, "{scopes}");
        }
    }

    #[test]
    fn a_site_that_is_not_among_them_is_told_with_those_that_are() {
        let sites = list(&[
            "https://b.atlassian.net",
            "https://a.atlassian.net",
            "https://b.atlassian.net",
        ]);
        let error = find_site(&sites, &site("https://acme.atlassian.net"), None).unwrap_err();
        assert_eq!(
            error,
            "the login gives access to https://a.atlassian.net, https://b.atlassian.net, but the forward needs https://acme.atlassian.net"
        );
        let none = find_site(&[], &site("https://acme.atlassian.net"), None).unwrap_err();
        assert!(none.contains("no site"), "{none}");
    }
}
