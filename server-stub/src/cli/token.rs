//! `server-stub token`: creates, lists and revokes invitations in the gateway's folder.

use crate::gateway::{
    AgentName,
    enrollment::{InvitationState, InvitationStore},
    host_key_fingerprint,
};
use crate::output::outln;
use agent_enrollment::{EnrollmentToken, OneTimeSecret, TokenForward};
use agent_ssh::{
    address::GatewayAddress,
    bind_template::{BindTemplate, SlotRange},
};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Invite customers: create, list and revoke enrollment tokens
///
/// Works on the gateway's folder, whether the gateway runs or not.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Create an enrollment token for the agent NAME and print it on standard output, once
    New(NewTokenArgs),
    /// List the invitations
    List(GatewayFolderArgs),
    /// Revoke an invitation; a key that it registered stays in the agent's authorized_keys
    Revoke(RevokeArgs),
}

#[derive(clap::Args)]
struct GatewayFolderArgs {
    /// The gateway's folder, as for `server-stub gateway`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(clap::Args)]
struct NewTokenArgs {
    /// Name of the agent: its SSH user, folder and host label
    name: AgentName,
    #[command(flatten)]
    folder: GatewayFolderArgs,
    /// How long the token is valid; it works once
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Address at which the customer reaches the gateway; may be repeated
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2222")]
    gateway: Vec<GatewayAddress>,
    /// Name of the forward
    #[arg(long, value_name = "NAME", default_value = "jira")]
    forward: String,
    /// Where the gateway listens; the registered key may listen nowhere else. With {8080+slot} as the port, each
    /// session has one of its own
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    bind: BindTemplate,
    /// Slot numbers of this host, for a bind with a slot; a second host of the customer needs others
    #[arg(long, value_name = "FIRST-LAST")]
    slots: Option<SlotRange>,
}

#[derive(clap::Args)]
struct RevokeArgs {
    /// ID from `list`, or the name of an agent to revoke all its open invitations
    which: String,
    #[command(flatten)]
    folder: GatewayFolderArgs,
}

/// Runs the subcommand. Blocks on disk access.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::New(new) => invite(new),
        TokenCommand::List(folder) => list(&InvitationStore::new(&folder.data)),
        TokenCommand::Revoke(args) => revoke(&InvitationStore::new(&args.folder.data), &args.which),
    }
}

fn invite(new: NewTokenArgs) -> anyhow::Result<()> {
    let expires = SystemTime::now() + new.expires;
    let secret = OneTimeSecret::generate();
    let fingerprint = host_key_fingerprint(&new.folder.data)?;
    let store = InvitationStore::new(&new.folder.data);
    let invitation = store.invite(&new.name, &secret, &new.bind, new.slots, expires)?;
    let token = EnrollmentToken {
        gateways: new.gateway,
        user: new.name.to_string(),
        host_keys: vec![fingerprint],
        known_hosts: Vec::new(),
        forward: TokenForward {
            name: new.forward,
            bind: new.bind,
            slots: new.slots,
        },
        secret: Some(secret),
        expires,
    };
    let text = token.to_text();
    // Report here what the agent would refuse.
    if let Err(error) = EnrollmentToken::parse(&text) {
        store.revoke(&invitation)?;
        return Err(error).context("the agent would refuse this token");
    }
    eprintln!(
        "invitation {} for {}, valid until {}, single use; the customer runs `agent enroll` and pastes this line:",
        invitation.id,
        invitation.agent,
        humantime::format_rfc3339_seconds(expires)
    );
    outln!("{}", text.as_str());
    Ok(())
}

fn list(store: &InvitationStore) -> anyhow::Result<()> {
    for one in store.list()? {
        outln!(
            "{}  {:20}  until {}  {:24}  {}",
            one.id,
            one.agent.as_str(),
            humantime::format_rfc3339_seconds(one.expires),
            one.bind,
            one.state.text()
        );
    }
    Ok(())
}

fn revoke(store: &InvitationStore, which: &str) -> anyhow::Result<()> {
    let all = store.list()?;
    let meant: Vec<_> = all
        .iter()
        .filter(|one| {
            one.id == which || (one.agent.as_str() == which && one.state == InvitationState::Open)
        })
        .collect();
    if meant.is_empty() {
        bail!("no invitation has the ID {which}, and no agent of that name has an open one");
    }
    for one in meant {
        store.revoke(one)?;
        outln!("revoked {} for {}", one.id, one.agent);
    }
    Ok(())
}
