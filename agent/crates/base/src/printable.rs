//! Foreign text made fit to be shown: the one place for log, status, audit and the commands.
//!
//! What another host says may hold what a terminal obeys, what turns the direction of the text around it, or what is not
//! seen at all. Each such character is shown as U+FFFD. That is decided by what the standard library would escape (controls,
//! formatting characters, separators but the space, private and unassigned code points, tags), and by a short list of
//! characters that have no picture of their own.

/// One line of at most `most` characters, trimmed. Where something was cut off, `…` says so.
pub fn printable(text: &str, most: usize) -> String {
    let mut shown: String = text.trim().chars().take(most).map(replaced).collect();
    if text.trim().chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// The same of bytes in any encoding; what is not UTF-8 is shown as U+FFFD.
pub fn printable_bytes(bytes: &[u8], most: usize) -> String {
    // No character is longer than four bytes: what lies behind cannot be shown, and need not be decoded.
    let enough = bytes.get(..most.saturating_mul(4).saturating_add(4));
    printable(&String::from_utf8_lossy(enough.unwrap_or(bytes)), most)
}

/// At most `most` bytes, untrimmed. Where something was cut off, `…` follows them.
pub fn printable_within(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for c in text.chars().map(replaced) {
        if shown.len() + c.len_utf8() > most {
            shown.push('…');
            break;
        }
        shown.push(c);
    }
    shown
}

/// Lines, none of them cut; tabs stay.
pub fn printable_lines(text: &str) -> String {
    let shown = |c| match c {
        '\n' | '\t' => c,
        c => replaced(c),
    };
    text.chars().map(shown).collect()
}

/// Hexadecimal digits in lower case, two for each byte, as `sha256sum` prints a digest.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a terminal shows `c` as itself and obeys nothing.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Variation selectors, joiners and fillers: marks and letters without a picture.
        '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => false,
        // Behind a letter only what is no character of a text is escaped, and no accent.
        c => {
            let mut behind_a_letter = [b'a'; 5];
            let [_, rest @ ..] = &mut behind_a_letter;
            let length = 1 + c.encode_utf8(rest).len();
            let text = behind_a_letter.get(..length).unwrap_or_default();
            let text = str::from_utf8(text).unwrap_or_default();
            text.escape_debug().nth(1) == Some(c)
        }
    }
}

fn replaced(c: char) -> char {
    match is_printable(c) {
        true => c,
        false => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What changes the direction of a line, breaks it, steers a terminal or is not seen.
    const HIDDEN: &[(char, char)] = &[
        ('\0', '\u{1f}'),
        ('\u{7f}', '\u{9f}'),
        ('\u{ad}', '\u{ad}'),
        ('\u{61c}', '\u{61c}'),
        ('\u{200b}', '\u{200f}'),
        ('\u{2028}', '\u{202e}'),
        ('\u{2060}', '\u{206f}'),
        ('\u{e000}', '\u{f8ff}'),
        ('\u{feff}', '\u{feff}'),
        ('\u{fff0}', '\u{fffb}'),
        ('\u{e0000}', '\u{e0fff}'),
        ('\u{f0000}', '\u{10ffff}'),
    ];

    fn is_hidden(c: char) -> bool {
        HIDDEN.iter().any(|(from, to)| (*from..=*to).contains(&c))
    }

    #[test]
    fn every_character_that_steers_or_hides_is_replaced() {
        for c in (HIDDEN.iter()).flat_map(|(from, to)| *from..=*to) {
            assert!(!is_printable(c), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn the_texts_of_people_stay_as_they_are() {
        let texts = [
            "f\u{fc}r Befugte",
            "e\u{301}te\u{301}",
            "\u{5d0}\u{5d1}\u{5d2}",
            "\u{65e5}\u{672c}\u{8a9e}",
            "\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}",
            "\"quoted\" 'single' \\ back",
            "\u{1f512}",
        ];
        for text in texts {
            assert_eq!(printable(text, 99), text);
        }
    }

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(printable("  abc \n", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc\u{2026}");
        assert_eq!(printable_bytes(&[b'a'; 100_000], 3), "aaa\u{2026}");
    }

    #[test]
    fn bytes_in_any_encoding_are_shown() {
        assert_eq!(
            printable_bytes(b"f\xfcr \x1b[31m\x9b", 99),
            "f\u{fffd}r \u{fffd}[31m\u{fffd}"
        );
    }

    #[test]
    fn a_text_within_bytes_keeps_its_spaces() {
        assert_eq!(printable_within(" a\u{202e}b\n", 99), " a\u{fffd}b\u{fffd}");
        assert_eq!(printable_within("éé", 3), "é\u{2026}");
    }

    #[test]
    fn lines_keep_their_ends() {
        assert_eq!(
            printable_lines("a\n\tb\x1b\u{202e}"),
            "a\n\tb\u{fffd}\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_and_nothing_is_too_long(text in any::<String>(), most in 0_usize..50) {
            let shown = printable(&text, most);
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
            prop_assert!(shown.chars().count() <= most + 1);
            prop_assert_eq!(printable(&shown, usize::MAX), shown.trim());
        }

        #[test]
        fn no_text_has_more_bytes_than_its_bound(text in any::<String>(), most in 0_usize..50) {
            let shown = printable_within(&text, most);
            prop_assert!(shown.len() <= most + '…'.len_utf8());
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
        }

        #[test]
        fn bytes_never_hide_anything_either(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let shown = printable_bytes(&bytes, 40);
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
        }
    }
}
