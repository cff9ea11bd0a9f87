//! Omni's address, as people have it at hand.

use crate::omni;
use crate::upstream::{Origin, OriginError};

/// Omni's address, and whether something else was written.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Address {
    pub(in crate::cli) origin: Origin,
    /// Whether what was written had more than that, or less.
    pub(in crate::cli) mended: bool,
}

/// Why a text is not the address of an Omni instance. Nothing of it is repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::cli) enum BadAddress {
    /// The address stands in the config and is shown; the key must be in neither.
    #[error(
        "this looks like a key, and an address is asked for, such as https://acme.omniapp.co; revoke the \
         key in Omni if others may have seen it here"
    )]
    Key,
    #[error("a whole host name is needed, such as acme.omniapp.co")]
    Name,
    #[error("{source}{}", way_out(source))]
    Origin {
        #[from]
        source: OriginError,
    },
}

fn way_out(error: &OriginError) -> &'static str {
    match error {
        OriginError::NotAUrl => "",
        OriginError::Scheme => ", as in https://acme.omniapp.co",
        OriginError::PlainHttp => "; write https://",
        // Paths were cut off before.
        OriginError::MoreThanAnOrigin => "; leave out what stands before the @",
    }
}

/// Reads an address as a browser shows it: with a path or without, with `https://` or without.
pub(in crate::cli) fn read(said: &str) -> Result<Address, BadAddress> {
    let said = said.trim();
    if said.to_ascii_lowercase().contains(omni::TOKEN_PREFIX) {
        return Err(BadAddress::Key);
    }
    let (scheme, rest) = match said.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, said),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let with = |scheme: &str| Origin::parse(&format!("{scheme}://{authority}"));
    let origin = match scheme {
        Some(scheme) => with(&scheme.to_ascii_lowercase())?,
        // Without TLS on this machine alone.
        None => with("http").or_else(|_| with("https"))?,
    };
    let host = origin.host();
    // Half a name, unless somebody says that it is a whole one.
    if scheme.is_none() && origin.is_https() && !host.contains(['.', ':']) {
        return Err(BadAddress::Name);
    }
    let mended = origin.to_string() != said.trim_end_matches('/');
    Ok(Address { origin, mended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: OriginError) -> BadAddress {
        BadAddress::Origin { source }
    }

    #[test]
    fn what_a_browser_shows_becomes_the_address() {
        for (said, taken) in [
            ("https://acme.omniapp.co", "https://acme.omniapp.co"),
            ("https://acme.omniapp.co/", "https://acme.omniapp.co"),
            ("acme.omniapp.co", "https://acme.omniapp.co"),
            (" https://Acme.OmniApp.co/login?next=%2Fhome#x ", "https://acme.omniapp.co"),
            ("acme.omniapp.co/api/v1/documents", "https://acme.omniapp.co"),
            ("https://acme.omniapp.co/api", "https://acme.omniapp.co"),
            ("acme.omniapp.co:8443/x", "https://acme.omniapp.co:8443"),
            ("127.0.0.1:9000/api", "http://127.0.0.1:9000"),
            ("localhost:9000", "http://localhost:9000"),
            ("http://[::1]:9", "http://[::1]:9"),
            ("https://egress:8443", "https://egress:8443"),
        ] {
            let address = read(said).unwrap();
            assert_eq!(address.origin.to_string(), taken, "{said}");
            assert_eq!(address.mended, said.trim_end_matches('/') != taken, "{said}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        use OriginError::{MoreThanAnOrigin, NotAUrl, PlainHttp, Scheme};
        for (said, why) in [
            ("", origin(NotAUrl)),
            ("acme omni", origin(NotAUrl)),
            ("acme", BadAddress::Name),
            ("http://acme.omniapp.co", origin(PlainHttp)),
            ("ftp://acme.omniapp.co", origin(Scheme)),
            ("https://me:hunter2@acme.omniapp.co", origin(MoreThanAnOrigin)),
            ("omni_osk_hunter2", BadAddress::Key),
            ("https://OMNI_OSK_hunter2.omniapp.co", BadAddress::Key),
        ] {
            assert_eq!(read(said), Err(why), "{said}");
            assert!(!read(said).unwrap_err().to_string().contains("hunter2"), "{said}");
        }
    }
}
