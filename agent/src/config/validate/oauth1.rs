//! Validates `[forward.auth]` with `mode = "oauth1"`.

use super::auth::{AuthContext, required};
use crate::{
    auth::oauth1::{AccessTokenSource, Settings, SigningKey},
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    secret::SecretFile,
    upstream::{HttpTarget, UpstreamTarget},
};

/// The settings. `None` after a problem, which is reported.
pub(super) fn oauth1(
    raw: raw::RawAuth,
    context: AuthContext<'_>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Settings> {
    let consumer_key = required(
        "consumer_key",
        raw.consumer_key,
        "oauth1",
        section,
        problems,
    );
    if let Some(text) = &consumer_key
        && (text.is_empty() || text.chars().any(char::is_control))
    {
        let text = "not a consumer key; copy it from Jira's application link";
        section.error("consumer_key", text, problems);
    }
    let key_file = raw.private_key_file;
    let key_file = required("private_key_file", key_file, "oauth1", section, problems);
    let private_key_file = key_file.and_then(|name| private_key(&name, section, files, problems));
    let signed_base = match &raw.signed_base_url {
        Some(text) => Some(section.value_or_error("signed_base_url", base_url(text), problems)?),
        None => None,
    };
    let token = match (&raw.access_token_file, raw.two_legged.unwrap_or(false)) {
        (Some(_), true) => {
            let text = "cannot be used with two_legged = true, which needs no access token; remove one of them";
            section.error("access_token_file", text, problems);
            return None;
        }
        (Some(name), false) => AccessTokenSource::File(files.secret_file(
            section,
            "access_token_file",
            name,
            problems,
        )?),
        (None, true) => AccessTokenSource::TwoLegged,
        (None, false) => AccessTokenSource::Login(context.store),
    };
    Some(Settings {
        consumer_key: consumer_key?,
        private_key_file: private_key_file?,
        token,
        signed_base,
        target: context.target.clone(),
        upstream: context.upstream?.clone(),
    })
}

fn private_key(
    name: &str,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<SecretFile> {
    let key = "private_key_file";
    let file = files.locate_secret(section, key, name, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(file);
    }
    let pem = section.value_or_error(key, file.read(), problems)?;
    // The step of the running agent, so that its errors are reported now.
    let usable = SigningKey::from_pem(pem.expose());
    let usable = usable.map_err(|error| format!("{}: {error}", file.path().display()));
    section.value_or_error(key, usable.map(drop), problems)?;
    Some(file)
}

fn base_url(text: &str) -> Result<HttpTarget, String> {
    match text.parse() {
        Ok(UpstreamTarget::Http(target)) => Ok(target),
        Ok(UpstreamTarget::Tcp { .. }) => Err(
            "write scheme, host, port and context path as Jira sees them, like https://jira.corp.example/jira"
                .to_owned(),
        ),
        Err(error) => Err(error.to_string()),
    }
}
