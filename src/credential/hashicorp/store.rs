//! One field of one secret in a Vault server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::credential::HashicorpSettings;
use crate::credential::store::{Found, Place, SecretError, SecretStore};
use crate::net::Dial;

use super::error::HashicorpError;
use super::kv::Spot;
use super::session::Session;

/// Finds another way to a server than its address, for servers inside this process.
pub(in crate::credential) type Ways<'a> = &'a (dyn Fn(&HashicorpSettings) -> Option<Dial> + Sync);

/// The sessions of all secrets: one for each server and way to log in.
pub(in crate::credential) struct Sessions<'a> {
    ways: Ways<'a>,
    all: Vec<Arc<Session>>,
}

impl<'a> Sessions<'a> {
    pub(in crate::credential) fn new(ways: Ways<'a>) -> Self {
        Self { ways, all: Vec::new() }
    }

    /// The store of a secret, in the session that it shares with others.
    pub(in crate::credential) fn store(
        &mut self,
        settings: &Arc<HashicorpSettings>,
        path: &str,
        field: &str,
    ) -> Result<Hashicorp, SecretError> {
        let spot = Spot::new(&settings.mount, path, field).map_err(|_| SecretError::BadName)?;
        let session = self
            .session(settings)
            .map_err(|source| SecretError::Hashicorp { place: place(settings, &spot), source })?;
        Ok(Hashicorp { session, spot })
    }

    fn session(
        &mut self,
        settings: &Arc<HashicorpSettings>,
    ) -> Result<Arc<Session>, HashicorpError> {
        if let Some(session) = self.all.iter().find(|session| session.settings() == settings) {
            return Ok(session.clone());
        }
        let session = Session::new(settings.clone(), (self.ways)(settings))?;
        self.all.push(session.clone());
        Ok(session)
    }
}

/// A field of a secret, and the session in which it is read.
#[derive(Debug)]
pub(in crate::credential) struct Hashicorp {
    session: Arc<Session>,
    spot: Spot,
}

fn place(settings: &HashicorpSettings, spot: &Spot) -> Place {
    let host = settings.host.clone();
    Place::Vault { host, path: spot.path.clone(), field: spot.field.clone() }
}

impl SecretStore for Hashicorp {
    fn read(&self) -> BoxFuture<'_, Result<Found, SecretError>> {
        Box::pin(async {
            let read = self.session.read(&self.spot).await;
            read.map(Found::lasting)
                .map_err(|source| SecretError::Hashicorp { place: self.place(), source })
        })
    }

    fn place(&self) -> Place {
        place(self.session.settings(), &self.spot)
    }

    fn refresh_every(&self) -> Option<Duration> {
        Some(self.session.settings().refresh)
    }

    /// More than the session takes, which knows better what was slow.
    fn patience(&self) -> Duration {
        self.session.settings().timeout + Duration::from_secs(1)
    }

    fn keep(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.session.keep())
    }
}
