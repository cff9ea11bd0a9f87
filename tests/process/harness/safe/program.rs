//! A program that prints a secret.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Harm, Parts, Planted, early, harm, write};

/// How long it may run, in all tests here.
const TIMEOUT: &str = "1s";

pub(super) fn exec(folder: PathBuf, _: Planted) -> Parts {
    let program = folder.join("program");
    let harms = harms(&folder);
    let path = program.display();
    let vault = format!(
        "backend = \"exec\"\nallow_exec = [\"{path}\"]\ncommand = [\"{path}\", \"{{name}}\"]\n\
         timeout = \"{TIMEOUT}\""
    );
    Parts {
        name: "exec".to_owned(),
        lines: [vault, "secret = \"org\"".to_owned()],
        place: path.to_string(),
        // A good program may say things too.
        mend: Box::new(move |secret| {
            write(&folder.join("token"), secret);
            let folder = folder.display();
            install(&program, &format!("echo \"hint: $1\" >&2\ncat {folder}/token"));
        }),
        harms,
    }
}

/// Puts a shell script in a program's place. Another process does it: a file that a test has open
/// for writing, and that another test's child has inherited so, cannot be run.
pub(crate) fn install(program: &Path, script: &str) {
    let source = program.with_extension("source");
    fs::write(&source, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mut install = Command::new("install");
    assert!(install.args(["-m", "700"]).args([&source, program]).status().unwrap().success());
}

/// Lines of a program that prints what a file says; `more` are lines of `[vault]`.
pub(crate) fn quick(file: &Path, more: &str) -> [String; 2] {
    let file = file.display();
    let vault = format!(
        "backend = \"exec\"\nallow_exec = [\"/bin/cat\"]\ncommand = [\"/bin/cat\", \"{file}\"]\n{more}"
    );
    [vault, "secret = \"org\"".to_owned()]
}

fn harms(folder: &Path) -> Vec<Harm> {
    let instead = |script: &str| {
        let (program, token) = (folder.join("program"), folder.join("token"));
        let script = script.replace("TOKEN", &format!("$(cat {})", token.display()));
        move || install(&program, &script)
    };
    let program = || folder.join("program");
    let (gone, locked, strange) = (program(), program(), program());
    vec![
        early("cannot be looked at", "there is no such program", move || {
            fs::remove_file(&gone).unwrap();
        }),
        early("cannot be executed", "it cannot be run: permission denied", move || {
            write(&locked, "#!/bin/sh\n");
        }),
        harm("not the interpreter that its first line names", move || {
            let source = strange.with_extension("source");
            fs::write(&source, "#!/no/such/shell\n").unwrap();
            let mut install = Command::new("install");
            let done = install.args(["-m", "700"]).args([&source, &strange]).status();
            assert!(done.unwrap().success());
        }),
        harm("it did not end within 1.0 s and was killed", instead("sleep 60")),
        harm("it did not end within 1.0 s and was killed", instead("sleep 60 & wait")),
        harm("ended with exit status 3 and wrote", instead("echo \"bad: TOKEN\" >&2; exit 3")),
        harm("ended with exit status 1 and wrote 0 bytes", instead("echo \"TOKEN\"; exit 1")),
        harm("ended with signal 9", instead("echo \"TOKEN\"; kill -9 $$")),
        harm("wrote more than 64 KiB to stdout and was killed", instead("yes \"TOKEN\"")),
        harm("wrote more than 1 MiB to stderr and was killed", instead("yes \"TOKEN\" >&2")),
        harm("holds no token: it is empty", instead("true")),
        harm("holds no token: it has a blank", instead("echo \"Password for TOKEN: \"")),
        harm("it is no JSON object (line 2", instead("echo \"{\\\"token\\\": \\\"TOKEN\"")),
        harm("it has no `token`", instead("echo \"{\\\"value\\\": \\\"TOKEN\\\"}\"")),
        harm("its `token` is not a string", instead("echo \"{\\\"token\\\": [\\\"TOKEN\\\"]}\"")),
        harm("its `expires_at` is neither", {
            instead("echo \"{\\\"token\\\": \\\"TOKEN\\\", \\\"expires_at\\\": \\\"TOKEN\\\"}\"")
        }),
        harm("has expired already", {
            instead("echo \"{\\\"token\\\": \\\"TOKEN\\\", \\\"expires_at\\\": 1}\"")
        }),
    ]
}
