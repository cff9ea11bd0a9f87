//! What is inside the file: TOML, read by hand so that no message can repeat a part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::name::SecretName;
use super::seal::Recipient;
use super::stamp::Stamp;
use crate::credential::settings::Kind;

/// All that a vault holds.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Who can open it, as far as it says so: the file around it does not.
    pub(super) recipients: Option<Vec<Recipient>>,
    pub(super) entries: BTreeMap<SecretName, Entry>,
}

/// One secret.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: SecretSlice<u8>,
    pub(super) kind: Option<Kind>,
    pub(super) set_at: Option<Stamp>,
}

/// A text that is no vault's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misread {
    /// Whether it is TOML at all.
    pub(super) is_toml: bool,
    /// From 1.
    pub(super) line: usize,
    /// From 1.
    pub(super) column: usize,
}

impl Document {
    pub(super) fn parse(text: &[u8]) -> Result<Self, Misread> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let good = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            Misread { is_toml: false, ..Misread::at(&good, good.len()) }
        })?;
        let (table, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.first() {
            let at = error.span().map_or(text.len(), |span| span.start);
            return Err(Misread { is_toml: false, ..Misread::at(text, at) });
        }
        Self::read(table.get_ref()).map_err(|span| Misread::at(text, span.start))
    }

    fn read(table: &DeTable<'_>) -> Result<Self, Range<usize>> {
        let mut document = Self::default();
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("recipients", DeValue::Array(list)) => {
                    document.recipients =
                        Some(list.iter().map(recipient).collect::<Result<_, _>>()?);
                }
                ("secrets", DeValue::Table(secrets)) => {
                    secrets.iter().try_for_each(|(name, value)| document.take(name, value))?;
                }
                ("recipients" | "secrets", _) => return Err(value.span()),
                // The shortest form: `org = "…"` and nothing around it.
                (_, DeValue::String(_)) => document.take(key, value)?,
                _ => return Err(key.span()),
            }
        }
        Ok(document)
    }

    fn take(
        &mut self,
        name: &Spanned<DeString<'_>>,
        said: &Spanned<DeValue<'_>>,
    ) -> Result<(), Range<usize>> {
        let span = name.span();
        let name = SecretName::parse(name.get_ref()).map_err(|_| span.clone())?;
        let entry = match said.get_ref() {
            DeValue::String(value) => Entry { value: secret(value), kind: None, set_at: None },
            DeValue::Table(table) => entry(table, span.clone())?,
            _ => return Err(said.span()),
        };
        // `org` may stand there in both forms.
        match self.entries.insert(name, entry) {
            None => Ok(()),
            Some(_) => Err(span),
        }
    }

    /// The text that [`Self::parse`] reads.
    pub(super) fn to_toml(&self) -> Zeroizing<Vec<u8>> {
        // Large enough from the start: a vector that grows leaves copies behind.
        const AROUND: usize = 256;
        const ESCAPED: usize = 6;
        let values = self.entries.values().map(|entry| entry.value.expose_secret().len());
        let recipients = self.recipients.iter().flatten().count();
        let room = values.map(|length| length * ESCAPED + AROUND).sum::<usize>()
            + (recipients + 1) * AROUND;
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        if let Some(recipients) = &self.recipients {
            text.extend_from_slice(b"recipients = [\n");
            for recipient in recipients {
                text.extend_from_slice(format!("    \"{recipient}\",\n").as_bytes());
            }
            text.extend_from_slice(b"]\n");
        }
        for (name, entry) in &self.entries {
            text.extend_from_slice(format!("\n[secrets.\"{name}\"]\n").as_bytes());
            if let Some(kind) = entry.kind {
                text.extend_from_slice(format!("kind = \"{}\"\n", kind.as_str()).as_bytes());
            }
            if let Some(set_at) = entry.set_at {
                text.extend_from_slice(format!("set_at = \"{set_at}\"\n").as_bytes());
            }
            text.extend_from_slice(b"value = \"");
            entry.value.expose_secret().iter().for_each(|&byte| escaped(byte, &mut text));
            text.extend_from_slice(b"\"\n");
        }
        debug_assert!(text.len() <= room);
        text
    }
}

impl Misread {
    fn at(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Self { is_toml: true, line, column }
    }
}

fn recipient(said: &Spanned<DeValue<'_>>) -> Result<Recipient, Range<usize>> {
    let text = said.get_ref().as_str();
    text.and_then(|text| Recipient::parse(text).ok()).ok_or_else(|| said.span())
}

