//! The store of shared budgets, at real servers: who is let in, what is told, and what is said when
//! something is wrong. What the script does is told elsewhere.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod process;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use omnigate::net::{Password, RedisPlace, TlsRoots};
use omnigate::shape::{BudgetStore, Connection, Passwords, RedisStore, StoreError};
use rustix::process::Signal;
use server::Server;
use tokio::time::timeout;

const OMNI: &str = "https://acme.omniapp.co";
/// The first 16 digits of the SHA-256 of it.
const PREFIX: &str = "omnigate:1:{5ccaf0e831142611}:";
/// Occurs nowhere else.
const SECRET: &str = "zqsecretzq-1";
/// Says what it was told.
const ECHO: &str = "return ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. table.concat(KEYS, ' ')";
/// Nothing takes longer on a machine that works.
const SOON: Duration = Duration::from_secs(30);

fn store(place: &RedisPlace, passwords: Option<Passwords>) -> RedisStore {
    with_script(place, passwords, ECHO)
}

fn with_script(
    place: &RedisPlace,
    passwords: Option<Passwords>,
    script: &'static str,
) -> RedisStore {
    RedisStore::with_script(place, OMNI, passwords, script).unwrap()
}

fn password(text: &str) -> Password {
    Password::parse(text.as_bytes()).unwrap()
}

/// A password that is the same whenever it is read.
fn known(text: &'static str) -> Passwords {
    let read = move || Box::pin(std::future::ready(Ok(password(text)))) as _;
    Passwords::new(password(text), Arc::new(read))
}

async fn run(connection: &mut Connection) -> Result<String, StoreError> {
    connection.script.run(&["omni".to_owned()], "{}").await
}

async fn push(connection: &mut Connection) -> Option<String> {
    timeout(SOON, connection.pushes.recv()).await.unwrap()
}

fn channel(name: &str) -> String {
    format!("{PREFIX}{name}")
}

#[tokio::test]
async fn the_script_runs_on_keys_of_one_omni_and_one_slot() {
    let server = Server::start(&[]);
    let mut connection = store(&server.at_socket(), None).connect("aa").await.unwrap();
    let meters = ["omni".to_owned(), "key/org".to_owned()];
    let keys = ["state", "instances", "news", "ledger:omni", "ledger:key/org"].map(channel);
    for request in ["{\"n\":1}", "{\"n\":2}"] {
        let reply = connection.script.run(&meters, request).await.unwrap();
        assert_eq!(reply, format!("{request} {PREFIX} {}", keys.join(" ")));
    }
    // A server that has forgotten the script is told it again.
    server.say(&["SCRIPT", "FLUSH"]);
    run(&mut connection).await.unwrap();
    let elsewhere = RedisStore::with_script(&server.at_socket(), "https://b", None, ECHO).unwrap();
    let reply = run(&mut elsewhere.connect("aa").await.unwrap()).await.unwrap();
    assert!(!reply.contains(PREFIX), "{reply}");
}

#[tokio::test]
async fn the_script_that_is_shipped_is_one_that_a_server_takes() {
    let server = Server::start(&[]);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/src/shape/redis/budget.lua");
    server.say(&["SCRIPT", "LOAD", &std::fs::read_to_string(shipped).unwrap()]);
}

#[tokio::test]
async fn what_is_told_to_everybody_and_to_us_arrives_and_nothing_else() {
    let server = Server::start(&[]);
    let store = store(&server.at_socket(), None);
    let (mut one, mut two) =
        (store.connect("aa").await.unwrap(), store.connect("bb").await.unwrap());
    for (to, text) in [("all", "1"), ("to:bb", "2"), ("to:aa", "3"), ("to:aaa", "4"), ("all", "5")]
    {
        server.say(&["PUBLISH", &channel(to), text]);
    }
    for text in ["1", "3", "5"] {
        assert_eq!(push(&mut one).await.unwrap(), text);
    }
    for text in ["1", "2", "5"] {
        assert_eq!(push(&mut two).await.unwrap(), text);
    }
}

