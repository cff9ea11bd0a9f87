//! The messages that the source has, and whether the transcripts show them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a message begins in the source.
const BEGINNINGS: [&str; 13] = [
    "#[error(",
    ".at(",
    ".whole(",
    ".help(",
    "Failed::refused(",
    "Failed::usage(",
    "Unfound::unavailable(",
    "unwritable(&",
    "not_ours(",
    "odd(&",
    "why: ",
    "let help = ",
    "let message = ",
];

/// Where messages to people at a command line are written.
const ROOMS: [&str; 3] = ["cli", "config", "app"];

struct Message {
    file: String,
    line: usize,
    text: String,
}

/// What is neither seen nor excused, and what is excused without need.
pub(crate) fn judge(root: &Path, seen: &str, unseen: &str) -> Vec<String> {
    let mut messages = Vec::new();
    for path in sources(root) {
        let file = path.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        messages.extend(messages_of(&file, &text));
    }
    assert!(messages.len() > 300, "only {}", messages.len());
    let flat = flat(seen);
    // `FILE: words` excuses one message, `FILE` all of a file.
    let excuses: Vec<(&str, Option<&str>)> = unseen
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split_once(": ") {
            Some((file, words)) => (file, Some(words)),
            None => (line, None),
        })
        .collect();
    let mut used = vec![false; excuses.len()];
    let mut wrong = Vec::new();
    for message in &messages {
        if shows(&flat, &message.text) {
            continue;
        }
        let excuse = excuses.iter().position(|(file, words)| {
            *file == message.file && words.is_none_or(|words| message.text.starts_with(words))
        });
        match excuse {
            Some(nth) => used[nth] = true,
            None => wrong
                .push(format!("{}:{}: nobody sees: {}", message.file, message.line, message.text)),
        }
    }
    for ((file, words), used) in excuses.iter().zip(used) {
        if !used {
            wrong.push(format!(
                "unseen.txt: {file}: {}: this is seen, or is no more",
                words.unwrap_or("")
            ));
        }
    }
    wrong
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn messages_of(file: &str, text: &str) -> Vec<Message> {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let cli = ROOMS.iter().any(|room| file.starts_with(room));
    let mut found = Vec::new();
    for beginning in BEGINNINGS {
        // Of other rooms, people see errors.
        if !cli && beginning != "#[error(" {
            continue;
        }
        for (at, _) in text.match_indices(beginning) {
            let line = text[..at].matches('\n').count() + 1;
            let is_comment =
                text[..at].lines().next_back().is_some_and(|it| it.trim_start().starts_with("//"));
            if is_comment {
                continue;
            }
            let words = literals(&text[at + beginning.len()..], beginning.ends_with('('));
            found.extend(words.into_iter().map(|text| Message {
                file: file.to_owned(),
                line,
                text,
            }));
        }
    }
    found
}

/// The texts up to the closing bracket, or to the first end of a statement or a field.
fn literals(text: &str, bracket: bool) -> Vec<String> {
    let (mut found, mut depth) = (Vec::new(), 0_i32);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth < 0 {
                    break;
                }
            }
            ';' | ',' if !bracket && depth == 0 => break,
            '\'' => {
                // A character, or a lifetime, which has no second quote.
                let mut ahead = chars.clone();
                let first = ahead.next();
                if first == Some('\\') {
                    ahead.next();
                }
                if ahead.next() == Some('\'') {
                    chars = ahead;
                }
            }
            '"' => found.push(literal(&mut chars)),
            _ => {}
        }
    }
    // Names of keys and the like are no sentences.
    found.retain(|text| {
        fragments(text).iter().map(|it| it.len()).sum::<usize>() > 9 && text.contains(' ')
    });
    found
}

fn literal(chars: &mut impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    let mut skip = false;
    let mut escaped = false;
    for c in chars {
        if skip && c.is_whitespace() {
            continue;
        }
        skip = false;
        match (escaped, c) {
            (true, '\n') => skip = true,
            (true, 'n') => text.push('\n'),
            (true, other) => text.push(other),
            (false, '\\') => {
                escaped = true;
                continue;
            }
            (false, '"') => break,
            (false, other) => text.push(other),
        }
        escaped = false;
    }
    text
}

/// What stands between the places that are filled in.
fn fragments(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if !inside && chars.peek() == Some(&c) => {
                chars.next();
                parts.last_mut().unwrap().push(c);
            }
            '{' => {
                inside = true;
                parts.push(String::new());
            }
            '}' => inside = false,
            _ if inside => {}
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let flat = |part: &String| flat(part);
    parts.iter().map(flat).filter(|part| !part.trim().is_empty()).collect()
}

/// On one line, with single blanks.
fn flat(text: &str) -> String {
    let mut flat = String::new();
    for c in text.chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        if !(c == ' ' && flat.ends_with(' ')) {
            flat.push(c);
        }
    }
    flat
}

/// Whether all fragments stand there in order, not far from each other.
fn shows(seen: &str, text: &str) -> bool {
    const GAP: usize = 300;
    let fragments = fragments(text);
    let Some(first) = fragments.first() else { return true };
    seen.match_indices(first.as_str()).any(|(at, _)| {
        let mut at = at + first.len();
        fragments[1..].iter().all(|part| {
            let end = (at..=(at + GAP + part.len()).min(seen.len()))
                .rev()
                .find(|it| seen.is_char_boundary(*it));
            match end.and_then(|end| seen[at..end].find(part.as_str())) {
                Some(next) => {
                    at += next + part.len();
                    true
                }
                None => false,
            }
        })
    })
}
