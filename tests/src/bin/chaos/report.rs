//! What was measured, beside what was promised: rows for the terminal, JSON for programs, Markdown for the documents.

use super::{before::before, scenarios::Scenario, world::PlaceKind};
use anyhow::{Context, Result};
use clap::ValueEnum;
use parking_lot::Mutex;
use std::{fs, io::Write, path::Path, process::Command, time::Duration};

/// Collects the rows of all scenarios.
pub(crate) struct ChaosReport {
    rows: Mutex<Vec<ReportRow>>,
    durations: Mutex<Vec<ScenarioDuration>>,
    /// Times may be this many times their goal: they are no test on a busy machine.
    patience: f64,
}

/// One goal at one kind of gateway.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReportRow {
    /// Name of the scenario that measured it.
    pub(crate) scenario: String,
    /// Name of the goal, the same in each run.
    pub(crate) name: String,
    /// Kind of gateway: `sshd port`, `sshd socket`, `gateway-openssh` or `stub`.
    pub(crate) place: String,
    /// What was measured, for people.
    pub(crate) measured: String,
    /// The goal, for people; empty for a figure without one.
    pub(crate) goal: String,
    /// Whether the goal is met.
    pub(crate) verdict: RowVerdict,
}

/// Whether a goal is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RowVerdict {
    /// The goal is met.
    Ok,
    /// The time is over its goal, and within what a short run accepts on a busy machine.
    Slow,
    /// The goal is missed.
    Fail,
    /// A figure without a goal.
    Info,
    /// Not measured, with the reason as its value.
    Missing,
}

/// How long a scenario took at all kinds of gateway.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ScenarioDuration {
    /// Name of the scenario.
    pub(crate) scenario: String,
    /// Whole seconds.
    pub(crate) seconds: u64,
}

/// The whole result of one run.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct ChaosDocument {
    /// Time of the end of the run, UTC.
    pub(crate) date: String,
    /// The command line.
    pub(crate) command: String,
    /// Processor, cores, kernel and programs.
    pub(crate) machine: String,
    /// All rows, in the order of the measurements.
    pub(crate) rows: Vec<ReportRow>,
    /// How long each scenario took; empty in the documents of earlier versions.
    #[serde(default)]
    pub(crate) durations: Vec<ScenarioDuration>,
}

impl ChaosReport {
    pub(crate) fn new(patience: f64) -> Self {
        Self {
            rows: Mutex::default(),
            durations: Mutex::default(),
            patience,
        }
    }

    /// A time that must be at most `goal`; `None` where it did not happen while watched.
    pub(crate) fn time(
        &self,
        at: (&str, &str),
        name: &str,
        measured: Option<Duration>,
        goal: Duration,
    ) {
        let verdict = match measured {
            Some(time) if time <= goal => RowVerdict::Ok,
            Some(time) if time <= goal.mul_f64(self.patience) => RowVerdict::Slow,
            Some(_) | None => RowVerdict::Fail,
        };
        let text = measured.map_or_else(|| "never".to_owned(), seconds);
        self.push(at, name, text, format!("≤ {}", seconds(goal)), verdict);
    }

    /// A time without a goal.
    pub(crate) fn time_of(&self, at: (&str, &str), name: &str, measured: Option<Duration>) {
        self.info(
            at,
            name,
            measured.map_or_else(|| "not yet".to_owned(), seconds),
        );
    }

    /// A number that must be at most `goal`.
    pub(crate) fn count(&self, at: (&str, &str), name: &str, measured: u64, goal: u64) {
        self.counted(at, name, measured, goal, String::new());
    }

    /// As [`count`](Self::count), with more to read beside the number.
    pub(crate) fn counted(
        &self,
        at: (&str, &str),
        name: &str,
        measured: u64,
        goal: u64,
        more: String,
    ) {
        let goal_text = match goal {
            0 => "0".to_owned(),
            _ => format!("≤ {goal}"),
        };
        let text = format!("{measured}{more}");
        self.push(at, name, text, goal_text, verdict_of(measured <= goal));
    }

