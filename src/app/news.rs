//! What gateways that share their budgets tell each other about what they keep: as text, and done.
//!
//! One line, its words apart by one space, the first of them the version of these words, the second 16
//! hexadecimal digits by chance: `1 MARK write METHOD PATH`, `1 MARK route NAME`, `1 MARK everything`. By
//! its mark one telling differs from all others, also of the same: who told it knows it again, and
//! nobody takes what another told for its own. A newer version may say more, and an older one cannot
//! know what; so whatever cannot be read leaves everything stale.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use http::Method;
use tracing::{info, warn};

use crate::base::{RouteId, chance_bits};
use crate::proxy::{Others, Proxy, Touched};
use crate::shape::{News, Shaper};

/// The longest line, in bytes. What would be longer is told as everything.
const MOST: usize = 2 * 1024;

/// How long a mark is.
const DIGITS: usize = 16;

/// Those with whom a shaper shares its budgets; nobody, where it does not.
#[derive(Debug)]
pub(super) struct Sharing(pub(super) Arc<Shaper>);

impl Others for Sharing {
    fn tell(&self, touched: &Touched) -> BoxFuture<'static, ()> {
        match self.0.fleet() {
            Some(fleet) => Box::pin(fleet.tell(write(touched, chance_bits()))),
            None => Box::pin(ready(())),
        }
    }

    fn is_current(&self) -> bool {
        self.0.fleet().is_none_or(|fleet| fleet.is_current())
    }

    fn catch_up(&self) -> BoxFuture<'static, ()> {
        match self.0.fleet() {
            Some(fleet) => Box::pin(fleet.catch_up()),
            None => Box::pin(ready(())),
        }
    }
}

/// Leaves stale in this gateway what others tell, before it returns. It does not keep the gateway.
pub(super) fn hear(proxy: &Arc<Proxy>) -> impl Fn(News) + Send + Sync + 'static + use<> {
    let proxy = Arc::downgrade(proxy);
    let complained = AtomicBool::new(false);
    move |news| {
        let Some(proxy) = proxy.upgrade() else { return };
        let touched = match news {
            News::Told(text) => read(&text).unwrap_or_else(|| {
                // Two versions side by side may do so with every write.
                if !complained.swap(true, Ordering::Relaxed) {
                    warn!("what another instance tells cannot be read: nothing kept is served");
                }
                Touched::Everything
            }),
            News::Missed => {
                info!("what other instances told was missed: nothing kept is served");
                Touched::Everything
            }
        };
        proxy.hear(&touched);
    }
}

fn write(touched: &Touched, mark: u64) -> String {
    let text = match touched {
        Touched::Written { method, path } => format!("1 {mark:016x} write {method} {path}"),
        Touched::Route(route) => format!("1 {mark:016x} route {route}"),
        Touched::Everything => everything(mark),
    };
    // Too long, or a name that does not stand for itself.
    if read(&text).as_ref() == Some(touched) { text } else { everything(mark) }
}

fn everything(mark: u64) -> String {
    format!("1 {mark:016x} everything")
}

/// `None` where it is not, byte for byte, what this version writes.
fn read(text: &str) -> Option<Touched> {
    if text.len() > MOST || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return None;
    }
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let words: Vec<&str> = text.split(' ').collect();
    let ["1", mark, words @ ..] = &words[..] else { return None };
    if mark.len() != DIGITS || !mark.bytes().all(digit) {
        return None;
    }
    match *words {
        ["write", method, path] if path.starts_with('/') && !path.contains(['?', '#']) => {
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            Some(Touched::Written { method, path: path.into() })
        }
        ["route", name] if !name.is_empty() => Some(Touched::Route(RouteId::new(name))),
        ["everything"] => Some(Touched::Everything),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: u64 = 0xab;

    fn written(method: &str, path: &str) -> Touched {
        Touched::Written { method: method.parse().unwrap(), path: path.into() }
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        for (touched, text) in [
            (written("POST", "/api/v1/folders"), "1 00000000000000ab write POST /api/v1/folders"),
            (written("LINK", "/a%20b/c+d"), "1 00000000000000ab write LINK /a%20b/c+d"),
            (Touched::Route(RouteId::new("lists")), "1 00000000000000ab route lists"),
            (Touched::Everything, "1 00000000000000ab everything"),
        ] {
            assert_eq!(write(&touched, MARK), text);
            assert_eq!(read(text), Some(touched));
        }
    }

    #[test]
    fn what_is_too_long_or_ambiguous_is_told_as_everything() {
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        let head = "1 00000000000000ab write POST ".len();
        let longest = written("POST", &path(MOST - head));
        assert_eq!(read(&write(&longest, MARK)), Some(longest));
        for touched in [
            written("POST", &path(MOST - head + 1)),
            written(&"M".repeat(MOST), "/"),
            written("POST", "/a b"),
            written("POST", "/ü"),
            written("POST", "a"),
            Touched::Route(RouteId::new("two words")),
            Touched::Route(RouteId::new("line\nend")),
            Touched::Route(RouteId::new("")),
        ] {
            assert_eq!(write(&touched, MARK), everything(MARK), "{touched:?}");
        }
    }

    #[test]
    fn what_is_not_byte_for_byte_ours_is_not_read() {
        let mark = "00000000000000ab";
        for text in [
            "",
            "1",
            "everything",
            "1 everything",
            "1 MARK everything ",
            " 1 MARK everything",
            "1  MARK everything",
            "1 MARK  everything",
            "1 MARK everything\n",
            "1 MARK Everything",
            "2 MARK everything",
            "01 MARK everything",
            "1 MARKa everything",
            "1 00000000000000AB everything",
            "1 0000000000000-ab everything",
            "1 ab everything",
            "1 MARK write POST",
            "1 MARK write POST ",
            "1 MARK write POST api",
            "1 MARK write POST /api /more",
            "1 MARK write POST /api?query",
            "1 MARK write POST /api#part",
            "1 MARK write PO,ST /api",
            "1 MARK write  /api",
            "1 MARK write POST /\u{a0}",
            "1 MARK write POST /\u{7f}",
            "1 MARK route",
            "1 MARK route ",
            "1 MARK route a b",
            "1 MARK purge lists",
            "1 MARK",
        ] {
            assert_eq!(read(&text.replace("MARK", mark)), None, "{text:?}");
        }
        assert_eq!(read(&format!("1 {mark} route {}", "a".repeat(MOST))), None);
    }

    proptest! {
        #[test]
        fn whatever_is_told_leaves_at_least_that_stale(
            method in "[A-Z!#$a-z]{1,8}",
            path in "/(\\PC|[ \n?#]){0,20}",
        ) {
            let touched = written(&method, &path);
            let heard = read(&write(&touched, MARK)).unwrap();
            prop_assert!(heard == touched || heard == Touched::Everything);
        }

        #[test]
        fn what_is_read_would_be_written_the_same(text in "1 00000000000000ab (write|route) \\PC{0,12}( /\\PC{0,12})?") {
            if let Some(touched) = read(&text) {
                prop_assert_eq!(write(&touched, MARK), text);
            }
        }
    }
}
