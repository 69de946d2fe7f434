//! One file of a bundle.

use super::redactor::Redactor;

/// One file of a bundle, or why it is not in it.
#[derive(Clone, Debug)]
pub struct BundlePart {
    /// File name in the archive.
    pub name: &'static str,
    /// What it contains, one clause.
    pub what: &'static str,
    /// The text, or why there is none.
    pub content: PartContent,
}

/// Content of a part.
#[derive(Clone, Debug)]
pub enum PartContent {
    /// Text that goes into the archive.
    Text {
        /// The text, at most 2 MiB.
        text: String,
        /// Whether it was truncated to its limit.
        cut: bool,
        /// Number of secrets that were removed.
        removed: usize,
    },
    /// Why there is no text, one clause.
    Missing(String),
}

impl BundlePart {
    /// A part with this text, not truncated.
    pub(super) fn text(name: &'static str, what: &'static str, text: String) -> Self {
        Self {
            name,
            what,
            content: PartContent::whole(text),
        }
    }

    /// Removes all secrets that `redactor` finds, and counts them.
    pub(super) fn redact(&mut self, redactor: &Redactor) {
        match &mut self.content {
            PartContent::Text { text, removed, .. } => {
                let (clean, count) = redactor.redact(text);
                *text = clean;
                *removed += count;
            }
            PartContent::Missing(why) => *why = redactor.redact(why).0,
        }
    }
}

impl PartContent {
    pub(super) fn whole(text: String) -> Self {
        Self::Text {
            text,
            cut: false,
            removed: 0,
        }
    }
}
