//! Holds the house to its floors: a module imports only from lower ones, and rooms share a floor.
//!
//! Reads the source itself, so that it can say which file went where. It knows paths (`crate::`,
//! `super::`, `self::`, groups, renames, expressions) and leaves out comments and literals.

#![allow(clippy::unwrap_used, reason = "a test file ends by panicking")]

use std::fs;
use std::path::Path;

/// From the ground up. What stands in one row does not see its neighbours.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["omni"],
    &["net"],
    // Below the rooms, whose tests use it; `judge` keeps the rooms themselves away.
    &["fake_vault"],
    &[
        "cache",
        "caller",
        "credential",
        "fake_omni",
        "policy",
        "route",
        "saver",
        "shape",
        "telemetry",
        "upstream",
    ],
    &["proxy"],
    &["admin", "server"],
    &["config"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Beginnings of paths, and who alone may (`Only`) or may not (`Not`) use them.
const WORDS: &[(&[&str], Who)] = &[
    (&["serde"], Who::Not(&["route", "saver", "cache", "shape", "upstream"])),
    (&["toml"], Who::Only(&["config", "credential"])),
    (&["secrecy", "ExposeSecret"], Who::Only(&["credential"])),
    // Also as `use std::time;`, after which `time::Instant` is std's.
    (&["std", "time", "Instant"], Who::Only(&[])),
    (&["std", "time", "*"], Who::Only(&[])),
    (&["std", "time", "self"], Who::Only(&[])),
];

enum Who {
    Only(&'static [&'static str]),
    Not(&'static [&'static str]),
}

/// What is wrong with one file, given its path below `src`.
fn check(file: &str, source: &str) -> Vec<String> {
    let home = module_of(file);
    let top = home.first().map_or("lib", String::as_str);
    let mut wrong = Vec::new();
    let mut say = |what: String| wrong.push(format!("{file}: {what}"));
    if top != "lib" && floor(top).is_none() {
        say(format!("`{top}` stands on no floor; give it one in tests/architecture.rs"));
    }
    let tokens = tokens(source);
    let mut inner: Vec<(usize, &str)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before]);
        match tokens[at..] {
            ["mod", name, "{", ..] => inner.push((depth, name)),
            ["extern", "crate", ..] => say("`extern crate` gives a crate a second name".into()),
            ["#", "[", "path", ..] | ["include", "!", ..] => say("source from elsewhere".into()),
            ["expose_secret", ..] if top != "credential" => {
                say(format!("`{top}` may not say `expose_secret`"));
            }
            ["{", ..] => depth += 1,
            ["}", ..] => {
                depth = usize::saturating_sub(depth, 1);
                inner.pop_if(|(outside, _)| *outside == depth);
            }
            _ => {}
        }
        let is_use = before == "use";
        let is_path = begins_path(tokens[at]) && tokens.get(at + 1) == Some(&"::");
        if !is_use && !is_path {
            at += 1;
            continue;
        }
        let how = match is_use {
            true if is_public(&tokens[..at - 1]) => How::PublicUse,
            true => How::Use,
            false => How::Expression,
        };
        let here: Vec<&str> =
            home.iter().map(String::as_str).chain(inner.iter().map(|(_, name)| *name)).collect();
        let (mut paths, mut end) = (Vec::new(), at);
        read_paths(&tokens, &mut end, &[], &mut paths);
        paths.iter().filter_map(|path| judge(&here, path, how)).for_each(&mut say);
        at = end.max(at + 1);
    }
    wrong
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Use,
    PublicUse,
    Expression,
}

