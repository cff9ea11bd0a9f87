//! The document, held against what may stand in it.
//!
//! serde stops at the first mistake. So the tree is walked first: every unknown key, wrong type
//! and missing key is noted, and what is wrong is taken out, so that serde can read the rest and
//! `resolve` can find what is wrong with that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue, Deserializer};

use crate::config::allowed::{Allowed, Key};
use crate::config::blot::Hidden;
use crate::config::file::File;
use crate::config::nearest::nearest;
use crate::config::report::{self, Problems};
use crate::config::units::{Period, Size, UnitError};

/// Reads a document; `None` where it is no TOML at all.
pub(super) fn read(text: &str, problems: &mut Problems, hidden: &mut Hidden) -> Option<File> {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut last_line = None;
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            // One slip often makes the parser stumble several times.
            let line = text.get(..span.start).map(|before| before.matches('\n').count());
            if line != last_line {
                problems.at(&span, error.message());
                hide_secrets_line(text, &span, hidden);
            }
            last_line = line;
        }
        return None;
    }
    let Allowed::Table(keys) = Allowed::file() else { return None };
    let span = document.span();
    Walk { problems, hidden }.table(&keys, document.get_mut(), &span, &Place(Vec::new()));
    match File::deserialize(Deserializer::from(document)) {
        Ok(file) => Some(file),
        // The walk lets nothing through that serde refuses; were it ever to, this is not silent.
        Err(error) => {
            problems.at(&error.span().unwrap_or(span), error.message());
            None
        }
    }
}

/// Without a tree nobody knows which words are secrets: on a line that may be about one, what
/// stands behind the key is hidden.
fn hide_secrets_line(text: &str, span: &Range<usize>, hidden: &mut Hidden) {
    let before = &text[..report::floor(text, span.start)];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    if line.trim_start().starts_with('[') {
        return;
    }
    let section = before.lines().rev().find(|line| line.trim_start().starts_with('['));
    let private = section.is_some_and(|header| {
        let name = header.trim_start().trim_start_matches('[').trim_start();
        SECRET_SECTIONS.iter().any(|section| name.starts_with(section))
    });
    let key = line.find('=').unwrap_or(0);
    if private || sounds_secret(&line[..key]) {
        hidden.0.push(start + key..start + line.len());
    }
}

/// Whether a key's name suggests that its value is none of the report's business.
fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "token", "password", "passwd", "key", "auth", "bearer", "credential"]
        .iter()
        .any(|word| key.contains(word))
}

/// Where secrets are spoken of.
const SECRET_SECTIONS: [&str; 2] = ["credentials", "vault"];

struct Walk<'a> {
    problems: &'a mut Problems,
    hidden: &'a mut Hidden,
}

/// Where in the tree we are: the keys from the top, and whether each is a list of tables.
#[derive(Clone)]
struct Place(Vec<(String, bool)>);

impl Place {
    fn enter(&self, key: &str, list: bool) -> Self {
        let mut keys = self.0.clone();
        keys.push((key.to_owned(), list));
        Self(keys)
    }

    /// As the file writes it: `[[routes]]`, `[credentials.org]`.
    fn header(&self) -> String {
        let keys: Vec<&str> = self.0.iter().map(|(key, _)| key.as_str()).collect();
        let keys = keys.join(".");
        if self.0.last().is_some_and(|(_, list)| *list) {
            format!("[[{keys}]]")
        } else {
            format!("[{keys}]")
        }
    }

    fn is_about_secrets(&self) -> bool {
        self.0.first().is_some_and(|(key, _)| SECRET_SECTIONS.contains(&key.as_str()))
    }
}

