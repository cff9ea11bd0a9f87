//! The URL of a shared store: `redis://`, `rediss://` or `unix://`.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Redis' own, with TLS too.
const PORT: u16 = 6379;

/// What a URL says, as far as it may say it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoreUrl {
    pub(super) way: Way,
    pub(super) username: Option<String>,
    pub(super) database: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// Why a URL cannot be used. Says nothing of what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadUrl {
    #[error("a password stands in it")]
    Password,
    #[error("it is none of redis://, rediss:// and unix://")]
    Scheme,
    #[error("it has no host")]
    NoHost,
    #[error("its host is none")]
    Host,
    #[error("its port is none")]
    Port,
    #[error("its user name is none")]
    Username,
    #[error("what stands behind the host is not the number of a database")]
    Database,
    #[error("it has more than a host and a database")]
    More,
    #[error("it needs an absolute path")]
    Path,
}

pub(super) fn parse(text: &str) -> Result<StoreUrl, BadUrl> {
    // First, whatever else is wrong: a password must not be taken for something that can be shown.
    if has_password(text) {
        return Err(BadUrl::Password);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
    match scheme.to_ascii_lowercase().as_str() {
        "redis" => tcp(rest, false),
        "rediss" => tcp(rest, true),
        "unix" => unix(rest),
        _ => Err(BadUrl::Scheme),
    }
}

/// Whether there is one in the user's place or in the query. An `@` anywhere counts: a password may have
/// a `/` or a `?` in it that should have been escaped.
fn has_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let of_user = rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let query = rest.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
    of_user || query.split(['&', ';']).any(|pair| pair.trim().starts_with("pass"))
}

fn tcp(rest: &str, tls: bool) -> Result<StoreUrl, BadUrl> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains(['?', '#']) {
        return Err(BadUrl::More);
    }
    let (user, place) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((user, place)) => (Some(user), place),
    };
    let username = match user {
        None | Some("") => None,
        Some(user) => {
            let user = percent_decode_str(user).decode_utf8().map_err(|_| BadUrl::Username)?;
            if !is_username(&user) {
                return Err(BadUrl::Username);
            }
            Some(user.into_owned())
        }
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(BadUrl::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| BadUrl::Host)?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or(BadUrl::Host)?),
            };
            (host, port)
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err(BadUrl::NoHost);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !place.starts_with('[') && !host.chars().all(plain) {
        return Err(BadUrl::Host);
    }
    let port = match port {
        None => PORT,
        Some(port) => number(port).filter(|port| *port != 0).ok_or(BadUrl::Port)?,
    };
    let database = if path.is_empty() { 0 } else { number(path).ok_or(BadUrl::Database)? };
    Ok(StoreUrl { way: Way::Tcp { host: host.to_owned(), port, tls }, username, database })
}

fn unix(rest: &str) -> Result<StoreUrl, BadUrl> {
    let (path, query) = match rest.split_once('?') {
        None => (rest, None),
        Some((path, query)) => (path, Some(query)),
    };
    let database = match query {
        None => 0,
        Some(query) => {
            let said = query.strip_prefix("db=").ok_or(BadUrl::More)?;
            number(said).ok_or(BadUrl::Database)?
        }
    };
    let path = percent_decode_str(path).decode_utf8().map_err(|_| BadUrl::Path)?;
    if !path.starts_with('/') || path.contains(|c: char| c.is_control()) {
        return Err(BadUrl::Path);
    }
    Ok(StoreUrl { way: Way::Unix(path.into_owned().into()), username: None, database })
}

/// Whether a text can be a user's name in Redis.
pub(super) fn is_username(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c == ' ')
}

/// Digits alone: no sign, no blank.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Way {
        Way::Tcp { host: host.to_owned(), port, tls }
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
        for (text, way, username, database) in [
            ("redis://redis.internal", tcp("redis.internal", 6379, false), None, 0),
            ("REDISS://a_b-c.d:7000/15", tcp("a_b-c.d", 7000, true), None, 15),
            ("rediss://ada%40x@[fd00::1]:1/", tcp("fd00::1", 1, true), Some("ada@x"), 0),
            ("redis://@[::1]/1", tcp("::1", 6379, false), None, 1),
            ("unix:///run/a%20b.sock", Way::Unix("/run/a b.sock".into()), None, 0),
            ("unix:///r.sock?db=3", Way::Unix("/r.sock".into()), None, 3),
        ] {
            let username = username.map(str::to_owned);
            assert_eq!(parse(text), Ok(StoreUrl { way, username, database }), "{text}");
        }
    }

    #[test]
    fn a_password_is_seen_wherever_it_stands() {
        for text in [
            "redis://ada:zq@host",
            "redis://:zq@host",
            "redis://ada:@host",
            "redis://:z/q@host",
            "redis://:z?q#z@host/0",
            "redis://:z@q@host",
            "http://ada:zq@host",
            "ada:zq@host",
            "unix:///r.sock?pass=zq",
            "unix:///r.sock?db=1&PassWord=zq",
            "redis://host/0?password=zq",
        ] {
            assert_eq!(parse(text), Err(BadUrl::Password), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, why) in [
            ("", BadUrl::Scheme),
            ("redis.internal:6379", BadUrl::Scheme),
            ("redis+unix:///a", BadUrl::Scheme),
            ("redis://", BadUrl::NoHost),
            ("redis://ada@:1", BadUrl::NoHost),
            ("redis://a b", BadUrl::Host),
            ("redis://[::g]", BadUrl::Host),
            ("redis://[::1", BadUrl::Host),
            ("redis://[::1]6379", BadUrl::Host),
            ("redis://a:", BadUrl::Port),
            ("redis://a:0", BadUrl::Port),
            ("redis://a:65536", BadUrl::Port),
            ("redis://a:+1", BadUrl::Port),
            ("redis://a/-1", BadUrl::Database),
            ("redis://a/x", BadUrl::Database),
            ("redis://a/1/", BadUrl::Database),
            ("redis://a?db=1", BadUrl::More),
            ("redis://a/0#x", BadUrl::More),
            ("redis://a%20b@c", BadUrl::Username),
            ("redis://%ff@c", BadUrl::Username),
            ("unix://r.sock", BadUrl::Path),
            ("unix:///r%00.sock", BadUrl::Path),
            ("unix:///r.sock?user=a", BadUrl::More),
            ("unix:///r.sock?db=", BadUrl::Database),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_taken_has_a_password_in_it(
            text in "(redis|rediss|unix)://[a-z:@/?=&%0-9\\[\\]]{0,24}"
        ) {
            if let Ok(url) = parse(&text) {
                let user = text.rsplit_once('@').map_or("", |(user, _)| user);
                prop_assert!(!user.trim_start_matches("redis://").trim_start_matches("rediss://")
                    .trim_start_matches("unix://").contains(':'), "{url:?}");
            }
        }
    }
}
