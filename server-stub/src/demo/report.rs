//! The story on the terminal: short lines, one per step.

use super::{agent::AUDIT, environment::DemoEnvironment, step::CompletedStep};
use crate::output::say;

/// What stands where.
pub(super) fn print_header(stage: &DemoEnvironment) {
    let jira = &stage.jira.url;
    say!("The customer's Jira    {jira}");
    say!(
        "The vendor's gateway   ssh {}, http {}",
        stage.gateway.ssh_addr,
        stage.gateway.http_addr
    );
    say!(
        "The customer's agent   {} (logs in to Jira as acme-bot by a token that stays there)",
        stage.agent.binary().display()
    );
    say!();
    say!(
        "vendor ──HTTP──▶ {} ──SSH──▶ agent ──HTTPS──▶ Jira",
        stage.url()
    );
    say!();
    say!(
        "{:<17} {:<6} {:<46} {:<16} {:<6} {:>9}  what came back",
        "step",
        "",
        "asked through the gateway",
        "Jira saw",
        "status",
        "took"
    );
}

/// One step.
pub(super) fn print_step(step: &CompletedStep) {
    let status = step
        .status
        .map_or("—".to_owned(), |status| status.as_u16().to_string());
    let login = step.login.as_deref().unwrap_or("nothing");
    let took = format!("{:.1} ms", step.took.as_secs_f64() * 1000.0);
    let note = match step.failure_reason() {
        None => step.note.clone(),
        Some(complaint) if complaint == step.note => format!("WRONG: {complaint}"),
        Some(complaint) => format!("WRONG: {complaint}; {}", step.note),
    };
    say!(
        "{:<17} {:<6} {:<46} {login:<16} {status:<6} {took:>9}  {note}",
        step.what,
        step.method.as_str(),
        step.path
    );
}

/// What the agent says of itself.
pub(super) fn print_status(text: &str) {
    say!("\n$ agent status");
    crate::output::write(format_args!("{text}"));
}

/// Whether all went well.
pub(super) fn print_verdict(steps: usize, failed: usize, proven: bool) {
    say!();
    match (failed, proven) {
        (0, true) => say!("All {steps} steps went as they should."),
        (0, false) => {
            say!("All {steps} steps went as they should, but the status does not say so.")
        }
        _ => say!("{failed} of {steps} steps did not go as they should."),
    }
}

/// For looking into what went wrong.
pub(super) fn print_agent_log(text: &str) {
    say!("\nThe end of the agent's log:\n{text}");
}

/// What to try while everything runs.
pub(super) fn print_addresses(stage: &DemoEnvironment) {
    let folder = stage.agent.folder().display();
    let url = stage.url();
    say!("\nEverything keeps running. Try:");
    say!("  curl {url}/jira/rest/api/2/serverInfo");
    say!(
        "  curl http://{}/jira/rest/api/2/myself            # the forward itself, without the HTTP listener",
        stage.bind
    );
    say!(
        "  curl -X DELETE {url}/jira/rest/api/2/issue/DEMO-1   # refused by the customer's policy"
    );
    say!(
        "  http://{}/                                        # who is connected to the gateway",
        stage.gateway.http_addr
    );
    say!(
        "  JIRA_TUNNEL_AGENT_CONFIG={folder}/agent.toml RUNTIME_DIRECTORY={folder}/run {} status",
        stage.agent.binary().display()
    );
    say!("  tail -f {folder}/{AUDIT}");
    say!("Ctrl-C stops all of it.");
}
