//! Validates one `[[forward]]` section.

use super::{
    auth::{AuthContext, auth},
    cloud::{cloud, named_gateway, take_cloud_id},
    service::service,
};
use crate::{
    auth::{self, VendorHeaders},
    config::{
        ConfigFingerprint, ForwardConfig, files::FileResolver, merged::MergedSection,
        problem::ConfigProblems, raw,
    },
    http,
    policy::{self, CompiledPolicy},
    profile::{JIRA_NAME, ServiceProfile},
    tokens::TokenStore,
    upstream::{
        self, ClientCertificate, CloudRoute, HttpTarget, TlsConfigError, TlsSettings, TrustRoots,
        UpstreamTarget,
    },
};
use rustls::pki_types::ServerName;
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

/// One forward. `None` after a problem, which is reported.
pub(super) fn forward(
    mut raw: raw::RawForward,
    section: &MergedSection<'_>,
    files: &FileResolver,
    state_dir: &Path,
    problems: &mut ConfigProblems,
) -> Option<ForwardConfig> {
    let bind = section.value_or_error("bind", raw.bind.parse(), problems);
    let mut target =
        section.value_or_error("upstream", raw.upstream.parse::<UpstreamTarget>(), problems)?;
    let name: Arc<str> = Arc::from(raw.name.as_str());
    let written = raw.clone();
    let mut raw_auth = std::mem::take(&mut raw.auth);
    let rules = std::mem::take(&mut raw.policy);
    let headers = std::mem::take(&mut raw.headers);
    let http = http::HttpLimits {
        max_head: raw.http.max_head.as_usize(),
        head_timeout: raw.http.head_timeout.0,
        idle_timeout: raw.http.idle_timeout.0,
        stall_timeout: raw.http.stall_timeout.0,
        min_body_rate: raw.http.min_body_rate.0,
        max_concurrent: raw.http.max_concurrent as usize,
        refusals_per_minute: raw.http.refusals_per_minute,
    };
    let cloud = match &mut target {
        // Cloud's way to log in is Jira's.
        UpstreamTarget::Http(_) if raw.service != JIRA_NAME => None,
        UpstreamTarget::Http(http) => {
            let auth = section.section("auth");
            match take_cloud_id(http, section, problems)? {
                Some(id) => Some(named_gateway(&mut raw_auth, http, id, &auth, problems)),
                None => cloud(&raw_auth, http, &auth, problems),
            }
        }
        UpstreamTarget::Tcp { .. } => None,
    };
    files.recorder.take();
    let profile = service(&mut raw, &target, raw_auth.mode, section, files, problems)?;
    let upstream = UpstreamRoute {
        target: target.clone(),
        cloud: cloud.clone(),
        profile: Arc::clone(&profile),
    };
    let upstream = upstream.settings(raw, section, files, problems);
    let upstream_fingerprint =
        ConfigFingerprint::of_upstream(&written, cloud, files.recorder.take());
    let (auth, policy) = match &target {
        UpstreamTarget::Http(http) => {
            let context = AuthContext {
                target: http,
                upstream: upstream.as_ref(),
                profile: &profile,
                store: TokenStore::new(state_dir, &name),
            };
            let auth = auth(raw_auth, context, &section.section("auth"), files, problems);
            (auth, policy(rules, http, &profile, section, problems))
        }
        UpstreamTarget::Tcp { .. } => {
            check_tcp_keys(section, problems);
            (
                Some(auth::Settings::PassThrough),
                Some(policy::Settings::default()),
            )
        }
    };
    let headers = vendor_headers(headers, &target, auth.as_ref(), &profile, section, problems);
    let auth_fingerprint = ConfigFingerprint::of_auth(&written.auth, files.recorder.take());
    Some(ForwardConfig {
        upstream_fingerprint,
        auth_fingerprint,
        name,
        bind: bind?,
        upstream: upstream?,
        auth: auth?,
        policy: policy?,
        headers: headers?,
        http,
    })
}

