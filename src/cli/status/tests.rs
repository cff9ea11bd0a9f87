//! What is drawn of which facts.

use serde_json::json;

use super::screen::Tone;
use super::*;
use crate::admin::Status;
use crate::admin::status::{
    BlockedStatus, BudgetStatus, CacheStatus, CallerStatus, CertificateStatus, ErrorStatus,
    InstanceStatus, PauseStatus, QueueStatus, ReadinessShown, RouteStatus, SharedStatus,
    TracesStatus,
};

const PLAIN: Screen = Screen { width: 80, height: Some(24), colors: false, unicode: true };

fn queue(priority: &'static str, waiting: usize, oldest_s: Option<f64>) -> QueueStatus {
    QueueStatus { priority, waiting, oldest_s }
}

fn caller(name: &str, calls: u64, waiting: usize) -> CallerStatus {
    CallerStatus {
        caller: name.to_owned(),
        calls,
        sent: calls / 2,
        saved: calls / 4,
        waiting,
        oldest_s: (waiting > 0).then_some(40.2),
        longest_wait_s: 61.0,
        seen_s: (calls > 0).then_some(2.0),
        calls_ever: calls,
        ..CallerStatus::default()
    }
}

fn route(name: &str, keeps: bool, calls: u64) -> RouteStatus {
    RouteStatus {
        route: name.to_owned(),
        keeps,
        calls,
        sent: calls / 2,
        saved: if keeps { calls / 2 } else { 0 },
        mean_wait_s: Some(12.3),
        mean_upstream_s: Some(0.21),
        calls_ever: 120_000,
        ..RouteStatus::default()
    }
}

/// Two keys, one of which is gone from its place.
fn keys() -> Vec<Value> {
    vec![
        json!({ "credential": "org", "state": "ready", "age_s": 10_800 }),
        json!({
            "credential": "spare",
            "state": "stale",
            "age_s": 200_000,
            "trouble": "/run/spare is not there",
        }),
    ]
}

/// A gateway on a normal day.
fn normal() -> Status {
    Status {
        version: "0.1.0",
        now: "2026-11-21T20:13:28.123Z".to_owned(),
        up_s: 273_600.0,
        readiness: ReadinessShown { ready: true, reasons: Vec::new(), credentials: keys() },
        log: "info".to_owned(),
        connections: 12,
        viewers: 2,
        budgets: vec![BudgetStatus {
            budget: "omni".to_owned(),
            profile: "smooth",
            limit: 60,
            window_s: 60.0,
            span_s: 61.0,
            used: 45,
            next_slot_s: Some(1.02),
            queue: vec![
                queue("interactive", 0, None),
                queue("normal", 3, Some(40.2)),
                queue("batch", 12, Some(185.0)),
            ],
            ..BudgetStatus::default()
        }],
        callers: vec![caller("dashboards", 250, 0), caller("sync", 120, 15), caller("ci", 0, 0)],
        routes: vec![route("queries", false, 70), route("lists", true, 300)],
        cache: CacheStatus {
            bytes: 12 << 20,
            max_bytes: 64 << 20,
            entries: 120,
            calls: 300,
            saved: 150,
            saved_ever: 98_000,
        },
        traces: TracesStatus {
            state: "on",
            endpoint: Some("http://127.0.0.1:4318".to_owned()),
            exported: 123_456,
            ..TracesStatus::default()
        },
        errors: vec![ErrorStatus {
            ago_s: 12.0,
            count: 3,
            kind: "queue-full",
            status: 503,
            method: "GET",
            route: Some("lists".to_owned()),
            caller: Some("sync".to_owned()),
            request_id: "r-1".to_owned(),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        }],
        ..Status::default()
    }
}

fn facts(status: &Status) -> Value {
    serde_json::to_value(status).unwrap()
}

fn drawn(status: &Status, screen: &Screen) -> Vec<String> {
    draw(&facts(status), screen)
}

/// Written down as it was drawn, and looked at.
const NORMAL: &str = "\
serving; 15 calls wait, the oldest for 3 m
omnigate 0.1.0, up 3 d, 12 connections, log info, 2 watch

omni ███████████████████████░░░░░░░ 45 of 60 in 61 s, next slot in 1.0 s, smooth
  wait: interactive 0, normal 3 (for 40 s), batch 12 (for 3 m)

