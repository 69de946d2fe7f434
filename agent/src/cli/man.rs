//! `agent man`: for building packages.

use anyhow::Context;
use clap_mangen::Man;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Write the man pages into a folder
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The folder; made where it does not exist
    folder: PathBuf,
}

/// Writes `agent.1`, one page for each subcommand, and `jira-tunnel-agent.1`, by which who knows the package finds them.
pub fn run(args: Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    let folder = args.folder;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    fs::create_dir_all(&folder)
        .and_then(|()| pages(&command, &folder))
        .and_then(|()| fs::write(folder.join("jira-tunnel-agent.1"), ".so man1/agent.1\n"))
        .with_context(|| folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        pages(inner, folder)?;
    }
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    page.extend_from_slice(SECTIONS.as_bytes());
    fs::write(folder.join(man.get_filename()), page)
}

/// The same for all commands. What differs (the codes of `status`, `check`, `verify-self`) is in their descriptions.
const SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
\fB0\fR
success; \fBstatus\fR: every layer is proven; \fBcheck\fR: all is well
.TP
\fB1\fR
it failed; \fBstatus\fR: degraded; \fBcheck\fR: with warnings; \fBpolicy explain\fR: refused
.TP
\fB2\fR
\fBstatus\fR: no request can pass; \fBcheck\fR: something does not work
.TP
\fB3\fR
no agent is running, or this user may not ask it
.TP
\fB64\fR
the command was typed wrong
.TP
\fB77\fR
this user may not read what is needed
.TP
\fB78\fR
the configuration cannot be used
.SH FILES
.TP
\fI/etc/jira\-tunnel\-agent/agent.toml\fR
the configuration; \fIagent.d/*.toml\fR beside it win over it, in the order of their names
.TP
\fI/var/lib/jira\-tunnel\-agent\fR
state: OAuth tokens, pauses, uploads on their way
.TP
\fI/run/jira\-tunnel\-agent/agent.sock\fR
the socket by which the commands ask the running agent
.SH ENVIRONMENT
.TP
\fBJIRA_TUNNEL_AGENT_CONFIG\fR
the configuration file, where \fB\-\-config\fR names none
.TP
\fBJIRA_TUNNEL_AGENT__SECTION__KEY\fR
a value that wins over the files
.TP
\fBSTATE_DIRECTORY\fR, \fBRUNTIME_DIRECTORY\fR, \fBCREDENTIALS_DIRECTORY\fR
folders that systemd names; they find the agent of another unit, too
.TP
\fBNO_COLOR\fR, \fBTERM\fR
no color where the first is set or the second is \fIdumb\fR
.SH "SEE ALSO"
\fBagent\fR(1), \fBjournalctl\fR(1), \fI/usr/share/doc/jira\-tunnel\-agent\fR
"#;
