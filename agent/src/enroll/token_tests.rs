#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;
use std::time::Duration;

const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0";

fn token(secret: bool) -> Token {
    Token {
        gateways: vec!["gw1.vendor.example:443".parse().unwrap()],
        user: "acme".to_owned(),
        host_keys: vec![HOST_KEY.to_owned()],
        known_hosts: Vec::new(),
        forward: Forward {
            name: "jira".to_owned(),
            bind: "127.0.0.1:8080".parse().unwrap(),
        },
        secret: secret.then(OneTimeSecret::generate),
        expires: UNIX_EPOCH + Duration::from_secs(1_900_000_000),
    }
}

/// As a vendor's own script would make it.
fn sealed(body: &str) -> String {
    let sealed = format!("jtaenroll1.{}", BASE64_URL_SAFE_NO_PAD.encode(body));
    format!("{sealed}.{}", checksum(&sealed))
}

fn body(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value = serde_json::json!({
        "gateways": ["gw1.vendor.example:443"], "user": "acme", "host_keys": [HOST_KEY],
        "forward": {"name": "jira", "bind": "127.0.0.1:8080"}, "expires": "2030-03-17T17:46:40Z",
    });
    change(&mut value);
    sealed(&value.to_string())
}

fn error(text: &str) -> TokenError {
    Token::parse(text).unwrap_err()
}

#[test]
fn what_is_written_is_what_is_read() {
    let made = token(true);
    let read = Token::parse(&format!("  {}\n", made.to_text().as_str())).unwrap();
    assert_eq!(read.to_text(), made.to_text());
    assert_eq!(
        read.secret.unwrap().key().public_key(),
        made.secret.unwrap().key().public_key()
    );
    assert!(
        Token::parse(&token(false).to_text())
            .unwrap()
            .secret
            .is_none()
    );
}

#[test]
fn a_token_that_a_script_of_a_few_lines_makes_is_read() {
    let read = Token::parse(&body(|_| {})).unwrap();
    assert_eq!(read.expires, token(false).expires);
    assert_eq!(read.forward, token(false).forward);
}

#[test]
fn a_cut_token_is_told_apart_wherever_it_is_cut() {
    let text = token(true).to_text();
    for end in "jtaenroll1".len()..text.len() {
        assert_eq!(error(&text[..end]), TokenError::Cut, "{end}");
    }
    for begin in 1..text.len() {
        let error = error(&text[begin..]);
        assert_eq!(error, TokenError::Foreign, "{begin}");
    }
}

#[test]
fn a_wrapped_token_is_told_apart() {
    let text = token(true).to_text();
    let wrapped = format!("{}\n{}", &text[..80], &text[80..]);
    assert_eq!(error(&wrapped), TokenError::WhiteSpace);
}

#[test]
fn foreign_text_a_newer_version_and_an_empty_line_are_told_apart() {
    for foreign in [
        "hello",
        "ssh-ed25519 AAAA",
        "eyJhbGciOi.J9.x",
        "jtaenroll0.x.y",
        "jtaenrolls",
    ] {
        assert_eq!(error(foreign), TokenError::Foreign, "{foreign}");
    }
    assert_eq!(error("jtaenroll2.whatever"), TokenError::Newer(2));
    assert_eq!(error(" \n"), TokenError::Empty);
    assert_eq!(error(&"x".repeat(MAX_LEN + 1)), TokenError::TooLong);
}

#[test]
fn an_expired_token_says_when_and_what_time_it_is() {
    let token = token(false);
    assert!(
        token
            .in_time(token.expires - Duration::from_secs(1))
            .is_ok()
    );
    let text = token.in_time(token.expires).unwrap_err().to_string();
    assert!(text.contains("2030-03-17T17:46:40Z"), "{text}");
}

#[test]
fn what_a_vendor_can_make_wrongly_is_named_and_never_repeated() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 11] = [
        (|b| b["gateways"] = serde_json::json!([]), "gateways"),
        (|b| b["gateways"] = serde_json::json!(["gw1"]), "gateways"),
        (|b| b["user"] = "a b".into(), "user"),
        (|b| b["user"] = "a\u{1b}[2J".into(), "user"),
        (|b| b["host_keys"] = serde_json::json!([]), "host key"),
        (
            |b| b["host_keys"] = serde_json::json!(["MD5:00"]),
            "fingerprint",
        ),
        (
            |b| b["known_hosts"] = serde_json::json!(["a\nb"]),
            "known_hosts",
        ),
        (|b| b["forward"]["name"] = "a\"b".into(), "forward.name"),
        (|b| b["forward"]["bind"] = "8080".into(), "forward.bind"),
        (|b| b["secret"] = "c2hvcnQ".into(), "secret is not 32 bytes"),
        (|b| b["expires"] = "tomorrow".into(), "expires"),
    ];
    for (change, part) in cases {
        let text = error(&body(change)).to_string();
        assert!(text.contains(part), "{text} lacks {part}");
        assert!(
            !text.contains("c2hvcnQ") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
    let unknown = error(&body(|b| b["c2hvcnQ"] = 1.into())).to_string();
    assert!(
        unknown.contains("made wrongly") && !unknown.contains("c2hvcnQ"),
        "{unknown}"
    );
}

#[test]
fn the_secret_reaches_no_debug_text() {
    let token = token(true);
    let secret = BASE64_URL_SAFE_NO_PAD.encode(token.secret.as_ref().unwrap().0.expose());
    assert!(!format!("{token:?}").contains(&secret));
}

proptest! {
    #[test]
    fn one_wrong_character_never_passes(at in 0..200_usize, put in "[ -~]") {
        let mut text = token(false).to_text().to_string();
        let at = at % text.len();
        prop_assume!(text[at..=at] != put);
        text.replace_range(at..=at, &put);
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn nothing_that_is_pasted_breaks_the_reader(text in "\\PC{0,300}", tail in "[A-Za-z0-9_.-]{0,300}") {
        let _ = Token::parse(&text);
        let _ = Token::parse(&format!("jtaenroll1.{tail}"));
    }

    #[test]
    fn nothing_in_a_sealed_body_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let sealed = format!("jtaenroll1.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let is_body = matches!(
            Token::parse(&format!("{sealed}.{}", checksum(&sealed))),
            Err(TokenError::Body(_))
        );
        prop_assert!(is_body);
    }
}
