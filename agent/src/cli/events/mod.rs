//! `agent events`: what outlets of mode `store` hold. `table` shows it as text.

mod table;

use super::{
    exit::UsageError,
    output::{print, print_as_is},
    terminal::{confirmed, terminal_width},
};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{
        AgentClient, AgentClientError, EventList, EventOrder, EventQuery, MAX_LISTED,
        event_list_schema,
    },
    status::{ColorMode, count, printable_document},
};
use agent_events::{EventId, event::EventIdError};
use clap::Subcommand;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::SystemTime,
};

/// List, retry or drop the events that outlets of mode store hold
///
/// Lists them, the oldest first, if no subcommand is given: events that wait to be delivered, then dead letters, which the
/// agent has given up. Bodies, query strings and headers are never shown.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    #[command(flatten)]
    list: EventListArgs,
    /// Print the JSON schema of --json
    #[arg(long, hide = true)]
    schema: bool,
}

#[derive(Subcommand)]
enum EventsCommand {
    /// List events that wait and dead letters, the oldest first
    List(EventListArgs),
    /// Show one event without its body
    Show(EventShowArgs),
    /// Try a dead letter again, or a waiting event at once
    ///
    /// A dead letter becomes the last event of its issue, and has the whole retry_for again.
    Retry(EventRetryArgs),
    /// Delete an event, or all dead letters; they are never delivered
    ///
    /// Asks first. The log and the audit show which events were dropped, and the user id of the caller.
    Drop(EventDropArgs),
}

#[derive(clap::Args)]
struct EventListArgs {
    /// Only this outlet
    #[arg(long, value_name = "NAME")]
    outlet: Option<String>,
    /// Only dead letters
    #[arg(long)]
    dead: bool,
    /// Most events to list
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = limit)]
    limit: usize,
    /// Begin behind this event, for the next part of a long list
    #[arg(long, value_name = "ID", value_parser = event_id, requires = "outlet")]
    after: Option<String>,
    /// Print JSON; docs/events.schema.json describes it
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct EventShowArgs {
    /// Id of the event, as the list shows it
    #[arg(value_name = "ID", value_parser = event_id)]
    id: String,
    /// Print JSON; docs/events.schema.json describes it
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct EventRetryArgs {
    #[command(flatten)]
    selected: SelectedEvents,
    /// Only this outlet
    #[arg(long, value_name = "NAME")]
    outlet: Option<String>,
}

#[derive(clap::Args)]
struct EventDropArgs {
    #[command(flatten)]
    selected: SelectedEvents,
    /// Only this outlet
    #[arg(long, value_name = "NAME")]
    outlet: Option<String>,
    /// Drop without asking
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct SelectedEvents {
    /// Id of the event, as the list shows it
    #[arg(value_name = "ID", value_parser = event_id)]
    id: Option<String>,
    /// All dead letters; events that wait are left alone
    #[arg(long)]
    all: bool,
}

/// Asks the running agent.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    if args.schema {
        print(&event_list_schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match args.command {
            None => list(&client, args.list).await,
            Some(EventsCommand::List(args)) => list(&client, args).await,
            Some(EventsCommand::Show(args)) => show(&client, args).await,
            Some(EventsCommand::Retry(args)) => retry(&client, args).await,
            Some(EventsCommand::Drop(args)) => drop_events(&client, args).await,
        }
    })
}

