//! What only the customer knows.

use zeroize::Zeroizing;

/// Everything that the configuration needs and the token does not contain.
pub struct EnrollmentAnswers {
    /// Jira's URL with its context path.
    pub upstream: String,
    /// PEM of the CA of Jira's certificate, in addition to those of the system.
    pub ca: Option<String>,
    /// How requests authenticate to Jira.
    pub auth: AuthAnswers,
    /// Names of policy presets.
    pub presets: Vec<String>,
    /// Policy rules in addition to the presets.
    pub allow: Vec<String>,
    /// Proxy to the gateway.
    pub proxy: Option<ProxyAnswers>,
    /// PEM of the CA of `tls://` gateways.
    pub gateway_ca: Option<String>,
}

/// The company's proxy and the credential for it.
pub struct ProxyAnswers {
    /// Proxy URL, written like `tunnel.proxy`.
    pub url: String,
    /// User name and password, if the proxy requires them.
    pub login: Option<(String, Zeroizing<String>)>,
}

/// `[forward.auth]`, with secrets that are not written to files yet.
pub enum AuthAnswers {
    /// The vendor's own credential is passed through.
    PassThrough,
    /// User name and password of a Jira user.
    Basic {
        /// Jira user name.
        username: String,
        /// Password of that user.
        password: Zeroizing<String>,
    },
    /// A personal access token.
    Pat {
        /// The token as issued, without line break.
        token: Zeroizing<String>,
    },
    /// API token of a Jira Cloud account.
    ApiToken {
        /// Email address of the Atlassian account.
        email: String,
        /// The token as issued, without line break.
        token: Zeroizing<String>,
    },
    /// OAuth 2.0 application link. Requires `agent login` afterwards.
    OAuth2 {
        /// Client id of the application link.
        client_id: String,
        /// Client secret of the application link.
        secret: Zeroizing<String>,
    },
    /// OAuth 1.0a application link. Requires `agent login` afterwards.
    OAuth1 {
        /// Consumer key of the application link.
        consumer_key: String,
        /// PEM of the RSA key whose public key is in the application link.
        private_key: Zeroizing<String>,
    },
}
