//! Every answer the agent gives itself, with all that is fixed about it.

use crate::upstream::Delivery;
use http::StatusCode;

/// What went wrong. The codes are a promise to the vendor: they may grow in number, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
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
    /// More requests were refused on this forward than may be in a minute, and this one would be, too.
    TooManyRefusals,
    /// Request line and headers are too large.
    HeadTooLarge,
    /// CONNECT or TRACE, which the agent never forwards.
    MethodRefused,
    /// WebSocket or another protocol.
    UpgradeRefused,
    /// Neither HTTP/1.0, HTTP/1.1 nor HTTP/2.
    HttpVersion,
    /// Jira identified another user than ours, or none.
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
    /// Jira does not answer now, or asked for a pause.
    JiraUnavailable,
    /// Jira's rate limit is reached.
    JiraRateLimit,
    /// The agent has no credential to send right now.
    LoginUnavailable,
    /// No audit record can be written, without which nothing is sent.
    AuditUnavailable,
    /// The customer's administrator has paused it.
    Paused,
    /// The agent stops, and the time for requests in flight is over.
    Stopping,
    /// Jira's answer did not begin in time.
    JiraTimeout,
    /// The sender may not call the outlet.
    SourceRefused,
    /// The media type of the body may not leave through the outlet.
    ContentTypeRefused,
    /// The body is longer than may leave through the outlet.
    BodyTooLarge,
    /// No session to a gateway answers.
    TunnelDown,
    /// The gateway does not permit the target of the outlet.
    GatewayRefused,
    /// The gateway cannot connect to the vendor's host.
    VendorUnreachable,
    /// No TLS with the vendor's host.
    VendorTls,
    /// The connection to the vendor's host broke, or what came was no HTTP.
    VendorBroke,
    /// All connections to the vendor's host are busy, or the gateway has no channel left.
    VendorBusy,
    /// The vendor's host does not answer now, or asked for a pause.
    VendorUnavailable,
    /// The vendor's rate limit is reached.
    VendorRateLimit,
    /// The vendor's answer did not begin in time.
    VendorTimeout,
    /// The queue of the outlet is full.
    QueueFull,
    /// The event cannot be stored now.
    StoreFailed,
    /// Jira's webhook secret does not sign the body.
    SignatureRefused,
    /// Events of this project or kind may not leave through the outlet.
    ScopeRefused,
    /// What the event belongs to cannot be read from it.
    ScopeUndecidable,
}

/// What is fixed about a kind.
#[derive(Clone, Copy, Debug)]
struct ProblemSpec {
    code: &'static str,
    status: StatusCode,
    deliveries: &'static str,
    proxy_error: &'static str,
    retry_after: Option<u32>,
    title: &'static str,
    /// For the vendor.
    remedy: &'static str,
}

impl ProblemKind {
    /// All of them, in the order of `docs/errors.md`.
    pub const ALL: [Self; 45] = [
        Self::MalformedRequest,
        Self::AmbiguousTarget,
        Self::MethodOverride,
        Self::UploadBroken,
        Self::PolicyRefused,
        Self::ForeignIdentity,
        Self::HeadTimeout,
        Self::UploadStalled,
        Self::FormBody,
        Self::TooManyRefusals,
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
        Self::JiraUnavailable,
        Self::JiraRateLimit,
        Self::LoginUnavailable,
        Self::AuditUnavailable,
        Self::Paused,
        Self::Stopping,
        Self::JiraTimeout,
        Self::SourceRefused,
        Self::ContentTypeRefused,
        Self::BodyTooLarge,
        Self::TunnelDown,
        Self::GatewayRefused,
        Self::VendorUnreachable,
        Self::VendorTls,
        Self::VendorBroke,
        Self::VendorBusy,
        Self::VendorUnavailable,
        Self::VendorRateLimit,
        Self::VendorTimeout,
        Self::QueueFull,
        Self::StoreFailed,
        Self::SignatureRefused,
        Self::ScopeRefused,
        Self::ScopeUndecidable,
    ];

