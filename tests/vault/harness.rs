//! A folder, the program in it, and the `age` of others.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Has the form of a key and occurs nowhere else.
pub(crate) const TOKEN: &str = "omni_osk_PLANTED0q7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tXv4yQ6";
/// Another one.
pub(crate) const SECOND: &str = "omni_osk_PLANTEDq9Lw5rB1nC6vX3zM8kJ2hG7fD4sA0pO5iU9yT1eW6qR3mK8bN";

/// A folder with nothing in it, and no config anywhere.
pub(crate) struct Folder(TempDir);

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One in which `vault init` was run.
    pub(crate) fn with_vault() -> Self {
        let folder = Self::new();
        folder.ok(&["init"], "");
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `omnigate`, in this folder and an environment that knows nothing else.
    pub(crate) fn omnigate(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_omnigate"))
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    /// Runs `omnigate vault …`; whatever it says, no part of a planted token is in it.
    pub(crate) fn vault(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Said {
        let output = run(self.omnigate().arg("vault").args(args), stdin.as_ref());
        let said = Said::of(&output);
        said.shows_no_secret();
        said
    }

    /// The same where it must succeed.
    pub(crate) fn ok(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Said {
        let said = self.vault(args, stdin);
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
        said
    }

    /// The same where it must fail in this way.
    pub(crate) fn fails(&self, args: &[&str], stdin: impl AsRef<[u8]>, code: i32) -> String {
        let said = self.vault(args, stdin);
        assert_eq!(said.code, Some(code), "{args:?}: {}{}", said.out, said.err);
        said.err
    }

    /// Runs `age`, which must be there.
    pub(crate) fn age(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        installed(self.command("age").args(args), stdin.as_ref())
    }

    /// What `age` finds in a vault with an identity.
    pub(crate) fn opened_by_age(&self, vault: &str, identity: &str) -> Option<String> {
        let output = self.age(&["-d", "-i", identity, vault], "");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Makes an identity with age-keygen; gives back its public key.
    pub(crate) fn keygen(&self, name: &str) -> String {
        let made = installed(self.command("age-keygen").args(["-o", name]), b"");
        assert!(made.status.success());
        let public = installed(self.command("age-keygen").args(["-y", name]), b"");
        String::from_utf8(public.stdout).unwrap().trim().to_owned()
    }

    /// The names and fingerprints of a vault.
    pub(crate) fn fingerprints(&self, args: &[&str]) -> Vec<(String, String)> {
        let said = self.ok(&[&["list", "--json"], args].concat(), "");
        let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap().to_owned();
        let list = list.as_array().unwrap().iter();
        list.map(|one| (text(one, "name"), text(one, "sha256"))).collect()
    }
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn shows_no_secret(&self) {
        for text in [&self.out, &self.err] {
            assert!(!shows_a_secret(text.as_bytes()), "{text}");
            let keys = text.split("AGE-SECRET-KEY-1").skip(1);
            assert!(
                keys.into_iter().all(|rest| !rest.starts_with(char::is_alphanumeric)),
                "{text}"
            );
        }
    }
}

/// Whether a part of a planted token is there: as it is, in hex, or in base64 at any offset.
pub(crate) fn shows_a_secret(text: &[u8]) -> bool {
    const PART: usize = 12;
    let contains = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    [TOKEN, SECOND].iter().any(|token| {
        let rest = token.strip_prefix("omni_osk_").unwrap().as_bytes();
        rest.windows(PART).any(|part| {
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            contains(part)
                || contains(hex.as_bytes())
                || contains(hex.to_uppercase().as_bytes())
                // Every run of 12 bytes that begins where a group of three does is four groups.
                || contains(base64(part).as_bytes())
        })
    })
}

/// Of a number of bytes that is a multiple of three.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let letter = |six: &[u8]| {
        let six = usize::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap();
        char::from(LETTERS[six])
    };
    bits.as_bytes().chunks(6).map(letter).collect()
}

/// The first 8 hex digits of a token's SHA-256.
pub(crate) fn fingerprint(token: &str) -> String {
    Sha256::digest(token).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Output {
    try_run(command, stdin).unwrap()
}

fn installed(command: &mut Command, stdin: &[u8]) -> Output {
    match try_run(command, stdin) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{:?} is missing: install the package age", command.get_program())
        }
        output => output.unwrap(),
    }
}

fn try_run(command: &mut Command, stdin: &[u8]) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Whoever refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output()
}

/// Makes a file that only its owner may read.
pub(crate) fn make_private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
