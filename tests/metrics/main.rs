//! What the files in `deploy/otel` say of metrics is so: each name and label that they use is served, and
//! each metric that is served is in their table.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use omnigate::base::{BudgetId, CallerId, CredentialId, Priority, RouteId};
use omnigate::config;
use omnigate::telemetry::{
    BudgetGauges, CacheOutcome, ExchangeFacts, Exposition, Gauges, Metrics, Probe, Retry,
    SharedGauges,
};
use serde_json::Value;

use crate::promql::Selector;

/// Of each metric: its type, and its labels without a histogram's `le`.
type Served = BTreeMap<String, (String, BTreeSet<String>)>;

/// Of each name that samples have: the labels that they have.
type Samples = BTreeMap<String, BTreeSet<String>>;

/// What Prometheus adds to all that it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];

/// What Prometheus makes itself.
const ITS_OWN: [&str; 1] = ["up"];

/// What the dashboard leaves to those who look for it.
const ASIDE: [&str; 2] = ["omnigate_otlp_exports_total", "omnigate_cache_entries"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/otel")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The text of a gateway to which everything has happened once.
fn page() -> String {
    let metrics = Metrics::new();
    let (budget, credential) = (BudgetId::new("omni"), CredentialId::new("org"));
    let route = metrics.route(&RouteId::new("lists"), Some(&budget), true);
    let second = Duration::from_secs(1);
    route.granted(second, &CallerId::new("crawler"), Priority::Batch);
    route.attempted(&Method::GET, Some(StatusCode::OK), second);
    route.limited(true);
    route.retried(Retry::Limited);
    route.cached(CacheOutcome::Hit, 0);
    metrics.refused("queue-full");
    metrics.echoed(&credential, 1);
    metrics.probed(&credential, Probe::Accepted);
    let (method, status, took) = (&Method::GET, 200, second);
    metrics.exchanged(&ExchangeFacts { route: Some(&route), method, status, took });
    let gauges = Gauges {
        budgets: vec![BudgetGauges {
            id: budget,
            key: None,
            used: 1,
            limit: 60,
            queued: 0,
            oldest: [None; 3],
            paused: false,
            held: false,
        }],
        credentials: vec![(credential, "ready", Some(second))],
        certificates: vec![("0.0.0.0:6664".to_owned(), SystemTime::now())],
        shared: Some(SharedGauges { up: true, instances: 2, unshared: 1 }),
        ..Gauges::default()
    };
    metrics.render(&gauges, Exposition::Classic)
}

/// What is on that page. Each sample is of the metric that was named last.
fn served() -> Served {
    let mut all = Served::new();
    let mut last = String::new();
    for line in page().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            name.clone_into(&mut last);
            let before = all.insert(last.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(before.is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let inside = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            let labels = inside.map_or("", |(labels, _)| labels).split(',');
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0));
            let (kind, known) = all.get_mut(&last).unwrap();
            let is_histogram = kind == "histogram";
            known.extend(names.filter(|l| !(is_histogram && *l == "le")).map(str::to_owned));
        }
    }
    all
}

/// The names under which the samples of metrics are asked for.
fn samples(served: &Served) -> Samples {
    let mut all = Samples::new();
    for (name, (kind, labels)) in served {
        let ends: &[&str] = match kind.as_str() {
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        for end in ends {
            let le = (*end == "_bucket").then(|| "le".to_owned());
            let added = ADDED.map(str::to_owned).into_iter().chain(le);
            all.insert(format!("{name}{end}"), labels.iter().cloned().chain(added).collect());
        }
    }
    all.extend(ITS_OWN.map(|name| (name.to_owned(), ADDED.map(str::to_owned).into())));
    all
}

/// What is wrong with one expression.
fn judge(expression: &str, samples: &Samples) -> Vec<String> {
    let (selectors, grouped) = promql::read(expression);
    let mut wrong = Vec::new();
    let mut there = BTreeSet::new();
    for Selector { metric, labels } in &selectors {
        let Some(known) = samples.get(metric) else {
            wrong.push(format!("{metric} is not served"));
            continue;
        };
        there.extend(known.iter().map(String::as_str));
        let strange = labels.iter().filter(|label| !known.contains(*label));
        wrong.extend(strange.map(|label| format!("{metric} has no label {label}")));
    }
    let strange = grouped.iter().filter(|label| !there.contains(label.as_str()));
    wrong.extend(strange.map(|label| format!("nothing has the label {label}")));
    if selectors.is_empty() {
        wrong.push("it asks for nothing".to_owned());
    }
    wrong
}

fn holds(expression: &str, samples: &Samples) {
    assert_eq!(judge(expression, samples), Vec::<String>::new(), "{expression}");
}

/// The expressions of a file of rules: the rest of the line, or the deeper lines after `>-`.
fn rules(text: &str) -> Vec<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut all = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix("expr: ") else { continue };
        let mut expression = rest.trim_start_matches(">-").to_owned();
        while let Some(more) = lines.next_if(|next| rest == ">-" && depth(next) > depth(line)) {
            expression = format!("{expression} {}", more.trim());
        }
        all.push(expression);
    }
    all
}