#[tokio::test]
async fn a_subscription_that_is_cut_is_known_and_the_script_still_runs() {
    let server = Server::start(&[]);
    let mut connection = store(&server.at_socket(), None).connect("aa").await.unwrap();
    server.say(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(push(&mut connection).await, None);
    run(&mut connection).await.unwrap();
}

#[tokio::test]
async fn who_does_not_listen_is_cut_off_before_it_fills_our_memory() {
    let server = Server::start(&[]);
    let mut connection = store(&server.at_socket(), None).connect("aa").await.unwrap();
    let (mut operator, all) = (server.operator(), channel("all"));
    for _ in 0..5_000 {
        redis::cmd("PUBLISH").arg(&all).arg("x").exec(&mut operator).unwrap();
    }
    // Our side of the connection is closed, whatever else the server still has for it.
    let cut = async {
        while !matches!(server.say(&["PUBLISH", &all, "x"]), redis::Value::Int(0)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, cut).await.unwrap();
    let mut taken = 0;
    while push(&mut connection).await.is_some() {
        taken += 1;
    }
    assert!((1..=1_024).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_text_that_is_too_long_ends_the_subscription() {
    let server = Server::start(&[]);
    let mut connection = store(&server.at_socket(), None).connect("aa").await.unwrap();
    server.say(&["PUBLISH", &channel("all"), &"x".repeat(2 * 1024 * 1024)]);
    assert_eq!(push(&mut connection).await, None);
}

#[tokio::test]
async fn a_connection_that_is_dropped_is_gone_at_the_server_too() {
    let server = Server::start(&[]);
    let connection = store(&server.at_socket(), None).connect("aa").await.unwrap();
    let clients = || {
        let redis::Value::BulkString(list) = server.say(&["CLIENT", "LIST"]) else { panic!() };
        String::from_utf8(list).unwrap().lines().count()
    };
    assert_eq!(clients(), 3, "commands, subscription, operator");
    drop(connection);
    let gone = async {
        while clients() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_restarted_server_is_another_one() {
    let mut server = Server::start(&[]);
    let store = store(&server.at_socket(), None);
    let first = store.connect("aa").await.unwrap().identity;
    assert_eq!(store.connect("aa").await.unwrap().identity, first);
    assert_eq!(first.len(), 81, "{first}");
    server.start_again();
    assert_ne!(store.connect("aa").await.unwrap().identity, first);
}

#[tokio::test]
async fn a_killed_server_cannot_be_reached() {
    let mut server = Server::start(&[]);
    let store = store(&server.at_socket(), None);
    let mut connection = store.connect("aa").await.unwrap();
    server.kill();
    let error = run(&mut connection).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert_eq!(push(&mut connection).await, None);
    let error = store.connect("aa").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().starts_with("cannot be reached: "), "{error}");
}

#[tokio::test]
async fn a_stopped_server_is_slow_and_ends_no_call_of_ours_late() {
    let server = Server::start(&[]);
    let store = store(&server.at_socket(), None);
    let mut connection = store.connect("aa").await.unwrap();
    server.signal(Signal::STOP);
    assert_eq!(run(&mut connection).await, Err(StoreError::Slow));
    assert_eq!(store.connect("aa").await.unwrap_err(), StoreError::Slow);
    server.signal(Signal::CONT);
    run(&mut store.connect("aa").await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_script_that_fails_is_told_in_one_short_line() {
    let server = Server::start(&[]);
    let script = "return redis.error_reply('ODD ' .. string.rep('x', 5000) .. '\\27')";
    let store = with_script(&server.at_socket(), None, script);
    let mut connection = store.connect("aa").await.unwrap();
    let StoreError::Unusable(why) = run(&mut connection).await.unwrap_err() else { panic!() };
    assert!(why.starts_with("ODD xxx") && why.ends_with("x…"), "{why}");
    assert!(why.chars().count() == 201, "{why}");
}

#[tokio::test]
async fn a_replica_is_of_no_use() {
    let primary = Server::start_on_a_port(|port| vec!["--port".to_owned(), port.to_owned()]);
    let port = primary.port.unwrap().to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    let store = store(&replica.at_socket(), None);
    let error = store.connect("aa").await.unwrap_err();
    assert!(error.to_string().contains("cannot be used: it is a replica"), "{error}");
    // It takes over, and is another store than the one before.
    let before = self::store(&primary.at_socket(), None).connect("aa").await.unwrap().identity;
    replica.say(&["REPLICAOF", "NO", "ONE"]);
    assert_ne!(store.connect("aa").await.unwrap().identity, before);
}

#[tokio::test]
async fn a_primary_that_became_a_replica_takes_no_script() {
    let primary = Server::start_on_a_port(|port| vec!["--port".to_owned(), port.to_owned()]);
    let port = primary.port.unwrap().to_string();
    let server = Server::start(&[]);
    let script = "return redis.call('SET', KEYS[1], 'x').ok";
    let mut connection =
        with_script(&server.at_socket(), None, script).connect("aa").await.unwrap();
    assert_eq!(run(&mut connection).await.unwrap(), "OK");
    server.say(&["REPLICAOF", "127.0.0.1", &port]);
    let error = run(&mut connection).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_with_as_many_clients_as_it_takes_says_so() {
    let server = Server::start(&[]);
    let mut operator = server.operator();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec(&mut operator).unwrap();
    for passwords in [None, Some(known(SECRET))] {
        let error = store(&server.at_socket(), passwords).connect("aa").await.unwrap_err();
        // A server that was not yet asked may close before it has read our question.
        let closed = matches!(error, StoreError::Unreachable(_));
        assert!(closed || error.to_string().contains("clients"), "{error}");
    }
}

#[tokio::test]
async fn a_password_lets_us_in_and_a_wrong_one_is_never_shown() {
    let server = Server::start(&["--requirepass", SECRET]);
    let place = server.at_socket();
    run(&mut store(&place, Some(known(SECRET))).connect("aa").await.unwrap()).await.unwrap();
    let wrong = store(&place, Some(known("zqsecretzq-2")));
    for (store, told) in [(&wrong, "is wrong"), (&store(&place, None), "asks for a password")] {
        let error = store.connect("aa").await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        let said = format!("{error} {error:?} {store:?}");
        assert!(said.contains(told) && !said.contains("zqsecret"), "{said}");
    }
    let open = Server::start(&[]);
    let error = store(&open.at_socket(), Some(known(SECRET))).connect("aa").await.unwrap_err();
    assert!(error.to_string().contains("leave `password` out"), "{error}");
}

#[tokio::test]
async fn a_rotated_password_heals_and_its_place_is_not_asked_all_the_time() {
    let server = Server::start(&["--requirepass", SECRET]);
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let read = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(password("zqsecretzq-2")))) as _
    };
    let store = store(&server.at_socket(), Some(Passwords::new(password(SECRET), Arc::new(read))));
    store.connect("aa").await.unwrap();
    assert_eq!(looks.load(Ordering::Relaxed), 0);
    let operator = redis::Client::open(format!("{}?pass={SECRET}", server.url())).unwrap();
    let mut operator = operator.get_connection_with_timeout(SOON).unwrap();
    let mut requires = |password: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("requirepass").arg(password).exec(&mut operator).unwrap();
    };
    requires("zqsecretzq-2");
    for _ in 0..3 {
        run(&mut store.connect("aa").await.unwrap()).await.unwrap();
    }
    assert_eq!(looks.load(Ordering::Relaxed), 1);
    requires("zqsecretzq-3");
    for _ in 0..3 {
        let error = store.connect("aa").await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    }
    assert!(looks.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn a_password_that_cannot_be_read_again_says_where_it_is() {
    let server = Server::start(&["--requirepass", SECRET]);
    let read = || Box::pin(std::future::ready(Err("/run/redis is not there".to_owned()))) as _;
    let passwords = Passwords::new(password("zqsecretzq-0"), Arc::new(read));
    let error = store(&server.at_socket(), Some(passwords)).connect("aa").await.unwrap_err();
    assert!(error.to_string().ends_with("is wrong; /run/redis is not there"), "{error}");
}

/// The rights that the reference tells of, and no more.
const RIGHTS: &str = "~omnigate:1:* &omnigate:1:* +evalsha +eval +info +select +subscribe +publish \
    +time +@string +@hash +@list +@sortedset +del +exists";

/// Uses one command of each kind.
const EVERYTHING: &str = "
    redis.call('SET', KEYS[1], 'x') redis.call('HSET', KEYS[2], 'a', '1')
    redis.call('RPUSH', KEYS[3], 'x') redis.call('ZADD', KEYS[4], 1, 'x') redis.call('TIME')
    redis.call('EXISTS', KEYS[1]) redis.call('PUBLISH', ARGV[2] .. 'all', 'x')
    redis.call('DEL', KEYS[2]) return 'done'";

fn let_in(server: &Server, rights: &str) {
    let password = format!(">{SECRET}");
    let words = ["ACL", "SETUSER", "omnigate", "reset", "on", &password];
    server.say(&words.into_iter().chain(rights.split_whitespace()).collect::<Vec<_>>());
}

fn as_user(place: RedisPlace) -> RedisPlace {
    RedisPlace { username: Some("omnigate".to_owned()), database: 3, ..place }
}

#[tokio::test]
async fn a_user_with_the_rights_that_are_told_is_enough_over_tcp_in_a_database_of_its_own() {
    let server = Server::start_on_a_port(|port| vec!["--port".to_owned(), port.to_owned()]);
    let_in(&server, RIGHTS);
    let place = as_user(server.at_port("localhost", None));
    let store = with_script(&place, Some(known(SECRET)), EVERYTHING);
    let mut connection = store.connect("aa").await.unwrap();
    assert_eq!(run(&mut connection).await.unwrap(), "done");
    assert_eq!(push(&mut connection).await.unwrap(), "x");
    let mut operator = server.operator();
    let mut keys = |database: u32| -> Vec<String> {
        redis::cmd("SELECT").arg(database).exec(&mut operator).unwrap();
        redis::cmd("KEYS").arg("*").query(&mut operator).unwrap()
    };
    assert_eq!(keys(0), [""; 0]);
    assert_eq!(keys(3).len(), 3);
}

#[tokio::test]
async fn those_rights_are_enough_for_the_script_that_is_shipped() {
    let server = Server::start(&[]);
    let_in(&server, RIGHTS);
    let store = RedisStore::new(&as_user(server.at_socket()), OMNI, Some(known(SECRET))).unwrap();
    let mut connection = store.connect("aa").await.unwrap();
    let id = connection.identity.clone();
    let time = redis::cmd("TIME").query::<(u64, u64)>(&mut server.operator()).unwrap();
    let now = time.0 * 1_000_000 + time.1;
    let mut granted = false;
    // Whatever a call can bring: a head, a send of before, a refusal, a stop, news, and an id back.
    for n in 1..=3 {
        let request = serde_json::json!({
            "i": "aa", "n": n, "id": id, "expect": if n > 1 { Some(now) } else { None },
            "tol": 60_000_000, "turn": 1_000_000, "live": 2_000_000, "stepped": false,
            "trust": true, "deaf": false, "info": "{}",
            "meters": [{ "name": "omni", "limit": 60, "span": 61_000_000, "window": 60_000_000,
                "reserve": 0, "pace": null, "strict": null }],
            "heads": [{ "t": 7, "c": 0, "who": "ada", "at": now, "ways": [[0]] }],
            "returns": if n == 3 { vec!["aa:2:1"] } else { vec![] },
            "sent": if n == 1 { serde_json::json!([["aa:0:1", now, [0]]]) } else { serde_json::json!([]) },
            "reports": if n == 3 {
                serde_json::json!([{ "k": "limited", "m": [0], "g": 1, "retry": -1, "jitter": 0.5 }])
            } else {
                serde_json::json!([])
            },
            "stops": if n == 3 { serde_json::json!([{ "b": "*", "until": -1 }]) } else { serde_json::json!([]) },
            "news": ["one"], "applied": 0, "table": true,
        });
        let reply = connection.script.run(&["omni".to_owned()], &request.to_string()).await;
        let reply = reply.unwrap_or_else(|error| panic!("call {n}: {error}"));
        let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["status"], if n == 1 { "newcomer" } else { "ok" }, "{reply}");
        granted |= reply["grants"].as_array().is_some_and(|grants| !grants.is_empty());
    }
    assert!(granted);
    assert!(push(&mut connection).await.unwrap().contains("\"news\""));
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let server = Server::start(&[]);
    for (without, told) in [
        ("&omnigate:1:*", "channel"),
        ("+subscribe", "subscribe"),
        ("+info", "info"),
        ("+select", "select"),
        ("+evalsha", "evalsha"),
    ] {
        let_in(&server, &RIGHTS.replacen(without, "", 1));
        let store = with_script(&as_user(server.at_socket()), Some(known(SECRET)), EVERYTHING);
        let error = match store.connect("aa").await {
            Ok(mut connection) => run(&mut connection).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::Refused(_)), "{without}: {error:?}");
        assert!(error.to_string().contains(told), "{without}: {error}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told() {
    let server = Server::start(&[]);
    let place = RedisPlace { database: 4_000, ..server.at_socket() };
    let error = store(&place, None).connect("aa").await.unwrap_err();
    assert!(error.to_string().contains("DB index is out of range"), "{error}");
}

/// A certificate authority's file, and a server certificate of it, for `localhost`.
fn certificates(folder: &Path) -> TlsRoots {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = folder.join("ca.pem");
    std::fs::write(&file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let authority = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    TlsRoots::File(file)
}

fn with_tls(folder: &Path) -> Server {
    Server::start_on_a_port(|port| {
        let path = |name: &str| folder.join(name).display().to_string();
        let mut words = ["--port", "0", "--tls-auth-clients", "no", "--tls-port", port]
            .map(str::to_owned)
            .to_vec();
        for (key, file) in
            [("cert-file", "server.pem"), ("key-file", "server.key"), ("ca-cert-file", "ca.pem")]
        {
            words.extend([format!("--tls-{key}"), path(file)]);
        }
        words
    })
}

#[tokio::test]
async fn a_server_with_tls_is_believed_by_its_authority_alone() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (roots, others) = (certificates(folder.path()), certificates(other.path()));
    let server = with_tls(folder.path());
    let place = server.at_port("localhost", Some(roots.clone()));
    let mut connection = store(&place, None).connect("aa").await.unwrap();
    run(&mut connection).await.unwrap();
    server.say(&["PUBLISH", &channel("all"), "x"]);
    assert_eq!(push(&mut connection).await.unwrap(), "x");
    for place in [
        server.at_port("localhost", Some(others)),
        server.at_port("localhost", Some(TlsRoots::System)),
        server.at_port("127.0.0.1", Some(roots)),
    ] {
        let error = store(&place, None).connect("aa").await.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let plain = store(&server.at_port("localhost", None), None).connect("aa").await.unwrap_err();
    assert!(matches!(plain, StoreError::Unreachable(_) | StoreError::Unusable(_)), "{plain:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear_where_tls_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let roots = certificates(folder.path());
    let server = Server::start_on_a_port(|port| vec!["--port".to_owned(), port.to_owned()]);
    let place = server.at_port("localhost", Some(roots));
    let error = store(&place, Some(known(SECRET))).connect("aa").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_) | StoreError::Slow), "{error:?}");
}
