//! Versions that a fault may depend on, and the name of this host.

use super::part::PartContent;
use super::program::ExternalProgram;
use std::{fs, time::SystemTime};

/// One line each: agent, kernel, distribution, systemd, C library, processors, memory, free disk.
pub(super) async fn versions() -> String {
    let kernel = |name: &str| read(&format!("/proc/sys/kernel/{name}"));
    let (systemd, glibc, disk) = tokio::join!(
        first_line(ExternalProgram::new("systemctl").args(["--version"])),
        first_line(ExternalProgram::new("getconf").args(["GNU_LIBC_VERSION"])),
        // The disk of state folder and spool may be full.
        last_line(ExternalProgram::new("df").args(["-h", "/var/lib"])),
    );
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let lines = [
        ("agent", env!("CARGO_PKG_VERSION").to_owned()),
        ("program", link("/proc/self/exe")),
        (
            "time",
            humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        ),
        ("host", kernel("hostname")),
        (
            "kernel",
            format!(
                "{} {} {}",
                kernel("ostype"),
                kernel("osrelease"),
                std::env::consts::ARCH
            ),
        ),
        ("distribution", distribution(&read("/etc/os-release"))),
        ("systemd", systemd),
        ("glibc", glibc),
        ("process 1", read("/proc/1/comm")),
        ("processors", processors.to_string()),
        ("memory", memory),
        ("disk of /var/lib", disk),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("{name:16} {value}\n"))
        .collect()
}

/// The name of the bundle: `jira-tunnel-agent-support-HOST-20261122T093000Z`.
pub(super) fn bundle_name(now: SystemTime) -> String {
    let host: String = read("/proc/sys/kernel/hostname")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.')
        .take(MAX_HOST)
        .collect();
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let time = time.replace(['-', ':'], "");
    format!("jira-tunnel-agent-support-{host}-{time}")
}

fn distribution(os_release: &str) -> String {
    let named = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    named.map_or_else(
        || "unknown".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

async fn first_line(program: ExternalProgram) -> String {
    line(program.run().await, |text| text.lines().next())
}

async fn last_line(program: ExternalProgram) -> String {
    line(program.run().await, |text| text.lines().next_back())
}

fn line(content: PartContent, choose: fn(&str) -> Option<&str>) -> String {
    match content {
        PartContent::Text { text, .. } => choose(&text).unwrap_or_default().to_owned(),
        PartContent::Missing(why) => format!("unknown: {why}"),
    }
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim_end().to_owned()
}

fn link(path: &str) -> String {
    fs::read_link(path).map_or_else(|error| error.to_string(), |to| to.display().to_string())
}

/// Characters: a host name can be as long as a file name.
const MAX_HOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_host_and_time() {
        let name = bundle_name(SystemTime::UNIX_EPOCH);
        assert!(name.starts_with("jira-tunnel-agent-support-"), "{name}");
        assert!(name.ends_with("-19700101T000000Z"), "{name}");
        assert!(!name.contains(['/', ' ']), "{name}");
    }

    #[test]
    fn the_distribution_is_named_as_it_names_itself() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(distribution(text), "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(distribution(""), "unknown");
    }
}
