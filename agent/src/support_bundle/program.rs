//! Another program's output, within a time and a size.

use super::part::PartContent;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

/// Which end of an output that is too long is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptEnd {
    /// The beginning: a report.
    First,
    /// The end: a log.
    Last,
}

/// Where a program that prints nothing says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyOutput {
    /// Its standard error is a reason for a part that is missing.
    MissingPart,
    /// Its standard error is worth as much as its output.
    UseStderr,
}

/// A program to be asked.
pub(super) struct ExternalProgram {
    command: Command,
    limit: Duration,
    kept_end: KeptEnd,
    empty_output: EmptyOutput,
}

impl ExternalProgram {
    /// It is found on `PATH` unless it is a path; asks nothing, pages nothing, speaks English.
    pub(super) fn new(program: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .env("LC_ALL", "C.UTF-8")
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Also on the deadline: it ends with the future that waits for it.
            .kill_on_drop(true);
        Self {
            command,
            limit: LIMIT,
            kept_end: KeptEnd::First,
            empty_output: EmptyOutput::MissingPart,
        }
    }

    pub(super) fn args<A: AsRef<std::ffi::OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(super) fn keep_end(mut self, keep: KeptEnd) -> Self {
        self.kept_end = keep;
        self
    }

    pub(super) fn empty_output(mut self, silence: EmptyOutput) -> Self {
        self.empty_output = silence;
        self
    }

    /// What it prints; why nothing, if it cannot be had in time.
    pub(super) async fn run(self) -> PartContent {
        let (limit, silence) = (self.limit, self.empty_output);
        let name = self.command.as_std().get_program().to_owned();
        let name = std::path::Path::new(&name).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let (out, told, status) = match timeout(limit, self.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return PartContent::Missing(format!("{name} cannot be run: {error}"));
            }
            Err(_) => return PartContent::Missing(format!("{name} did not end within {limit:?}")),
        };
        let told_text = told.text.trim();
        match (out.text.trim().is_empty(), silence) {
            (false, _) => out.into(),
            (true, EmptyOutput::UseStderr) if !told_text.is_empty() => told.into(),
            (true, _) if told_text.is_empty() => {
                PartContent::Missing(format!("{name} printed nothing ({status})"))
            }
            (true, _) => PartContent::Missing(told_text.lines().collect::<Vec<_>>().join("; ")),
        }
    }

    async fn output(
        mut self,
    ) -> std::io::Result<(CapturedOutput, CapturedOutput, std::process::ExitStatus)> {
        let mut child = self.command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (out, told, status) = tokio::join!(
            read(stdout, self.kept_end),
            read(stderr, KeptEnd::First),
            child.wait()
        );
        Ok((out?, told?, status?))
    }
}

/// What was kept of an output.
struct CapturedOutput {
    text: String,
    cut: bool,
}

impl From<CapturedOutput> for PartContent {
    fn from(kept: CapturedOutput) -> Self {
        Self::Text {
            text: kept.text,
            cut: kept.cut,
            removed: 0,
        }
    }
}

/// Reads to the end, so that the program never waits for us, and keeps at most [`MOST`] bytes in whole lines.
async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    keep: KeptEnd,
) -> std::io::Result<CapturedOutput> {
    let mut kept: Vec<u8> = Vec::new();
    let mut cut = false;
    let mut buffer = vec![0; 64 << 10];
    if let Some(mut pipe) = pipe {
        loop {
            let count = pipe.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            match keep {
                KeptEnd::First => {
                    let room = MOST.saturating_sub(kept.len());
                    cut |= count > room;
                    kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                KeptEnd::Last => {
                    kept.extend_from_slice(&buffer[..count]);
                    // Seldom, so that little is moved.
                    if kept.len() > 2 * MOST {
                        cut = true;
                        kept.drain(..kept.len() - MOST);
                    }
                }
            }
        }
    }
    if keep == KeptEnd::Last && kept.len() > MOST {
        cut = true;
        kept.drain(..kept.len() - MOST);
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if cut {
        whole_lines(&mut text, keep);
    }
    Ok(CapturedOutput { text, cut })
}

/// Takes the line away that was cut in two.
pub(super) fn whole_lines(text: &mut String, keep: KeptEnd) {
    match keep {
        KeptEnd::First => text.truncate(text.rfind('\n').map_or(0, |at| at + 1)),
        KeptEnd::Last => {
            let begin = text.find('\n').map_or(text.len(), |at| at + 1);
            text.drain(..begin);
        }
    }
}

/// Bytes of one part. Two thousand lines of a log are a tenth of it.
pub(super) const MOST: usize = 2 << 20;
/// `systemctl` and its kin answer within milliseconds; one that hangs on the bus is not waited for.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    async fn shell(script: &str, keep: KeptEnd, silence: EmptyOutput) -> PartContent {
        let program = ExternalProgram::new("/bin/sh")
            .args(["-c", script])
            .keep_end(keep);
        program
            .empty_output(silence)
            .within(Duration::from_secs(30))
            .run()
            .await
    }

    fn text(content: &PartContent) -> (&str, bool) {
        match content {
            PartContent::Text { text, cut, .. } => (text, *cut),
            PartContent::Missing(why) => panic!("missing: {why}"),
        }
    }

    #[tokio::test]
    async fn of_too_much_the_wanted_end_is_kept_in_whole_lines() {
        let script = "i=0; while [ $i -lt 300000 ]; do echo line-$i-of-many; i=$((i+1)); done";
        let kept = shell(script, KeptEnd::First, EmptyOutput::MissingPart).await;
        let (first, cut) = text(&kept);
        assert!(cut && first.starts_with("line-0-of-many\n") && first.ends_with("-of-many\n"));
        assert!(first.len() <= MOST);
        let kept = shell(script, KeptEnd::Last, EmptyOutput::MissingPart).await;
        let (last, cut) = text(&kept);
        assert!(cut && last.starts_with("line-") && last.ends_with("line-299999-of-many\n"));
        assert!(last.len() <= MOST);
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_is_not_there_is_a_part_that_says_why() {
        let hangs = ExternalProgram::new("/bin/sleep").args(["600"]);
        let PartContent::Missing(why) = hangs.within(Duration::from_millis(50)).run().await else {
            panic!("it gave something");
        };
        assert!(why.contains("sleep did not end within 50ms"), "{why}");
        let PartContent::Missing(why) = ExternalProgram::new("/none/such").run().await else {
            panic!("it gave something");
        };
        assert!(why.contains("such cannot be run"), "{why}");
    }

    #[tokio::test]
    async fn standard_error_tells_why_there_is_nothing() {
        let script = "echo no unit >&2; exit 4";
        let PartContent::Missing(why) =
            shell(script, KeptEnd::First, EmptyOutput::MissingPart).await
        else {
            panic!("it gave something");
        };
        assert_eq!(why, "no unit");
        let told = shell(script, KeptEnd::First, EmptyOutput::UseStderr).await;
        assert_eq!(text(&told), ("no unit\n", false));
    }
}
