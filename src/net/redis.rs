//! Connections to a Redis or Valkey server.
//!
//! The protocol is spoken by the crate `redis`, over a stream of our own. How we are let in is our own
//! too: what a server answers to a password may repeat it, and is never shown.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub, PubSubStream};
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value};
use rustix::net::sockopt;
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::net::bounded::{Bounded, Tally};
use crate::net::dial::Dial;
use crate::net::password::Password;
use crate::net::roots::{RootsError, TlsRoots};
use crate::net::stream::Stream;

/// What is shown of a server's words.
const MOST_SHOWN: usize = 200;
/// The longest line that a server answers before it has let us in.
const LONGEST_LINE: usize = 512;
/// The longest text that is taken from a channel.
const LONGEST_PUSH: usize = 1024 * 1024;
/// The longest answer. A thousand instances and a hundred news are shorter.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// A connection on which nothing is said, such as a subscription, is known to be dead after 8 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
const KEEPALIVE_COUNT: u32 = 3;

/// Where a server is, and as whom to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisPlace {
    /// Where it is.
    pub way: RedisWay,
    /// As whom; `None` is the user `default`.
    pub username: Option<String>,
    /// The number of the database.
    pub database: u32,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisWay {
    /// At a host and a port.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port.
        port: u16,
        /// Whom to believe that it is the server; `None` is plain TCP.
        tls: Option<TlsRoots>,
    },
    /// At a unix socket.
    Unix(PathBuf),
}

/// Why a server could not be asked. Shows no password, and of the server's words 200 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisFault {
    /// There is no connection, or none any more.
    #[error("{0}")]
    Unreachable(String),
    /// It does not let us in, or not do that.
    #[error("{0}")]
    Refused(String),
    /// It does not know the script.
    #[error("it does not know the script")]
    NoScript,
    /// It answers something else than it should.
    #[error("{0}")]
    Unusable(String),
}

/// A server to connect to.
#[derive(Clone, Debug)]
pub struct Redis {
    dial: Dial,
    username: Option<String>,
    database: u32,
}

impl Redis {
    /// # Errors
    /// [`RootsError`], when TLS cannot be spoken as the place says.
    pub fn new(place: &RedisPlace) -> Result<Self, RootsError> {
        let dial = match &place.way {
            RedisWay::Tcp { host, port, tls: None } => Dial::tcp(host, *port),
            RedisWay::Tcp { host, port, tls: Some(roots) } => Dial::bare_tls(host, *port, roots)?,
            RedisWay::Unix(path) => Dial::unix(path),
        };
        Ok(Self { dial, username: place.username.clone(), database: place.database })
    }

    /// Opens a connection for commands. The caller sets the time limit.
    ///
    /// Cancel-safe: dropping the future closes what was opened.
    ///
    /// # Errors
    /// [`RedisFault`].
    pub async fn commands(&self, password: Option<&Password>) -> Result<RedisCommands, RedisFault> {
        let (stream, read) = Bounded::new(self.open(password).await?, LONGEST_ANSWER);
        // Who asks has a time limit of its own for each command.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&nothing_to_say(), stream, config).await;
        let (connection, driver) = made.map_err(|error| fault(&error, password))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(RedisCommands { connection, read, _driver: driver, password: password.cloned() })
    }

    /// Opens a connection for what is published in these channels, of which up to `room` texts wait to
    /// be taken. When more come than that, or the connection ends, the receiver is closed. The caller
    /// sets the time limit.
    ///
    /// Cancel-safe: dropping the future, or the receiver, closes what was opened.
    ///
    /// # Errors
    /// [`RedisFault`].
    pub async fn subscribe(
        &self,
        password: Option<&Password>,
        channels: &[String],
        room: usize,
    ) -> Result<mpsc::Receiver<String>, RedisFault> {
        // What comes in one piece with a text is read with it.
        let (stream, read) = Bounded::new(self.open(password).await?, 2 * LONGEST_PUSH);
        let told = |error: redis::RedisError| fault(&error, password);
        let mut subscription = PubSub::new(&nothing_to_say(), stream).await.map_err(told)?;
        subscription.subscribe(channels).await.map_err(told)?;
        let (sender, receiver) = mpsc::channel(room);
        tokio::spawn(hand_on(subscription.into_on_message(), sender, read));
        Ok(receiver)
    }

