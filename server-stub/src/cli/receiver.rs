//! `server-stub receiver`: its arguments, and running it until a signal.

use crate::output::outln;
use crate::receiver::{DEFAULT_TOLERANCE, ReceiverSettings, ReceiverStats, RunningReceiver};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Run the vendor's receiver of events until interrupted
///
/// It verifies the signature of each POST (Standard Webhooks), records it in the journal, and answers 200.
/// GET /stats returns the counts.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Address to listen on; port 0 takes a free port
    #[arg(long, default_value = "127.0.0.1:8070", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// File with the signing secrets, one whsec_… a line, readable only by you
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// File that keeps what was received; the counts continue from it
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// How far the time of a signature may be from now
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TOLERANCE.as_secs())]
    tolerance: u64,
    /// Answer events with this status instead of taking them
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// Take no event before this many were answered with --status [default status: 503]
    #[arg(long, value_name = "COUNT")]
    fail_first: Option<u64>,
    /// Wait this long before each answer
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    delay: u64,
}

/// Runs until SIGINT or SIGTERM, then prints the counts.
///
/// # Errors
/// When the receiver cannot start.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let running = RunningReceiver::start(ReceiverSettings {
        listen: args.listen,
        secret_file: args.secret_file,
        journal: args.journal,
        tolerance: Duration::from_secs(args.tolerance),
        status: args.status,
        fail_first: args.fail_first,
        delay: Duration::from_millis(args.delay),
    })
    .await?;
    outln!("events http://{}/", running.addr);
    outln!("counts http://{}/stats", running.addr);
    super::interrupted().await?;
    print_stats(&running.stop().await);
    Ok(())
}

fn print_stats(stats: &ReceiverStats) {
    let lines = [
        (stats.events, "events"),
        (stats.issues, "issues"),
        (stats.repeats, "repeats"),
        (stats.out_of_order, "out of order"),
        (stats.forged, "forged"),
        (stats.stale, "stale"),
        (stats.failed_on_purpose, "failed on purpose"),
    ];
    for (count, what) in lines {
        outln!("{count:>9} {what}");
    }
}
