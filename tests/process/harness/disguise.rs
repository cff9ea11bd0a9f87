//! A secret in whatever it may hide in.

use std::collections::HashMap;

/// So long is the shortest piece of a secret that is looked for; a shorter secret is one piece.
const PIECE: usize = 20;

/// A way to write bytes, or several that are alike.
type Wear = fn(&[u8]) -> Vec<String>;

/// The ways in which a secret may show itself, beside as it is.
const CLOTHES: [Wear; 4] = [escaped, hex, numbers, in_base64];

/// All texts that would give a secret away: each piece of it, in all clothes. Whoever shows 30 bytes
/// of it in a row shows one of them.
fn disguises(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let pieces: Vec<&[u8]> = if bytes.len() <= PIECE {
        vec![bytes]
    } else {
        let starts = (0..bytes.len() - PIECE).step_by(10).chain([bytes.len() - PIECE]);
        starts.map(|start| &bytes[start..start + PIECE]).collect()
    };
    let plain = |piece: &[u8]| String::from_utf8(piece.to_vec()).unwrap();
    let dressed = |piece: &[u8]| CLOTHES.iter().flat_map(|wear| wear(piece)).collect::<Vec<_>>();
    let mut all: Vec<String> = pieces.iter().map(|piece| plain(piece)).collect();
    all.extend(pieces.iter().flat_map(|piece| dressed(piece)));
    all.sort();
    all.dedup();
    all
}

/// How many bytes at the start of a disguise are looked up first; none is shorter.
const START: usize = 8;

/// A search for many secrets at once: logs at trace level are long.
pub(crate) struct Search {
    disguises: HashMap<[u8; START], Vec<String>>,
    /// Whether one begins with these two bytes: a look at this spares most looks at the other.
    begins: Vec<bool>,
}

impl Search {
    pub(crate) fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut search = Self { disguises: HashMap::new(), begins: vec![false; 1 << 16] };
        for disguise in secrets.into_iter().flat_map(disguises) {
            let start = *disguise.as_bytes().first_chunk().expect("a secret is longer");
            search.begins[two(&start)] = true;
            search.disguises.entry(start).or_default().push(disguise);
        }
        search
    }

    /// What gives one of them away, where something does.
    pub(crate) fn find(&self, text: &str) -> Option<&str> {
        let text = text.as_bytes();
        let mut hits = text.windows(START).enumerate().filter_map(|(at, start)| {
            let disguises = self.begins[two(start)].then(|| self.disguises.get(start))??.iter();
            disguises.map(String::as_str).find(|one| text[at..].starts_with(one.as_bytes()))
        });
        hits.next()
    }
}

fn two(start: &[u8]) -> usize {
    usize::from(start[0]) << 8 | usize::from(start[1])
}

/// What gives one secret away, where something does.
pub(crate) fn find(secret: &str, text: &str) -> Option<String> {
    Search::of([secret]).find(text).map(str::to_owned)
}

/// For a URL: every byte, and those alone that must be; in large and small digits.
fn escaped(piece: &[u8]) -> Vec<String> {
    let all = |digits: fn(u8) -> String| piece.iter().map(|&byte| digits(byte)).collect();
    let special = |digits: fn(u8) -> String| {
        let one = |&byte: &u8| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => digits(byte),
        };
        piece.iter().map(one).collect()
    };
    let (large, small) = (|byte| format!("%{byte:02X}"), |byte| format!("%{byte:02x}"));
    vec![all(large), all(small), special(large), special(small)]
}

fn hex(piece: &[u8]) -> Vec<String> {
    let small: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![small.to_uppercase(), small]
}

/// As bytes show themselves in Rust and in JSON.
fn numbers(piece: &[u8]) -> Vec<String> {
    let join = |by: &str| piece.iter().map(u8::to_string).collect::<Vec<_>>().join(by);
    vec![join(", "), join(",")]
}

/// In the middle of other things, at each of the three places where it may begin, in both alphabets.
fn in_base64(piece: &[u8]) -> Vec<String> {
    let shifted = (0..3).map(|shift| {
        let whole = base64(&[&vec![0; shift], piece].concat());
        // The digits that what is before and after it has a part in.
        let (before, after) = ((shift * 8).div_ceil(6), (shift + piece.len()) * 8 / 6);
        whole[before..after].to_owned()
    });
    shifted.flat_map(|text| [text.replace('+', "-").replace('/', "_"), text]).collect()
}

/// Without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        (0..=group.len()).map(move |nth| char::from(DIGITS[(bits >> (18 - 6 * nth) & 63) as usize]))
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "omni_osk_zq+/=7Zk3mT9xW2bV8nR5cY1aD4eF6gH7iJ0kL2oP5sU8tXv4?>~y";

    fn url_safe(text: &str) -> String {
        text.replace('+', "-").replace('/', "_")
    }

    #[test]
    fn each_disguise_is_found_wherever_it_is_put() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let special = SECRET.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let special = special.replace('?', "%3F").replace('>', "%3E");
        let mut planted = vec![
            SECRET.to_owned(),
            SECRET[7..37].to_owned(),
            special.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
            special,
            hex.to_uppercase(),
            hex,
            percent.to_uppercase().replace("%X", "%x"),
            percent,
            format!("{:?}", SECRET.as_bytes()),
            serde_json::to_string(SECRET.as_bytes()).unwrap(),
        ];
        for before in ["", "a", "ab", "Bearer ", "{\"token\":\""] {
            for after in ["", "\"", "\"}", "\r\n"] {
                let text = base64(format!("{before}{SECRET}{after}").as_bytes());
                planted.extend([url_safe(&text), text]);
            }
        }
        for text in planted {
            let page = format!("one line\nfield={text}&more\nthe end");
            assert!(find(SECRET, &page).is_some(), "not found: {text}");
        }
    }

    #[test]
    fn a_short_secret_is_found_and_another_one_is_not() {
        assert!(find("hvs.CAES", &format!("x{}", base64(b"{\"hvs.CAES01234"))).is_some());
        let other: String = SECRET.chars().rev().collect();
        let page = format!("{other} {} {}", base64(other.as_bytes()), &SECRET[9..27]);
        assert_eq!(find(SECRET, &page), None);
    }
}