/// What is known of the upstream before its other keys are read.
struct UpstreamRoute {
    target: UpstreamTarget,
    cloud: Option<CloudRoute>,
    profile: Arc<ServiceProfile>,
}

impl UpstreamRoute {
    fn settings(
        self,
        raw: raw::RawForward,
        section: &MergedSection<'_>,
        files: &FileResolver,
        problems: &mut ConfigProblems,
    ) -> Option<upstream::Settings> {
        let Self {
            target,
            cloud,
            profile,
        } = self;
        let port = match &target {
            UpstreamTarget::Http(http) => http.port,
            UpstreamTarget::Tcp { port, .. } => *port,
        };
        let address = match &raw.address {
            Some(text) => Some(section.value_or_error("address", address(text, port), problems)?),
            None => None,
        };
        let tls = match &target {
            UpstreamTarget::Http(HttpTarget { tls: true, .. }) => {
                tls(&raw, section, files, problems)?
            }
            UpstreamTarget::Http(_) | UpstreamTarget::Tcp { .. } => {
                for key in TLS_KEYS.into_iter().filter(|key| section.is_written(key)) {
                    let text = "has no effect without TLS; write upstream with https://, or remove this key";
                    section.error(key, text, problems);
                }
                TlsSettings::default()
            }
        };
        Some(upstream::Settings {
            target,
            profile,
            cloud,
            tls,
            address,
            max_connections: raw.max_connections as usize,
            pool_wait: raw.pool_wait.0,
            idle_timeout: raw.idle_timeout.0,
            connect_timeout: raw.connect_timeout.0,
            response_timeout: raw.response_timeout.0,
            tcp_idle_timeout: raw.tcp_idle_timeout.0,
        })
    }
}

fn tls(
    raw: &raw::RawForward,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<TlsSettings> {
    let extra_roots = match &raw.ca_file {
        Some(name) => files.read_certificates(section, "ca_file", name, problems),
        None => Some(Vec::new()),
    };
    let certificate = client_certificate(raw, section, files, problems);
    if let Some(name) = &raw.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let text = "not a host name; write it like \"jira.corp.example\"";
        section.error("server_name", text, problems);
    }
    let settings = TlsSettings {
        roots: trust_roots(raw.roots),
        extra_roots: extra_roots?,
        client_certificate: certificate?,
        server_name: raw.server_name.clone(),
    };
    // The step of the running agent, so that its errors are reported now.
    if let Err(error) = upstream::client_config(&settings) {
        let key = match error {
            TlsConfigError::NoSystemRoots(_) | TlsConfigError::NoRoots => "roots",
            TlsConfigError::BadRoot(..) => "ca_file",
            TlsConfigError::ClientCertificate(_) => "client_certificate_file",
            TlsConfigError::ServerName(_) | TlsConfigError::Provider(_) => "upstream",
        };
        section.error(key, error.to_string(), problems);
        return None;
    }
    Some(settings)
}

/// The roots that this word means.
pub(super) fn trust_roots(raw: raw::RawRoots) -> TrustRoots {
    match raw {
        raw::RawRoots::System => TrustRoots::System,
        raw::RawRoots::Webpki => TrustRoots::Webpki,
        raw::RawRoots::None => TrustRoots::None,
    }
}

/// `Some(None)` if none is configured.
fn client_certificate(
    raw: &raw::RawForward,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<Arc<ClientCertificate>>> {
    let (certificate, key) = (&raw.client_certificate_file, &raw.client_key_file);
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Some(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            let text = "required with client_certificate_file; name the file with its private key";
            section.error_at("client_key_file", "client_certificate_file", text, problems);
            return None;
        }
        (None, Some(_)) => {
            let text = "required with client_key_file; name the file with its certificate";
            section.error_at("client_certificate_file", "client_key_file", text, problems);
            return None;
        }
    };
    let chain = files.read_certificates(section, "client_certificate_file", certificate, problems);
    let file = files.locate_secret(section, "client_key_file", key, problems)?;
    if files.may_be_unreadable(&file) {
        // Then no connection is made.
        return Some(None);
    }
    let key = files.read_private_key(section, "client_key_file", key, problems);
    Some(Some(Arc::new(ClientCertificate {
        chain: chain?,
        key: key?,
    })))
}

