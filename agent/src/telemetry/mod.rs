//! Logs: human on a terminal, JSON or journald otherwise; the level changes at run time.

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A tracing filter: `info`, `agent=debug,info`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, journald under systemd, JSON otherwise.
    #[default]
    Auto,
    /// For a person.
    Human,
    /// One JSON object a line.
    Json,
    /// Native journal fields.
    Journald,
}
