//! Where requests end, to servers of several habits.

/// What a server takes besides what the RFC says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// A line ends with LF alone, too.
    pub(super) bare_lf: bool,
    /// A line ends with CR alone, too.
    pub(super) bare_cr: bool,
    /// With both, `Content-Length` counts, not `Transfer-Encoding`.
    pub(super) length_wins: bool,
    /// The last `Content-Length` counts, not the first.
    pub(super) last_length: bool,
    /// `Content_Length`, ` Content-Length` and `Content-Length ` are `Content-Length`.
    pub(super) loose_names: bool,
    /// Whatever has `chunked` in it is `chunked`.
    pub(super) loose_codings: bool,
}

impl Habits {
    /// As the RFC has it.
    pub(super) const STRICT: Self = Self {
        bare_lf: false,
        bare_cr: false,
        length_wins: false,
        last_length: false,
        loose_names: false,
        loose_codings: false,
    };

    fn all() -> impl Iterator<Item = Self> {
        (0..64u8).map(|bits| {
            let has = |bit: u8| bits >> bit & 1 == 1;
            Self {
                bare_lf: has(0),
                bare_cr: has(1),
                length_wins: has(2),
                last_length: has(3),
                loose_names: has(4),
                loose_codings: has(5),
            }
        })
    }
}

/// One request, as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Its first line.
    pub(super) line: String,
    /// Where it ends in what was read.
    pub(super) end: usize,
}

impl Read {
    pub(super) fn is_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }

    /// What stands behind `serial=` in the target.
    pub(super) fn serial(&self) -> &str {
        let target = self.line.split(' ').nth(1).unwrap_or_default();
        target.split_once("serial=").map_or("", |(_, serial)| serial)
    }
}

/// The whole requests at the beginning of `raw`, and where they end.
pub(super) fn requests(raw: &[u8], habits: Habits) -> (Vec<Read>, usize) {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(read) = request(raw, at, habits) {
        at = read.end;
        all.push(read);
    }
    (all, at)
}

/// The requests that a connection brought, if all read them alike; else who reads otherwise, and what.
pub(super) fn agreed(raw: &[u8]) -> Result<(Vec<Read>, usize), String> {
    let strict = requests(raw, Habits::STRICT);
    for habits in Habits::all() {
        let other = requests(raw, habits);
        if other != strict {
            let text = String::from_utf8_lossy(raw);
            return Err(format!("{strict:?} but {other:?} with {habits:?} in\n{text}"));
        }
    }
    Ok(strict)
}

fn request(raw: &[u8], start: usize, habits: Habits) -> Option<Read> {
    let (line, mut at) = next_line(raw, start, habits)?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut lengths = Vec::new();
    let mut chunked = false;
    loop {
        let (field, next) = next_line(raw, at, habits)?;
        at = next;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
        let (name, value) = field.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let mut name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if habits.loose_names {
            name = name.trim().replace('_', "-");
        }
        match name.as_str() {
            "content-length" => lengths.push(leading_number(value)),
            "transfer-encoding" => {
                let value = value.to_ascii_lowercase();
                let holds = value.windows(7).any(|seven| seven == b"chunked");
                chunked |= value == b"chunked" || habits.loose_codings && holds;
            }
            _ => {}
        }
    }
    let length = if habits.last_length { lengths.last() } else { lengths.first() };
    let end = match (chunked, length) {
        (true, Some(length)) if habits.length_wins => at.checked_add(*length)?,
        (true, _) => chunks_end(raw, at, habits)?,
        (false, Some(length)) => at.checked_add(*length)?,
        (false, None) => at,
    };
    (end <= raw.len()).then_some(Read { line, end })
}

/// A line without its end, and where the next one begins.
fn next_line(raw: &[u8], start: usize, habits: Habits) -> Option<(&[u8], usize)> {
    let mut at = start;
    while let Some(byte) = raw.get(at) {
        let crlf = raw[at..].starts_with(b"\r\n");
        if crlf {
            return Some((&raw[start..at], at + 2));
        }
        if habits.bare_lf && *byte == b'\n' || habits.bare_cr && *byte == b'\r' {
            return Some((&raw[start..at], at + 1));
        }
        at += 1;
    }
    None
}

fn leading_number(value: &[u8]) -> usize {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0usize, |number, digit| {
        number.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
    })
}

fn chunks_end(raw: &[u8], mut at: usize, habits: Habits) -> Option<usize> {
    loop {
        let (line, after) = next_line(raw, at, habits)?;
        let digits: Vec<u32> = line.iter().map_while(|b| char::from(*b).to_digit(16)).collect();
        let size = digits
            .iter()
            .fold(0usize, |size, digit| size.saturating_mul(16).saturating_add(*digit as usize));
        at = after;
        if size == 0 {
            // Trailers, to the empty line.
            loop {
                let (field, next) = next_line(raw, at, habits)?;
                at = next;
                if field.is_empty() {
                    return Some(at);
                }
            }
        }
        let data = at.checked_add(size).filter(|end| *end <= raw.len())?;
        (_, at) = next_line(raw, data, habits)?;
    }
}

#[test]
fn the_readings_would_notice_each_trick() {
    let evil = "GET /x?serial=e HTTP/1.1\r\n\r\n";
    let both = "Content-Length: 33\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (fields, trick) in [
        (both.to_owned(), "a length and a coding"),
        ("Content-Length: 28\r\nContent-Length: 0\r\n\r\n".to_owned(), "two lengths"),
        ("Content-Length : 28\r\n\r\n".to_owned(), "a space before the colon"),
        ("Content_Length: 28\r\n\r\n".to_owned(), "an underscore"),
        ("X: a\n\nGET /x HTTP/1.1\r\n\r\n".to_owned(), "a bare line feed"),
        ("X: a\r\rGET /x HTTP/1.1\r\n\r\n".to_owned(), "a bare carriage return"),
        (both.replace("chunked", "xchunked"), "another coding"),
    ] {
        let raw = format!("POST /x?serial=0 HTTP/1.1\r\n{fields}{evil}");
        assert!(agreed(raw.as_bytes()).is_err(), "{trick}");
    }
    let plain = "POST /x?serial=0 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n";
    let raw = format!("{plain}{evil}\r\n0\r\n\r\n{evil}GET /x");
    let (read, end) = agreed(raw.as_bytes()).unwrap();
    assert_eq!(read.iter().map(Read::serial).collect::<Vec<_>>(), ["0", "e"]);
    assert_eq!(&raw[end..], "GET /x");
}
