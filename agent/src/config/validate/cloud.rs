//! What of a forward is Jira Cloud's: whether it is a site there, and whether requests go behind the
//! API gateway.

use crate::{
    auth::oauth2::TokenIssuer,
    config::{
        merged::MergedSection,
        problem::ConfigProblems,
        raw::{self, RawAuthMode},
    },
    upstream::{CloudRoute, HttpTarget, UpstreamTarget},
};

/// How the site is called; `None` for a Jira of one's own. `place` is `[forward.auth]`.
pub fn cloud(
    raw: &raw::RawAuth,
    target: &HttpTarget,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<CloudRoute> {
    let behind_gateway = match raw.mode {
        RawAuthMode::ApiToken => raw.scoped.unwrap_or(false),
        // Whoever writes the gateway's own path has chosen the site already.
        RawAuthMode::OAuth2 => {
            let in_cloud = raw.audience.is_some() || TokenIssuer::of(target) == TokenIssuer::Cloud;
            in_cloud && !target.context_path.starts_with(GATEWAY_PATH)
        }
        _ => false,
    };
    if !behind_gateway {
        let may_be_behind = matches!(raw.mode, RawAuthMode::ApiToken | RawAuthMode::OAuth2);
        for key in ["cloud_id", "api_url"] {
            if may_be_behind && section.is_written(key) {
                let text = "is for requests behind Cloud's API gateway, and these go to upstream itself; \
                            set scoped = true if the API token has scopes, or remove this key";
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
        let text = "not a cloud id: letters, digits and hyphens, as https://<site>/_edge/tenant_info tells it";
        section.error("cloud_id", text, problems);
    }
    let api = raw.api_url.as_deref().unwrap_or(DEFAULT_API_URL);
    Some(CloudRoute::Gateway {
        api: section.value_or_error("api_url", gateway_url(api, target), problems)?,
        cloud_id: raw.cloud_id.clone(),
    })
}

fn gateway_url(text: &str, upstream: &HttpTarget) -> Result<HttpTarget, String> {
    match text.parse::<UpstreamTarget>() {
        Ok(UpstreamTarget::Http(api)) if !api.tls && upstream.tls => Err(
            "sends the login in the clear although upstream has https://; write https://".into(),
        ),
        Ok(UpstreamTarget::Http(api)) => Ok(api),
        Ok(UpstreamTarget::Tcp { .. }) => Err("expected an https:// URL".into()),
        Err(error) => Err(error.to_string()),
    }
}

const DEFAULT_API_URL: &str = "https://api.atlassian.com";
const GATEWAY_PATH: &str = "/ex/jira/";
