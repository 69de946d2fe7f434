//! Reading Jira's answers.

use super::*;
use crate::{
    auth::identity::{
        BasicAuthDisabled, ExpectedUser, IdentityFinding, ProvenUser, RejectionReason, read,
    },
    upstream::{AnswerSource, RequestedUri},
};

const CAPTCHA: (&str, &str) = (
    "x-authentication-denied-reason",
    "CAPTCHA_CHALLENGE; login-url=https://jira/login.jsp",
);

const NOBODY: ExpectedUser<'_> = ExpectedUser {
    configured: None,
    proven: None,
};

fn named(user: &str) -> ExpectedUser<'_> {
    ExpectedUser {
        configured: Some(user),
        proven: None,
    }
}

#[test]
fn answers_are_read_as_jira_means_them() {
    use IdentityFinding::*;
    let refused = || Rejected(RejectionReason::Refused);
    let anonymous = || Rejected(RejectionReason::Anonymous);
    for (status, headers, finding) in [
        (
            200,
            &[("x-ausername", "acme-bot")][..],
            KnownUser(b"acme-bot"),
        ),
        (404, &[("x-ausername", "acme-bot")], KnownUser(b"acme-bot")),
        // A permission that is lacking is no refused login.
        (403, &[("x-ausername", "acme-bot")], KnownUser(b"acme-bot")),
        (401, &[("x-ausername", "acme-bot")], KnownUser(b"acme-bot")),
        (500, &[("x-ausername", "acme-bot")], KnownUser(b"acme-bot")),
        (
            403,
            &[
                ("x-ausername", "acme-bot"),
                ("x-seraph-loginreason", "AUTHORISATION_FAILED"),
            ],
            KnownUser(b"acme-bot"),
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
        (403, &[CAPTCHA], Rejected(RejectionReason::Captcha)),
        (
            403,
            &[CAPTCHA, ("x-seraph-loginreason", "AUTHENTICATED_FAILED")],
            Rejected(RejectionReason::Captcha),
        ),
        (200, &[("x-ausername", "anonymous")], anonymous()),
        (200, &[("x-ausername", "Anonymous")], anonymous()),
        (404, &[("x-ausername", "anonymous")], anonymous()),
        (200, &[("x-seraph-loginreason", "OK")], Accepted),
        (200, &[], Accepted),
        (201, &[], Accepted),
        (400, &[], Inconclusive),
        (404, &[], Inconclusive),
        (413, &[], Inconclusive),
        (302, &[], Inconclusive),
        (403, &[("content-type", "text/html")], Inconclusive),
        (
            403,
            &[("content-type", "application/json;charset=UTF-8")],
            Rejected(RejectionReason::BasicAuthDisabled(
                BasicAuthDisabled::Likely,
            )),
        ),
        (429, &[("x-ausername", "acme-bot")], KnownUser(b"acme-bot")),
        (500, &[], Inconclusive),
        (503, &[], Inconclusive),
    ] {
        let head = answer(status, headers);
        assert_eq!(
            read(&head, b"", true, named("acme-bot")),
            finding,
            "{status} {headers:?}"
        );
    }
    // Cloud's API gateway knows the credential, but not for this request.
    let lacks = br#"{"code":401,"message":"Unauthorized; scope does not match"}"#;
    assert_eq!(read(&answer(401, &[]), lacks, true, NOBODY), Accepted);
    let dead = br#"{"code":401,"message":"Unauthorized"}"#;
    assert_eq!(read(&answer(401, &[]), dead, true, NOBODY), refused());
    // Outside the REST API a missing name says nothing: static resources have none.
    assert_eq!(
        read(&answer(200, &[]), b"", false, NOBODY),
        IdentityFinding::Inconclusive
    );
}

#[test]
fn basic_switched_off_is_read_from_the_body() {
    let body = br#"{"message":"Basic Authentication has been disabled on this instance."}"#;
    let anonymous = answer(403, &[("x-ausername", "anonymous")]);
    let head = answer(403, &[("content-type", "application/json")]);
    for head in [&anonymous, &head] {
        assert_eq!(
            read(head, body, true, NOBODY),
            IdentityFinding::Rejected(RejectionReason::BasicAuthDisabled(
                BasicAuthDisabled::Stated
            ))
        );
    }
    assert_eq!(
        read(&head, b"{\"errors\":{}}", true, NOBODY),
        IdentityFinding::Inconclusive
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
        let finding = read(&head, b"", true, named(expected));
        assert_eq!(
            matches!(finding, IdentityFinding::KnownUser(_)),
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
        read(&utf8, b"", true, named("Jürgen")),
        IdentityFinding::KnownUser(_)
    ));
}

#[test]
fn the_user_of_the_probe_is_the_one_whom_other_answers_must_name() {
    let proven = |headers: &[(&str, &str)]| ProvenUser::read(&answer(200, headers).headers);
    let bot = proven(&[("x-ausername", "J%C3%BCrgen")]).unwrap();
    let account = proven(&[("x-aaccountid", "557058:1")]).unwrap();
    assert_eq!(bot.display_name(), "Jürgen");
    assert_eq!(account.display_name(), "557058:1");
    assert_eq!(proven(&[("x-ausername", "anonymous")]), None);
    let other = |user: &str| IdentityFinding::Rejected(RejectionReason::OtherUser(user.to_owned()));
    for (by, headers, finding) in [
        (
            &bot,
            &[("x-ausername", "j%c3%bcrgen")][..],
            IdentityFinding::KnownUser(b"j%c3%bcrgen"),
        ),
        (&bot, &[("x-ausername", "admin")], other("admin")),
        (
            &bot,
            &[("x-aaccountid", "557058:2")],
            IdentityFinding::Accepted,
        ),
        (
            &account,
            &[("x-aaccountid", "557058:1")],
            IdentityFinding::Accepted,
        ),
        (&account, &[("x-aaccountid", "557058:2")], other("557058:2")),
        // What the probe was not told is not compared.
        (
            &account,
            &[("x-ausername", "whoever")],
            IdentityFinding::KnownUser(b"whoever"),
        ),
    ] {
        let head = answer(200, headers);
        let expected = ExpectedUser {
            configured: None,
            proven: Some(by),
        };
        assert_eq!(read(&head, b"", true, expected), finding, "{headers:?}");
    }
    // Even from a cache: it would be another user's data.
    let head = answer(200, &[("x-ausername", "admin"), ("age", "3")]);
    let expected = ExpectedUser {
        configured: None,
        proven: Some(&bot),
    };
    assert_eq!(read(&head, b"", true, expected), other("admin"));
    let head = answer(200, &[("x-ausername", "jürgen"), ("age", "3")]);
    assert_eq!(
        read(&head, b"", true, expected),
        IdentityFinding::Inconclusive
    );
}

#[test]
fn what_stands_before_jira_is_no_word_of_jiras() {
    let html = ("content-type", "text/html");
    let idp = ("location", "https://idp.example/saml");
    for (status, headers, by_a_login) in [
        (200, &[html][..], true),
        (302, &[idp], true),
        (302, &[("location", "/jira/login.jsp?x")], true),
        (407, &[], true),
        (401, &[("www-authenticate", "Negotiate")], true),
        // Honest refusals: the vendor may see them.
        (403, &[html], false),
        (429, &[html], false),
        (
            301,
            &[("location", "https://jira/jira/rest/api/2/myself")],
            false,
        ),
    ] {
        let mut head = answer(status, headers);
        let asked = RequestedUri {
            path: MYSELF,
            authority: "jira",
        };
        let source = AnswerSource::read(
            &crate::profile::ServiceProfile::jira(),
            asked,
            head.status,
            &head.headers,
        );
        head.extensions.insert(source);
        let finding = read(&head, b"", true, NOBODY);
        match by_a_login {
            true => assert!(
                matches!(
                    finding,
                    IdentityFinding::Rejected(RejectionReason::Intermediary(_))
                ),
                "{status} {headers:?}: {finding:?}"
            ),
            false => assert_eq!(
                finding,
                IdentityFinding::Inconclusive,
                "{status} {headers:?}"
            ),
        }
    }
    // Jira's own, with a mark of Jira's on it and nobody named.
    let own = answer(
        302,
        &[
            ("x-arequestid", "1x1x1"),
            ("location", "https://jira/jira/login.jsp?os_destination=x"),
        ],
    );
    let finding = read(&own, b"", false, NOBODY);
    assert_eq!(
        finding,
        IdentityFinding::Rejected(RejectionReason::LoginPage)
    );
    // Single sign-on as a plugin in Jira.
    let mark = ("x-arequestid", "1x1x1");
    for (below_rest, location, is_login) in [
        (
            true,
            "/jira/plugins/servlet/samlsso?redirectTo=%2Frest",
            true,
        ),
        (true, "https://idp.example/oidc/authorize", true),
        (true, "/jira/rest/api/2/user/login", false),
        (true, "/jira/secure/attachment/1/a.png", false),
        (false, "/jira/secure/attachment/1/login.png", false),
    ] {
        let head = answer(302, &[mark, ("location", location)]);
        let finding = read(&head, b"", below_rest, NOBODY);
        let expected = match is_login {
            true => IdentityFinding::Rejected(RejectionReason::LoginPage),
            false => IdentityFinding::Inconclusive,
        };
        assert_eq!(finding, expected, "{location}");
    }
}

/// Java's URLEncoder, by which Jira writes the name, makes a plus of a space.
#[test]
fn a_space_in_a_user_name_may_come_as_a_plus() {
    let head = answer(200, &[("x-ausername", "svc+jira%40corp")]);
    let expected = ExpectedUser {
        configured: Some("svc jira@corp"),
        proven: None,
    };
    let finding = read(&head, b"", true, expected);
    assert_eq!(finding, IdentityFinding::KnownUser(b"svc+jira%40corp"));
}

#[test]
fn each_of_several_names_must_be_ours() {
    let proof = answer(200, &[("x-ausername", "bot")]);
    let bot = ProvenUser::read(&proof.headers);
    for expected in [
        ExpectedUser {
            configured: Some("bot"),
            proven: None,
        },
        ExpectedUser {
            configured: None,
            proven: bot.as_ref(),
        },
    ] {
        for (names, other) in [
            (["bot", "admin"], "admin"),
            (["admin", "bot"], "admin"),
            (["bot", "anonymous"], "anonymous"),
        ] {
            let headers = names.map(|name| ("x-ausername", name));
            let finding = IdentityFinding::Rejected(RejectionReason::OtherUser(other.to_owned()));
            let head = answer(200, &headers);
            assert_eq!(read(&head, b"", true, expected), finding);
        }
        let twice = [("x-ausername", "bot"), ("x-ausername", "BOT")];
        let head = answer(200, &twice);
        let finding = read(&head, b"", true, expected);
        assert_eq!(finding, IdentityFinding::KnownUser(b"bot"));
    }
}