async fn list(client: &AgentClient, args: EventListArgs) -> anyhow::Result<ExitCode> {
    let query = EventQuery {
        outlet: args.outlet,
        dead: args.dead,
        after: args.after,
        id: None,
        limit: args.limit,
    };
    let list = events(client, &query).await?;
    match args.json {
        true => print_json(&list)?,
        false => print_as_is(&table::list(
            &list,
            &query,
            SystemTime::now(),
            ColorMode::on_stdout(),
            terminal_width(),
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &AgentClient, args: EventShowArgs) -> anyhow::Result<ExitCode> {
    let list = one(client, None, &args.id).await?;
    match args.json {
        true => print_json(&list)?,
        false => print_as_is(&table::one(&list, SystemTime::now(), terminal_width()))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(client: &AgentClient, args: EventRetryArgs) -> anyhow::Result<ExitCode> {
    let order = order(args.selected, args.outlet);
    let answer = client.retry_events(&order).await;
    let done = of_outlet(client, order.outlet.as_deref(), answer).await?;
    print(&match (&order.id, done.events) {
        (Some(id), _) => format!("{id} is tried again; see: agent events show {id}\n"),
        (None, 0) if done.left == 0 => String::from("there is no dead letter\n"),
        (None, 1) => String::from("1 dead letter is tried again\n"),
        (None, many) => format!("{many} dead letters are tried again\n"),
    })?;
    match done.left {
        0 => Ok(ExitCode::SUCCESS),
        left => {
            let left = count(left, "dead letter");
            print(&format!(
                "the queue has no room for {left} yet; run it again later\n"
            ))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn drop_events(client: &AgentClient, args: EventDropArgs) -> anyhow::Result<ExitCode> {
    let is_interactive = io::stdin().is_terminal();
    if !args.yes && !is_interactive {
        let text = "not a terminal: pass --yes to drop events; to see them first: agent events";
        return Err(UsageError(text.to_owned()).into());
    }
    let order = order(args.selected, args.outlet);
    if !args.yes {
        let question = match &order.id {
            Some(id) => {
                let list = one(client, order.outlet.as_deref(), id).await?;
                let shown = table::one(&list, SystemTime::now(), terminal_width());
                print_as_is(&shown)?;
                String::from("Drop this event? It is never delivered. [y/N] ")
            }
            None => {
                let query = EventQuery {
                    outlet: order.outlet.clone(),
                    dead: true,
                    limit: 1,
                    ..EventQuery::default()
                };
                let list = events(client, &query).await?;
                let dead: u64 = list.outlets.iter().map(|outlet| outlet.dead_letters).sum();
                if dead == 0 {
                    print("there is no dead letter\n")?;
                    return Ok(ExitCode::SUCCESS);
                }
                let dead = count(dead, "dead letter");
                format!("Drop {dead}? What is dropped is never delivered. [y/N] ")
            }
        };
        if !confirmed(&question)? {
            print("Nothing was dropped.\n")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    let answer = client.drop_events(&order).await;
    let done = of_outlet(client, order.outlet.as_deref(), answer).await?;
    print(&match (&order.id, done.events) {
        (Some(id), _) => format!("dropped {id}\n"),
        (None, 0) => String::from("there is no dead letter\n"),
        (None, 1) => String::from("dropped 1 dead letter\n"),
        (None, many) => format!("dropped {many} dead letters\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The list with only this event.
async fn one(client: &AgentClient, outlet: Option<&str>, id: &str) -> anyhow::Result<EventList> {
    let query = EventQuery {
        outlet: outlet.map(str::to_owned),
        id: Some(id.to_owned()),
        limit: 1,
        ..EventQuery::default()
    };
    events(client, &query).await
}

/// The list, with control characters replaced in all texts.
async fn events(client: &AgentClient, query: &EventQuery) -> anyhow::Result<EventList> {
    let answer = client.events(query).await;
    let list = of_outlet(client, query.outlet.as_deref(), answer).await?;
    Ok(printable_document(&list))
}

/// The answer; a refusal is an error of usage if the running agent has no outlet of this name that stores.
async fn of_outlet<T>(
    client: &AgentClient,
    name: Option<&str>,
    answer: Result<T, AgentClientError>,
) -> anyhow::Result<T> {
    let error = match answer {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if let (AgentClientError::Refused(why), Some(name)) = (&error, name)
        && let Ok(running) = client.status().await
        && !running
            .outlets
            .iter()
            .any(|outlet| outlet.name == name && outlet.queue.is_some())
    {
        return Err(UsageError(why.clone()).into());
    }
    Err(error.into())
}

fn order(selected: SelectedEvents, outlet: Option<String>) -> EventOrder {
    EventOrder {
        outlet,
        id: selected.id.filter(|_| !selected.all),
    }
}

fn print_json(list: &EventList) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(list)? + "\n"))
}

fn event_id(text: &str) -> Result<String, String> {
    let id: EventId = text
        .parse()
        .map_err(|error: EventIdError| error.to_string())?;
    Ok(id.to_string())
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX_LISTED).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("write a number from 1 to {MAX_LISTED}")),
    }
}
