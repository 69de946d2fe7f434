//! The result, as text and as JSON.

use super::manifest::PackageManifest;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The report that `agent verify-self --json` prints.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct VerifyReport {
    /// Version of this document, 1. Fields and verdicts may be added within a version.
    pub version: u32,
    /// When the report was made, RFC 3339, UTC.
    pub time: String,
    /// Version and revision of the manifest's package, such as `1.2.3-1`.
    pub package_version: String,
    /// `ok`, `differs` or `unknown`, whichever is worst in that order.
    pub verdict: FileVerdict,
    /// Number of files that match the package.
    pub as_packaged: usize,
    /// Files that differ from the package, and files that were added.
    pub findings: Vec<FileFinding>,
}

/// The result for one file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileFinding {
    /// Path of the file.
    pub path: PathBuf,
    /// How the file compares to the package.
    pub verdict: FileVerdict,
    /// What is different, one clause.
    pub cause: Option<String>,
    /// What to do about it: commands, or one sentence.
    pub remedy: Option<String>,
}

/// Verdict on a file; that of the report is the worst of them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FileVerdict {
    /// The file matches the package.
    Ok,
    /// Documentation that is not installed here.
    LeftOut,
    /// Configuration that the administrator has changed.
    Changed,
    /// Not part of the package, but takes effect.
    Added,
    /// This user may not read the file.
    Unknown,
    /// The file differs from the package.
    Differs,
}

impl FileFinding {
    pub(super) fn new(path: &Path, verdict: FileVerdict) -> Self {
        Self {
            path: path.to_owned(),
            verdict,
            cause: None,
            remedy: None,
        }
    }

    pub(super) fn unknown(path: &Path, cause: String) -> Self {
        Self::new(path, FileVerdict::Unknown)
            .with_cause(cause)
            .with_remedy("run as root")
    }

    pub(super) fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into()).filter(|cause| !cause.is_empty());
        self
    }

    pub(super) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        self
    }
}

impl VerifyReport {
    pub(super) fn new(manifest: &PackageManifest, findings: Vec<FileFinding>) -> Self {
        let (ok, findings): (Vec<_>, Vec<_>) = findings
            .into_iter()
            .partition(|f| f.verdict == FileVerdict::Ok);
        let worst = findings.iter().map(|finding| finding.verdict).max();
        Self {
            version: REPORT_VERSION,
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            package_version: manifest.package_version.clone(),
            verdict: match worst {
                Some(bad @ (FileVerdict::Unknown | FileVerdict::Differs)) => bad,
                _ => FileVerdict::Ok,
            },
            as_packaged: ok.len(),
            findings,
        }
    }

    /// Exit code of `agent verify-self`.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            FileVerdict::Differs => 1,
            FileVerdict::Unknown => 2,
            FileVerdict::Ok | FileVerdict::LeftOut | FileVerdict::Changed | FileVerdict::Added => 0,
        }
    }
}

/// Formats the report as text for a person.
pub fn render(report: &VerifyReport) -> String {
    let mut text = String::new();
    let mut left_out = 0;
    for finding in &report.findings {
        let word = match finding.verdict {
            FileVerdict::Ok => "ok",
            FileVerdict::LeftOut => {
                left_out += 1;
                continue;
            }
            FileVerdict::Changed => "changed",
            FileVerdict::Added => "added",
            FileVerdict::Unknown => "UNKNOWN",
            FileVerdict::Differs => "DIFFERS",
        };
        let cause = finding.cause.as_deref().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{word:8} {}: {cause}", finding.path.display());
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "{:8} -> {remedy}", "");
        }
    }
    let count = |verdict| {
        report
            .findings
            .iter()
            .filter(|f| f.verdict == verdict)
            .count()
    };
    let _ = writeln!(
        text,
        "package {}: {} as packaged, {} configuration changed, {left_out} documents not installed, {} added, {} unknown, {} differ",
        report.package_version,
        report.as_packaged,
        count(FileVerdict::Changed),
        count(FileVerdict::Added),
        count(FileVerdict::Unknown),
        count(FileVerdict::Differs),
    );
    text += "The manifest is on the same disk: this finds accidents, not an attacker (docs/security.md).\n";
    text
}

const REPORT_VERSION: u32 = 1;
