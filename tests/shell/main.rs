//! `omnigate completions` and `omnigate man`, as shells and man(1) read them.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stderr, reason = "a program that is not there is told")]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;

fn omnigate(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_omnigate")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The visible commands, each with the words that lead to it, as `--help` tells them.
fn commands() -> Vec<Vec<String>> {
    let (mut all, mut waiting) = (Vec::new(), vec![Vec::new()]);
    while let Some(command) = waiting.pop() {
        let help = help(&command);
        let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
        let listed = listed.split("\n\n").next().unwrap().lines();
        let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        for name in names.filter_map(|line| line.split_whitespace().next()) {
            if name != "help" {
                waiting.push([command.clone(), vec![name.to_owned()]].concat());
            }
        }
        all.push(command);
    }
    all
}

fn help(command: &[String]) -> String {
    let words = command.iter().map(String::as_str).chain(["--help"]);
    omnigate(&words.collect::<Vec<_>>())
}

/// The long options that a text speaks of.
fn options(text: &str) -> BTreeSet<String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c: char| !letters(c)).filter(|word| word.starts_with("--"));
    words.filter(|word| word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_page_with_all_its_options_and_hidden_ones_have_none() {
    let folder = tempfile::tempdir().unwrap();
    // It is made where it is not there, and pages of before are made anew.
    let to = folder.path().join("share/man1");
    for _ in 0..2 {
        omnigate(&["man", "--to", to.to_str().unwrap()]);
    }
    let all = commands();
    assert!(all.len() > 20, "{all:?}");
    let name = |command: &Vec<String>| {
        let words = ["omnigate".to_owned()].into_iter().chain(command.iter().cloned());
        words.collect::<Vec<_>>().join("-")
    };
    let expected: BTreeSet<String> = all.iter().map(|it| format!("{}.1", name(it))).collect();
    let made = fs::read_dir(&to).unwrap();
    let made: BTreeSet<String> =
        made.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(made, expected);
    for command in &all {
        // roff writes a hyphen as \-.
        let page = fs::read_to_string(to.join(format!("{}.1", name(command)))).unwrap();
        let page = page.replace("\\-", "-").replace("\\fB", " ").replace("\\fI", " ");
        assert!(!page.contains("exec-gateway"), "{command:?}");
        // The options that stand at the beginning of a line.
        let help = help(command);
        let told = help.lines().filter(|line| line.trim_start().starts_with('-'));
        let told = told.flat_map(|line| options(line.trim_start().split("  ").next().unwrap()));
        let told: BTreeSet<String> = told.collect();
        let missing: Vec<_> = told.difference(&options(&page)).cloned().collect();
        assert!(missing.is_empty(), "{command:?}: {missing:?}");
    }
    assert_eq!(omnigate(&["man"]), fs::read_to_string(to.join("omnigate.1")).unwrap());
}

#[test]
fn man_finds_nothing_wrong_with_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    omnigate(&["man", "--to", folder.path().to_str().unwrap()]);
    let mut pages: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    // A warning that the date is none is right: pages that are made anew have none.
    if let Some(said) =
        said_by("mandoc", Command::new("mandoc").args(["-Tlint", "-Werror"]).args(&pages))
    {
        assert_eq!(said, "");
    }
    if let Some(said) = said_by(
        "groff",
        Command::new("groff").args(["-k", "-man", "-Tutf8", "-ww", "-z"]).args(&pages),
    ) {
        assert_eq!(said, "");
    }
}

#[test]
fn every_shell_can_read_its_completions_and_none_shows_what_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = omnigate(&["completions", shell]);
        for word in ["rotate", "base-url", "purge", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(!script.contains("exec-gateway"), "{shell}");
        let file = folder.path().join(shell);
        fs::write(&file, &script).unwrap();
        let check = match shell {
            "elvish" => "-compileonly",
            _ => "-n",
        };
        if matches!(shell, "bash" | "zsh" | "fish" | "elvish") {
            assert_eq!(
                said_by(shell, Command::new(shell).arg(check).arg(&file)).unwrap_or_default(),
                ""
            );
        }
    }
    // What bash makes of it.
    let asked = "source \"$0\"; COMP_WORDS=(omnigate va); COMP_CWORD=1; _omnigate omnigate va omnigate; \
                 echo \"${COMPREPLY[@]}\"";
    let asked =
        Command::new("bash").arg("-c").arg(asked).arg(folder.path().join("bash")).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&asked.stdout),
        "vault\n",
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
}

#[test]
fn whoever_has_read_enough_may_go() {
    let program = env!("CARGO_BIN_EXE_omnigate");
    for what in ["schema", "man", "completions bash"] {
        let line = format!("{program} {what} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}");
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{what}: {output:?}");
    }
}

/// What a program says, where this machine has it; it must succeed.
fn said_by(name: &str, command: &mut Command) -> Option<String> {
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("{name} is not there, and is not asked");
            None
        }
        output => {
            let output = output.unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(output.status.success(), "{name}: {said}");
            Some(said)
        }
    }
}
