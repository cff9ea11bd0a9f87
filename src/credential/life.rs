//! The life of a credential: read before the ports open, looked at again, kept through trouble.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use http::HeaderValue;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::base::CredentialId;

use super::settings::{CredentialSettings, Kind, OnMissing};
use super::store::{READ_TIMEOUT, SecretError, SecretStore, store_for};
use super::token::Token;

/// All credentials of the config, by name.
#[derive(Debug)]
pub struct Credentials {
    all: BTreeMap<CredentialId, Arc<Credential>>,
}

/// One credential: a name, and the bearer that it stands for now.
pub struct Credential {
    id: CredentialId,
    kind: Kind,
    store: Arc<dyn SecretStore>,
    now: ArcSwap<Now>,
    /// One read at a time, so that an older one never overwrites a newer one.
    reading: Mutex<()>,
}

/// What is known of a credential now.
#[derive(Debug)]
enum Now {
    Held { kept: Kept, trouble: Option<Trouble> },
    Missing(Trouble),
}

#[derive(Clone, Debug)]
struct Kept {
    token: Arc<Token>,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    why: Arc<SecretError>,
}

/// How a credential stands.
#[derive(Clone, Debug)]
pub enum State {
    /// It is held, and its place still says the same.
    Ready {
        /// When this value was first read.
        since: Instant,
    },
    /// Its last good value is held, but its place cannot be read.
    Stale {
        /// When the trouble began.
        since: Instant,
        /// What the trouble is.
        why: Arc<SecretError>,
    },
    /// It never had a value; its calls are refused.
    Missing {
        /// Why.
        why: Arc<SecretError>,
    },
}

/// A credential that a start cannot do without.
#[derive(Debug, thiserror::Error)]
#[error("credential `{credential}`: {source}")]
pub struct OpenError {
    /// Which.
    pub credential: CredentialId,
    /// Why it cannot be had.
    pub source: SecretError,
}

/// A credential has no bearer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credential `{credential}` has no value")]
pub struct Unavailable {
    /// Which.
    pub credential: CredentialId,
}

/// What another look at a secret's place found, where that is news.
#[derive(Clone, Debug)]
pub enum Change {
    /// Another value than before, or the first one.
    Refreshed(CredentialId),
    /// The place can be read again and says what it said before the trouble.
    Recovered(CredentialId),
    /// The place can no longer be read; the last good value, if there is one, stays.
    Failed(CredentialId, Arc<SecretError>),
}

impl Credentials {
    /// Reads every secret, all at once, each for 10 s at most.
    ///
    /// # Errors
    /// Names every credential that cannot be had, its place and why. One that says `degrade` is kept
    /// without a value instead, unless its place can never hold one.
    pub async fn open(settings: Vec<CredentialSettings>) -> Result<Self, Vec<OpenError>> {
        let opened = join_all(settings.into_iter().map(Credential::open)).await;
        let mut all = BTreeMap::new();
        let mut errors = Vec::new();
        for result in opened {
            match result {
                Ok(one) => {
                    all.insert(one.id.clone(), Arc::new(one));
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { all }) } else { Err(errors) }
    }

    /// The credential of that name.
    pub fn get(&self, id: &CredentialId) -> Option<Arc<Credential>> {
        self.all.get(id).cloned()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.all.values()
    }

    /// Looks at every place again, for operators who say so; 10 s at most each.
    ///
    /// Cancel-safe: what was not read stays as it was.
    pub async fn refresh_now(&self) -> Vec<Change> {
        let look = async |credential: &Arc<Credential>| {
            let ended = timeout(READ_TIMEOUT, credential.refresh()).await;
            ended.unwrap_or_else(|_| {
                let why = SecretError::TimedOut { place: credential.store.place() };
                Some(Change::Failed(credential.id.clone(), Arc::new(why)))
            })
        };
        join_all(self.all.values().map(look)).await.into_iter().flatten().collect()
    }

    /// Looks at the places that may change, files every 5 s, until `stop`; meant to be spawned.
    ///
    /// A place that hangs keeps only its own credential from being refreshed.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let looks = self.all.values().filter_map(|credential| {
            credential.store.refresh_every().map(|every| credential.watch(every))
        });
        stop.run_until_cancelled(join_all(looks)).await;
    }
}

