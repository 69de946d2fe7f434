//! Every key of the file with its type, default and range. No checks happen here.
//!
//! The doc comments are the configuration reference (`agent config reference`); ranges and defaults are checked and
//! shown. Limits of another room take their defaults from its type.

use super::{
    keys::{choices, sections},
    units::{HumanDuration, HumanSize},
};
use crate::{
    http::HttpLimits,
    tunnel::{channel::ChannelLimits, transport::TransportLimits},
};
use std::{path::PathBuf, time::Duration};

sections! {
    /// The whole file as written: the keys above the first section, and the sections.
    pub struct RawConfig {
        /// Folder for data that must survive a restart. systemd's `STATE_DIRECTORY` takes precedence.
        state_dir: PathBuf = state_dir();
        /// Folder of the socket through which `agent status` and the other commands reach the running agent.
        /// systemd's `RUNTIME_DIRECTORY` takes precedence.
        runtime_dir: PathBuf = runtime_dir();
        @sections
        /// The connection to the gateways.
        tunnel: RawTunnel;
        /// One service to make reachable. Repeat the section for each service; at least one is required.
        forward: Vec<RawForward>;
        /// One way out for requests of Jira to the vendor, through the same tunnel: a listener on this host. Off unless
        /// configured; see `docs/outlets.md`.
        outlet: Vec<RawOutlet>;
        /// The record of every request, allowed or refused.
        audit: RawAudit;
        /// The agent's own log.
        log: RawLog;
    }

    /// The section `[tunnel]` as written.
    pub struct RawTunnel {
        /// SSH gateways as `host:port`, IPv6 addresses in brackets; `tls://host:port` for SSH inside TLS. Connections
        /// are spread over them.
        gateways: Vec<String>;
        /// User name on the gateway.
        user: String;
        /// OpenSSH private key. A certificate beside it (`<name>-cert.pub`) is used.
        identity_file: String;
        /// File with the passphrase of the private key, if it has one.
        identity_passphrase_file: Option<String>;
        /// Accepted host keys as SHA256 fingerprints, as `ssh-keygen -lf` prints them. Either this or
        /// `known_hosts_file` is required.
        host_keys: Vec<String> = Vec::new();
        /// OpenSSH known_hosts file with the accepted host keys. Hashed names and `@cert-authority` lines are
        /// supported.
        known_hosts_file: Option<String>;
        /// PEM file with the only CA certificates trusted for `tls://` gateways. Without it: those of the operating
        /// system.
        gateway_ca_file: Option<String>;
        /// Proxy to the gateways: `http://host:port` (HTTP CONNECT), `socks5://host:port`, or `environment` to use
        /// `HTTPS_PROXY`, else `ALL_PROXY`, with `NO_PROXY`. Without it the agent connects directly and ignores these
        /// variables.
        proxy: Option<String>;
        /// User name at the proxy.
        proxy_username: Option<String>;
        /// File with the password at the proxy. Read for each connection.
        proxy_password_file: Option<String>;
        /// Gateways reached without the proxy: hosts, domains (including subdomains), addresses, or networks like
        /// `10.0.0.0/8`.
        no_proxy: Vec<String> = Vec::new();
        /// Number of SSH sessions to keep open; one for each gateway where there are more gateways, so that the loss of
        /// one needs no new session. With `{slot}` in a `bind`, one number of `slots` then stays free where it has more
        /// than two. If this key is missing and a forward binds a socket path without `{slot}`: one for each gateway,
        /// because on one OpenSSH server a later session takes the socket from an earlier one.
        connections: u32 = 2, 1..=16;
        /// Slot numbers of this host, for a `bind` with `{slot}`: first and last, like `0-3`. Each session takes one,
        /// and a new session never one that an old session still has. A second host of the same customer needs other
        /// numbers, like `4-7`. Without this key: two for each of `connections`, from 0; `0-3` if that is missing too.
        slots: Option<String>;
        /// Time to resolve and connect, for each address; and again for the proxy's answer and for TLS with a
        /// gateway.
        connect_timeout: HumanDuration = secs(15), "100ms"..="5m";
        /// Time for SSH banner, key exchange and authentication together. If the other host (the gateway's, or the
        /// proxy's) acknowledges nothing for two `probe_timeout` or 20 round trips, the attempt ends sooner.
        login_timeout: HumanDuration = secs(30), "1s"..="5m";
        /// Accepted without effect: probes replace SSH keep-alives (`probe_interval`).
        keepalive_interval: HumanDuration = secs(15), "1s"..="10m";
        /// Accepted without effect, like `keepalive_interval`.
        keepalive_max: u32 = 3, 2..=100;
        /// The last net below `probe_timeout`: a session is aborted if for this long the kernel accepts nothing that
        /// it sends. If the gateway's kernel acknowledges nothing for 20 `probe_timeout`, the connection ends too.
        stall_timeout: HumanDuration = secs(120), "1s"..="1h";
        /// How long a session at rest may be silent before the agent sends a probe that the gateway answers. If
        /// something that was sent stays unanswered, a probe follows after 1 s or four round trips, the longer of both.
        probe_interval: HumanDuration = HumanDuration(Duration::from_millis(2500)), "100ms"..="10m";
        /// Shortest time for the answer to a probe; at rest at least the shorter of `probe_interval` and 2.5 s. It
        /// grows by itself to eight measured round trips. After one missing answer the session is *suspect*, after the
        /// second it ends. Raise it where a link loses everything for seconds at a time.
        probe_timeout: HumanDuration = HumanDuration(Duration::from_millis(1600)), "500ms"..="10m";
        /// TCP congestion control for data to a gateway that is not near, as the kernel names it: `bbr`, `cubic`. Where
        /// the kernel does not have it, or does not allow it to everyone, it uses its own choice. `system`: always that.
        congestion_control: String = "bbr".to_owned();
        /// How long requests in flight may continue when the agent stops; then they are aborted. Before systemd 236,
        /// more than 45 s also needs a longer `TimeoutStopSec` in the unit.
        drain_limit: HumanDuration = secs(30), "0s"..="1h";
        /// Forwarded channels open at the same time in a session; more are refused.
        max_channels: u32 = 1024, 1..=65536;
        @sections
        /// Limits for data waiting to be sent on one session.
        transport: RawTransport;
        /// Limits for data received and not yet consumed, per channel and session.
        channel: RawChannel;
    }

    /// The section `[tunnel.transport]` as written.
    pub struct RawTransport {
        /// Channels pause once this many bytes wait to be sent. On a slow link the agent lowers the mark itself, to
        /// 128 KiB at least.
        high_mark: HumanSize = size(TransportLimits::default().high_mark), "64KiB"..="1GiB";
        /// Channels resume once this many bytes wait to be sent. Less than `high_mark`.
        low_mark: HumanSize = size(TransportLimits::default().low_mark), "1KiB"..="1GiB";
        /// The session ends once this many bytes wait to be sent. More than `high_mark`.
        cap: HumanSize = size(TransportLimits::default().cap), "1MiB"..="4GiB";
        /// Size of the read buffer of a session.
        read_buffer: HumanSize = size(TransportLimits::default().read_buffer), "4KiB"..="16MiB";
        /// How long a closing session may continue without the kernel accepting a byte; twice this without the other end acknowledging one.
        shutdown_grace: HumanDuration = HumanDuration(TransportLimits::default().shutdown_grace), "100ms"..="1m";
    }

    /// The section `[tunnel.channel]` as written.
    pub struct RawChannel {
        /// SSH window: bytes the gateway may have in flight on one channel. One upload moves at most half of it per
        /// round trip (4 MiB: 20 MiB/s at 100 ms), and the gateway may buffer all of it. Without it, by the round trip to
        /// the gateway when the session is opened: 1 MiB below 2 ms, else enough for 4 Gbit/s, 4 MiB to 16 MiB.
        window: Option<HumanSize> = None, "64KiB"..="64MiB";
        /// Bytes of a channel kept in memory before its spool file is used. Data on its way to the file adds at most
        /// 8 MiB.
        memory: HumanSize = size(ChannelLimits::default().memory), "4KiB"..="1GiB";
        /// Bytes that all channels of a session may keep in memory together. Beyond it each channel gets 96 KiB and
        /// the spool file. At least `memory`. Whichever of this and `memory_per_process` is reached first applies.
        memory_per_session: HumanSize = size(ChannelLimits::default().memory_per_session), "1MiB"..="64GiB";
        /// The same for all channels of all sessions.
        memory_per_process: HumanSize = size(ChannelLimits::default().memory_per_process), "1MiB"..="64GiB";
        /// Size of the spool file of a channel; beyond it the channel is reset. At least the largest upload that must
        /// survive while Jira does not read.
        spool_per_channel: HumanSize = HumanSize(ChannelLimits::default().spool_per_channel), "0"..="1024GiB";
        /// Memory and spool of all channels of a session together. At least `memory_per_session`.
        spool_per_session: HumanSize = HumanSize(ChannelLimits::default().spool_per_session), "1MiB"..="16384GiB";
        /// Memory and spool of all channels of all sessions together: the disk space that uploads may take.
        spool_per_process: HumanSize = HumanSize(ChannelLimits::default().spool_per_process), "1MiB"..="16384GiB";
        /// Space that spool files leave free on their disk, for audit, tokens and pauses; on a disk smaller than ten
        /// times this, a tenth of it. Below it, only a channel that needs more space is reset.
        spool_min_free: HumanSize = HumanSize(ChannelLimits::default().spool_floor.bytes), "0"..="1024GiB";
        /// Folder of the spool files, which have no name and disappear with the agent. Without it: `spool` in the
        /// state folder. Must exist, unless it is in the state folder. Avoid file systems in memory.
        spool_dir: Option<PathBuf>;
        /// How long the gateway may take to close a channel that the agent has ended. Then the agent closes it.
        close_wait: HumanDuration = HumanDuration(ChannelLimits::default().close_wait), "100ms"..="5m";
        /// Bytes still received and discarded on a channel that is no longer read, before the agent closes it.
        discard: HumanSize = HumanSize(ChannelLimits::default().discard), "0"..="1GiB";
        /// Time for one read or write of a spool file; then its channel is reset.
        spool_timeout: HumanDuration = HumanDuration(ChannelLimits::default().spool_timeout), "100ms"..="10m";
    }

    /// One section `[[forward]]` as written.
    pub struct RawForward {
        /// Name of this forward in status, logs and audit: letters, digits, `-`, `_`; unique.
        name: String;
        /// Where the gateway listens: `host:port` (port 0: the gateway chooses), or the absolute path of a Unix
        /// socket on the gateway. Unique. With a slot, each connection listens at an address of its own:
        /// `/s/jira-{slot}.sock`, or `127.0.0.1:{8080+slot}` for the ports from 8080.
        bind: String;
        /// Jira's URL with its context path: `https://jira.corp.example/jira`. Or `tcp://host:port`, which forwards
        /// bytes unchanged, without policy, authentication or audit of requests.
        upstream: String;
        /// What is behind `upstream`: `jira`, another profile (`docs/tools.md` lists them), one of your own in the folder
        /// `profiles` beside this file, or `http`.
        service: String = "jira".to_owned();
        /// Connect to this address (`ip` or `ip:port`) instead of resolving the host of `upstream`.
        address: Option<String>;
        /// Trusted CA certificates: those of the operating system (`system`), Mozilla's list built into the agent
        /// (`webpki`), or only `ca_file` (`none`).
        roots: RawRoots = RawRoots::default();
        /// PEM file with CA certificates to trust in addition to `roots`.
        ca_file: Option<String>;
        /// PEM file with the client certificate to present, leaf first.
        client_certificate_file: Option<String>;
        /// PEM file with the private key of the client certificate.
        client_key_file: Option<String>;
        /// Name to send (SNI) and to verify in TLS instead of the host of `upstream`.
        server_name: Option<String>;
        /// Connections to this Jira open at the same time; fewer requests at once while Jira is slow.
        max_connections: u32 = 64, 1..=1024;
        /// How long a request may wait for one of them. It is answered sooner if none will be free in this time.
        pool_wait: HumanDuration = secs(10), "0s"..="5m";
        /// An idle connection to Jira is closed after this time. Less than Jira's own limit, 20 s in Tomcat.
        idle_timeout: HumanDuration = secs(15), "0s"..="10m";
        /// Time to resolve, connect and complete the TLS handshake.
        connect_timeout: HumanDuration = secs(10), "100ms"..="5m";
        /// Time for the head of Jira's response, from the last byte of the request that Jira accepted. An upload that
        /// makes progress extends it.
        response_timeout: HumanDuration = secs(120), "1s"..="1h";
        /// `tcp://` only: a connection on which neither side moves a byte for this long is closed.
        tcp_idle_timeout: HumanDuration = secs(3600), "1s"..="7days";
        @sections
        /// How the service shows that it is healthy, instead of what its profile says. `http` requires it; Jira has its
        /// own. Also written `health = { path = "/health", status = 200 }`.
        health: RawHealth;
        /// How the service shows whose credential the agent sends, instead of what its profile says. `http` requires it
        /// with every mode but `pass-through`; Jira has its own.
        login: RawLogin;
        /// How requests authenticate to Jira.
        auth: RawAuth;
        /// What the vendor may do: nothing, unless you allow it here.
        policy: RawPolicy;
        /// Which of the vendor's headers reach Jira.
        headers: RawHeaders;
        /// Limits for the vendor's HTTP requests.
        http: RawHttp;
    }

    /// The section `[forward.health]` as written.
    pub struct RawHealth {
        /// Path below that of `upstream`. The agent asks for it without a credential.
        path: Option<String>;
        /// The status code of a healthy service.
        status: u32 = 200, 200..=599;
    }

    /// The section `[forward.login]` as written.
    pub struct RawLogin {
        /// Path below that of `upstream`, which needs a login. The agent asks for it with the credential.
        path: Option<String>;
        /// Where the user's name is in the JSON answer, as a JSON pointer: `/user/name`.
        user: Option<String>;
    }

    /// The section `[forward.auth]` as written.
    pub struct RawAuth {
        /// `pass-through` leaves the vendor's own credential untouched. The other modes remove it and insert a
        /// credential that never leaves your network.
        mode: RawAuthMode = RawAuthMode::default();
        /// Mode `basic`: Jira user name, without a colon.
        username: Option<String>;
        /// Mode `basic`: file with the password.
        password_file: Option<String>;
        /// Mode `pat`: file with the personal access token. Mode `api-token`: file with the API token.
        token_file: Option<String>;
        /// Mode `header`: the header fields of the tool's own that carry the credential, at most 8; each value is the
        /// whole content of a file, like `accessKey=…; secretKey=…`.
        headers: Option<Vec<RawHeaderField>>;
        /// Mode `api-token`: email address of the Atlassian account that the API token belongs to.
        email: Option<String>;
        /// Mode `api-token`: whether the API token has scopes. Cloud accepts such a token only at its API gateway,
        /// which then receives the requests instead of `upstream`. Without it: `false`.
        scoped: Option<bool>;
        /// Modes `api-token` and `oauth2`, behind Cloud's API gateway: id of the site. Without it the agent asks the
        /// site (`/_edge/tenant_info`).
        cloud_id: Option<String>;
        /// Modes `api-token` and `oauth2`: Cloud's API gateway. Without it: `https://api.atlassian.com`.
        api_url: Option<String>;
        /// Mode `oauth2`: id of the client, as shown by the application link (Cloud: by the developer console).
        client_id: Option<String>;
        /// Mode `oauth2`: file with the client secret.
        client_secret_file: Option<String>;
        /// Mode `oauth2`: `authorization_code`, with one `agent login` by a person, or `client_credentials`, for a
        /// Data Center service account.
        grant: Option<RawGrantType>;
        /// Mode `oauth2`: scopes of the token, separated by spaces. Without it: `WRITE`; for Cloud `read:jira-work
        /// write:jira-work read:jira-user offline_access`.
        scope: Option<String>;
        /// Mode `oauth2`: where the browser is sent after consent, exactly as registered with the client. Without it:
        /// `https://localhost/jira-tunnel-agent`, where nothing listens; paste the address into `agent login`. On
        /// `http://127.0.0.1:<port>/…` the command itself listens.
        redirect_uri: Option<String>;
        /// Mode `oauth2`: file with a first refresh token, for hosts without `agent login`. Read again when it
        /// changes; its token is valid for one use.
        refresh_token_file: Option<String>;
        /// Mode `oauth2`: authorization endpoint. Without it: the upstream's `/rest/oauth2/latest/authorize`; for
        /// Cloud `https://auth.atlassian.com/authorize`.
        authorize_url: Option<String>;
        /// Mode `oauth2`: token endpoint. Without it: the upstream's `/rest/oauth2/latest/token`; for Cloud
        /// `https://auth.atlassian.com/oauth/token`.
        token_url: Option<String>;
        /// Mode `oauth2`: the API that the token is for. Without it: none; for Cloud `api.atlassian.com`.
        audience: Option<String>;
        /// Mode `oauth1`: consumer key of Jira's application link.
        consumer_key: Option<String>;
        /// Mode `oauth1`: PEM file with the RSA private key whose public key is in the application link; `agent login
        /// --new-key` creates one.
        private_key_file: Option<String>;
        /// Mode `oauth1`: file with an access token. Without it, and without `two_legged`, the token of `agent login`
        /// is used.
        access_token_file: Option<String>;
        /// Mode `oauth1`: send requests without an access token, as the user named in the application link.
        two_legged: Option<bool>;
        /// Mode `oauth1`: Jira's URL as its own Tomcat sees it, if a proxy in front changes scheme, host, port or
        /// context path. Signatures cover it.
        signed_base_url: Option<String>;
        /// Modes `pat`, `header` and `api-token`: the day on which the token expires, like `2027-01-31`, if Jira does not
        /// report it (see `agent status`; Cloud never does). Used for warnings only.
        expires: Option<String>;
    }

    /// The section `[forward.policy]` as written.
    pub struct RawPolicy {
        /// Predefined sets of rules: `ticketing`, `read-only`, `oauth-dance` and others; `docs/policy.md` lists them
        /// with their rules.
        presets: Vec<String> = Vec::new();
        /// Rules like `POST /rest/api/2/issue/bulk`: `METHOD[,METHOD]` or `*`, then a path pattern without the
        /// context path. In it `*` matches one segment and `**` the rest.
        allow: Vec<String> = Vec::new();
        /// Rules of the same form. They win over every preset and every `allow`.
        deny: Vec<String> = Vec::new();
    }

    /// The section `[forward.headers]` as written.
    pub struct RawHeaders {
        /// Names of headers that reach Jira in addition to those known to be harmless, like `X-Vendor-Tenant`; at
        /// most 32. Not with `pass-through`, which passes all. Names that frame the request or carry an identity are
        /// refused.
        pass: Vec<String> = Vec::new();
    }

    /// The section `[forward.http]` as written.
    pub struct RawHttp {
        /// Bytes of request line and headers together; larger heads are answered 431.
        max_head: HumanSize = size(HttpLimits::default().max_head), "8KiB"..="1MiB";
        /// Time for a request head, from its first byte; slower ones are answered 408.
        head_timeout: HumanDuration = HumanDuration(HttpLimits::default().head_timeout), "1s"..="10m";
        /// How long a kept-alive connection of the vendor may stay without a request.
        idle_timeout: HumanDuration = HumanDuration(HttpLimits::default().idle_timeout), "1s"..="1h";
        /// A body without progress for this long is aborted. A body that makes progress has no deadline.
        stall_timeout: HumanDuration = HumanDuration(HttpLimits::default().stall_timeout), "1s"..="1h";
        /// Lowest rate in bytes per second at which the vendor must send a body or read a response; slower transfers
        /// are aborted. Averaged over five `stall_timeout` of waiting for the vendor; Jira may be slower. The default
        /// lets 64 transfers share a link of 64 kbit/s. `0` sets no limit.
        min_body_rate: HumanSize = HumanSize(HttpLimits::default().min_body_rate), "0"..="1MiB";
        /// Requests in flight on this forward; more are answered 503 with `Retry-After`.
        max_concurrent: u32 = u32::try_from(HttpLimits::default().max_concurrent).unwrap_or(u32::MAX), 1..=65536;
        /// Requests per minute that policy or framing may refuse with an answer and an audit line each. More are
        /// answered 429 with `Retry-After`, and one audit line counts them. Allowed requests do not count.
        refusals_per_minute: u32 = HttpLimits::default().refusals_per_minute, 1..=1000000;
    }

    /// One section `[[outlet]]` as written.
    pub struct RawOutlet {
        /// Name of this outlet in status, logs and audit: letters, digits, `-`, `_`; unique, also among the forwards.
        name: String;
        /// Address and port on this host where Jira calls, like `127.0.0.1:8090`. An address beyond loopback needs
        /// `certificate_file` or `sources`.
        listen: String;
        /// Where requests go, as the gateway sees it: `host:port`, or `https://host:port` for TLS that ends at the vendor
        /// and is verified here.
        to: String;
        /// `pass`: request and answer in one go. `store`, for webhooks: the agent stores the event, answers 202, and delivers
        /// it until the vendor has accepted it.
        mode: RawOutletMode = RawOutletMode::default();
        /// What may leave: rules of the form of `[forward.policy]`, like `POST /webhooks/jira`. Everything else is
        /// refused.
        allow: Vec<String> = Vec::new();
        /// Rules of the same form. They win over every `allow`.
        deny: Vec<String> = Vec::new();
        /// Who may call: addresses, or networks like `10.1.0.0/16`. Without it: this host alone on a loopback address,
        /// else everyone whom the other keys let in.
        sources: Vec<String> = Vec::new();
        /// File with a secret of 16 to 128 letters, digits, `-`, `_`, that the caller puts before the path:
        /// `http://127.0.0.1:8090/SECRET/webhooks/jira`. The agent removes it; neither the audit nor the vendor sees it.
        path_secret_file: Option<String>;
        /// Media types of bodies that may leave, like `application/json`. Without it: all.
        content_types: Vec<String> = Vec::new();
        /// Largest request body that may leave; with mode `store` at most 64 MiB, and less than `max_queue_per_source`.
        max_body: HumanSize = HumanSize(10 << 20), "1KiB"..="16GiB";
        /// PEM file with the certificate that the listener presents, leaf first. Without it the listener speaks plain
        /// HTTP.
        certificate_file: Option<String>;
        /// PEM file with the private key of `certificate_file`.
        key_file: Option<String>;
        /// PEM file with CA certificates: only callers with a client certificate of one of them are let in. Needs
        /// `certificate_file`.
        client_ca_file: Option<String>;
        /// Mode `store`, required: file with the secrets that sign events (Standard Webhooks), one a line: `whsec_` and the
        /// base64 of 24 to 64 random bytes. At most three, while one replaces another.
        secret_file: Option<String>;
        /// Mode `store`: file with the secret of the webhook in Jira. Only events with a matching `X-Hub-Signature` are
        /// stored.
        jira_secret_file: Option<String>;
        /// Mode `store`: bytes of all events that wait, with their headers. At least `max_queue_per_source`.
        max_queue: HumanSize = HumanSize(512 << 20), "1MiB"..="1024GiB";
        /// Mode `store`: bytes of the events of one sender's address that wait. Without it: `max_queue`, if that is less.
        max_queue_per_source: HumanSize = HumanSize(256 << 20), "1MiB"..="1024GiB";
        /// Mode `store`: events that wait. Each takes about 400 bytes of memory.
        max_queue_events: u32 = 200_000, 1..=2000000;
        /// Mode `store`: what happens to an event for which a full queue has no room. `refuse`: Jira gets 503.
        /// `drop-oldest`: the oldest events make room, and are counted.
        when_full: RawWhenFull = RawWhenFull::default();
        /// Mode `store`: an event that the vendor has not accepted in this time becomes a dead letter.
        retry_for: HumanDuration = secs(3 * 86400), "1s"..="30days";
        /// Mode `store`: a dead letter is kept for this time.
        keep_dead_letters: HumanDuration = secs(30 * 86400), "1m"..="1year";
        /// With `https://`: trusted CA certificates, as `roots` of a forward.
        roots: RawRoots = RawRoots::default();
        /// With `https://`: PEM file with CA certificates to trust in addition to `roots`.
        ca_file: Option<String>;
        /// With `https://`: name to send (SNI) and to verify instead of the host of `to`.
        server_name: Option<String>;
        /// Connections to the vendor's host open at the same time, each a channel.
        max_connections: u32 = 16, 1..=64;
        /// Time for the head of the vendor's answer, from the last byte of the request that it accepted.
        response_timeout: HumanDuration = secs(120), "1s"..="1h";
        /// Requests in flight on this outlet; more are answered 503 with `Retry-After`.
        max_concurrent: u32 = 64, 1..=1024;
        @sections
        /// Mode `store`: which events may leave. An event that does not say what it belongs to is refused. Without this
        /// section, every event that `allow` lets pass.
        scope: RawScope;
    }

    /// The section `[outlet.scope]` as written.
    pub struct RawScope {
        /// Keys of the projects whose events may leave, like `SEC`. Without it: all.
        projects: Vec<String> = Vec::new();
        /// Kinds of events that may leave, as `webhookEvent` names them: `jira:issue_created`, or `jira:issue_*` for all
        /// that begin so. Without it: all.
        events: Vec<String> = Vec::new();
    }

    /// The section `[audit]` as written.
    pub struct RawAudit {
        /// Where records go: the systemd `journal` (standard error if there is none), `file`, or `off`. `auto` is the
        /// journal where it drops nothing, as under the packaged unit with systemd 240 and later. Otherwise it is
        /// `audit.log` in systemd's folder for logs, in `/var/log/jira-tunnel-agent`, or in the state folder;
        /// standard error without a journal. `agent status` shows which, and why.
        sink: RawSink = RawSink::default();
        /// With `sink = "file"`: absolute path of the file to which JSON lines are appended.
        file: Option<PathBuf>;
        /// Records that may wait to be written; more are dropped and counted. With `required`, at least the requests
        /// that all forwards may have in flight (`max_concurrent`).
        queue: u32 = 8192, 16..=1048576;
        /// Whether no request may reach Jira without its record. While no record can be written, requests are
        /// answered 503 `audit-unavailable` before any part of them is sent.
        required: bool = false;
        /// Space that an audit file leaves free on its disk, for tokens and pauses; on a disk smaller than twenty
        /// times this, a twentieth of it. Below it nothing is written.
        min_free: HumanSize = HumanSize(64 << 20), "0"..="1024GiB";
    }

    /// The section `[log]` as written.
    pub struct RawLog {
        /// `error`, `warn`, `info`, `debug`, `trace` or `off`; also per module, like `info,agent::tunnel=debug`. It
        /// applies to the agent itself. Libraries log errors only, at most 20 lines a minute, and the SSH library
        /// nothing, unless named (`info,russh=debug,h2=debug`) or at level `trace`.
        level: String = "info".to_owned();
        /// Format of log lines. `auto`: `human` on a terminal, `journald` under systemd, `json` otherwise.
        format: RawLogFormat = RawLogFormat::default();
    }
}