    /// `policy-refused`; the last part of the type URI, and the audit line's `error`.
    pub const fn code(self) -> &'static str {
        self.advice().code
    }

    /// The `type` member of the answer, such as `urn:jira-tunnel-agent:problem:policy-refused`.
    pub fn uri(self) -> String {
        format!("urn:jira-tunnel-agent:problem:{}", self.code())
    }

    /// Status of the answer. Clients repeat a request by themselves after 408, 429 and 503, so that these never stand on one
    /// that Jira may have seen.
    pub fn status(self, delivery: Delivery) -> StatusCode {
        match (self.advice().status, delivery) {
            (status, Delivery::NotSent) => status,
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _) => {
                StatusCode::BAD_GATEWAY
            }
            (StatusCode::REQUEST_TIMEOUT, _) => StatusCode::BAD_REQUEST,
            (status, _) => status,
        }
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

    /// The `title` member of the answer.
    pub const fn title(self) -> &'static str {
        self.advice().title
    }

    /// What the vendor does about it: something in its request, or a word to the customer.
    pub const fn remedy(self) -> &'static str {
        self.advice().remedy
    }

    /// [`remedy`](Self::remedy) where the tool is not Jira: without what only Jira has. It still says Jira for the tool.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are the same for every tool"
    )]
    pub const fn remedy_at_other_tools(self) -> &'static str {
        match self {
            Self::HeadTooLarge => {
                "Send less. If Jira needs such requests, ask the customer to accept them and quote request_id."
            }
            other => other.remedy(),
        }
    }

    /// What the customer's administrator does about it, for status and log. The vendor never reads it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    pub const fn customer_remedy(self) -> &'static str {
        match self {
            Self::JiraUnresolved => {
                "Check the host in `upstream` and this machine's DNS, or set `address` of the forward."
            }
            Self::JiraUnreachable => {
                "Check that Jira runs and that a firewall lets this machine connect: curl -v with the URL of `upstream`, from this machine."
            }
            Self::JiraTls => {
                "Check the certificate Jira shows (openssl s_client -connect HOST:PORT -showcerts), `ca_file` and the host in `upstream`."
            }
            Self::JiraBroke => "Check Jira's log, and that of a proxy before it, at this time.",
            Self::JiraBusy => {
                "Look why Jira answers slowly, or raise max_connections of the forward."
            }
            Self::JiraUnavailable => {
                "Look why Jira does not answer: its own log, garbage collection, threads, database. The agent tries by itself."
            }
            Self::JiraRateLimit => {
                "Raise the rate limit of the agent's user in Jira, or ask the vendor for fewer requests."
            }
            Self::JiraTimeout => {
                "Look why Jira answers slowly, or raise response_timeout of the forward."
            }
            Self::TunnelDown => "See the connections in `agent status`.",
            Self::GatewayRefused => {
                "Ask the vendor to permit host and port of `to` at the gateway: PermitOpen HOST:PORT for the agent's user."
            }
            Self::VendorUnreachable => {
                "Ask the vendor whether the host and port of `to` serve, seen from the gateway."
            }
            Self::VendorTls => {
                "Check the certificate of the vendor's host, `ca_file` and `server_name` of the outlet."
            }
            Self::VendorBroke | Self::VendorTimeout | Self::VendorUnavailable => {
                "Ask the vendor to look at the host of `to` at this time."
            }
            Self::VendorBusy => {
                "Raise max_connections of the outlet, or ask the vendor why its host answers slowly."
            }
            Self::VendorRateLimit => "Ask the vendor to raise its rate limit.",
            _ => "See `agent status` and the audit line with this request_id.",
        }
    }

    /// Whether where the next request begins is unknown, so that there can be none.
    pub const fn ends_channel(self) -> bool {
        matches!(
            self,
            Self::MalformedRequest | Self::HeadTimeout | Self::HeadTooLarge | Self::HttpVersion
        )
    }

    /// Whether policy or framing refuses it: the requests whose number in a minute is bounded (`refusals_per_minute`).
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::MalformedRequest
                | Self::AmbiguousTarget
                | Self::MethodOverride
                | Self::PolicyRefused
                | Self::ForeignIdentity
                | Self::FormBody
                | Self::HeadTooLarge
                | Self::MethodRefused
                | Self::UpgradeRefused
                | Self::HttpVersion
                | Self::SourceRefused
                | Self::ContentTypeRefused
                | Self::BodyTooLarge
                | Self::SignatureRefused
                | Self::ScopeRefused
                | Self::ScopeUndecidable
        )
    }

    /// Whether it occurs only on the way from Jira to the vendor.
    pub const fn is_outward(self) -> bool {
        matches!(
            self,
            Self::SourceRefused
                | Self::ContentTypeRefused
                | Self::BodyTooLarge
                | Self::TunnelDown
                | Self::GatewayRefused
                | Self::VendorUnreachable
                | Self::VendorTls
                | Self::VendorBroke
                | Self::VendorBusy
                | Self::VendorUnavailable
                | Self::VendorRateLimit
                | Self::VendorTimeout
                | Self::QueueFull
                | Self::StoreFailed
                | Self::SignatureRefused
                | Self::ScopeRefused
                | Self::ScopeUndecidable
        )
    }

    /// Whether the agent answers by itself without any work of Jira's or of the vendor's, so that a vendor could have
    /// more of them written down than a disk holds.
    pub const fn is_effortless(self) -> bool {
        self.is_refusal()
            || matches!(
                self,
                Self::UploadBroken
                    | Self::HeadTimeout
                    | Self::Overloaded
                    | Self::JiraUnavailable
                    | Self::JiraRateLimit
                    | Self::LoginUnavailable
                    | Self::TunnelDown
                    | Self::VendorUnavailable
                    | Self::VendorRateLimit
                    | Self::QueueFull
                    | Self::StoreFailed
                    | Self::Paused
            )
    }

    const fn advice(self) -> ProblemSpec {
        match self {
            Self::MalformedRequest => ProblemSpec {
                code: "malformed-request",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request can be read in more than one way",
                remedy: "Send the request as RFC 9112 requires; check the client, and a proxy before the gateway.",
            },
            Self::AmbiguousTarget => ProblemSpec {
                code: "ambiguous-target",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request target can be read in more than one way",
                remedy: "Send the path in its plain form, without dot segments, encoded slashes, semicolons or empty segments.",
            },
            Self::MethodOverride => ProblemSpec {
                code: "method-override",
                status: StatusCode::BAD_REQUEST,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "A header asks for another method than the request line",
                remedy: "Send the intended method and path on the request line, and leave that header out.",
            },
            Self::UploadBroken => ProblemSpec {
                code: "upload-broken",
                status: StatusCode::BAD_REQUEST,
                deliveries: EITHER,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "The request body broke off",
                remedy: "Send the whole body. If it recurs, tell the customer and quote request_id.",
            },
            Self::PolicyRefused => ProblemSpec {
                code: "policy-refused",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The customer's policy does not allow this request",
                remedy: "If you need this, ask the customer to allow it and quote request_id.",
            },
            Self::ForeignIdentity => ProblemSpec {
                code: "foreign-identity",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The request tries to choose another identity",
                remedy: "Leave it out: the customer's agent logs in to Jira by itself.",
            },
            Self::HeadTimeout => ProblemSpec {
                code: "head-timeout",
                status: StatusCode::REQUEST_TIMEOUT,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: Some(1),
                title: "The request head was not complete in time",
                remedy: "Send it again, the head at once. If it recurs, tell the customer and quote request_id.",
            },
            Self::UploadStalled => ProblemSpec {
                code: "upload-stalled",
                status: StatusCode::REQUEST_TIMEOUT,
                deliveries: EITHER,
                proxy_error: "http_request_error",
                retry_after: Some(1),
                title: "The request body stopped moving",
                remedy: "Check whether it was carried out, then send it again without pauses. If it recurs, tell the customer and quote request_id.",
            },
            Self::FormBody => ProblemSpec {
                code: "form-body",
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "A form-encoded body could choose another identity and cannot be checked",
                remedy: "Send JSON or multipart, or a form of at most 64 KiB, uncompressed and in UTF-8, that names no identity.",
            },
            Self::TooManyRefusals => ProblemSpec {
                code: "too-many-refusals",
                status: StatusCode::TOO_MANY_REQUESTS,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: Some(60),
                title: "The agent refuses too many requests on this forward",
                remedy: "Stop sending requests that are refused; the detail explains this one. Allowed requests still pass.",
            },
            Self::HeadTooLarge => ProblemSpec {
                code: "head-too-large",
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "Request line and headers are too large",
                remedy: "Send less; long JQL fits into the body of POST /rest/api/2/search. If Jira needs such requests, ask the customer to accept them and quote request_id.",
            },
            Self::MethodRefused => ProblemSpec {
                code: "method-refused",
                status: StatusCode::NOT_IMPLEMENTED,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "CONNECT and TRACE are not served",
                remedy: "Use another method; the customer cannot allow these.",
            },
            Self::UpgradeRefused => ProblemSpec {
                code: "upgrade-refused",
                status: StatusCode::NOT_IMPLEMENTED,
                deliveries: NOT_SENT,
                proxy_error: "http_upgrade_failed",
                retry_after: None,
                title: "WebSocket and other protocols are not served",
                remedy: "Leave Upgrade out; Jira's REST interface needs no other protocol.",
            },
            Self::HttpVersion => ProblemSpec {
                code: "http-version",
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                deliveries: NOT_SENT,
                proxy_error: "http_request_error",
                retry_after: None,
                title: "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are served",
                remedy: "Make the client or health check use HTTP/1.1.",
            },
            Self::LoginFailed => ProblemSpec {
                code: "login-failed",
                status: StatusCode::BAD_GATEWAY,
                deliveries: "answered",
                proxy_error: "proxy_configuration_error",
                retry_after: None,
                title: "Jira rejected the agent's credential",
                remedy: "Tell the customer that their agent's login to Jira fails, and quote request_id.",
            },
            Self::JiraUnresolved => ProblemSpec {
                code: "jira-unresolved",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "dns_error",
                retry_after: Some(10),
                title: "Jira's name does not resolve",
                remedy: "Send it again after Retry-After. If it persists, tell the customer and quote request_id.",
            },
            Self::JiraUnreachable => ProblemSpec {
                code: "jira-unreachable",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(5),
                title: "Jira cannot be reached",
                remedy: "Send it again after Retry-After. If it persists, tell the customer and quote request_id.",
            },
            Self::JiraTls => ProblemSpec {
                code: "jira-tls",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "tls_protocol_error",
                retry_after: None,
                title: "No TLS connection with Jira",
                remedy: "Tell the customer, and quote request_id.",
            },
            Self::JiraBroke => ProblemSpec {
                code: "jira-broke",
                status: StatusCode::BAD_GATEWAY,
                deliveries: EITHER,
                proxy_error: "http_response_incomplete",
                retry_after: Some(1),
                title: "The connection to Jira broke before it answered",
                remedy: "If delivery is maybe_sent, check whether it was carried out before you send it again. If it recurs, tell the customer and quote request_id.",
            },
            Self::Overloaded => ProblemSpec {
                code: "overloaded",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "connection_limit_reached",
                retry_after: Some(1),
                title: "Too many requests at once",
                remedy: "Send it again after Retry-After, and fewer at once. If you need more at once, ask the customer.",
            },
            Self::JiraBusy => ProblemSpec {
                code: "jira-busy",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "connection_limit_reached",
                retry_after: Some(1),
                title: "All connections to Jira are busy",
                remedy: "Send it again after Retry-After, and fewer at once. If it recurs, tell the customer and quote request_id.",
            },
            Self::JiraUnavailable => ProblemSpec {
                code: "jira-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(1),
                title: "Jira does not answer now",
                remedy: "Send it again after Retry-After. If it persists, tell the customer and quote request_id.",
            },
            Self::JiraRateLimit => ProblemSpec {
                code: "jira-rate-limit",
                status: StatusCode::TOO_MANY_REQUESTS,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: Some(1),
                title: "Jira's rate limit is reached",
                remedy: "Send it again after Retry-After, and fewer at once. If you need more, ask the customer.",
            },
            Self::LoginUnavailable => ProblemSpec {
                code: "login-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "proxy_configuration_error",
                retry_after: Some(30),
                title: "The agent has no credential for Jira right now",
                remedy: "Send it again after Retry-After. If it persists, tell the customer that their agent has no credential for Jira, and quote request_id.",
            },
            Self::AuditUnavailable => ProblemSpec {
                code: "audit-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "proxy_internal_error",
                retry_after: Some(10),
                title: "The agent cannot write its audit",
                remedy: "Send it again after Retry-After. If it persists, tell the customer that their agent cannot write its audit, and quote request_id.",
            },
            Self::Paused => ProblemSpec {
                code: "paused",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(60),
                title: "The customer has paused this forward",
                remedy: "Wait, and send it again after Retry-After; the customer ends the pause.",
            },
            Self::Stopping => ProblemSpec {
                code: "agent-stopping",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: EITHER,
                proxy_error: "connection_terminated",
                retry_after: Some(30),
                title: "The agent stopped before Jira had answered",
                remedy: "Send it again after Retry-After; if delivery is maybe_sent, check first whether it was carried out.",
            },
            Self::JiraTimeout => ProblemSpec {
                code: "jira-timeout",
                status: StatusCode::GATEWAY_TIMEOUT,
                deliveries: EITHER,
                proxy_error: "http_response_timeout",
                retry_after: Some(5),
                title: "Jira did not take the request, or did not begin to answer, in time",
                remedy: "If delivery is maybe_sent, check whether it was carried out before you send it again. If it recurs, tell the customer and quote request_id.",
            },
            Self::SourceRefused => ProblemSpec {
                code: "source-refused",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "This client may not call the outlet",
                remedy: "Call from an address in sources of the outlet, with the secret of path_secret_file as the first segment of the path.",
            },
            Self::ContentTypeRefused => ProblemSpec {
                code: "content-type-refused",
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "A body of this type may not leave",
                remedy: "Add the type to content_types of the outlet if it may leave.",
            },
            Self::BodyTooLarge => ProblemSpec {
                code: "body-too-large",
                status: StatusCode::PAYLOAD_TOO_LARGE,
                deliveries: EITHER,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The body is longer than may leave",
                remedy: "Raise max_body of the outlet if such a body may leave.",
            },
            Self::TunnelDown => ProblemSpec {
                code: "tunnel-down",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(5),
                title: "No session to a gateway answers",
                remedy: "Send it again after Retry-After; agent status shows why the tunnel is down.",
            },
            Self::GatewayRefused => ProblemSpec {
                code: "gateway-refused",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "destination_ip_prohibited",
                retry_after: None,
                title: "The gateway does not permit this target",
                remedy: "Ask the vendor to permit the host and port of `to` at the gateway (PermitOpen).",
            },
            Self::VendorUnreachable => ProblemSpec {
                code: "vendor-unreachable",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(5),
                title: "The vendor's host cannot be reached",
                remedy: "Send it again after Retry-After. If it persists, tell the vendor.",
            },
            Self::VendorTls => ProblemSpec {
                code: "vendor-tls",
                status: StatusCode::BAD_GATEWAY,
                deliveries: NOT_SENT,
                proxy_error: "tls_protocol_error",
                retry_after: None,
                title: "No TLS connection with the vendor's host",
                remedy: "Check ca_file and server_name of the outlet, and tell the vendor.",
            },
            Self::VendorBroke => ProblemSpec {
                code: "vendor-broke",
                status: StatusCode::BAD_GATEWAY,
                deliveries: EITHER,
                proxy_error: "http_response_incomplete",
                retry_after: Some(1),
                title: "The connection to the vendor's host broke before it answered",
                remedy: "If delivery is maybe_sent, check whether it was carried out before you send it again. If it recurs, tell the vendor.",
            },
            Self::VendorBusy => ProblemSpec {
                code: "vendor-busy",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "connection_limit_reached",
                retry_after: Some(1),
                title: "All connections to the vendor's host are busy",
                remedy: "Send it again after Retry-After, and fewer at once.",
            },
            Self::VendorUnavailable => ProblemSpec {
                code: "vendor-unavailable",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "destination_unavailable",
                retry_after: Some(1),
                title: "The vendor's host does not answer now",
                remedy: "Send it again after Retry-After. If it persists, tell the vendor.",
            },
            Self::VendorRateLimit => ProblemSpec {
                code: "vendor-rate-limit",
                status: StatusCode::TOO_MANY_REQUESTS,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: Some(1),
                title: "The vendor's rate limit is reached",
                remedy: "Send it again after Retry-After, and fewer at once.",
            },
            Self::VendorTimeout => ProblemSpec {
                code: "vendor-timeout",
                status: StatusCode::GATEWAY_TIMEOUT,
                deliveries: EITHER,
                proxy_error: "http_response_timeout",
                retry_after: Some(5),
                title: "The vendor's host did not take the request, or did not begin to answer, in time",
                remedy: "If delivery is maybe_sent, check whether it was carried out before you send it again. If it recurs, tell the vendor.",
            },
            Self::QueueFull => ProblemSpec {
                code: "queue-full",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "proxy_internal_error",
                retry_after: Some(60),
                title: "The queue of the outlet is full",
                remedy: "Send it again after Retry-After. agent status shows why the vendor does not take events; max_queue of the outlet is the bound.",
            },
            Self::StoreFailed => ProblemSpec {
                code: "store-failed",
                status: StatusCode::SERVICE_UNAVAILABLE,
                deliveries: NOT_SENT,
                proxy_error: "proxy_internal_error",
                retry_after: Some(10),
                title: "The event cannot be stored now",
                remedy: "Send it again after Retry-After. If it persists, look up this request_id in the agent's audit; its cause names the disk or file.",
            },
            Self::SignatureRefused => ProblemSpec {
                code: "signature-refused",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "The body is not signed with Jira's webhook secret",
                remedy: "Enter the secret of jira_secret_file in the webhook's settings in Jira.",
            },
            Self::ScopeRefused => ProblemSpec {
                code: "scope-refused",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "This event may not leave",
                remedy: "Add its project to projects, or its kind to events, of the section scope of the outlet if it may leave.",
            },
            Self::ScopeUndecidable => ProblemSpec {
                code: "scope-undecidable",
                status: StatusCode::FORBIDDEN,
                deliveries: NOT_SENT,
                proxy_error: "http_request_denied",
                retry_after: None,
                title: "What this event belongs to cannot be read from it",
                remedy: "Register the webhook for events that name their project, and with a body. Without a scope, every event leaves that allow lets pass.",
            },
        }
    }
}

const NOT_SENT: &str = "not_sent";
const EITHER: &str = "not_sent, maybe_sent";
