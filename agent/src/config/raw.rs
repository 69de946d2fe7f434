//! Every key of the file with its type, default and range. No checks happen here.
//!
//! The doc comments are the configuration reference (`agent config reference`); ranges and defaults are checked and
//! shown. Limits of another room take their defaults from its type.

use super::{
    keys::in_order,
    units::{HumanDuration, HumanSize},
};
use crate::{http, tunnel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// The whole file as written: the keys above the first section, and the sections.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawConfig>)]
pub struct RawConfig {
    /// Folder for data that must survive a restart. systemd's `STATE_DIRECTORY` takes precedence.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Folder of the socket through which `agent status` and the other commands reach the running agent. systemd's
    /// `RUNTIME_DIRECTORY` takes precedence.
    #[serde(default = "runtime_dir")]
    pub runtime_dir: PathBuf,
    /// The connection to the gateways.
    pub tunnel: RawTunnel,
    /// One service to make reachable. Repeat the section for each service; at least one is required.
    #[serde(default)]
    pub forward: Vec<RawForward>,
    /// The record of every request, allowed or refused.
    #[serde(default)]
    pub audit: RawAudit,
    /// The agent's own log.
    #[serde(default)]
    pub log: RawLog,
}

/// The section `[tunnel]` as written.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawTunnel>)]
pub struct RawTunnel {
    /// SSH gateways as `host:port`, IPv6 addresses in brackets; `tls://host:port` for SSH inside TLS. Connections are
    /// spread over them.
    pub gateways: Vec<String>,
    /// User name on the gateway.
    pub user: String,
    /// OpenSSH private key. A certificate beside it (`<name>-cert.pub`) is used.
    pub identity_file: String,
    /// File with the passphrase of the private key, if it has one.
    pub identity_passphrase_file: Option<String>,
    /// Accepted host keys as SHA256 fingerprints, as `ssh-keygen -lf` prints them. Either this or `known_hosts_file` is
    /// required.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// OpenSSH known_hosts file with the accepted host keys. Hashed names and `@cert-authority` lines are supported.
    pub known_hosts_file: Option<String>,
    /// PEM file with the only CA certificates trusted for `tls://` gateways. Without it: those of the operating system.
    pub gateway_ca_file: Option<String>,
    /// Proxy to the gateways: `http://host:port` (HTTP CONNECT), `socks5://host:port`, or `environment` to use
    /// `HTTPS_PROXY`, else `ALL_PROXY`, with `NO_PROXY`. Without it the agent connects directly and ignores these
    /// variables.
    pub proxy: Option<String>,
    /// User name at the proxy.
    pub proxy_username: Option<String>,
    /// File with the password at the proxy. Read for each connection.
    pub proxy_password_file: Option<String>,
    /// Gateways reached without the proxy: hosts, domains (including subdomains), addresses, or networks like
    /// `10.0.0.0/8`.
    #[serde(default)]
    pub no_proxy: Vec<String>,
    /// Number of SSH sessions to keep open. If a forward binds a socket path and this key is missing: at most one for
    /// each gateway, because on one OpenSSH server a later session takes the socket from an earlier one.
    #[serde(default = "count::<2>")]
    #[schemars(range(min = 1, max = 16))]
    pub connections: u32,
    /// Time to resolve and connect, for each address; and again for the proxy's answer and for TLS with a gateway.
    #[serde(default = "secs::<15>")]
    #[schemars(extend("x-min" = "100ms", "x-max" = "5m"))]
    pub connect_timeout: HumanDuration,
    /// Time for SSH banner, key exchange and authentication together.
    #[serde(default = "secs::<30>")]
    #[schemars(extend("x-min" = "1s", "x-max" = "5m"))]
    pub login_timeout: HumanDuration,
    /// Time between SSH keep-alives, which the gateway must answer.
    #[serde(default = "secs::<15>")]
    #[schemars(extend("x-min" = "1s", "x-max" = "10m"))]
    pub keepalive_interval: HumanDuration,
    /// Unanswered keep-alives after which the session counts as lost.
    #[serde(default = "count::<3>")]
    #[schemars(range(min = 2, max = 100))]
    pub keepalive_max: u32,
    /// A session is aborted if for this long it receives nothing, or the kernel accepts nothing that it sends. Longer
    /// than `keepalive_interval`.
    #[serde(default = "secs::<60>")]
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub stall_timeout: HumanDuration,
    /// How long a session may be silent before the agent sends a probe that the gateway answers; half a second while
    /// data is in flight.
    #[serde(default = "secs::<5>")]
    #[schemars(extend("x-min" = "100ms", "x-max" = "10m"))]
    pub probe_interval: HumanDuration,
    /// Time for the answer to a probe. After it, status shows the gateway as silent. After five times as long without
    /// any data received, the session ends. Raise it where a link loses everything for seconds at a time. A shorter
    /// `stall_timeout` takes precedence.
    #[serde(default = "secs::<4>")]
    #[schemars(extend("x-min" = "500ms", "x-max" = "10m"))]
    pub probe_timeout: HumanDuration,
    /// How long requests in flight may continue when the agent stops; then they are aborted. Before systemd 236, more
    /// than 45 s also needs a longer `TimeoutStopSec` in the unit.
    #[serde(default = "secs::<30>")]
    #[schemars(extend("x-min" = "0s", "x-max" = "1h"))]
    pub drain_limit: HumanDuration,
    /// Forwarded channels open at the same time in a session; more are refused.
    #[serde(default = "count::<1024>")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_channels: u32,
    /// Limits for data waiting to be sent on one session.
    #[serde(default)]
    pub transport: RawTransport,
    /// Limits for data received and not yet consumed, per channel and session.
    #[serde(default)]
    pub channel: RawChannel,
}

/// The section `[tunnel.transport]` as written.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = in_order::<RawTransport>)]
pub struct RawTransport {
    /// Channels pause once this many bytes wait to be sent. On a slow link the agent lowers the mark itself, to 128 KiB
    /// at least.
    #[schemars(extend("x-min" = "64KiB", "x-max" = "1GiB"))]
    pub high_mark: HumanSize,
    /// Channels resume once this many bytes wait to be sent. Less than `high_mark`.
    #[schemars(extend("x-min" = "1KiB", "x-max" = "1GiB"))]
    pub low_mark: HumanSize,
    /// The session ends once this many bytes wait to be sent. More than `high_mark`.
    #[schemars(extend("x-min" = "1MiB", "x-max" = "4GiB"))]
    pub cap: HumanSize,
    /// Size of the read buffer of a session.
    #[schemars(extend("x-min" = "4KiB", "x-max" = "16MiB"))]
    pub read_buffer: HumanSize,
    /// How long a closing session may continue without the kernel accepting a byte.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1m"))]
    pub shutdown_grace: HumanDuration,
}

/// The section `[tunnel.channel]` as written.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = in_order::<RawChannel>)]
pub struct RawChannel {
    /// SSH window: bytes the gateway may have in flight on one channel. One upload moves at most this much per round
    /// trip (1 MiB: 20 MiB/s at 50 ms). The gateway may buffer as much for each channel, which costs speed.
    #[schemars(extend("x-min" = "64KiB", "x-max" = "64MiB"))]
    pub window: HumanSize,
    /// Bytes of a channel kept in memory before its spool file is used. Data on its way to the file adds at most 8 MiB.
    #[schemars(extend("x-min" = "4KiB", "x-max" = "1GiB"))]
    pub memory: HumanSize,
    /// Bytes that all channels of a session may keep in memory together. Beyond it each channel gets 64 KiB and the
    /// spool file. At least `memory`.
    #[schemars(extend("x-min" = "1MiB", "x-max" = "64GiB"))]
    pub memory_per_session: HumanSize,
    /// Size of the spool file of a channel; beyond it the channel is reset. At least the largest upload that must
    /// survive while Jira does not read.
    #[schemars(extend("x-min" = "0", "x-max" = "1024GiB"))]
    pub spool_per_channel: HumanSize,
    /// Memory and spool of all channels of a session together. At least `memory_per_session`.
    #[schemars(extend("x-min" = "1MiB", "x-max" = "16384GiB"))]
    pub spool_per_session: HumanSize,
    /// Space that spool files leave free on their disk, for audit, tokens and pauses; on a disk smaller than ten times
    /// this, a tenth of it. Below it, only a channel that needs more space is reset.
    #[schemars(extend("x-min" = "0", "x-max" = "1024GiB"))]
    pub spool_min_free: HumanSize,
    /// Folder of the spool files, which have no name and disappear with the agent. Without it: `spool` in the state
    /// folder. Must exist, unless it is in the state folder. Avoid file systems in memory.
    pub spool_dir: Option<PathBuf>,
    /// How long the gateway may take to close a channel that the agent has ended. Then the agent closes it.
    #[schemars(extend("x-min" = "100ms", "x-max" = "5m"))]
    pub close_wait: HumanDuration,
    /// Bytes still received and discarded on a channel that is no longer read, before the agent closes it.
    #[schemars(extend("x-min" = "0", "x-max" = "1GiB"))]
    pub discard: HumanSize,
    /// Time for one read or write of a spool file; then its channel is reset.
    #[schemars(extend("x-min" = "100ms", "x-max" = "10m"))]
    pub spool_timeout: HumanDuration,
}

/// One section `[[forward]]` as written.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawForward>)]
pub struct RawForward {
    /// Name of this forward in status, logs and audit: letters, digits, `-`, `_`; unique.
    pub name: String,
    /// Where the gateway listens: `host:port` (port 0: the gateway chooses), or the absolute path of a Unix socket on
    /// the gateway. Unique.
    pub bind: String,
    /// Jira's URL with its context path: `https://jira.corp.example/jira`. Or `tcp://host:port`, which forwards bytes
    /// unchanged, without policy, authentication or audit of requests.
    pub upstream: String,
    /// Connect to this address (`ip` or `ip:port`) instead of resolving the host of `upstream`.
    pub address: Option<String>,
    /// Trusted CA certificates: those of the operating system (`system`), Mozilla's list built into the agent
    /// (`webpki`), or only `ca_file` (`none`).
    #[serde(default)]
    pub roots: RawRoots,
    /// PEM file with CA certificates to trust in addition to `roots`.
    pub ca_file: Option<String>,
    /// PEM file with the client certificate to present, leaf first.
    pub client_certificate_file: Option<String>,
    /// PEM file with the private key of the client certificate.
    pub client_key_file: Option<String>,
    /// Name to send (SNI) and to verify in TLS instead of the host of `upstream`.
    pub server_name: Option<String>,
    /// Connections to this Jira open at the same time.
    #[serde(default = "count::<64>")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_connections: u32,
    /// How long a request may wait for one of them.
    #[serde(default = "secs::<10>")]
    #[schemars(extend("x-min" = "0s", "x-max" = "5m"))]
    pub pool_wait: HumanDuration,
    /// An idle connection to Jira is closed after this time. Less than Jira's own limit, 20 s in Tomcat.
    #[serde(default = "secs::<15>")]
    #[schemars(extend("x-min" = "0s", "x-max" = "10m"))]
    pub idle_timeout: HumanDuration,
    /// Time to resolve, connect and complete the TLS handshake.
    #[serde(default = "secs::<10>")]
    #[schemars(extend("x-min" = "100ms", "x-max" = "5m"))]
    pub connect_timeout: HumanDuration,
    /// Time for the head of Jira's response, from the last byte of the request that Jira accepted. An upload that makes
    /// progress extends it.
    #[serde(default = "secs::<120>")]
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub response_timeout: HumanDuration,
    /// `tcp://` only: a connection on which neither side moves a byte for this long is closed.
    #[serde(default = "secs::<3600>")]
    #[schemars(extend("x-min" = "1s", "x-max" = "7days"))]
    pub tcp_idle_timeout: HumanDuration,
    /// How requests authenticate to Jira.
    #[serde(default)]
    pub auth: RawAuth,
    /// What the vendor may do: nothing, unless you allow it here.
    #[serde(default)]
    pub policy: RawPolicy,
    /// Which of the vendor's headers reach Jira.
    #[serde(default)]
    pub headers: RawHeaders,
    /// Limits for the vendor's HTTP requests.
    #[serde(default)]
    pub http: RawHttp,
}

/// The section `[forward.auth]` as written.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawAuth>)]
pub struct RawAuth {
    /// `pass-through` leaves the vendor's own credential untouched. The other modes remove it and insert a credential
    /// that never leaves your network.
    #[serde(default)]
    pub mode: RawAuthMode,
    /// Mode `basic`: Jira user name, without a colon.
    pub username: Option<String>,
    /// Mode `basic`: file with the password.
    pub password_file: Option<String>,
    /// Mode `pat`: file with the personal access token. Mode `api-token`: file with the API token.
    pub token_file: Option<String>,
    /// Mode `api-token`: email address of the Atlassian account that the API token belongs to.
    pub email: Option<String>,
    /// Mode `api-token`: whether the API token has scopes. Cloud accepts such a token only at its API gateway, which
    /// then receives the requests instead of `upstream`. Without it: `false`.
    pub scoped: Option<bool>,
    /// Modes `api-token` and `oauth2`, behind Cloud's API gateway: id of the site. Without it the agent asks the site
    /// (`/_edge/tenant_info`).
    pub cloud_id: Option<String>,
    /// Modes `api-token` and `oauth2`: Cloud's API gateway. Without it: `https://api.atlassian.com`.
    pub api_url: Option<String>,
    /// Mode `oauth2`: id of the client, as shown by the application link (Cloud: by the developer console).
    pub client_id: Option<String>,
    /// Mode `oauth2`: file with the client secret.
    pub client_secret_file: Option<String>,
    /// Mode `oauth2`: `authorization_code`, with one `agent login` by a person, or `client_credentials`, for a Data
    /// Center service account.
    pub grant: Option<RawGrantType>,
    /// Mode `oauth2`: scopes of the token, separated by spaces. Without it: `WRITE`; for Cloud `read:jira-work
    /// write:jira-work read:jira-user offline_access`.
    pub scope: Option<String>,
    /// Mode `oauth2`: where the browser is sent after consent, exactly as registered with the client. Without it:
    /// `https://localhost/jira-tunnel-agent`, where nothing listens; paste the address into `agent login`. On
    /// `http://127.0.0.1:<port>/…` the command itself listens.
    pub redirect_uri: Option<String>,
    /// Mode `oauth2`: file with a first refresh token, for hosts without `agent login`. Read again when it changes; its
    /// token is valid for one use.
    pub refresh_token_file: Option<String>,
    /// Mode `oauth2`: authorization endpoint. Without it: the upstream's `/rest/oauth2/latest/authorize`; for Cloud
    /// `https://auth.atlassian.com/authorize`.
    pub authorize_url: Option<String>,
    /// Mode `oauth2`: token endpoint. Without it: the upstream's `/rest/oauth2/latest/token`; for Cloud
    /// `https://auth.atlassian.com/oauth/token`.
    pub token_url: Option<String>,
    /// Mode `oauth2`: the API that the token is for. Without it: none; for Cloud `api.atlassian.com`.
    pub audience: Option<String>,
    /// Mode `oauth1`: consumer key of Jira's application link.
    pub consumer_key: Option<String>,
    /// Mode `oauth1`: PEM file with the RSA private key whose public key is in the application link; `agent login
    /// --new-key` creates one.
    pub private_key_file: Option<String>,
    /// Mode `oauth1`: file with an access token. Without it, and without `two_legged`, the token of `agent login` is
    /// used.
    pub access_token_file: Option<String>,
    /// Mode `oauth1`: send requests without an access token, as the user named in the application link.
    pub two_legged: Option<bool>,
    /// Mode `oauth1`: Jira's URL as its own Tomcat sees it, if a proxy in front changes scheme, host, port or context
    /// path. Signatures cover it.
    pub signed_base_url: Option<String>,
    /// Modes `pat` and `api-token`: the day on which the token expires, like `2027-01-31`, if Jira does not report it
    /// (see `agent status`; Cloud never does). Used for warnings only.
    pub expires: Option<String>,
}

/// The section `[forward.policy]` as written.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawPolicy>)]
pub struct RawPolicy {
    /// Predefined sets of rules: `ticketing`, `read-only`, `oauth-dance` and others; `docs/policy.md` lists them with
    /// their rules.
    #[serde(default)]
    pub presets: Vec<String>,
    /// Rules like `POST /rest/api/2/issue/bulk`: `METHOD[,METHOD]` or `*`, then a path pattern without the context
    /// path. In it `*` matches one segment and `**` the rest.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Rules of the same form. They win over every preset and every `allow`.
    #[serde(default)]
    pub deny: Vec<String>,
}

/// The section `[forward.headers]` as written.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawHeaders>)]
pub struct RawHeaders {
    /// Names of headers that reach Jira in addition to those known to be harmless, like `X-Vendor-Tenant`; at most 32.
    /// Not with `pass-through`, which passes all. Names that frame the request or carry an identity are refused.
    #[serde(default)]
    pub pass: Vec<String>,
}

/// The section `[forward.http]` as written.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = in_order::<RawHttp>)]
pub struct RawHttp {
    /// Bytes of request line and headers together; larger heads are answered 431.
    #[schemars(extend("x-min" = "8KiB", "x-max" = "1MiB"))]
    pub max_head: HumanSize,
    /// Time for a request head, from its first byte; slower ones are answered 408.
    #[schemars(extend("x-min" = "1s", "x-max" = "10m"))]
    pub head_timeout: HumanDuration,
    /// How long a kept-alive connection of the vendor may stay without a request.
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub idle_timeout: HumanDuration,
    /// A body without progress for this long is aborted. A body that makes progress has no deadline.
    #[schemars(extend("x-min" = "1s", "x-max" = "1h"))]
    pub stall_timeout: HumanDuration,
    /// Lowest rate in bytes per second at which the vendor must send a body or read a response; slower transfers are
    /// aborted. Averaged over five `stall_timeout` of waiting for the vendor; Jira may be slower. The default lets 64
    /// transfers share a link of 64 kbit/s. `0` sets no limit.
    #[schemars(extend("x-min" = "0", "x-max" = "1MiB"))]
    pub min_body_rate: HumanSize,
    /// Requests in flight on this forward; more are answered 503 with `Retry-After`.
    #[schemars(range(min = 1, max = 65536))]
    pub max_concurrent: u32,
    /// Requests per minute that policy or framing may refuse with an answer and an audit line each. More are answered
    /// 429 with `Retry-After`, and one audit line counts them. Allowed requests do not count.
    #[schemars(range(min = 1, max = 1000000))]
    pub refusals_per_minute: u32,
}

/// The section `[audit]` as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawAudit>)]
pub struct RawAudit {
    /// Where records go: the systemd `journal` (standard error if there is none), `file`, or `off`. `auto` is the
    /// journal where it drops nothing, as under the packaged unit with systemd 240 and later. Otherwise it is
    /// `audit.log` in systemd's folder for logs, in `/var/log/jira-tunnel-agent`, or in the state folder; standard
    /// error without a journal. `agent status` shows which, and why.
    #[serde(default)]
    pub sink: RawSink,
    /// With `sink = "file"`: absolute path of the file to which JSON lines are appended.
    pub file: Option<PathBuf>,
    /// Records that may wait to be written; more are dropped and counted. With `required`, at least the requests that
    /// all forwards may have in flight (`max_concurrent`).
    #[serde(default = "count::<8192>")]
    #[schemars(range(min = 16, max = 1048576))]
    pub queue: u32,
    /// Whether no request may reach Jira without its record. While no record can be written, requests are answered 503
    /// `audit-unavailable` before any part of them is sent.
    #[serde(default)]
    pub required: bool,
    /// Space that an audit file leaves free on its disk, for tokens and pauses; on a disk smaller than twenty times
    /// this, a twentieth of it. Below it nothing is written.
    #[serde(default = "mebibytes::<64>")]
    #[schemars(extend("x-min" = "0", "x-max" = "1024GiB"))]
    pub min_free: HumanSize,
}

/// The section `[log]` as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = in_order::<RawLog>)]
pub struct RawLog {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`; also per module, like `info,agent::tunnel=debug`. It applies
    /// to the agent itself. Libraries log errors only, at most 20 lines a minute, and the SSH library nothing, unless
    /// named (`info,russh=debug,h2=debug`) or at level `trace`.
    #[serde(default = "level")]
    pub level: String,
    /// Format of log lines. `auto`: `human` on a terminal, `journald` under systemd, `json` otherwise.
    #[serde(default)]
    pub format: RawLogFormat,
}

/// Values of the key `roots`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RawRoots {
    #[default]
    System,
    Webpki,
    None,
}

/// Values of the key `mode`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum RawAuthMode {
    #[default]
    PassThrough,
    Basic,
    Pat,
    #[serde(rename = "oauth2")]
    OAuth2,
    ApiToken,
    #[serde(rename = "oauth1")]
    OAuth1,
}

/// Values of the key `grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RawGrantType {
    AuthorizationCode,
    ClientCredentials,
}

/// Values of the key `sink`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RawSink {
    #[default]
    Auto,
    Journal,
    File,
    Off,
}

/// Values of the key `format`.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum RawLogFormat {
    #[default]
    Auto,
    Human,
    Json,
    Journald,
}

