//! What the process shows of itself while it runs, and what it is told to do then.

use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::harness::{Gateway, House, Plan, get, soon, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_omnigate");

/// A house whose operators come by a unix socket: a gateway that comes back has the same address.
async fn house(plan: Plan) -> House {
    let house = plan.build().await;
    let config = std::fs::read_to_string(house.config()).unwrap();
    let (before, after) = config.split_once("[admin]").unwrap();
    let after = after.split_once("listen = \"127.0.0.1:0\"").unwrap().1;
    let admin = "[admin]\nlisten = \"unix:admin.sock\"\n";
    std::fs::write(house.config(), format!("{before}{admin}{after}")).unwrap();
    house
}

/// Starts a gateway and waits until operators are answered.
async fn started(house: &House) -> Gateway {
    let gateway = house.spawn();
    gateway.says("admin").await;
    gateway
}

fn command(house: &House, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["status", "-c"]).arg(house.config()).args(args).env_clear();
    command
}

async fn status(house: &House, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = soon(command(house, args).output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn the_command_says_whether_calls_would_be_served() {
    // One call a minute, and a drain that takes as long as the test likes.
    let budget = "limit = 1\nwindow = \"60s\"\nprofile = \"burst\"".to_owned();
    let server = "drain_timeout = \"120s\"".to_owned();
    let house = house(Plan { budget, server, ..Plan::default() }).await;
    let (code, out, err) = status(&house, &[]).await;
    assert_eq!((code, out.as_str()), (Some(69), ""));
    assert!(err.starts_with("error: no gateway answers on the admin address, unix:"), "{err}");

    let gateway = started(&house).await;
    let (code, out, err) = status(&house, &[]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("serving; ") && out.contains("org ready"), "{out}");
    assert!(!out.contains('\u{1b}') && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let (code, out, _) = status(&house, &["--json"]).await;
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &facts["ready"]), (Some(0), &true.into()));
    assert_eq!(out.lines().count(), 1);

    let address = gateway.says("serving").await["address"].as_str().unwrap().to_owned();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut call = TcpStream::connect(&address).await.unwrap();
        call.write_all(b"GET /api/v1/labels HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
        waiting.push(call);
    }
    until(async || (house.omni.arrived() == 1).then_some(())).await;
    gateway.signal(Signal::TERM);
    let not_ready = until(async || {
        let (code, out, _) = status(&house, &[]).await;
        (code == Some(1)).then_some(out)
    })
    .await;
    assert!(not_ready.starts_with("not ready: it is about to end; "), "{not_ready}");
    gateway.kill().await;

    std::fs::write(house.config(), "[nonsense]").unwrap();
    let (code, _, err) = status(&house, &[]).await;
    assert_eq!(code, Some(78), "{err}");
}

fn watching(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}

#[tokio::test]
async fn who_watches_is_told_when_the_gateway_goes_and_when_it_is_back() {
    let house = house(Plan::default()).await;
    let gateway = started(&house).await;
    let mut watching = watching(command(&house, &["--watch"]));
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut line = async || soon(lines.next_line()).await.unwrap().unwrap();
    assert!(line().await.contains(" serving; "));
    gateway.kill().await;
    assert!(line().await.starts_with("no gateway answers: "));
    let gateway = started(&house).await;
    assert!(line().await.contains(" serving; "));
    drop(gateway);
    let pid = Pid::from_raw(watching.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(soon(watching.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn who_reads_a_line_and_goes_ends_the_command() {
    let house = house(Plan::default()).await;
    let _gateway = started(&house).await;
    let mut watching = watching(command(&house, &["--watch", "--json"]));
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = soon(lines.next_line()).await.unwrap().unwrap();
        let facts: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(facts["ready"], true);
    }
    drop(lines);
    assert_eq!(soon(watching.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_terminal_is_drawn_on_in_place_and_left_as_it_was() {
    let house = house(Plan::default()).await;
    let _gateway = started(&house).await;
    // Of the package bsdutils, which every Debian has: it runs a command on a terminal.
    let mut script = Command::new("script");
    let line =
        format!("stty rows 24 cols 80; exec {PROGRAM} status --watch -c {:?}", house.config());
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    script.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    let mut watching = watching(script);
    let mut out = watching.stdout.take().unwrap();
    let mut seen = Vec::new();
    let count = |seen: &[u8], text: &str| String::from_utf8_lossy(seen).matches(text).count();
    while count(&seen, "\x1b[H") < 3 {
        assert_ne!(soon(out.read_buf(&mut seen)).await.unwrap(), 0, "{seen:?}");
    }
    // Ctrl-C, as a terminal sends it.
    watching.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    soon(out.read_to_end(&mut seen)).await.unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert_eq!(soon(watching.wait()).await.unwrap().code(), Some(0), "{text}");
    let drawn = text.split_once("\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H").unwrap().1;
    assert!(drawn.contains("\x1b[32mserving; "), "{text}");
    assert!(text.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "{text}");
    assert_eq!(count(&seen, "\x1b[2J"), 1, "{text}");
}

#[tokio::test]
async fn who_watches_the_events_does_not_keep_the_process() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let admin = gateway.says("admin").await["address"].as_str().unwrap().to_owned();
    let mut viewers = Vec::new();
    for _ in 0..50 {
        let mut viewer = TcpStream::connect(&admin).await.unwrap();
        viewer.write_all(b"GET /-/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        viewers.push(viewer);
    }
    // One reads; the others do not.
    let mut seen = Vec::new();
    let reads = viewers.last_mut().unwrap();
    while String::from_utf8_lossy(&seen).matches("event: status\n").count() < 2 {
        assert_ne!(soon(reads.read_buf(&mut seen)).await.unwrap(), 0);
    }
    let text = String::from_utf8(seen).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("content-type: text/event-stream\r\n"), "{text}");
    let watch = async || {
        let facts = gateway.admin("/-/status.json").await.json();
        (facts["viewers"] == 50).then_some(())
    };
    until(watch).await;
    // Who asks something else meanwhile is answered.
    assert_eq!(gateway.admin("/livez").await.status, 200);
    viewers.drain(..25);
    until(async || {
        let facts = gateway.admin("/-/status.json").await.json();
        (facts["viewers"] == 25).then_some(())
    })
    .await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.ends().await.status.code(), Some(0));
}

#[tokio::test]
async fn the_log_says_less_or_more_while_the_process_runs() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let set =
        async |query: &str| gateway.tell(&format!("/-/log{query}")).await.json()["log"].clone();
    let paths = || -> Vec<String> {
        let lines = gateway.events("exchange").into_iter();
        lines.map(|line| line["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let call = async |id: &'static str| {
        let mut request = get("/api/v1/labels");
        request.headers_mut().insert("x-request-id", id.parse().unwrap());
        assert_eq!(gateway.caller().await.call(request).await.unwrap().status, 200);
    };
    assert_eq!(set("?filter=omnigate%3Dwarn").await, "omnigate=warn");
    call("unheard").await;
    // Neither a slip nor another look at the secrets changes it.
    let slip = gateway.tell("/-/log?filter=inof").await;
    assert!(slip.status == 400 && slip.text().contains("MODULE=LEVEL"), "{}", slip.text());
    gateway.signal(Signal::HUP);
    gateway.reload().await;
    call("unheard-too").await;
    assert_eq!(set("").await, "info");
    call("heard").await;
    until(async || paths().contains(&"heard".to_owned()).then_some(())).await;
    assert_eq!(paths(), ["heard"]);
    let changes = gateway.events("log filter changed by an operator");
    let filters: Vec<&str> = changes.iter().map(|line| line["filter"].as_str().unwrap()).collect();
    assert_eq!(filters, ["omnigate=warn", "that of the config"]);
    assert_eq!(changes[0]["peer"], "127.0.0.1");
    assert_eq!(
        set("?filter=omnigate%3A%3Aserver%3Ddebug%2Cinfo").await,
        "omnigate::server=debug,info"
    );
    drop(gateway.caller().await);
    gateway.says("caller left").await;
}

#[tokio::test]
async fn a_pause_stands_in_the_log_with_who_asked_for_it() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    assert_eq!(gateway.tell("/-/pause?budget=omni&for=10m").await.status, 200);
    let paused = gateway.says("paused by an operator").await;
    assert_eq!(
        (&paused["level"], &paused["peer"], &paused["budget"], &paused["ends_in_s"]),
        (&"WARN".into(), &"127.0.0.1".into(), &"omni".into(), &600.0.into())
    );
    assert_eq!(gateway.tell("/-/resume").await.status, 200);
    gateway.says("resumed by an operator").await;
}

#[tokio::test]
async fn an_exchange_is_one_line_in_either_form() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (format, pretty) in [("json", false), ("pretty", true)] {
        let log = "info\"\nformat = \"FORMAT";
        let house = Plan { log, ..Plan::default() }.build().await;
        let config = std::fs::read_to_string(house.config()).unwrap();
        let keeps = "cache = { ttl = \"30s\", stale = \"10m\" }\n[telemetry]";
        let config = config.replace("FORMAT", format).replace("[telemetry]", keeps);
        std::fs::write(house.config(), config).unwrap();
        let gateway = house.spawn();
        until(async || gateway.said().contains("admin").then_some(())).await;
        let mut caller = crate::harness::Caller::connect_unix(&house.socket()).await;
        let mut request = get("/api/v1/labels");
        let headers = request.headers_mut();
        headers.insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
        headers.insert("x-request-id", "an-id".parse().unwrap());
        assert_eq!(caller.call(request).await.unwrap().status, 200);
        let line = until(async || {
            let said = gateway.said();
            said.lines().find(|line| line.contains("exchange")).map(str::to_owned)
        })
        .await;
        for field in [
            "request_id",
            "trace_id",
            "peer",
            "method",
            "route",
            "caller",
            "priority",
            "credential",
            "cache",
            "status",
            "waited_ms",
            "attempts",
            "upstream_ms",
            "bytes",
            "complete",
            "duration_ms",
        ] {
            let named = if pretty { format!("{field}=") } else { format!("\"{field}\":") };
            assert!(line.contains(&named), "{field} in {line}");
        }
        assert!(line.contains(trace) && line.contains("an-id"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
