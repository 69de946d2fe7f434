//! One file of a bundle.

use super::redactor::Redactor;

/// One file of a bundle, or why it is not in it.
#[derive(Clone, Debug)]
pub struct BundlePart {
    /// Its name in the archive.
    pub name: &'static str,
    /// What it is, one clause.
    pub what: &'static str,
    /// What came of it.
    pub content: PartContent,
}

/// What came of a part.
#[derive(Clone, Debug)]
pub enum PartContent {
    /// Text that goes into the archive.
    Text {
        /// The text.
        text: String,
        /// Something was left out to keep it within its bound.
        cut: bool,
        /// Places where a secret stood and was taken out.
        removed: usize,
    },
    /// Why there is nothing, one clause.
    Missing(String),
}

impl BundlePart {
    /// With this text, whole.
    pub(super) fn text(name: &'static str, what: &'static str, text: String) -> Self {
        Self {
            name,
            what,
            content: PartContent::whole(text),
        }
    }

    /// Takes secrets out.
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
