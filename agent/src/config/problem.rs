//! Problems of a configuration: the place, the key, what is wrong, and the remedy.

use std::{fmt, path::Path, sync::Arc};

/// Where a value comes from, as text for users: `/etc/jira-tunnel-agent/agent.toml:12`, `environment
/// JIRA_TUNNEL_AGENT__LOG__LEVEL`, `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueOrigin(Arc<str>);

impl ValueOrigin {
    /// A file as a whole.
    pub fn file(path: &Path) -> Self {
        Self(path.display().to_string().into())
    }

    /// A line of a file, from 1.
    pub fn line(path: &Path, line: usize) -> Self {
        Self(format!("{}:{line}", path.display()).into())
    }

    /// The value comes from an environment variable.
    pub fn environment(name: &str) -> Self {
        Self(format!("environment {name}").into())
    }

    /// The value is not set anywhere: the default applies.
    pub fn default_value() -> Self {
        Self("default".into())
    }

    /// An origin that was stored as text with its value.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The origin as text for messages.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One problem of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where the key is set, or where it belongs.
    pub origin: ValueOrigin,
    /// Path of the key, like `forward[0] "jira".auth.token_file`; empty for a whole file.
    pub key: String,
    /// What is wrong, and the remedy.
    pub text: String,
    /// This user may not read the file; whether it is wrong is unknown.
    pub denied: bool,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.is_empty() {
            true => write!(f, "{}: {}", self.origin, self.text),
            false => write!(f, "{}: {}: {}", self.origin, self.key, self.text),
        }
    }
}

/// All problems in the order in which they were found. Each is one line of [`Display`](fmt::Display).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConfigProblems(Vec<ConfigProblem>);

impl ConfigProblems {
    /// Adds a problem. The same text for the same key is added once.
    pub fn add(&mut self, origin: ValueOrigin, key: impl Into<String>, text: impl Into<String>) {
        self.note(ConfigProblem {
            origin,
            key: key.into(),
            text: text.into(),
            denied: false,
        });
    }

    /// Adds a file or folder that this user may not read.
    pub(super) fn add_denied(&mut self, origin: ValueOrigin, text: impl Into<String>) {
        self.note(ConfigProblem {
            origin,
            key: String::new(),
            text: text.into(),
            denied: true,
        });
    }

    fn note(&mut self, problem: ConfigProblem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Whether all problems are files that this user may not read.
    pub fn are_only_denials(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|problem| problem.denied)
    }

    /// Whether no problem was found so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of problems found so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The problems in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}