    /// A connection that has let us in.
    async fn open(&self, password: Option<&Password>) -> Result<Stream, RedisFault> {
        let mut stream = self.dial.connect().await.map_err(|error| cut_off(&error))?;
        keep_alive(&stream).map_err(|error| cut_off(&error))?;
        if let Some(password) = password {
            let mut auth = redis::cmd("AUTH");
            for word in self.username.as_deref().into_iter().chain([password.text()]) {
                auth.arg(word);
            }
            if let Err(line) = say(&mut stream, auth).await? {
                return Err(not_let_in(&line));
            }
        }
        if self.database != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(self.database);
            if let Err(line) = say(&mut stream, select).await? {
                let (code, text) = line.split_once(' ').unwrap_or((&line, ""));
                return Err(refusal(code, text, password));
            }
        }
        Ok(stream)
    }
}

/// Hands on what is published, until nobody listens or there is no room. Runs as a task of its own.
async fn hand_on(mut messages: PubSubStream, listener: mpsc::Sender<String>, read: Tally) {
    loop {
        let message = tokio::select! {
            () = listener.closed() => return,
            message = messages.next() => message,
        };
        read.begin();
        let text = message.and_then(|message| message.get_payload::<String>().ok());
        let Some(text) = text.filter(|text| text.len() <= LONGEST_PUSH) else { return };
        if listener.try_send(text).is_err() {
            return;
        }
    }
}

/// A script, and the name that a server knows it by.
#[derive(Clone, Debug)]
pub struct RedisScript {
    text: &'static str,
    hash: String,
}

impl RedisScript {
    /// The script with this text.
    pub fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }
}

/// A connection for commands, one after the other. Of no use after an error: the answer to what was
/// asked then may still come.
pub struct RedisCommands {
    connection: MultiplexedConnection,
    read: Tally,
    _driver: AbortOnDropHandle<()>,
    password: Option<Password>,
}

impl RedisCommands {
    /// Says one command, and returns the text that is its answer. The caller sets the time limit.
    ///
    /// # Errors
    /// [`RedisFault`].
    pub async fn ask(&mut self, words: &[&str]) -> Result<String, RedisFault> {
        let mut command = Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        self.send(&command).await
    }

    /// Runs a script; a server that does not know it learns it. The caller sets the time limit.
    ///
    /// # Errors
    /// [`RedisFault`].
    pub async fn run(
        &mut self,
        script: &RedisScript,
        keys: &[String],
        arguments: &[&str],
    ) -> Result<String, RedisFault> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        match self.send(&command("EVALSHA", &script.hash)).await {
            Err(RedisFault::NoScript) => self.send(&command("EVAL", script.text)).await,
            answer => answer,
        }
    }

    async fn send(&mut self, command: &Cmd) -> Result<String, RedisFault> {
        let password = self.password.as_ref();
        self.read.begin();
        let answer = self.connection.send_packed_command(command).await;
        let text = match answer.and_then(Value::extract_error) {
            Ok(Value::BulkString(bytes)) => String::from_utf8(bytes).ok(),
            Ok(Value::SimpleString(text)) => Some(text),
            Ok(Value::Okay) => Some("OK".to_owned()),
            Ok(_) => None,
            Err(error) => return Err(fault(&error, password)),
        };
        text.ok_or_else(|| RedisFault::Unusable("its answer is no text".to_owned()))
    }
}

impl fmt::Debug for RedisCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCommands").finish_non_exhaustive()
    }
}

/// Without the user's name.
impl fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database;
        match &self.way {
            RedisWay::Tcp { host, port, tls } => {
                let scheme = if tls.is_some() { "rediss" } else { "redis" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}/{database}"),
                    false => write!(f, "{scheme}://{host}:{port}/{database}"),
                }
            }
            RedisWay::Unix(path) => write!(f, "unix://{}?db={database}", path.display()),
        }
    }
}

