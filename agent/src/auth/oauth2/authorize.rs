//! The address a person opens, and what must come back from it (RFC 6749 §4.1.1, RFC 7636).

use super::{Settings, TokenIssuer};
use crate::secret::Secret;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::Zeroizing;

/// One login on its way: what was sent with the person's browser, to be compared and used later.
pub struct AuthorizationRequest {
    /// The address to open in a browser.
    pub url: Url,
    /// Must come back unchanged, or the answer belongs to another login.
    pub state: String,
    /// PKCE's secret half; Cloud has none.
    pub verifier: Option<Secret>,
}

impl AuthorizationRequest {
    /// A new one, unguessable.
    pub fn new(settings: &Settings) -> Result<Self, url::ParseError> {
        let mut url = Url::parse(&settings.authorize_url.to_string())?;
        let state = random();
        let verifier = (settings.provider == TokenIssuer::DataCenter).then(random);
        {
            let mut query = url.query_pairs_mut();
            if let Some(audience) = &settings.audience {
                query.append_pair("audience", audience);
            }
            query
                .append_pair("client_id", &settings.client_id)
                .append_pair("redirect_uri", &settings.redirect_uri)
                .append_pair("response_type", "code")
                .append_pair("scope", &settings.scope)
                .append_pair("state", &state);
            match &verifier {
                Some(verifier) => {
                    query
                        .append_pair("code_challenge_method", "S256")
                        .append_pair("code_challenge", &challenge(verifier));
                }
                None => {
                    query.append_pair("prompt", "consent");
                }
            }
        }
        Ok(Self {
            url,
            state: state.as_str().to_owned(),
            verifier: verifier.map(|text| Secret::new(text.as_bytes().to_vec())),
        })
    }
}

/// 256 bits, as 43 letters: the shortest verifier RFC 7636 §4.1 allows, and more than can be guessed.
fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::rng().fill(&mut *bytes);
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfcs_example() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }
}
