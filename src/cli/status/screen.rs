//! The terminal: how large it is, what it can show, and how it is left as it was found.

use std::io::{self, IsTerminal, Write};

/// What there is to draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// In characters.
    pub(super) width: usize,
    /// In lines; `None` for as many as there are.
    pub(super) height: Option<usize>,
    pub(super) colors: bool,
    /// Whether it shows more than ASCII.
    pub(super) unicode: bool,
}

/// How text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Less than the rest.
    Dim,
    /// A heading.
    Bold,
    Good,
    /// It goes on, and somebody should know.
    Warn,
    Bad,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Bold => Some("1"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
        }
    }
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let var = |name| std::env::var(name).unwrap_or_default();
        let terminal = is_terminal();
        let size = terminal.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let columns = var("COLUMNS").parse().ok().filter(|columns| (20..=1000).contains(columns));
        // The first of these that says something decides (POSIX).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(var);
        let locale = locale.into_iter().find(|said| !said.is_empty()).unwrap_or_default();
        let locale = locale.to_ascii_lowercase().replace('-', "");
        Self {
            width: size.map_or_else(|| columns.unwrap_or(80), |size| usize::from(size.ws_col)),
            height: size.map(|size| usize::from(size.ws_row)),
            colors: terminal && std::env::var_os("NO_COLOR").is_none(),
            unicode: locale.ends_with("utf8"),
        }
    }

    /// One line of these pieces, cut to the width.
    pub(super) fn line(&self, pieces: &[(Tone, String)]) -> String {
        let length = pieces.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
        let (mut room, more) = match (length > self.width, self.unicode) {
            (false, _) => (self.width, ""),
            (true, true) => (self.width.saturating_sub(1), "…"),
            (true, false) => (self.width.saturating_sub(1), "~"),
        };
        let mut line = String::new();
        for (tone, text) in pieces {
            let text: String = text.chars().take(room).collect();
            room -= text.chars().count();
            match tone.code().filter(|_| self.colors && !text.is_empty()) {
                Some(code) => line.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => line.push_str(&text),
            }
        }
        line.push_str(more);
        line.truncate(line.trim_end_matches(' ').len());
        line
    }
}

/// Whether stdout is a terminal that can be drawn on.
fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A terminal that is drawn on, until this is dropped: then it is as it was.
pub(super) struct Canvas {
    last: Option<Screen>,
}

impl Canvas {
    /// Takes stdout, where it is a terminal and `wanted` as one.
    pub(super) fn open_on_a_terminal(wanted: bool) -> io::Result<Option<Self>> {
        if !wanted || !is_terminal() {
            return Ok(None);
        }
        let canvas = Self { last: None };
        // A second screen, beside what stands there, and no cursor.
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(Some(canvas))
    }

    /// Puts these lines in place of the last ones.
    pub(super) fn put(&mut self, lines: &[String], screen: &Screen) -> io::Result<()> {
        let height = screen.height.unwrap_or(lines.len());
        // Written over what was there, so that nothing flickers; after a change of size, anew.
        let mut text =
            if self.last == Some(*screen) { "\x1b[H" } else { "\x1b[2J\x1b[H" }.to_owned();
        for (at, line) in lines.iter().take(height).enumerate() {
            let end = if at == 0 { "" } else { "\r\n" };
            text.push_str(&format!("{end}{line}\x1b[K"));
        }
        text.push_str("\x1b[J");
        self.last = Some(*screen);
        write(&text)
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        let _ = write("\x1b[?25h\x1b[?1049l");
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
