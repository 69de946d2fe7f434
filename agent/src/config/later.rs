//! Names that are promised but not in this version: they get an answer of their own.

/// Why a key cannot be used yet, if it is one of those.
pub fn key(section: &str, name: &str) -> Option<String> {
    let found = match section {
        "tunnel" => name.starts_with("proxy"),
        "forward.auth" => AUTH_KEYS.contains(&name),
        _ => false,
    };
    let why = match section {
        "tunnel" => "connecting to the gateway through a proxy is",
        _ => "the login that this key belongs to is",
    };
    found.then(|| format!("{why} not in this version of the agent; remove the key"))
}

/// Why a value cannot be used yet, if it is one of those.
pub fn value(section: &str, name: &str, value: &str) -> Option<String> {
    let found = section == "forward.auth" && name == "mode" && AUTH_MODES.contains(&value);
    found.then(|| {
        format!("mode {value:?} is not in this version of the agent; use another one that docs/authentication.md names")
    })
}

const AUTH_MODES: [&str; 1] = ["oauth1"];
const AUTH_KEYS: [&str; 5] = [
    "consumer_key",
    "private_key_file",
    "access_token_file",
    "two_legged",
    "signed_base_url",
];
