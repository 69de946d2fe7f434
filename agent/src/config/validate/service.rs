//! Validates `service`, `[forward.health]` and `[forward.login]`: which profile a forward has.

use crate::{
    config::{
        files::FileResolver,
        merged::MergedSection,
        problem::ConfigProblems,
        raw::{self, RawAuthMode},
    },
    profile::{
        self, HealthProof, JIRA_NAME, LoginProof, PLAIN_HTTP, ServiceProfile, builtin,
        builtin_names,
    },
    spelling::nearest,
    upstream::UpstreamTarget,
};
use std::{path::Path, sync::Arc};

/// The profile of one forward. `None` after a problem, which is reported.
pub(super) fn service(
    raw: &mut raw::RawForward,
    target: &UpstreamTarget,
    mode: RawAuthMode,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Arc<ServiceProfile>> {
    if matches!(target, UpstreamTarget::Tcp { .. }) {
        if raw.service != JIRA_NAME {
            let text = "cannot apply to a tcp:// upstream, whose bytes are forwarded unchanged; remove this key, or write upstream with https://";
            section.error("service", text, problems);
            return None;
        }
        return Some(ServiceProfile::jira());
    }
    let before = problems.len();
    let mut found = named(&raw.service, section, files, problems)?;
    let (health, login) = (
        std::mem::take(&mut raw.health),
        std::mem::take(&mut raw.login),
    );
    if found.is_jira() {
        let text = "Jira has its own; remove this key, or set service = \"http\"";
        if health != raw::RawHealth::default() {
            section.section("health").error("path", text, problems);
        }
        if login != raw::RawLogin::default() {
            section.section("login").error("path", text, problems);
        }
    } else {
        own_health(&mut found, health, &section.section("health"), problems);
        own_login(&mut found, login, &section.section("login"), problems);
    }
    if found.health.is_none() {
        let text = "missing; service = \"http\" needs it, like health = { path = \"/health\", status = 200 }";
        section.error_at("health", "service", text, problems);
    }
    if found.login.is_none() && mode != RawAuthMode::PassThrough {
        let text = format!(
            "missing; mode {:?} needs it here, like login = {{ path = \"/api/me\", user = \"/name\" }}: a path that only a valid credential may read",
            mode.word()
        );
        section.error_at("login", "service", text, problems);
    }
    (problems.len() == before).then(|| match found.is_jira() && found.file.is_none() {
        true => ServiceProfile::jira(),
        false => Arc::new(found),
    })
}

fn named(
    name: &str,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<ServiceProfile> {
    let before = problems.len();
    let folder = Path::new(PROFILES);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=NAME_LEN).contains(&name.len()) && name.bytes().all(plain);
    let own = folder.join(format!("{name}.toml"));
    let path = files.resolve(&own);
    if is_name && path.exists() {
        let (path, text) =
            files.read_text(section, "service", &own.display().to_string(), problems)?;
        if problems.len() > before {
            return None;
        }
        if text.len() > MAX_PROFILE {
            let text = format!(
                "{} is longer than {MAX_PROFILE} bytes, which no profile needs",
                path.display()
            );
            section.error("service", text, problems);
            return None;
        }
        let found = ServiceProfile::parse(name, &text);
        let found = found.map_err(|error| {
            format!(
                "{}:{}: {}; docs/tools.md explains each key",
                path.display(),
                error.line,
                error.problem
            )
        });
        let mut found = section.value_or_error("service", found, problems)?;
        found.file = Some(path);
        return Some(found);
    }
    if let Some(found) = builtin(name) {
        return Some(found);
    }
    let listed = own_names(&files.resolve(folder));
    let mut all: Vec<&str> = builtin_names().collect();
    all.extend(listed.iter().map(String::as_str));
    let hint = nearest(name, all.iter().copied())
        .map(|near| format!("did you mean {near:?}? "))
        .unwrap_or_default();
    all.sort_unstable();
    all.dedup();
    let text = format!(
        "unknown service; {hint}Known: {}. For another one write {}, or set {PLAIN_HTTP:?}",
        all.join(", "),
        path.display()
    );
    section.error("service", text, problems);
    None
}

/// The customer's own profiles, for the list of what is known.
fn own_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names = files.filter_map(|file| file.strip_suffix(".toml").map(str::to_owned));
    names.take(MAX_LISTED).collect()
}

fn own_health(
    found: &mut ServiceProfile,
    raw: raw::RawHealth,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) {
    let Some(path) = raw.path.clone() else {
        if raw != raw::RawHealth::default() {
            let text = "missing; write it like path = \"/health\"";
            section.error_at("path", "status", text, problems);
        }
        return;
    };
    section.value_or_error("path", profile::require_path(&path), problems);
    found.health = Some(HealthProof {
        path,
        status: vec![u16::try_from(raw.status).unwrap_or(200)],
        header: None,
        member: None,
        version: None,
        // Nothing is known of its cost.
        frequent: false,
    });
}

fn own_login(
    found: &mut ServiceProfile,
    raw: raw::RawLogin,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) {
    if raw.user.as_ref().is_some_and(|user| !user.starts_with('/')) {
        let text = "not a JSON pointer; write one like \"/user/name\" (RFC 6901)";
        section.error("user", text, problems);
    }
    let Some(path) = raw.path else {
        if raw.user.is_some() {
            let text = "missing; write it like path = \"/api/me\"";
            section.error_at("path", "user", text, problems);
        }
        return;
    };
    section.value_or_error("path", profile::require_path(&path), problems);
    found.login = Some(LoginProof {
        path,
        user: raw.user,
        refused: vec![401, 403],
        // A wrong password must not be tried twice where nothing is known.
        locks_out: true,
        ..LoginProof::default()
    });
}

/// The mode has to be one that the service knows.
pub(super) fn check_mode(
    profile: &ServiceProfile,
    mode: RawAuthMode,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) {
    let word = mode.word();
    if mode == RawAuthMode::PassThrough || profile.modes.iter().any(|known| known == word) {
        return;
    }
    let mut known: Vec<_> = profile
        .modes
        .iter()
        .map(|mode| format!("{mode:?}"))
        .collect();
    known.push("\"pass-through\"".to_owned());
    let text = format!(
        "{} does not take mode {word:?}; it takes {}. See {}",
        profile.title,
        known.join(", "),
        profile.documentation
    );
    section.error("mode", text, problems);
}

/// The folder of the customer's own profiles, beside the configuration file.
const PROFILES: &str = "profiles";
/// Bytes of a profile's name.
const NAME_LEN: usize = 64;
/// Bytes; the longest of the built-in ones has 4 KiB.
const MAX_PROFILE: usize = 64 << 10;
/// Of the customer's own profiles in one error.
const MAX_LISTED: usize = 32;
