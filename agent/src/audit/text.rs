//! Foreign text made fit for a line: printable, bounded, and no longer than what is worth keeping.

/// At most `most` bytes of `text`, in which what does not print, or turns the direction of what follows, is replaced.
/// Where something was cut off, `…` says so.
pub(super) fn printable(text: &str, most: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(most));
    for c in text.chars() {
        let c = if is_hidden(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        };
        if kept.len() + c.len_utf8() > most {
            kept.push('…');
            break;
        }
        kept.push(c);
    }
    kept
}

/// What a terminal obeys instead of showing it, or does not show.
pub(super) fn is_hidden(c: char) -> bool {
    !crate::printable::is_printable(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_turns_or_breaks_a_line_is_replaced() {
        assert_eq!(
            printable("a\u{202e}b\u{1b}[31mc\n", 99),
            "a\u{fffd}b\u{fffd}[31mc\u{fffd}"
        );
        assert_eq!(printable("a b", 99), "a b");
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_its_bound(text in any::<String>(), most in 0_usize..50) {
            let kept = printable(&text, most);
            prop_assert!(kept.len() <= most + '…'.len_utf8());
            prop_assert!(!kept.chars().any(is_hidden));
        }
    }
}
