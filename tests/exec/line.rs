//! What is shown. What a terminal shows is looked at in `tests/exec/terminal.py`.

use crate::harness::{House, StandIn, Start};

#[tokio::test]
async fn quiet_is_quiet() {
    let house = House::roomy().await;
    let via = format!("http://{}", house.gateway);
    let script = "curl -sf $OMNI_BASE_URL/api/v1/labels >/dev/null";
    let ended =
        Start::new(&["-q", "--via", &via, "sh", "-c", script]).env("OMNI_API_KEY", "x").run().await;
    assert_eq!((ended.code(), ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""));
}

#[tokio::test]
async fn nothing_is_drawn_where_stderr_is_no_terminal() {
    let house = House::roomy().await;
    let script = "curl -sf $OMNI_BASE_URL/api/v1/labels >/dev/null";
    let ended = Start::script(house.gateway, script).env("TERM", "xterm").run().await;
    assert_eq!(ended.code(), Some(0));
    assert!(!ended.err.contains('\x1b'), "{:?}", ended.err);
    assert!(ended.err.lines().all(|line| line.starts_with("omnigate: ")), "{}", ended.err);
}

#[tokio::test]
async fn help_teaches_by_examples() {
    let ended = Start::new(&["--help"]).run().await;
    assert!(ended.out.contains("  omnigate exec -- python crawl.py --all\n"), "{}", ended.out);
    assert!(ended.out.contains("OMNI_BASE_URL") && ended.out.contains("127"), "{}", ended.out);
}

#[tokio::test]
async fn a_program_without_calls_is_told_where_its_calls_should_go() {
    let gateway = StandIn::start().await;
    let ended = Start::script(gateway.address, "exit 0").run().await;
    assert!(
        ended.err.contains("no call came") && ended.err.contains("OMNI_BASE_URL"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_program_that_does_not_end_when_told_is_spoken_of() {
    let gateway = StandIn::start().await;
    let script = "trap '' TERM; echo ready; read line; exit 0";
    let mut exec = Start::script(gateway.address, script).spawn();
    assert_eq!(exec.line().await, "ready");
    exec.signal(rustix::process::Signal::TERM);
    assert!(exec.errs("still runs").await.contains("kill -9 "));
    exec.say("\n").await;
    assert_eq!(exec.ends().await.code(), Some(0));
}

/// The terminal itself, by an emulator (pyte, of PyPI). `tests/exec/run` installs that.
#[test]
#[ignore = "needs pyte: tests/exec/run"]
fn a_terminal_shows_the_program_whole_and_the_line_below() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exec/terminal.py");
    let program = crate::harness::PROGRAM;
    let status = std::process::Command::new(python).arg(script).env("OMNIGATE", program).status();
    assert!(status.unwrap().success());
}