/// The crate has nothing to say when it takes over a connection: all was said.
fn nothing_to_say() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()
}

fn keep_alive(stream: &Stream) -> io::Result<()> {
    let socket = match stream {
        Stream::Tcp(socket) => socket,
        Stream::Tls(stream) => stream.get_ref().0,
        Stream::Unix(_) | Stream::Pipe(_) => return Ok(()),
    };
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    Ok(())
}

/// Says a command that is answered by one line: `OK`, or else the line without its mark.
async fn say(stream: &mut Stream, command: Cmd) -> Result<Result<(), String>, RedisFault> {
    let packed = Zeroizing::new(command.get_packed_command());
    let exchange = async {
        stream.write_all(&packed).await?;
        stream.flush().await?;
        // Not a byte more is read than this line has: the rest is the crate's.
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < LONGEST_LINE {
            line.push(stream.read_u8().await?);
        }
        Ok(line)
    };
    let line: Vec<u8> = exchange.await.map_err(|error: io::Error| cut_off(&error))?;
    match line.trim_ascii_end() {
        b"+OK" => Ok(Ok(())),
        [b'-', text @ ..] => Ok(Err(String::from_utf8_lossy(text).into_owned())),
        _ => Err(no_redis()),
    }
}

/// What a server said to a password. Its words are not shown: they may repeat it.
fn not_let_in(line: &str) -> RedisFault {
    let refused = |why: &str| RedisFault::Refused(why.to_owned());
    if line.contains("max number of clients") {
        return RedisFault::Unusable("it has as many clients as it takes".to_owned());
    }
    if line.contains("without any password configured") || line.contains("no password is set") {
        return refused("it asks for no password; leave `password` out");
    }
    if line.contains("wrong number of arguments") {
        return refused("it knows no users; leave `username` out");
    }
    if line.starts_with("WRONGPASS") || line.contains("invalid password") {
        return refused("the user's name or the password is wrong");
    }
    refused("it takes no password here")
}

/// What a server said in place of an answer.
fn refusal(code: &str, text: &str, password: Option<&Password>) -> RedisFault {
    let whole = format!("{code} {text}");
    let shown = clean(&password.map_or(whole.clone(), |password| password.blot(&whole)));
    match code {
        "NOSCRIPT" => RedisFault::NoScript,
        "NOAUTH" => RedisFault::Refused(format!("it asks for a password ({shown})")),
        "WRONGPASS" | "NOPERM" | "DENIED" => RedisFault::Refused(shown),
        _ => RedisFault::Unusable(shown),
    }
}

fn fault(error: &redis::RedisError, password: Option<&Password>) -> RedisFault {
    if let Ok(error) = redis::ServerError::try_from(error.clone()) {
        return refusal(error.code(), error.details().unwrap_or_default(), password);
    }
    if error.kind() == redis::ErrorKind::Parse {
        return no_redis();
    }
    // What the system says of the connection.
    RedisFault::Unreachable(clean(&error.to_string()))
}

fn cut_off(error: &io::Error) -> RedisFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            RedisFault::Unreachable("it closed the connection".to_owned())
        }
        _ => RedisFault::Unreachable(clean(&error.to_string())),
    }
}

fn no_redis() -> RedisFault {
    RedisFault::Unusable("it does not speak as Redis does".to_owned())
}

