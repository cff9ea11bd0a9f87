//! Cases, and the machine that they are played on.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// A shell's lines and what came of them.
pub(crate) struct Case {
    pub(crate) title: String,
    /// Without the signs at the beginning of its lines.
    script: String,
    pub(crate) said: String,
    pub(crate) code: Option<i32>,
    /// What stands above it, as a headline.
    above: String,
}

pub(crate) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut above = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            cases.push(Case {
                title: title.to_owned(),
                script: String::new(),
                said: String::new(),
                code: None,
                above: std::mem::take(&mut above),
            });
            continue;
        }
        let open = cases.last_mut().filter(|case| case.code.is_none());
        let Some(case) = open else {
            above.push_str(line);
            above.push('\n');
            continue;
        };
        let code = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        let said = case.said.is_empty();
        match (line.strip_prefix("$ ").or(line.strip_prefix("> ")), code) {
            (Some(command), _) if said => {
                case.script.push_str(command);
                case.script.push('\n');
            }
            (_, Some(code)) => case.code = Some(code),
            (_, None) => {
                case.said.push_str(line);
                case.said.push('\n');
            }
        }
    }
    cases
}

pub(crate) fn render(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        // A blank line between two.
        let above = case.above.trim_start_matches('\n');
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{above}== {}", case.title);
        for (nth, line) in case.script.lines().enumerate() {
            let _ = writeln!(text, "{} {line}", if nth == 0 { '$' } else { '>' });
        }
        let _ = writeln!(text, "{}[{}]", case.said, case.code.unwrap_or(-1));
    }
    text
}

/// What all cases find on their machine.
pub(crate) struct Stage {
    /// Listens, so that nobody else can.
    taken: TcpListener,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { taken: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// What a case says and how it ends, without what is another each time.
    pub(crate) fn play(&self, case: &Case) -> (String, i32) {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let ours = Path::new(env!("CARGO_BIN_EXE_omnigate")).parent().unwrap();
        let path = format!("{}:{}", ours.display(), std::env::var("PATH").unwrap_or_default());
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let prelude = here.join("tests/messages/prelude.sh");
        let taken = self.taken.local_addr().unwrap().port().to_string();
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(". {}\n{}", prelude.display(), case.script))
            .current_dir(&home)
            .env_clear()
            .env("HOME", &home)
            .env("PATH", path)
            .env("TAKEN", &taken)
            .env("REPOSITORY", here)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said = said
            .replace(&home.display().to_string(), "HOME")
            .replace(&here.display().to_string(), "REPOSITORY")
            .replace(&format!("127.0.0.1:{taken}"), "127.0.0.1:TAKEN");
        (without_chance(&said), output.status.code().unwrap_or(-1))
    }
}

/// Public keys, process ids and the wording of TLS' ids are another each time.
fn without_chance(said: &str) -> String {
    let mut text = String::new();
    for line in said.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let long = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if word.starts_with("age1") && long.len() > 40 {
                words.push(word.replace(long, "age1PUBLIC"));
            } else if words.last().is_some_and(|before| before == "(pid") {
                words.push(format!("PID{}", word.trim_start_matches(|c: char| c.is_ascii_digit())));
            } else {
                words.push(word.to_owned());
            }
        }
        text.push_str(words.join(" ").trim_end());
        text.push('\n');
    }
    text
}