    /// A ratio that must be at least `goal`.
    pub(crate) fn at_least(&self, at: (&str, &str), name: &str, measured: f64, goal: f64) {
        let verdict = match measured {
            _ if measured >= goal => RowVerdict::Ok,
            _ if measured >= goal / self.patience => RowVerdict::Slow,
            _ => RowVerdict::Fail,
        };
        self.push(
            at,
            name,
            format!("{measured:.2}"),
            format!("≥ {goal}"),
            verdict,
        );
    }

    /// A ratio or amount that must be at most `goal`.
    pub(crate) fn at_most(
        &self,
        at: (&str, &str),
        name: &str,
        measured: f64,
        goal: f64,
        unit: &str,
    ) {
        let verdict = match measured {
            _ if measured <= goal => RowVerdict::Ok,
            _ if measured <= goal * self.patience => RowVerdict::Slow,
            _ => RowVerdict::Fail,
        };
        let text = format!("{measured:.2}{unit}");
        self.push(at, name, text, format!("≤ {goal}{unit}"), verdict);
    }

    /// Something that must hold.
    pub(crate) fn holds(&self, at: (&str, &str), name: &str, holds: bool, measured: String) {
        self.push(at, name, measured, "holds".to_owned(), verdict_of(holds));
    }

    /// A figure without a goal.
    pub(crate) fn info(&self, at: (&str, &str), name: &str, measured: String) {
        self.push(at, name, measured, String::new(), RowVerdict::Info);
    }

    /// Something that could not be measured here.
    pub(crate) fn missing(&self, at: (&str, &str), name: &str, reason: String) {
        self.push(at, name, reason, String::new(), RowVerdict::Missing);
    }

    /// A scenario that broke off.
    pub(crate) fn broken(&self, at: (&str, &str), error: &anyhow::Error) {
        let text = format!("{error:#}").replace('\n', " ");
        let text: String = text.chars().take(600).collect();
        self.push(
            at,
            "the scenario runs to its end",
            text,
            "holds".to_owned(),
            RowVerdict::Fail,
        );
    }

    fn push(
        &self,
        (scenario, place): (&str, &str),
        name: &str,
        measured: String,
        goal: String,
        verdict: RowVerdict,
    ) {
        let row = ReportRow {
            scenario: scenario.to_owned(),
            name: name.to_owned(),
            place: place.to_owned(),
            measured,
            goal,
            verdict,
        };
        print_line(&line(&row));
        self.rows.lock().push(row);
    }

    /// A scenario has ended after this time.
    pub(crate) fn ended(&self, scenario: &str, took: Duration) {
        self.durations.lock().push(ScenarioDuration {
            scenario: scenario.to_owned(),
            seconds: took.as_secs(),
        });
    }

    /// The rows of each scenario together, in the order of the gateways: several may have run at once.
    fn sorted_rows(&self) -> Vec<ReportRow> {
        let rows = self.rows.lock().clone();
        let mut scenarios: Vec<String> = Vec::new();
        for row in &rows {
            if !scenarios.contains(&row.scenario) {
                scenarios.push(row.scenario.clone());
            }
        }
        let place = |row: &ReportRow| PlaceKind::ALL.iter().position(|p| p.name() == row.place);
        let scenario = |row: &ReportRow| scenarios.iter().position(|s| *s == row.scenario);
        let mut sorted = rows;
        sorted.sort_by_key(|row| (scenario(row), place(row)));
        sorted
    }
}

