//! Programs that print secrets: what becomes of their processes, and what they get to see.

use std::fs;

use crate::harness::safe::{Safe, install, quick};
use crate::harness::{Gateway, Plan, key, replace, until};

/// A child of the gateway.
#[derive(Debug)]
struct Child {
    pid: u32,
    state: char,
}

/// All that are there now, those that are dead and were not reaped too.
fn children(gateway: &Gateway) -> Vec<Child> {
    let numbers = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let child = |pid: u32| {
        // It may be gone by now.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything.
        let mut rest = stat.rsplit_once(") ")?.1.split(' ');
        let state = rest.next()?.chars().next()?;
        (rest.next()?.parse() == Ok(gateway.pid())).then_some(Child { pid, state })
    };
    numbers.filter_map(child).collect()
}

#[tokio::test]
async fn a_program_in_any_trouble_leaves_no_process_behind() {
    let safe = Safe::exec(key().token());
    let house = Plan { vault: safe.lines.clone(), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    for harm in &safe.harms {
        (harm.does)();
        let stands = gateway.reload().await;
        assert_eq!(stands["state"], "stale", "{}: {stands}", harm.says);
        // A place in trouble is looked at again after some seconds, which may be just now.
        until(async || children(&gateway).is_empty().then_some(())).await;
    }
    safe.mend(key().token());
    assert_eq!(gateway.reload().await["state"], "ready");
    assert!(children(&gateway).is_empty());
    // Many who ask at once do not start many at once, nor leave any.
    install(&safe.path("program"), "sleep 60");
    let (first, second) = tokio::join!(gateway.reload(), gateway.reload());
    assert_eq!((&first["state"], &second["state"]), (&"stale".into(), &"stale".into()));
    until(async || children(&gateway).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_program_is_run_as_it_is_and_no_shell_is_between() {
    let folder = tempfile::tempdir().unwrap();
    // To a shell, this would be the file `decoy` and more.
    let odd = folder.path().join("$(echo decoy); `true` && $HOME *");
    replace(&odd, key().token().as_bytes());
    replace(&folder.path().join("decoy"), b"decoy");
    let house = Plan { vault: quick(&odd, ""), ..Plan::default() }.build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.get("/api/v1/whoami").await.status, 200);
    assert_eq!(house.omni.distinct_authorizations("org"), 1);
    gateway.kill().await;

    // One that hangs can be looked at.
    let vault = "backend = \"exec\"\nallow_exec = [\"/bin/sleep\"]\ntimeout = \"1s\"\n\
                 command = [\"/bin/sleep\", \"61\"]";
    let org = "secret = \"org\"\non_missing = \"degrade\"";
    let vault = [vault.to_owned(), org.to_owned()];
    let house = Plan { vault, ..Plan::default() }.build().await;
    let mut gateway = house.spawn();
    let seen = until(async || {
        let seen = children(&gateway).into_iter().next()?;
        // Until it is loaded, it is still we; until it sleeps, it may not have its words.
        let exe = fs::read_link(format!("/proc/{}/exe", seen.pid)).ok()?;
        (exe.ends_with("sleep") && seen.state == 'S').then_some(seen)
    })
    .await;
    let words = fs::read(format!("/proc/{}/cmdline", seen.pid)).unwrap();
    assert_eq!(words, b"/bin/sleep\x0061\0");
    assert_eq!(children(&gateway).len(), 1);
    gateway.serves().await;
    assert!(children(&gateway).is_empty(), "{:?}", children(&gateway));
}

#[tokio::test]
async fn a_program_that_nobody_allowed_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let (program, mark) = (folder.path().join("program"), folder.path().join("mark"));
    install(&program, &format!("touch {}\necho {}", mark.display(), key().token()));
    let path = program.display();
    for allow in ["".to_owned(), "allow_exec = [\"/bin/cat\"]\n".to_owned()] {
        let vault = format!("backend = \"exec\"\n{allow}command = [\"{path}\"]");
        let vault = [vault, "secret = \"org\"\non_missing = \"degrade\"".to_owned()];
        let house = Plan { vault, ..Plan::default() }.build().await;
        let ended = house.spawn().ends().await;
        assert_eq!(ended.status.code(), Some(78), "{}", ended.said);
        let words = format!("{path} is not on the list of programs that may be run");
        assert!(ended.said.contains(&words), "{}", ended.said);
        assert!(ended.said.contains("allow_exec = ["), "{}", ended.said);
    }
    assert!(!mark.exists(), "it was run");
}
