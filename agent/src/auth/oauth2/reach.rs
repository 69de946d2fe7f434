//! Which of Cloud's sites a token reaches: a person consents for some of them, and it must be the one
//! that the forward leads to.

use super::Settings;
use crate::printable::printable;
use crate::{
    auth::Unavailable,
    secret::Secret,
    upstream::{Cloud, ControlClient, HttpTarget, Target},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// What is known of a login's reach.
#[derive(Default)]
pub(super) struct Reach {
    known: Mutex<Option<Known>>,
    /// Held by the one task that asks.
    asking: tokio::sync::Mutex<()>,
}

enum Known {
    /// It reaches the site; a login that replaces it was proven by `agent login`.
    Good,
    /// This generation's token does not; asked again after a while.
    Bad(u64, Instant, Unavailable),
    /// Nobody said; asked again after a while.
    Unsaid(Instant),
}

impl Reach {
    /// Refuses a token that does not reach the forward's site. A question that stays unanswered
    /// refuses nothing: the request itself will tell.
    pub(super) async fn check(
        &self,
        settings: &Settings,
        access: &Secret,
        generation: u64,
    ) -> Result<(), Unavailable> {
        if let Some(known) = self.known(generation) {
            return known;
        }
        let _asking = self.asking.lock().await;
        if let Some(known) = self.known(generation) {
            return known;
        }
        let answer = reaches(settings, access).await;
        let mut known = self.lock();
        match answer {
            Ok(()) => *known = Some(Known::Good),
            Err(Unreached::Elsewhere(why)) => {
                *known = Some(Known::Bad(generation, Instant::now(), why.clone()));
                return Err(why);
            }
            Err(Unreached::Unanswered(why)) => {
                tracing::debug!(why, "it is not known which sites the login reaches");
                *known = Some(Known::Unsaid(Instant::now()));
            }
        }
        Ok(())
    }

    /// `None` where it is time to ask.
    fn known(&self, generation: u64) -> Option<Result<(), Unavailable>> {
        match &*self.lock() {
            Some(Known::Good) => Some(Ok(())),
            Some(Known::Bad(of, at, why)) if *of == generation && at.elapsed() < ASK_AGAIN => {
                Some(Err(why.clone()))
            }
            Some(Known::Unsaid(at)) if at.elapsed() < ASK_AGAIN => Some(Ok(())),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        // Every write is a plain assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it is not sure that a token reaches the site.
#[derive(Debug)]
pub enum Unreached {
    /// It reaches others.
    Elsewhere(Unavailable),
    /// Nobody said, and why.
    Unanswered(String),
}

/// Asks which sites a token reaches. Without Cloud's API gateway there is nothing to ask.
pub async fn reaches(settings: &Settings, access: &Secret) -> Result<(), Unreached> {
    let (Some(Cloud::Gateway { api, cloud_id }), Target::Http(site)) =
        (&settings.upstream.cloud, &settings.upstream.target)
    else {
        return Ok(());
    };
    let (upstream, place) = (settings.upstream.clone(), api.clone());
    // At the first time it reads the system's certificates.
    let client = tokio::task::spawn_blocking(move || ControlClient::beside(&upstream, &place));
    let client = client
        .await
        .map_err(|e| Unreached::Unanswered(e.to_string()))?;
    let client = client.map_err(|e| Unreached::Unanswered(e.to_string()))?;
    let mut head = client.head(RESOURCES);
    let mut bearer = Zeroizing::new(b"Bearer ".to_vec());
    bearer.extend_from_slice(access.expose());
    let mut value = HeaderValue::from_bytes(&bearer)
        .map_err(|_| Unreached::Unanswered("the token cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    head.headers.insert(header::AUTHORIZATION, value);
    let answer = client.send(head, Bytes::new()).await;
    let answer = answer.map_err(|failure| Unreached::Unanswered(failure.detail))?;
    let sites: Option<Vec<Resource>> = serde_json::from_slice(&answer.body).ok();
    match (answer.head.status, sites) {
        (StatusCode::OK, Some(sites)) => {
            choose(&sites, site, cloud_id.as_deref()).map_err(|why| {
                Unreached::Elsewhere(Unavailable {
                    cause: why,
                    remedy: format!(
                        "log in again as a user of that site, and choose it where consent is asked for: {}; or correct upstream",
                        settings.login_command()
                    ),
                })
            })
        }
        (status, _) => Err(Unreached::Unanswered(format!(
            "{RESOURCES} answers {}",
            status.as_u16()
        ))),
    }
}

/// One entry of `accessible-resources`: each site is there once for each of its products.
#[derive(Deserialize)]
struct Resource {
    id: String,
    url: String,
}

/// Whether the site is among them, by its URL or its id.
fn choose(sites: &[Resource], site: &HttpTarget, cloud_id: Option<&str>) -> Result<(), String> {
    let is_it = |resource: &Resource| match (cloud_id, resource.url.parse()) {
        (Some(id), _) => resource.id == id,
        (None, Ok(Target::Http(url))) => {
            (url.tls, &url.host, url.port) == (site.tls, &site.host, site.port)
        }
        (None, _) => false,
    };
    if sites.iter().any(is_it) {
        return Ok(());
    }
    let mut urls: Vec<String> = sites.iter().map(|found| readable(&found.url)).collect();
    urls.sort();
    urls.dedup();
    let more = urls.len().saturating_sub(MAX_NAMED);
    urls.truncate(MAX_NAMED);
    let mut reached = urls.join(", ");
    if more > 0 {
        reached += &format!(" and {more} more");
    }
    Err(match reached.as_str() {
        "" => format!("the login reaches no site of Jira Cloud, and {site} is wanted"),
        reached => format!("the login reaches {reached}, and {site} is wanted"),
    })
}

fn readable(url: &str) -> String {
    printable(url, MAX_URL)
}

const RESOURCES: &str = "/oauth/token/accessible-resources";
/// Somebody may add the site to the consent.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Sites named in one message.
const MAX_NAMED: usize = 10;
const MAX_URL: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn site(url: &str) -> HttpTarget {
        match url.parse().unwrap() {
            Target::Http(target) => target,
            Target::Tcp { .. } => panic!("{url}"),
        }
    }

    fn list(urls: &[&str]) -> Vec<Resource> {
        let resource = |(index, url): (usize, &&str)| Resource {
            id: format!("id-{index}"),
            url: (*url).to_owned(),
        };
        urls.iter().enumerate().map(resource).collect()
    }

    #[test]
    fn the_site_is_found_among_several_by_its_url_or_its_id() {
        let sites = list(&["https://other.atlassian.net", "https://Acme.atlassian.net/"]);
        let acme = site("https://acme.atlassian.net");
        assert_eq!(choose(&sites, &acme, None), Ok(()));
        let own = site("https://jira.acme.example");
        assert_eq!(choose(&sites, &own, Some("id-1")), Ok(()));
        assert!(choose(&sites, &acme, Some("id-7")).is_err());
        assert!(choose(&sites, &site("https://acme.atlassian.net:8443"), None).is_err());
    }

    #[test]
    fn a_site_that_is_not_among_them_is_told_with_those_that_are() {
        let sites = list(&[
            "https://b.atlassian.net",
            "https://a.atlassian.net",
            "https://b.atlassian.net",
        ]);
        let told = choose(&sites, &site("https://acme.atlassian.net"), None).unwrap_err();
        assert_eq!(
            told,
            "the login reaches https://a.atlassian.net, https://b.atlassian.net, and https://acme.atlassian.net is wanted"
        );
        let none = choose(&[], &site("https://acme.atlassian.net"), None).unwrap_err();
        assert!(none.contains("no site"), "{none}");
    }
}
