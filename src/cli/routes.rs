//! `omnigate routes`: the routes in the order in which a call looks for its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::base::CredentialId;
use crate::cache::Lifetime;
use crate::cli::lines::{Ink, Paper, span, wrapped};
use crate::cli::{OK, check};
use crate::config::Config;
use crate::credential::Kind;
use crate::omni;
use crate::policy::Impersonation;
use crate::proxy::RouteSettings;
use crate::route::{Methods, in_order};

/// Between two columns.
const GAP: &str = "  ";

/// Which config, and how it is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutesArgs {
    /// The config file [default: $OMNIGATE_CONFIG, ./omnigate.toml, your config folder,
    /// /etc/omnigate]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// One route. As a document its shape is stable.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    path: String,
    /// None for all.
    methods: Vec<String>,
    credentials: Vec<Key>,
    /// None where its calls are outside Omni's limit.
    budgets: Vec<String>,
    priority: Option<&'static str>,
    max_wait_s: Option<f64>,
    timeout_s: Option<f64>,
    max_body: Option<u64>,
    cache: Option<Keeps>,
    /// `deny`, `allow` or `pin`.
    impersonation: &'static str,
    sensitive: bool,
    streams: bool,
    forward_headers: Vec<String>,
    /// None, where each call is one.
    savers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Key {
    name: String,
    kind: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Keeps {
    /// None where upstream says.
    ttl_s: Option<f64>,
    stale_s: f64,
    vary: Vec<String>,
}

pub(crate) fn run(args: RoutesArgs) -> ExitCode {
    let config = match check::load(args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let rows = rows(&config);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&rows).unwrap_or_default()),
        false => println!("{}", draw(&rows, Paper::of_stdout()).join("\n")),
    }
    ExitCode::from(OK)
}

fn rows(config: &Config) -> Vec<Row> {
    let kinds: BTreeMap<&CredentialId, Kind> =
        config.credentials.iter().map(|one| (&one.id, one.kind)).collect();
    let routes = &config.routes;
    let order = in_order(routes.iter().map(|route| (&route.pattern, &route.methods)));
    order.into_iter().map(|at| row(&routes[at], &kinds)).collect()
}

fn row(route: &RouteSettings, kinds: &BTreeMap<&CredentialId, Kind>) -> Row {
    let key = |id: &CredentialId| Key {
        name: id.to_string(),
        kind: kinds.get(id).map(|kind| kind.as_str()),
    };
    let mut budgets: Vec<String> =
        route.keys.iter().flat_map(|key| &key.budgets).map(ToString::to_string).collect();
    budgets.sort();
    budgets.dedup();
    Row {
        name: route.id.to_string(),
        path: route.pattern.as_str().to_owned(),
        methods: match &route.methods {
            Methods::Any => Vec::new(),
            Methods::Only(list) => list.iter().map(ToString::to_string).collect(),
        },
        credentials: route.keys.iter().map(|one| key(&one.credential)).collect(),
        budgets,
        priority: route.priority.map(|priority| priority.as_str()),
        max_wait_s: route.max_wait.map(|time| time.as_secs_f64()),
        timeout_s: route.response_timeout.map(|time| time.as_secs_f64()),
        max_body: route.policy.max_body,
        cache: route.cache.as_ref().map(|rule| Keeps {
            ttl_s: match rule.lifetime {
                Lifetime::Ours(ttl) => Some(ttl.as_secs_f64()),
                Lifetime::Upstream => None,
            },
            stale_s: rule.stale.as_secs_f64(),
            vary: rule.vary.iter().map(ToString::to_string).collect(),
        }),
        impersonation: match &route.policy.impersonation {
            Impersonation::Deny => "deny",
            Impersonation::Allow => "allow",
            Impersonation::Pin(_) => "pin",
        },
        sensitive: route.takes_sensitive(),
        streams: route.pattern.example().is_some_and(|path| omni::is_streaming(&path)),
        forward_headers: route.policy.forward_headers.iter().map(ToString::to_string).collect(),
        savers: Vec::new(),
    }
}

impl Row {
    fn keys(&self) -> String {
        let keys = self.credentials.iter().map(|key| match key.kind {
            Some(kind) if kind != key.name => format!("{} ({kind})", key.name),
            Some(_) | None => key.name.clone(),
        });
        keys.collect::<Vec<_>>().join(", ")
    }

    fn methods(&self) -> String {
        if self.methods.is_empty() { "*".to_owned() } else { self.methods.join(",") }
    }

    fn keeps(&self) -> String {
        let Some(keeps) = &self.cache else { return "-".to_owned() };
        let fresh = keeps.ttl_s.map_or_else(|| "upstream".to_owned(), span);
        let stale = Some(keeps.stale_s).filter(|stale| *stale > 0.0);
        format!("{fresh}{}", stale.map(|stale| format!(" + {}", span(stale))).unwrap_or_default())
    }