caller           calls   sent  saved refused failed   wait oldest   seen longest
sync               120     60     30       0      0     15   40 s  2.0 s    61 s
dashboards         250    125     62       0      0      0      -  2.0 s    61 s
ci                   0      0      0       0      0      0      -      -    61 s

route                    calls   sent  saved refused failed waited   Omni   ever
lists                      300    150    150       0      0   12 s  0.2 s   120k
queries                     70     35      -       0      0   12 s  0.2 s   120k

cache   12.0 MiB of 64.0 MiB in 120 answers; 150 of 300 calls cost nothing (50 …
key     spare stale (2 d): /run/spare is not there
keys    org ready (3 h)
traces  on, 123k spans sent, 0 lost, to http://127.0.0.1:4318
errors of 15 minutes, the latest first
  12 s ago     3 x 503 queue-full GET lists by sync, trace 4bf92f3577b34da6a3ce…
";

#[test]
fn a_normal_gateway_fits_24_lines_of_80() {
    let lines = drawn(&normal(), &PLAIN);
    assert!(lines.len() <= 24, "{}", lines.len());
    let all = format!("{}\n", lines.join("\n"));
    assert!(all == NORMAL, "\n{all}");
}

#[test]
fn the_sentence_says_what_keeps_calls_from_being_sent() {
    let said = |status: &Status| headline(&facts(status));
    let mut status = normal();
    let pauses = [
        ("operator", Some(540.0), "omni is paused by an operator for 9 m more"),
        ("operator", None, "omni is paused by an operator until somebody resumes"),
        ("omni", Some(7.5), "omni is paused by Omni for 7.5 s more"),
        ("omni", None, "omni is paused by Omni, one call probes"),
    ];
    for (by, ends_in_s, words) in pauses {
        status.budgets[0].paused = Some(PauseStatus { by, ends_in_s });
        let (sentence, tone) = said(&status);
        assert_eq!((sentence.contains(words), tone), (true, Tone::Warn), "{sentence}");
    }
    status.readiness.ready = false;
    status.readiness.reasons = vec![
        json!({ "reason": "draining" }),
        json!({ "reason": "credential-missing", "credential": "org" }),
    ];
    let (sentence, tone) = said(&status);
    assert_eq!(tone, Tone::Bad);
    assert!(sentence.starts_with("not ready: it is about to end, the key org is missing; "));
    let readiness = ReadinessShown { ready: true, ..ReadinessShown::default() };
    let idle = Status { readiness, ..Status::default() };
    assert_eq!(said(&idle), ("serving; nobody waits".to_owned(), Tone::Good));
}

#[test]
fn a_crowd_does_not_push_the_rest_off_the_screen() {
    let mut status = normal();
    status.callers = (0..500).map(|nth| caller(&format!("caller-{nth}"), nth, 0)).collect();
    status.routes = (0..40).map(|nth| route(&format!("route-{nth}"), false, nth)).collect();
    status.errors = vec![status.errors[0].clone(); 32];
    for height in [24, 30, 50] {
        let lines = drawn(&status, &Screen { height: Some(height), ..PLAIN });
        let all = lines.join("\n");
        assert_eq!(lines.len(), height, "{all}");
        for fact in ["caller-499", "route-39", "queue-full", "keys ", "cache ", "more"] {
            assert!(all.contains(fact), "{fact} in {height}\n{all}");
        }
    }
    // Where there is no screen, it ends too.
    let lines = drawn(&status, &Screen { height: None, ..PLAIN });
    assert!(lines.len() < 80 && lines.join("\n").contains("and 481 more"), "{}", lines.join("\n"));
}

#[test]
fn it_is_drawn_on_screens_of_any_size() {
    let mut status = normal();
    let (listener, expires_in_s) = ("0.0.0.0:6664".to_owned(), -10.0);
    status.certificates = vec![CertificateStatus { listener, expires_in_s }];
    status.instances = vec![InstanceStatus::default(); 2];
    for status in [status, Status::default()] {
        for width in [0, 1, 2, 10, 20, 39, 80, 200, 1000] {
            for height in [0, 1, 2, 5, 24, 200] {
                let lines = drawn(&status, &Screen { width, height: Some(height), ..PLAIN });
                assert!(lines.len() <= height);
                assert!(lines.iter().all(|line| line.chars().count() <= width.max(1)), "{width}");
            }
        }
    }
    // Nor does it matter what answers.
    let odd = json!({ "budgets": [1, null, {}], "callers": {}, "errors": ["x"], "routes": [[]] });
    for facts in [Value::Null, odd] {
        assert!(draw(&facts, &PLAIN).len() <= 24);
    }
}

/// Whoever listens on the admin address may say anything.
#[test]
fn no_figure_is_too_large_to_be_drawn() {
    fn each(facts: &mut Value, figure: &Value) {
        match facts {
            Value::Number(_) => *facts = figure.clone(),
            Value::Array(all) => all.iter_mut().for_each(|one| each(one, figure)),
            Value::Object(all) => all.values_mut().for_each(|one| each(one, figure)),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    for figure in
        [json!(u64::MAX), json!(i64::MIN), json!(f64::MAX), json!(f64::MIN), json!(1e-320)]
    {
        let mut facts = facts(&normal());
        each(&mut facts, &figure);
        for screen in [PLAIN, Screen { width: 300, height: None, ..PLAIN }] {
            let lines = draw(&facts, &screen);
            assert!(lines.iter().all(|line| line.chars().count() <= screen.width), "{lines:?}");
        }
    }
}

#[test]
fn no_text_of_the_gateways_moves_the_cursor() {
    let evil = "x\u{1b}[2J\u{7}\r\n\u{9b}31m\u{202e}\u{2066}\u{200f}y";
    let mut status = normal();
    for text in [
        &mut status.callers[0].caller,
        &mut status.routes[0].route,
        &mut status.log,
        &mut status.now,
        &mut status.budgets[0].budget,
        &mut status.errors[0].request_id,
    ] {
        evil.clone_into(text);
    }
    status.errors[0].trace_id = None;
    status.errors[0].caller = Some(evil.to_owned());
    status.budgets[0].credential = Some(evil.to_owned());
    status.traces.why = Some(evil.to_owned());
    status.traces.endpoint = Some(evil.to_owned());
    status.readiness.credentials[1]["trouble"] = json!(evil);
    status.readiness.credentials[0]["credential"] = json!(evil);
    status.readiness.reasons = vec![json!({ "reason": evil })];
    status.readiness.ready = false;
    let facts = facts(&status);
    let screens = [PLAIN, Screen { width: 300, height: None, ..PLAIN }];
    let mut all: Vec<String> = screens.iter().flat_map(|screen| draw(&facts, screen)).collect();
    all.extend(draw::frame(None, Some((evil.to_owned(), EVERY)), &PLAIN));
    all.push(words::one_line(&facts));
    for line in all {
        assert_eq!(clean(&line), line);
    }
    // What is printed for programs says the same as what came.
    let back: Value = serde_json::from_str(&words::one_line(&facts)).unwrap();
    assert_eq!(back, facts);
}

#[test]
fn colors_are_nothing_but_colors() {
    let bright = drawn(&normal(), &Screen { colors: true, ..PLAIN }).join("\n");
    assert!(bright.contains("\u{1b}[32m"), "{bright}");
    let mut bare = bright;
    while let Some(at) = bare.find('\u{1b}') {
        let end = at + bare[at..].find('m').unwrap();
        bare.replace_range(at..=end, "");
    }
    let trimmed: Vec<&str> = bare.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, drawn(&normal(), &PLAIN));
    let ascii = drawn(&normal(), &Screen { unicode: false, ..PLAIN }).join("\n");
    assert!(ascii.is_ascii() && ascii.contains("####"), "{ascii}");
}

#[test]
fn a_gateway_that_is_gone_is_said_to_be_over_what_was_seen_last() {
    let gone = ("cannot connect: refused".to_owned(), Duration::from_secs(12));
    let lines = draw::frame(Some(&facts(&normal())), Some(gone.clone()), &PLAIN);
    assert_eq!(lines[0], "no answer for 12 s: cannot connect: refused");
    assert_eq!(lines[1..], drawn(&normal(), &PLAIN)[1..]);
    assert_eq!(draw::frame(None, Some(gone), &PLAIN).len(), 1);
}

#[test]
fn a_line_says_that_something_happened_and_not_that_time_passed() {
    let of = |status: &Status| state(&facts(status));
    let mut later = normal();
    later.up_s += 1.0;
    later.budgets[0].used += 1;
    later.callers[0].calls += 1;
    assert_eq!(of(&later), of(&normal()));
    let pause = |ends: f64| Some(PauseStatus { by: "omni", ends_in_s: Some(ends) });
    later.budgets[0].paused = pause(1.0);
    let paused = of(&later);
    assert_ne!(paused, of(&normal()));
    later.budgets[0].paused = pause(0.5);
    assert_eq!(of(&later), paused);
    later.readiness.credentials[1]["state"] = json!("ready");
    assert_ne!(of(&later), paused);
}

#[test]
fn a_shared_budget_that_is_lost_or_blocked_is_said_first() {
    let lost = |on_lost, share_of| SharedStatus {
        standing: "lost",
        lost_s: Some(75.0),
        on_lost,
        share_of,
        ..SharedStatus::default()
    };
    let joined = SharedStatus { standing: "joined", on_lost: "hold", ..SharedStatus::default() };
    let block = BlockedStatus { why: "server", ends_in_s: 40.0 };
    let said = |shared: &SharedStatus, ready: bool| {
        let mut status = Status { shared: Some(shared.clone()), ..normal() };
        status.readiness.ready = ready;
        if !ready {
            status.readiness.reasons.push(json!({ "reason": "shared-budget" }));
        }
        drawn(&status, &PLAIN).remove(0)
    };
    let joining = SharedStatus { standing: "joining", on_lost: "hold", ..joined.clone() };
    for (shared, ready, begins) in [
        (joined.clone(), true, "serving; 15 calls"),
        (joining, false, "not ready: the shared budget was not reached yet; 15 calls"),
        (
            lost("hold", None),
            false,
            "not ready: the shared budget is lost for 75 s: nothing is sent; 15 calls",
        ),
        (
            lost("share", Some(4)),
            true,
            "serving; the shared budget is lost for 75 s: it sends its share, 1 of 4; 15",
        ),
        (
            lost("local", None),
            true,
            "serving; the shared budget is lost for 75 s: it sends as if it were alone; 15",
        ),
        (
            SharedStatus { blocked: Some(block), ..joined.clone() },
            true,
            "serving; the shared budget is on another server: nothing is sent for 40 s more; 15",
        ),
        (SharedStatus::default(), false, "not ready: the shared budget is out of reach; 15"),
    ] {
        let line = said(&shared, ready);
        // The first line may be cut where the screen ends.
        let line = line.trim_end_matches(['…', '>', ' ']);
        assert!(begins.starts_with(line) || line.starts_with(begins), "{line}\n{begins}");
        let other = Status { shared: Some(shared.clone()), ..normal() };
        let changes = state(&facts(&other)) != state(&facts(&normal()));
        assert_eq!(changes, !shared.standing.is_empty(), "{shared:?}");
    }
}

#[test]
fn those_who_share_are_named_and_who_is_late_is_said_to_be() {
    let instance = |name: &str, heard_s| InstanceStatus {
        instance: name.to_owned(),
        version: "0.1.0".to_owned(),
        up_s: 200.0,
        heard_s,
        is_this: heard_s.is_none(),
    };
    let mut status = normal();
    status.instances = vec![instance("gate-1", None)];
    let shown = |status: &Status| {
        let screen = Screen { width: 200, ..PLAIN };
        drawn(status, &screen).into_iter().find(|line| line.starts_with("shared"))
    };
    assert_eq!(shown(&status), None);
    status.shared =
        Some(SharedStatus { standing: "joined", unshared: 3, ..SharedStatus::default() });
    status.instances.extend([instance("gate-2", Some(0.4)), instance("gate\u{1b}-3", Some(61.0))]);
    assert_eq!(
        shown(&status).unwrap(),
        "shared  gate-1 (0.1.0, up 3 m, this one), gate-2 (0.1.0, up 3 m), gate-3 (0.1.0, up 3 m, \
         heard 61 s ago); 3 sends that the others knew nothing of"
    );
}

#[test]
fn figures_are_short() {
    for (seconds, words) in [
        (-1.0, "0.0 s"),
        (1.02, "1.0 s"),
        (9.96, "10 s"),
        (119.0, "119 s"),
        (185.0, "3 m"),
        (7300.0, "2 h"),
        (200_000.0, "2 d"),
    ] {
        assert_eq!(words::span(seconds), words);
    }
    for (number, words) in [(0, "0"), (99_999, "99999"), (123_456, "123k"), (12_000_000, "12M")] {
        assert_eq!(words::number(number), words);
    }
}
