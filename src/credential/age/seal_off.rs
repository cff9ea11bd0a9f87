//! What stands in for `seal` where this is built without age: nothing can be had of these.

use std::fmt;
use std::path::Path;

use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

use super::error::AgeError;
use crate::credential::settings::AgeSettings;

/// There is none.
#[derive(Debug)]
pub(super) enum Identities {}

/// There is none. (It is no empty enum, or all code that takes one would be called unreachable.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(());

/// What would be in an age file.
pub(super) struct Opened {
    pub(super) text: Zeroizing<Vec<u8>>,
    pub(super) recipients: usize,
}

impl Identities {
    pub(super) fn parse(_file: &[u8], _path: &Path) -> Result<Self, AgeError> {
        Err(AgeError::FeatureOff)
    }

    pub(super) fn recipients(&self) -> Vec<Recipient> {
        match *self {}
    }

    pub(super) fn generate() -> Result<(Self, SecretSlice<u8>), AgeError> {
        Err(AgeError::FeatureOff)
    }
}

impl Recipient {
    /// Says that there are none.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_text: &str) -> Result<Self, AgeError> {
        Err(AgeError::FeatureOff)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

pub(super) fn open(_: &[u8], keys: &Identities, _: &AgeSettings) -> Result<Opened, AgeError> {
    match *keys {}
}

pub(super) fn seal(_: &[u8], _: &[Recipient], _: &Path) -> Result<Vec<u8>, AgeError> {
    Err(AgeError::FeatureOff)
}
