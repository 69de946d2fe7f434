//! What only the customer knows.

use zeroize::Zeroizing;

/// Everything that is not in the vendor's token.
pub struct Answers {
    /// Jira's URL with its context path.
    pub upstream: String,
    /// PEM of the authority of Jira's certificate, beside the system's.
    pub ca: Option<String>,
    /// Who the requests are toward Jira.
    pub auth: Auth,
    /// Ready-made sets of rules.
    pub presets: Vec<String>,
    /// Further rules.
    pub allow: Vec<String>,
    /// The way out to the gateway.
    pub proxy: Option<Proxy>,
    /// PEM of the authority of `tls://` gateways.
    pub gateway_ca: Option<String>,
}

/// The company's proxy.
pub struct Proxy {
    /// As `tunnel.proxy`.
    pub url: String,
    /// The login there.
    pub login: Option<(String, Zeroizing<String>)>,
}

/// `[forward.auth]`, with secrets that are yet to be put into files.
pub enum Auth {
    /// The vendor logs in.
    PassThrough,
    /// A user's password.
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
    /// Jira Cloud.
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
