//! What the agent knows of a tool as data: how it shows that it is healthy, who is logged in, which headers only it sets,
//! and by what a caller could choose another identity there.
//!
//! A profile is a TOML file. Those of [`builtin_names`] are compiled in, and `packaging/files/profiles/` has them; a file
//! in the customer's own folder replaces the one of the same name. `parse` reads and checks one. Sends nothing, and
//! decides nothing about a request: health, auth and upstream ask it.

mod builtin;
mod parse;

pub use builtin::{builtin, builtin_names, title_of};
pub use parse::ProfileError;
pub(crate) use parse::require_path;

use crate::{policy::ServicePreset, vendor_text::ToolName};
use http::HeaderName;
use serde_json::Value;
use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

/// One tool, as far as it is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceProfile {
    name: String,
    /// As in sentences: `GitLab`.
    pub title: String,
    /// Where the tool's vendor documents its API.
    pub documentation: String,
    /// How it shows that it is healthy. `None`: the configuration has to say so.
    pub health: Option<HealthProof>,
    /// How it shows whose credential it is. `None`: the configuration has to say so.
    pub login: Option<LoginProof>,
    /// The values of `mode` that log in to it, beside `pass-through`.
    pub modes: Vec<String>,
    /// How its answers look.
    pub answers: AnswerShape,
    /// By what a caller could choose an identity.
    pub identity: IdentityRules,
    /// Its presets of rules. Jira's are in the policy.
    pub presets: Arc<[ServicePreset]>,
    /// The customer's own file, if this profile is from there.
    pub file: Option<PathBuf>,
}

/// The request by which a tool shows that it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthProof {
    /// Path below the context path, with a query if needed. Asked without a credential.
    pub path: String,
    /// The status codes of a healthy tool.
    pub status: Vec<u16>,
    /// A header that the answer must have.
    pub header: Option<HeaderName>,
    /// A member that the JSON answer must have.
    pub member: Option<RequiredMember>,
    /// JSON pointer to the version.
    pub version: Option<String>,
    /// Whether it costs the tool so little that it may be asked every five seconds.
    pub frequent: bool,
}

/// A member of a JSON answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredMember {
    /// JSON pointer (RFC 6901).
    pub at: String,
    /// Its value as text; `None`: any.
    pub is: Option<String>,
}

/// The request by which a tool shows whose credential it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginProof {
    /// Path below the context path, with a query if needed. Asked with the credential.
    pub path: String,
    /// JSON pointer to the user's name.
    pub user: Option<String>,
    /// The header that names the user, in this answer and in others.
    pub user_header: Option<HeaderName>,
    /// What it calls a caller without a credential.
    pub anonymous: Option<String>,
    /// Status codes by which it refuses a credential on this path. On other paths 403 is a lack of permissions.
    pub refused: Vec<u16>,
    /// Whether several wrong passwords lock the account.
    pub locks_out: bool,
    /// Whether Jira's list of personal access tokens with their ends is there too.
    pub lists_tokens: bool,
}

/// How the answers of a tool look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerShape {
    /// Headers that only the tool itself sets.
    pub own_headers: Vec<HeaderName>,
    /// Parts of paths below which it answers in JSON and never with a web page. Empty: not known.
    pub api: Vec<String>,
    /// How its own `WWW-Authenticate` begins. `None`: every challenge may be its own.
    pub challenges: Option<Vec<String>>,
    /// Headers of its answers that carry a session or credential, beside the usual ones.
    pub private_headers: Vec<HeaderName>,
    /// JSON pointers to the text of an error.
    pub message: Vec<String>,
}

/// By what a caller could choose another identity than that of the forward's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityRules {
    /// Parameters of a query or form, in lower case.
    pub parameters: Vec<String>,
    /// How further parameters begin.
    pub parameter_prefixes: Vec<String>,
    /// Headers that no setting lets pass, beside the usual ones.
    pub headers: Vec<HeaderName>,
    /// Harmless headers of the tool's clients.
    pub pass_headers: Vec<HeaderName>,
}

impl ServiceProfile {
    /// Reads the text of a profile.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        parse::parse(name, text)
    }

    /// Jira's.
    pub fn jira() -> Arc<Self> {
        // Without its data where it cannot be read; a test shows that no built-in one does.
        static JIRA: LazyLock<Arc<ServiceProfile>> = LazyLock::new(|| {
            let found = builtin(JIRA_NAME);
            Arc::new(found.unwrap_or_else(|| ServiceProfile::without_data(JIRA_NAME, "Jira")))
        });
        Arc::clone(&JIRA)
    }

    /// The vendor's host, to which an outlet leads: nothing is known of it but what it is called.
    pub fn vendor_host() -> Arc<Self> {
        static VENDOR_HOST: LazyLock<Arc<ServiceProfile>> = LazyLock::new(|| {
            Arc::new(ServiceProfile::without_data(
                VENDOR_HOST_NAME,
                "the vendor's host",
            ))
        });
        Arc::clone(&VENDOR_HOST)
    }

    /// The value of `service`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is Jira, of which the agent knows more than data.
    pub fn is_jira(&self) -> bool {
        self.name == JIRA_NAME
    }

    /// Whether it stands for the vendor's host of an outlet.
    pub fn is_vendor_host(&self) -> bool {
        self.name == VENDOR_HOST_NAME
    }

    /// What it is called in sentences for the vendor; `None` for Jira, of which the sentences speak.
    pub fn tool_name(&self) -> Option<ToolName> {
        (!self.is_jira()).then(|| ToolName::new(&self.title))
    }

    /// A sentence about Jira as one about this tool.
    pub fn reword<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.tool_name() {
            None => Cow::Borrowed(text),
            Some(tool) => tool.reword(text),
        }
    }

    /// Whether the tool answers in JSON at this path.
    pub fn is_api(&self, path: &str) -> bool {
        let mut parts = self.answers.api.iter();
        parts.any(|part| path.contains(part.as_str()))
    }

    /// Whether this is the path of the health proof, wherever the context path ends.
    pub fn is_health_path(&self, path: &str) -> bool {
        let health = self.health.as_ref().map(|health| &*health.path);
        let health = health.and_then(|health| health.split('?').next());
        health.is_some_and(|health| health != "/" && path.ends_with(health))
    }

    /// The text of an error, as the tool words it.
    pub fn message<'a>(&self, body: &'a Value) -> Option<&'a str> {
        let texts = self.answers.message.iter().map(|at| body.pointer(at));
        texts.flatten().find_map(Value::as_str)
    }

    fn without_data(name: &str, title: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            documentation: String::new(),
            health: None,
            login: None,
            modes: Vec::new(),
            answers: AnswerShape::default(),
            identity: IdentityRules::default(),
            presets: Arc::default(),
            file: None,
        }
    }
}

impl RequiredMember {
    /// Whether a JSON answer has it.
    pub fn is_in(&self, body: &Value) -> bool {
        match (body.pointer(&self.at), &self.is) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(Value::String(text)), Some(wanted)) => text == wanted,
            (Some(other), Some(wanted)) => {
                let other = other.to_string();
                other == *wanted
            }
        }
    }
}

/// The default of `service`.
pub const JIRA_NAME: &str = "jira";
/// No file can have this name, and no `service` this value.
const VENDOR_HOST_NAME: &str = "(vendor's host)";
/// The profile whose health and login the configuration states.
pub const PLAIN_HTTP: &str = "http";

#[cfg(test)]
mod tests;