impl ChaosDocument {
    /// The result of this process's run.
    pub(crate) fn of(report: &ChaosReport) -> Self {
        let printed = |program: &str, arguments: &[&str]| {
            let done = Command::new(program).args(arguments).output();
            let done = done.map(|done| [done.stdout, done.stderr].concat());
            let text = String::from_utf8_lossy(&done.unwrap_or_default()).into_owned();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = format!(
            "{cores} cores ({}), Linux {}, {}, {}, {}",
            processor(),
            printed("uname", &["-r"]),
            printed("ssh", &["-V"]),
            printed("/usr/sbin/haproxy", &["-v"]),
            printed(
                &e2e::agent::binary("agent").display().to_string(),
                &["--version"]
            ),
        );
        let mut words: Vec<String> = std::env::args().skip(1).collect();
        // Where the result is written does not matter to whom repeats the run.
        if let Some(at) = words.iter().position(|word| word == "--json") {
            words.drain(at..words.len().min(at + 2));
        }
        words.insert(0, "chaos".to_owned());
        Self {
            date: printed("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            command: words.join(" "),
            machine,
            rows: report.sorted_rows(),
            durations: report.durations.lock().clone(),
        }
    }

    /// Writes the document as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Reads a document that an earlier run wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Tables for `docs/dev/reliability.md`, one for each scenario.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "Measured on {} with `{}`: {}.\n",
            self.date, self.command, self.machine
        );
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                scenario = &row.scenario;
                text += &format!(
                    "\n### {scenario}\n\n{}| what | gateway | measured | goal | verdict | before |\n|---|---|---|---|---|---|\n",
                    about(scenario)
                );
            }
            text += &format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                row.name,
                row.place,
                row.measured.replace('|', "/"),
                row.goal,
                row.verdict.word(),
                before(&row.name, &row.place)
            );
        }
        text += &self.times();
        text
    }

    /// The time of all scenarios together.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_secs(self.durations.iter().map(|one| one.seconds).sum())
    }

    /// The time of each scenario, as a sentence.
    fn times(&self) -> String {
        if self.durations.is_empty() {
            return String::new();
        }
        let each = |one: &ScenarioDuration| format!("{} {} s", one.scenario, one.seconds);
        let each: Vec<String> = self.durations.iter().map(each).collect();
        let minutes = self.took().as_secs().div_ceil(60);
        format!("\nThe run took {minutes} minutes: {}.\n", each.join(", "))
    }

    /// Number of missed goals, and of what could not be measured.
    pub(crate) fn missed(&self) -> (usize, usize) {
        let of = |verdict| {
            self.rows
                .iter()
                .filter(|row| row.verdict == verdict)
                .count()
        };
        (of(RowVerdict::Fail), of(RowVerdict::Missing))
    }
}

impl RowVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Fail => "FAIL",
            Self::Info => "",
            Self::Missing => "MISSING",
        }
    }
}

fn verdict_of(holds: bool) -> RowVerdict {
    match holds {
        true => RowVerdict::Ok,
        false => RowVerdict::Fail,
    }
}

fn line(row: &ReportRow) -> String {
    format!(
        "{:<8}| {:<16}| {:<52}| {:<24}| {:<10}| {}",
        row.verdict.word(),
        row.place,
        format!("{}: {}", row.scenario, row.name),
        row.measured,
        row.goal,
        before(&row.name, &row.place)
    )
}

/// What a scenario does, as `--help` has it, with an empty line; empty where no scenario has this name.
fn about(scenario: &str) -> String {
    let name = scenario.split(' ').next().unwrap_or_default();
    let known = Scenario::from_str(name, true).ok();
    let help = known.and_then(|scenario| scenario.to_possible_value()?.get_help().cloned());
    help.map_or_else(String::new, |help| format!("{help}.\n\n"))
}

/// Name of the processor, as the kernel gives it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    let name = names
        .filter(|(key, _)| key.trim() == "model name")
        .map(|(_, name)| name.trim().to_owned())
        .next();
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Prints a line. A reader that has left (`| head`) does not end the run, whose JSON is still written.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Seconds with as many digits as matter.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds < 1.0 => format!("{seconds:.2} s"),
        _ if seconds < 100.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}
