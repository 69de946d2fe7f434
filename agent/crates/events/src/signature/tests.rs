#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

/// The example that the libraries of Standard Webhooks test with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SECONDS: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn parse(text: &str) -> Result<SigningSecrets, SecretError> {
    SigningSecrets::parse(&Secret::new(text.into()))
}

fn secrets(text: &str) -> SigningSecrets {
    parse(text).expect("secrets")
}

fn other(byte: u8, bytes: usize) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(vec![byte; bytes]))
}

#[test]
fn the_published_example_is_signed_and_verified() {
    let secrets = secrets(SECRET);
    assert_eq!(secrets.sign(ID, SECONDS, BODY), SIGNATURE);
    assert!(secrets.verify(ID, SECONDS, BODY, SIGNATURE));
}

#[test]
fn what_differs_in_anything_is_forged() {
    let good = secrets(SECRET);
    assert!(!good.verify("msg_p5jXN8AQM9LWM0D4loKWxJel", SECONDS, BODY, SIGNATURE));
    assert!(!good.verify(ID, SECONDS + 1, BODY, SIGNATURE));
    assert!(!good.verify(ID, SECONDS, br#"{"test":2432232314}"#, SIGNATURE));
    assert!(!secrets(&other(1, 24)).verify(ID, SECONDS, BODY, SIGNATURE));
    for header in [
        "",
        "v1,",
        "v1",
        "v1,AAAA",
        "v1,not base64",
        // The asymmetric kind, and a version that does not exist.
        "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        // A prefix of it is not enough.
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ",
    ] {
        assert!(!good.verify(ID, SECONDS, BODY, header), "{header}");
    }
}

#[test]
fn while_secrets_rotate_each_side_may_be_ahead() {
    let (old, new) = (SECRET.to_owned(), other(2, 64));
    let both = secrets(&format!("{new}\n{old}\n"));
    let header = both.sign(ID, SECONDS, BODY);
    assert_eq!(header.split(' ').count(), 2);
    assert!(header.ends_with(SIGNATURE));
    for receiver in [&old, &new] {
        assert!(secrets(receiver).verify(ID, SECONDS, BODY, &header));
        let sender = secrets(receiver).sign(ID, SECONDS, BODY);
        assert!(both.verify(ID, SECONDS, BODY, &sender));
    }
    assert!(!secrets(&other(3, 24)).verify(ID, SECONDS, BODY, &header));
}

#[test]
fn a_header_without_end_is_not_looked_at_to_its_end() {
    let many = "v1,AAAA ".repeat(MAX_SIGNATURES);
    assert!(!secrets(SECRET).verify(ID, SECONDS, BODY, &format!("{many}{SIGNATURE}")));
}

#[test]
fn a_file_that_is_no_list_of_secrets_is_refused_with_the_line_and_without_its_content() {
    let four = [1, 2, 3, 4].map(|byte| other(byte, 24)).join("\n");
    for (text, expected) in [
        (String::new(), SecretError::None),
        ("\n \r\n".to_owned(), SecretError::None),
        (four, SecretError::TooMany),
        (
            format!("{SECRET}\nhunter2hunter2"),
            SecretError::Malformed { line: 2 },
        ),
        (
            "whsec_hunter2!".to_owned(),
            SecretError::Malformed { line: 1 },
        ),
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            SecretError::Malformed { line: 1 },
        ),
        (other(1, 23), SecretError::Length { line: 1, bytes: 23 }),
        (
            format!("\n{}", other(1, 65)),
            SecretError::Length { line: 2, bytes: 65 },
        ),
    ] {
        let error = parse(&text).err().expect("refused");
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("hunter2"));
    }
    assert!(parse(&format!("\r\n{}\r\n", other(1, 24))).is_ok());
}
