//! `agent man`, used when packages are built.

use anyhow::Context;
use clap_mangen::Man;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Write the man pages to a folder
#[derive(clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    /// Folder to write to; created if it does not exist
    folder: PathBuf,
}

/// Writes `agent.1`, one page per subcommand, and `jira-tunnel-agent.1`, found by the name of the package.
pub(super) fn run(args: Args, command: clap::Command) -> anyhow::Result<ExitCode> {
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

/// The sections that all pages share; `status`, `check` and `verify-self` describe their own exit codes.
const SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
\fB0\fR
success; \fBstatus\fR: every layer is proven; \fBcheck\fR: no problem
.TP
\fB1\fR
failure; \fBstatus\fR: degraded; \fBcheck\fR: warnings; \fBpolicy explain\fR: refused
.TP
\fB2\fR
\fBstatus\fR: no request can pass; \fBcheck\fR: something does not work
.TP
\fB3\fR
no agent is running, or this user may not query it
.TP
\fB64\fR
invalid command line
.TP
\fB77\fR
this user may not read a required file
.TP
\fB78\fR
invalid configuration
.SH FILES
.TP
\fI/etc/jira\-tunnel\-agent/agent.toml\fR
configuration; \fIagent.d/*.toml\fR in the same folder override it, in name order
.TP
\fI/var/lib/jira\-tunnel\-agent\fR
state: OAuth tokens, pauses, events of outlets, spooled uploads
.TP
\fI/run/jira\-tunnel\-agent/agent.sock\fR
socket through which the commands query the running agent
.SH ENVIRONMENT
.TP
\fBJIRA_TUNNEL_AGENT_CONFIG\fR
configuration file, if \fB\-\-config\fR is not given
.TP
\fBJIRA_TUNNEL_AGENT__SECTION__KEY\fR
value that overrides the files
.TP
\fBSTATE_DIRECTORY\fR, \fBRUNTIME_DIRECTORY\fR, \fBCREDENTIALS_DIRECTORY\fR
folders set by systemd; set them to address the agent of another unit
.TP
\fBNO_COLOR\fR, \fBTERM\fR
disable color if \fBNO_COLOR\fR is set or \fBTERM\fR is \fIdumb\fR
.SH "SEE ALSO"
\fBagent\fR(1), \fBjournalctl\fR(1), \fI/usr/share/doc/jira\-tunnel\-agent\fR
"#;