impl Walk<'_> {
    fn table(
        &mut self,
        keys: &BTreeMap<String, Key>,
        table: &mut DeTable<'_>,
        span: &Range<usize>,
        place: &Place,
    ) {
        let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(table)
            .into_iter()
            .partition(|(name, _)| keys.contains_key(&**name.get_ref()));
        let mut present: Vec<String> =
            known.iter().map(|(name, _)| name.get_ref().to_string()).collect();
        let mut entries = known;
        for (name, value) in unknown {
            // It is read as what it was probably meant to be, so that this slip is told once, and
            // what stands in it is looked at as well.
            let meant = self.unknown(keys, &name, &value, place);
            if let Some(meant) = meant.filter(|meant| !present.contains(meant)) {
                present.push(meant.clone());
                entries.push((Spanned::new(name.span(), Cow::Owned(meant)), value));
            }
        }
        for (name, mut value) in entries {
            let key = &keys[name.get_ref().as_ref()];
            if self.value(&key.allowed, name.get_ref(), &mut value, place) {
                table.insert(name, value);
            }
        }
        for (name, key) in keys.iter().filter(|(_, key)| key.required) {
            if !present.contains(name) {
                self.missing(name, key, span, place);
            }
        }
    }

    /// Notes an unknown key; gives the known one that it was probably meant to be.
    fn unknown(
        &mut self,
        keys: &BTreeMap<String, Key>,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        place: &Place,
    ) -> Option<String> {
        let key = name.get_ref().as_ref();
        if place.is_about_secrets() || sounds_secret(key) {
            self.hidden.0.push(value.span());
        }
        let known = keys.keys().map(String::as_str);
        let list = matches!(value.get_ref(), DeValue::Array(_));
        let message = match (place.0.is_empty(), value.get_ref()) {
            (true, DeValue::Table(_) | DeValue::Array(_)) => {
                format!("unknown section {}", place.enter(key, list).header())
            }
            (true, _) => format!("unknown key `{key}` at the top"),
            (false, _) => format!("unknown key `{key}` in {}", place.header()),
        };
        self.problems.at(&name.span(), message).help_with_name(key, known.clone());
        nearest(key, known).map(str::to_owned)
    }

    fn missing(&mut self, name: &str, key: &Key, span: &Range<usize>, place: &Place) {
        let problem = if place.0.is_empty() {
            let list = matches!(key.allowed, Allowed::List(_));
            self.problems.whole(format!("{} is missing", place.enter(name, list).header()))
        } else {
            self.problems.at(span, format!("`{name}` is missing in {}", place.header()))
        };
        if let Some(add) = &key.add {
            let gap = if add.contains('\n') { '\n' } else { ' ' };
            problem.help(format!("add{gap}{add}"));
        }
    }

    /// Whether the value may stay.
    fn value(
        &mut self,
        allowed: &Allowed,
        name: &str,
        value: &mut Spanned<DeValue<'_>>,
        place: &Place,
    ) -> bool {
        let span = value.span();
        match (allowed, value.get_mut()) {
            (Allowed::Text | Allowed::TextOr(_), DeValue::String(_))
            | (Allowed::Flag, DeValue::Boolean(_))
            | (Allowed::Fraction, DeValue::Integer(_) | DeValue::Float(_)) => true,
            (Allowed::Period, DeValue::String(text)) => {
                self.unit(text.parse::<Period>().err(), PERIOD, name, text, &span)
            }
            (Allowed::Size, DeValue::String(text)) => {
                self.unit(text.parse::<Size>().err(), SIZE, name, text, &span)
            }
            (Allowed::Word(words), DeValue::String(text)) => self.word(words, name, text, &span),
            (Allowed::Number(most), DeValue::Integer(number)) => {
                self.number(*most, name, number, &span)
            }
            (Allowed::List(item), DeValue::Array(list)) => {
                let place = &place.enter(name, true);
                let all = std::mem::replace(list, DeArray::new());
                let empty = all.is_empty();
                for mut value in all {
                    if self.item(item, name, &mut value, place) {
                        list.push(value);
                    }
                }
                // Where nothing is left of a list, nobody is told that it is empty.
                empty || !list.is_empty()
            }
            (Allowed::Table(keys), DeValue::Table(table)) => {
                self.table(keys, table, &span, &place.enter(name, false));
                true
            }
            (Allowed::Named(inner), DeValue::Table(table)) => {
                self.named(inner, table, &place.enter(name, false));
                true
            }
            (Allowed::TextOr(other), DeValue::Array(_) | DeValue::Table(_)) => {
                self.value(other, name, value, place)
            }
            (allowed, other) => {
                let found = found(other);
                self.wrong_type(allowed, name, &found, &span, place);
                false
            }
        }
    }

    /// One element of a list: a table stands in the place of the list itself.
    fn item(
        &mut self,
        allowed: &Allowed,
        name: &str,
        value: &mut Spanned<DeValue<'_>>,
        place: &Place,
    ) -> bool {
        let span = value.span();
        if let (Allowed::Table(keys), DeValue::Table(table)) = (allowed, value.get_mut()) {
            self.table(keys, table, &span, place);
            return true;
        }
        self.value(allowed, name, value, place)
    }

    /// A table of names. A bad entry is emptied and not removed: that the name stands there is
    /// still true, and nobody is told that it does not exist.
    fn named(&mut self, inner: &Allowed, table: &mut DeTable<'_>, place: &Place) {
        for (name, mut value) in std::mem::take(table) {
            if !self.value(inner, name.get_ref(), &mut value, place) {
                *value.get_mut() = DeValue::Table(DeTable::new());
            }
            table.insert(name, value);
        }
    }

    fn wrong_type(
        &mut self,
        allowed: &Allowed,
        name: &str,
        found: &Found,
        span: &Range<usize>,
        place: &Place,
    ) {
        if place.is_about_secrets() {
            self.hidden.0.push(span.clone());
        }
        let expected = allowed.expected();
        let problem =
            self.problems.at(span, format!("`{name}` is {}, but must be {expected}", found.kind));
        match (allowed, &found.digits) {
            (Allowed::Period, Some(digits)) => problem.help(format!("write \"{digits}s\"")),
            (Allowed::Size, Some(digits)) => problem.help(format!("write \"{digits}B\"")),
            _ => {}
        }
    }

    fn unit(
        &mut self,
        error: Option<UnitError>,
        unit: &Unit,
        name: &str,
        text: &str,
        span: &Range<usize>,
    ) -> bool {
        let Some(error) = error else { return true };
        let kind = unit.kind;
        let problem = self.problems.at(span, format!("`{name}` is not a {kind}: {error}"));
        match error {
            UnitError::NoUnit => problem.help(format!("write \"{text}{}\"", unit.usual)),
            UnitError::NoNumber | UnitError::UnknownUnit => problem.help(unit.example),
            UnitError::TooLarge => problem.help(unit.most),
        }
        false
    }

    fn word(&mut self, words: &[String], name: &str, text: &str, span: &Range<usize>) -> bool {
        let known = words.iter().map(String::as_str);
        let fits = known.clone().any(|word| word == text);
        if !fits {
            self.problems
                .at(span, format!("`{name}` cannot be \"{text}\""))
                .help_with_name(text, known);
        }
        fits
    }

    fn number(&mut self, most: u64, name: &str, number: &DeInteger<'_>, at: &Range<usize>) -> bool {
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = value.is_some_and(|value| (0..=i128::from(most)).contains(&value));
        if !fits {
            self.problems.at(at, format!("`{name}` must be between 0 and {most}"));
        }
        fits
    }
}

