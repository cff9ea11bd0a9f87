//! What the server keeps, and the commands that change it.

use std::collections::BTreeMap;

type Bytes = Vec<u8>;

/// What a server keeps. A clone is a replica, or a dump.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    keys: BTreeMap<Bytes, Kept>,
}

#[derive(Clone, Debug)]
enum Kept {
    Text(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
    List(Vec<Bytes>),
    /// By score, and then by member.
    Sorted(Vec<(f64, Bytes)>),
}

pub(super) enum Reply {
    None,
    Number(usize),
    Text(Bytes),
    List(Vec<Bytes>),
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

impl Keys {
    /// The names of all keys.
    pub(crate) fn names(&self) -> Vec<String> {
        self.keys.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Takes a key away, as eviction does.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.keys.remove(name.as_bytes()).is_some()
    }

    /// Puts a text where a key is, as somebody does who has no business there.
    pub(crate) fn put(&mut self, name: &str, text: &[u8]) {
        self.keys.insert(name.as_bytes().to_vec(), Kept::Text(text.to_vec()));
    }

    /// Members and scores of a sorted set.
    pub(crate) fn sorted(&self, name: &str) -> Vec<(String, f64)> {
        let Some(Kept::Sorted(entries)) = self.keys.get(name.as_bytes()) else { return Vec::new() };
        let show =
            |(score, member): &(f64, Bytes)| (String::from_utf8_lossy(member).into_owned(), *score);
        entries.iter().map(show).collect()
    }

    /// Takes the oldest member of a sorted set away.
    pub(crate) fn remove_oldest(&mut self, name: &str) {
        if let Some(Kept::Sorted(entries)) = self.keys.get_mut(name.as_bytes())
            && !entries.is_empty()
        {
            entries.remove(0);
        }
    }

    /// How many entries a hash, a list or a sorted set has, or bytes a text.
    pub(crate) fn size(&self, name: &str) -> usize {
        match self.keys.get(name.as_bytes()) {
            Some(Kept::Text(text)) => text.len(),
            Some(Kept::Hash(fields)) => fields.len(),
            Some(Kept::List(items)) => items.len(),
            Some(Kept::Sorted(entries)) => entries.len(),
            None => 0,
        }
    }

    pub(super) fn call(&mut self, name: &[u8], args: &[&[u8]]) -> Result<Reply, String> {
        match (name, args) {
            (b"GET", [key]) => match self.keys.get(*key) {
                None => Ok(Reply::None),
                Some(Kept::Text(text)) => Ok(Reply::Text(text.clone())),
                Some(_) => Err(WRONG_TYPE.to_owned()),
            },
            (b"SET", [key, text]) => {
                self.keys.insert(key.to_vec(), Kept::Text(text.to_vec()));
                Ok(Reply::Text(b"OK".to_vec()))
            }
            (b"DEL", [key]) => Ok(Reply::Number(usize::from(self.keys.remove(*key).is_some()))),
            ([b'H', ..], [key, rest @ ..]) => self.of_hash(name, key, rest),
            ([b'Z', ..], [key, rest @ ..]) => self.of_sorted(name, key, rest),
            ([b'R' | b'L', ..], [key, rest @ ..]) => self.of_list(name, key, rest),
            _ => Err(unknown(name)),
        }
    }

    fn of_hash(&mut self, name: &[u8], key: &[u8], args: &[&[u8]]) -> Result<Reply, String> {
        let new = || Kept::Hash(BTreeMap::new());
        let Kept::Hash(fields) = self.keys.entry(key.to_vec()).or_insert_with(new) else {
            return Err(WRONG_TYPE.to_owned());
        };
        let reply = match (name, args) {
            (b"HGET", [field]) => fields.get(*field).cloned().map_or(Reply::None, Reply::Text),
            (b"HSET", [field, text]) => {
                let is_new = fields.insert(field.to_vec(), text.to_vec()).is_none();
                Reply::Number(usize::from(is_new))
            }
            (b"HDEL", [field]) => Reply::Number(usize::from(fields.remove(*field).is_some())),
            (b"HLEN", []) => Reply::Number(fields.len()),
            (b"HGETALL", []) => {
                let pair = |(field, text): (&Bytes, &Bytes)| [field.clone(), text.clone()];
                Reply::List(fields.iter().flat_map(pair).collect())
            }
            _ => return Err(unknown(name)),
        };
        if fields.is_empty() {
            self.keys.remove(key);
        }
        Ok(reply)
    }

