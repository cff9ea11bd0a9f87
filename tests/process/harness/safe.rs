//! Every kind of place that a secret is kept in, and everything that can be wrong with it.

mod age;
mod files;
mod program;
mod server;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::harness::replace;

pub(crate) use program::{install, quick};
pub(crate) use server::Method;

/// A place for one secret, which is there and good.
pub(crate) struct Safe {
    pub(crate) name: String,
    /// Lines of `[vault]` and of `[credentials.org]`.
    pub(crate) lines: [String; 2],
    /// What every error names.
    pub(crate) place: String,
    mend: Box<dyn Fn(&str)>,
    pub(crate) harms: Vec<Harm>,
    /// All secrets that were ever in it, and those that lead to them.
    planted: Planted,
    folder: TempDir,
}

/// Something that is wrong with it.
pub(crate) struct Harm {
    pub(crate) does: Box<dyn Fn()>,
    pub(crate) at_start: Start,
    /// What is said of it while the gateway runs, and where nothing else is said at the start.
    pub(crate) says: &'static str,
}

/// Who notices at the start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Whoever reads the config, and says this.
    Config(&'static str),
    /// Whoever reads the secret.
    Credential,
    /// The same, and a gateway that runs does not notice it so soon: it is logged in already.
    CredentialAlone,
}

/// Secrets that must show nowhere.
#[derive(Clone, Default)]
pub(crate) struct Planted(Arc<Mutex<Vec<String>>>);

impl Planted {
    pub(crate) fn plant(&self, secret: &str) {
        let mut all = self.0.lock().unwrap();
        if !all.iter().any(|planted| planted == secret) {
            all.push(secret.to_owned());
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Safe {
    /// One of each kind, with this secret in it. Must be called in a runtime: a Vault server is one
    /// of them.
    pub(crate) async fn each(secret: &str) -> Vec<Self> {
        let mut all = vec![
            Self::of(files::dir, secret),
            Self::of(files::file, secret),
            Self::of(age::age, secret),
            Self::of(program::exec, secret),
        ];
        for method in [Method::AppRole, Method::Wrapped, Method::Kubernetes, Method::Token] {
            all.push(Self::server(method, secret).await);
        }
        all
    }

    /// A program that prints what a file says.
    pub(crate) fn exec(secret: &str) -> Self {
        Self::of(program::exec, secret)
    }

    /// A Vault server.
    pub(crate) async fn server(method: Method, secret: &str) -> Self {
        let address = server::Address::open().await;
        Self::of(move |folder, planted| server::server(method, address, folder, planted), secret)
    }

    fn of(build: impl FnOnce(PathBuf, Planted) -> Parts, secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let planted = Planted::default();
        let Parts { name, lines, place, mend, harms } =
            build(folder.path().join("safe"), planted.clone());
        let safe = Self { name, lines, place, mend, harms, planted, folder };
        safe.mend(secret);
        safe
    }

    /// Puts this secret there, and everything in order.
    pub(crate) fn mend(&self, secret: &str) {
        self.planted.plant(secret);
        let folder = self.folder.path().join("safe");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        (self.mend)(secret);
    }

    /// What is wrong with it that a gateway notices while it runs.
    pub(crate) fn harms_while_it_runs(&self) -> impl Iterator<Item = &Harm> {
        self.harms.iter().filter(|harm| harm.at_start != Start::CredentialAlone)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("safe").join(name)
    }

    pub(crate) fn planted(&self) -> Vec<String> {
        self.planted.all()
    }

    /// The same lines, for a start that does not need the secret.
    pub(crate) fn degraded(&self) -> [String; 2] {
        let [vault, org] = self.lines.clone();
        [vault, format!("{org}\non_missing = \"degrade\"")]
    }
}

/// What a kind of place is made of.
struct Parts {
    name: String,
    lines: [String; 2],
    place: String,
    mend: Box<dyn Fn(&str)>,
    harms: Vec<Harm>,
}

/// A harm that whoever reads the secret notices first.
fn harm(says: &'static str, does: impl Fn() + 'static) -> Harm {
    Harm { does: Box::new(does), at_start: Start::Credential, says }
}

/// A harm that a start notices when it reads the config, and says so.
fn early(at_start: &'static str, says: &'static str, does: impl Fn() + 'static) -> Harm {
    Harm { does: Box::new(does), at_start: Start::Config(at_start), says }
}

/// A harm that only a start notices at once.
fn first(says: &'static str, does: impl Fn() + 'static) -> Harm {
    Harm { does: Box::new(does), at_start: Start::CredentialAlone, says }
}

/// What can be wrong with any file.
fn harms_of_a_file(path: &Path) -> Vec<Harm> {
    let at = || path.to_owned();
    let (gone, linked, piped) = (at(), at(), at());
    vec![
        early("file of credential `org` is missing", "is not there", move || {
            fs::remove_file(&gone).unwrap()
        }),
        early("file of credential `org` cannot be looked at", "cannot be read", move || {
            fs::remove_file(&linked).unwrap();
            symlink(&linked, &linked).unwrap();
        }),
        // Whoever opens it to read waits for somebody who writes.
        early("file of credential `org` is no file", "is not a regular file", move || {
            fs::remove_file(&piped).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &piped, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
    ]
}

fn exposed(path: &Path) -> Harm {
    let path = path.to_owned();
    early("file of credential `org` can be read by others", "may be read by others", move || {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    })
}

fn write(path: &Path, text: &str) {
    replace(path, text.as_bytes());
}
