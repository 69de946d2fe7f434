//! The signature base string (RFC 5849 §3.4.1): what is signed.

use super::encode::{OAuthParameter, encode};
use crate::upstream::HttpTarget;

/// Scheme, host, port and path as Jira's servlet sees them (§3.4.1.2), which is what it verifies over. Jira's
/// own base URL plays no part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUrl {
    /// `https://jira.corp.example`: lower case, without the scheme's own port.
    origin: String,
    /// Stripped from the path of a request.
    sent_context: String,
    /// Put before what remains of it.
    signed_context: String,
}

impl SignedUrl {
    /// `upstream` is where requests are sent, `seen` is how Jira sees them where a proxy between changes that.
    pub fn new(upstream: &HttpTarget, seen: Option<&HttpTarget>) -> Self {
        let target = seen.unwrap_or(upstream);
        let scheme = if target.tls { "https" } else { "http" };
        Self {
            origin: format!("{scheme}://{}", target.authority.to_ascii_lowercase()),
            sent_context: upstream.context_path.clone(),
            signed_context: target.context_path.clone(),
        }
    }

    /// The base string URI for a raw request path with its context path; the path's encoding stays as it is.
    pub fn of(&self, path: &str) -> String {
        let below = path.strip_prefix(&self.sent_context).unwrap_or(path);
        let path = format!("{}{below}", self.signed_context);
        let root = if path.is_empty() { "/" } else { "" };
        format!("{}{path}{root}", self.origin)
    }
}

/// Method, URI and normalized parameters (§3.4.1.1). `parameters` are all of them: those of the query, the
/// protocol (without `realm` and `oauth_signature`) and a form body.
pub fn base_string<'a>(
    method: &str,
    uri: &str,
    parameters: impl IntoIterator<Item = &'a OAuthParameter>,
) -> String {
    let parameters = normalized(parameters);
    format!(
        "{}&{}&{}",
        encode(&method.to_ascii_uppercase()),
        encode(uri),
        encode(&parameters)
    )
}

/// Encoded, sorted by the encoded bytes of the name and then of the value, joined (§3.4.1.3.2).
fn normalized<'a>(parameters: impl IntoIterator<Item = &'a OAuthParameter>) -> String {
    let mut encoded: Vec<(String, String)> = parameters
        .into_iter()
        .map(|(name, value)| (encode(name).to_string(), encode(value).to_string()))
        .collect();
    encoded.sort_unstable();
    let mut text = String::new();
    for (name, value) in encoded {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&name);
        text.push('=');
        text.push_str(&value);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::encode::parse;
    use super::*;
    use crate::upstream::UpstreamTarget;

    fn http(url: &str) -> HttpTarget {
        match url.parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{url}"),
        }
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<OAuthParameter> {
        let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    }

    /// The one worked example of RFC 5849, §3.4.1.1 with the parameters of §3.4.1.3.1.
    #[test]
    fn the_example_of_rfc_5849() {
        let mut all = parse(b"b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap();
        all.extend(owned(&[
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
        ]));
        all.extend(parse(b"c2&a3=2+q").unwrap());
        assert_eq!(
            normalized(&all),
            "a2=r%20b&a3=2%20q&a3=a&b5=%3D%253D&c%40=&c2=&oauth_consumer_key=9dj\
             dj82h48djs9d2&oauth_nonce=7d8f3e4a&oauth_signature_method=HMAC-SHA1\
             &oauth_timestamp=137131201&oauth_token=kkk9d7dh3k39sjv7"
        );
        let uri = SignedUrl::new(&http("http://EXAMPLE.COM:80"), None).of("/request");
        assert_eq!(
            base_string("post", &uri, &all),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26\
             c%2540%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature\
             _method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn the_uri_is_the_one_that_the_servlet_sees() {
        // §3.4.1.2, its examples first.
        for (upstream, seen, path, uri) in [
            (
                "http://EXAMPLE.COM:80",
                None,
                "/r%20v/X",
                "http://example.com/r%20v/X",
            ),
            (
                "https://www.example.net:8080",
                None,
                "/",
                "https://www.example.net:8080/",
            ),
            (
                "https://jira:443/jira",
                None,
                "/jira/rest/a%2Cb",
                "https://jira/jira/rest/a%2Cb",
            ),
            ("http://jira:443", None, "", "http://jira:443/"),
            (
                "https://[2001:DB8::1]/",
                None,
                "/x",
                "https://[2001:db8::1]/x",
            ),
            (
                "http://10.1.2.3:8080/jira",
                Some("https://jira.corp.example/jira"),
                "/jira/rest/x",
                "https://jira.corp.example/jira/rest/x",
            ),
            (
                "https://proxy/inside/jira",
                Some("http://jira:8080"),
                "/inside/jira/rest/x",
                "http://jira:8080/rest/x",
            ),
            (
                "https://proxy",
                Some("http://jira:8080/jira"),
                "/rest/x",
                "http://jira:8080/jira/rest/x",
            ),
        ] {
            let seen = seen.map(http);
            let url = SignedUrl::new(&http(upstream), seen.as_ref());
            assert_eq!(url.of(path), uri);
        }
    }

    #[test]
    fn parameters_are_sorted_by_their_encoded_bytes() {
        // By code points `ä` would come after `z`, and `a b` before `a+b`; encoded, `%` comes before letters.
        let pairs = owned(&[
            ("z", "1"),
            ("ä", "1"),
            ("a", "b b"),
            ("a", "b+b"),
            ("a", "b"),
            ("a", ""),
            ("a-", ""),
            ("a", "b"),
            ("A", ""),
            ("a1", ""),
        ]);
        assert_eq!(
            normalized(&pairs),
            "%C3%A4=1&A=&a=&a=b&a=b&a=b%20b&a=b%2Bb&a-=&a1=&z=1"
        );
    }
}
