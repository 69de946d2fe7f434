//! Reading Jira's answers.

use super::*;
use crate::auth::identity::{BasicOff, Finding, Rejection, read};

const CAPTCHA: (&str, &str) = (
    "x-authentication-denied-reason",
    "CAPTCHA_CHALLENGE; login-url=https://jira/login.jsp",
);

#[test]
fn answers_are_read_as_jira_means_them() {
    use Finding::*;
    let refused = || Rejected(Rejection::Refused);
    let anonymous = || Rejected(Rejection::Anonymous);
    for (status, headers, finding) in [
        (200, &[("x-ausername", "acme-bot")][..], Known(b"acme-bot")),
        (404, &[("x-ausername", "acme-bot")], Known(b"acme-bot")),
        // A permission that is lacking is no refused login.
        (403, &[("x-ausername", "acme-bot")], Known(b"acme-bot")),
        (401, &[("x-ausername", "acme-bot")], Known(b"acme-bot")),
        (500, &[("x-ausername", "acme-bot")], Known(b"acme-bot")),
        (
            403,
            &[
                ("x-ausername", "acme-bot"),
                ("x-seraph-loginreason", "AUTHORISATION_FAILED"),
            ],
            Known(b"acme-bot"),
        ),
        (401, &[], refused()),
        (401, &[("x-ausername", "anonymous")], refused()),
        (
            401,
            &[("x-seraph-loginreason", "AUTHENTICATED_FAILED")],
            refused(),
        ),
        (
            200,
            &[
                ("x-seraph-loginreason", "AUTHENTICATED_FAILED"),
                ("x-ausername", "acme-bot"),
            ],
            refused(),
        ),
        (403, &[CAPTCHA], Rejected(Rejection::Captcha)),
        (
            403,
            &[CAPTCHA, ("x-seraph-loginreason", "AUTHENTICATED_FAILED")],
            Rejected(Rejection::Captcha),
        ),
        (200, &[("x-ausername", "anonymous")], anonymous()),
        (200, &[("x-ausername", "Anonymous")], anonymous()),
        (404, &[("x-ausername", "anonymous")], anonymous()),
        (200, &[("x-seraph-loginreason", "OK")], Accepted),
        (200, &[], Accepted),
        (201, &[], Accepted),
        (400, &[], Nothing),
        (404, &[], Nothing),
        (413, &[], Nothing),
        (302, &[], Nothing),
        (403, &[("content-type", "text/html")], Nothing),
        (
            403,
            &[("content-type", "application/json;charset=UTF-8")],
            Rejected(Rejection::BasicOff(BasicOff::Likely)),
        ),
        (429, &[("x-ausername", "acme-bot")], Known(b"acme-bot")),
        (500, &[], Nothing),
        (503, &[], Nothing),
    ] {
        let head = answer(status, headers);
        assert_eq!(
            read(&head, b"", true, Some("acme-bot")),
            finding,
            "{status} {headers:?}"
        );
    }
    // Cloud's API gateway knows the credential, but not for this request.
    let lacks = br#"{"code":401,"message":"Unauthorized; scope does not match"}"#;
    assert_eq!(read(&answer(401, &[]), lacks, true, None), Accepted);
    let dead = br#"{"code":401,"message":"Unauthorized"}"#;
    assert_eq!(read(&answer(401, &[]), dead, true, None), refused());
    // Outside the REST API a missing name says nothing: static resources have none.
    assert_eq!(read(&answer(200, &[]), b"", false, None), Finding::Nothing);
}

#[test]
fn basic_switched_off_is_read_from_the_body() {
    let body = br#"{"message":"Basic Authentication has been disabled on this instance."}"#;
    let anonymous = answer(403, &[("x-ausername", "anonymous")]);
    let head = answer(403, &[("content-type", "application/json")]);
    for head in [&anonymous, &head] {
        assert_eq!(
            read(head, body, true, None),
            Finding::Rejected(Rejection::BasicOff(BasicOff::Said))
        );
    }
    assert_eq!(
        read(&head, b"{\"errors\":{}}", true, None),
        Finding::Nothing
    );
}

#[test]
fn user_names_are_compared_as_jira_does() {
    for (seen, expected, same) in [
        ("acme-bot", "acme-bot", true),
        ("Acme-Bot", "acme-bot", true),
        ("acme-bot", "ACME-BOT", true),
        ("j%C3%BCrgen", "jürgen", true),
        ("J%C3%9CRGEN", "jürgen", true),
        ("a%40b.example", "a@b.example", true),
        ("100%", "100%", true),
        ("acme-bot2", "acme-bot", false),
        ("acme", "acme-bot", false),
        ("admin", "acme-bot", false),
    ] {
        let head = answer(200, &[("x-ausername", seen)]);
        let finding = read(&head, b"", true, Some(expected));
        assert_eq!(
            matches!(finding, Finding::Known(_)),
            same,
            "{seen} {expected}"
        );
    }
    let utf8 = {
        let mut head = answer(200, &[]);
        let raw = HeaderValue::from_bytes("jürgen".as_bytes()).unwrap();
        head.headers.insert("x-ausername", raw);
        head
    };
    assert!(matches!(
        read(&utf8, b"", true, Some("Jürgen")),
        Finding::Known(_)
    ));
}
