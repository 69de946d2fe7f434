#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use proptest::prelude::*;
use std::time::Duration;

const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0";

fn token(secret: bool) -> EnrollmentToken {
    EnrollmentToken {
        gateways: vec!["gw1.vendor.example:443".parse().unwrap()],
        user: "acme".to_owned(),
        host_keys: vec![HOST_KEY.to_owned()],
        known_hosts: Vec::new(),
        forward: TokenForward {
            slots: None,
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

fn error(text: &str) -> EnrollmentTokenError {
    EnrollmentToken::parse(text).unwrap_err()
}

#[test]
fn what_is_written_is_what_is_read() {
    let made = token(true);
    let read = EnrollmentToken::parse(&format!("  {}\n", made.to_text().as_str())).unwrap();
    assert_eq!(read.to_text(), made.to_text());
    assert_eq!(
        read.secret.unwrap().key().public_key(),
        made.secret.unwrap().key().public_key()
    );
    assert!(
        EnrollmentToken::parse(&token(false).to_text())
            .unwrap()
            .secret
            .is_none()
    );
}

#[test]
fn a_token_that_a_script_of_a_few_lines_makes_is_read() {
    let read = EnrollmentToken::parse(&body(|_| {})).unwrap();
    assert_eq!(read.expires, token(false).expires);
    assert_eq!(read.forward, token(false).forward);
}

#[test]
fn a_cut_token_is_told_apart_wherever_it_is_cut() {
    let text = token(true).to_text();
    for end in "jtaenroll1".len()..text.len() {
        assert_eq!(
            error(&text[..end]),
            EnrollmentTokenError::Truncated,
            "{end}"
        );
    }
    for begin in 1..text.len() {
        let error = error(&text[begin..]);
        assert_eq!(error, EnrollmentTokenError::NotAToken, "{begin}");
    }
}

/// Lines of 72 or 76 characters, quoted answers, indentation, format=flowed with its spaces, marks of no width.
#[test]
fn a_token_that_a_mail_program_has_wrapped_is_read() {
    let made = token(true);
    let text = made.to_text();
    for (width, before, after) in [
        (72, "", "\n"),
        (76, "> ", "\r\n"),
        (40, ">> ", " \n"),
        (64, "\t", "\n\n"),
        (10, "\u{feff}", "\u{200b}\n"),
    ] {
        let lines = text.as_bytes().chunks(width);
        let wrapped: String = lines
            .map(|line| format!("{before}{}{after}", std::str::from_utf8(line).unwrap()))
            .collect();
        let read = EnrollmentToken::parse(&wrapped).unwrap();
        assert_eq!(read.to_text(), text);
        // The same token is known again.
        assert_eq!(
            EnrollmentToken::digest(&wrapped),
            EnrollmentToken::digest(&text)
        );
        // Its first lines are a token that goes on.
        let end = wrapped.len() - wrapped.len() / 3;
        let end = (end..).find(|end| wrapped.is_char_boundary(*end)).unwrap();
        assert_eq!(error(&wrapped[..end]), EnrollmentTokenError::Truncated);
    }
}

/// Each member is shown to root in a terminal, at `enroll` and ever after by `status` and `config show`.
#[test]
fn no_member_holds_what_a_terminal_obeys() {
    type Change = fn(&mut serde_json::Value, String);
    let members: [(&str, Change); 8] = [
        ("gateways", |b, bad| {
            b["gateways"] = serde_json::json!([format!("gw{bad}1.example:443")])
        }),
        ("gateways", |b, bad| {
            b["gateways"] = serde_json::json!([format!("gw1.example:4{bad}43")])
        }),
        ("user", |b, bad| b["user"] = format!("ac{bad}me").into()),
        ("host_keys", |b, bad| {
            b["host_keys"] = serde_json::json!([format!("{HOST_KEY}{bad}")])
        }),
        ("known_hosts", |b, bad| {
            b["known_hosts"] = serde_json::json!([format!("gw1 ssh-ed25519 AAAA {bad}")]);
        }),
        ("forward.name", |b, bad| {
            b["forward"]["name"] = format!("ji{bad}ra").into()
        }),
        ("forward.bind", |b, bad| {
            b["forward"]["bind"] = format!("/s/{bad}jira.sock").into()
        }),
        ("expires", |b, bad| {
            b["expires"] = format!("2030-03-17T17:46:40Z{bad}").into()
        }),
    ];
    for bad in [
        "\u{1b}[31m",
        "\u{1b}]0;t\u{7}",
        "\0",
        "\n",
        "\r",
        "\u{7f}",
        "\u{9b}2J",
        "\u{202e}",
        "\u{2066}",
        "\u{e4}",
    ] {
        for (member, change) in &members {
            let told = error(&body(|b| change(b, bad.to_owned()))).to_string();
            assert!(told.contains(member), "{member}: {told}");
            let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            assert!(told.bytes().all(plain), "{told}");
        }
    }
}

/// An agent that knows no slots would take `{slot}` for a part of the path.
#[test]
fn a_token_with_a_slot_has_a_version_that_older_agents_refuse() {
    assert!(token(false).to_text().starts_with("jtaenroll1."));
    let mut second = token(false);
    second.forward.bind = "/s/jira-{slot}.sock".parse().unwrap();
    second.forward.slots = Some("4-7".parse().unwrap());
    let text = second.to_text();
    assert!(text.starts_with("jtaenroll2."), "{}", text.as_str());
    let read = EnrollmentToken::parse(&text).unwrap();
    assert_eq!(read.forward, second.forward);
    assert_eq!(read.to_text(), text);
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
        assert_eq!(error(foreign), EnrollmentTokenError::NotAToken, "{foreign}");
    }
    assert_eq!(
        error("jtaenroll3.whatever"),
        EnrollmentTokenError::UnsupportedVersion(3)
    );
    assert_eq!(error(" \n"), EnrollmentTokenError::Empty);
    assert_eq!(
        error(&"x".repeat(TOKEN_MAX_LEN + 1)),
        EnrollmentTokenError::TooLong
    );
}

#[test]
fn an_expired_token_says_when_and_what_time_it_is() {
    let token = token(false);
    assert!(
        token
            .check_expiry(token.expires - Duration::from_secs(1))
            .is_ok()
    );
    let text = token.check_expiry(token.expires).unwrap_err().to_string();
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
        unknown.contains("but invalid") && !unknown.contains("c2hvcnQ"),
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
        prop_assert!(EnrollmentToken::parse(&text).is_err());
    }

    #[test]
    fn nothing_that_is_pasted_breaks_the_reader(text in "\\PC{0,300}", tail in "[A-Za-z0-9_.-]{0,300}") {
        let _ = EnrollmentToken::parse(&text);
        let _ = EnrollmentToken::parse(&format!("jtaenroll1.{tail}"));
    }

    #[test]
    fn nothing_in_a_sealed_body_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let sealed = format!("jtaenroll1.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let is_body = matches!(
            EnrollmentToken::parse(&format!("{sealed}.{}", checksum(&sealed))),
            Err(EnrollmentTokenError::Body(_))
        );
        prop_assert!(is_body);
    }
}