impl Default for RawTransport {
    fn default() -> Self {
        let bounds = tunnel::transport::TransportLimits::default();
        Self {
            high_mark: size(bounds.high_mark),
            low_mark: size(bounds.low_mark),
            cap: size(bounds.cap),
            read_buffer: size(bounds.read_buffer),
            shutdown_grace: HumanDuration(bounds.shutdown_grace),
        }
    }
}

impl Default for RawChannel {
    fn default() -> Self {
        let bounds = tunnel::channel::ChannelLimits::default();
        Self {
            window: HumanSize(bounds.window.into()),
            memory: size(bounds.memory),
            memory_per_session: size(bounds.memory_per_session),
            spool_per_channel: HumanSize(bounds.spool_per_channel),
            spool_per_session: HumanSize(bounds.spool_per_session),
            spool_min_free: HumanSize(bounds.spool_floor.bytes),
            spool_dir: None,
            close_wait: HumanDuration(bounds.close_wait),
            discard: HumanSize(bounds.discard),
            spool_timeout: HumanDuration(bounds.spool_timeout),
        }
    }
}

impl Default for RawHttp {
    fn default() -> Self {
        let bounds = http::HttpLimits::default();
        Self {
            max_head: size(bounds.max_head),
            head_timeout: HumanDuration(bounds.head_timeout),
            idle_timeout: HumanDuration(bounds.idle_timeout),
            stall_timeout: HumanDuration(bounds.stall_timeout),
            min_body_rate: HumanSize(bounds.min_body_rate),
            max_concurrent: u32::try_from(bounds.max_concurrent).unwrap_or(u32::MAX),
            refusals_per_minute: bounds.refusals_per_minute,
        }
    }
}

impl Default for RawAudit {
    fn default() -> Self {
        Self {
            sink: RawSink::default(),
            file: None,
            queue: count::<8192>(),
            required: false,
            min_free: mebibytes::<64>(),
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            level: level(),
            format: RawLogFormat::default(),
        }
    }
}

/// The state folder of the package, and the default.
pub fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/jira-tunnel-agent")
}

/// The runtime folder of the package, and the default.
pub fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/jira-tunnel-agent")
}

fn level() -> String {
    "info".to_owned()
}

fn size(bytes: usize) -> HumanSize {
    HumanSize(bytes as u64)
}

fn count<const N: u32>() -> u32 {
    N
}

fn mebibytes<const N: u64>() -> HumanSize {
    HumanSize(N << 20)
}

fn secs<const N: u64>() -> HumanDuration {
    HumanDuration(Duration::from_secs(N))
}
