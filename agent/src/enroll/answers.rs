//! What only the customer knows.

use zeroize::Zeroizing;

/// Everything that is not in the vendor's token.
pub struct EnrollmentAnswers {
    /// Jira's URL with its context path.
    pub upstream: String,
    /// PEM of the authority of Jira's certificate, beside the system's.
    pub ca: Option<String>,
    /// Who the requests are toward Jira.
    pub auth: AuthAnswers,
    /// Ready-made sets of rules.
    pub presets: Vec<String>,
    /// Policy rules to allow besides the presets.
    pub allow: Vec<String>,
    /// The way out to the gateway.
    pub proxy: Option<ProxyAnswers>,
    /// PEM of the authority of `tls://` gateways.
    pub gateway_ca: Option<String>,
}

/// The company's proxy and the credential for it.
pub struct ProxyAnswers {
    /// Proxy URL, written like `tunnel.proxy`.
    pub url: String,
    /// User name and password at the proxy, if it wants them.
    pub login: Option<(String, Zeroizing<String>)>,
}

/// `[forward.auth]`, with secrets that are yet to be put into files.
pub enum AuthAnswers {
    /// The vendor logs in.
    PassThrough,
    /// User name and password of a Jira user.
    Basic {
        /// Jira user name.
        username: String,
        /// Its password.
        password: Zeroizing<String>,
    },
    /// A personal access token.
    Pat {
        /// The token.
        token: Zeroizing<String>,
    },
    /// API token of a Jira Cloud account.
    ApiToken {
        /// Of the Atlassian account.
        email: String,
        /// The token.
        token: Zeroizing<String>,
    },
    /// An application link of OAuth 2.0. A person logs in afterwards.
    OAuth2 {
        /// Id of the client.
        client_id: String,
        /// Its secret.
        secret: Zeroizing<String>,
    },
    /// An application link of OAuth 1.0a. A person logs in afterwards.
    OAuth1 {
        /// Name of the consumer.
        consumer_key: String,
        /// PEM of the RSA key whose public half Jira knows.
        private_key: Zeroizing<String>,
    },
}
