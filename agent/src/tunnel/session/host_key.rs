//! Which host keys are accepted.

/// Pinned fingerprints and known_hosts entries. Anything else is refused.
pub struct HostKeys {}