    /// What is not as it is for most.
    fn notes(&self) -> String {
        let mut notes = Vec::new();
        let mut note = |is: bool, text: &str| {
            if is {
                notes.push(text.to_owned());
            }
        };
        note(self.sensitive, "sensitive");
        note(self.streams, "streams");
        note(self.impersonation == "allow", "may act for anybody");
        note(self.impersonation == "pin", "acts for one member");
        notes.extend(self.max_wait_s.map(|time| format!("waits {}", span(time))));
        notes.extend(self.timeout_s.map(|time| format!("timeout {}", span(time))));
        notes.extend(self.max_body.map(|most| format!("at most {}", bytes(most))));
        notes.extend(self.savers.iter().cloned());
        notes.join(", ")
    }

    fn cells(&self) -> [String; 8] {
        let budgets = self.budgets.join("+");
        [
            self.name.clone(),
            self.methods(),
            self.path.clone(),
            self.keys(),
            if budgets.is_empty() { "none".to_owned() } else { budgets },
            self.priority.unwrap_or("-").to_owned(),
            self.keeps(),
            self.notes(),
        ]
    }
}

const TITLES: [&str; 8] =
    ["route", "methods", "path", "key", "budget", "priority", "cache", "notes"];

/// As a table; where it is too wide, each route on two lines or more.
fn draw(rows: &[Row], paper: Paper) -> Vec<String> {
    let cells: Vec<[String; 8]> = rows.iter().map(Row::cells).collect();
    let width = |column: usize, title: bool| {
        let of_cells = cells.iter().map(|row| row[column].chars().count());
        let title = if title { TITLES[column].len() } else { 0 };
        of_cells.max().unwrap_or(0).max(title)
    };
    let widths: Vec<usize> = (0..TITLES.len()).map(|column| width(column, true)).collect();
    let whole = widths.iter().sum::<usize>() + GAP.len() * (TITLES.len() - 1);
    if whole <= paper.width {
        let line = |row: &[&str]| set(row, &widths);
        let heading = paper.ink(Ink::Dim, &line(&TITLES));
        let lines = cells.iter().map(|row| line(&row.each_ref().map(String::as_str)));
        return std::iter::once(heading).chain(lines).collect();
    }
    let widths = [width(0, false), 0];
    let mut lines = Vec::new();
    for [name, methods, path, key, budget, priority, keeps, notes] in &cells {
        lines.push(set(&[name, path], &widths));
        let methods = if methods == "*" { "all methods" } else { &methods.replace(',', ", ") };
        let mut facts = vec![methods.to_owned(), format!("key {key}"), format!("budget {budget}")];
        facts.extend((priority != "-").then(|| priority.clone()));
        facts.extend((keeps != "-").then(|| format!("cache {keeps}")));
        facts.extend((!notes.is_empty()).then(|| notes.clone()));
        for line in wrapped(&facts.join("; "), paper.width - 4) {
            lines.push(paper.ink(Ink::Dim, &format!("    {line}")));
        }
    }
    lines
}

fn bytes(bytes: u64) -> String {
    match bytes {
        whole if whole >= 1 << 20 && whole.is_multiple_of(1 << 20) => {
            format!("{} MiB", whole >> 20)
        }
        whole if whole >= 1 << 10 && whole.is_multiple_of(1 << 10) => {
            format!("{} KiB", whole >> 10)
        }
        other => format!("{other} B"),
    }
}

fn set(row: &[&str], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn shipped(name: &str) -> Config {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        config::parse(&text, &path).unwrap_or_else(|report| panic!("{report}"))
    }

    const NARROW: Paper = Paper { width: 80, colors: false };

    #[test]
    fn routes_stand_in_the_order_in_which_they_are_asked() {
        let rows = rows(&shipped("gateway.toml"));
        let at = |name: &str| rows.iter().position(|row| row.name == name).unwrap();
        assert!(at("documents") < at("reads") && at("query") < at("reads"));
        assert!(at("suggestions") < at("writes") && at("connection-list") < at("connections"));
        assert_eq!(rows.len(), shipped("gateway.toml").routes.len());
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for file in ["gateway.toml", "sidecar.toml", "batch.toml", "omnigate.toml"] {
            let rows = rows(&shipped(file));
            for width in [80, 100, 200] {
                for line in draw(&rows, Paper { width, ..NARROW }) {
                    assert!(line.chars().count() <= width, "{file} {width}: {line}");
                }
            }
        }
    }

    #[test]
    fn what_is_out_of_the_usual_is_noted() {
        let rows = rows(&shipped("gateway.toml"));
        let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row("users").notes(), "sensitive");
        assert_eq!(row("mcp").notes(), "streams");
        assert!(row("embed").sensitive, "its own path says so");
        assert_eq!(row("documents").keeps(), "30 s + 10 m");
        assert_eq!(row("documents").keys(), "read (personal)");
        assert_eq!(row("query").notes(), "timeout 3 m");
    }
}
