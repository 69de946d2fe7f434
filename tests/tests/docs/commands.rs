//! Every command of ours in a document exists, with its flags: in fences that are not run and in inline code.

use crate::markdown::Document;
use clap::error::ErrorKind;

#[test]
fn every_command_that_a_document_names_is_understood() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in Document::all() {
        let mut lines = Vec::new();
        for fence in document.fences() {
            let commands = fence.commands().into_iter();
            lines.extend(commands.map(|line| (fence.at.clone(), line)));
        }
        lines.extend(document.inline_code());
        for (at, line) in lines {
            for words in ours(&line) {
                count += 1;
                if let Err(why) = understood(&words) {
                    wrong.push(format!("{at}: `{}`: {why}", words.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 80, "only {count} commands were found");
}

#[test]
fn a_flag_or_command_that_does_not_exist_is_found() {
    for line in [
        "agent status --jsno",
        "agent stauts",
        "sudo agent check --json --no-such",
        "agent metrics | agent status --nope",
        "server-stub gateway --dtaa ./x",
        "agent policy explian GET /",
        "agent log-level",
    ] {
        let words = ours(line);
        let refused = words.iter().any(|words| understood(words).is_err());
        // Inline code may leave a value out.
        assert_eq!(refused, line != "agent log-level", "{line}");
    }
    for line in [
        "agent status [--json] [--watch]",
        "agent completions SHELL",
        "agent run &",
        "agent status; echo $?",
    ] {
        for words in ours(line) {
            understood(&words).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
    }
}

/// The commands of `agent` and `server-stub` in a line of shell.
fn ours(line: &str) -> Vec<Vec<String>> {
    // Optional parts are there; what follows a pipe, a list or a redirection is another command or a file.
    let plain = line
        .replace(['[', ']'], " ")
        .replace("&&", "|")
        .replace(" & ", " | ");
    // A comment may hold an apostrophe.
    let plain = plain.split(" #").next().unwrap_or_default();
    let words = shlex::split(plain).unwrap_or_default();
    let mut found = Vec::new();
    let mut current: Option<Vec<String>> = None;
    let mut begins = true;
    for word in words {
        let ends = ["|", ";", "&", "||", ">", ">>", "<"].contains(&word.as_str());
        if ends {
            found.extend(current.take());
            begins = true;
            continue;
        }
        let (word, last) = match word.strip_suffix(';') {
            Some(word) => (word.to_owned(), true),
            None => (word, false),
        };
        match &mut current {
            Some(words) => words.push(word),
            None => {
                let program = word.rsplit('/').next().unwrap_or_default();
                if begins && !word.contains('=') && ["agent", "server-stub"].contains(&program) {
                    current = Some(vec![program.to_owned()]);
                }
                // `sudo agent`, `time agent` and `NAME=value agent` begin a command too.
                let passes_on =
                    ["sudo", "time", "watch"].contains(&word.as_str()) || word.contains('=');
                begins = passes_on;
            }
        }
        if last {
            found.extend(current.take());
            begins = true;
        }
    }
    found.extend(current);
    found
}

fn understood(words: &[String]) -> Result<(), String> {
    let definition = match words[0].as_str() {
        "agent" => agent::cli::definition(),
        _ => server_stub::cli::definition(),
    };
    let words: Vec<_> = words
        .iter()
        .filter(|word| !["…", "..."].contains(&word.as_str()))
        .collect();
    // Only the name, as in "the binary `agent`".
    if words.len() == 1 {
        return Ok(());
    }
    let Err(error) = definition.try_get_matches_from(&words) else {
        return Ok(());
    };
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument => Ok(()),
        // As in "`agent login --new-key` makes the key".
        ErrorKind::InvalidValue if error.to_string().contains("a value is required") => Ok(()),
        // A placeholder in capitals stands for a value.
        ErrorKind::InvalidValue | ErrorKind::ValueValidation
            if words.iter().any(|word| is_placeholder(word)) =>
        {
            Ok(())
        }
        _ => Err(error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()),
    }
}

fn is_placeholder(word: &str) -> bool {
    let word = word.rsplit('=').next().unwrap_or_default();
    word.contains('…')
        || (word.len() > 1
            && word
                .chars()
                .all(|c| c.is_ascii_uppercase() || "-_:0123456789".contains(c)))
}
