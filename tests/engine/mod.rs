//! A small Redis for tests: it runs `src/shape/redis/budget.lua` itself, in time that the test gives.
//!
//! It knows the commands and the libraries that the script uses, as Redis 7 has them, and nothing else:
//! a script that begins to use more fails here. What it keeps can be copied (a replica that lags, a
//! dump), put back, wiped, and parts of it taken away.

#![allow(dead_code, reason = "several tests share it, and none uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod cjson;
mod cmsgpack;
mod keys;

use std::fmt;
use std::sync::{Arc, Mutex};

use mlua::{Function, Lua, LuaString, Result as LuaResult, Table, Value, Variadic};

pub(crate) use keys::Keys;

/// The script as it is shipped.
pub(crate) const SCRIPT: &str = include_str!("../../src/shape/redis/budget.lua");

type Hear = Box<dyn FnMut(&str, &str) + Send>;

/// How many hear what is published on a channel.
type Count = Box<dyn Fn(&str) -> usize + Send>;

/// One server with the script loaded. Runs are one at a time.
pub(crate) struct Engine {
    lua: Lua,
    script: Function,
    inside: Arc<Mutex<Inside>>,
    hear: Mutex<Option<Hear>>,
    running: Mutex<()>,
}

#[derive(Default)]
struct Inside {
    now: u64,
    keys: Keys,
    published: Vec<(String, String)>,
    count: Option<Count>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An empty server.
    pub(crate) fn new() -> Self {
        Self::with_script(SCRIPT)
    }

    /// The same with another script.
    pub(crate) fn with_script(script: &str) -> Self {
        let lua = Lua::new();
        let inside = Arc::new(Mutex::new(Inside::default()));
        let script = prepare(&lua, &inside, script).unwrap();
        Self { lua, script, inside, hear: Mutex::new(None), running: Mutex::new(()) }
    }

    /// Runs the script at a moment in µs; what it returns, or the error that Redis would answer.
    /// What it publishes is heard before this returns.
    pub(crate) fn run(&self, now: u64, keys: &[String], argv: &[&str]) -> Result<String, String> {
        let _one_at_a_time = self.running.lock().unwrap();
        self.inside.lock().unwrap().now = now;
        let reply = self.run_script(keys, argv).map_err(|error| error.to_string());
        let published = std::mem::take(&mut self.inside.lock().unwrap().published);
        if let Some(hear) = &mut *self.hear.lock().unwrap() {
            for (channel, message) in &published {
                hear(channel, message);
            }
        }
        reply?
    }

    fn run_script(&self, keys: &[String], argv: &[&str]) -> LuaResult<Result<String, String>> {
        let globals = self.lua.globals();
        globals.raw_set("KEYS", self.lua.create_sequence_from(keys.iter().map(String::as_str))?)?;
        globals.raw_set("ARGV", self.lua.create_sequence_from(argv.iter().copied())?)?;
        Ok(match self.script.call::<Value>(())? {
            Value::String(text) => Ok(text.to_string_lossy()),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Number(number) => Ok((number.trunc() as i64).to_string()),
            Value::Table(table) => Err(table.raw_get::<String>("err").unwrap_or_default()),
            other => Err(format!("the script returned {other:?}")),
        })
    }

    /// Tells `hear` of everything that is published from now on, as (channel, message).
    pub(crate) fn on_publish(&self, hear: impl FnMut(&str, &str) + Send + 'static) {
        *self.hear.lock().unwrap() = Some(Box::new(hear));
    }

    /// From now on as many hear a channel as `count` says; one, before.
    pub(crate) fn heard_by(&self, count: impl Fn(&str) -> usize + Send + 'static) {
        self.inside.lock().unwrap().count = Some(Box::new(count));
    }

    /// What it keeps now.
    pub(crate) fn snapshot(&self) -> Keys {
        self.inside.lock().unwrap().keys.clone()
    }

