//! The one-time secret and Jira's token are only in the file that is meant for them.

use base64::{Engine, prelude::*};
use e2e::{
    agent::{binary, command},
    enrollment::{CustomerHost, PAT, answers, jira},
    login::output_text,
    process::ChildProcess,
    sshd::free_addr,
    strace::trace,
    wait::until_listening,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_an_enrollment_are_in_one_file_only() {
    let (jira, host) = (jira().await.unwrap(), CustomerHost::new().unwrap());
    let gateway = Gateway::start(host.work_dir()).await;
    let token = gateway.token();
    let flags = answers(&jira);
    // Arguments of every process that it starts, and everything that it writes.
    let file = host.work_dir().join("trace");
    let calls = "trace=execve,write,writev,sendto";
    let strace = trace(&["-s", "100000", "-e", calls], &file);
    let done = host.pipe(host.command(strace, &flags), &token).unwrap();
    let mut seen = vec![("output".to_owned(), output_text(&done))];
    assert!(done.status.success(), "{}", output_text(&done));
    // Jira and the secret's own file get the token.
    let written = fs::read_to_string(&file).unwrap();
    let elsewhere = |line: &&str| {
        !line.contains("authorization: Bearer") && !line.contains(&format!("\"{PAT}"))
    };
    let written: Vec<_> = written.lines().filter(elsewhere).collect();
    assert!(written.len() > 20, "{written:?}");
    seen.push(("system calls".to_owned(), written.join("\n")));

    let used = host.enroll(&token, &["--replace"]).unwrap();
    seen.push(("the second run".to_owned(), output_text(&used)));
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
    for words in [
        &["status", "--json"][..],
        &["config", "show"],
        &["check", "--json"],
    ] {
        let shown = command(Command::new(binary("agent")), &host.dir(), words).output();
        seen.push((words.join(" "), output_text(&shown.unwrap())));
    }
    seen.push(("the agent's log".to_owned(), agent.log()));
    for (name, content) in host.files().unwrap() {
        if !name.ends_with("/jira-token") {
            seen.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
    }
    collect(host.work_dir().join("gateway").as_path(), &mut seen);

    let secret = secret(&token);
    let forms = [
        BASE64_URL_SAFE_NO_PAD.encode(&secret),
        BASE64_STANDARD_NO_PAD.encode(&secret),
        secret.iter().map(|byte| format!("{byte:02x}")).collect(),
        token,
        PAT.to_owned(),
    ];
    for (place, text) in &seen {
        for form in &forms {
            assert!(!text.contains(form.as_str()), "{form} in {place}:\n{text}");
        }
    }
    assert!(seen.len() > 12, "{}", seen.len());
}

fn secret(token: &str) -> Vec<u8> {
    let body = token.split('.').nth(1).unwrap();
    let body = BASE64_URL_SAFE_NO_PAD.decode(body).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    BASE64_URL_SAFE_NO_PAD
        .decode(body["secret"].as_str().unwrap())
        .unwrap()
}

/// Every file, the gateway's log among them.
fn collect(folder: &Path, seen: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, seen);
        } else {
            let content = fs::read(&path).unwrap();
            seen.push((
                path.display().to_string(),
                String::from_utf8_lossy(&content).into_owned(),
            ));
        }
    }
}

/// The real server-stub, at its most verbose log level.
struct Gateway {
    _process: ChildProcess,
    data: PathBuf,
    addr: SocketAddr,
}

impl Gateway {
    async fn start(around: &Path) -> Self {
        let data = around.join("gateway");
        fs::create_dir(&data).unwrap();
        let addr = free_addr().unwrap();
        let mut command = Command::new(binary("server-stub"));
        command
            .args(["gateway", "--ssh", &addr.to_string()])
            .args(["--http", "127.0.0.1:0", "--data"])
            .arg(&data)
            .env("RUST_LOG", "trace");
        let mut process = ChildProcess::spawn(command, &data.join("log")).unwrap();
        let listening = until_listening(addr, || process.is_running()).await;
        listening.unwrap();
        Self {
            _process: process,
            data,
            addr,
        }
    }

    fn token(&self) -> String {
        let made = Command::new(binary("server-stub"))
            .args(["token", "new", "acme", "--bind", "127.0.0.1:0", "--gateway"])
            .arg(self.addr.to_string())
            .arg("--data")
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        // The token is printed on standard output only.
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        assert!(!String::from_utf8_lossy(&made.stderr).contains(&token));
        token
    }
}
