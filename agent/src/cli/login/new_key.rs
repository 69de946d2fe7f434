//! `agent login --new-key`: an RSA key for an application link, and what to paste where.

use crate::{
    auth::oauth1::SigningKey,
    cli::output::print,
    config::{self, ConfigSources},
    enroll::agent_user,
    tokens::match_owner,
};
use anyhow::{Context, bail};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::Path,
    process::ExitCode,
};

/// Makes it, writes it, and prints its public half with Jira's screens.
pub(super) fn make(path: &Path, bits: usize, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    // Before the seconds of computing.
    if path.symlink_metadata().is_ok() {
        bail!(already_there(path));
    }
    let key = SigningKey::generate(bits)?;
    let public = key.public_pem()?;
    let is_root = rustix::process::geteuid().is_root();
    let user = is_root.then(|| agent_user(&config::state_dir(sources)));
    write(path, key.private_pem()?.expose(), user.flatten())?;
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    print(&instructions(&shown.display().to_string(), &public))?;
    Ok(ExitCode::SUCCESS)
}

/// Durably, readable by its owner alone, and only where nothing is yet. The owner is that of the folder. In a folder of
/// root's, such as the package's, it is `user`: root's own file would be unreadable to the agent.
fn write(path: &Path, pem: &[u8], user: Option<(u32, u32)>) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let failed = || format!("{}", path.display());
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(already_there(path)),
        Err(error) => return Err(error).with_context(failed),
    };
    let owner = std::fs::metadata(folder).with_context(failed)?;
    match user {
        Some((uid, gid)) if owner.uid() == 0 => fchown(&file, Some(uid), Some(gid)),
        _ => match_owner(&file, &owner),
    }
    .with_context(failed)?;
    file.write_all(pem).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(failed)
}

fn already_there(path: &Path) -> String {
    format!(
        "{} already exists, and a key that Jira may know is never overwritten; name another file",
        path.display()
    )
}

fn instructions(path: &str, public: &str) -> String {
    format!(
        "The private key is in {path}, mode 0600; it never leaves this host. The agent's user must be able to \
         read it: as root, in a folder that belongs to root, this command gives it that owner.

Public key, with its first and last line:

{public}
In Jira, logged in as administrator: Administration (cog), Applications, Application links.

Jira 9.0 and later: \"Create link\", \"External application\" makes OAuth 2.0 links, which are the better choice
(mode = \"oauth2\"). For OAuth 1.0a choose \"Create link\" and the type that asks for nothing but an address:
\"Atlassian product\", in some versions \"Direct application link\". Continue with step 1.

Earlier versions: type the address of step 1 into the field on the page itself.

  1. Application URL: https://jira-tunnel-agent.invalid, Create link, Continue in spite of \"no response\".
  2. Application name: jira-tunnel-agent; application type: Generic Application; leave the other fields as they
     are; tick \"Create incoming link\"; Continue.
  3. Consumer key: jira-tunnel-agent; consumer name: jira-tunnel-agent; public key: the lines above; Continue.
  4. Only for two_legged = true: edit the link, Incoming Authentication (Incoming), tick \"Allow 2-Legged OAuth\",
     name the service account under \"Execute as\", Update. Do not select \"Allow user impersonation\".

Then in [forward.auth] of the agent:

mode             = \"oauth1\"
consumer_key     = \"jira-tunnel-agent\"
private_key_file = {path:?}

and, unless it is two_legged: agent login
"
    )
}
