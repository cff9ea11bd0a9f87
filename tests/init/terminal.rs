//! A command at a terminal, and somebody who types.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Longer than anything takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    seen: String,
    /// How much of it was waited for already.
    passed: usize,
}

/// The program's name stands for the one that is tested, and nothing else is known of this machine.
pub(crate) fn at_home(folder: &Path, mut command: Command) -> Command {
    let ours = Path::new(env!("CARGO_BIN_EXE_omnigate")).parent().unwrap();
    let others = std::env::var("PATH").unwrap_or_default();
    command.current_dir(folder).env_clear().env("HOME", folder);
    command.env("PATH", format!("{}:{others}", ours.display()));
    command
}

impl Terminal {
    /// Runs a line of a shell at a terminal, in a folder that is the home as well.
    pub(crate) fn run(folder: &Path, line: &str) -> Self {
        // script(1) of util-linux, which every Linux has: it makes the terminal.
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"]);
        let mut script = at_home(folder, script);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().expect("script, of the package bsdutils or util-linux");
        let (tell, shown) = mpsc::channel();
        let mut screen = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut part = [0; 1024];
            while let Ok(length @ 1..) = screen.read(&mut part) {
                if tell.send(part[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let keys = child.stdin.take().unwrap();
        Self { child, keys, shown, seen: String::new(), passed: 0 }
    }

    /// Waits until the screen says this, after what was waited for before; gives what came with it.
    pub(crate) fn until(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = self.seen[self.passed..].find(words) {
                let end = self.passed + at + words.len();
                let new = self.seen[self.passed..end].to_owned();
                self.passed = end;
                return new;
            }
            match self.shown.recv_timeout(PATIENCE) {
                Ok(part) => self.seen.push_str(&String::from_utf8_lossy(&part).replace('\r', "")),
                Err(_) => panic!("`{words}` is not said:\n{}", self.seen),
            }
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Answers a question.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.until(question);
        self.types(&format!("{answer}\n"));
    }

    /// The exit code, and all that was on the screen.
    pub(crate) fn end(mut self) -> (i32, String) {
        while let Ok(part) = self.shown.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&part).replace('\r', ""));
        }
        let status = self.child.wait().unwrap();
        (status.code().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Hanging up ends what runs there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
