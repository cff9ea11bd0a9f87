//! Instances that speak to a server: the engine of the tests, or a real Redis with the engine as its twin.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Engine, SCRIPT};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const PREFIX: &str = "omnigate:1:{0123456789abcdef}:";

/// Channel and message.
pub(crate) type Push = (String, String);

/// Where the script runs, and what each instance has said so far.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) now: u64,
    pub(crate) meters: Vec<Value>,
    heard: Arc<Mutex<Vec<Push>>>,
    numbers: BTreeMap<String, u64>,
    real: Option<Redis>,
}

/// A meter of `limit` sends in `span` µs, in bursts.
pub(crate) fn meter(name: &str, limit: u64, span: u64) -> Value {
    json!({ "name": name, "limit": limit, "span": span, "window": span, "reserve": 0,
            "pace": null, "strict": null })
}

/// The same at the pace of a bucket of `burst`.
pub(crate) fn paced(name: &str, limit: u64, span: u64, burst: u64, reserve: u64) -> Value {
    let low_each = span.div_ceil(limit - reserve);
    let pace = |burst: u64, each: u64| {
        json!({ "burst": burst, "each": each, "low_each": low_each,
                "low_burst": burst.saturating_sub(reserve).max(1), "kept": reserve.min(burst - 1) })
    };
    json!({ "name": name, "limit": limit, "span": span, "window": span, "reserve": reserve,
            "pace": pace(burst, span.div_ceil(limit)),
            "strict": pace(2, span.div_ceil((limit - 1).max(1))) })
}

pub(crate) fn head(ticket: u64, class: u64, who: &str, at: u64) -> Value {
    json!({ "t": ticket, "c": class, "who": who, "at": at, "ways": [[0]] })
}

impl Stage {
    pub(crate) fn new(meters: Vec<Value>) -> Self {
        let (engine, heard) = (Engine::new(), Arc::new(Mutex::new(Vec::new())));
        let to = Arc::clone(&heard);
        engine.on_publish(move |channel, message| {
            let channel = channel.strip_prefix(PREFIX).unwrap().to_owned();
            to.lock().unwrap().push((channel, message.to_owned()));
        });
        let now = 1_700_000_000 * SECOND;
        Self { engine, now, meters, heard, numbers: BTreeMap::new(), real: None }
    }

    /// Every call runs on a real server first, and then on the engine at the same moment; both must
    /// answer and publish the same, to the letter.
    pub(crate) fn on_redis(meters: Vec<Value>) -> Self {
        let real = Redis::start();
        Self { real: Some(real), ..Self::new(meters) }
    }

    /// A stage whose fleet has begun long ago: nobody is blocked.
    pub(crate) fn begun(meters: Vec<Value>) -> Self {
        let mut stage = Self::new(meters);
        stage.call("first", json!({ "trust": true, "expect": null }));
        stage.pushes();
        stage
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let ledgers = self
            .meters
            .iter()
            .map(|meter| format!("ledger:{}", meter["name"].as_str().unwrap_or("?")));
        let fixed = ["state", "instances", "news"].map(String::from).into_iter();
        fixed.chain(ledgers).map(|name| format!("{PREFIX}{name}")).collect()
    }

