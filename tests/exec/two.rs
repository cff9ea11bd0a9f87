//! Several `exec` on one machine: one gateway, one budget, and nothing left behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitStatus;

use rustix::process::Signal;
use tokio::process::Command;

use crate::stage::{Ended, LIMIT, Run, Stage, WINDOW, calls, is_gone, kill, soon, until, wait};

/// Omni's own log is the judge.
fn limit_held(stage: &Stage) {
    assert!(stage.omni.highest_in_any_window(WINDOW) <= LIMIT);
    assert_eq!(stage.omni.refusals(), 0);
}

async fn at_once(programs: usize, each: usize) {
    let stage = Stage::build().await;
    let runs: Vec<Run> = (0..programs).map(|_| stage.exec(&calls(each))).collect();
    for run in runs {
        run.ends_well(each).await;
    }
    assert_eq!(stage.omni.arrived(), programs * each);
    limit_held(&stage);
    stage.is_left_alone(stage.holder()).await;
}

#[tokio::test]
async fn two_at_once_have_one_budget() {
    at_once(2, 65).await;
}

#[tokio::test]
async fn five_at_once_have_one_budget() {
    at_once(5, 36).await;
}

#[tokio::test]
async fn the_first_may_end_while_the_second_is_in_the_middle() {
    let stage = Stage::build().await;
    let first = stage.exec(&format!("{}; {}", wait("one", "go-one"), calls(5)));
    stage.there("one").await;
    let gateway = stage.holder();
    let second = stage.exec(&format!("{}; {}; {}", calls(5), wait("two", "go-two"), calls(70)));
    second.says("sharing the gateway").await;
    stage.there("two").await;
    stage.go("go-two");
    stage.go("go-one");
    // Its streams end, though the gateway that it started goes on.
    first.ends_well(5).await;
    second.ends_well(75).await;
    assert_eq!(stage.holder(), gateway);
    limit_held(&stage);
    stage.is_left_alone(gateway).await;
}

