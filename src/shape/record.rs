//! The bytes of the state file, format version 2.
//!
//! Header, 64 bytes: `OMNIGATE`, version, number of records, boot id, 1 if closed in order, zeros,
//! CRC-32. Record, 32 bytes: uptime in ns, calendar in ns, sender, kind (0 empty, 1 a
//! send, 2 the end of a pause), zeros, CRC-32. Integers are little-endian.

use std::time::Duration;

pub(crate) const HEADER: usize = 64;
pub(crate) const LENGTH: usize = 32;

const MAGIC: &[u8; 8] = b"OMNIGATE";
const VERSION: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) boot: [u8; 16],
    pub(crate) records: u32,
    pub(crate) closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uptime: Duration,
    pub(crate) calendar: Duration,
    pub(crate) sender: u64,
    pub(crate) kind: Kind,
}

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Send,
    /// The time is the end of a pause.
    Pause,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.boot);
        bytes[32] = u8::from(self.closed);
        seal(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let intact = unsealed(bytes)?;
        let known = &intact[..8] == MAGIC && u32_at(intact, 8)? == VERSION;
        let boot = intact.get(16..32)?.try_into().ok()?;
        known.then_some(Self { boot, records: u32_at(intact, 12)?, closed: intact[32] == 1 })
    }
}

impl Record {
    pub(crate) const EMPTY: Self =
        Self { uptime: Duration::ZERO, calendar: Duration::ZERO, sender: 0, kind: Kind::Empty };

    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&nanos(self.uptime).to_le_bytes());
        bytes[8..16].copy_from_slice(&nanos(self.calendar).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sender.to_le_bytes());
        bytes[24] = self.kind as u8;
        seal(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let intact = unsealed(bytes)?;
        Some(Self {
            uptime: Duration::from_nanos(u64_at(intact, 0)?),
            calendar: Duration::from_nanos(u64_at(intact, 8)?),
            sender: u64_at(intact, 16)?,
            kind: match intact[24] {
                0 => Kind::Empty,
                1 => Kind::Send,
                2 => Kind::Pause,
                _ => return None,
            },
        })
    }
}

/// Reads a whole file, or nothing: one wrong byte or a missing one makes it unreadable.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Header, Vec<Record>)> {
    let header = Header::decode(bytes.get(..HEADER)?)?;
    let rest = &bytes[HEADER..];
    if rest.len() != (header.records as usize).checked_mul(LENGTH)? {
        return None;
    }
    let records: Option<Vec<Record>> = rest.chunks_exact(LENGTH).map(Record::decode).collect();
    Some((header, records?))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_le_bytes());
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (intact, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32fast::hash(intact).to_le_bytes() == sum).then_some(intact)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
