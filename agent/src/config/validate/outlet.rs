//! Validates one `[[outlet]]` section.

use super::{forward::trust_roots, outlet_store};
use crate::{
    config::{
        ConfigFingerprint, OutletConfig,
        files::FileResolver,
        merged::{MergedConfig, MergedSection},
        problem::ConfigProblems,
        raw,
    },
    http::HttpLimits,
    outlet::{self, OutletTarget, PathSecret, ServerTlsError, SourceList},
    policy::{self, CompiledPolicy},
    upstream::{self, TlsSettings},
};
use rustls::{ServerConfig, pki_types::ServerName};
use std::{net::SocketAddr, sync::Arc};

/// One outlet. `None` after a problem, which is reported.
pub(super) fn outlet(
    raw: raw::RawOutlet,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<OutletConfig> {
    let before = problems.len();
    files.recorder.take();
    let listen = section.value_or_error("listen", listen(&raw.listen), problems);
    let target = section.value_or_error("to", raw.to.parse::<OutletTarget>(), problems);
    let policy = rules(&raw, section, problems);
    let sources = SourceList::parse(&raw.sources).map_err(|index| {
        let entry = raw.sources.get(index).map_or("", String::as_str);
        let text = format!("{entry:?} is neither an address nor a network like \"10.1.0.0/16\"");
        section.element_error("sources", index, text, problems);
    });
    let path_secret = match &raw.path_secret_file {
        None => Some(None),
        Some(name) => path_secret(name, section, files, problems),
    };
    let store = outlet_store::store(&raw, section, files, problems);
    let server_tls = server_tls(&raw, section, files, problems);
    let client_tls = target
        .as_ref()
        .and_then(|target| client_tls(&raw, target, section, files, problems));
    if let Some(listen) = listen
        && !listen.ip().is_loopback()
        && raw.certificate_file.is_none()
        && raw.sources.is_empty()
    {
        let text = "an address beyond loopback needs TLS (certificate_file, key_file), or sources that name who may call";
        section.error("listen", text, problems);
    }
    if problems.len() > before {
        return None;
    }
    let fingerprint = ConfigFingerprint::of_outlet(&raw, files.recorder.take());
    let OutletTarget(target) = target?;
    let upstream = upstream::Settings {
        tls: client_tls?,
        max_connections: raw.max_connections as usize,
        response_timeout: raw.response_timeout.0,
        ..outlet::Settings::upstream(target)
    };
    let settings = outlet::Settings {
        name: raw.name.as_str().into(),
        listen: listen?,
        upstream,
        policy: policy?,
        sources: sources.ok()?,
        path_secret: path_secret?,
        content_types: raw.content_types,
        max_body: raw.max_body.0,
        tls: server_tls?,
        store: store?,
        http: HttpLimits {
            max_concurrent: raw.max_concurrent as usize,
            ..HttpLimits::default()
        },
    };
    Some(OutletConfig {
        settings: Arc::new(settings),
        fingerprint,
    })
}

/// No two outlets listen at the same address, and a name leads to one outlet or forward.
pub(super) fn check_distinct(
    outlets: &[OutletConfig],
    merged: &MergedConfig,
    problems: &mut ConfigProblems,
) {
    let names = merged.names.of("outlet").iter().enumerate();
    for (index, (name, _)) in names {
        let section = || merged.entry("outlet", index);
        let mut forwards = merged.names.of("forward").iter();
        if forwards.any(|(forward, _)| forward == name) {
            let text = format!("{name:?} is already the name of a forward; use another one");
            section().error("name", text, problems);
        }
        let Some(at) = outlets.iter().position(|o| *o.settings.name == **name) else {
            continue;
        };
        let listen = outlets[at].settings.listen;
        let same = |other: &&OutletConfig| listen.port() != 0 && other.settings.listen == listen;
        if let Some(first) = outlets[..at].iter().find(same) {
            let text = format!(
                "{listen} is already the address of outlet {:?}; give each its own port",
                first.settings.name
            );
            section().error("listen", text, problems);
        }
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>();
    address.map_err(|_| {
        "not an address and port; write it like \"127.0.0.1:8090\" or \"[::1]:8090\"".to_owned()
    })
}

fn rules(
    raw: &raw::RawOutlet,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<policy::Settings> {
    let before = problems.len();
    for (key, rules) in [("allow", &raw.allow), ("deny", &raw.deny)] {
        for (index, rule) in rules.iter().enumerate() {
            let mut one = policy::Settings::default();
            match key {
                "allow" => one.allow.push(rule.clone()),
                _ => one.deny.push(rule.clone()),
            }
            if let Err(error) = CompiledPolicy::new(&one) {
                let text = format!("{:?}: {}", error.text, error.problem);
                section.element_error(key, index, text, problems);
            }
        }
    }
    (problems.len() == before).then(|| policy::Settings {
        allow: raw.allow.clone(),
        deny: raw.deny.clone(),
        ..policy::Settings::default()
    })
}

/// `Some(None)` where this user may not read it and does not need to.
fn path_secret(
    name: &str,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<PathSecret>> {
    const KEY: &str = "path_secret_file";
    let file = files.locate_secret(section, KEY, name, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(None);
    }
    let secret = files.read_secret(section, KEY, name, problems)?;
    let secret = section.value_or_error(KEY, PathSecret::new(&secret), problems)?;
    Some(Some(secret))
}

/// `Some(None)` for plain HTTP.
fn server_tls(
    raw: &raw::RawOutlet,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Option<Arc<ServerConfig>>> {
    let (certificate, key) = match (&raw.certificate_file, &raw.key_file) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => {
            if raw.client_ca_file.is_some() {
                let text =
                    "needs certificate_file and key_file: client certificates exist in TLS only";
                section.error("client_ca_file", text, problems);
            }
            return Some(None);
        }
        (Some(_), None) => {
            let text = "required with certificate_file; name the file with its private key";
            section.error_at("key_file", "certificate_file", text, problems);
            return None;
        }
        (None, Some(_)) => {
            let text = "required with key_file; name the file with its certificate";
            section.error_at("certificate_file", "key_file", text, problems);
            return None;
        }
    };
    let chain = files.read_certificates(section, "certificate_file", certificate, problems)?;
    let client_ca = match &raw.client_ca_file {
        None => None,
        Some(name) => Some(files.read_certificates(section, "client_ca_file", name, problems)?),
    };
    let file = files.locate_secret(section, "key_file", key, problems)?;
    if files.may_be_unreadable(&file) {
        return Some(None);
    }
    let key = files.read_private_key(section, "key_file", key, problems)?;
    match outlet::server_config(chain, key, client_ca) {
        Ok(config) => Some(Some(Arc::new(config))),
        Err(error) => {
            let key = match error {
                ServerTlsError::Certificate(_) => "certificate_file",
                ServerTlsError::ClientCa(_) => "client_ca_file",
            };
            section.error(key, error.to_string(), problems);
            None
        }
    }
}

fn client_tls(
    raw: &raw::RawOutlet,
    OutletTarget(target): &OutletTarget,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<TlsSettings> {
    if !target.tls {
        for key in ["roots", "ca_file", "server_name"] {
            if section.is_written(key) {
                let text = "has no effect without TLS; write to with https://, or remove this key";
                section.error(key, text, problems);
            }
        }
        return Some(TlsSettings::default());
    }
    let extra_roots = match &raw.ca_file {
        Some(name) => files.read_certificates(section, "ca_file", name, problems)?,
        None => Vec::new(),
    };
    if let Some(name) = &raw.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let text = "not a host name; write it like \"events.vendor.example\"";
        section.error("server_name", text, problems);
    }
    let settings = TlsSettings {
        roots: trust_roots(raw.roots),
        extra_roots,
        client_certificate: None,
        server_name: raw.server_name.clone(),
    };
    // The step of the running agent, so that its errors are reported now.
    section.value_or_error("to", upstream::client_config(&settings), problems)?;
    Some(settings)
}
