//! `server-stub jira`: its arguments, and running it until a signal.

/// Run the imitation Jira.
#[derive(clap::Args)]
pub struct Args {}

/// Runs until interrupted.
pub async fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no Jira")
}