/// How a unit is explained.
struct Unit {
    kind: &'static str,
    /// The one to add where none is given.
    usual: &'static str,
    example: &'static str,
    most: &'static str,
}

const PERIOD: &Unit = &Unit {
    kind: "duration",
    usual: "s",
    example: "a whole number and one of ms, s, m, h, such as \"500ms\", \"30s\", \"2m\" or \"1h\"",
    most: "a year, \"8760h\", is the most",
};

const SIZE: &Unit = &Unit {
    kind: "size",
    usual: "B",
    example: "a whole number and one of B, KiB, MiB, GiB, such as \"512B\", \"64KiB\" or \"4MiB\"",
    most: "the number of bytes must fit into 64 bits",
};

/// What stands in the file where something else should.
struct Found {
    kind: &'static str,
    /// A number that may only lack its unit.
    digits: Option<String>,
}

fn found(value: &DeValue<'_>) -> Found {
    let (kind, digits) = match value {
        DeValue::String(_) => ("a string", None),
        DeValue::Integer(number) => ("a number", Some(number.to_string())),
        DeValue::Float(_) => ("a fraction", None),
        DeValue::Boolean(_) => ("true or false", None),
        DeValue::Datetime(_) => ("a date or a time", None),
        DeValue::Array(_) => ("a list", None),
        DeValue::Table(_) => ("a table", None),
    };
    Found { kind, digits: digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())) }
}
