//! A token that upstream sends back is overwritten before anybody reads it.
//!
//! Looked for are the token itself and the two forms in which JSON encoders write it that escape all
//! but letters and digits (`\u005f`, in digits of either case). What is overwritten keeps its length.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::Finder;

/// How much of a body is looked at: a match may begin in a chunk that begins before this.
const LOOKED_AT: usize = 1024 * 1024;

/// A shorter secret may be any word, and every answer would be full of it.
const SHORTEST: usize = 8;

/// What one token looks like in an answer. Prepared once for each value; nothing of it is shown.
pub struct Blot {
    forms: Vec<Finder<'static>>,
    longest: usize,
}

/// Overwrites a token in a body while it passes by, however the body is cut into chunks.
#[derive(Debug)]
pub struct Blotter {
    blot: Arc<Blot>,
    /// The end of what came, while it may be the beginning of the token.
    held: Bytes,
    read: usize,
    found: u64,
}

impl Blot {
    pub(super) fn of(token: &[u8]) -> Self {
        let known = token.len() >= SHORTEST;
        let mut forms: Vec<Vec<u8>> = known.then(|| token.to_vec()).into_iter().collect();
        let odd = |byte: &u8| !byte.is_ascii_alphanumeric();
        if known && token.iter().any(odd) {
            for upper in [false, true] {
                let spell = |byte: &u8| match (odd(byte), upper) {
                    (false, _) => vec![*byte],
                    (true, false) => format!("\\u{byte:04x}").into_bytes(),
                    (true, true) => format!("\\u{byte:04X}").into_bytes(),
                };
                let form: Vec<u8> = token.iter().flat_map(spell).collect();
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
        let longest = forms.iter().map(Vec::len).max().unwrap_or_default();
        let forms = forms.iter().map(|form| Finder::new(form).into_owned()).collect();
        Self { forms, longest }
    }

    /// Where the token stands in a text, in any of its forms.
    fn places(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        for form in &self.forms {
            let length = form.needle().len();
            places.extend(form.find_iter(text).map(|at| (at, length)));
        }
        places
    }

    /// The text with as many `*` in place of the token, and how often it stood there; `None` where it
    /// did not.
    pub fn overwritten(&self, text: &[u8]) -> Option<(Vec<u8>, u64)> {
        let places = self.places(text);
        if places.is_empty() {
            return None;
        }
        let mut text = text.to_vec();
        for (at, length) in &places {
            text[*at..at + length].fill(b'*');
        }
        Some((text, places.len() as u64))
    }

    /// How much of the end of a text may be the beginning of a token.
    fn begun(&self, text: &[u8]) -> usize {
        let begun = |form: &Finder<'_>| {
            let form = form.needle();
            let most = text.len().min(form.len() - 1);
            (1..=most).rev().find(|&n| text.ends_with(&form[..n])).unwrap_or_default()
        };
        self.forms.iter().map(begun).max().unwrap_or_default()
    }
}

impl PartialEq for Blot {
    fn eq(&self, other: &Self) -> bool {
        let forms = |blot: &Self| blot.forms.iter().map(|form| form.needle().to_vec()).collect();
        let (ours, others): (Vec<_>, Vec<_>) = (forms(self), forms(other));
        ours == others
    }
}

impl Eq for Blot {}

impl fmt::Debug for Blot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blot(…)")
    }
}

impl Blotter {
    /// For the body of one answer.
    pub fn new(blot: Arc<Blot>) -> Self {
        Self { blot, held: Bytes::new(), read: 0, found: 0 }
    }