    /// From now on it keeps this, as a replica or a server that has read its dump.
    pub(crate) fn restore(&self, keys: Keys) {
        self.inside.lock().unwrap().keys = keys;
    }

    /// Forgets everything.
    pub(crate) fn wipe(&self) {
        self.restore(Keys::default());
    }

    /// Looks at what it keeps, or changes it.
    pub(crate) fn with_keys<T>(&self, look: impl FnOnce(&mut Keys) -> T) -> T {
        look(&mut self.inside.lock().unwrap().keys)
    }
}

fn prepare(lua: &Lua, inside: &Arc<Mutex<Inside>>, script: &str) -> LuaResult<Function> {
    let globals = lua.globals();
    let redis = lua.create_table()?;
    let at = Arc::clone(inside);
    redis.set(
        "call",
        lua.create_function(move |lua, args: Variadic<Value>| {
            let inside = &mut *at.lock().unwrap();
            call(lua, inside, &args)
        })?,
    )?;
    redis.set(
        "error_reply",
        lua.create_function(|lua, text: LuaString| {
            let reply = lua.create_table()?;
            reply.set("err", text)?;
            Ok(reply)
        })?,
    )?;
    globals.set("redis", redis)?;
    globals.set("cjson", cjson::library(lua)?)?;
    globals.set("cmsgpack", cmsgpack::library(lua)?)?;
    for name in ["KEYS", "ARGV"] {
        globals.set(name, lua.create_table()?)?;
    }
    for absent in ["io", "os", "require", "package", "print", "dofile", "loadfile"] {
        globals.set(absent, Value::Nil)?;
    }
    // Redis lets a script make no globals, and read none that are not there.
    lua.load(
        "setmetatable(_G, {
            __index = function(_, name) error('no global ' .. tostring(name)) end,
            __newindex = function(_, name) error('a new global ' .. tostring(name)) end,
        })",
    )
    .exec()?;
    lua.load(script).set_name("@budget.lua").into_function()
}

/// One command, as `redis.call` does it.
fn call(lua: &Lua, inside: &mut Inside, args: &[Value]) -> LuaResult<Value> {
    let args: Vec<Vec<u8>> = args.iter().map(argument).collect::<LuaResult<_>>()?;
    let parts: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    let Some((name, rest)) = parts.split_first() else {
        return Err(mlua::Error::runtime("no command"));
    };
    match (*name, rest) {
        (b"TIME", []) => {
            let (s, us) = (inside.now / 1_000_000, inside.now % 1_000_000);
            list(lua, [s.to_string().into_bytes(), us.to_string().into_bytes()])
        }
        (b"PUBLISH", [channel, message]) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let channel = text(channel);
            let heard = inside.count.as_ref().map_or(1, |count| count(&channel));
            inside.published.push((channel, text(message)));
            Ok(Value::Number(heard as f64))
        }
        (name, rest) => match inside.keys.call(name, rest).map_err(mlua::Error::runtime)? {
            keys::Reply::None => Ok(Value::Boolean(false)),
            keys::Reply::Number(number) => Ok(Value::Number(number as f64)),
            keys::Reply::Text(text) => Ok(Value::String(lua.create_string(text)?)),
            keys::Reply::List(texts) => list(lua, texts),
        },
    }
}

/// Redis takes texts, and numbers as C's `%.17g` writes them.
fn argument(value: &Value) -> LuaResult<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into_bytes()),
        Value::Number(number) => Ok(cjson::general(*number, 17).into_bytes()),
        other => {
            let error = "Lua redis() command arguments must be strings or integers";
            Err(mlua::Error::runtime(format!("{error}, not {}", other.type_name())))
        }
    }
}

fn list(lua: &Lua, texts: impl IntoIterator<Item = Vec<u8>>) -> LuaResult<Value> {
    let table: Table = lua.create_table()?;
    for (index, text) in texts.into_iter().enumerate() {
        table.raw_set(index + 1, lua.create_string(text)?)?;
    }
    Ok(Value::Table(table))
}