/// Every text under this key, wherever it stands.
fn texts<'a>(value: &'a Value, key: &str, all: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                all.extend(value.as_str().filter(|_| name == key));
                texts(value, key, all);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, key, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_metric_is_in_the_table_with_its_type_and_labels_and_no_other_is() {
    let mut told = Served::new();
    for line in file("metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let mut cell = || cells.next().unwrap();
        let plain = |text: &str| text.trim_matches('`').to_owned();
        let (name, kind) = (plain(cell()), cell().to_owned());
        let labels = cell().split(", ").filter(|label| !label.is_empty()).map(plain).collect();
        assert!(!cell().is_empty(), "{name} is not explained");
        assert!(told.insert(name.clone(), (kind, labels)).is_none(), "{name} is there twice");
    }
    assert_eq!(told, served());
}

#[test]
fn every_alert_asks_for_what_there_is_and_says_what_to_do() {
    let samples = samples(&served());
    let (text, tests) = (file("alerts.yaml"), file("alerts_test.yaml"));
    let expressions = rules(&text);
    expressions.iter().for_each(|expression| holds(expression, &samples));
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 15 && alerts.len() == expressions.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for key in ["for:", "severity:", "summary:", "description:", "action:"] {
            assert_eq!(alert.matches(&format!(" {key} ")).count(), 1, "{name}: {key}");
        }
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
    let series = tests.lines().filter_map(|line| line.trim().strip_prefix("- series: '"));
    series.for_each(|series| holds(series.trim_end_matches('\''), &samples));
}

#[test]
fn every_panel_asks_for_what_there_is() {
    let samples = samples(&served());
    let dashboard: Value = serde_json::from_str(&file("grafana.json")).unwrap();
    let mut expressions = Vec::new();
    texts(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 30);
    let mut shown = BTreeSet::new();
    for expression in expressions {
        let plain = promql::fill_in(expression);
        holds(&plain, &samples);
        shown.extend(promql::read(&plain).0.into_iter().map(|selector| selector.metric));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')).unwrap();
        let (selector, label) = inner.rsplit_once(", ").unwrap();
        holds(&format!("sum by ({label}) ({selector})"), &samples);
    }
    // What we count is on the dashboard, or was left out on purpose.
    for name in served().keys().filter(|name| name.starts_with("omnigate_")) {
        let is_shown = shown.contains(name) || shown.contains(&format!("{name}_bucket"));
        assert!(is_shown != ASIDE.contains(&name.as_str()), "{name}: shown is {is_shown}");
    }
}

#[test]
fn every_panel_has_its_place_and_says_what_it_shows() {
    let dashboard: Value = serde_json::from_str(&file("grafana.json")).unwrap();
    // Those that Grafana gave up are not drawn: `graph`, `singlestat`, `table-old`.
    let kinds = ["row", "timeseries", "stat", "bargauge", "heatmap", "state-timeline", "table"];
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{title} sticks out");
            for y in number("y")..number("y") + number("h") {
                assert!(places.insert((x, y)), "{title} lies on another");
            }
        }
        assert!(kinds.contains(&panel["type"].as_str().unwrap()), "{title}");
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some_and(|text| text.len() > 5), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert!(ids.len() > 20);
    assert_eq!(dashboard["uid"], "omnigate");
}

#[test]
fn the_gateway_of_the_example_is_where_it_is_looked_for() {
    let path = folder().join("omnigate.toml");
    let config = config::load(&path).unwrap_or_else(|report| panic!("{report}"));
    let probes = config.admin.probe_listen.unwrap().to_string();
    for name in ["collector.yaml", "prometheus.yaml"] {
        assert!(file(name).contains(&format!("targets: [\"{probes}\"]")), "{name}");
    }
    let spans = "127.0.0.1:4318";
    assert!(file("collector.yaml").contains(&format!("endpoint: {spans}\n")));
    assert!(file("omnigate.toml").contains(&format!("otlp = {{ endpoint = \"http://{spans}\"")));
    assert!(config.telemetry.traces.is_some());
}

#[test]
fn a_wrong_name_or_label_is_found() {
    let samples = samples(&served());
    for (expression, wrong) in [
        ("omnigate_ready == 0", 0),
        ("rate(omnigate_grants_total{caller=\"x\"}[5m]) > 1e3", 0),
        ("sum by (le) (rate(omnigate_queue_wait_seconds_bucket[5m]))", 0),
        ("sum(rate(omnigate_retries_total[5m])) without (route) offset 5m", 0),
        ("omnigate_reddy == 0", 1),
        ("omnigate_queue_wait_seconds > 1", 1),
        ("omnigate_queue_wait_seconds_count{le=\"5.0\"}", 1),
        ("omnigate_grants_total{calller=\"}\", priority=~\"omnigate_x\"}", 1),
        ("sum by (route) (omnigate_grants_total)", 1),
        ("omnigate_budget_used / on (budget, route) omnigate_budget_limit", 1),
        ("1 + 2", 1),
    ] {
        assert_eq!(judge(expression, &samples).len(), wrong, "{expression}");
    }
}
