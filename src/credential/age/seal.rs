//! The only module that speaks to the crate `age`: keys, opening, sealing.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519;
use age::{DecryptError, Decryptor, Encryptor};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};

use super::error::AgeError;
use super::stamp::Stamp;
use crate::credential::settings::AgeSettings;

const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const BINARY: &[u8] = b"age-encryption.org/";

/// The private keys of an identity file.
pub(super) struct Identities(Vec<x25519::Identity>);

/// A public key that a vault is encrypted to, as age-keygen prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// What was in an age file.
pub(super) struct Opened {
    /// The decrypted bytes.
    pub(super) text: Zeroizing<Vec<u8>>,
    /// How many can open it; an age file does not say who.
    pub(super) recipients: usize,
}

impl Identities {
    /// Reads what age-keygen writes: comments, and one key or several.
    pub(super) fn parse(file: &[u8], path: &Path) -> Result<Self, AgeError> {
        let mut keys = Vec::new();
        for (at, line) in file.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
            let wrong = || AgeError::NotAnIdentity { path: path.to_owned(), line: at + 1 };
            keys.push(key.ok_or_else(wrong)?);
        }
        if keys.is_empty() {
            return Err(AgeError::NoIdentity { path: path.to_owned() });
        }
        Ok(Self(keys))
    }

    /// The public keys that belong to them.
    pub(super) fn recipients(&self) -> Vec<Recipient> {
        self.0.iter().map(|key| Recipient(key.to_public())).collect()
    }

    /// Makes a new key, and the identity file that holds it, in age-keygen's form.
    pub(super) fn generate() -> Result<(Self, SecretSlice<u8>), AgeError> {
        let key = x25519::Identity::generate();
        let (now, public, secret) = (Stamp::now(), key.to_public(), key.to_string());
        let heading = format!("# created: {now}\n# public key: {public}\n");
        let file = [heading.as_bytes(), secret.expose_secret().as_bytes(), b"\n"].concat();
        Ok((Self(vec![key]), SecretSlice::from(file)))
    }
}

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// Says that it is none; what was given is not repeated.
    pub fn parse(text: &str) -> Result<Self, AgeError> {
        text.trim().parse().map(Self).map_err(|_| AgeError::BadRecipient)
    }
}

/// Opens an age file, armored or not.
pub(super) fn open(
    sealed: &[u8],
    identities: &Identities,
    of: &AgeSettings,
) -> Result<Opened, AgeError> {
    let vault = || of.path.clone();
    // Pasted text may begin with blank lines; age's own reader would not see the armor then.
    let sealed = match sealed.trim_ascii_start() {
        armored if armored.starts_with(ARMOR) => armored,
        _ if sealed.starts_with(BINARY) => sealed,
        _ => return Err(AgeError::NotAge { vault: vault() }),
    };
    let mut binary = Vec::with_capacity(sealed.len());
    let read = ArmoredReader::new(sealed).read_to_end(&mut binary);
    read.map_err(|_| AgeError::Damaged { vault: vault() })?;
    let refused = |error: DecryptError| match error {
        DecryptError::NoMatchingKeys => {
            AgeError::WrongIdentity { vault: vault(), identity: of.identity.clone() }
        }
        DecryptError::UnknownFormat => AgeError::NotAge { vault: vault() },
        _ => AgeError::Damaged { vault: vault() },
    };
    let file = Decryptor::new_buffered(&binary[..]).map_err(refused)?;
    if file.is_scrypt() {
        return Err(AgeError::Passphrase { vault: vault() });
    }
    let keys = identities.0.iter().map(|key| key as &dyn age::Identity);
    let mut plain = file.decrypt(keys).map_err(refused)?;
    // Large enough from the start: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(binary.len() + 64));
    plain.read_to_end(&mut text).map_err(|_| AgeError::Damaged { vault: vault() })?;
    Ok(Opened { text, recipients: recipients(&binary) })
}

/// Makes an armored age file.
pub(super) fn seal(text: &[u8], to: &[Recipient], of: &Path) -> Result<Vec<u8>, AgeError> {
    let sealed = || {
        let to = to.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let file = Encryptor::with_recipients(to).ok()?;
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).ok()?;
        let mut writer = file.wrap_output(armor).ok()?;
        writer.write_all(text).ok()?;
        writer.finish().and_then(ArmoredWriter::finish).ok()
    };
    sealed().ok_or_else(|| AgeError::NotSealed { vault: of.to_owned() })
}