impl Credential {
    async fn open(settings: CredentialSettings) -> Result<Self, OpenError> {
        let CredentialSettings { id, kind, source, on_missing } = settings;
        let store = match store_for(&source) {
            Ok(store) => store,
            Err(source) => return Err(OpenError { credential: id, source }),
        };
        let read = timeout(READ_TIMEOUT, read(&*store)).await;
        let read = read.unwrap_or_else(|_| Err(SecretError::TimedOut { place: store.place() }));
        let since = Instant::now();
        let now = match (read, on_missing) {
            (Ok(token), _) => {
                Now::Held { kept: Kept { token: Arc::new(token), since }, trouble: None }
            }
            (Err(why), OnMissing::Degrade) => Now::Missing(Trouble { since, why: Arc::new(why) }),
            (Err(source), OnMissing::Fail) => return Err(OpenError { credential: id, source }),
        };
        Ok(Self { id, kind, store, now: ArcSwap::from_pointee(now), reading: Mutex::new(()) })
    }

    /// Its name.
    pub fn id(&self) -> &CredentialId {
        &self.id
    }

    /// What kind of key it is, as the config says.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of the `Authorization` field, from memory: byte-identical until the secret changes.
    ///
    /// # Errors
    /// There is no value yet.
    pub fn bearer(&self) -> Result<HeaderValue, Unavailable> {
        match &**self.now.load() {
            Now::Held { kept, .. } => Ok(kept.token.bearer()),
            Now::Missing(_) => Err(Unavailable { credential: self.id.clone() }),
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match &**self.now.load() {
            Now::Held { kept, trouble: None } => State::Ready { since: kept.since },
            Now::Held { trouble: Some(Trouble { since, why }), .. } => {
                State::Stale { since: *since, why: why.clone() }
            }
            Now::Missing(Trouble { why, .. }) => State::Missing { why: why.clone() },
        }
    }

    /// How long ago its value was first read; `None` when it has none.
    pub fn age(&self) -> Option<Duration> {
        self.held(|kept| kept.since.elapsed())
    }

    /// Whether its value has the form of an Omni key; `None` when it has none.
    pub fn looks_like_omni(&self) -> Option<bool> {
        self.held(|kept| kept.token.looks_like_omni())
    }

    fn held<T>(&self, look: impl FnOnce(&Kept) -> T) -> Option<T> {
        match &**self.now.load() {
            Now::Held { kept, .. } => Some(look(kept)),
            Now::Missing(_) => None,
        }
    }

    async fn watch(&self, every: Duration) {
        let mut look = interval_at(Instant::now() + every, every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            match self.refresh().await {
                None => {}
                Some(Change::Refreshed(id)) => info!(credential = %id, "credential refreshed"),
                Some(Change::Recovered(id)) => info!(credential = %id, "credential readable again"),
                Some(Change::Failed(id, why)) => {
                    warn!(credential = %id, error = %why, "credential not readable");
                }
            }
        }
    }

    async fn refresh(&self) -> Option<Change> {
        let _alone = self.reading.lock().await;
        let read = read(&*self.store).await;
        self.take(read)
    }

    /// Takes over what was read, and says what of it is news.
    fn take(&self, read: Result<Token, SecretError>) -> Option<Change> {
        let before = self.now.load();
        let at = Instant::now();
        match (read, &**before) {
            (Ok(token), Now::Held { kept, trouble }) if *kept.token == token => {
                trouble.as_ref()?;
                self.now.store(Arc::new(Now::Held { kept: kept.clone(), trouble: None }));
                Some(Change::Recovered(self.id.clone()))
            }
            (Ok(token), Now::Held { .. } | Now::Missing(_)) => {
                let kept = Kept { token: Arc::new(token), since: at };
                self.now.store(Arc::new(Now::Held { kept, trouble: None }));
                Some(Change::Refreshed(self.id.clone()))
            }
            (Err(why), Now::Held { kept, trouble: None }) => {
                let why = Arc::new(why);
                let trouble = Some(Trouble { since: at, why: why.clone() });
                self.now.store(Arc::new(Now::Held { kept: kept.clone(), trouble }));
                Some(Change::Failed(self.id.clone(), why))
            }
            // Known already; the cause may be another by now.
            (Err(why), Now::Held { kept, trouble: Some(Trouble { since, .. }) }) => {
                let trouble = Some(Trouble { since: *since, why: Arc::new(why) });
                self.now.store(Arc::new(Now::Held { kept: kept.clone(), trouble }));
                None
            }
            (Err(why), Now::Missing(Trouble { since, .. })) => {
                let trouble = Trouble { since: *since, why: Arc::new(why) };
                self.now.store(Arc::new(Now::Missing(trouble)));
                None
            }
        }
    }
}

async fn read(store: &dyn SecretStore) -> Result<Token, SecretError> {
    let found = store.read().await?;
    Token::parse(found.secret.expose_secret())
        .map_err(|source| SecretError::BadToken { place: store.place(), source })
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("store", &self.store)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::credential::{BadToken, Source};

    fn file(path: &Path, on_missing: OnMissing) -> CredentialSettings {
        let (id, source) = (CredentialId::new("org"), Source::File { path: path.to_owned() });
        CredentialSettings { id, kind: Kind::Organization, source, on_missing }
    }

    fn mounted(path: &Path) -> CredentialSettings {
        let source = Source::Dir { path: path.to_owned(), name: "org".to_owned() };
        CredentialSettings { source, ..file(path, OnMissing::Fail) }
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A watched credential; the clock is paused, so five seconds cost nothing.
    struct Watched {
        all: Arc<Credentials>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Watched {
        async fn start(settings: CredentialSettings) -> Self {
            let all = Arc::new(Credentials::open(vec![settings]).await.unwrap());
            let stop = CancellationToken::new();
            let task = tokio::spawn(all.clone().watch(stop.clone()));
            Self { all, stop, task }
        }

        fn credential(&self) -> Arc<Credential> {
            self.all.get(&CredentialId::new("org")).unwrap()
        }

        fn bearer(&self) -> String {
            self.credential().bearer().unwrap().to_str().unwrap().to_owned()
        }

        async fn soon(&self) {
            tokio::time::sleep(Duration::from_secs(6)).await;
        }

        async fn stop(self) {
            self.stop.cancel();
            self.task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_written_anew_is_the_new_bearer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first\n");
        let watched = Watched::start(file(&path, OnMissing::Fail)).await;
        assert_eq!(watched.bearer(), "Bearer first");
        write(&path, "second\n");
        assert_eq!(watched.bearer(), "Bearer first");
        watched.soon().await;
        assert_eq!(watched.bearer(), "Bearer second");
        watched.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_renamed_into_place_is_the_new_bearer() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("key"), folder.path().join("next"));
        write(&path, "first");
        let watched = Watched::start(file(&path, OnMissing::Fail)).await;
        write(&next, "second");
        fs::rename(&next, &path).unwrap();
        watched.soon().await;
        assert_eq!(watched.bearer(), "Bearer second");
        watched.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn kubernetes_swap_of_its_data_link_is_the_new_bearer() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "first"), ("..2", "second")] {
            fs::create_dir(at(version)).unwrap();
            write(&at(version).join("org"), text);
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/org", at("org")).unwrap();
        let watched = Watched::start(mounted(folder.path())).await;
        assert_eq!(watched.bearer(), "Bearer first");
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        watched.soon().await;
        assert_eq!(watched.bearer(), "Bearer second");
        watched.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_value_outlives_every_error_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first");
        let watched = Watched::start(file(&path, OnMissing::Fail)).await;
        let credential = watched.credential();
        let bad: [&dyn Fn(); 3] =
            [&|| write(&path, "two words"), &|| fs::remove_file(&path).unwrap(), &|| {
                write(&path, "second");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            }];
        for make_bad in bad {
            make_bad();
            watched.soon().await;
            assert_eq!(watched.bearer(), "Bearer first");
            assert!(matches!(credential.state(), State::Stale { .. }));
        }
        let State::Stale { since, .. } = credential.state() else { panic!() };
        assert!(since.elapsed() > Duration::from_secs(12), "the trouble is one");
        assert!(credential.age().unwrap() >= Duration::from_secs(18));
        write(&path, "first");
        watched.soon().await;
        assert!(matches!(credential.state(), State::Ready { .. }));
        assert!(credential.age().unwrap() >= Duration::from_secs(24), "it is the same value");
        watched.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_unchanged_secret_keeps_its_bytes_and_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first");
        let watched = Watched::start(file(&path, OnMissing::Fail)).await;
        let before = watched.credential().bearer().unwrap();
        write(&path, "Bearer first\n");
        watched.soon().await;
        assert_eq!(watched.credential().bearer().unwrap(), before);
        assert!(watched.credential().age().unwrap() >= Duration::from_secs(6));
        watched.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_degraded_credential_is_missing_until_it_appears() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let watched = Watched::start(file(&path, OnMissing::Degrade)).await;
        let credential = watched.credential();
        assert_eq!(credential.bearer(), Err(Unavailable { credential: CredentialId::new("org") }));
        assert!(matches!(credential.state(), State::Missing { .. }));
        assert_eq!((credential.age(), credential.looks_like_omni()), (None, None));
        write(&path, "first");
        watched.soon().await;
        assert_eq!(watched.bearer(), "Bearer first");
        watched.stop().await;
    }

    #[tokio::test]
    async fn a_start_names_every_credential_that_it_cannot_have() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, gone) = (folder.path().join("empty"), folder.path().join("gone"));
        write(&empty, "\n");
        let bad_name = Source::Env { name: "A=B".to_owned() };
        let settings = vec![
            CredentialSettings { id: CredentialId::new("a"), ..file(&empty, OnMissing::Fail) },
            CredentialSettings { id: CredentialId::new("b"), ..file(&gone, OnMissing::Fail) },
            CredentialSettings {
                id: CredentialId::new("c"),
                source: bad_name,
                ..file(&gone, OnMissing::Degrade)
            },
        ];
        let errors = Credentials::open(settings).await.unwrap_err();
        let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let expected = [
            format!("credential `a`: {} holds no token: it is empty", empty.display()),
            format!("credential `b`: {} is not there", gone.display()),
        ];
        assert_eq!(said[..2], expected);
        assert!(
            said[2]
                .starts_with("credential `c`: the name given for the secret is not a plain name")
        );
    }

