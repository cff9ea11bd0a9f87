//! Leases and the folder where they are taken.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::beside::Holder;
use super::folder::{CALLS, CONTROL, Folder};
use super::lease::{Asked, Lease};
use super::leases::Leases;
use super::words::{Identity, Line, Word};
use crate::config;

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TOO_LONG, what).await.expect("it never happened")
}

const CONFIG: &str = r#"
    state_dir = "state"
    [upstream]
    base_url = "https://acme.omniapp.co"
    [vault]
    backend = "env"
    [credentials.org]
    kind = "organization"
    secret = "OMNIGATE_TEST_NO_SUCH_VARIABLE"
    [budgets.omni]
    limit = 60
    [[routes]]
    name = "all"
    path = "/{*rest}"
    credential = "org"
"#;

/// Who comes with this text in a folder's config.
fn who(folder: &Path, text: &str) -> Identity {
    let path = folder.join("omnigate.toml");
    fs::write(&path, text).unwrap();
    Identity::of(&config::load(&path).unwrap(), &path).unwrap()
}

/// A gateway's side, with nothing behind it.
struct Kept {
    leases: Arc<Leases>,
    serving: JoinHandle<()>,
}

impl Kept {
    fn open(folder: &Folder, who: &Identity) -> Self {
        let leases = Leases::new(who.clone());
        let control = folder.control().unwrap();
        let serving = tokio::spawn(leases.clone().receive(control));
        Self { leases, serving }
    }
}

