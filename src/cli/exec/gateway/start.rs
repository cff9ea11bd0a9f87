//! A gateway is started, in a process of its own.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::folder::Folder;
use super::lease::Lease;
use super::words::{Identity, Line, Word};
use super::{STARTS, Unfound};

/// How long one that does not serve may take to end.
const ENDS: Duration = Duration::from_secs(5);

/// What came of it.
pub(super) enum Started {
    /// It serves, and this is its first lease.
    Serves(Lease),
    /// Another process has the state folder.
    InUse(Option<u32>),
}

/// Starts one and waits until it serves. It lives from the first moment on a lease of ours: should we end
/// before it serves, so does it.
///
/// # Errors
/// It does not start, for this reason.
pub(super) async fn start(
    folder: &Folder,
    path: &Path,
    who: &Identity,
) -> Result<Started, Unfound> {
    let failed = |error: std::io::Error| {
        Unfound::unavailable(format!("a gateway cannot be started: {error}"))
    };
    let (ours, theirs) = Pair::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let log = folder.log().map_err(failed)?;
    let mut child = spawn(path, theirs, log).map_err(failed)?;
    let mut line = Line::new(UnixStream::from_std(ours).map_err(failed)?);
    let said = tokio::time::timeout(STARTS, async {
        line.say(&Word::Hello(who.clone())).await?;
        line.hear().await
    });
    match said.await {
        Ok(Ok(Some(Word::Joined))) => {
            let lease = Lease::new(line, child.id(), folder);
            Ok(Started::Serves(lease))
        }
        Ok(Ok(Some(Word::InUse { pid }))) => {
            // Its own hold on things ends with it.
            ended(&mut child).await;
            Ok(Started::InUse(pid))
        }
        Ok(Ok(Some(Word::Failed { code, said }))) => {
            ended(&mut child).await;
            Err(Unfound { said, code })
        }
        Ok(Ok(Some(Word::Other { version: true, .. }))) => Err(Unfound::unavailable(
            "the program was replaced by another version meanwhile; run this again".to_owned(),
        )),
        Ok(Ok(Some(Word::Other { version: false, .. }))) => {
            Err(Unfound::unavailable("the config was changed meanwhile; run this again".to_owned()))
        }
        Ok(Ok(None | Some(Word::Hello(_) | Word::Stays)) | Err(_)) => {
            Err(silent(folder, child).await)
        }
        Err(_) => Err(Unfound::unavailable(format!(
            "the gateway did not start within {} s; see {}",
            STARTS.as_secs(),
            folder.shown("log").display()
        ))),
    }
}

fn spawn(path: &Path, stdin: Pair, log: std::fs::File) -> std::io::Result<Child> {
    let home = path.parent().unwrap_or(Path::new("/"));
    let spawn = |program: &OsStr, stdin: Pair, log: std::fs::File| {
        let mut command = Command::new(program);
        command.args([OsStr::new("exec-gateway"), OsStr::new("-c"), path.as_os_str()]);
        // Neither the terminal's nor the program's: its streams would stay open with ours.
        command.stdin(OwnedFd::from(stdin)).stdout(Stdio::null()).stderr(log);
        command.current_dir(home).spawn()
    };
    let program = std::env::current_exe()?;
    match spawn(program.as_os_str(), stdin.try_clone()?, log.try_clone()?) {
        // Its file was removed or replaced since we run: this is the one that we run.
        Err(error) if cfg!(target_os = "linux") && error.kind() == std::io::ErrorKind::NotFound => {
            spawn(OsStr::new("/proc/self/exe"), stdin, log)
        }
        done => done,
    }
}

/// Waits until a gateway that has nothing more to say has ended, and says how. One that hangs is left to
/// itself: it has no lease any more.
async fn ended(child: &mut Child) -> String {
    match tokio::time::timeout(ENDS, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it hangs".to_owned(),
    }
}

/// It is gone, and did not say why.
async fn silent(folder: &Folder, mut child: Child) -> Unfound {
    let how = ended(&mut child).await;
    let mut said = format!("the gateway ended before it served ({how})");
    let last = folder.last_words();
    if !last.is_empty() {
        said = format!("{said}; its log says:\n{last}");
    }
    Unfound::unavailable(said)
}
