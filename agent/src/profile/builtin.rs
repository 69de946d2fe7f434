//! The profiles that are part of the program, so that it works without its package.

use super::ServiceProfile;

/// The built-in profile of this name. A test reads all of them.
pub fn builtin(name: &str) -> Option<ServiceProfile> {
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
    ServiceProfile::parse(name, text).ok()
}

/// What the tool of this profile is called in sentences, from the profile's name alone: of a profile that is not built in, that
/// is the name. Cheaper than reading the profile, because the status needs it every second.
pub fn title_of(name: &str) -> &str {
    let text = TEXTS.iter().find(|(known, _)| *known == name);
    let title = text.and_then(|(_, text)| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("title = \"")?.strip_suffix('"'))
    });
    title.unwrap_or(name)
}

/// The names of the built-in profiles.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

macro_rules! texts {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../packaging/files/profiles/", $name, ".toml")))),*]
    };
}

const TEXTS: [(&str, &str); 11] = texts! {
    "jira" "confluence" "bitbucket" "gitlab" "github" "servicenow" "tenable-sc" "nessus" "insightvm" "jenkins" "http"
};
