//! Every answer the agent gives itself, with all that is fixed about it.

use http::StatusCode;

/// What went wrong. The codes are a promise to the vendor: they may grow in number, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Framing or headers that can be read in more than one way.
    MalformedRequest,
    /// A target that can be read in more than one way.
    AmbiguousTarget,
    /// A header that asks for another method than the request line.
    MethodOverride,
    /// The vendor's own body broke off.
    UploadBroken,
    /// No rule allows it, or one denies it.
    PolicyRefused,
    /// It tries to be somebody else than the login allows.
    ForeignIdentity,
    /// The head did not come in time.
    HeadTimeout,
    /// The vendor's body did not move.
    UploadStalled,
    /// A form-encoded body that could choose another identity, and cannot be looked through.
    FormBody,
    /// Request line and headers are too large.
    HeadTooLarge,
    /// CONNECT or TRACE.
    MethodRefused,
    /// WebSocket or another protocol.
    UpgradeRefused,
    /// Neither HTTP/1.1 nor HTTP/2.
    HttpVersion,
    /// Jira took our login for somebody else or nobody.
    LoginFailed,
    /// Jira's name does not resolve.
    JiraUnresolved,
    /// No connection to Jira.
    JiraUnreachable,
    /// No TLS with Jira.
    JiraTls,
    /// The connection to Jira broke, or what came was no HTTP.
    JiraBroke,
    /// Too many requests at once on this forward.
    Overloaded,
    /// All connections to Jira are busy.
    JiraBusy,
    /// The agent has no credential to send right now.
    LoginUnavailable,
    /// The customer's administrator has paused it.
    Paused,
    /// The agent stops, and the time for what was under way is over.
    Stopping,
    /// Jira's answer did not begin in time.
    JiraTimeout,
}

/// What is fixed about a kind.
#[derive(Clone, Copy, Debug)]
struct Advice {
    code: &'static str,
    status: StatusCode,
    deliveries: &'static str,
    proxy_error: &'static str,
    retry_after: Option<u32>,
    title: &'static str,
    remedy: &'static str,
}

impl Kind {
    /// All of them, in the order of `docs/errors.md`.
    pub const ALL: [Self; 24] = [
        Self::MalformedRequest,
        Self::AmbiguousTarget,
        Self::MethodOverride,
        Self::UploadBroken,
        Self::PolicyRefused,
        Self::ForeignIdentity,
        Self::HeadTimeout,
        Self::UploadStalled,
        Self::FormBody,
        Self::HeadTooLarge,
        Self::MethodRefused,
        Self::UpgradeRefused,
        Self::HttpVersion,
        Self::LoginFailed,
        Self::JiraUnresolved,
        Self::JiraUnreachable,
        Self::JiraTls,
        Self::JiraBroke,
        Self::Overloaded,
        Self::JiraBusy,
        Self::LoginUnavailable,
        Self::Paused,
        Self::Stopping,
        Self::JiraTimeout,
    ];

