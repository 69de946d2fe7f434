//! Who may call an outlet, and which bodies may leave.

use super::{PathSecret, Settings};
use crate::http::{AdmissionRefusal, RequestGate, strip_first_segment};
use http::{HeaderMap, header, request};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The addresses that may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceList(Vec<IpNet>);

impl SourceList {
    /// Addresses and networks as written. `Err`: the index of the first that is neither.
    pub fn parse(entries: &[String]) -> Result<Self, usize> {
        let parsed = entries.iter().enumerate().map(|(index, entry)| {
            let network = entry.parse::<IpNet>();
            let network = network.or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| index)
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Whether no address is excluded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address may call.
    pub fn allows(&self, address: IpAddr) -> bool {
        // A listener of both families shows IPv4 addresses inside IPv6.
        let address = address.to_canonical();
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }
}

/// The gate of one outlet.
pub struct SourceGate {
    sources: SourceList,
    path_secret: Option<PathSecret>,
    content_types: Vec<String>,
    max_body: u64,
}

impl SourceGate {
    /// The gate that these settings describe.
    pub fn new(settings: &Settings) -> Self {
        Self {
            sources: settings.sources.clone(),
            path_secret: settings.path_secret.clone(),
            content_types: settings.content_types.clone(),
            max_body: settings.max_body,
        }
    }

    fn allows_content(&self, headers: &HeaderMap) -> bool {
        if self.content_types.is_empty() || !has_body(headers) {
            return true;
        }
        let mut given = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(given), None) = (given.next(), given.next()) else {
            return false;
        };
        let media_type = given.to_str().unwrap_or_default().split(';').next();
        let media_type = media_type.unwrap_or_default().trim();
        let mut allowed = self.content_types.iter();
        allowed.any(|allowed| allowed.eq_ignore_ascii_case(media_type))
    }
}

impl RequestGate for SourceGate {
    fn admit(&self, head: &mut request::Parts, peer: &str) -> Result<(), AdmissionRefusal> {
        let address = peer.parse::<SocketAddr>().map(|peer| peer.ip());
        let known = address.is_ok_and(|address| self.sources.allows(address));
        if !known && !self.sources.is_empty() {
            return Err(AdmissionRefusal::Source);
        }
        if let Some(secret) = &self.path_secret
            && !strip_first_segment(head, |segment| secret.matches(segment))
        {
            return Err(AdmissionRefusal::Secret);
        }
        if !self.allows_content(&head.headers) {
            return Err(AdmissionRefusal::ContentType);
        }
        if announced_length(&head.headers).is_some_and(|length| length > self.max_body) {
            return Err(AdmissionRefusal::BodyTooLarge(self.max_body));
        }
        Ok(())
    }

    fn hides_targets(&self) -> bool {
        self.path_secret.is_some()
    }

    fn max_body(&self) -> u64 {
        self.max_body
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || announced_length(headers).is_some_and(|length| length > 0)
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::secret::Secret;
    use http::Request;

    fn gate() -> SourceGate {
        SourceGate {
            sources: SourceList::parse(&["10.1.0.0/16".into(), "::1".into()]).unwrap(),
            path_secret: Some(PathSecret::new(&Secret::new(b"0123456789abcdef".to_vec())).unwrap()),
            content_types: vec!["application/json".into()],
            max_body: 10,
        }
    }

    fn admitted(
        peer: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<String, AdmissionRefusal> {
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        gate().admit(&mut head, peer).map(|()| head.uri.to_string())
    }

    #[test]
    fn address_secret_type_and_length_are_asked_in_this_order() {
        let path = "/0123456789abcdef/hook";
        let json = ("content-type", "application/json; charset=utf-8");
        let ok = admitted("10.1.2.3:9", path, &[("content-length", "10"), json]);
        assert_eq!(ok, Ok("/hook".into()));
        assert_eq!(
            admitted("[::ffff:10.1.2.3]:9", path, &[]),
            Ok("/hook".into())
        );
        for (peer, target, headers, refusal) in [
            ("10.2.0.1:9", path, &[][..], AdmissionRefusal::Source),
            ("unknown", path, &[], AdmissionRefusal::Source),
            ("[::1]:9", "/hook", &[], AdmissionRefusal::Secret),
            (
                "[::1]:9",
                "/0123456789abcdeF/hook",
                &[],
                AdmissionRefusal::Secret,
            ),
            (
                "[::1]:9",
                path,
                &[("content-length", "1")],
                AdmissionRefusal::ContentType,
            ),
            (
                "[::1]:9",
                path,
                &[
                    ("transfer-encoding", "chunked"),
                    ("content-type", "text/xml"),
                ],
                AdmissionRefusal::ContentType,
            ),
            (
                "[::1]:9",
                path,
                &[("content-length", "11"), json],
                AdmissionRefusal::BodyTooLarge(10),
            ),
        ] {
            assert_eq!(
                admitted(peer, target, headers),
                Err(refusal),
                "{peer} {target} {headers:?}"
            );
        }
        assert_eq!(
            SourceList::parse(&["10.0.0.1".into(), "jira".into()]),
            Err(1)
        );
    }
}
