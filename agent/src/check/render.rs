//! A check as a table for a person.

use super::{CheckReport, CheckStep, FirewallRule, StepVerdict};
use crate::{printable::printable_lines, status::ColorMode, upstream::PresentedCertificate};
use std::fmt::Write;

/// The table that `agent check` prints. If a network hop failed, the firewall rules follow it.
pub fn render(report: &CheckReport, color: ColorMode) -> String {
    let mut text = String::new();
    let mut group = (None, None);
    for step in &report.steps {
        if group_of(step) != group {
            group = group_of(step);
            let _ = match group {
                (Some(gateway), _) => writeln!(text, "\ngateway {gateway}"),
                (None, forward) => writeln!(text, "\nforward {}", forward.unwrap_or_default()),
            };
        }
        row(&mut text, step, color);
    }
    let count = |verdict| report.steps.iter().filter(|s| s.verdict == verdict).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} {}, {} failed, {} skipped",
        count(StepVerdict::Ok),
        count(StepVerdict::Warn),
        match count(StepVerdict::Warn) {
            1 => "warning",
            _ => "warnings",
        },
        count(StepVerdict::Fail),
        count(StepVerdict::Skipped)
    );
    if report.network_failed() {
        let _ = write!(text, "\n{}", render_firewall(&report.firewall));
    }
    text
}

/// The list that `agent check --firewall` prints, one rule per line.
pub fn render_firewall(rules: &[FirewallRule]) -> String {
    let mut text = "for the network team:\n".to_owned();
    for rule in rules {
        let _ = writeln!(text, "  - {}", rule.line);
    }
    text.push_str("  Nothing connects to this host: no inbound rule is needed.\n");
    text
}

/// The steps of a gateway belong together, whichever forward they test.
fn group_of(step: &CheckStep) -> (Option<&str>, Option<&str>) {
    match &step.gateway {
        Some(gateway) => (Some(gateway), None),
        None => (None, step.forward.as_deref()),
    }
}

fn row(text: &mut String, step: &CheckStep, color: ColorMode) {
    let detail = match step.verdict {
        StepVerdict::Skipped => step.cause.as_deref(),
        StepVerdict::Ok | StepVerdict::Warn | StepVerdict::Fail => step.detail.as_deref(),
    };
    let about = match (&step.gateway, &step.forward) {
        (Some(_), Some(forward)) => format!("{forward}: "),
        _ => String::new(),
    };
    let line = format!(
        "  {:<14} {} {:>9}  {about}{}",
        step.step,
        verdict(step.verdict, color),
        duration(step.seconds),
        printable_lines(detail.unwrap_or_default())
    );
    let _ = writeln!(text, "{}", line.trim_end());
    if step.verdict < StepVerdict::Warn {
        return;
    }
    if let Some(cause) = &step.cause {
        let _ = writeln!(text, "{INDENT}cause:  {}", printable_lines(cause));
    }
    for (index, one) in step.chain.iter().enumerate() {
        let _ = writeln!(
            text,
            "{INDENT}chain {}: {}",
            index + 1,
            printable_lines(&certificate(one))
        );
    }
    if let Some(remedy) = &step.remedy {
        let _ = writeln!(text, "{INDENT}remedy: {}", printable_lines(remedy));
    }
}

fn verdict(verdict: StepVerdict, color: ColorMode) -> String {
    let word = format!("{:<8}", verdict.to_string());
    match verdict {
        StepVerdict::Ok => color.green(&word),
        StepVerdict::Warn => color.yellow(&word),
        StepVerdict::Fail => color.red(&word),
        StepVerdict::Skipped => word,
    }
}

/// Empty for a step that took no time.
fn duration(seconds: f64) -> String {
    match seconds {
        short if short <= 0.001 => String::new(),
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        long => format!("{long:.1} s"),
    }
}

fn certificate(one: &PresentedCertificate) -> String {
    let day = |day: &Option<String>| day.clone().unwrap_or_else(|| "?".to_owned());
    let problem = match &one.problem {
        Some(problem) => format!("   <-- {problem}"),
        None => String::new(),
    };
    format!(
        "{:?}, issued by {:?}, {} to {}{problem}",
        one.subject,
        one.issuer,
        day(&one.from),
        day(&one.until)
    )
}

const INDENT: &str = "                 ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::step::{StepRecorder, StepResult};

    #[test]
    fn words_of_a_gateway_cannot_steer_the_terminal() {
        let mut steps = StepRecorder::new(None);
        let found = StepResult::fail("it said \u{1b}]52;c;aGk=\u{7}\u{9b}2J", "ask the vendor");
        steps.add("round-trip", found);
        let text = render(
            &CheckReport::new(steps.into_vec(), Vec::new()),
            ColorMode::No,
        );
        assert!(text.contains("it said"));
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{text:?}"
        );
    }
}