/// What is wrong with one path in module `here`.
fn judge(here: &[&str], path: &[&str], how: How) -> Option<String> {
    let top = here.first().copied().unwrap_or("lib");
    let shown = path.join("::");
    let path = if path.starts_with(&["self", "super"]) { &path[1..] } else { path };
    let from_root = match path {
        ["super", "super", ..] => {
            return Some(format!("`{shown}` climbs twice; begin it with `crate::`"));
        }
        ["crate" | "omnigate", rest @ ..] => rest.to_vec(),
        ["super", rest @ ..] => [&here[..here.len().saturating_sub(1)], rest].concat(),
        ["self", rest @ ..] => [here, rest].concat(),
        _ if may_say(top, path, how) => return None,
        _ => return Some(format!("`{top}` may not say `{shown}`")),
    };
    let other = from_root.first().copied().unwrap_or("");
    if other == "fake_vault" && top != other && !here.contains(&"tests") {
        return Some(format!("only tests may see `fake_vault` (`{shown}`)"));
    }
    match (floor(top), floor(other)) {
        (_, None) => Some(format!("`{shown}` names no module of the house")),
        _ if other == top => None,
        (Some(ours), Some(theirs)) if theirs >= ours => {
            Some(format!("`{top}` may not see `{other}` (`{shown}`)"))
        }
        _ if how == How::PublicUse => {
            Some(format!("`{top}` may not hand on what is `{other}`'s (`pub use {shown}`)"))
        }
        _ => None,
    }
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn may_say(top: &str, path: &[&str], how: How) -> bool {
    // `use std::time;` brings in what `use std::time::*` would.
    let whole = how != How::Expression && *path == ["std", "time"];
    !whole
        && WORDS.iter().all(|(word, who)| {
            !path.starts_with(word)
                || match who {
                    Who::Only(modules) => modules.contains(&top),
                    Who::Not(modules) => !modules.contains(&top),
                }
        })
}

/// `route/path.rs` is `route::path`, `route/mod.rs` is `route`, `lib.rs` is the root.
fn module_of(file: &str) -> Vec<String> {
    let names = file.trim_end_matches(".rs").split('/').filter(|&name| name != "mod");
    names.filter(|&name| name != "lib").map(str::to_owned).collect()
}

/// Whether the tokens before a `use` make it public, also `pub(crate)`.
fn is_public(before: &[&str]) -> bool {
    match before {
        [.., "pub"] => true,
        [rest @ .., ")"] => {
            let open = rest.iter().rposition(|&token| token == "(").unwrap_or(0);
            matches!(rest[..open], [.., "pub"])
        }
        _ => false,
    }
}

/// Reads one path, or a group of them, from `at` on.
fn read_paths<'a>(
    tokens: &[&'a str],
    at: &mut usize,
    prefix: &[&'a str],
    paths: &mut Vec<Vec<&'a str>>,
) {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(*at).copied() {
            Some("::") => *at += 1,
            Some("{") => {
                *at += 1;
                while !matches!(tokens.get(*at), None | Some(&"}")) {
                    let start = *at;
                    read_paths(tokens, at, &path, paths);
                    *at = if *at == start || tokens.get(*at) == Some(&",") { *at + 1 } else { *at };
                }
                *at += 1;
                return;
            }
            Some(name) if is_name(name) || name == "*" => {
                path.push(name);
                *at += 1;
                if tokens.get(*at) != Some(&"::") {
                    if tokens.get(*at) == Some(&"as") && tokens.get(*at + 1).is_some() {
                        *at += 2;
                    }
                    paths.push(path);
                    return;
                }
            }
            _ => {
                paths.push(path);
                return;
            }
        }
    }
}

/// Whether a path may begin with this token: a name, but not a word before `::std::time`.
fn begins_path(token: &str) -> bool {
    const WORDS: &[&str] = &[
        "as", "break", "dyn", "else", "if", "impl", "in", "let", "match", "move", "mut", "return",
        "use", "where", "while",
    ];
    is_name(token) && !WORDS.contains(&token)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Names, `::` and single characters; no blanks, comments or literals.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let raw = rest[name..].trim_start_matches('#');
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if matches!(&rest[..name], "r" | "br" | "cr") && raw.starts_with('"') {
            let hashes = rest.len() - name - raw.len();
            let end = format!("\"{}", "#".repeat(hashes));
            let text = rest.len() - raw.len() + 1;
            rest[text..].find(&end).map_or(rest.len(), |found| text + found + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            let mut next = rest.chars().skip(1);
            let (one, two) = (next.next(), next.next());
            if one == Some('\\') || two == Some('\'') { quoted(rest, '\'') } else { 1 }
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let length = if name > 0 {
                name
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(&rest[..length]);
            length
        };
        rest = &rest[skip..];
    }
    tokens
}

/// The length of a literal in quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        match here {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn check_folder(folder: &Path, below: &str, wrong: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            files += check_folder(&path, &format!("{name}/"), wrong);
        } else if name.ends_with(".rs") {
            wrong.extend(check(&name, &fs::read_to_string(&path).unwrap()));
            files += 1;
        }
    }
    files
}

#[test]
fn the_house_stands_on_its_floors() {
    let mut wrong = Vec::new();
    let files = check_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut wrong);
    assert!(files > 20, "only {files} files were read");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Checks that one line of a file is refused with these words, and that it is found.
fn refuses(file: &str, source: &str, words: &str) {
    let wrong = check(file, source);
    assert!(wrong.iter().any(|one| one.contains(words)), "{file}: {source}\n{wrong:?}");
}

#[test]
fn a_room_that_sees_another_is_refused_by_name() {
    let words = "`route` may not see `upstream`";
    for source in [
        "use crate::upstream::Origin;",
        "use crate::{base::RouteId, upstream::{Origin, TlsRoots}};",
        "use {crate::upstream as elsewhere};",
        "use crate::upstream;",
        "use crate::upstream::*;",
        "pub use crate::upstream::Origin;",
        "pub(crate) use crate::upstream::Origin;",
        "fn f() { let x = crate::upstream::Origin::parse(\"a\"); }",
        "fn f(x: &crate::upstream::Origin) {}",
        "impl<T> From<crate::upstream::Origin> for X<T> {}",
        "use ::omnigate::upstream::Origin;",
        "macro_rules! m { () => { $crate::upstream::f() } }",
        "const C: char = '\"'; use crate::upstream::Origin; const D: char = '\"';",
        "fn f<'a>(x: &'a str) { crate::upstream::g::<'a>() }",
        "mod tests { use super::*; fn f() { } } use crate :: upstream :: Origin;",
    ] {
        refuses("route/path.rs", source, words);
    }
}

