//! Every error message of the command line, in the words that people see: `*.txt` here.
//!
//! A case is a title, the lines of a shell, what they said, and how they ended:
//!
//! ```text
//! == a command that there is not
//! $ omnigate lsit
//! error: unrecognized subcommand 'lsit'
//! [2]
//! ```
//!
//! A command goes on with `> ` at the beginning of the next line. To add a case, write its title and its
//! command; `UPDATE=1 cargo test --test messages` writes what is said. Read it: what is wrong, where, and
//! how is it mended?

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod source;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use crate::stage::{Case, parse, render};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages")
}

/// The files with cases, in order.
fn transcripts() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_transcript = |path: &PathBuf| {
        path.extension().is_some_and(|it| it == "txt") && !path.ends_with("unseen.txt")
    };
    let mut paths: Vec<PathBuf> = entries.filter(is_transcript).collect();
    paths.sort();
    assert!(paths.len() > 5);
    paths
}

#[test]
fn every_message_is_as_it_is_written_down() {
    let mut files: Vec<(PathBuf, Vec<Case>)> = transcripts()
        .into_iter()
        .map(|path| (path.clone(), parse(&fs::read_to_string(&path).unwrap())))
        .collect();
    let only = std::env::var("ONLY").unwrap_or_default();
    let waiting: Mutex<Vec<&mut Case>> = Mutex::new(
        files
            .iter_mut()
            .flat_map(|(_, cases)| cases)
            .filter(|case| case.title.contains(&only))
            .collect(),
    );
    let stage = stage::Stage::new();
    let wrong = Mutex::new(Vec::new());
    let update = std::env::var_os("UPDATE").is_some();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else { return };
                    let said = stage.play(case);
                    if !update && (&case.said, case.code) != (&said.0, Some(said.1)) {
                        let told = format!("== {}\n{}[{}]", case.title, said.0, said.1);
                        wrong.lock().unwrap().push(told);
                    }
                    (case.said, case.code) = (said.0, Some(said.1));
                }
            });
        }
    });
    drop(waiting);
    if update {
        for (path, cases) in &files {
            fs::write(path, render(cases)).unwrap();
        }
    }
    let wrong = wrong.into_inner().unwrap();
    let all = wrong.join("\n\n");
    assert!(wrong.is_empty(), "{} differ; UPDATE=1 writes what is said now:\n{all}", wrong.len());
}

#[test]
fn no_message_shows_what_only_programmers_read() {
    for path in transcripts() {
        for case in parse(&fs::read_to_string(&path).unwrap()) {
            for odd in [
                "{:?}",
                "Some(",
                "None",
                "Err(",
                "Os {",
                "panicked",
                "RUST_BACKTRACE",
                "unwrap",
                "::Error",
            ] {
                assert!(!case.said.contains(odd), "{}: {odd}", case.title);
            }
            assert!(!case.said.is_empty(), "{} says nothing", case.title);
            assert!(case.code.is_some(), "{} was never played", case.title);
        }
    }
}

#[test]
fn every_message_in_the_source_is_seen_or_has_a_reason_not_to_be() {
    let mut seen = String::new();
    for path in transcripts() {
        seen.push_str(&fs::read_to_string(path).unwrap());
    }
    // These are golden too.
    seen.push_str(include_str!("../check/bad.txt"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong =
        source::judge(&root, &seen, &fs::read_to_string(folder().join("unseen.txt")).unwrap());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