fn policy(
    raw: raw::RawPolicy,
    target: &HttpTarget,
    profile: &Arc<ServiceProfile>,
    forward: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<policy::Settings> {
    let section = forward.section("policy");
    let before = problems.len();
    let base = policy::Settings {
        context_path: target.context_path.clone(),
        service_presets: (!profile.is_jira()).then(|| Arc::clone(&profile.presets)),
        ..policy::Settings::default()
    };
    if let Err(error) = CompiledPolicy::new(&base) {
        forward.error("upstream", error.problem, problems);
        return None;
    }
    // One at a time, so that every invalid rule is reported, not only the first.
    let lists = [
        ("presets", &raw.presets),
        ("allow", &raw.allow),
        ("deny", &raw.deny),
    ];
    for (key, rules) in lists {
        for (index, rule) in rules.iter().enumerate() {
            let mut one = base.clone();
            match key {
                "presets" => one.presets.push(rule.clone()),
                "allow" => one.allow.push(rule.clone()),
                _ => one.deny.push(rule.clone()),
            }
            if let Err(error) = CompiledPolicy::new(&one) {
                let text = format!("{:?}: {}", error.text, error.problem);
                section.element_error(key, index, text, problems);
            }
        }
    }
    (problems.len() == before).then_some(policy::Settings {
        presets: raw.presets,
        allow: raw.allow,
        deny: raw.deny,
        ..base
    })
}

/// Which of the vendor's headers reach Jira.
fn vendor_headers(
    raw: raw::RawHeaders,
    target: &UpstreamTarget,
    auth: Option<&auth::Settings>,
    profile: &Arc<ServiceProfile>,
    forward: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<VendorHeaders> {
    let section = forward.section("headers");
    let is_http = matches!(target, UpstreamTarget::Http(_));
    if is_http && matches!(auth, Some(auth::Settings::PassThrough)) && !raw.pass.is_empty() {
        let text = "has no effect with mode = \"pass-through\", which passes all headers; remove this key, or set another mode";
        section.error("pass", text, problems);
        return None;
    }
    if let Some(auth::Settings::Header { fields, .. }) = auth {
        let is_ours = |name: &&String| {
            let mut names = fields.iter().map(|field| field.name.as_str());
            names.any(|own| own.eq_ignore_ascii_case(name))
        };
        if let Some(name) = raw.pass.iter().find(is_ours) {
            let text = format!(
                "{name:?}: it carries the credential of this forward, so that the vendor's is removed; remove it here"
            );
            section.error("pass", text, problems);
            return None;
        }
    }
    match VendorHeaders::for_service(&raw.pass, profile) {
        Ok(headers) => Some(headers),
        Err((index, why)) => {
            let name = raw.pass.get(index).map_or("", String::as_str);
            section.element_error("pass", index, format!("{name:?}: {why}"), problems);
            None
        }
    }
}

/// Rules for HTTP cannot be enforced on bytes, so accepting them would be dangerous.
fn check_tcp_keys(forward: &MergedSection<'_>, problems: &mut ConfigProblems) {
    for section in HTTP_SECTIONS {
        if forward.is_written(section) {
            let text = format!(
                "[forward.{section}] cannot apply to a tcp:// upstream, whose bytes are forwarded unchanged; remove the section, or write upstream with https://"
            );
            forward.error(section, text, problems);
        }
    }
}

fn address(text: &str, port: u16) -> Result<SocketAddr, &'static str> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(
            "not an IP address; write it like \"10.1.2.3\" or \"10.1.2.3:443\", an IPv6 address with a port in brackets",
        ),
    }
}

/// Sections that apply to HTTP upstreams only.
pub(crate) const HTTP_SECTIONS: [&str; 6] =
    ["health", "login", "auth", "policy", "headers", "http"];
/// Keys that apply to `https://` upstreams only.
pub(crate) const TLS_KEYS: [&str; 5] = [
    "roots",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
    "server_name",
];