    /// `policy-refused`; the last part of the type URI, and the audit line's `error`.
    pub const fn code(self) -> &'static str {
        self.advice().code
    }

    /// `urn:jira-tunnel-agent:problem:policy-refused`.
    pub fn uri(self) -> String {
        format!("urn:jira-tunnel-agent:problem:{}", self.code())
    }

    /// Status of the answer.
    pub const fn status(self) -> StatusCode {
        self.advice().status
    }

    /// Which values `delivery` may have.
    pub const fn deliveries(self) -> &'static str {
        self.advice().deliveries
    }

    /// The error type of RFC 9209 §2.3.
    pub const fn proxy_error(self) -> &'static str {
        self.advice().proxy_error
    }

    /// Seconds, where sending it again can help.
    pub const fn retry_after(self) -> Option<u32> {
        self.advice().retry_after
    }

    /// The problem's title.
    pub const fn title(self) -> &'static str {
        self.advice().title
    }

    /// What to do about it, and who.
    pub const fn remedy(self) -> &'static str {
        self.advice().remedy
    }

    /// Whether where the next request begins is unknown, so that there can be none.
    pub const fn ends_channel(self) -> bool {
        matches!(
            self,
            Self::MalformedRequest | Self::HeadTimeout | Self::HeadTooLarge | Self::HttpVersion
        )
    }

    const fn advice(self) -> Advice {
        match self {
            Self::MalformedRequest => Advice {
                code: "malformed-request",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request can be read in more than one way",
                remedy: "Nothing to do at the customer's side; the vendor's client or a proxy before the gateway sends requests that RFC 9112 forbids.",
            },
            Self::AmbiguousTarget => Advice {
                code: "ambiguous-target",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request target can be read in more than one way",
                remedy: "Nothing to do at the customer's side; the vendor sends the path in its plain form, without dot segments, encoded slashes, semicolons or empty segments.",
            },
            Self::MethodOverride => Advice {
                code: "method-override",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "A header asks for another method than the request line",
                remedy: "Nothing to do at the customer's side; the vendor sends the method it means.",
            },
            Self::UploadBroken => Advice {
                code: "upload-broken",
                status: StatusCode::BAD_REQUEST,
                deliveries: EITHER,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request body broke off",
                remedy: "Nothing to do at the customer's side unless it recurs; then look at `agent status` for lost sessions.",
            },
            Self::PolicyRefused => Advice {
                code: "policy-refused",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The customer's policy does not allow this request",
                remedy: "If the vendor should be able to do this, add a rule to [forward.policy]; `agent policy explain METHOD TARGET` says which rule decides.",
            },
            Self::ForeignIdentity => Advice {
                code: "foreign-identity",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The request tries to choose another identity",
                remedy: "The agent logs in by itself; the vendor leaves its own login out, or the customer sets mode = \"pass-through\" in [forward.auth].",
            },
            Self::HeadTimeout => Advice {
                code: "head-timeout",
                status: StatusCode::REQUEST_TIMEOUT,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: Some(1),
                title: "The request head did not come in time",
                remedy: "If it recurs, look at the round-trip time in `agent status`, or raise head_timeout in [forward.http].",
            },
            Self::UploadStalled => Advice {
                code: "upload-stalled",
                status: StatusCode::REQUEST_TIMEOUT,
                deliveries: MAYBE_SENT,
                proxy_error: "http_request_error",
                retry_after: Some(1),
                title: "The request body stopped moving",
                remedy: "If it recurs, look at the round-trip time in `agent status`, or raise stall_timeout in [forward.http].",
            },
            Self::FormBody => Advice {
                code: "form-body",
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "A form-encoded body could choose another identity and cannot be looked through",
                remedy: "The agent logs in by itself; the vendor sends JSON or multipart, or a form of at most 64 KiB, uncompressed and in UTF-8.",
            },
            Self::HeadTooLarge => Advice {
                code: "head-too-large",
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "Request line and headers are too large",
                remedy: "Raise max_head in [forward.http] if the vendor needs such requests and Jira takes them.",
            },
            Self::MethodRefused => Advice {
                code: "method-refused",
                status: StatusCode::NOT_IMPLEMENTED,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "CONNECT and TRACE are not served",
                remedy: "Nothing to do at the customer's side; no setting allows them.",
            },
            Self::UpgradeRefused => Advice {
                code: "upgrade-refused",
                status: StatusCode::NOT_IMPLEMENTED,
                deliveries: NOT_SENT,
                proxy_error: "http_upgrade_failed",
                retry_after: None,
                title: "WebSocket and other protocols are not served",
                remedy: "Nothing to do at the customer's side; Jira's REST interface needs none of them.",
            },
            Self::HttpVersion => Advice {
                code: "http-version",
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "Only HTTP/1.1 and HTTP/2 are served",
                remedy: "Nothing to do at the customer's side; the vendor's client or health check speaks HTTP/1.1.",
            },
            Self::LoginFailed => Advice {
                code: "login-failed",
                status: StatusCode::BAD_GATEWAY,
                deliveries: "answered",
                proxy_error: "proxy_configuration_error",
                retry_after: None,
                title: "Jira did not take the agent's login",
                remedy: "See the login layer of `agent status`.",
            },
            Self::JiraUnresolved => Advice {
                code: "jira-unresolved",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "dns_error",
                retry_after: Some(10),
                title: "Jira's name does not resolve",
                remedy: "Check the host in `upstream` and this machine's DNS, or set `address` of the forward.",
            },
            Self::JiraUnreachable => Advice {
                code: "jira-unreachable",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(5),
                title: "Jira cannot be reached",
                remedy: "Check that Jira runs and that a firewall lets this machine connect: curl -v with the URL of `upstream`, from this machine.",
            },
            Self::JiraTls => Advice {
                code: "jira-tls",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "tls_protocol_error",
                retry_after: None,
                title: "No TLS connection with Jira",
                remedy: "Check the certificate Jira shows (openssl s_client -connect HOST:PORT -showcerts), `ca_file` and the host in `upstream`.",
            },
            Self::JiraBroke => Advice {
                code: "jira-broke",
                status: StatusCode::BAD_GATEWAY,
                deliveries: EITHER,
                proxy_error: "http_response_incomplete",
                retry_after: Some(1),
                title: "Jira broke off before it answered",
                remedy: "Look at Jira's log, and at a proxy before it, at this time.",
            },
            Self::Overloaded => Advice {
                code: "overloaded",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "connection_limit_reached",
                retry_after: Some(1),
                title: "Too many requests at once",
                remedy: "Raise max_concurrent in [forward.http] if Jira can take more.",
            },
            Self::JiraBusy => Advice {
                code: "jira-busy",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "connection_limit_reached",
                retry_after: Some(1),
                title: "All connections to Jira are busy",
                remedy: "Look why Jira answers slowly, or raise max_connections of the forward.",
            },
            Self::LoginUnavailable => Advice {
                code: "login-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "proxy_configuration_error",
                retry_after: Some(30),
                title: "The agent has no login for Jira right now",
                remedy: "See the login layer of `agent status`.",
            },
            Self::Paused => Advice {
                code: "paused",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(60),
                title: "The customer has paused this forward",
                remedy: "`agent status` says since when and why; `agent resume` lets requests pass again.",
            },
            Self::Stopping => Advice {
                code: "agent-stopping",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: EITHER,
                proxy_error: "connection_terminated",
                retry_after: Some(30),
                title: "The agent stopped before Jira had answered",
                remedy: "It is stopped or restarted on purpose; a longer tunnel.drain_limit gives slow requests more time.",
            },
            Self::JiraTimeout => Advice {
                code: "jira-timeout",
                status: StatusCode::GATEWAY_TIMEOUT,
                deliveries: EITHER,
                proxy_error: "http_response_timeout",
                retry_after: Some(5),
                title: "Jira did not take the request, or did not begin to answer, in time",
                remedy: "Look why Jira answers slowly, or raise response_timeout of the forward.",
            },
        }
    }
}

const NOT_SENT: &str = "not_sent";
const MAYBE_SENT: &str = "maybe_sent";
const EITHER: &str = "not_sent, maybe_sent";
