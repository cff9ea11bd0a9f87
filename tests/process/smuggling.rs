//! Smuggling: one unambiguous request reaches upstream, or none; and no answer goes to another.
//!
//! The upstream here keeps every byte. What it was sent must mean the same to servers of all habits,
//! and be just what a caller meant who reads the RFC.

mod framing;
mod heads;
mod house;
mod pipelines;
mod readings;
mod talk;
mod witness;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use house::House;
use readings::{Read, agreed};
use talk::{Case, judge, talk};
use tokio::time::timeout;

use crate::harness::Caller;

/// How many conversations there are at once.
const AT_ONCE: usize = 24;

/// How often a case is tried whose connection ended early: on a busy machine a clock of 300 ms may run
/// out between two bytes.
const TRIES: usize = 6;

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_reaches_upstream_or_none() {
    let house = House::open().await;
    let mut cases = framing::all();
    cases.extend(heads::all());
    cases.extend(pipelines::all());
    assert!(cases.len() >= 200, "{}", cases.len());
    let tried = stream::iter(cases.iter().enumerate())
        .map(|(at, case)| tried(&house, case, at * TRIES))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let wrong: Vec<_> = tried.iter().filter_map(|tried| tried.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let whole = tried.iter().filter(|tried| matches!(tried, Ok(true))).count();
    let arrived = arrivals(house.end().await);
    let mut numbers = 0;
    for (number, places) in &arrived {
        let case = &cases[number / TRIES];
        let mut places = places.clone();
        let innocent = places.iter().position(|place| place == "i").map(|at| places.remove(at));
        assert!(innocent.is_some(), "the call beside {} was lost", case.name);
        let mut meant: Vec<&str> = case.meant.iter().map(|meant| meant.arrives).collect();
        meant.retain(|serial| !serial.is_empty());
        places.sort();
        meant.truncate(places.len());
        meant.sort();
        assert_eq!(places, meant, "{}", case.name);
        numbers += 1;
    }
    assert!(numbers >= cases.len());
    println!("{} cases, {whole} answered from end to end as they were meant", cases.len());
}

/// Tries a case, and makes a plain call beside it.
async fn tried(house: &House, case: &Case, first: usize) -> Result<bool, String> {
    for number in first..first + TRIES {
        let talking = timeout(TOO_LONG, talk(house.address(), case, number)).await;
        let Ok(heard) = talking else { return Err(format!("{}: it never ended", case.name)) };
        let whole = judge(case, number, &heard)?;
        let innocent = format!("{number:06}.i");
        let mut beside = Caller::connect(house.address()).await;
        let answer = beside.get(&format!("/x?serial={innocent}")).await;
        if answer.status != 200 || answer.body != innocent {
            return Err(format!("after {} somebody else was told {answer:?}", case.name));
        }
        if whole || !case.all {
            return Ok(whole);
        }
        if number + 1 == first + TRIES {
            return Err(format!("{}: not all of it was answered: {heard:?}", case.name));
        }
    }
    unreachable!()
}

/// The places of the requests of each case that upstream was sent whole.
fn arrivals(seen: Vec<Vec<u8>>) -> BTreeMap<usize, Vec<String>> {
    let mut arrived: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for raw in seen {
        let (requests, end) = agreed(&raw).unwrap_or_else(|odd| panic!("{odd}"));
        let mut start = 0;
        for request in requests {
            check_head(&raw[start..request.end]);
            start = request.end;
            let (number, place) = request.serial().split_once('.').unwrap();
            arrived.entry(number.parse().unwrap()).or_default().push(place.to_owned());
        }
        // What was begun and given up is nothing that nobody meant, either.
        let rest = String::from_utf8_lossy(&raw[end..]).into_owned();
        let begun = Read { line: rest.lines().next().unwrap_or_default().to_owned(), end: 0 };
        assert!(rest.is_empty() || !begun.serial().is_empty(), "{rest}");
        assert!(!begun.serial().ends_with(".e"), "{rest}");
    }
    arrived
}

/// One key, one host, one length, and nothing out of trailers.
fn check_head(request: &[u8]) {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let head = &text[..text.find("\r\n\r\n").unwrap()];
    let count = |name: &str| head.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((count("authorization:"), count("host:")), (1, 1), "{head}");
    assert!(count("content-length:") + count("transfer-encoding:") <= 1, "{head}");
    assert!(!head.contains("evil.example") && !text.contains("leaked"), "{text}");
}
