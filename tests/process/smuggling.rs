//! Smuggling: one unambiguous request reaches upstream, or none; and no answer goes to another.
//!
//! The upstream here keeps every byte. What it was sent must mean the same to servers of all habits,
//! and be just what a caller meant who reads the RFC.

mod frames;
mod framing;
mod h2;
mod heads;
mod house;
mod mutations;
mod pipelines;
mod readings;
mod talk;
mod witness;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use house::House;
use readings::{Read, agreed};
use talk::{Case, judge, numbered, talk};
use tokio::time::timeout;

use crate::harness::Caller;

/// How many conversations there are at once.
const AT_ONCE: usize = 24;

/// How often a case is tried whose connection ended early: on a busy machine a clock of 300 ms may run
/// out between two bytes.
const TRIES: usize = 6;

/// Only ever passes when a test has failed.
const TOO_LONG: Duration = Duration::from_secs(30);

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
        for place in &places {
            let at = meant.iter().position(|one| one == place);
            meant.remove(at.unwrap_or_else(|| panic!("{}: {place} arrived", case.name)));
        }
        numbers += 1;
    }
    assert!(numbers >= cases.len());
    println!("{} cases, {whole} answered from end to end as they were meant", cases.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_reaches_upstream_or_none_in_h2_too() {
    let house = House::open().await;
    let cases = h2::all();
    let tried = stream::iter(cases.iter().enumerate())
        .map(|(number, case)| tried_in_h2(&house, case, number))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let wrong: Vec<_> = tried.iter().filter_map(|tried| tried.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let arrived = arrivals(house.end().await);
    let (mut first, mut odd) = (0, Vec::new());
    for (number, case) in cases.iter().enumerate() {
        let mut places = arrived[&number].clone();
        places.sort();
        assert_eq!(places.pop().as_deref(), Some("i"), "the call beside {} was lost", case.name);
        let came = places.first().is_some_and(|place| place == "0");
        let as_it_should = match case.fate {
            h2::Fate::Arrives => came,
            h2::Fate::Never => !came,
            h2::Fate::Either => true,
        };
        if !as_it_should {
            odd.push((&case.name, came));
        }
        let others: Vec<_> = places.iter().skip(usize::from(came)).collect();
        assert!(others.is_empty() || others == ["1"], "{}: {places:?}", case.name);
        first += usize::from(came);
    }
    println!("{} cases, of which {first} arrived", cases.len());
    assert!(odd.is_empty(), "these arrived, or did not: {odd:#?}");
}

/// Sends the frames of a case, and makes a plain call beside it.
async fn tried_in_h2(house: &House, case: &h2::Case, number: usize) -> Result<(), String> {
    let sent = numbered(&case.sent, number);
    let exchange = timeout(TOO_LONG, frames::exchange(house.address(), &sent, &[1, 3])).await;
    let Ok(bodies) = exchange else { return Err(format!("{}: it never ended", case.name)) };
    for (stream, body) in bodies {
        let place = if stream == 1 { 0 } else { 1 };
        let body = String::from_utf8_lossy(&body);
        let own = body.is_empty() || body.contains("\"urn:omnigate:problem:");
        if !own && body != format!("{number:06}.{place}") {
            return Err(format!("{}: stream {stream} was told {body}", case.name));
        }
    }
    beside(house, number).await.map_err(|told| format!("after {}: {told}", case.name))
}

/// A plain call of somebody else's gets its own answer.
async fn beside(house: &House, number: usize) -> Result<(), String> {
    let serial = format!("{number:06}.i");
    let mut caller = Caller::connect(house.address()).await;
    let answer = caller.get(&format!("/x?serial={serial}")).await;
    let own = answer.status == 200 && answer.body == serial;
    if own { Ok(()) } else { Err(format!("somebody else was told {answer:?}")) }
}

/// Tries a case, and makes a plain call beside it.
async fn tried(house: &House, case: &Case, first: usize) -> Result<bool, String> {
    for number in first..first + TRIES {
        let talking = timeout(TOO_LONG, talk(house.address(), case, number)).await;
        let Ok(heard) = talking else { return Err(format!("{}: it never ended", case.name)) };
        let whole = judge(case, number, &heard)?;
        beside(house, number).await.map_err(|told| format!("after {}: {told}", case.name))?;
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
