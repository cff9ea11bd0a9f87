//! A terminal that shows nothing of what is typed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rpassword::{ConfigBuilder, read_password_with_config};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Nothing that is typed is shown, from now until this is dropped, or a signal ends the process.
///
/// rpassword itself turns that off only after the question is drawn; what is pasted until then stands on the
/// screen, and in whatever records it.
#[derive(Debug)]
pub(super) struct Quiet {
    before: Shared,
    /// Whether Ctrl-C ends the process again.
    over: Arc<AtomicBool>,
}

/// The terminal, and how it was.
#[derive(Debug)]
struct Before {
    terminal: File,
    modes: Termios,
}

/// Held by whoever changes the terminal.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Before>>);

impl Shared {
    fn held(&self) -> MutexGuard<'_, Before> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Before {
    /// Has it show nothing, and hand over each letter, Ctrl-C and Ctrl-D too.
    fn silence(&self) -> io::Result<()> {
        let mut modes = self.modes.clone();
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &modes)?)
    }

    fn restore(&self) {
        // Where it is gone, there is nothing to restore.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.modes);
    }
}

impl Quiet {
    /// Silences the process's own terminal.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn begin() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let modes = tcgetattr(&terminal)?;
        let before = Shared(Arc::new(Mutex::new(Before { terminal, modes })));
        // Caught first: were we gone after the modes are changed, the shell would show nothing that is typed.
        let mut caught = Signals::new([SIGHUP, SIGQUIT, SIGTERM])?;
        let at_signal = before.clone();
        // Ends with the process, since a signal that was caught once has no default of its own any more.
        std::thread::Builder::new().name("quiet".to_owned()).spawn(move || {
            for signal in caught.forever() {
                // Held until we are gone, so that nobody silences it again.
                let before = at_signal.held();
                before.restore();
                let _ = emulate_default_handler(signal);
            }
        })?;
        // At Ctrl-C, rpassword raises this itself, and then says that it was interrupted.
        let over = Arc::new(AtomicBool::new(false));
        flag::register_conditional_default(SIGINT, Arc::clone(&over))?;
        before.held().silence()?;
        Ok(Self { before, over })
    }

    /// Asks, and reads one line.
    ///
    /// # Errors
    /// `Interrupted` at Ctrl-C, `UnexpectedEof` at Ctrl-D, or the terminal's own.
    pub(super) fn ask(&self, question: &str) -> io::Result<String> {
        let (input, mut output) = {
            let before = self.before.held();
            (before.terminal.try_clone()?, before.terminal.try_clone()?)
        };
        output.write_all(question.as_bytes())?;
        // It leaves a reader's modes alone.
        let config = ConfigBuilder::new().input_reader(input).output_discard().build();
        let said = read_password_with_config(config);
        // Enter was not shown either.
        output.write_all(b"\n")?;
        said
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.before.held().restore();
        self.over.store(true, Ordering::SeqCst);
    }
}
