//! Finds what could override a request's method or path after the policy decided: names in the query, and headers that
//! the HTTP part must refuse. The query itself reaches Jira byte for byte.

use agent_base::vendor_text::{QuotedByte, VendorText};

/// Request headers with which some servers override the method of the request line. Refuse requests with one: the
/// policy decided on the other method.
pub fn method_override_headers() -> &'static [&'static str] {
    &[
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ]
}

/// Request headers with which some servers and proxies override the path of the request line. Refuse requests with
/// one.
pub fn path_override_headers() -> &'static [&'static str] {
    &["x-original-url", "x-rewrite-url"]
}

/// Checks a query. The error repeats nothing of it.
pub(super) fn check(query: &str) -> Result<(), VendorText> {
    if query.len() > MAX_QUERY {
        return Err(VendorText::of(&[
            &"the query is ",
            &query.len(),
            &" bytes long, at most ",
            &MAX_QUERY,
            &" are accepted; POST /rest/api/2/search accepts long JQL in its body",
        ]));
    }
    require_plain_bytes(query.as_bytes())?;
    let overrides_method = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        decoded(name)
            .map(|b| b.to_ascii_lowercase())
            .eq(METHOD_PARAMETER.bytes())
    };
    if query.split(['&', ';']).any(overrides_method) {
        return Err(VendorText::of(&[
            &"the query names `",
            &METHOD_PARAMETER,
            &"`, which some servers take for the method",
        ]));
    }
    Ok(())
}

/// Every printable character but `#` may stand in a query as it is. RFC 3986 wants more of them encoded; Jira's own Tomcat
/// takes them raw (`relaxedQueryChars` in its server.xml).
pub(super) fn require_plain_bytes(query: &[u8]) -> Result<(), VendorText> {
    let refused = |byte: &u8| !byte.is_ascii_graphic() || *byte == b'#';
    match query.iter().position(refused) {
        None => Ok(()),
        Some(at) => Err(VendorText::of(&[
            &"the query contains ",
            &QuotedByte(query[at]),
            &" at byte ",
            &at,
            &" of the query; percent-encode it",
        ])),
    }
}

/// Percent-decodes as forms are decoded; what is malformed stays as it is.
fn decoded(name: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = name.as_bytes();
    std::iter::from_fn(move || {
        let (byte, tail) = match rest {
            [] => return None,
            [b'+', tail @ ..] => (b' ', tail),
            [b'%', high, low, tail @ ..] => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                match (digit(high), digit(low)) {
                    (Some(high), Some(low)) => ((high << 4 | low) as u8, tail),
                    _ => (b'%', &rest[1..]),
                }
            }
            [byte, tail @ ..] => (*byte, tail),
        };
        rest = tail;
        Some(byte)
    })
}

/// Spring's HiddenHttpMethodFilter and Jersey 1's PostReplaceFilter read the method from it.
const METHOD_PARAMETER: &str = "_method";
/// Bytes. Jira's Tomcat accepts 8 KiB for the whole head by default.
const MAX_QUERY: usize = 32 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ordinary_queries_pass() {
        for query in [
            "",
            "jql=project%20%3D%20ABC%0Aorder+by+key&maxResults=50",
            "a;b=c?d/../%2e%2e",
            "method=DELETE&x_method=DELETE&_methods=1",
            "100%",
            "%zz=%",
        ] {
            check(query).unwrap();
        }
    }

    #[test]
    fn a_method_in_the_query_is_refused_however_it_is_written() {
        for query in [
            "_method=DELETE",
            "a=b&_METHOD=DELETE",
            "a=b;_method=DELETE",
            "%5Fmethod=DELETE",
            "%5f%6d%65thod",
        ] {
            let problem = check(query).unwrap_err();
            assert!(!problem.as_str().contains("DELETE"), "{problem}");
        }
    }

    #[test]
    fn length_is_bounded() {
        assert!(check(&"a".repeat(MAX_QUERY)).is_ok());
        assert!(check(&"a".repeat(MAX_QUERY + 1)).is_err());
    }
}
