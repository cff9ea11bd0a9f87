//! The file is whole, whatever happens.

use std::os::unix::fs::symlink;
use std::thread;

use crate::harness::{Folder, SECOND, Said, TOKEN, fingerprint, run};

#[test]
fn of_many_at_once_nothing_is_lost() {
    const MANY: usize = 12;
    let folder = Folder::with_vault();
    thread::scope(|scope| {
        for number in 0..MANY {
            let folder = &folder;
            scope.spawn(move || folder.ok(&["set", &format!("key-{number:02}"), "--stdin"], TOKEN));
        }
    });
    let expected: Vec<_> =
        (0..MANY).map(|number| (format!("key-{number:02}"), fingerprint(TOKEN))).collect();
    assert_eq!(folder.fingerprints(&[]), expected);
    assert_eq!(folder.names(), ["identity.txt", "omnigate.toml", "vault.age"]);
}

/// `vault set` under a shell that lets no file grow: every write to one fails or kills.
fn set_without_room(folder: &Folder, shell: &str) -> Said {
    let script = format!("{shell} ulimit -c 0; ulimit -f 0; exec \"$0\" vault set org --stdin");
    let program = env!("CARGO_BIN_EXE_omnigate");
    let said =
        Said::of(&run(folder.command("sh").args(["-c", &script, program]), SECOND.as_bytes()));
    assert!(!said.err.contains("PLANTED"), "{}", said.err);
    said
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_the_old_file() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let before = folder.read("vault.age");
    assert_eq!(set_without_room(&folder, "").code, None, "it was killed");
    let left: Vec<_> = folder.names().into_iter().filter(|it| it.contains(".new-")).collect();
    assert_eq!((left.len(), folder.read("vault.age")), (1, before));
    assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(TOKEN))]);
    folder.ok(&["set", "org", "--stdin"], SECOND);
    assert_eq!(folder.names(), ["identity.txt", "omnigate.toml", "vault.age"], "swept up");
    assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(SECOND))]);
}

#[test]
fn a_disk_without_room_leaves_the_old_file_and_says_so() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let before = folder.read("vault.age");
    let said = set_without_room(&folder, "trap '' XFSZ;");
    assert_eq!(said.code, Some(69));
    assert!(said.err.contains("vault.age cannot be written"), "{}", said.err);
    assert!(said.err.contains("it is as it was"), "{}", said.err);
    assert_eq!(folder.read("vault.age"), before);
    assert_eq!(folder.names(), ["identity.txt", "omnigate.toml", "vault.age"]);
}

#[test]
fn a_link_to_the_vault_stays_one() {
    let folder = Folder::with_vault();
    std::fs::create_dir(folder.path("real")).unwrap();
    std::fs::rename(folder.path("vault.age"), folder.path("real/v.age")).unwrap();
    symlink("real/v.age", folder.path("vault.age")).unwrap();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    folder.ok(&["rekey"], "");
    assert!(folder.path("vault.age").is_symlink());
    assert_eq!(folder.fingerprints(&["--vault", "real/v.age"]).len(), 1);
    assert_eq!(folder.mode("real/v.age"), 0o600);
}

#[test]
fn nothing_but_the_export_ever_shows_a_value() {
    // Each command looks at what it says by itself; what is on the disk is looked at here.
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND);
    folder.ok(&["rekey"], "");
    for name in folder.names() {
        let content = std::fs::read(folder.path(&name)).unwrap();
        assert!(!crate::harness::shows_a_secret(&content), "{name}");
    }
    assert!(crate::harness::shows_a_secret(TOKEN.as_bytes()), "or this proves nothing");
    let encoded = crate::harness::base64(&TOKEN.as_bytes()[..63]);
    assert!(crate::harness::shows_a_secret(encoded.as_bytes()), "or this proves little");
}