#[tokio::test]
async fn the_state_folder_is_free_as_soon_as_the_last_has_ended() {
    let stage = Stage::build().await;
    for _ in 0..5 {
        stage.exec(&calls(1)).ends_well(1).await;
        assert!(is_gone(stage.holder()));
        let lock = fs::File::open(stage.state().join("omnigate.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}

/// The race between the last that leaves and the next that comes.
#[tokio::test]
async fn who_comes_while_the_last_leaves_finds_a_gateway() {
    let stage = Stage::build().await;
    let mut lives: Vec<Run> = Vec::new();
    for turn in 0..24 {
        lives.push(stage.exec(&calls(1)));
        // Two or three at a time, and now and then nobody.
        while lives.len() > turn % 4 {
            lives.remove(0).ends_well(1).await;
        }
    }
    for life in lives {
        life.ends_well(1).await;
    }
    assert_eq!(stage.omni.arrived(), 24);
    stage.is_left_alone(stage.holder()).await;
}

#[tokio::test]
async fn an_exec_that_is_killed_takes_nobody_along_and_leaves_nothing() {
    let stage = Stage::build().await;
    let first = stage.exec(&wait("one", "never"));
    stage.there("one").await;
    let gateway = stage.holder();
    let second = stage.exec(&format!("{}; {}", wait("two", "go"), calls(10)));
    stage.there("two").await;
    kill(first.pid, Signal::KILL);
    stage.go("go");
    second.ends_well(10).await;
    stage.is_left_alone(gateway).await;
    // Alone, too. Its program lives on as it would without us, and ends here.
    let alone = stage.exec(&format!("echo $$ > pid; {}", wait("three", "never")));
    stage.there("three").await;
    let gateway = stage.holder();
    kill(alone.pid, Signal::KILL);
    stage.is_left_alone(gateway).await;
    stage.go("never");
    // The programs have both lived on.
    for killed in [first, alone] {
        assert_eq!(killed.ends().await.status.code(), None);
    }
}

#[tokio::test]
async fn after_a_gateway_that_was_killed_the_next_exec_begins_anew_and_the_limit_holds() {
    let stage = Stage::build().await;
    let first = stage.exec(&format!("{}; {}; {}", calls(50), wait("one", "go"), calls(1)));
    stage.there("one").await;
    let gateway = stage.holder();
    kill(gateway, Signal::KILL);
    until(async || is_gone(gateway).then_some(())).await;
    assert!(stage.state().join("exec/control.sock").exists());
    stage.exec(&calls(60)).ends_well(60).await;
    limit_held(&stage);
    // The first has lost its gateway, and its program sees an error, not a hang.
    stage.go("go");
    let Ended { status, out, said } = first.ends().await;
    assert_eq!(out[..50], vec!["200"; 50], "{said}");
    assert_ne!(out[50..], ["200"], "{said}");
    assert!(status.code().is_some(), "{status} {said}");
    stage.is_left_alone(stage.holder()).await;
}

#[tokio::test]
async fn who_lost_its_gateway_does_not_go_on_through_the_next_one_with_another_config() {
    let stage = Stage::build().await;
    let first = stage.exec(&format!("{}; {}", wait("one", "go"), calls(1)));
    stage.there("one").await;
    let gateway = stage.holder();
    kill(gateway, Signal::KILL);
    until(async || is_gone(gateway).then_some(())).await;
    let other = stage.another("other.toml", &stage.text().replace("\"all\"", "\"every\""));
    let second = stage.exec_with(&other, &wait("two", "end"));
    stage.there("two").await;
    stage.go("go");
    let Ended { out, said, .. } = first.ends().await;
    assert_eq!(out, ["502"], "{said}");
    assert_eq!(stage.omni.arrived(), 0);
    stage.go("end");
    second.ends_well(0).await;
}

#[tokio::test]
async fn another_config_waits_and_says_so() {
    let stage = Stage::build().await;
    let first = stage.exec(&format!("{}; {}", wait("one", "go"), calls(60)));
    stage.there("one").await;
    let other = stage.another("other.toml", &stage.text().replace("\"all\"", "\"every\""));
    let second = stage.exec_with(&other, &format!("touch two; {}", calls(10)));
    second.says("another `omnigate exec` with another config uses").await;
    second.says(&format!("(pid {})", first.pid)).await;
    assert!(!stage.path("two").exists());
    stage.go("go");
    first.ends_well(60).await;
    second.ends_well(10).await;
    limit_held(&stage);
}

#[tokio::test]
async fn the_same_config_elsewhere_is_the_same() {
    let stage = Stage::build().await;
    let first = stage.exec(&wait("one", "go"));
    stage.there("one").await;
    // Another spelling of the same file.
    let second = stage.exec_with("omnigate.toml".as_ref(), &calls(2));
    second.says("sharing the gateway").await;
    second.ends_well(2).await;
    stage.go("go");
    first.ends_well(0).await;
}

#[tokio::test]
async fn beside_a_gateway_that_runs_it_goes_through_that() {
    let tcp = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    let all = "[[listeners]]\naddress = \"0.0.0.0:0\"\nallow_anonymous = true\n";
    let unix = "[[listeners]]\naddress = \"unix:door.sock\"\n";
    for (doors, through) in [
        (tcp.to_owned(), "at 127.0.0.1:"),
        (all.to_owned(), "at 0.0.0.0:"),
        (format!("{all}{tcp}"), "at 127.0.0.1:"),
        (format!("{tcp}{unix}"), "at unix:"),
    ] {
        let stage = Stage::build().await;
        let text = stage.text().replace("[server]\n", "").replace("127.0.0.1:2", "127.0.0.1:0");
        let text = text.replace("listen = [\"127.0.0.1:1\"]\n", &doors);
        let serving = stage.another("serve.toml", &text);
        let (gateway, _) = stage.serve(&serving).await;
        let run = stage.exec(&calls(5));
        run.says(&format!("going through the gateway that runs {through}")).await;
        run.ends_well(5).await;
        assert_eq!(stage.holder(), gateway.pid);
        assert_eq!(stage.omni.arrived(), 5);
        kill(gateway.pid, Signal::TERM);
        assert_eq!(gateway.ends().await.status.code(), Some(0));
        assert!(!stage.state().join("serving.json").exists());
        // Without it, it has one of its own again.
        stage.exec(&calls(5)).ends_well(5).await;
        stage.is_left_alone(stage.holder()).await;
    }
}

#[tokio::test]
async fn nothing_goes_through_a_gateway_to_another_omni_or_with_conditions() {
    let stage = Stage::build().await;
    let serving =
        stage.text().replace("127.0.0.1:1", "127.0.0.1:0").replace("127.0.0.1:2", "127.0.0.1:0");
    let serving = stage.another("serve.toml", &serving);
    let (gateway, _) = stage.serve(&serving).await;
    let text = stage.text().replace(&stage.upstream.to_string(), "127.0.0.1:9");
    let run = stage.exec_with(&stage.another("other.toml", &text), &calls(1));
    refused(run, 69, &["speaks to http://", "state_dir"]).await;
    drop(gateway);

    let stage = Stage::build().await;
    let text = stage.text().replace("127.0.0.1:2", "127.0.0.1:0").replace(
        "listen = [\"127.0.0.1:1\"]",
        "[[listeners]]\naddress = \"127.0.0.1:0\"\nrequire_header = \"X-Omnigate: 1\"",
    );
    let serving = stage.another("serve.toml", &text);
    let (_gateway, _) = stage.serve(&serving).await;
    refused(stage.exec(&calls(1)), 69, &["a field of its own", "--via"]).await;
    assert_eq!(stage.omni.arrived(), 0);
}

/// Ends with this code, says this (once), and runs no program.
async fn refused(run: Run, code: i32, says: &[&str]) {
    let Ended { status, out, said } = run.ends().await;
    assert_eq!(status.code(), Some(code), "{said}");
    assert_eq!(out, Vec::<String>::new());
    for what in says {
        assert_eq!(said.matches(what).count(), 1, "{what:?} in\n{said}");
    }
}

#[tokio::test]
async fn another_process_with_the_folder_is_waited_for() {
    let stage = Stage::build().await;
    stage.exec(&calls(1)).ends_well(1).await;
    let lock = stage.state().join("omnigate.lock");
    let script = format!("echo $$ > {0}; touch held; exec sleep 600", lock.display());
    let mut holder = Command::new("flock");
    let holder = Run::of(
        holder
            .args(["-F", lock.to_str().unwrap(), "sh", "-c", &script])
            .current_dir(stage.path("")),
    );
    stage.there("held").await;
    let run = stage.exec(&calls(3));
    run.says(&format!("another omnigate (pid {}) uses", stage.holder())).await;
    assert_eq!(stage.omni.arrived(), 1);
    kill(holder.pid, Signal::KILL);
    run.ends_well(3).await;
}

#[tokio::test]
async fn what_others_could_have_put_there_is_not_trusted() {
    let stage = Stage::build().await;
    let folder = stage.state().join("exec");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    refused(stage.exec(&calls(1)), 69, &["is open to other users"]).await;
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    for name in ["control.sock", "calls.sock"] {
        fs::write(folder.join(name), "precious").unwrap();
        let place = folder.join(name).display().to_string();
        refused(stage.exec(&calls(1)), 69, &[&place]).await;
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "precious");
        fs::remove_file(folder.join(name)).unwrap();
    }
    // A log that leads elsewhere is replaced, and not written through.
    let precious = stage.path("precious");
    fs::remove_file(folder.join("log")).unwrap();
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, folder.join("log")).unwrap();
    stage.exec(&calls(1)).ends_well(1).await;
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert_eq!(fs::metadata(folder.join("log")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn why_it_does_not_start_is_said_once_as_serve_says_it() {
    let stage = Stage::build().await;
    fs::remove_file(stage.path("org.token")).unwrap();
    refused(stage.exec(&calls(1)), 78, &["credential `org`"]).await;
    stage.keep("omni_something_else");
    stage.exec("true").ends_well(0).await;

    fs::write(stage.config(), "state_dir = 5").unwrap();
    refused(stage.exec(&calls(1)), 78, &["state_dir = 5"]).await;
}

#[tokio::test]
async fn without_a_ledger_nothing_is_sent() {
    let stage = Stage::build().await;
    fs::write(stage.state(), "a file").unwrap();
    refused(stage.exec(&calls(1)), 69, &["the state folder", "--via"]).await;

    // The folder is ours, and the lock in it is not to be had.
    let stage = Stage::build().await;
    fs::create_dir_all(stage.state().join("omnigate.lock")).unwrap();
    refused(stage.exec(&calls(1)), 69, &["the ledger in"]).await;
    assert_eq!(stage.omni.arrived(), 0);
}

#[tokio::test]
async fn a_state_folder_may_be_deeper_than_a_socket_address_is_long() {
    let name = ["deep"; 40].join("/");
    let stage = Stage::with_state(&name).await;
    let first = stage.exec(&wait("one", "go"));
    stage.there("one").await;
    let second = stage.exec(&calls(2));
    second.says("sharing the gateway").await;
    second.ends_well(2).await;
    stage.go("go");
    first.ends_well(0).await;
    stage.is_left_alone(stage.holder()).await;
}

/// The fields of /proc/PID/stat after the name: state, parent, group, session, terminal.
fn standing(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    rest.split_ascii_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_gateway_has_no_terminal_and_no_streams_of_ours() {
    let stage = Stage::build().await;
    let run = stage.exec(&wait("one", "go"));
    stage.there("one").await;
    let gateway = stage.holder();
    let standing = standing(gateway);
    assert_eq!(standing[2..5], [gateway.to_string(), gateway.to_string(), "0".to_owned()]);
    let stream = |number: u32| fs::read_link(format!("/proc/{gateway}/fd/{number}"));
    // Not dumpable: only an administrator may look.
    if let (Ok(stdin), Ok(stdout), Ok(stderr)) = (stream(0), stream(1), stream(2)) {
        assert!(stdin.to_str().unwrap().starts_with("socket:"));
        assert_eq!(stdout.to_str(), Some("/dev/null"));
        assert!(stderr.ends_with("exec/log"), "{stderr:?}");
    }
    // An administrator who ends it by hand is obeyed, and the lock is given back in order.
    kill(gateway, Signal::TERM);
    stage.is_left_alone(gateway).await;
    stage.go("go");
    let status: ExitStatus = soon(run.ends()).await.status;
    assert_eq!(status.code(), Some(0));
}
