//! The story on the terminal: short lines, one per step.

use super::{agent::AUDIT, stage::Stage, step::Step};

/// What stands where.
pub(super) fn opening(stage: &Stage) {
    let jira = &stage.jira.url;
    println!("The customer's Jira    {jira}");
    println!(
        "The vendor's gateway   ssh {}, http {}",
        stage.gateway.ssh_addr, stage.gateway.http_addr
    );
    println!(
        "The customer's agent   {} (logs in to Jira as acme-bot by a token that stays there)",
        stage.agent.binary().display()
    );
    println!();
    println!(
        "vendor ──HTTP──▶ {} ──SSH──▶ agent ──HTTPS──▶ Jira",
        stage.url()
    );
    println!();
    println!(
        "{:<17} {:<6} {:<46} {:<16} {:<6} {:>9}  what came back",
        "step", "", "asked through the gateway", "Jira saw", "status", "took"
    );
}

/// One step.
pub(super) fn step(step: &Step) {
    let status = step
        .status
        .map_or("—".to_owned(), |status| status.as_u16().to_string());
    let login = step.login.as_deref().unwrap_or("nothing");
    let took = format!("{:.1} ms", step.took.as_secs_f64() * 1000.0);
    let note = match step.complaint() {
        None => step.note.clone(),
        Some(complaint) if complaint == step.note => format!("WRONG: {complaint}"),
        Some(complaint) => format!("WRONG: {complaint}; {}", step.note),
    };
    println!(
        "{:<17} {:<6} {:<46} {login:<16} {status:<6} {took:>9}  {note}",
        step.what,
        step.method.as_str(),
        step.path
    );
}

/// What the agent says of itself.
pub(super) fn status(text: &str) {
    println!("\n$ agent status");
    print!("{text}");
}

/// Whether all went well.
pub(super) fn verdict(steps: usize, failed: usize, proven: bool) {
    println!();
    match (failed, proven) {
        (0, true) => println!("All {steps} steps went as they should."),
        (0, false) => {
            println!("All {steps} steps went as they should, but the status does not say so.")
        }
        _ => println!("{failed} of {steps} steps did not go as they should."),
    }
}

/// For looking into what went wrong.
pub(super) fn agent_log(text: &str) {
    println!("\nThe end of the agent's log:\n{text}");
}

/// What to try while everything runs.
pub(super) fn addresses(stage: &Stage) {
    let folder = stage.agent.folder().display();
    let url = stage.url();
    println!("\nEverything keeps running. Try:");
    println!("  curl {url}/jira/rest/api/2/serverInfo");
    println!(
        "  curl http://{}/jira/rest/api/2/myself            # the forward itself, without the HTTP listener",
        stage.bind
    );
    println!(
        "  curl -X DELETE {url}/jira/rest/api/2/issue/DEMO-1   # refused by the customer's policy"
    );
    println!(
        "  http://{}/                                        # who is connected to the gateway",
        stage.gateway.http_addr
    );
    println!(
        "  JIRA_TUNNEL_AGENT_CONFIG={folder}/agent.toml RUNTIME_DIRECTORY={folder}/run {} status",
        stage.agent.binary().display()
    );
    println!("  tail -f {folder}/{AUDIT}");
    println!("Ctrl-C stops all of it.");
}
