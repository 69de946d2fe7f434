//! One file of a bundle.

use super::sieve::Sieve;

/// One file of a bundle, or why it is not in it.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name in the archive.
    pub name: &'static str,
    /// What it is, one clause.
    pub what: &'static str,
    /// What came of it.
    pub content: Content,
}

/// What came of a part.
#[derive(Clone, Debug)]
pub enum Content {
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

impl Part {
    /// With this text, whole.
    pub(super) fn text(name: &'static str, what: &'static str, text: String) -> Self {
        Self {
            name,
            what,
            content: Content::whole(text),
        }
    }

    /// Takes secrets out.
    pub(super) fn strain(&mut self, sieve: &Sieve) {
        match &mut self.content {
            Content::Text { text, removed, .. } => {
                let (clean, count) = sieve.strain(text);
                *text = clean;
                *removed += count;
            }
            Content::Missing(why) => *why = sieve.strain(why).0,
        }
    }
}

impl Content {
    pub(super) fn whole(text: String) -> Self {
        Self::Text {
            text,
            cut: false,
            removed: 0,
        }
    }
}
