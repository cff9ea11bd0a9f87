//! The same for whatever chance makes of good requests.

use futures_util::{StreamExt, stream};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::house::House;
use super::readings::{Habits, agreed, requests};
use super::talk::{Case, EVIL, numbered, talk};

/// What a request is made of, and what may be put anywhere.
const PIECES: [&str; 34] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\r\n ",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0",
    "1",
    "5",
    "f",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "chunked",
    "identity",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 51\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    "HTTP/1.0",
    "Host: 127.0.0.1\r\n",
    "GET ",
    "\u{e9}",
    EVIL,
];

/// What is done to the bytes at one place.
#[derive(Clone, Debug)]
enum Change {
    Insert(usize),
    Cut(usize),
    Set(u8),
    Repeat(usize),
}

fn good() -> impl Strategy<Value = Vec<u8>> {
    let bodies = [
        "\r\n".to_owned(),
        format!("Content-Length: {}\r\n\r\n{EVIL}", EVIL.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len()),
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;b=c\r\nde\r\n0\r\nX: y\r\n\r\n".to_owned(),
        "Content-Length: 5\r\n\r\nhello".to_owned(),
    ];
    let line = prop::sample::select(vec!["GET", "POST", "HEAD", "DELETE"]);
    let one = (line, prop::sample::select(bodies.to_vec()), any::<bool>());
    prop::collection::vec(one, 1..4).prop_map(|all| {
        let text: String = all
            .iter()
            .enumerate()
            .map(|(place, (method, rest, accept))| {
                let accept = if *accept { "Accept: */*\r\n" } else { "" };
                let line = format!("{method} /x?serial=NNNNNN.{place} HTTP/1.1\r\n");
                format!("{line}Host: 127.0.0.1\r\n{accept}{rest}")
            })
            .collect();
        text.into_bytes()
    })
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![
        4 => (0..PIECES.len()).prop_map(Change::Insert),
        2 => (1..20usize).prop_map(Change::Cut),
        1 => any::<u8>().prop_map(Change::Set),
        1 => (1..40usize).prop_map(Change::Repeat),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), change), 1..5);
    (good(), changes).prop_map(|(mut bytes, changes)| {
        for (at, change) in changes {
            let at = at.index(bytes.len() + 1);
            let end = |length: usize| (at + length).min(bytes.len());
            match change {
                Change::Insert(piece) => {
                    bytes.splice(at..at, PIECES[piece].bytes());
                }
                Change::Cut(length) => {
                    bytes.drain(at..end(length));
                }
                Change::Set(byte) => {
                    bytes.splice(at..end(1), [byte]);
                }
                Change::Repeat(length) => {
                    let again = bytes[at..end(length)].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes
    })
}

/// Sends so many, and looks at all that came of them.
async fn run(count: usize) {
    let house = House::open().await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = mutated();
    let sent: Vec<Case> = (0..count)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        // Whoever never hears of an end hangs up.
        .map(|bytes| Case::new("", bytes, &[]).leaves_when_quiet())
        .collect();
    let heard = stream::iter(sent.iter().enumerate())
        .map(async |(number, case)| (number, talk(house.address(), case, number).await))
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await;
    for (number, answers) in &heard {
        // Each is for a request of this connection, and they come in its order.
        let sent = String::from_utf8_lossy(&numbered(&sent[*number].sent, *number)).into_owned();
        let mut from = 0;
        for answer in answers.iter().filter(|answer| !answer.serial.is_empty()) {
            let at = sent[from..].find(&format!("serial={}", answer.serial));
            from += at.unwrap_or_else(|| panic!("{} was told to\n{sent}", answer.serial)) + 1;
        }
    }
    let seen = house.end().await;
    let mut arrived = 0;
    for raw in &seen {
        let (all, end) = agreed(raw).unwrap_or_else(|odd| panic!("{odd}"));
        arrived += all.len();
        // Each was asked for in so many words by a caller who is not inside of another's body.
        for request in &all {
            assert!(request.line.ends_with(" HTTP/1.1"), "{}", request.line);
        }
        assert_eq!(requests(&raw[end..], Habits::STRICT).1, 0);
    }
    let answered: usize = heard.iter().map(|(_, answers)| answers.len()).sum();
    println!("{count} mutations: {answered} answers, {arrived} arrivals");
    assert!(arrived > count / 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_chance_makes_of_a_request_is_one_request_or_none() {
    run(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 20 s; tests/run --all runs it"]
async fn what_chance_makes_of_ten_thousand_requests_is_one_request_each_or_none() {
    run(10_000).await;
}
