//! Whether a forward leads to a site of Jira Cloud, and whether through Cloud's API gateway.

use super::url_for_secret;
use crate::{
    auth::oauth2::TokenIssuer,
    config::{
        merged::MergedSection,
        problem::ConfigProblems,
        raw::{self, RawAuthMode},
    },
    upstream::{CloudRoute, HttpTarget},
};

/// Takes the site's id out of an address of Cloud's API gateway, which users copy from Atlassian's pages: the vendor then
/// calls the same paths as with the site's own address. `Some(None)`: it is another address. `section` is `[[forward]]`.
pub(super) fn take_cloud_id(
    target: &mut HttpTarget,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<Option<String>> {
    if !target.host.eq_ignore_ascii_case(API_HOST) {
        return Some(None);
    }
    let id = target.context_path.strip_prefix(GATEWAY_PATH);
    match id.filter(|id| CloudRoute::is_id(id)).map(str::to_owned) {
        Some(id) => {
            target.context_path.clear();
            Some(Some(id))
        }
        None => {
            let text = "Cloud's API gateway needs the cloud id of a Jira site; write the site, like \"https://acme.atlassian.net\", or \"https://api.atlassian.com/ex/jira/<cloud id>\" with nothing after it; https://<site>/_edge/tenant_info shows the id";
            section.error("upstream", text, problems);
            None
        }
    }
}

/// The route behind the gateway that `upstream` itself names, with the id from [`take_cloud_id`].
pub(super) fn named_gateway(
    raw: &mut raw::RawAuth,
    target: &HttpTarget,
    id: String,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> CloudRoute {
    let direct = match raw.mode {
        RawAuthMode::ApiToken if raw.scoped == Some(false) => Some("scoped"),
        RawAuthMode::Basic | RawAuthMode::Pat | RawAuthMode::OAuth1 | RawAuthMode::Header => {
            Some("mode")
        }
        RawAuthMode::ApiToken => {
            raw.scoped = Some(true);
            None
        }
        RawAuthMode::OAuth2 | RawAuthMode::PassThrough => None,
    };
    if let Some(key) = direct {
        let text = "Cloud's API gateway, which upstream names, accepts only API tokens with scopes (mode = \"api-token\", scoped = true) and mode = \"oauth2\"; set one of them, or upstream = \"https://<site>.atlassian.net\"";
        section.error(key, text, problems);
    }
    for key in ["cloud_id", "api_url"] {
        if section.is_written(key) {
            let text = "upstream names the API gateway and the cloud id already; remove this key";
            section.error(key, text, problems);
        }
    }
    CloudRoute::Gateway {
        api: target.clone(),
        cloud_id: Some(id),
    }
}

/// The route to the site; `None` for Server and Data Center. `section` is `[forward.auth]`.
pub(super) fn cloud(
    raw: &raw::RawAuth,
    target: &HttpTarget,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<CloudRoute> {
    let behind_gateway = match raw.mode {
        RawAuthMode::ApiToken => raw.scoped.unwrap_or(false),
        // A URL with the gateway's path selects the site already.
        RawAuthMode::OAuth2 => {
            let in_cloud = raw.audience.is_some() || TokenIssuer::of(target) == TokenIssuer::Cloud;
            in_cloud && !target.context_path.starts_with(GATEWAY_PATH)
        }
        RawAuthMode::PassThrough
        | RawAuthMode::Basic
        | RawAuthMode::Pat
        | RawAuthMode::Header
        | RawAuthMode::OAuth1 => false,
    };
    if !behind_gateway {
        let may_be_behind = matches!(raw.mode, RawAuthMode::ApiToken | RawAuthMode::OAuth2);
        for key in ["cloud_id", "api_url"] {
            if may_be_behind && section.is_written(key) {
                let text = "applies only behind Cloud's API gateway, but requests go to upstream directly; set scoped = true if the API token has scopes, or remove this key";
                section.error(key, text, problems);
            }
        }
        let in_cloud =
            raw.mode == RawAuthMode::ApiToken || TokenIssuer::of(target) == TokenIssuer::Cloud;
        return in_cloud.then_some(CloudRoute::Site);
    }
    if let Some(id) = &raw.cloud_id
        && !CloudRoute::is_id(id)
    {
        let text = "not a cloud id (letters, digits, hyphens); copy it from https://<site>/_edge/tenant_info";
        section.error("cloud_id", text, problems);
    }
    let api = raw.api_url.as_deref().unwrap_or(DEFAULT_API_URL);
    Some(CloudRoute::Gateway {
        api: section.value_or_error(
            "api_url",
            url_for_secret(api, target, "credential"),
            problems,
        )?,
        cloud_id: raw.cloud_id.clone(),
    })
}

const DEFAULT_API_URL: &str = "https://api.atlassian.com";
const API_HOST: &str = "api.atlassian.com";
const GATEWAY_PATH: &str = "/ex/jira/";
