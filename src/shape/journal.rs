//! The ledger's state file: what was sent survives `kill -9`.
//!
//! One file per upstream origin, of a fixed size: a header and as many records as sends can count
//! at once. A grant writes one record before its permit is handed out, with the latest time at
//! which the send may begin; the stamp writes it again with the true time. A file whose length or
//! any checksum is wrong is not believed at all, and the budget stays shut for a whole span.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{BudgetId, CredentialId};
use crate::shape::clock::Moment;
use crate::shape::record::{self, Header, Kind, Record};

/// No pause of an earlier life is believed to be longer: a clock may have been set back.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// One record's place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// An open journal. Writing never fails a send: the first write that fails is told once, and the
/// file is removed, so that the next start finds it missing and stays shut for a span.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    clock: Moment,
    free: Mutex<Vec<u32>>,
    broken: AtomicBool,
}

/// What an earlier life left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// There is no file.
    Nothing,
    /// There is one that cannot be believed.
    Unreadable,
    /// These sends may still count, and these pauses have not ended.
    Known { sends: Vec<Sent>, pauses: Vec<Sent> },
}

/// When, and whose.
pub(crate) type Sent = (Instant, Sender);

/// Whose send a record stands for: half of a digest of a credential's name, so that it follows
/// the credential through reloads and renamed budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender(pub(crate) u64);

impl Sender {
    pub(crate) fn credential(id: &CredentialId) -> Self {
        Self::digest("credential", id.as_str())
    }

    /// Sends that nobody saw, which a budget, or a key of it, counts to be safe.
    pub(crate) fn unseen(budget: &BudgetId, key: Option<&CredentialId>) -> Self {
        match key {
            None => Self::digest("unseen", budget.as_str()),
            Some(key) => Self::digest("unseen", &format!("{budget}\0{key}")),
        }
    }

    fn digest(kind: &str, name: &str) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::new_with_prefix(kind).chain_update([0]).chain_update(name);
        let bytes = digest.finalize();
        Self(bytes.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }
}

/// Reads what an earlier life left at `path`. Sends older than `span` are left out.
pub(crate) fn read(path: &Path, now: &Moment, span: Duration) -> Past {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Past::Nothing,
        Err(_) => return Past::Unreadable,
    }
    let Some((header, records)) = record::decode(&bytes) else { return Past::Unreadable };
    let same_boot = header.boot == now.boot && now.boot != [0; 16];
    // Across a reboot only a file that was closed in order is sure to hold every send: what the
    // page cache had not written is gone.
    if !same_boot && !header.closed {
        return Past::Unreadable;
    }
    let (mut sends, mut pauses) = (Vec::new(), Vec::new());
    for record in records {
        let (written, clock) =
            if same_boot { (record.uptime, now.uptime) } else { (record.calendar, now.calendar) };
        let sender = Sender(record.sender);
        match record.kind {
            Kind::Empty => {}
            Kind::Send => {
                // A time from the future counts as now.
                let age = clock.saturating_sub(written);
                sends.extend((age < span).then(|| (now.before(age), sender)));
            }
            Kind::Pause => {
                let left = written.saturating_sub(clock).min(LONGEST_PAUSE);
                pauses.extend((!left.is_zero()).then(|| (now.instant + left, sender)));
            }
        }
    }
    Past::Known { sends, pauses }
}

/// A file of records that stand for no send. Written in full now, so that no later write can find
/// the disk full.
fn blank(path: &Path, header: Header) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(&header.encode())?;
    let empty = Record::EMPTY.encode().repeat(1_024);
    let mut left = header.records as usize * record::LENGTH;
    while left > 0 {
        let n = left.min(empty.len());
        file.write_all(&empty[..n])?;
        left -= n;
    }
    Ok(file)
}

impl Journal {
    /// Makes the file anew with room for `records`, and puts it in place in one step.
    ///
    /// # Errors
    /// The folder cannot be written, or the disk is full.
    pub(crate) fn create(path: &Path, records: usize, clock: Moment) -> io::Result<Self> {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let fresh = path.with_extension("new");
        let header = Header { boot: clock.boot, records, closed: false };
        let file = blank(&fresh, header).inspect_err(|_| {
            // A disk that it filled must not stay full.
            let _ = std::fs::remove_file(&fresh);
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            clock,
            free: Mutex::new((0..records).rev().collect()),
            broken: AtomicBool::new(false),
        })
    }

    /// Puts the new file in the old one's place. Called once what still counts is in it.
    ///
    /// # Errors
    /// The folder cannot be written, or not all that counts is in the file.
    pub(crate) fn publish(&self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        if self.broken.load(Ordering::Relaxed) {
            // It is whole to look at, and would be believed.
            let _ = std::fs::remove_file(fresh);
            return Err(io::Error::other("not every send that counts could be written"));
        }
        self.file.sync_data()?;
        std::fs::rename(fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Writes down that `sender` may send at `at` at the latest. `None`: it is not written
    /// down, since the file broke.
    pub(crate) fn record(&self, at: Instant, sender: Sender) -> Option<Slot> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let slot = self.free().pop().map(Slot);
        match slot {
            Some(slot) => {
                self.write(slot, self.sent(at, sender));
                Some(slot)
            }
            None => {
                self.break_off(&io::Error::other("the file has no room left"));
                None
            }
        }
    }

    /// Writes down until when nobody may send with `sender`'s key.
    pub(crate) fn pause(&self, slot: &mut Option<Slot>, until: Instant, sender: Sender) {
        if slot.is_none() {
            *slot = self.free().pop().map(Slot);
        }
        if let Some(slot) = *slot {
            self.write(slot, Record { kind: Kind::Pause, ..self.sent(until, sender) });
        }
    }

    /// Corrects a record's time to the true one.
    pub(crate) fn correct(&self, slot: Slot, at: Instant, sender: Sender) {
        self.write(slot, self.sent(at, sender));
    }

    /// The send did not happen: takes the record out and gives its place up.
    pub(crate) fn erase(&self, slot: Slot) {
        self.write(slot, Record::EMPTY);
        self.forget(slot);
    }

    /// The send no longer counts. Its record may stay: a reader sees that it is too old.
    pub(crate) fn forget(&self, slot: Slot) {
        self.free().push(slot.0);
    }

    /// Marks the file as complete: nothing will be sent any more by this process.
    pub(crate) fn close(&self) {
        if !self.broken.load(Ordering::Relaxed) {
            let records = self.records();
            let header = Header { boot: self.clock.boot, records, closed: true };
            let _ = self.file.sync_data();
            let _ = self.file.write_all_at(&header.encode(), 0);
            let _ = self.file.sync_data();
        }
    }

    fn records(&self) -> u32 {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        u32::try_from((length as usize).saturating_sub(record::HEADER) / record::LENGTH)
            .unwrap_or(0)
    }

    fn sent(&self, at: Instant, sender: Sender) -> Record {
        Record {
            uptime: self.clock.uptime_at(at),
            calendar: self.clock.calendar_at(at),
            sender: sender.0,
            kind: Kind::Send,
        }
    }

    fn write(&self, slot: Slot, record: Record) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        let offset = record::HEADER as u64 + u64::from(slot.0) * record::LENGTH as u64;
        if let Err(error) = self.file.write_all_at(&record.encode(), offset) {
            self.break_off(&error);
        }
    }

    fn break_off(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            // Removing needs no room on the disk; and a missing file keeps the next start shut.
            let removed = std::fs::remove_file(&self.path).is_ok();
            tracing::error!(path = %self.path.display(), %error, removed,
                "the ledger file cannot be written; the limit holds, but a restart will wait a whole window");
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
