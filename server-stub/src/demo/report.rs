//! The lines on the terminal, one per step.

use super::{agent::AUDIT, environment::DemoEnvironment, step::CompletedStep};
use crate::output::outln;

/// Prints the addresses of the three parts and the heading of the steps.
pub(super) fn print_header(environment: &DemoEnvironment) {
    let jira = &environment.jira.url;
    outln!("The customer's Jira    {jira}");
    outln!(
        "The vendor's gateway   ssh {}, http {}",
        environment.gateway.ssh_addr,
        environment.gateway.http_addr
    );
    outln!(
        "The customer's agent   {} (uses the token of acme-bot, which stays there)",
        environment.agent.binary().display()
    );
    outln!();
    outln!(
        "vendor ──HTTP──▶ {} ──SSH──▶ agent ──HTTPS──▶ Jira",
        environment.url()
    );
    outln!();
    outln!(
        "{:<17} {:<6} {:<46} {:<16} {:<6} {:>9}  result",
        "step",
        "",
        "path at the gateway",
        "Jira saw",
        "status",
        "took"
    );
}

/// Prints one line about a completed step.
pub(super) fn print_step(step: &CompletedStep) {
    let status = step
        .status
        .map_or("—".to_owned(), |status| status.as_u16().to_string());
    let login = step.login.as_deref().unwrap_or("nothing");
    let took = format!("{:.1} ms", step.took.as_secs_f64() * 1000.0);
    let note = match step.failure_reason() {
        None => step.note.clone(),
        Some(complaint) if complaint == step.note => format!("FAILED: {complaint}"),
        Some(complaint) => format!("FAILED: {complaint}; {}", step.note),
    };
    outln!(
        "{:<17} {:<6} {:<46} {login:<16} {status:<6} {took:>9}  {note}",
        step.what,
        step.method.as_str(),
        step.path
    );
}

/// Prints the output of `agent status`.
pub(super) fn print_status(text: &str) {
    outln!("\n$ agent status");
    crate::output::write(format_args!("{text}"));
}

/// Prints whether every step succeeded.
pub(super) fn print_verdict(steps: usize, failed: usize, proven: bool) {
    outln!();
    match (failed, proven) {
        (0, true) => outln!("All {steps} steps succeeded."),
        (0, false) => {
            outln!("All {steps} steps succeeded, but not every layer of the status is proven.")
        }
        _ => outln!("{failed} of {steps} steps failed."),
    }
}

/// Prints the end of the agent's log after a failure.
pub(super) fn print_agent_log(text: &str) {
    outln!("\nThe end of the agent's log:\n{text}");
}

/// Prints commands to try while everything runs.
pub(super) fn print_addresses(environment: &DemoEnvironment) {
    let folder = environment.agent.folder().display();
    let url = environment.url();
    outln!("\nEverything keeps running. Try:");
    outln!("  curl {url}/jira/rest/api/2/serverInfo");
    outln!(
        "  curl http://{}/jira/rest/api/2/myself            # the forward itself, without the HTTP listener",
        environment.bind
    );
    outln!(
        "  curl -X DELETE {url}/jira/rest/api/2/issue/DEMO-1   # refused by the customer's policy"
    );
    outln!(
        "  http://{}/                                        # which agents are connected",
        environment.gateway.http_addr
    );
    outln!(
        "  JIRA_TUNNEL_AGENT_CONFIG={folder}/agent.toml RUNTIME_DIRECTORY={folder}/run {} status",
        environment.agent.binary().display()
    );
    outln!("  tail -f {folder}/{AUDIT}");
    outln!("Ctrl-C stops everything.");
}
