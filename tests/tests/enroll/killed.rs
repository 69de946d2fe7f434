//! The enrollment, killed at every system call on its files or on sockets: it leaves a configuration that loads, or
//! none, and the same command with the same token completes.

use e2e::{
    agent::{binary, command},
    enrollment::{CustomerHost, VendorSetup},
    login::output_text,
    strace::{
        CallFilter::{self, All, Files},
        KillPoint, completed, kill_at_every_call,
    },
};
use std::{fs, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn an_enrollment_killed_at_any_step_completes_when_repeated() {
    let vendor = VendorSetup::start().await.unwrap();
    let mut flags = vendor.answers();
    flags.push("--no-check");
    let kills = kill_at_every_call(&CALLS, async |point: &KillPoint| {
        let host = CustomerHost::new()?;
        let token = vendor.token(&[])?;
        let mut files = vec![host.dir()];
        files.extend(FILES.map(|name| host.dir().join(name)));
        let killed = host.command(point.strace(&files), &flags);
        if completed(&host.pipe(killed, &token)?)? {
            return Ok(true);
        }
        whole_or_nothing(&host);
        host.enroll_ok(&token, &flags)?;
        // The host has one key, and the gateway knows it.
        assert_eq!(host.keys()?.len(), 1, "{point}");
        let files = host.files()?;
        let public = files.iter().find(|(name, _)| name.ends_with(".pub"));
        let public = String::from_utf8(public.unwrap().1.clone())?;
        let authorized = vendor.authorized();
        assert_eq!(authorized.matches(public.trim()).count(), 1, "{point}");
        Ok(false)
    });
    // The calls of the table exist.
    let kills = kills.await.unwrap();
    eprintln!("{kills} kills");
    assert!(kills > 60, "{kills}");
}

/// A drop-in, if there is one, loads with all files that it names.
fn whole_or_nothing(host: &CustomerHost) {
    let drop_in = host.dir().join("agent.d/10-enrolment.toml");
    if !drop_in.exists() {
        return;
    }
    let program = Command::new(binary("agent"));
    let shown = command(program, &host.dir(), &["config", "show"]).output();
    let shown = shown.unwrap();
    let text = fs::read_to_string(drop_in).unwrap();
    assert!(shown.status.success(), "{}\n{text}", output_text(&shown));
}

/// Relative to the configuration's folder.
const FILES: [&str; 10] = [
    "agent.toml",
    "agent.d",
    "agent.d/10-enrolment.toml",
    "agent.d/.10-enrolment.new",
    "enrolment",
    "enrolment/1",
    "enrolment/1/id_ed25519",
    "enrolment/1/id_ed25519.pub",
    "enrolment/1/enrolment.json",
    "enrolment/1/jira-token",
];
/// Only the gateway is reached by sockets.
const CALLS: [(&str, CallFilter); 14] = [
    ("openat", Files),
    ("write", Files),
    ("fsync", Files),
    ("close", Files),
    ("flock", Files),
    ("fchmod", Files),
    ("/^chmod|^fchmodat", Files),
    ("/^mkdir", Files),
    ("/^rename", Files),
    ("/^unlink", Files),
    ("connect", All),
    ("sendto", All),
    ("recvfrom", All),
    ("shutdown", All),
];
