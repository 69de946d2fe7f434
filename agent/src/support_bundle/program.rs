//! Runs another program and captures its output, within a time and size limit.

use super::part::PartContent;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

/// Which end of an output is kept if it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptEnd {
    /// The beginning: a report.
    First,
    /// The end: a log.
    Last,
}

/// What the standard error of a program that prints nothing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmptyOutput {
    /// It is the reason why the part is missing.
    MissingPart,
    /// It is the content of the part.
    UseStderr,
}

/// A program to run, with its limits.
pub(super) struct ExternalProgram {
    command: Command,
    limit: Duration,
    kept_end: KeptEnd,
    empty_output: EmptyOutput,
}

impl ExternalProgram {
    /// Searched in `PATH` unless it is a path; runs without input, pager, colors or localization.
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
            // On the deadline, it ends with the future that waits for it.
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

    pub(super) fn keep_end(mut self, keep_end: KeptEnd) -> Self {
        self.kept_end = keep_end;
        self
    }

    pub(super) fn empty_output(mut self, empty_output: EmptyOutput) -> Self {
        self.empty_output = empty_output;
        self
    }

    /// Runs it. Returns its output, or why there is none in time.
    pub(super) async fn run(self) -> PartContent {
        let (limit, empty_output) = (self.limit, self.empty_output);
        let name = self.command.as_std().get_program().to_owned();
        let name = std::path::Path::new(&name).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let (out, stderr, status) = match timeout(limit, self.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return PartContent::Missing(format!("{name} cannot be run: {error}"));
            }
            Err(_) => {
                return PartContent::Missing(format!("{name} did not finish within {limit:?}"));
            }
        };
        let stderr_text = stderr.text.trim();
        match (out.text.trim().is_empty(), empty_output) {
            (false, _) => out.into(),
            (true, EmptyOutput::UseStderr) if !stderr_text.is_empty() => stderr.into(),
            (true, _) if stderr_text.is_empty() => {
                PartContent::Missing(format!("{name} printed nothing ({status})"))
            }
            (true, _) => PartContent::Missing(stderr_text.lines().collect::<Vec<_>>().join("; ")),
        }
    }

    async fn output(
        mut self,
    ) -> std::io::Result<(CapturedOutput, CapturedOutput, std::process::ExitStatus)> {
        let mut child = self.command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (out, stderr, status) = tokio::join!(
            read(stdout, self.kept_end),
            read(stderr, KeptEnd::First),
            child.wait()
        );
        Ok((out?, stderr?, status?))
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

/// Reads to the end, so that the program never blocks, and keeps at most [`MAX_BYTES`] in whole lines.
async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    keep_end: KeptEnd,
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
            match keep_end {
                KeptEnd::First => {
                    let room = MAX_BYTES.saturating_sub(kept.len());
                    cut |= count > room;
                    kept.extend_from_slice(&buffer[..count.min(room)]);
                }
                KeptEnd::Last => {
                    kept.extend_from_slice(&buffer[..count]);
                    // Rarely, so that few bytes are moved.
                    if kept.len() > 2 * MAX_BYTES {
                        cut = true;
                        kept.drain(..kept.len() - MAX_BYTES);
                    }
                }
            }
        }
    }
    if keep_end == KeptEnd::Last && kept.len() > MAX_BYTES {
        cut = true;
        kept.drain(..kept.len() - MAX_BYTES);
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if cut {
        whole_lines(&mut text, keep_end);
    }
    Ok(CapturedOutput { text, cut })
}

/// Removes the line that was cut in two.
pub(super) fn whole_lines(text: &mut String, keep_end: KeptEnd) {
    match keep_end {
        KeptEnd::First => text.truncate(text.rfind('\n').map_or(0, |at| at + 1)),
        KeptEnd::Last => {
            let begin = text.find('\n').map_or(text.len(), |at| at + 1);
            text.drain(..begin);
        }
    }
}

/// Bytes of one part: ten times two thousand log lines.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// `systemctl` and the like answer within milliseconds, unless they hang on the bus.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    async fn shell(script: &str, keep_end: KeptEnd, empty_output: EmptyOutput) -> PartContent {
        let program = ExternalProgram::new("/bin/sh")
            .args(["-c", script])
            .keep_end(keep_end);
        program
            .empty_output(empty_output)
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
        assert!(first.len() <= MAX_BYTES);
        let kept = shell(script, KeptEnd::Last, EmptyOutput::MissingPart).await;
        let (last, cut) = text(&kept);
        assert!(cut && last.starts_with("line-") && last.ends_with("line-299999-of-many\n"));
        assert!(last.len() <= MAX_BYTES);
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_is_not_there_is_a_part_that_says_why() {
        let hangs = ExternalProgram::new("/bin/sleep").args(["600"]);
        let PartContent::Missing(why) = hangs.within(Duration::from_millis(50)).run().await else {
            panic!("it gave something");
        };
        assert!(why.contains("sleep did not finish within 50ms"), "{why}");
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
        let stderr = shell(script, KeptEnd::First, EmptyOutput::UseStderr).await;
        assert_eq!(text(&stderr), ("no unit\n", false));
    }
}
