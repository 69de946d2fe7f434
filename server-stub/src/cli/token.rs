//! `server-stub token`: invitations made, listed and taken back, on the gateway's folder.

use crate::gateway::{
    AgentName,
    enrolment::{Book, State},
    host_key_fingerprint,
};
use crate::output::say;
use agent::{
    enroll::{Forward, OneTimeSecret, Token},
    tunnel::{Bind, Gateway},
};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Invite customers: tokens for `agent enroll`.
///
/// Works on the gateway's folder, whether it runs or not.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token for the agent NAME and print it, alone, on standard output. It is shown once.
    New(New),
    /// List the invitations.
    List(Folder),
    /// Take an invitation back. A key that was registered by it stays in the agent's authorized_keys.
    Revoke(Revoke),
}

#[derive(clap::Args)]
struct Folder {
    /// The gateway's folder, as for `server-stub gateway`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

#[derive(clap::Args)]
struct New {
    /// The agent's name: its user, its folder, its host label.
    name: AgentName,
    #[command(flatten)]
    folder: Folder,
    /// How long it holds, once.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Where the customer reaches the gateway; may be repeated.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2222")]
    gateway: Vec<Gateway>,
    /// Name of the forward.
    #[arg(long, value_name = "NAME", default_value = "jira")]
    forward: String,
    /// Where the gateway is to listen; the key that is registered may listen nowhere else.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    bind: Bind,
}

#[derive(clap::Args)]
struct Revoke {
    /// As `list` shows it, or the name of an agent, which means all of its open ones.
    which: String,
    #[command(flatten)]
    folder: Folder,
}

/// Does it. Blocks on the disk.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::New(new) => invite(new),
        Command::List(folder) => list(&Book::new(&folder.data)),
        Command::Revoke(revoke) => take_back(&Book::new(&revoke.folder.data), &revoke.which),
    }
}

fn invite(new: New) -> anyhow::Result<()> {
    let expires = SystemTime::now() + new.expires;
    let secret = OneTimeSecret::generate();
    let fingerprint = host_key_fingerprint(&new.folder.data)?;
    let book = Book::new(&new.folder.data);
    let invitation = book.invite(&new.name, &secret, &new.bind, expires)?;
    let token = Token {
        gateways: new.gateway,
        user: new.name.to_string(),
        host_keys: vec![fingerprint],
        known_hosts: Vec::new(),
        forward: Forward {
            name: new.forward,
            bind: new.bind,
        },
        secret: Some(secret),
        expires,
    };
    let text = token.to_text();
    // What the agent would refuse is better refused here.
    if let Err(error) = Token::parse(&text) {
        book.revoke(&invitation)?;
        return Err(error).context("this token could not be used");
    }
    eprintln!(
        "invitation {} for {} until {}; the customer runs `agent enroll` and pastes this line:",
        invitation.id,
        invitation.agent,
        humantime::format_rfc3339_seconds(expires)
    );
    say!("{}", text.as_str());
    Ok(())
}

fn list(book: &Book) -> anyhow::Result<()> {
    for one in book.all()? {
        say!(
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

fn take_back(book: &Book, which: &str) -> anyhow::Result<()> {
    let all = book.all()?;
    let meant: Vec<_> = all
        .iter()
        .filter(|one| one.id == which || (one.agent.as_str() == which && one.state == State::Open))
        .collect();
    if meant.is_empty() {
        bail!("there is no invitation {which}, and no open one for an agent of that name");
    }
    for one in meant {
        book.revoke(one)?;
        say!("{} for {} is withdrawn", one.id, one.agent);
    }
    Ok(())
}