    /// Takes the next chunk, and gives what may go out now.
    pub fn push(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) {
        let looks = self.read < LOOKED_AT;
        self.read = self.read.saturating_add(chunk.len());
        let mut text = chunk;
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let near = &text[..text.len().min(self.blot.longest)];
            let joint = [&held[..], near].concat();
            let begins = self.blot.places(&joint).iter().any(|(at, _)| *at < held.len());
            if !begins && near.len() == self.blot.longest {
                // No token begins in what was held, so the chunk need not be copied.
                out.push_back(held);
            } else {
                text = [&held[..], &text[..]].concat().into();
            }
        } else if !looks {
            out.push_back(text);
            return;
        }
        if let Some((clean, times)) = self.blot.overwritten(&text) {
            self.found += times;
            text = clean.into();
        }
        if looks {
            // A copy, or a few bytes would keep all of a connection's read buffer.
            let held = text.split_off(text.len() - self.blot.begun(&text));
            self.held = Bytes::copy_from_slice(&held);
        }
        if !text.is_empty() {
            out.push_back(text);
        }
    }

    /// What is still held: it was no token.
    pub fn end(&mut self) -> Option<Bytes> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some(held)
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How often the token was found since this was asked last.
    pub fn found(&mut self) -> u64 {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "omni_osk_ab-cd";

    fn through(chunks: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut blotter = Blotter::new(Arc::new(Blot::of(TOKEN.as_bytes())));
        let mut out = VecDeque::new();
        for chunk in chunks {
            blotter.push(Bytes::copy_from_slice(chunk), &mut out);
        }
        out.extend(blotter.end());
        (out.into_iter().flatten().collect(), blotter.found())
    }

    #[test]
    fn a_token_is_overwritten_wherever_it_is_cut() {
        let json = TOKEN.replace('_', "\\u005f").replace('-', "\\u002d");
        let upper = TOKEN.replace('_', "\\u005F").replace('-', "\\u002D");
        for (text, times) in [
            (format!("a Bearer {TOKEN} b"), 1),
            (format!("{TOKEN}{TOKEN}"), 2),
            (format!("omni_osk_omni_{TOKEN}"), 1),
            (format!("oomni_osk_ab-comn{TOKEN}omni_osk_ab-c"), 1),
            (format!("{{\"a\":\"{json}\"}}"), 1),
            (format!("{{\"a\":\"{upper}\"}}"), 1),
            ("omni_osk_ab-c".to_owned(), 0),
            (String::new(), 0),
        ] {
            let mut clean = text.clone();
            for form in [TOKEN, &json, &upper] {
                clean = clean.replace(form, &"*".repeat(form.len()));
            }
            for at in 0..=text.len() {
                for and in at..=text.len() {
                    let bytes = text.as_bytes();
                    let (seen, found) = through(&[&bytes[..at], &bytes[at..and], &bytes[and..]]);
                    assert_eq!(String::from_utf8(seen).unwrap(), clean, "{at} {and}");
                    assert_eq!(found, times);
                }
            }
        }
    }

    #[test]
    fn clean_chunks_are_not_copied() {
        let blot = Arc::new(Blot::of(TOKEN.as_bytes()));
        let (mut blotter, mut out) = (Blotter::new(blot), VecDeque::new());
        blotter.push(Bytes::from_static(b"text omni_"), &mut out);
        let chunk = Bytes::from(vec![b'x'; 100_000]);
        blotter.push(chunk.clone(), &mut out);
        assert_eq!(out.pop_front().unwrap(), "text ");
        assert_eq!(out.pop_front().unwrap(), "omni_");
        assert_eq!(out.pop_front().unwrap().as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn only_the_beginning_of_a_body_is_looked_at() {
        let filler = vec![b'o'; LOOKED_AT - 5];
        let (seen, found) = through(&[&filler, &TOKEN.as_bytes()[..6], &TOKEN.as_bytes()[6..]]);
        assert_eq!((seen.len(), found), (LOOKED_AT - 5 + TOKEN.len(), 1));
        let filler = vec![b'o'; LOOKED_AT];
        let (seen, found) = through(&[&filler, b"x", TOKEN.as_bytes()]);
        assert!(seen.ends_with(TOKEN.as_bytes()) && found == 0);
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let blot = Arc::new(Blot::of(TOKEN.as_bytes()));
        assert_eq!(format!("{blot:?}"), "Blot(…)");
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_read_as_one(
            parts in proptest::collection::vec(
                prop_oneof![Just(TOKEN), Just("omni_osk_"), Just("o"), Just("x"), Just("ab-c")], 0..12),
            cuts in proptest::collection::vec(0..100usize, 0..12),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                chunks.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            let (seen, _) = through(&chunks);
            prop_assert_eq!(String::from_utf8(seen).unwrap(), text.replace(TOKEN, &"*".repeat(TOKEN.len())));
        }
    }
}