/// An element of the key `headers`.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHeaderField {
    /// Name of the header.
    pub name: String,
    /// File with its value.
    pub value_file: String,
}

choices! {
    /// Values of the key `roots`.
    pub enum RawRoots {
        System = "system",
        Webpki = "webpki",
        None = "none",
    }

    /// Values of the key `mode`.
    pub enum RawAuthMode {
        PassThrough = "pass-through",
        Basic = "basic",
        Pat = "pat",
        OAuth2 = "oauth2",
        ApiToken = "api-token",
        OAuth1 = "oauth1",
        Header = "header",
    }

    /// Values of the key `mode` of an outlet.
    pub enum RawOutletMode {
        Pass = "pass",
        Store = "store",
    }

    /// Values of the key `when_full`.
    pub enum RawWhenFull {
        Refuse = "refuse",
        DropOldest = "drop-oldest",
    }

    /// Values of the key `grant`.
    pub enum RawGrantType {
        AuthorizationCode = "authorization_code",
        ClientCredentials = "client_credentials",
    }

    /// Values of the key `sink`.
    pub enum RawSink {
        Auto = "auto",
        Journal = "journal",
        File = "file",
        Off = "off",
    }

    /// Values of the key `format`.
    pub enum RawLogFormat {
        Auto = "auto",
        Human = "human",
        Json = "json",
        Journald = "journald",
    }
}

/// The state folder of the package, and the default.
pub(super) fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/jira-tunnel-agent")
}

/// The runtime folder of the package, and the default.
pub(super) fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/jira-tunnel-agent")
}

fn size(bytes: usize) -> HumanSize {
    HumanSize(bytes as u64)
}

fn secs(seconds: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(seconds))
}
