//! Connecting and TLS, for whoever speaks to another host.

mod bounded;
mod client;
mod dial;
mod password;
mod redis;
mod roots;
mod stream;

pub use client::{Client, ClientError, Limits};
pub use dial::{Dial, PipeEnd};
pub use password::{BadPassword, Password};
pub use redis::{Redis, RedisCommands, RedisFault, RedisPlace, RedisScript, RedisWay};
pub use roots::{RootsError, TlsRoots};
pub use stream::Stream;