/// A line that can be shown, and no longer than that.
fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.trim().chars().take(MOST_SHOWN).map(plain).collect();
    if text.trim().chars().nth(MOST_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PipeEnd;

    /// A server in this process that reads one command of so many lines, and answers.
    fn served(lines: usize, answer: &'static [u8]) -> Redis {
        let (dial, mut pipes) = Dial::pipe();
        tokio::spawn(async move {
            let mut end: PipeEnd = pipes.recv().await.unwrap();
            for _ in 0..lines {
                while end.read_u8().await.unwrap() != b'\n' {}
            }
            end.write_all(answer).await.unwrap();
            // It stays open until we have gone.
            let _ = end.read_u8().await;
        });
        Redis { dial, username: Some("ada".to_owned()), database: 0 }
    }

    fn password() -> Password {
        Password::parse(b"zqsecretzq").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_says_to_a_password_is_never_shown() {
        for (answer, told) in [
            (&b"-WRONGPASS invalid username-password pair zqsecretzq\r\n"[..], "is wrong"),
            (b"-ERR unknown command 'AUTH', with args: 'ada' 'zqsecretzq'\r\n", "no password here"),
            (b"-ERR unknown command 'AUTH' 'zqse\r\n", "no password here"),
            (b"-ERR max number of clients reached\r\n", "as many clients"),
            (b"-ERR AUTH called without any password configured\r\n", "leave `password` out"),
            (b"-ERR wrong number of arguments for 'auth' command\r\n", "leave `username` out"),
            (b"HTTP/1.1 400 zqsecretzq\r\n", "does not speak as Redis does"),
            (b"+zqsecretzq\r\n", "does not speak as Redis does"),
        ] {
            let redis = served(7, answer);
            let fault = redis.commands(Some(&password())).await.unwrap_err();
            let said = format!("{fault} {fault:?}");
            assert!(said.contains(told) && !said.contains("zqse"), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_an_end_is_read_no_further() {
        let redis = served(7, &[b'x'; 4096]);
        let fault = redis.commands(Some(&password())).await.unwrap_err();
        assert_eq!(fault, no_redis());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_an_end_is_read_no_further() {
        let (dial, mut pipes) = Dial::pipe();
        let server = tokio::spawn(async move {
            let mut end: PipeEnd = pipes.recv().await.unwrap();
            for _ in 0..3 {
                while end.read_u8().await.unwrap() != b'\n' {}
            }
            end.write_all(b"$500000000\r\n").await.unwrap();
            let mut written = 0;
            while end.write_all(&[b'x'; 65_536]).await.is_ok() {
                written += 65_536;
            }
            written
        });
        let redis = Redis { dial, username: None, database: 0 };
        let mut commands = redis.commands(None).await.unwrap();
        let fault = commands.ask(&["INFO"]).await.unwrap_err();
        drop(commands);
        let written = server.await.unwrap();
        assert!(written < 2 * LONGEST_ANSWER, "{written} bytes were taken: {fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_servers_words_are_cut_and_cleaned_and_without_the_password() {
        let answer: &[u8] = b"-ERR one\ttwo\x1b[31m zqsecretzq xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
        let redis = served(3, answer);
        let mut commands = redis.commands(None).await.unwrap();
        commands.password = Some(password());
        let RedisFault::Unusable(text) = commands.ask(&["INFO"]).await.unwrap_err() else {
            panic!()
        };
        assert!(text.starts_with("ERR one two [31m *** xxx"), "{text}");
        assert!(text.ends_with("x…") && text.chars().count() == MOST_SHOWN + 1, "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_none_is_said_to_be_none() {
        for (answer, told) in [
            (&b":7\r\n"[..], "its answer is no text"),
            (b"$2\r\n\xff\xff\r\n", "its answer is no text"),
            (b"HTTP/1.1 400 Bad Request\r\n", "does not speak as Redis does"),
        ] {
            let mut commands = served(3, answer).commands(None).await.unwrap();
            let fault = commands.ask(&["INFO"]).await.unwrap_err();
            assert!(fault.to_string().contains(told), "{fault}");
        }
    }

    #[test]
    fn a_place_is_shown_without_its_user() {
        let tcp = |host: &str, tls| RedisWay::Tcp { host: host.to_owned(), port: 6379, tls };
        for (way, shown) in [
            (tcp("a", None), "redis://a:6379/2"),
            (tcp("::1", Some(TlsRoots::System)), "rediss://[::1]:6379/2"),
            (RedisWay::Unix("/run/r.sock".into()), "unix:///run/r.sock?db=2"),
        ] {
            let place = RedisPlace { way, username: Some("ada".to_owned()), database: 2 };
            assert_eq!(place.to_string(), shown);
        }
    }
}
