//! A question about one key, without callers.

use std::sync::Arc;

use crate::app::{StartError, fleet};
use crate::config::Config;
use crate::credential::{Credential, CredentialSettings, Credentials, OnMissing};
use crate::proxy::Custody;
use crate::shape::Shaper;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// What it takes to ask Omni about one key, without callers.
#[derive(Debug)]
pub struct Inquiry {
    /// The key; it may have no value.
    pub credential: Arc<Credential>,
    /// Who asks.
    pub custody: Arc<Custody>,
}

impl Inquiry {
    /// Reads one secret, and no other but the password of the store that the budgets are shared through:
    /// nothing is asked without its yes. `shaper` is [`ledger`](crate::app::ledger)'s.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(
        config: &Config,
        settings: CredentialSettings,
        shaper: Arc<Shaper>,
    ) -> Result<Self, StartError> {
        let id = settings.id.clone();
        // A secret that cannot be read is told by the credential's state.
        let settings = CredentialSettings { on_missing: OnMissing::Degrade, ..settings };
        let password = config.shared.as_ref().and_then(|shared| shared.password.as_ref());
        let opened = Credentials::open_beside(vec![settings], password, &|_| None).await;
        let (credentials, password) = opened.map_err(StartError::Credentials)?;
        fleet::join_now(config, &shaper, password).await?;
        let upstream = Arc::new(Upstream::new(config.upstream.clone())?);
        let metrics = Arc::new(Metrics::new());
        let custody = Custody::new(&credentials, &config.probes, shaper, upstream, metrics);
        // It was just put in.
        let credential = credentials.get(&id).ok_or(StartError::Credentials(Vec::new()))?;
        Ok(Self { credential, custody: Arc::new(custody) })
    }
}
