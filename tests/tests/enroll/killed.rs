//! Killed at every system call that touches the files of an enrolment or a socket: whatever instruction it was, what is
//! there then is a configuration that loads or none, and the same command with the same token comes to its end.
//!
//! The real binary enrols under `strace -f`, which delivers SIGKILL as it enters the N-th call of one kind.

use e2e::{
    agent::binary,
    enrollment::{CustomerHost, VendorSetup},
    login::output_text,
};
use std::{
    fs,
    process::{Command, Output},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_killed_at_any_step_comes_to_its_end_when_it_is_run_again() {
    let office = VendorSetup::start().await.unwrap();
    let mut kills = 0;
    for (call, on) in CALLS {
        let mut survived = false;
        for nth in 1..=MOST {
            let host = CustomerHost::new().unwrap();
            let token = office.token(&[]).unwrap();
            if let Some(done) = killed_at(&host, &office, &token, call, on, nth) {
                assert!(
                    done.status.success(),
                    "{call} {nth}: {}",
                    output_text(&done)
                );
                survived = true;
                break;
            }
            kills += 1;
            whole_or_nothing(&host, call, nth);
            let mut flags = office.answers();
            flags.push("--no-check");
            let again = host.enroll(&token, &flags).unwrap();
            assert!(
                again.status.success(),
                "{call} {nth}: {}",
                output_text(&again)
            );
            // One key here, and the gateway knows it.
            assert_eq!(host.keys().unwrap().len(), 1, "{call} {nth}");
            let files = host.files().unwrap();
            let public = files
                .iter()
                .find(|(name, _)| name.ends_with(".pub"))
                .unwrap();
            let public = String::from_utf8(public.1.clone()).unwrap();
            assert_eq!(
                office.authorized().matches(public.trim()).count(),
                1,
                "{call} {nth}"
            );
        }
        assert!(survived, "{call} was killed {MOST} times and still is");
    }
    // There were steps to be killed at.
    eprintln!("{kills} kills");
    assert!(kills > 60, "{kills}");
}

/// `None`: killed.
fn killed_at(
    host: &CustomerHost,
    office: &VendorSetup,
    token: &str,
    call: &str,
    on: On,
    nth: u32,
) -> Option<Output> {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={nth}"));
    if on == On::Files {
        let folder = host.dir().display().to_string();
        for name in FILES {
            strace.arg("-P").arg(format!("{folder}{name}"));
        }
    }
    strace.arg("--").arg(binary("agent"));
    let mut flags = office.answers();
    flags.push("--no-check");
    let done = host
        .pipe(host.command(strace, &flags), token)
        .expect("strace");
    // strace dies of what its tracee died of.
    done.status.code().map(|_| done)
}

/// A drop-in that is there loads, with all that it names.
fn whole_or_nothing(host: &CustomerHost, call: &str, nth: u32) {
    let drop_in = host.dir().join("agent.d/10-enrolment.toml");
    if !drop_in.exists() {
        return;
    }
    let program = Command::new(binary("agent"));
    let shown = e2e::agent::command(program, &host.dir(), &["config", "show"]).output();
    let shown = shown.unwrap();
    let text = fs::read_to_string(drop_in).unwrap();
    assert!(
        shown.status.success(),
        "{call} {nth}: {}\n{text}",
        output_text(&shown)
    );
}

/// What a call is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Files,
    /// All there is; but only the gateway is spoken to by sockets.
    Sockets,
}

const FILES: [&str; 11] = [
    "",
    "/agent.toml",
    "/agent.d",
    "/agent.d/10-enrolment.toml",
    "/agent.d/.10-enrolment.new",
    "/enrolment",
    "/enrolment/1",
    "/enrolment/1/id_ed25519",
    "/enrolment/1/id_ed25519.pub",
    "/enrolment/1/enrolment.json",
    "/enrolment/1/jira-token",
];
const CALLS: [(&str, On); 14] = [
    ("openat", On::Files),
    ("write", On::Files),
    ("fsync", On::Files),
    ("close", On::Files),
    ("flock", On::Files),
    ("fchmod", On::Files),
    ("/^chmod|^fchmodat", On::Files),
    ("/^mkdir", On::Files),
    ("/^rename", On::Files),
    ("/^unlink", On::Files),
    ("connect", On::Sockets),
    ("sendto", On::Sockets),
    ("recvfrom", On::Sockets),
    ("shutdown", On::Sockets),
];
/// Of one kind in one enrolment; more would mean that it never comes to its end.
const MOST: u32 = 200;
