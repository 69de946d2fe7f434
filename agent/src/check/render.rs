//! A check as a person reads it.

use super::{Report, Verdict};
use std::fmt::Write;

/// The table that `agent check` prints.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let mut forward = None;
    for step in &report.steps {
        if step.forward != forward {
            forward.clone_from(&step.forward);
            let _ = writeln!(text, "\nforward {}", forward.as_deref().unwrap_or_default());
        }
        let detail = match step.verdict {
            Verdict::Skipped => step.cause.as_deref(),
            _ => step.detail.as_deref(),
        };
        let line = format!(
            "  {:<14} {:<8} {:>7.3} s  {}",
            step.step,
            step.verdict.to_string(),
            step.seconds,
            detail.unwrap_or_default()
        );
        let _ = writeln!(text, "{}", line.trim_end());
        if step.verdict < Verdict::Warn {
            continue;
        }
        if let Some(cause) = &step.cause {
            let _ = writeln!(text, "                 cause:  {cause}");
        }
        if let Some(remedy) = &step.remedy {
            let _ = writeln!(text, "                 remedy: {remedy}");
        }
    }
    let count = |verdict| report.steps.iter().filter(|s| s.verdict == verdict).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} warnings, {} failed, {} skipped",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
        count(Verdict::Skipped)
    );
    text
}