fn entry(table: &DeTable<'_>, span: Range<usize>) -> Result<Entry, Range<usize>> {
    let (mut value, mut kind, mut set_at) = (None, None, None);
    for (key, said) in table {
        let wrong = || said.span();
        match (key.get_ref().as_ref(), said.get_ref()) {
            ("value", DeValue::String(text)) => value = Some(secret(text)),
            ("kind", DeValue::String(word)) => {
                kind = Some(Kind::from_word(word).ok_or_else(wrong)?)
            }
            ("set_at", DeValue::String(text)) => {
                let stamp = text.parse().ok().and_then(|moment| Stamp::of(&moment));
                set_at = Some(stamp.ok_or_else(wrong)?);
            }
            ("set_at", DeValue::Datetime(moment)) => {
                set_at = Some(Stamp::of(moment).ok_or_else(wrong)?);
            }
            ("value" | "kind" | "set_at", _) => return Err(wrong()),
            _ => return Err(key.span()),
        }
    }
    Ok(Entry { value: value.ok_or(span)?, kind, set_at })
}

fn secret(text: &str) -> SecretSlice<u8> {
    SecretSlice::from(text.as_bytes().to_vec())
}

/// A byte of a UTF-8 text as it stands between quotation marks.
fn escaped(byte: u8, text: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
        _ if byte.is_ascii_control() => {
            let digit = |half: u8| HEX[usize::from(half)];
            text.extend_from_slice(b"\\u00");
            text.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        _ => text.push(byte),
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value<'a>(document: &'a Document, name: &str) -> &'a [u8] {
        document.entries[&SecretName::parse(name).unwrap()].value.expose_secret()
    }

    fn place(text: &str) -> (bool, usize, usize) {
        let misread = Document::parse(text.as_bytes()).unwrap_err();
        (misread.is_toml, misread.line, misread.column)
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let text = r#"
            short = "a"
            [secrets]
            plain = "b"
            [secrets.org]
            kind = "personal"
            set_at = "2026-11-21T10:00:00Z"
            value = "c"
            [secrets."with.dot"]
            set_at = 2026-11-21T10:00:00Z
            value = 'd'
        "#;
        let document = Document::parse(text.as_bytes()).unwrap();
        for (name, expected) in [("short", "a"), ("plain", "b"), ("org", "c"), ("with.dot", "d")] {
            assert_eq!(value(&document, name), expected.as_bytes());
        }
        let org = &document.entries[&SecretName::parse("org").unwrap()];
        assert_eq!(org.kind, Some(Kind::Personal));
        assert_eq!(org.set_at.unwrap().to_string(), "2026-11-21T10:00:00Z");
        assert!(document.recipients.is_none());
        assert!(Document::parse(b"").unwrap().entries.is_empty());
    }

    #[test]
    fn what_is_no_toml_is_told_by_its_place() {
        assert_eq!(place("a = \"b\"\nomni_osk_x"), (false, 2, 11));
        assert!(!Document::parse(b"a = \"b\"\n\xff").unwrap_err().is_toml);
    }

    #[test]
    fn what_belongs_into_no_vault_is_told_by_its_place() {
        for (text, line, column) in [
            ("org = 1", 1, 1),
            ("[org]\nvalue = \"a\"", 1, 2),
            ("secrets = \"a\"", 1, 11),
            ("[secrets.org]\nkind = \"personal\"", 1, 10),
            ("[secrets.org]\nvalue = 1", 2, 9),
            ("[secrets.org]\nvalue = \"a\"\nkind = \"admin\"", 3, 8),
            ("[secrets.org]\nvalue = \"a\"\nset_at = \"monday\"", 3, 10),
            ("[secrets.org]\nvalue = \"a\"\nset_at = 2026-11-21", 3, 10),
            ("[secrets.org]\nvalue = \"a\"\nvaleu = \"a\"", 3, 1),
            ("[secrets]\norg = [\"a\"]", 2, 7),
            ("[secrets]\n\"a b\" = \"c\"", 2, 1),
            ("omni_osk_abc = \"org\"", 1, 1),
            ("recipients = \"age1\"", 1, 14),
            ("recipients = [\n\"age1\"]", 2, 1),
            ("org = \"a\"\n[secrets]\norg = \"b\"", 3, 1),
        ] {
            let (_, found_line, found_column) = place(text);
            assert_eq!((found_line, found_column), (line, column), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let document = Document::parse(b"org = \"planted\"").unwrap();
        let shown = format!("{document:?}");
        assert!(shown.contains("org") && !shown.contains("planted"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            values in proptest::collection::btree_map("[a-z_][a-zA-Z0-9._-]{0,8}", ".{0,80}", 0..5),
            kind in proptest::sample::select(vec![None, Some(Kind::Organization), Some(Kind::Mcp)]),
        ) {
            let mut document = Document::default();
            for (name, value) in &values {
                let entry = Entry { value: secret(value), kind, set_at: Some(Stamp::now()) };
                document.entries.insert(SecretName::parse(name).unwrap(), entry);
            }
            let again = Document::parse(&document.to_toml()).unwrap();
            prop_assert_eq!(again.entries.len(), document.entries.len());
            for (name, expected) in &values {
                prop_assert_eq!(value(&again, name), expected.as_bytes());
                let entry = &again.entries[&SecretName::parse(name).unwrap()];
                prop_assert_eq!(entry.kind, kind);
            }
        }
    }
}
