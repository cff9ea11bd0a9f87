//! How a process joins those who share its budgets.

use std::sync::Arc;

use tracing::info;

use crate::app::StartError;
use crate::config::{Config, SharedSettings};
use crate::credential::{PasswordPlace, SecretError};
use crate::shape::{
    BudgetStore, FleetSettings, News, OnLost, Passwords, ReadPassword, RedisStore, Shaper,
};

/// Where the password is, or why it can never be there; `None` where there is none.
pub(super) type Place = Option<Result<PasswordPlace, SecretError>>;

/// Who asks when a command does, and not a gateway.
const NOBODY: &str = "0000000000000000";

/// Joins the fleet, where the config says that there is one. `way` leads to a store inside this
/// process, and `hear` is called with what others tell. The store need not be there yet, but the password must be. Returns its place.
///
/// # Errors
/// [`StartError::Password`], [`StartError::StoreRoots`].
pub(super) async fn join(
    config: &Config,
    shaper: &Shaper,
    password: Place,
    way: Option<Arc<dyn BudgetStore>>,
    hear: impl Fn(News) + Send + Sync + 'static,
) -> Result<Option<Arc<PasswordPlace>>, StartError> {
    let Some(shared) = &config.shared else { return Ok(None) };
    let (store, place) = match way {
        Some(store) => (store, None),
        None => store(config, shared, password).await?,
    };
    info!(store = %shared.place, "budgets are shared");
    shaper.join_fleet(&settings(shared), store, hear);
    Ok(place)
}

/// Joins the fleet for a question that somebody waits for: gives up where the store is not there.
///
/// # Errors
/// Those of [`join`], and [`StartError::Store`].
pub(super) async fn join_now(
    config: &Config,
    shaper: &Shaper,
    password: Place,
) -> Result<(), StartError> {
    let Some(shared) = &config.shared else { return Ok(()) };
    if shaper.fleet().is_some() {
        return Ok(());
    }
    let (store, _) = store(config, shared, password).await?;
    let reached = store.connect(NOBODY).await;
    reached.map_err(|why| StartError::Store { place: shared.place.to_string(), why })?;
    // Whatever a gateway does while it is lost: one question more can wait.
    let settings = FleetSettings { on_lost: OnLost::Hold, ..settings(shared) };
    // It keeps nothing that others could leave stale.
    shaper.join_fleet(&settings, store, |_| {});
    Ok(())
}

async fn store(
    config: &Config,
    shared: &SharedSettings,
    password: Place,
) -> Result<(Arc<dyn BudgetStore>, Option<Arc<PasswordPlace>>), StartError> {
    let place = password.transpose().map_err(unread)?.map(Arc::new);
    let passwords = match &place {
        None => None,
        Some(place) => {
            let first = place.read().await.map_err(unread)?;
            let place = place.clone();
            let again: ReadPassword = Arc::new(move || {
                let place = place.clone();
                Box::pin(async move { place.read().await.map_err(|error| error.to_string()) })
            });
            Some(Passwords::new(first, again))
        }
    };
    let upstream = config.upstream.origin.to_string();
    let store = RedisStore::new(&shared.place, &upstream, passwords);
    Ok((Arc::new(store.map_err(StartError::StoreRoots)?), place))
}

fn settings(shared: &SharedSettings) -> FleetSettings {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    FleetSettings { on_lost: shared.on_lost, trust_empty: shared.trust_empty, name }
}

fn unread(error: SecretError) -> StartError {
    StartError::Password(Box::new(error))
}
