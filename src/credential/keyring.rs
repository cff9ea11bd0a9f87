//! All credentials of the config, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use tokio_util::sync::CancellationToken;

use crate::base::CredentialId;
use crate::net::Dial;

use super::hashicorp::Sessions;
use super::life::{Credential, OpenError};
use super::password::PasswordPlace;
use super::settings::{CredentialSettings, HashicorpSettings, Source};
use super::store::{SecretError, store_for};

/// All credentials of the config, by name.
#[derive(Debug)]
pub struct Credentials {
    all: BTreeMap<CredentialId, Arc<Credential>>,
}

impl Credentials {
    /// Reads every secret, all at once.
    ///
    /// # Errors
    /// Names every credential that cannot be had, its place and why. One that says `degrade` is kept
    /// without a value instead, unless its place can never hold one.
    pub async fn open(settings: Vec<CredentialSettings>) -> Result<Self, Vec<OpenError>> {
        Self::open_over(settings, &|_| None).await
    }

    /// The same, with `ways` to Vault servers inside this process; nothing in a config leads here.
    ///
    /// # Errors
    /// As [`Credentials::open`].
    pub async fn open_over(
        settings: Vec<CredentialSettings>,
        ways: &(dyn Fn(&HashicorpSettings) -> Option<Dial> + Sync),
    ) -> Result<Self, Vec<OpenError>> {
        Ok(Self::open_beside(settings, None, ways).await?.0)
    }

    /// The same, with the place of a `password` beside them, which is not read yet. It shares their
    /// log-ins, some of which can be made only once; the inner error is about that place alone.
    ///
    /// # Errors
    /// As [`Credentials::open`].
    pub async fn open_beside(
        settings: Vec<CredentialSettings>,
        password: Option<&Source>,
        ways: &(dyn Fn(&HashicorpSettings) -> Option<Dial> + Sync),
    ) -> Result<(Self, Option<Result<PasswordPlace, SecretError>>), Vec<OpenError>> {
        let mut sessions = Sessions::new(ways);
        let password = password.map(|source| store_for(source, &mut sessions));
        let password = password.map(|store| store.map(PasswordPlace::new));
        let with_store = |settings: CredentialSettings| {
            let store = store_for(&settings.source, &mut sessions);
            (settings, store)
        };
        let settings: Vec<_> = settings.into_iter().map(with_store).collect();
        let open =
            async |(settings, store): (CredentialSettings, Result<_, SecretError>)| match store {
                Ok(store) => Credential::open(settings, store).await,
                Err(source) => Err(OpenError { credential: settings.id, source }),
            };
        let mut all = BTreeMap::new();
        let mut errors = Vec::new();
        for result in join_all(settings.into_iter().map(open)).await {
            match result {
                Ok(one) => {
                    all.insert(one.id().clone(), Arc::new(one));
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok((Self { all }, password)) } else { Err(errors) }
    }

    /// The credential of that name.
    pub fn get(&self, id: &CredentialId) -> Option<Arc<Credential>> {
        self.all.get(id).cloned()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.all.values()
    }

    /// Looks at every place again, for operators who say so.
    ///
    /// Cancel-safe: what was not read stays as it was.
    pub async fn refresh(&self) {
        join_all(self.all.values().map(|credential| credential.refresh())).await;
    }

    /// Looks at the places that may change, files every 5 s, until `stop`; meant to be spawned.
    ///
    /// A place that hangs keeps only its own credential from being refreshed.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let watch = async |credential: &Arc<Credential>| {
            join(credential.watch(), credential.keep()).await;
        };
        stop.run_until_cancelled(join_all(self.all.values().map(watch))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::credential::{BadToken, Kind, OnMissing, State, Token, Unavailable};

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
            self.credential().bearer().unwrap().field.to_str().unwrap().to_owned()
        }

        async fn soon(&self) {
            sleep(Duration::from_secs(6)).await;
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
            format!(
                "credential `b`: {} is not there; put the secret there, or say on_missing = \"degrade\" to \
                 start without it",
                gone.display()
            ),
        ];
        assert_eq!(said[..2], expected);
        assert!(
            said[2]
                .starts_with("credential `c`: the name given for the secret is not a plain name")
        );
    }

    #[tokio::test]
    async fn a_refresh_by_hand_looks_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first");
        let all = Credentials::open(vec![file(&path, OnMissing::Fail)]).await.unwrap();
        let one = all.get(&CredentialId::new("org")).unwrap();
        let turns = one.turns();
        all.refresh().await;
        assert!(!turns.has_changed().unwrap(), "the same value is no news");
        write(&path, "second");
        all.refresh().await;
        assert!(turns.has_changed().unwrap());
        let second = one.bearer().unwrap();
        assert_eq!(second.field, "Bearer second");
        fs::remove_file(&path).unwrap();
        all.refresh().await;
        assert!(matches!(one.state(), State::Stale { .. }));
        assert_eq!(one.bearer().unwrap(), second);
    }

    #[tokio::test]
    async fn a_refresh_of_a_value_that_is_gone_already_reads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "first");
        let all = Credentials::open(vec![file(&path, OnMissing::Fail)]).await.unwrap();
        let one = all.get(&CredentialId::new("org")).unwrap();
        let first = one.bearer().unwrap().generation;
        write(&path, "second");
        let second = one.refresh_since(first).await;
        assert!(second > first);
        write(&path, "third");
        assert_eq!(one.refresh_since(first).await, second);
        assert!(one.refresh_since(second).await > second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_value_is_looked_for_although_its_place_is_not_watched() {
        let settings = CredentialSettings {
            source: Source::Env { name: "CARGO_PKG_NAME".to_owned() },
            ..file(Path::new("/"), OnMissing::Fail)
        };
        let watched = Watched::start(settings).await;
        let credential = watched.credential();
        let looked = async || credential.looks.lock().await.last;
        let before = looked().await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(looked().await, before, "a variable does not change");
        credential.judge(credential.bearer().unwrap().generation, true);
        assert!(credential.is_rejected());
        sleep(Duration::from_secs(61)).await;
        assert!(looked().await > before);
        watched.stop().await;
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
                    said.push(format!("{:?} {:?}", all.refresh().await, one.state()));
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