async fn joined(folder: &Folder, who: &Identity) -> Lease {
    match Lease::ask(folder, who).await.unwrap() {
        Asked::Joined(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn stage() -> (tempfile::TempDir, Folder, Identity) {
    let home = tempfile::tempdir().unwrap();
    let who = who(home.path(), CONFIG);
    let folder = Folder::open(&home.path().join("state")).unwrap();
    (home, folder, who)
}

#[tokio::test]
async fn where_nobody_serves_there_is_nobody() {
    let (_home, folder, who) = stage();
    assert!(matches!(Lease::ask(&folder, &who).await.unwrap(), Asked::Nobody));
}

#[tokio::test]
async fn a_socket_that_a_dead_gateway_left_is_nobody_and_is_replaced() {
    let (_home, folder, who) = stage();
    drop(std::os::unix::net::UnixListener::bind(folder.at(CONTROL)).unwrap());
    assert!(matches!(Lease::ask(&folder, &who).await.unwrap(), Asked::Nobody));
    let _kept = Kept::open(&folder, &who);
    joined(&folder, &who).await;
}

#[tokio::test]
async fn it_is_over_with_the_last_lease_and_the_socket_is_gone_then() {
    let (_home, folder, who) = stage();
    let kept = Kept::open(&folder, &who);
    let (one, two, three) =
        (joined(&folder, &who).await, joined(&folder, &who).await, joined(&folder, &who).await);
    // One by word, which does not wait for the others; one by its death.
    soon(one.leave()).await;
    drop(two);
    assert!(!kept.serving.is_finished());
    drop(three);
    soon(kept.serving).await.unwrap();
    assert!(!folder.at(CONTROL).exists());
    assert_eq!(kept.leases.take(None), None, "somebody came in after the end");
    assert!(matches!(Lease::ask(&folder, &who).await.unwrap(), Asked::Nobody));
}

#[tokio::test]
async fn who_only_knocks_holds_nothing_and_ends_nothing() {
    let (_home, folder, who) = stage();
    let kept = Kept::open(&folder, &who);
    drop(UnixStream::connect(folder.at(CONTROL)).await.unwrap());
    let mut silent = Line::new(UnixStream::connect(folder.at(CONTROL)).await.unwrap());
    silent.say(&Word::Stays).await.unwrap();
    assert_eq!(soon(silent.hear()).await.unwrap(), None);
    let lease = joined(&folder, &who).await;
    assert!(!kept.serving.is_finished());
    drop(lease);
    soon(kept.serving).await.unwrap();
}

#[tokio::test]
async fn another_config_is_told_whose_it_is_and_holds_nothing() {
    let (home, folder, ours) = stage();
    let kept = Kept::open(&folder, &ours);
    let lease = joined(&folder, &ours).await;
    let theirs = who(home.path(), &CONFIG.replace("60", "50"));
    let Asked::Other { pid, version: false, .. } = Lease::ask(&folder, &theirs).await.unwrap()
    else {
        panic!("it was let in");
    };
    assert_eq!(pid, Some(std::process::id()));
    drop(lease);
    soon(kept.serving).await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_said_and_left_alone() {
    let (_home, folder, who) = stage();
    fs::write(folder.at(CONTROL), "precious").unwrap();
    let said = Lease::ask(&folder, &who).await.unwrap_err().to_string();
    assert!(said.contains(&folder.shown(CONTROL).display().to_string()), "{said}");
    assert!(folder.control().is_err());
    assert_eq!(fs::read_to_string(folder.at(CONTROL)).unwrap(), "precious");
}

#[test]
fn two_texts_that_mean_the_same_places_are_one_config_wherever_they_lie() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let absolute = CONFIG.replace("\"state\"", "\"/var/lib/omnigate\"");
    assert_eq!(who(one.path(), &absolute), who(two.path(), &absolute));
    // A relative folder is another one elsewhere.
    assert_ne!(who(one.path(), CONFIG), who(two.path(), CONFIG));
    assert_ne!(who(one.path(), &absolute), who(one.path(), &absolute.replace("acme", "other")));
}

#[test]
fn who_logs_in_to_the_vault_as_somebody_else_is_another() {
    let home = tempfile::tempdir().unwrap();
    let vault = "backend = \"hashicorp\"\naddress = \"https://vault.corp\"\n\
                 auth = { method = \"token\", token_env = \"VAULT_TOKEN\" }";
    let text = CONFIG.replace("backend = \"env\"", vault);
    let path = home.path().join("omnigate.toml");
    fs::write(&path, &text).unwrap();
    let config = config::load(&path).unwrap_or_else(|report| panic!("{report}"));
    let who = |token: &str| {
        let variable = |name: &str| (name == "VAULT_TOKEN").then(|| token.into());
        Identity::within(&config, &path, variable).unwrap()
    };
    assert_eq!(who("ada"), who("ada"));
    assert_ne!(who("ada"), who("bob"));
}

#[test]
fn a_config_with_everything_is_always_the_same_one() {
    let home = tempfile::tempdir().unwrap();
    let text = include_str!("../../../../config/reference.toml");
    let path = home.path().join("omnigate.toml");
    fs::write(&path, text).unwrap();
    let read = || config::load(&path).ok().map(|config| Identity::of(&config, &path).unwrap());
    let first = read();
    assert!(first.is_some());
    for _ in 0..8 {
        assert_eq!(read(), first);
    }
}

#[test]
fn a_folder_that_others_could_fill_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    let refused = |state: PathBuf| Folder::open(&state).unwrap_err().to_string();
    let open = home.path().join("open");
    fs::create_dir_all(open.join("exec")).unwrap();
    for mode in [0o755, 0o770, 0o701] {
        fs::set_permissions(open.join("exec"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(open.clone()).contains("is open to other users"));
    }
    let (file, link) = (home.path().join("file"), home.path().join("link"));
    fs::create_dir_all(&file).unwrap();
    fs::write(file.join("exec"), "").unwrap();
    assert!(refused(file).contains("is not a folder"));
    fs::create_dir_all(&link).unwrap();
    symlink(home.path(), link.join("exec")).unwrap();
    assert!(refused(link).contains("is not a folder"));
    fs::write(home.path().join("no"), "").unwrap();
    assert!(refused(home.path().join("no")).contains("state folder"));
}

#[test]
fn a_state_folder_of_another_user_is_not_used_however_open_it_is() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    // Only root can make one.
    if std::os::unix::fs::chown(&state, Some(4711), None).is_err() {
        return;
    }
    let said = Folder::open(&state).unwrap_err().to_string();
    assert!(said.contains("belongs to the user 4711"), "{said}");
    assert!(!state.join("exec").exists());
}

#[test]
fn the_folder_that_was_looked_at_stays_the_one_that_is_used() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::open(home.path()).unwrap();
    fs::rename(home.path().join("exec"), home.path().join("moved")).unwrap();
    fs::create_dir(home.path().join("exec")).unwrap();
    fs::write(folder.at(CALLS), "").unwrap();
    assert!(!home.path().join("exec").join(CALLS).exists());
}

#[tokio::test(start_paused = true)]
async fn a_holder_who_cannot_be_seen_from_here_is_not_waited_for_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("omnigate.toml");
    fs::write(&path, CONFIG).unwrap();
    let config = config::load(&path).unwrap();
    // It has not said who it is; or it is in another container, on the same folder.
    for pid in [None, Some(i32::MAX.cast_unsigned())] {
        let mut holder = Holder::default();
        let waited = async {
            loop {
                if let Err(unfound) = holder.wait(&config, pid).await {
                    return unfound.to_string();
                }
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(1000), waited).await;
        assert!(said.expect("it never ended").contains("for 150 s; end it"));
    }
}

#[tokio::test]
async fn one_starts_at_a_time() {
    let (_home, folder, _) = stage();
    let held = folder.starting(TOO_LONG).await.unwrap();
    let mut second = Box::pin(folder.starting(TOO_LONG));
    tokio::task::yield_now().await;
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(held);
    soon(second).await.unwrap();
}
