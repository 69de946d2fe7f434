//! Names that are promised but not in this version: they get an answer of their own.

/// Why a key cannot be used yet, if it is one of those.
pub fn key(section: &str, name: &str) -> Option<&'static str> {
    let found = section == "tunnel" && name.starts_with("proxy");
    found.then_some(
        "connecting to the gateway through a proxy is not in this version of the agent; remove the key",
    )
}
