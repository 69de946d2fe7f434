//! What must hold for any text that a person can paste. The tests run it with generated text, `fuzz/` with much more.

use crate::EnrollmentToken;

/// A token that is accepted is written as a token with the same contents, and an error does not repeat the text.
pub fn enrollment_token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match EnrollmentToken::parse(&text) {
        Ok(token) => {
            let written = token.to_text();
            let again = EnrollmentToken::parse(&written).map(|token| token.to_text());
            assert!(
                again.is_ok_and(|again| *again == *written),
                "a token changes"
            );
        }
        Err(error) => assert!(error.to_string().len() < 1024, "an error repeats its input"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in "(jtaenroll1\\.|jta|>|[ \n.A-Za-z0-9_-]{0,20}){0,6}") {
            enrollment_token(text.as_bytes());
        }
    }
}
