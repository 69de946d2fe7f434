//! The parts of a document for the tests: fences with shell commands, and inline code.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// One Markdown file.
pub struct Document {
    /// From the root of the repository.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A fenced block with commands for a shell.
#[derive(Debug)]
pub struct Fence {
    /// `docs/operate.md:17`.
    pub at: String,
    /// `sh`, `console`, or nothing.
    pub language: String,
    /// What is between the fences.
    pub text: String,
    /// The reason in `<!-- not run: reason -->` before it.
    pub not_run: Option<String>,
}

/// A command, and what the page shows after it.
pub struct ShownCommand {
    /// Without its prompt.
    pub command: String,
    /// The page's output line by line, without comments; empty if it shows none.
    pub shown: Vec<String>,
}

impl Document {
    /// All documents that users read.
    pub fn all() -> Vec<Self> {
        let mut names = vec![PathBuf::from("README.md")];
        for folder in ["docs", "deploy", "packaging"] {
            below(Path::new(folder), &mut names);
        }
        names.sort();
        let read = |name: PathBuf| Self {
            text: std::fs::read_to_string(root().join(&name)).unwrap(),
            name: name.display().to_string(),
        };
        names.into_iter().map(read).collect()
    }

    /// Fences that a person would type into a shell.
    pub fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut comment = None;
        let mut open: Option<Fence> = None;
        for (event, range) in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    open = Some(Fence {
                        at: self.at(&range),
                        language: info.to_string(),
                        text: String::new(),
                        not_run: comment.take(),
                    });
                }
                Event::Text(text) => match &mut open {
                    Some(fence) => fence.text += &text,
                    None => comment = None,
                },
                Event::End(TagEnd::CodeBlock) => fences.extend(open.take()),
                Event::Html(html) => comment = reason(&html).or(comment),
                Event::Start(Tag::HtmlBlock) | Event::End(_) => {}
                _ => comment = None,
            }
        }
        fences.retain(Fence::is_for_a_shell);
        fences
    }

    /// Inline code with its place; whitespace is collapsed.
    pub fn inline_code(&self) -> Vec<(String, String)> {
        let codes = self
            .events()
            .into_iter()
            .filter_map(|(event, range)| match event {
                Event::Code(code) => {
                    let words: Vec<_> = code.split_whitespace().collect();
                    Some((self.at(&range), words.join(" ")))
                }
                _ => None,
            });
        codes.collect()
    }

    fn events(&self) -> Vec<(Event<'_>, Range<usize>)> {
        let options = pulldown_cmark::Options::ENABLE_TABLES;
        Parser::new_ext(&self.text, options)
            .into_offset_iter()
            .collect()
    }

    fn at(&self, range: &Range<usize>) -> String {
        let line = self.text[..range.start].matches('\n').count() + 1;
        format!("{}:{line}", self.name)
    }
}

impl Fence {
    fn is_for_a_shell(&self) -> bool {
        match self.language.as_str() {
            "sh" | "bash" | "console" => true,
            "" => self.commands().iter().any(|line| {
                let first = line.split_whitespace().next().unwrap_or_default();
                PROGRAMS.contains(&first)
            }),
            _ => false,
        }
    }

    /// One command per line, without prompts, comments and output.
    pub fn commands(&self) -> Vec<String> {
        self.typed()
            .into_iter()
            .map(|typed| typed.command)
            .collect()
    }

    /// What is typed, with what the page shows after it.
    pub fn typed(&self) -> Vec<ShownCommand> {
        let mut all: Vec<ShownCommand> = Vec::new();
        let mut goes_on = false;
        let prompts = self.has_prompts();
        for line in self.text.lines() {
            let line = line.trim();
            let behind_prompt = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
            let command = match behind_prompt {
                // Without a prompt, a leading # is a comment.
                Some(command) if prompts => command,
                _ if prompts && !goes_on => {
                    if let Some(last) = all.last_mut() {
                        let shown = line.split("  #").next().unwrap_or_default();
                        last.shown.push(shown.trim().to_owned());
                    }
                    continue;
                }
                _ if line.starts_with('#') || line.is_empty() => continue,
                _ => line,
            };
            let (command, more) = match command.strip_suffix('\\') {
                Some(command) => (command, true),
                None => (command, false),
            };
            match all.last_mut().filter(|_| goes_on) {
                Some(last) => last.command += command,
                None => all.push(ShownCommand {
                    command: command.to_owned(),
                    shown: Vec::new(),
                }),
            }
            goes_on = more;
        }
        all
    }

    /// Whether commands follow a prompt, `$` or `#`.
    pub fn has_prompts(&self) -> bool {
        let first = self.text.trim_start();
        first.starts_with("$ ")
            || (first.starts_with("# ") && self.language != "sh" && {
                let word = first[2..].split_whitespace().next().unwrap_or_default();
                PROGRAMS.contains(&word)
            })
    }
}

fn reason(html: &str) -> Option<String> {
    let inner = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let reason = inner.trim().strip_prefix("not run:")?.trim();
    Some(reason.to_owned())
}

fn below(folder: &Path, names: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root().join(folder))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = folder.join(entry.file_name());
        if entry.path().is_dir() {
            below(&name, names);
        } else if name.extension().is_some_and(|extension| extension == "md") {
            names.push(name);
        }
    }
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A fence with a line that begins with one of these is for a shell, whatever its language.
const PROGRAMS: [&str; 21] = [
    "agent",
    "ansible-playbook",
    "apt",
    "apt-get",
    "cat",
    "chown",
    "curl",
    "docker",
    "install",
    "journalctl",
    "kubectl",
    "make",
    "nc",
    "rpm",
    "server-stub",
    "ssh-keygen",
    "sudo",
    "systemctl",
    "useradd",
    "yum",
    "ssh",
];
