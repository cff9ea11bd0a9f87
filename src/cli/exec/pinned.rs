//! A line in the last row of the terminal, while a program writes to the rows above it.
//!
//! The rows above become the terminal's scroll region, as apt does it, so that whatever the program writes
//! moves there. indicatif draws the line; what it draws goes to the last row in a single write, which
//! leaves cursor, colours and region as the program had them.
//!
//! It keeps away from programs that take the terminal for themselves (an editor, a pager, a prompt with line
//! editing), and from a terminal in whose background we run.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp, tcgetwinsize};

use crate::cli::exec::standing::Standing;

/// Smaller than this there is no row to spare.
const LEAST_ROWS: u16 = 5;
const LEAST_COLUMNS: u16 = 30;
/// How often indicatif may draw; more often than it is asked to.
const HERTZ: u8 = 20;

/// The line.
#[derive(Debug)]
pub(super) struct Pinned {
    row: Arc<Row>,
    bar: ProgressBar,
}

/// The last row, where it is ours.
#[derive(Debug)]
struct Row {
    held: Mutex<Held>,
    colors: bool,
}

#[derive(Debug, Default)]
struct Held {
    /// The terminal's size when the row was taken; `None` while it is not ours.
    size: Option<Size>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    rows: u16,
    columns: u16,
}

/// The row as indicatif has it: a terminal of one line.
#[derive(Debug)]
struct Brush(Arc<Row>);

/// Whether stderr is a terminal that can have a pinned line.
pub(super) fn can_pin() -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    stderr().is_terminal() && !term.is_empty() && term != "dumb"
}

impl Pinned {
    pub(super) fn new() -> Self {
        let colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let row = Arc::new(Row { held: Mutex::default(), colors });
        let brush = Box::new(Brush(Arc::clone(&row)));
        let target = ProgressDrawTarget::term_like_with_hz(brush, HERTZ);
        let bar = ProgressBar::with_draw_target(None, target);
        // A template that stands here cannot be wrong; its plain form would do as well.
        let style =
            ProgressStyle::with_template("{spinner} omnigate {elapsed_precise}  {wide_msg}");
        bar.set_style(
            style.unwrap_or_else(|_| ProgressStyle::default_spinner()).tick_chars("|/-\\ "),
        );
        Self { row, bar }
    }

    /// Shows this in the last row, if there is one to be had.
    pub(super) fn show(&self, text: String) {
        if self.row.take() {
            self.bar.set_message(text);
            self.bar.tick();
        }
    }

    /// Gives the row back: the terminal is as it was, with the cursor where the program left it.
    pub(super) fn release(&self) {
        self.row.release();
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.release();
        self.bar.abandon();
    }
}

impl Row {
    /// Takes the last row, or sees to it that it still is that; says whether it is ours now.
    fn take(&self) -> bool {
        let size = if is_ours() { Size::now() } else { None };
        let mut held = self.held();
        match (held.size, size) {
            (None, None) => {}
            (None, Some(size)) => write(&size.pin()),
            (Some(last), None) => write(&last.unpin()),
            (Some(last), Some(size)) if last == size => {}
            (Some(_), Some(size)) => write(&(Size::forget() + &size.pin())),
        }
        held.size = size;
        size.is_some()
    }

    fn release(&self) {
        if let Some(size) = self.held().size.take() {
            write(&size.unpin());
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether we may write to the terminal without disturbing somebody: nobody has taken it out of its line
/// mode, and no other process group is in its foreground.
fn is_ours() -> bool {
    let lines =
        tcgetattr(stderr()).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON));
    // Where it is not the terminal that controls us, it has no background.
    lines
        && tcgetpgrp(stderr()).map_or(true, |foreground| {
            Standing::ours().is_some_and(|ours| ours.group == foreground.as_raw_nonzero().get())
        })
}

impl Size {
    /// The terminal's size, if that is enough.
    fn now() -> Option<Self> {
        let size = tcgetwinsize(stderr()).ok()?;
        let enough = size.ws_row >= LEAST_ROWS && size.ws_col >= LEAST_COLUMNS;
        enough.then_some(Self { rows: size.ws_row, columns: size.ws_col })
    }

    /// Makes room in the last row, also if the cursor is there (IND, CUU), and leaves it out of the scroll
    /// region (DECSTBM, which moves the cursor: DECSC, DECRC).
    fn pin(self) -> String {
        format!("\x1bD\x1b[A\x1b7\x1b[1;{}r\x1b8", self.rows - 1)
    }

    /// The row's text goes wherever a change of size has moved it to: below the cursor, which may be in the
    /// last row now.
    fn forget() -> String {
        "\x1b7\x1b[r\x1b8\x1bD\x1b[A\x1b7\x1b[E\x1b[J\x1b8".to_owned()
    }

    fn draw(self, text: &str, colors: bool) -> String {
        let (on, off) = if colors { ("\x1b[7m", "\x1b[0m") } else { ("\x1b[0m", "") };
        format!("\x1b7\x1b[{};1H{on}{text}{off}\x1b[K\x1b8", self.rows)
    }

    fn unpin(self) -> String {
        format!("\x1b7\x1b[r\x1b[{};1H\x1b[0m\x1b[2K\x1b8", self.rows)
    }
}

/// In one write, so that it does not get into the middle of something else. A terminal that is gone is no
/// reason to end.
fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

impl TermLike for Brush {
    fn width(&self) -> u16 {
        // The last column stays empty: terminals differ in what they do after it.
        self.0.held().size.map_or(LEAST_COLUMNS, |size| size.columns) - 1
    }

    fn height(&self) -> u16 {
        1
    }

    fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.0.held().text.push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.0.held().text.clear();
        Ok(())
    }

    fn flush(&self) -> std::io::Result<()> {
        let mut held = self.0.held();
        let text = std::mem::take(&mut held.text);
        if let Some(size) = held.size {
            write(&size.draw(&text, self.0.colors));
        }
        Ok(())
    }
}
