//! Real processes in real time: a paused clock beside them would fire their limits early.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A limit that is not what ends a run.
const LATE: Duration = Duration::from_secs(600);

/// A shell script, run as any other program, with a folder of its own where it may leave marks.
struct Script {
    store: ExecStore,
    folder: TempDir,
}

impl Script {
    /// `$1` is the folder, `$2` the secret's name.
    fn new(text: &str, timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, text).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let args = vec![path(&script), path(folder.path()), "{name}".to_owned()];
        let settings = ExecSettings { args, timeout, ..program("/bin/sh") };
        Self { store: ExecStore::new(&settings, "op://vault/omni key").unwrap(), folder }
    }

    async fn read(&self) -> Result<Found, ExecError> {
        why(self.store.read().await)
    }

    async fn text(&self) -> String {
        text(&self.read().await.unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process whose number the script wrote into that file.
    async fn process(&self, name: &str) -> Process {
        let path = self.path(name);
        until(|| fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        Process(fs::read_to_string(path).unwrap().trim().parse().unwrap())
    }
}

/// A process by its number.
struct Process(u32);

impl Process {
    /// `None` when it is gone and has been reaped.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name in parentheses may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn is_reaped(&self) -> bool {
        self.state().is_none()
    }

    /// Whether it does nothing more. Who is not our child may be reaped by somebody who is slow.
    fn is_dead(&self) -> bool {
        matches!(self.state(), None | Some('Z' | 'X'))
    }
}

fn program(path: &str) -> ExecSettings {
    ExecSettings {
        program: path.into(),
        args: Vec::new(),
        env: Vec::new(),
        timeout: SOON,
        refresh: None,
    }
}

fn why<T>(result: Result<T, SecretError>) -> Result<T, ExecError> {
    result.map_err(|error| match error {
        SecretError::Exec { source, .. } => source,
        other => panic!("{other}"),
    })
}

fn text(found: &Found) -> String {
    String::from_utf8(found.secret.expose_secret().to_vec()).unwrap()
}

async fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "it did not come to that");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_program_is_asked_for_a_secret_by_its_name() {
    let script = Script::new("echo \"$# $2\"", SOON);
    assert_eq!(script.text().await, "2 op://vault/omni key\n");
    assert!(script.read().await.unwrap().valid_for.is_none());
    let place = script.store.place().to_string();
    assert_eq!(place, "what /bin/sh prints for `op://vault/omni key`");
}

#[tokio::test]
async fn it_may_say_how_long_its_token_is_good() {
    let script = Script::new(
        "echo \"{\\\"token\\\":\\\"t\\\",\\\"expires_at\\\":$(($(date +%s) + 60))}\"",
        SOON,
    );
    let found = script.read().await.unwrap();
    assert_eq!(text(&found), "t");
    let left = found.valid_for.unwrap().as_secs_f64();
    assert!((50.0..=60.0).contains(&left), "{left}");
}

#[tokio::test]
async fn no_shell_reads_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let trap = folder.path().join("trap");
    let touch = format!("touch {}", trap.display());
    for name in [
        format!("$({touch}); {touch}"),
        format!("`{touch}` & {touch} | {touch}"),
        format!("'; {touch} #"),
        "$HOME *".to_owned(),
        "a {name} b".to_owned(),
        "%s %n ${PATH}".to_owned(),
    ] {
        let args = ["[%s]", "x={name}/{name}", "{name}"].map(str::to_owned).to_vec();
        let settings = ExecSettings { args, ..program("/usr/bin/printf") };
        let found = ExecStore::new(&settings, &name).unwrap().read().await.unwrap();
        assert_eq!(text(&found), format!("[x={name}/{name}][{name}]"));
    }
    assert!(!trap.exists());
}

