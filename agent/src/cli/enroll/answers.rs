//! Answers from flags and files; the rest is asked at the terminal.

use super::{
    flags::{Args, AuthModeFlag},
    prompt::TerminalPrompt,
};
use crate::{
    cli::exit::UsageError,
    enroll::{AuthAnswers, EnrollmentAnswers, ProxyAnswers},
    policy::{self, CompiledPolicy},
    secret::SecretFile,
    upstream::{UpstreamTarget, pem},
};
use anyhow::Context;
use std::path::Path;
use zeroize::Zeroizing;

/// Collects all answers. Without a terminal the error lists every missing flag.
pub(super) fn collect(args: &Args, terminal: &TerminalPrompt) -> anyhow::Result<EnrollmentAnswers> {
    if !terminal.is_interactive() {
        refuse_missing(args)?;
    }
    let upstream = match &args.upstream {
        Some(url) => {
            parse_jira_url(url).map_err(|problem| UsageError(format!("--upstream: {problem}")))?
        }
        None => terminal.line("Jira's URL, with its context path", None, parse_jira_url)?,
    };
    let ca = match &args.ca_file {
        Some(file) => Some(read_certificates(file).map_err(UsageError)?),
        None if terminal.is_interactive()
            && upstream.starts_with("https:")
            && args.upstream.is_none() =>
        {
            let question = "PEM file with the CA of Jira's certificate, if it is your own CA";
            terminal.line(question, Some(SYSTEM_ROOTS), |answer| match answer {
                SYSTEM_ROOTS => Ok(None),
                file => read_certificates(Path::new(file)).map(Some),
            })?
        }
        None => None,
    };
    let auth = auth(args, terminal)?;
    let (presets, allow) = policy(args, terminal)?;
    let gateway_ca = args.gateway_ca_file.as_deref().map(read_certificates);
    Ok(EnrollmentAnswers {
        upstream,
        ca,
        auth,
        presets,
        allow,
        proxy: proxy(args)?,
        gateway_ca: gateway_ca.transpose().map_err(UsageError)?,
    })
}

/// The flags that a mode requires, and whether they are given.
fn mode_flags(args: &Args, mode: AuthModeFlag) -> Vec<(&'static str, bool)> {
    match mode {
        AuthModeFlag::PassThrough => Vec::new(),
        AuthModeFlag::Basic => vec![
            ("--jira-user", args.jira_user.is_some()),
            ("--jira-password-file", args.jira_password_file.is_some()),
        ],
        AuthModeFlag::Pat => vec![("--jira-token-file", args.jira_token_file.is_some())],
        AuthModeFlag::ApiToken => vec![
            ("--email", args.email.is_some()),
            ("--jira-token-file", args.jira_token_file.is_some()),
        ],
        AuthModeFlag::OAuth2 => vec![
            ("--client-id", args.client_id.is_some()),
            ("--client-secret-file", args.client_secret_file.is_some()),
        ],
        AuthModeFlag::OAuth1 => vec![
            ("--consumer-key", args.consumer_key.is_some()),
            ("--private-key-file", args.private_key_file.is_some()),
        ],
    }
}

fn refuse_missing(args: &Args) -> Result<(), UsageError> {
    let mut flags = vec![
        ("--upstream", args.upstream.is_some()),
        ("--auth", args.auth.is_some()),
        (
            "--preset (or --allow)",
            !(args.preset.is_empty() && args.allow.is_empty()),
        ),
    ];
    flags.extend(args.auth.iter().flat_map(|mode| mode_flags(args, *mode)));
    let missing: Vec<_> = flags.iter().filter(|(_, given)| !given).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    Err(UsageError(format!(
        "not a terminal, and these flags are missing: {}; see agent enroll --help",
        names.join(", ")
    )))
}