/// How many recipients the header has: a line for each, which begins with `-> `. Those whose kind ends
/// with `-grease` are nobody; age puts one in so that all programs get used to unknown kinds.
fn recipients(binary: &[u8]) -> usize {
    let lines = binary.split(|&byte| byte == b'\n').take_while(|line| !line.starts_with(b"---"));
    let kinds = lines.filter_map(|line| line.strip_prefix(b"-> ")?.split(|&b| b == b' ').next());
    kinds.filter(|kind| !kind.ends_with(b"-grease")).count()
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AgeSettings {
        AgeSettings { path: "vault.age".into(), identity: "identity.txt".into() }
    }

    fn key() -> Identities {
        Identities::generate().unwrap().0
    }

    #[test]
    fn what_is_sealed_opens_for_each_recipient_and_for_nobody_else() {
        let (ours, theirs) = (key(), key());
        let to = [ours.recipients(), theirs.recipients()].concat();
        let sealed = seal(b"text", &to, Path::new("vault.age")).unwrap();
        assert!(sealed.starts_with(ARMOR));
        for key in [&ours, &theirs] {
            let opened = open(&sealed, key, &settings()).unwrap();
            assert_eq!((&opened.text[..], opened.recipients), (&b"text"[..], 2));
        }
        let error = open(&sealed, &key(), &settings()).err().unwrap();
        assert!(matches!(error, AgeError::WrongIdentity { .. }), "{error}");
        assert!(error.to_string().starts_with("identity.txt does not open vault.age"));
    }

    #[test]
    fn blanks_in_front_of_the_armor_do_no_harm() {
        let ours = key();
        let sealed = seal(b"text", &ours.recipients(), Path::new("vault.age")).unwrap();
        let sealed = [b"\n  \n", &sealed[..]].concat();
        assert_eq!(&open(&sealed, &ours, &settings()).unwrap().text[..], b"text");
    }

    #[test]
    fn a_passphrase_is_refused_with_the_way_out() {
        let mut passphrase = age::scrypt::Recipient::new("planted".to_owned().into());
        passphrase.set_work_factor(1);
        let file = Encryptor::with_recipients(std::iter::once(&passphrase as _)).unwrap();
        let mut writer = file.wrap_output(Vec::new()).unwrap();
        writer.write_all(b"text").unwrap();
        let error = open(&writer.finish().unwrap(), &key(), &settings()).err().unwrap();
        assert!(matches!(error, AgeError::Passphrase { .. }), "{error}");
    }

    #[test]
    fn no_byte_can_be_changed_or_cut_off() {
        let ours = key();
        let sealed = seal(b"text", &ours.recipients(), Path::new("vault.age")).unwrap();
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(open(&bent, &ours, &settings()).is_err(), "byte {at}");
        }
        // The last one is the line end.
        for length in 0..sealed.len() - 1 {
            assert!(open(&sealed[..length], &ours, &settings()).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn an_identity_file_is_what_age_keygen_writes() {
        let (key, file) = Identities::generate().unwrap();
        let path = Path::new("identity.txt");
        let text = file.expose_secret().to_vec();
        let lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
        assert!(lines[0].starts_with(b"# created: 2") && lines[0].ends_with(b"Z"));
        assert_eq!(lines[1], format!("# public key: {}", key.recipients()[0]).as_bytes());
        assert!(lines[2].starts_with(b"AGE-SECRET-KEY-1"));
        let again = Identities::parse(&text, path).unwrap();
        assert_eq!(again.recipients(), key.recipients());
        let twice = Identities::parse(&[&text[..], b"\r\n", &text].concat(), path).unwrap();
        assert_eq!(twice.recipients().len(), 2);
        assert_eq!(format!("{twice:?}"), "Identities(2)");
    }

    #[test]
    fn what_is_no_identity_is_refused_by_its_line() {
        let path = Path::new("identity.txt");
        let error = |text: &str| Identities::parse(text.as_bytes(), path).unwrap_err().to_string();
        assert!(error("").starts_with("identity.txt holds no key"));
        assert!(error("# only this\n").starts_with("identity.txt holds no key"));
        let said = error("# a\n\nAGE-SECRET-KEY-1QQQ\n");
        assert!(said.starts_with("line 3 of identity.txt") && !said.contains("QQQ"), "{said}");
    }

    #[test]
    fn a_recipient_is_a_public_key() {
        let public = key().recipients()[0].to_string();
        assert_eq!(Recipient::parse(&format!(" {public}\n")).unwrap().to_string(), public);
        for text in ["", "age1", "ssh-ed25519 AAAA", &public[..public.len() - 1]] {
            assert!(matches!(Recipient::parse(text), Err(AgeError::BadRecipient)));
        }
    }
}
