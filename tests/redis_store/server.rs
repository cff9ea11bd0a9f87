//! A real `redis-server`, and a way to it that is not ours.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use omnigate::net::{RedisPlace, RedisWay, TlsRoots};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How often it is looked whether a server is there, and how many times: for half a minute.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS: usize = 3_000;

/// `redis-server` in a folder of its own, killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    arguments: Vec<String>,
    /// Where it listens besides its unix socket.
    pub(crate) port: Option<u16>,
}

impl Server {
    /// One that is reached at its unix socket alone.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["--port", "0"].iter().chain(arguments);
        let arguments: Vec<String> = arguments.map(|&word| word.to_owned()).collect();
        let child = spawn(&folder, &arguments);
        let mut server = Self { child, folder, arguments, port: None };
        assert!(server.is_up(), "redis-server did not start");
        server
    }

    /// One that listens on a free port too, which `arguments` make of it.
    pub(crate) fn start_on_a_port(arguments: impl Fn(&str) -> Vec<String>) -> Self {
        // Somebody else may take the port before the server does.
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let folder = tempfile::tempdir().unwrap();
            let mut arguments = arguments(&port.to_string());
            arguments.extend(["--bind", "127.0.0.1"].map(str::to_owned));
            let child = spawn(&folder, &arguments);
            let mut server = Self { child, folder, arguments, port: Some(port) };
            if server.is_up() {
                return server;
            }
        }
        panic!("redis-server found no port");
    }

    /// Ends it at once and starts it anew, with nothing that it knew.
    pub(crate) fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, &self.arguments);
        assert!(self.is_up(), "redis-server did not start again");
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn at_socket(&self) -> RedisPlace {
        RedisPlace { way: RedisWay::Unix(self.socket()), username: None, database: 0 }
    }

    pub(crate) fn at_port(&self, host: &str, tls: Option<TlsRoots>) -> RedisPlace {
        let way = RedisWay::Tcp { host: host.to_owned(), port: self.port.unwrap(), tls };
        RedisPlace { way, username: None, database: 0 }
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A connection of an operator, who may do everything.
    pub(crate) fn operator(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    /// Says one command as an operator.
    pub(crate) fn say(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.operator()).unwrap()
    }

    /// Waits until it listens; whether it does.
    fn is_up(&mut self) -> bool {
        for _ in 0..LOOKS {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let port = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            if UnixStream::connect(self.socket()).is_ok() && self.port.is_none_or(port) {
                return true;
            }
            #[expect(clippy::disallowed_methods, reason = "a look at another process, not a wait")]
            std::thread::sleep(LOOK_EVERY);
        }
        false
    }
}

fn spawn(folder: &TempDir, arguments: &[String]) -> Child {
    let _ = std::fs::remove_file(folder.path().join("redis.sock"));
    Command::new("redis-server")
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--unixsocket", "redis.sock", "--dir", "."])
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server cannot be run: {error}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