fn auth(args: &Args, terminal: &TerminalPrompt) -> anyhow::Result<AuthAnswers> {
    let mode = match args.auth {
        Some(mode) => mode,
        None => terminal.choice("Who logs in to Jira", &MODES)?,
    };
    let text = |given: &Option<String>, question: &str| match given {
        Some(text) => Ok(text.clone()),
        None => terminal.line(question, None, non_empty),
    };
    let secret = |given: &Option<std::path::PathBuf>, question: &str| match given {
        Some(file) => read_secret(file),
        None => terminal.hidden(question),
    };
    Ok(match mode {
        AuthModeFlag::PassThrough => AuthAnswers::PassThrough,
        AuthModeFlag::Basic => AuthAnswers::Basic {
            username: text(&args.jira_user, "Jira user name")?,
            password: secret(&args.jira_password_file, "Its password (not shown)")?,
        },
        AuthModeFlag::Pat => AuthAnswers::Pat {
            token: secret(&args.jira_token_file, "Personal access token (not shown)")?,
        },
        AuthModeFlag::ApiToken => AuthAnswers::ApiToken {
            email: text(&args.email, "Email address of the Atlassian account")?,
            token: secret(&args.jira_token_file, "Its API token (not shown)")?,
        },
        AuthModeFlag::OAuth2 => AuthAnswers::OAuth2 {
            client_id: text(&args.client_id, "Id of the client, as Jira shows it")?,
            secret: secret(&args.client_secret_file, "Its secret (not shown)")?,
        },
        AuthModeFlag::OAuth1 => AuthAnswers::OAuth1 {
            consumer_key: text(&args.consumer_key, "Consumer key of the application link")?,
            private_key: match &args.private_key_file {
                Some(file) => read_secret(file)?,
                // A key has many lines, so the answer is its file.
                None => terminal.line("File with its private key", None, |file| {
                    read_secret(Path::new(file)).map_err(|error| format!("{error:#}"))
                })?,
            },
        },
    })
}

fn policy(args: &Args, terminal: &TerminalPrompt) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let has_rules = !(args.preset.is_empty() && args.allow.is_empty());
    let presets = match has_rules {
        true => args.preset.clone(),
        false => vec![
            terminal
                .choice("What the vendor may do", &PRESETS)?
                .to_owned(),
        ],
    };
    let settings = policy::Settings {
        presets: presets.clone(),
        allow: args.allow.clone(),
        ..policy::Settings::default()
    };
    if let Err(error) = CompiledPolicy::new(&settings) {
        return Err(UsageError(format!("{:?}: {}", error.text, error.problem)).into());
    }
    Ok((presets, args.allow.clone()))
}

fn proxy(args: &Args) -> anyhow::Result<Option<ProxyAnswers>> {
    let Some(url) = args.proxy.clone() else {
        return Ok(None);
    };
    let login = match (&args.proxy_user, &args.proxy_password_file) {
        (Some(user), Some(file)) => Some((user.clone(), read_secret(file)?)),
        _ => None,
    };
    Ok(Some(ProxyAnswers { url, login }))
}

fn parse_jira_url(url: &str) -> Result<String, String> {
    match url.parse::<UpstreamTarget>() {
        Ok(UpstreamTarget::Http(_)) => Ok(url.to_owned()),
        Ok(UpstreamTarget::Tcp { .. }) => {
            Err("agent enroll cannot configure a tcp:// upstream; write https://…".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn non_empty(answer: &str) -> Result<String, String> {
    match answer {
        "" => Err("the answer is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn read_certificates(file: &Path) -> Result<String, String> {
    let failed = |problem: String| format!("{}: {problem}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    pem::certificates(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

/// Reads it as the agent reads secrets: no other user may have access.
fn read_secret(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let secret = SecretFile::new(file).read()?;
    let text = std::str::from_utf8(secret.expose())
        .ok()
        .with_context(|| format!("{} is not text; name the right file", file.display()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

const MODES: [(AuthModeFlag, &str); 6] = [
    (
        AuthModeFlag::Pat,
        "the agent, with a personal access token of a Jira user",
    ),
    (
        AuthModeFlag::Basic,
        "the agent, with a Jira user name and password",
    ),
    (
        AuthModeFlag::PassThrough,
        "the vendor, with a credential that you gave it",
    ),
    (
        AuthModeFlag::OAuth2,
        "the agent, by an application link of OAuth 2.0 (agent login follows)",
    ),
    (
        AuthModeFlag::OAuth1,
        "the agent, by an application link of OAuth 1.0a (agent login follows)",
    ),
    (
        AuthModeFlag::ApiToken,
        "the agent, with an API token for Jira Cloud",
    ),
];
const PRESETS: [(&str, &str); 2] = [
    (
        "ticketing",
        "create, change, comment, transition, search issues, attach files",
    ),
    ("read-only", "read issues; change nothing"),
];
const SYSTEM_ROOTS: &str = "the system's";
