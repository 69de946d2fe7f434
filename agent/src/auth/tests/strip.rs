//! What of the vendor's identity is taken away, and what is left as it is.

use super::*;
use crate::auth::{HeaderClass, RemovedHeaders, VendorHeaders, strip};

/// Without names of the customer's.
fn strip_request(head: &mut request::Parts) -> Result<(), AuthRefusal> {
    strip::request(head, &VendorHeaders::default())
}

#[test]
fn every_header_that_carries_an_identity_is_removed() {
    for name in [
        "authorization",
        "Proxy-Authorization",
        "cookie",
        "Cookie2",
        "X-Forwarded-User",
        "x_forwarded_user",
        "Remote-User",
        "REMOTE_USER",
        "X-Remote-User",
        "X-Remote-User-Email",
        "X-Authenticated-User",
        "X-Authenticated-Userid",
        "X-Proxy-User",
        "X-WEBAUTH-USER",
        "X-Atlassian-User",
        "X-Atlassian-Impersonate",
        "X-AUSERNAME",
        "X-Seraph-Trusted-App-ID",
        "X-Seraph-Trusted-App-Cert",
        "X-Seraph-Trusted-App-Signature",
        "X-Seraph-OS-Username",
        "SM_USER",
        "SMUSER",
        "OAM_REMOTE_USER",
        "iv-user",
        "X-Forwarded-Email",
        "X-Forwarded-Access-Token",
        "X-Auth-Request-User",
        "X-SSL-Client-CN",
        "SSL_CLIENT_S_DN",
        "X-MS-CLIENT-PRINCIPAL-NAME",
        "X-Goog-Authenticated-User-Email",
        "Cf-Access-Jwt-Assertion",
        "x-amzn-oidc-identity",
        "X-On-Behalf-Of",
        "X-OAuth-Token",
        "Client-Cert",
        "X-Forwarded-Client-Cert",
        // What a penetration test found to pass while this was a list of known names.
        "X-User-Name",
        "X-Sm-User",
        "X-Pomerium-Jwt-Assertion",
        "X-authentik-username",
        "X-authentik-email",
        "Remote-Email",
        "Remote-Name",
        "Remote-Groups",
        "X-Vouch-User",
        "Tailscale-User-Login",
        "Teleport-Jwt-Assertion",
        "X-ARR-ClientCert",
        "X-Forwarded-Tls-Client-Cert-Info",
        "WL-Proxy-Client-Cert",
        "X-OpenAM-Username",
        "X-Ldap-User",
        "X-JWT-Assertion",
        "X-Userinfo",
        "X-Consumer-Username",
        "Crowd-Token",
        "X-Token",
        "Token",
        "X-Authorization",
        "eppn",
        "persistent-id",
        "mail",
        "AUTHENTICATE_UID",
        "LOGON_USER",
    ] {
        let mut head = request(
            "/x",
            &[(name, "victim"), (name, "again"), ("accept", "*/*")],
        );
        strip_request(&mut head).unwrap();
        assert_eq!(head.headers.len(), 1, "{name}");
        let removed = head.extensions.remove::<RemovedHeaders>().unwrap();
        assert_eq!(removed.0.len(), 1, "{name}");
        assert_eq!(removed.0[0].1, HeaderClass::Identity, "{name}");
    }
}

#[test]
fn a_header_that_nobody_knows_is_removed_like_those_that_carry_an_identity() {
    for (name, class) in [
        ("X-Completely-Invented", HeaderClass::Unknown),
        ("X-UserZone", HeaderClass::Unknown),
        ("X_Atlassian_Token", HeaderClass::Identity),
        ("Content_Type", HeaderClass::Unknown),
        ("X-Forwarded-For", HeaderClass::Forwarding),
        ("X-Forwarded-Host", HeaderClass::Forwarding),
        ("X_Forwarded_Proto", HeaderClass::Forwarding),
        ("Forwarded", HeaderClass::Forwarding),
        ("X-Real-IP", HeaderClass::Forwarding),
        ("Access-Control-Request-Method", HeaderClass::Unknown),
    ] {
        let mut head = request("/x", &[(name, "x"), ("accept", "*/*")]);
        strip_request(&mut head).unwrap();
        assert_eq!(head.headers.len(), 1, "{name}");
        let removed = head.extensions.remove::<RemovedHeaders>().unwrap();
        assert_eq!(removed.0[0].1, class, "{name}");
    }
}

