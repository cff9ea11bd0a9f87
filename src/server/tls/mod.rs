//! Listeners that speak TLS: their certificate, and whoever proves by one who it is.
//!
//! `files` reads and checks; [`Certificates`] holds what is in use and reads it again; `handshake`
//! runs in a connection's own task, in front of HTTP; `names` tells what a caller's certificate
//! says of it.

mod files;
mod handshake;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::server::TlsSettings;
pub use files::TlsError;
use files::{Files, InUse, Print};
pub(super) use handshake::run;

/// How often the files are looked at, also when nobody says that they changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// From when on the end of a certificate is spoken of, and how often.
const ENDS_SOON: Duration = Duration::from_secs(7 * 86_400);
const SAY_SO_EVERY: Duration = Duration::from_secs(86_400);

/// What one listener shows callers, and by whom their own certificates must be signed.
///
/// The files are read again when asked, and every minute by [`Certificates::keep`]. What is found
/// counts for handshakes from then on; connections that are open go on. Files that are broken or
/// do not belong together change nothing: renewals write one after the other.
///
/// Who may read the key's file is not checked; its owner alone should (mode 0600).
pub struct Certificates {
    listener: String,
    settings: TlsSettings,
    in_use: ArcSwap<InUse>,
    said: Mutex<Said>,
}

/// What was said to the operator, so that it is not said every minute.
#[derive(Default)]
struct Said {
    /// Why files were not taken, and which.
    trouble: Option<(Option<Print>, String)>,
    /// That the certificate ends, and when it was said.
    end: Option<(SystemTime, Instant)>,
}

/// What came of reading the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// They are what is in use.
    No,
    /// They were other ones, and are in use now.
    Yes,
}

impl Certificates {
    /// Reads the files for the first time.
    pub(super) fn open(listener: String, settings: &TlsSettings) -> Result<Self, TlsError> {
        let in_use = Files::read(settings)?.build(settings)?;
        let certificates = Self {
            listener,
            settings: settings.clone(),
            in_use: ArcSwap::from_pointee(in_use),
            said: Mutex::default(),
        };
        certificates.speak_of_the_end(&mut certificates.said());
        Ok(certificates)
    }

    /// Where callers meet this certificate, as the log has it.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// When the certificate that is in use ends.
    pub fn expires(&self) -> SystemTime {
        self.in_use.load().expires
    }

    /// Reads the files again, off the runtime's threads. The log has what came of it.
    ///
    /// # Errors
    /// Says which file is no good; what was in use stays in use.
    pub async fn reload(self: &Arc<Self>) -> Result<Changed, TlsError> {
        self.look(true).await
    }

    /// Reads the files again every minute, until `stop`; meant to be spawned.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let looking = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // Said already; the next look tries again.
                let _ = self.look(false).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    async fn look(self: &Arc<Self>, asked: bool) -> Result<Changed, TlsError> {
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.look_now(asked)).await;
        looked.unwrap_or(Err(TlsError::Interrupted))
    }

    fn look_now(&self, asked: bool) -> Result<Changed, TlsError> {
        // Held while reading: of two looks the later one has the last word.
        let mut said = self.said();
        let read = Files::read(&self.settings);
        let print = read.as_ref().ok().map(Files::print);
        if print == Some(self.in_use.load().print) {
            said.trouble = None;
            self.speak_of_the_end(&mut said);
            return Ok(Changed::No);
        }
        let looked = match read.and_then(|files| files.build(&self.settings)) {
            Ok(found) => {
                self.in_use.store(Arc::new(found));
                said.trouble = None;
                info!(listener = %self.listener, "certificate read again, and new");
                Ok(Changed::Yes)
            }
            Err(error) => {
                let trouble = Some((print, error.to_string()));
                if asked || said.trouble != trouble {
                    warn!(listener = %self.listener, %error, "keeping the certificate in use");
                    said.trouble = trouble;
                }
                Err(error)
            }
        };
        self.speak_of_the_end(&mut said);
        looked
    }

    /// Warns while the certificate in use is about to end, once a day.
    fn speak_of_the_end(&self, said: &mut Said) {
        let (now, in_use) = (SystemTime::now(), self.in_use.load());
        let left = in_use.expires.duration_since(now).unwrap_or_default();
        let is_fine = left >= ENDS_SOON && in_use.begins <= now;
        let is_said = said
            .end
            .is_some_and(|(end, when)| end == in_use.expires && when.elapsed() < SAY_SO_EVERY);
        if is_fine || is_said {
            return;
        }
        let listener = &self.listener;
        if in_use.begins > now {
            warn!(%listener, "certificate is not valid yet; callers will refuse it");
        } else if left.is_zero() {
            warn!(%listener, "certificate has expired; callers will refuse it");
        } else {
            warn!(%listener, hours_left = left.as_secs() / 3600, "certificate expires soon");
        }
        said.end = Some((in_use.expires, Instant::now()));
    }

    /// For the next handshake.
    fn config(&self) -> Arc<ServerConfig> {
        self.in_use.load().config.clone()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // Each change is whole; what a panic leaves is at worst said twice.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Certificates");
        shown.field("listener", &self.listener).field("settings", &self.settings);
        shown.finish_non_exhaustive()
    }
}
