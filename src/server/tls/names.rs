//! What a caller's certificate says of it.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::base::Certificate;

/// A certificate that was verified, and of which it is still not clear whom it names.
#[derive(Debug, thiserror::Error)]
#[error("the caller's certificate cannot be read")]
pub(super) struct Unclear;

/// Reads the names of a certificate that was verified. Names of other kinds than DNS and URI are
/// left out: no rule can ask for them.
///
/// The subject's common name is none: what stands there was never said to be a name of the owner
/// (RFC 9525 §2).
pub(super) fn names(der: &CertificateDer<'_>) -> Result<Certificate, Unclear> {
    let (rest, read) = X509Certificate::from_der(der).map_err(|_| Unclear)?;
    if !rest.is_empty() {
        return Err(Unclear);
    }
    // An extension that stands there twice is an error too.
    let Some(found) = read.subject_alternative_name().map_err(|_| Unclear)? else {
        return Ok(Certificate { names: Vec::new() });
    };
    let name = |general: &GeneralName<'_>| match general {
        // What only looks like a URI must not be told as one.
        GeneralName::DNSName(name) => is_dns(name).then(|| name.to_ascii_lowercase()),
        // And a URI without a scheme, which is none, not as a DNS name.
        GeneralName::URI(uri) => uri.contains(':').then(|| (*uri).to_owned()),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    };
    Ok(Certificate { names: found.value.general_names.iter().filter_map(name).collect() })
}

fn is_dns(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
}