#[test]
fn the_customer_lets_a_header_pass_by_name_and_never_one_of_these() {
    let headers = VendorHeaders::new(&["X-Vendor-Tenant", "x-forwarded-for", "Accept"]).unwrap();
    let sent = [
        ("x-vendor-tenant", "7"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-vendor-tenant-2", "8"),
    ];
    let mut head = request("/x", &sent);
    strip::request(&mut head, &headers).unwrap();
    assert_eq!(head.headers.len(), 2);
    for (name, why) in [
        ("", "not the name"),
        ("X Tenant", "not the name"),
        ("X-Tenant:", "not the name"),
        ("X_Tenant", "`_`"),
        ("Content-Length", "frames"),
        ("TE", "frames"),
        ("Trailer", "frames"),
        ("Host", "frames"),
        ("Connection", "frames"),
        ("Proxy-Anything", "frames"),
        ("Sec-WebSocket-Key", "frames"),
        ("X-HTTP-Method-Override", "another method"),
        ("X-Original-URL", "another method"),
        ("Cookie", "identity"),
        ("Authorization", "identity"),
        ("X-Remote-User", "identity"),
        ("X-Vendor-Token", "identity"),
        ("X-Forwarded-User", "identity"),
        ("X-Forwarded-Tls-Client-Cert", "identity"),
    ] {
        let (at, text) = VendorHeaders::new(&["X-Fine", name]).unwrap_err();
        assert_eq!(at, 1, "{name}");
        assert!(text.contains(why), "{name}: {text}");
    }
    let many: Vec<_> = (0..33).map(|n| format!("x-{n}")).collect();
    assert_eq!(VendorHeaders::new(&many).unwrap_err().0, 32);
}

#[test]
fn headers_that_honest_clients_need_reach_jira() {
    let headers = [
        ("accept", "*/*"),
        ("accept-language", "en"),
        ("cache-control", "no-cache"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-length", "7"),
        ("mime-version", "1.0"),
        ("x-atlassian-token", "no-check"),
        ("x-atlassian-force-account-id", "true"),
        ("x-force-accept-language", "true"),
        ("user-agent", "vendor/1"),
        ("origin", "https://vendor.example"),
        ("referer", "https://vendor.example/x"),
        ("x-requested-with", "XMLHttpRequest"),
        ("x-experimentalapi", "opt-in"),
        ("x-request-id", "a-1"),
        ("if-none-match", "\"x\""),
        ("range", "bytes=0-1"),
        ("traceparent", "00-1-2-00"),
        ("tracestate", "a=b"),
        ("x-b3-traceid", "1"),
    ];
    let mut head = request("/x", &headers);
    strip_request(&mut head).unwrap();
    assert_eq!(head.headers.len(), headers.len());
    assert!(head.extensions.get::<RemovedHeaders>().is_none());
}

#[test]
fn no_session_and_no_credential_of_the_agents_is_in_an_answer() {
    for name in [
        "Set-Cookie",
        "Set-Cookie2",
        "Authorization",
        "Authentication-Info",
        "Proxy-Authentication-Info",
        "X-ASESSIONID",
        "X-Seraph-Trusted-App-Status",
        "X-Auth-Token",
        "Trailer",
    ] {
        let mut head = answer(200, &[(name, "x"), (name, "y"), ("content-type", "z")]);
        strip::response(&mut head, &crate::profile::ServiceProfile::jira());
        assert_eq!(head.headers.len(), 1, "{name}");
    }
    // Clients read the reason of a refusal out of these.
    let read = [
        ("x-ausername", "bot"),
        ("x-arequestid", "1x2x3"),
        ("x-seraph-loginreason", "OK"),
        ("www-authenticate", "OAuth realm=\"x\""),
        ("x-ratelimit-remaining", "9"),
        ("etag", "\"x\""),
    ];
    let mut head = answer(200, &read);
    strip::response(&mut head, &crate::profile::ServiceProfile::jira());
    assert_eq!(head.headers.len(), read.len());
}

#[test]
fn a_query_that_chooses_an_identity_is_refused_however_it_is_written() {
    for (query, parameter) in [
        ("os_username=x", "os_username"),
        ("a=b&os_password=x", "os_password"),
        ("os_cookie=true", "os_cookie"),
        ("os_authType=basic", "os_authtype"),
        ("OS_USERNAME=x", "os_username"),
        ("%6fs_username=x", "os_username"),
        ("%6F%73%5F%75%73%65%72%6E%61%6D%65=x", "os_username"),
        ("%256fs_username=x", "os_username"),
        ("+os_username=x", "os_username"),
        ("%20os_username%09=x", "os_username"),
        ("%00os_username%0B=x", "os_username"),
        ("a;os_username=x", "os_username"),
        ("os_username", "os_username"),
        ("&&os_username=", "os_username"),
        ("oauth_token=x", "oauth_token"),
        ("oauth_consumer_key=x&jql=y", "oauth_consumer_key"),
        ("oauth_anything_new", "oauth_anything_new"),
        ("xoauth_requestor_id=admin", "xoauth_requestor_id"),
        ("user_id=admin", "user_id"),
        ("access_token=x", "access_token"),
        ("jwt=x", "jwt"),
    ] {
        let refusal = strip_request(&mut get(&format!("/x?{query}"))).unwrap_err();
        assert_eq!(
            refusal,
            AuthRefusal::ForeignIdentity(parameter.to_owned()),
            "{query}"
        );
        assert_eq!(refusal.code(), "foreign-identity");
    }
}

#[test]
fn a_query_without_an_identity_passes_unread() {
    for query in [
        "jql=assignee%20%3D%20user_id&fields=*all",
        "username=fred&maxResults=1",
        "jql=os_username%3Dx",
        "a=os_username",
        "os_destination=x",
        "my_oauth_token=x",
        "%zz=%&=&&",
        "userId=3",
        "atl_token=B00",
    ] {
        let target = format!("/x?{query}");
        let mut head = get(&target);
        strip_request(&mut head).unwrap();
        assert_eq!(head.uri, target.as_str());
    }
}

#[test]
fn a_form_that_was_not_read_is_refused_and_other_bodies_are_not() {
    for content_type in [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "Application/X-WWW-Form-URLencoded",
        "text/plain, application/x-www-form-urlencoded",
    ] {
        for framing in [
            ("content-length", "5"),
            ("content-length", "zero"),
            ("transfer-encoding", "chunked"),
        ] {
            let mut head = request("/x", &[("content-type", content_type), framing]);
            let refused = strip_request(&mut head).unwrap_err();
            assert_eq!(refused.code(), "form-body", "{content_type}");
        }
        // No body, nothing to read from it.
        for framing in [("content-length", "0"), ("accept", "*/*")] {
            let mut head = request("/x", &[("content-type", content_type), framing]);
            strip_request(&mut head).unwrap();
        }
        let mut http2 = request("/x", &[("content-type", content_type)]);
        http2.version = http::Version::HTTP_2;
        assert_eq!(strip_request(&mut http2).unwrap_err().code(), "form-body");
    }
    for content_type in [
        "application/json",
        "multipart/form-data; boundary=b",
        "text/plain",
    ] {
        let mut head = request(
            "/x",
            &[("content-type", content_type), ("content-length", "5")],
        );
        strip_request(&mut head).unwrap();
    }
}

fn form(headers: &[(&str, &str)], body: &[u8]) -> Result<(), AuthRefusal> {
    let length = body.len().to_string();
    let mut all = vec![("content-length", length.as_str())];
    all.extend_from_slice(headers);
    let mut head = request("/x", &all);
    head.extensions
        .insert(FormBody(bytes::Bytes::copy_from_slice(body)));
    strip_request(&mut head)
}

const PLAIN: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

#[test]
fn a_form_that_names_an_identity_is_refused_and_any_other_passes() {
    for body in [
        &b"a=b&os_username=x"[..],
        b"OS_Password=x",
        b"%6fs_username=x",
        b"%256fs_username=x",
        b"a;oauth_token=x",
        b"\r\nuser_id=x",
        b"xoauth_requestor_id=admin",
        b"a=%zz&os_cookie",
    ] {
        let refused = form(PLAIN, body).unwrap_err();
        assert_eq!(refused.code(), "foreign-identity", "{body:?}");
    }
    for body in [
        &b"a=os_username"[..],
        b"jql=project+%3D+A&fields=*all",
        b"%zz=%&=&&",
        b"\xff\xfe=\xff",
    ] {
        form(PLAIN, body).unwrap();
    }
}

#[test]
fn a_form_that_could_be_read_in_another_way_is_refused() {
    let typed = |content_type| form(&[("content-type", content_type)], b"a=b");
    for content_type in [
        "application/x-www-form-urlencoded",
        "Application/x-www-form-urlencoded;charset=UTF-8",
        "application/x-www-form-urlencoded ; charset=\"utf-8\"; ",
    ] {
        typed(content_type).unwrap();
    }
    for content_type in [
        "application/x-www-form-urlencoded; charset=utf-16",
        "application/x-www-form-urlencoded; charset=ibm500",
        "application/x-www-form-urlencoded; charset=utf-8; charset=utf-7",
        "application/x-www-form-urlencoded; boundary=x",
        "text/plain, application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded, text/plain",
        "x-www-form-urlencoded",
    ] {
        assert_eq!(typed(content_type).unwrap_err().code(), "form-body");
    }
    let twice = [PLAIN[0], ("content-type", "text/plain")];
    assert_eq!(form(&twice, b"a").unwrap_err().code(), "form-body");
    for encoding in ["gzip", "identity", "br"] {
        let packed = [PLAIN[0], ("content-encoding", encoding)];
        assert_eq!(form(&packed, b"a").unwrap_err().code(), "form-body");
    }
    form(PLAIN, &vec![b'a'; MAX_FORM]).unwrap();
    let long = form(PLAIN, &vec![b'a'; MAX_FORM + 1]).unwrap_err();
    assert!(long.to_string().contains("64 KiB"), "{long}");
}

/// What identifies a caller differs from tool to tool; a parameter of Jira's may be an ordinary one elsewhere.
#[test]
fn a_profile_says_what_identifies_a_caller() {
    use crate::profile::{ServiceProfile, builtin};
    let gitlab = Arc::new(builtin("gitlab").unwrap());
    let jira = ServiceProfile::jira();
    for (query, of_jira, of_gitlab) in [
        ("user_id=7", true, false),
        ("os_username=admin", true, false),
        ("private_token=x", false, true),
        ("%73udo=root", false, true),
        ("access_token=x", true, true),
        ("state=opened", false, false),
    ] {
        let head = get(&format!("/api/v4/projects/1/issues?{query}"));
        for (profile, refused) in [(&jira, of_jira), (&gitlab, of_gitlab)] {
            let found = strip::check_query(&head, profile);
            assert_eq!(found.is_err(), refused, "{query} {}", profile.title);
        }
    }
    let (at, text) = VendorHeaders::for_service(&["Job-Token"], &gitlab).unwrap_err();
    assert!(at == 0 && text.contains("identity"), "{text}");
    let github = Arc::new(builtin("github").unwrap());
    let none: [&str; 0] = [];
    let headers = VendorHeaders::for_service(&none, &github).unwrap();
    let mut head = request("/api/v3/user", &[("x-github-api-version", "2022-11-28")]);
    strip::request(&mut head, &headers).unwrap();
    assert!(head.headers.contains_key("x-github-api-version"));
}
