//! Words that may reach the vendor, by type.
//!
//! The vendor learns what concerns its own request: what was wrong with it, and whether it was sent. File paths, addresses,
//! account names and what an administrator does about them stay on the customer's side, in status, log and audit.
//! A [`VendorText`] is made of words in the source and of values of the types listed here, never of a `String`,
//! so that the text of an error cannot end up in one unseen.

use http::Method;
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// A sentence for the vendor's engineer, of words in the source and of values of the listed types:
///
/// ```
/// use agent_base::vendor_text::{VendorQuote, VendorText};
/// let text = VendorText::of(&[&"no rule allows ", &VendorQuote("/rest/api/2/user")]);
/// assert_eq!(text.as_str(), "no rule allows /rest/api/2/user");
/// ```
///
/// There is no way from a `String` to it, on purpose:
///
/// ```compile_fail
/// use agent_base::vendor_text::VendorText;
/// let cause = String::from("cannot read /etc/jira-tunnel-agent/jira-pat");
/// VendorText::of(&[&"the agent failed: ", &cause]);
/// ```
///
/// ```compile_fail
/// use agent_base::vendor_text::VendorText;
/// VendorText::from(String::from("cannot read /etc/jira-tunnel-agent/jira-pat"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VendorText(Cow<'static, str>);

impl VendorText {
    /// Joins the parts as they are.
    pub fn of(parts: &[&dyn VendorPart]) -> Self {
        let mut text = String::new();
        for part in parts {
            part.write(&mut text);
        }
        Self(text.into())
    }

    /// The sentence as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A sentence about Jira as one about this tool. One that was joined stays as it is: a part of it may be the vendor's own
    /// words, which only the vendor may change.
    pub fn about(self, tool: &ToolName) -> Self {
        match self.0 {
            Cow::Borrowed(text) => Self(tool.reword(text)),
            joined @ Cow::Owned(_) => Self(joined),
        }
    }
}

/// What the other side of a forward or outlet is called where it is not Jira: `GitLab`, `the vendor's host`. An administrator
/// may have written the name in a profile, and the vendor reads it: it is cut and made printable like the vendor's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolName(Arc<str>);

impl ToolName {
    /// The name as in the middle of a sentence.
    pub fn new(title: &str) -> Self {
        Self(VendorText::of(&[&VendorQuote(title)]).0.into())
    }

    /// A sentence about Jira as one about this tool.
    pub fn reword<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match text.contains(JIRA) {
            true => Cow::Owned(text.replace(JIRA, &self.0)),
            false => Cow::Borrowed(text),
        }
    }
}

impl From<&'static str> for VendorText {
    fn from(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for VendorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a [`VendorText`] may be made of. The list of implementations is what the vendor may see: think before adding one.
pub trait VendorPart: sealed::Sealed {
    /// Appends this part to the sentence.
    fn write(&self, text: &mut String);
}

/// Something the vendor wrote in its own request: a path, the name of a parameter. It is cut to a bearable length, and
/// what could move text about on a screen is escaped.
pub struct VendorQuote<'a>(pub &'a str);

/// Jira's context path, with which the vendor begins each path.
pub struct ContextPath<'a>(pub &'a str);

/// A byte that a person may have to look for: `"` or `0x07`.
pub struct QuotedByte(pub u8);

impl VendorPart for &'static str {
    fn write(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl VendorPart for VendorText {
    fn write(&self, text: &mut String) {
        text.push_str(&self.0);
    }
}

impl VendorPart for usize {
    fn write(&self, text: &mut String) {
        text.push_str(&self.to_string());
    }
}

impl VendorPart for Duration {
    fn write(&self, text: &mut String) {
        text.push_str(&format!("{self:?}"));
    }
}

impl VendorPart for Method {
    fn write(&self, text: &mut String) {
        VendorQuote(self.as_str()).write(text);
    }
}

impl VendorPart for VendorQuote<'_> {
    fn write(&self, text: &mut String) {
        for (count, c) in self.0.chars().enumerate() {
            match c {
                _ if count == MOST_OWN_WORDS => {
                    text.push('…');
                    return;
                }
                ' '..='~' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
    }
}

impl VendorPart for ContextPath<'_> {
    fn write(&self, text: &mut String) {
        text.push_str(self.0);
    }
}

impl VendorPart for QuotedByte {
    fn write(&self, text: &mut String) {
        match self.0 {
            b'!'..=b'~' => text.extend(['`', char::from(self.0), '`']),
            byte => text.push_str(&format!("0x{byte:02X}")),
        }
    }
}

mod sealed {
    #[expect(
        unnameable_types,
        reason = "so that no other crate implements VendorPart"
    )]
    pub trait Sealed {}
    impl Sealed for &'static str {}
    impl Sealed for super::VendorText {}
    impl Sealed for usize {}
    impl Sealed for std::time::Duration {}
    impl Sealed for http::Method {}
    impl Sealed for super::VendorQuote<'_> {}
    impl Sealed for super::ContextPath<'_> {}
    impl Sealed for super::QuotedByte {}
}

/// The tool that the sentences in the source speak of.
const JIRA: &str = "Jira";
/// Characters of a path, method or name that a sentence repeats.
const MOST_OWN_WORDS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile once a `String` can become a vendor's text, or a part of one: the two implementations below would
    /// both apply.
    #[test]
    fn no_string_becomes_a_text_for_the_vendor() {
        trait MadeOfString<Marker> {
            fn item() {}
        }
        trait PartOfText<Marker> {
            fn item() {}
        }
        struct Yes;
        impl<T> MadeOfString<()> for T {}
        impl<T: From<String>> MadeOfString<Yes> for T {}
        impl<T> PartOfText<()> for T {}
        impl<T: VendorPart> PartOfText<Yes> for T {}
        <VendorText as MadeOfString<_>>::item();
        <String as PartOfText<_>>::item();
    }

    #[test]
    fn the_vendors_own_words_are_cut_and_made_printable() {
        let long = "ü\u{202e}\n".to_owned() + &"x".repeat(500);
        let text = VendorText::of(&[&"no: ", &VendorQuote(&long)]);
        assert!(text.as_str().starts_with("no: ü\\u{202e}\\nxxx"), "{text}");
        assert!(text.as_str().ends_with("x…"));
        assert!(text.as_str().len() < 220);
    }

    #[test]
    fn a_sentence_speaks_of_the_tool_and_repeats_the_vendors_words_as_they_are() {
        let tool = ToolName::new("GitLab");
        let own =
            VendorText::from("Jira's name does not resolve; nothing was sent to Jira").about(&tool);
        assert_eq!(
            own.as_str(),
            "GitLab's name does not resolve; nothing was sent to GitLab"
        );
        let quoted = VendorText::of(&[&"no rule allows ", &VendorQuote("/Jira/x")]);
        assert_eq!(quoted.clone().about(&tool), quoted);
        let unprintable = ToolName::new("Git\u{1b}[2J");
        assert_eq!(unprintable.reword("Jira"), "Git\\u{1b}[2J");
    }

    #[test]
    fn a_byte_is_shown_so_that_it_can_be_found() {
        let shown = |byte| VendorText::of(&[&QuotedByte(byte)]).to_string();
        assert_eq!(shown(b'"'), "`\"`");
        assert_eq!(shown(b' '), "0x20");
        assert_eq!(shown(0x7f), "0x7F");
        assert_eq!(shown(0xc3), "0xC3");
    }
}