#[test]
fn what_is_no_name_or_no_program_is_refused_before_it_is_run() {
    let new = |program_path: &str, argument: &str, name: &str| {
        let settings = ExecSettings { args: vec![argument.to_owned()], ..program(program_path) };
        why(ExecStore::new(&settings, name).map(|_| ()))
    };
    let key = format!("{}hunter2", omni::TOKEN_PREFIX);
    let (longest, long) = ("n".repeat(255), "n".repeat(256));
    for name in ["org", "a-b_c/d.e:f@g h", "é", &longest] {
        assert_eq!(new("/bin/true", "{name}", name), Ok(()), "{name}");
    }
    for name in ["", "-", "--help", "a\nb", "a\0b", "a\u{1b}[2J", "a\u{85}", &key, &long] {
        assert_eq!(new("/bin/true", "{name}", name), Err(ExecError::BadName), "{name:?}");
    }
    let shown = ExecStore::new(&program("/bin/true"), &key).unwrap_err();
    assert!(!format!("{shown} {shown:?}").contains("hunter2"));
    for relative in ["true", "bin/true", "./true", "../bin/true", ""] {
        assert_eq!(new(relative, "{name}", "org"), Err(ExecError::NotAbsolute), "{relative}");
    }
    let argument = format!("--token={key}");
    assert_eq!(new("/bin/true", &argument, "org"), Err(ExecError::TokenInArguments));
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_why() {
    let script = Script::new("", SOON);
    for (path, expected) in [
        (script.path("missing"), ExecError::NotThere),
        (script.path("script"), ExecError::CannotStart(io::ErrorKind::PermissionDenied)),
        (script.path("script/x"), ExecError::CannotStart(io::ErrorKind::NotADirectory)),
        (script.folder.path().into(), ExecError::CannotStart(io::ErrorKind::PermissionDenied)),
    ] {
        let store = ExecStore::new(&program(path.to_str().unwrap()), "org").unwrap();
        assert_eq!(why(store.read().await).unwrap_err(), expected, "{}", path.display());
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_and_reaped() {
    let limit = Duration::from_millis(300);
    // Deaf to polite signals.
    let script =
        Script::new("trap '' TERM HUP INT; echo $$ > $1/pid; while :; do sleep 1; done", limit);
    let began = Instant::now();
    assert_eq!(script.read().await.unwrap_err(), ExecError::TimedOut { after: limit });
    assert!((limit..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(script.process("pid").await.is_reaped());
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_is_killed_too() {
    let limit = Duration::from_millis(400);
    let script = Script::new("echo $$ > $1/pid; sleep 600 & echo $! > $1/more; echo token", limit);
    assert_eq!(script.read().await.unwrap_err(), ExecError::TimedOut { after: limit });
    assert!(script.process("pid").await.is_reaped());
    let more = script.process("more").await;
    until(|| more.is_dead()).await;
}

#[tokio::test]
async fn a_grandchild_that_holds_only_stderr_delays_nothing_and_does_not_stay() {
    let script = Script::new("sleep 600 >&- & echo $! > $1/more; echo token", SOON);
    assert_eq!(script.text().await, "token\n");
    let more = script.process("more").await;
    until(|| more.is_dead()).await;
}

#[tokio::test]
async fn a_program_that_goes_on_after_its_output_is_waited_for() {
    let script = Script::new("echo token; exec >&- 2>&-; sleep 0.3; touch $1/done", SOON);
    assert_eq!(script.text().await, "token\n");
    assert!(script.path("done").exists());
    let failing = Script::new("echo token; exec >&- 2>&-; sleep 0.1; exit 1", SOON);
    let failed = ExecError::Failed { ending: Ending::Status(1), stderr_bytes: 0 };
    assert_eq!(failing.read().await.unwrap_err(), failed);
}

#[tokio::test]
async fn a_program_that_says_too_much_is_killed() {
    for (to, stream) in [("", Stream::Stdout), (">&2", Stream::Stderr)] {
        let script = Script::new(&format!("echo $$ > $1/pid; exec yes {to}"), SOON);
        assert_eq!(script.read().await.unwrap_err(), ExecError::TooMuch { stream });
        assert!(script.process("pid").await.is_reaped());
    }
    let most = Script::new("head -c 65536 /dev/zero | tr '\\0' a", SOON);
    assert_eq!(most.text().await.len(), MOST);
    let more = Script::new("head -c 65537 /dev/zero | tr '\\0' a", SOON);
    assert_eq!(more.read().await.unwrap_err(), ExecError::TooMuch { stream: Stream::Stdout });
}

const MOST: usize = 64 * 1024;

#[tokio::test]
async fn what_it_says_on_stderr_is_counted_and_not_shown() {
    let script = Script::new("echo hunter2; echo hunter2 >&2; exit 3", SOON);
    let failed = script.store.read().await.unwrap_err();
    assert!(!format!("{failed} {failed:?} {:?}", script.store).contains("hunter2"), "{failed}");
    let told = failed.to_string();
    assert!(told.contains("exit status 3 and wrote 8 bytes to stderr"), "{told}");
    let well = Script::new("echo warning >&2; echo token", SOON);
    assert_eq!(well.text().await, "token\n");
    let much = Script::new("head -c 900000 /dev/zero >&2; echo token", SOON);
    assert_eq!(much.text().await, "token\n");
}

#[tokio::test]
async fn a_program_that_a_signal_ends_has_failed_whatever_it_printed() {
    let script = Script::new("echo token; kill -15 $$", SOON);
    let failed = ExecError::Failed { ending: Ending::Signal(15), stderr_bytes: 0 };
    assert_eq!(script.read().await.unwrap_err(), failed);
}

#[tokio::test]
async fn it_gets_little_of_our_environment_no_input_and_the_root_folder() {
    let script = Script::new(
        "env; echo cwd=$(pwd); echo input=$(wc -c); cut -d' ' -f5 /proc/$$/stat; echo $$",
        SOON,
    );
    let text = script.text().await;
    let lines: Vec<&str> = text.lines().collect();
    // Cargo sets this for us, and the config did not name it.
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some() && !text.contains("CARGO"), "{text}");
    // What the shell sets by itself.
    let by_itself = ["PWD", "OLDPWD", "SHLVL", "_"];
    for (name, _) in lines.iter().filter_map(|line| line.split_once('=')) {
        let known = VARIABLES.contains(&name) || by_itself.contains(&name);
        assert!(known || ["cwd", "input"].contains(&name), "{name}");
    }
    assert!(lines.contains(&"cwd=/") && lines.contains(&"input=0"), "{text}");
    // It leads a process group of its own.
    assert_eq!(lines[lines.len() - 2], lines[lines.len() - 1], "{text}");
}

#[tokio::test]
async fn it_gets_the_variables_that_the_config_names() {
    let mut script = Script::new("echo $CARGO_PKG_NAME", SOON);
    let names = ["CARGO_PKG_NAME", "OMNIGATE_NOT_THERE", "", "a=b"];
    script.store.settings.env = names.map(str::to_owned).to_vec();
    assert_eq!(script.text().await, "omnigate\n");
}

#[test]
fn it_never_gets_a_variable_that_holds_a_key_of_omni() {
    let settings = ExecSettings { env: vec!["MORE".into(), "KEY".into()], ..program("/bin/true") };
    let store = ExecStore::new(&settings, "org").unwrap();
    let ours = |name: &str| {
        Some(match name {
            "HOME" => format!("/home/{}abc", omni::TOKEN_PREFIX).into(),
            "KEY" => format!("Bearer {}", omni::TOKEN_PREFIX.to_uppercase()).into(),
            "USER" | "MORE" | "OTHER" => "omni_os".into(),
            _ => return None,
        })
    };
    let given = store.environment(&ours);
    assert_eq!(given, BTreeMap::from([("USER", "omni_os".into()), ("MORE", "omni_os".into())]));
}

#[tokio::test]
async fn one_who_leaves_ends_the_run() {
    let script = Script::new("echo $$ > $1/pid; sleep 600 & echo $! > $1/more; wait", LATE);
    let left = tokio::select! {
        result = script.read() => panic!("{result:?}"),
        process = script.process("more") => process,
    };
    let pid = script.process("pid").await;
    until(|| pid.is_reaped() && left.is_dead()).await;
}

#[tokio::test]
async fn one_run_at_a_time() {
    let script = Script::new("mkdir $1/busy || exit 9; sleep 0.1; rmdir $1/busy; echo token", SOON);
    let (one, two, three) = tokio::join!(script.text(), script.text(), script.text());
    assert_eq!([one, two, three], ["token\n"; 3]);
}

#[tokio::test]
async fn whoever_waits_for_another_run_waits_no_longer_than_for_its_own() {
    let limit = Duration::from_millis(300);
    let script = Script::new("exit 0", limit);
    let alone = script.store.alone.clone().lock_owned().await;
    assert_eq!(script.read().await.unwrap_err(), ExecError::TimedOut { after: limit });
    drop(alone);
    assert_eq!(script.text().await, "");
}

#[test]
fn a_runtime_that_ends_leaves_nobody_behind() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let script = Arc::new(Script::new("echo $$ > $1/pid; while :; do sleep 1; done", LATE));
    let pid = runtime.block_on(async {
        let reader = script.clone();
        tokio::spawn(async move { reader.read().await.map(|_| ()) });
        script.process("pid").await
    });
    drop(runtime);
    let again = tokio::runtime::Runtime::new().unwrap();
    again.block_on(until(|| pid.is_dead()));
}
