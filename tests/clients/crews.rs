//! Three programs of twenty workers each, all at once, with `omnigate exec` before each.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::stage::{LIMIT, Plan, Stage, WINDOW, beside, install};

/// How many calls each crew makes: together more than ten seconds' worth, so that lines are shown.
const CALLS: usize = 180;

/// Only ever passes when a test has failed.
const TO_RUN: Duration = Duration::from_secs(240);

/// What a line on the way says, and what the fake had seen when it came.
struct Line {
    answered: usize,
    arrived: usize,
}

/// Runs one crew by `exec`, as it would be started by hand; gives its report and the lines on the way.
async fn crew(stage: &Stage, name: &str, how: &[&str], program: Command) -> (Value, Vec<Line>) {
    let report = stage.folder().join(format!("{name}.json"));
    let mut exec = Command::new(env!("CARGO_BIN_EXE_omnigate"));
    exec.arg("exec").args(how).arg("--report").arg(&report).arg("--");
    exec.arg(program.as_std().get_program()).args(program.as_std().get_args());
    exec.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", stage.folder());
    exec.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = exec.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    let reading = async {
        while let Some(text) = said.next_line().await.unwrap() {
            lines.extend(line(&text, || stage.arrived_with(&format!("crew={name}-"))));
            all.push(text);
        }
    };
    let run = async {
        reading.await;
        child.wait_with_output().await.unwrap()
    };
    let done = timeout(TO_RUN, run).await.expect("the crew ends");
    let printed = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{name}: {}\n{printed}\n{all:#?}", done.status);
    assert_eq!(printed, format!("{name}: {CALLS} calls, all answered\n"));
    for text in &all {
        eprintln!("{name}: {text}");
    }
    (serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap(), lines)
}

/// `omnigate: 14 calls: 2 answered, …`; nothing for other lines.
fn line(text: &str, arrived: impl FnOnce() -> usize) -> Option<Line> {
    let (_, facts) = text.strip_prefix("omnigate: ")?.split_once("calls: ")?;
    let (answered, _) = facts.split_once(" answered,")?;
    Some(Line { answered: answered.parse().ok()?, arrived: arrived() })
}

fn python(folder: &Path, script: &str) -> Command {
    let mut program = Command::new(folder.join("bin/python"));
    program.arg(beside(script)).arg(CALLS.to_string());
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs a client; tests/run --all"]
async fn three_crews_at_once_see_no_429_and_their_lines_are_true() {
    let folder = install("crews").await;
    let stage = Plan::default().start().await;
    let (url, config) = (stage.url(), stage.config());
    let config = config.to_str().unwrap();
    let mut node = Command::new("node");
    node.arg(beside("crew_fetch.mjs")).arg(CALLS.to_string());
    // Two find the gateway that runs by its config, one is told where it is.
    let (by_config, by_url) = (["-c", config], ["--via", &url]);
    let in_batch = ["-c", config, "--priority", "batch"];
    let (requests, httpx, fetch) = tokio::join!(
        crew(&stage, "requests", &by_config, python(&folder, "crew_requests.py")),
        crew(&stage, "httpx", &by_url, python(&folder, "crew_httpx.py")),
        crew(&stage, "fetch", &in_batch, node),
    );
    let arrivals = stage.judge("three crews");
    assert_eq!(arrivals.len(), 3 * CALLS);
    let mut shown = 0;
    for (name, (report, lines)) in [("requests", requests), ("httpx", httpx), ("fetch", fetch)] {
        assert_eq!(report["calls"], CALLS, "{report:#}");
        assert_eq!(report["answered"]["200"], CALLS, "{report:#}");
        assert_eq!(report["sent"], stage.arrived_with(&format!("crew={name}-")), "{report:#}");
        assert_eq!(report["at_no_cost"], 0, "{report:#}");
        shown += lines.len();
        for Line { answered, arrived } in lines {
            // What was answered has arrived before; and a line is no older than what a window lets through.
            assert!(answered <= arrived && arrived <= answered + LIMIT, "{answered} of {arrived}");
        }
    }
    // At 60 each 2.5 s.
    let least = (WINDOW + Duration::from_millis(500)) * (3 * CALLS as u32 - 1) / LIMIT as u32;
    eprintln!("figure: {} calls cannot take less than {least:.1?}", 3 * CALLS);
    assert!(shown > 0, "no line was shown on the way");
}