    /// One call of `instance`, which says `more` besides what every call says.
    pub(crate) fn call(&mut self, instance: &str, more: Value) -> Value {
        let number = self.numbers.entry(instance.to_owned()).or_default();
        *number += 1;
        let mut request = json!({
            "i": instance, "n": *number, "id": "run/replid", "expect": self.now, "tol": SECOND / 4,
            "turn": SECOND / 2, "live": 2 * SECOND, "stepped": false, "trust": false, "deaf": false,
            "info": "{}", "meters": self.meters, "heads": null, "returns": [], "sent": [],
            "reports": [], "stops": [], "news": [], "applied": 0, "table": false,
        });
        if self.real.is_some() {
            request["expect"] = self.real_now().into();
        }
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        let reply = self.say(&request.to_string()).unwrap();
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    /// The same with any text.
    pub(crate) fn say(&mut self, request: &str) -> Result<String, String> {
        let keys = self.keys();
        let Some(real) = &mut self.real else {
            return self.engine.run(self.now, &keys, &[request, PREFIX]);
        };
        let reply = real.run(&keys, request);
        if let Ok(reply) = &reply {
            let reply: Value = serde_json::from_str(reply).unwrap();
            self.now =
                reply["now"][0].as_u64().unwrap() * SECOND + reply["now"][1].as_u64().unwrap();
        }
        let before = self.heard.lock().unwrap().len();
        let twin = self.engine.run(self.now, &keys, &[request, PREFIX]);
        assert_eq!(reply.is_ok(), twin.is_ok(), "{request}\n{reply:?}\n{twin:?}");
        if reply.is_ok() {
            assert_eq!(reply, twin, "{request}");
        }
        let published = self.heard.lock().unwrap()[before..].to_vec();
        assert_eq!(real.pushes(published.len()), published, "{request}");
        reply
    }

    pub(crate) fn real_now(&mut self) -> u64 {
        self.real.as_mut().unwrap().now()
    }

    pub(crate) fn redis(&mut self) -> &mut Redis {
        self.real.as_mut().unwrap()
    }

    /// The real server alone.
    pub(crate) fn into_redis(self) -> Redis {
        self.real.unwrap()
    }

    pub(crate) fn pass(&mut self, time: u64) {
        self.now += time;
    }

    /// What was published since this was last asked.
    pub(crate) fn pushes(&mut self) -> Vec<Push> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    /// The same of one channel alone; the others stay to be asked for.
    pub(crate) fn pushes_to(&mut self, channel: &str) -> Vec<Value> {
        let mut heard = self.heard.lock().unwrap();
        let (own, others) = heard.drain(..).partition(|(to, _)| to == channel);
        *heard = others;
        let own: Vec<Push> = own;
        own.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect()
    }

    /// Makes `instance` one of the fleet.
    pub(crate) fn join(&mut self, instance: &str) {
        let reply = self.call(instance, json!({}));
        assert_eq!(reply["status"], "ok", "{reply}");
    }
}

/// The tickets that were granted.
pub(crate) fn granted(reply: &Value) -> Vec<u64> {
    reply["grants"].as_array().unwrap().iter().map(|one| one["t"].as_u64().unwrap()).collect()
}

/// A real server of this test alone.
pub(crate) struct Redis {
    child: Child,
    _folder: tempfile::TempDir,
    connection: redis::Connection,
    listener: redis::Connection,
    sha: String,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket: PathBuf = folder.path().join("redis.sock");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--unixsocket", socket.to_str().unwrap()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
        let connect = || {
            (0..3_000)
                .find_map(|_| {
                    client.get_connection().ok().or_else(|| {
                        std::thread::park_timeout(Duration::from_millis(10));
                        None
                    })
                })
                .unwrap()
        };
        let (mut connection, mut listener) = (connect(), connect());
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        listener
            .send_packed_command(&redis::cmd("PSUBSCRIBE").arg("*").get_packed_command())
            .unwrap();
        listener.recv_response().unwrap();
        let sha = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(&mut connection).unwrap();
        Self { child, _folder: folder, connection, listener, sha }
    }

    pub(crate) fn now(&mut self) -> u64 {
        let (s, us): (u64, u64) = redis::cmd("TIME").query(&mut self.connection).unwrap();
        s * SECOND + us
    }

    pub(crate) fn run(&mut self, keys: &[String], request: &str) -> Result<String, String> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha).arg(keys.len()).arg(keys).arg(request).arg(PREFIX);
        command.query(&mut self.connection).map_err(|error| error.to_string())
    }

    /// Any other command.
    pub(crate) fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection).unwrap()
    }

    /// The next so many pushes, and that there are no more.
    fn pushes(&mut self, count: usize) -> Vec<Push> {
        // What was published before this comes before it.
        let () = redis::cmd("PUBLISH").arg("end").arg("").query(&mut self.connection).unwrap();
        let mut pushes = Vec::with_capacity(count);
        loop {
            let message = self.listener.recv_response().unwrap();
            let (_, _, channel, text): (String, String, String, String) =
                redis::from_redis_value(message).unwrap();
            match channel.strip_prefix(PREFIX) {
                Some(channel) => pushes.push((channel.to_owned(), text)),
                None => return pushes,
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