#[test]
fn a_room_reached_by_climbing_is_refused_too() {
    refuses("route/path.rs", "use super::super::upstream::Origin;", "climbs twice");
    refuses("route/path.rs", "mod tests { use super::super::X; }", "climbs twice");
    refuses("route/mod.rs", "use super::upstream::Origin;", "`route` may not see `upstream`");
    refuses("policy.rs", "use super::shape::Budget;", "`policy` may not see `shape`");
    refuses("policy.rs", "use self::super::shape::Budget;", "`policy` may not see `shape`");
}

#[test]
fn a_higher_floor_is_refused_and_so_is_a_neighbour() {
    refuses("shape/queue.rs", "use crate::proxy::Proxy;", "`shape` may not see `proxy`");
    refuses("server/mod.rs", "use crate::admin::Ready;", "`server` may not see `admin`");
    refuses("proxy/plan.rs", "use crate::config::Config;", "`proxy` may not see `config`");
    refuses("base/mod.rs", "use crate::omni::X;", "`base` may not see `omni`");
    refuses("config/file.rs", "fn f(x: crate::app::App) {}", "`config` may not see `app`");
}

#[test]
fn the_fake_vault_is_for_tests_alone() {
    let words = "only tests may see `fake_vault`";
    refuses("credential/hashicorp/session.rs", "use crate::fake_vault::FakeVault;", words);
    refuses("app.rs", "fn f(x: crate::fake_vault::FakeVault) {}", words);
    refuses("fake_vault/mod.rs", "use crate::credential::Source;", "may not see `credential`");
    for (file, source) in [
        ("credential/hashicorp/tests/mod.rs", "use crate::fake_vault::FakeVault;"),
        ("credential/life.rs", "mod tests { use crate::fake_vault::FakeVault; }"),
        ("fake_vault/mod.rs", "use crate::net::PipeEnd; use crate::fake_vault::api;"),
    ] {
        assert_eq!(check(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn other_ways_round_are_refused() {
    refuses("proxy/mod.rs", "pub use crate::upstream::Origin;", "may not hand on");
    refuses("proxy/mod.rs", "pub(crate) use crate::{shape::A};", "may not hand on");
    refuses("route/mod.rs", "use crate::*;", "names no module");
    refuses("route/mod.rs", "use crate as house;", "names no module");
    refuses("route/mod.rs", "extern crate self as house;", "second name");
    refuses("route/mod.rs", "#[path = \"../upstream/origin.rs\"] mod origin;", "elsewhere");
    refuses("util/mod.rs", "", "stands on no floor");
}

#[test]
fn words_that_belong_elsewhere_are_refused() {
    refuses("shape/settings.rs", "use serde::Deserialize;", "may not say `serde::Deserialize`");
    refuses("upstream/x.rs", "#[derive(serde::Serialize)] struct X;", "`serde::Serialize`");
    refuses("server/mod.rs", "fn f() { toml::from_str(x) }", "`toml::from_str`");
    refuses("proxy/mod.rs", "fn f() { x.expose_secret() }", "`expose_secret`");
    refuses("net/mod.rs", "use secrecy::{ExposeSecret as _};", "`secrecy::ExposeSecret`");
    refuses("base/mod.rs", "use std::time::{Duration, Instant};", "`std::time::Instant`");
    refuses("app.rs", "fn f() { ::std::time::Instant::now() }", "`std::time::Instant");
    refuses("app.rs", "use std::{io, time::{self}};", "`std::time::self`");
    refuses("app.rs", "use std::time;", "`std::time`");
    refuses("app.rs", "fn f() { return ::std::time::Instant::now(); }", "`std::time::Instant");
}

#[test]
fn what_is_meant_to_stand_is_not_refused() {
    for (file, source) in [
        ("route/path.rs", "use crate::base::RouteId; use super::pattern::X; use self::y::Z;"),
        (
            "route/path.rs",
            "// use crate::upstream::X;\n/* /* crate::shape::Y */ crate::shape::Z */",
        ),
        (
            "route/path.rs",
            "const A: &str = \"crate::upstream::X\"; const B: &str = r#\"\" crate::a::B\"#;",
        ),
        (
            "route/path.rs",
            "/// See [`crate::upstream::Origin`].\nfn f<'a>(c: char) -> bool { c == '\\'' }",
        ),
        ("policy.rs", "mod tests { use super::*; use std::time::Duration; }"),
        ("route/mod.rs", "pub use path::X; pub(super) fn f() {} pub(in crate::route) fn g() {}"),
        ("proxy/mod.rs", "use crate::{route::Router, shape::{self, Budget}}; pub use plan::Plan;"),
        ("server/mod.rs", "use crate::proxy::Proxy; use tokio::time::Instant;"),
        ("config/file.rs", "use serde::Deserialize; fn f() { toml::from_str::<X>(a) }"),
        ("credential/token.rs", "use secrecy::ExposeSecret; fn f() { x.expose_secret() }"),
        ("main.rs", "fn main() { omnigate::cli::run() }"),
    ] {
        assert_eq!(check(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}
