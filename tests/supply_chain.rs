//! Holds `Cargo.lock` to what the gateway's promises rest on. `.deny.toml` says the same, and more,
//! to cargo-deny; this runs wherever the tests run.

#![allow(clippy::unwrap_used, reason = "a test file ends by panicking")]

use std::fs;
use std::path::Path;

/// Versions below which a promise does not hold.
const FLOORS: &[(&str, [u64; 3], &str)] = &[
    ("hyper", [1, 11, 0], "before it a Content-Length in front of a Transfer-Encoding was kept"),
    ("h2", [0, 4, 20], "before it two different Content-Length fields were taken"),
];

/// Crates that would bring a second TLS stack, or a second HTTP client.
const BANNED: &[&str] =
    &["openssl", "openssl-sys", "boring", "native-tls", "reqwest", "vaultrs", "ureq", "isahc"];

/// One `[[package]]` of the lock: name, version, and the names of what it depends on.
struct Package {
    name: String,
    version: String,
    depends_on: Vec<String>,
}

fn locked() -> Vec<Package> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let package = |table: &toml::Value| Package {
        name: text(&table["name"]),
        version: text(&table["version"]),
        depends_on: table.get("dependencies").map_or_else(Vec::new, |names| {
            let names = names.as_array().unwrap().iter();
            // Where a crate is there twice, its version follows the name.
            names.map(|one| text(one).split(' ').next().unwrap().to_owned()).collect()
        }),
    };
    lock["package"].as_array().unwrap().iter().map(package).collect()
}

fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split(['-', '+']).next().unwrap();
    plain.split('.').map(|number| number.parse().unwrap()).collect()
}

#[test]
fn no_version_is_below_its_floor() {
    let locked = locked();
    for (name, floor, why) in FLOORS {
        let found: Vec<_> = locked.iter().filter(|package| package.name == *name).collect();
        assert!(!found.is_empty(), "{name} is gone; take its floor away too");
        for package in found {
            let version = &package.version;
            assert!(numbers(version) >= floor.to_vec(), "{name} {version} < {floor:?}: {why}");
        }
    }
}

#[test]
fn banned_crates_are_absent() {
    for package in locked() {
        assert!(!BANNED.contains(&package.name.as_str()), "{} is banned", package.name);
    }
}

#[test]
fn ring_is_named_by_nobody_who_would_build_it() {
    // rustls-webpki says `ring?/alloc`, so the lock lists ring although nothing is built of it. A
    // crate that did use it would list it as its own.
    for package in locked().iter().filter(|package| package.name != "rustls-webpki") {
        assert!(!package.depends_on.contains(&"ring".to_owned()), "{} uses ring", package.name);
    }
}

#[test]
fn everything_comes_from_crates_io() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(path).unwrap();
    let crates_io = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, crates_io);
    }
}