    fn of_list(&mut self, name: &[u8], key: &[u8], args: &[&[u8]]) -> Result<Reply, String> {
        let new = || Kept::List(Vec::new());
        let Kept::List(items) = self.keys.entry(key.to_vec()).or_insert_with(new) else {
            return Err(WRONG_TYPE.to_owned());
        };
        let reply = match (name, args) {
            (b"RPUSH", [item]) => {
                items.push(item.to_vec());
                Reply::Number(items.len())
            }
            (b"LRANGE", [first, last]) => {
                Reply::List(items[range(items.len(), first, last)?].to_vec())
            }
            (b"LTRIM", [first, last]) => {
                *items = items[range(items.len(), first, last)?].to_vec();
                Reply::Text(b"OK".to_vec())
            }
            _ => return Err(unknown(name)),
        };
        if items.is_empty() {
            self.keys.remove(key);
        }
        Ok(reply)
    }

    fn of_sorted(&mut self, name: &[u8], key: &[u8], args: &[&[u8]]) -> Result<Reply, String> {
        let new = || Kept::Sorted(Vec::new());
        let Kept::Sorted(entries) = self.keys.entry(key.to_vec()).or_insert_with(new) else {
            return Err(WRONG_TYPE.to_owned());
        };
        let before = entries.len();
        let reply = match (name, args) {
            (b"ZCARD", []) => Reply::Number(before),
            (b"ZADD", [rest @ .., score, member]) => {
                let score: f64 = parse(score)?;
                let found = entries.iter().position(|(_, one)| one == member);
                match (found, rest) {
                    (Some(_), [b"NX"]) => {}
                    (Some(at), []) => {
                        entries.remove(at);
                        insert(entries, score, member);
                    }
                    (None, [b"NX"] | []) => insert(entries, score, member),
                    _ => return Err(unknown(name)),
                }
                Reply::Number(usize::from(found.is_none()))
            }
            (b"ZREM", [member]) => {
                entries.retain(|(_, one)| one != member);
                Reply::Number(before - entries.len())
            }
            (b"ZCOUNT", [least, most]) => {
                let (least, most) = (bound(least)?, bound(most)?);
                Reply::Number(entries.iter().filter(|(s, _)| within(*s, least, most)).count())
            }
            (b"ZREMRANGEBYSCORE", [least, most]) => {
                let (least, most) = (bound(least)?, bound(most)?);
                entries.retain(|(score, _)| !within(*score, least, most));
                Reply::Number(before - entries.len())
            }
            (b"ZREMRANGEBYRANK", [first, last]) => {
                entries.drain(range(before, first, last)?);
                Reply::Number(before - entries.len())
            }
            (b"ZRANGE", [first, last, b"WITHSCORES"]) => {
                let show = |(score, member): &(f64, Bytes)| {
                    [member.clone(), super::cjson::general(*score, 17).into_bytes()]
                };
                let found = &entries[range(before, first, last)?];
                Reply::List(found.iter().flat_map(show).collect())
            }
            _ => return Err(unknown(name)),
        };
        if entries.is_empty() {
            self.keys.remove(key);
        }
        Ok(reply)
    }
}

fn insert(entries: &mut Vec<(f64, Bytes)>, score: f64, member: &[u8]) {
    let before =
        |(s, m): &(f64, Bytes)| (s.total_cmp(&score)).then_with(|| m.as_slice().cmp(member));
    let at = entries.partition_point(|entry| before(entry).is_lt());
    entries.insert(at, (score, member.to_vec()));
}

fn unknown(name: &[u8]) -> String {
    format!("the engine of the tests does not know this form of {}", String::from_utf8_lossy(name))
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse().map_err(|_| format!("ERR value is not a number: {text}"))
}

/// A bound of a range of scores, and whether it is outside of it.
fn bound(text: &[u8]) -> Result<(f64, bool), String> {
    match text {
        b"-inf" => Ok((f64::NEG_INFINITY, false)),
        b"+inf" => Ok((f64::INFINITY, false)),
        [b'(', rest @ ..] => Ok((parse(rest)?, true)),
        _ => Ok((parse(text)?, false)),
    }
}

fn within(score: f64, least: (f64, bool), most: (f64, bool)) -> bool {
    (if least.1 { score > least.0 } else { score >= least.0 })
        && (if most.1 { score < most.0 } else { score <= most.0 })
}

/// First and last index, from the end where they are negative.
fn range(length: usize, first: &[u8], last: &[u8]) -> Result<std::ops::Range<usize>, String> {
    let length = length as i64;
    let at = |index: i64| if index < 0 { (length + index).max(0) } else { index.min(length) };
    let (first, last): (i64, i64) = (parse(first)?, parse(last)?);
    let first = at(first);
    let end = if last < 0 { length + last + 1 } else { (last + 1).min(length) };
    Ok(first as usize..end.max(first) as usize)
}
