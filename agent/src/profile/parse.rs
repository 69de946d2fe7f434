//! Reads a profile's text. An error names the line, what is wrong and what would be right.

use super::{
    AnswerShape, HealthProof, IdentityRules, LoginProof, PLAIN_HTTP, RequiredMember, ServiceProfile,
};
use crate::policy::{self, CompiledPolicy, ServicePreset};
use http::{HeaderName, Uri};
use serde::Deserialize;
use std::sync::Arc;
use toml::Spanned;

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ProfileError {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

pub(super) fn parse(name: &str, text: &str) -> Result<ServiceProfile, ProfileError> {
    let at = |offset: usize, problem: String| ProfileError {
        line: line_of(text, offset),
        problem,
    };
    let raw: RawProfile = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        at(offset, error.message().trim().replace('\n', ", "))
    })?;
    let mut presets = Vec::with_capacity(raw.preset.len());
    for preset in raw.preset {
        let mut rules = Vec::with_capacity(preset.rules.len());
        for rule in preset.rules {
            let offset = rule.span().start;
            let rule = rule.into_inner();
            let alone = policy::Settings {
                allow: vec![rule.clone()],
                ..policy::Settings::default()
            };
            CompiledPolicy::new(&alone)
                .map_err(|error| at(offset, format!("{rule:?}: {}", error.problem)))?;
            rules.push(rule);
        }
        presets.push(ServicePreset {
            name: preset.name,
            summary: preset.summary,
            rules,
        });
    }
    for mode in &raw.modes {
        if !MODES.contains(&mode.get_ref().as_str()) {
            let problem = format!("{:?} is no mode; expected one of {MODES:?}", mode.get_ref());
            return Err(at(mode.span().start, problem));
        }
    }
    if name != PLAIN_HTTP && (raw.health.is_none() || raw.login.is_none()) {
        let problem = "incomplete; a profile needs the sections [health] and [login]".to_owned();
        return Err(at(text.len(), problem));
    }
    Ok(ServiceProfile {
        name: name.to_owned(),
        title: raw.title,
        documentation: raw.documentation,
        health: raw.health.map(|health| HealthProof {
            path: health.path.0,
            status: health.status.into_iter().map(|status| status.0).collect(),
            header: health.header.map(|header| header.0),
            member: health.member.map(|member| RequiredMember {
                at: member.at.0,
                is: member.is,
            }),
            version: health.version.map(|at| at.0),
            frequent: health.frequent,
        }),
        login: raw.login.map(|login| LoginProof {
            path: login.path.0,
            user: login.user.map(|at| at.0),
            user_header: login.user_header.map(|header| header.0),
            anonymous: login.anonymous,
            refused: login.refused.into_iter().map(|status| status.0).collect(),
            locks_out: login.locks_out,
            lists_tokens: login.lists_tokens,
        }),
        modes: raw.modes.into_iter().map(Spanned::into_inner).collect(),
        answers: AnswerShape {
            own_headers: names(raw.answers.own_headers),
            api: raw.answers.api.into_iter().map(|path| path.0).collect(),
            challenges: raw.answers.challenges,
            private_headers: names(raw.answers.private_headers),
            message: raw.answers.message.into_iter().map(|at| at.0).collect(),
        },
        identity: IdentityRules {
            parameters: lower(raw.identity.parameters),
            parameter_prefixes: lower(raw.identity.parameter_prefixes),
            headers: names(raw.identity.headers),
            pass_headers: names(raw.identity.pass_headers),
        },
        presets: Arc::from(presets),
        file: None,
    })
}

fn names(written: Vec<WrittenHeader>) -> Vec<HeaderName> {
    written.into_iter().map(|header| header.0).collect()
}

fn lower(written: Vec<String>) -> Vec<String> {
    written.iter().map(|text| text.to_lowercase()).collect()
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    title: String,
    documentation: String,
    /// For whoever reads the file: where its facts are from.
    #[serde(rename = "source")]
    _source: RawSourcePage,
    modes: Vec<Spanned<String>>,
    health: Option<WrittenHealth>,
    login: Option<WrittenLogin>,
    #[serde(default)]
    answers: RawAnswers,
    #[serde(default)]
    identity: RawIdentity,
    #[serde(default)]
    preset: Vec<RawPreset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSourcePage {
    #[serde(rename = "pages")]
    _pages: Vec<String>,
    #[serde(rename = "read")]
    _read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHealth {
    path: WrittenPath,
    status: Vec<WrittenStatus>,
    header: Option<WrittenHeader>,
    member: Option<RawMember>,
    version: Option<JsonPointer>,
    #[serde(default)]
    frequent: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    at: JsonPointer,
    is: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLogin {
    path: WrittenPath,
    user: Option<JsonPointer>,
    user_header: Option<WrittenHeader>,
    anonymous: Option<String>,
    refused: Vec<WrittenStatus>,
    #[serde(default)]
    locks_out: bool,
    #[serde(default)]
    lists_tokens: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAnswers {
    own_headers: Vec<WrittenHeader>,
    api: Vec<WrittenPath>,
    challenges: Option<Vec<String>>,
    private_headers: Vec<WrittenHeader>,
    message: Vec<JsonPointer>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIdentity {
    parameters: Vec<String>,
    parameter_prefixes: Vec<String>,
    headers: Vec<WrittenHeader>,
    pass_headers: Vec<WrittenHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    name: String,
    summary: String,
    rules: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WrittenPath(String);

impl TryFrom<String> for WrittenPath {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        require_path(&text).map(|()| Self(text))
    }
}

/// Whether a text can be the path of a probe.
pub(crate) fn require_path(text: &str) -> Result<(), &'static str> {
    let is_uri = text.parse::<Uri>().is_ok_and(|uri| uri.host().is_none());
    let fits = text.starts_with('/') && !text.starts_with("//") && text.len() <= MAX_PATH;
    (is_uri && fits && !text.contains('#')).then_some(()).ok_or(
        "not a path; write one like \"/rest/system\", percent-encoded, without the context path",
    )
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct WrittenStatus(u16);

impl TryFrom<i64> for WrittenStatus {
    type Error = &'static str;
    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let status = u16::try_from(number).ok();
        let status = status.filter(|status| (200..=599).contains(status));
        status
            .map(Self)
            .ok_or("not a status code; write one from 200 to 599")
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WrittenHeader(HeaderName);

impl TryFrom<String> for WrittenHeader {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.parse().map(Self);
        name.map_err(|_| "not the name of a header; write one like \"X-Jenkins\"")
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct JsonPointer(String);

impl TryFrom<String> for JsonPointer {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.starts_with('/') {
            true => Ok(Self(text)),
            false => Err("not a JSON pointer; write one like \"/user/name\" (RFC 6901)"),
        }
    }
}

/// Modes that a profile may name: those whose credential is not made for Jira alone.
const MODES: [&str; 6] = ["basic", "pat", "header", "api-token", "oauth2", "oauth1"];
/// Bytes; a probe needs far less.
const MAX_PATH: usize = 1024;