    #[tokio::test]
    async fn a_refresh_by_hand_says_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first");
        let all = Credentials::open(vec![file(&path, OnMissing::Fail)]).await.unwrap();
        assert!(all.refresh_now().await.is_empty());
        write(&path, "second");
        assert!(matches!(all.refresh_now().await[..], [Change::Refreshed(_)]));
        fs::remove_file(&path).unwrap();
        assert!(matches!(all.refresh_now().await[..], [Change::Failed(..)]));
        assert!(all.refresh_now().await.is_empty(), "trouble is news once");
        write(&path, "second");
        assert!(matches!(all.refresh_now().await[..], [Change::Recovered(_)]));
    }

    #[tokio::test]
    async fn no_type_and_no_error_shows_anything_of_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut said = Vec::new();
        for secret in
            ["zqsecretzq", "zqsecretzq zq", "\"zqsecretzq\"", "zqsecretzqé", "zq\nsecretzq"]
        {
            write(&path, secret);
            let token = Token::parse(secret.as_bytes());
            let error = token.as_ref().err().map(BadToken::to_string);
            said.push(format!("{token:?} {error:?}"));
            match Credentials::open(vec![file(&path, OnMissing::Fail)]).await {
                Ok(all) => {
                    let one = all.get(&CredentialId::new("org")).unwrap();
                    said.push(format!("{all:?} {one:#?} {:?} {:?}", one.state(), one.bearer()));
                    write(&path, "zq secret");
                    said.push(format!("{:?} {:?}", all.refresh_now().await, one.state()));
                }
                Err(errors) => said.push(format!("{errors:?} {}", errors[0])),
            }
        }
        for name in ["zqsecretzq!", "omni_osk_zqsecretzq"] {
            for source in [
                Source::Env { name: name.to_owned() },
                Source::Dir { path: folder.path().to_owned(), name: name.to_owned() },
            ] {
                let settings = CredentialSettings { source, ..file(&path, OnMissing::Fail) };
                let errors = Credentials::open(vec![settings]).await.unwrap_err();
                said.push(format!("{errors:?} {}", errors[0]));
            }
        }
        for text in said {
            assert!(!text.contains("zqsecret") && !text.contains("secretzq"), "{text}");
        }
    }
}
