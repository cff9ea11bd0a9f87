//! A vault file.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use omnigate::credential::age::{Edit, SecretName, Vault};
use omnigate::credential::{AgeSettings, Kind, Token};

use super::{Harm, Parts, Planted, exposed, harm, harms_of_a_file, write};

pub(super) fn age(folder: PathBuf, planted: Planted) -> Parts {
    let (path, identity) = (folder.join("vault.age"), folder.join("identity.txt"));
    let settings = AgeSettings { path, identity };
    let vault = format!(
        "backend = \"age\"\npath = \"{}\"\nidentity = \"{}\"",
        settings.path.display(),
        settings.identity.display()
    );
    let harms = harms(&settings);
    let mend = move |secret: &str| {
        Vault::create(&settings).unwrap();
        let text = fs::read_to_string(&settings.identity).unwrap();
        let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1"));
        planted.plant(line.unwrap());
        planted.plant(&line.unwrap().to_lowercase());
        edit(&settings, |vault| {
            let token = Token::parse(secret.as_bytes()).unwrap();
            vault.set(&org(), &token, Kind::Organization);
        });
    };
    Parts {
        name: "age".to_owned(),
        lines: [vault, "secret = \"org\"".to_owned()],
        // Either of its two files.
        place: folder.display().to_string(),
        mend: Box::new(mend),
        harms,
    }
}

fn org() -> SecretName {
    SecretName::parse("org").unwrap()
}

fn edit(settings: &AgeSettings, change: impl FnOnce(&mut Vault)) {
    let mut edit = Edit::begin(settings).unwrap();
    change(&mut edit.vault);
    edit.save().unwrap();
}

/// Puts a text into the vault, as somebody does by hand with `age`.
fn put(settings: &AgeSettings, text: &str) {
    let recipient = Vault::open(settings).unwrap().recipients()[0].0.to_string();
    let plain = settings.path.with_extension("plain");
    write(&plain, text);
    let mut age = Command::new("age");
    age.args(["-a", "-r", &recipient, "-o"]).args([&settings.path, &plain]);
    let made = age.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(made.expect("age is missing: install the package age").success());
}

/// The value that is in it.
fn value(settings: &AgeSettings) -> String {
    let mut age = Command::new("age");
    let opened = age.arg("-d").arg("-i").args([&settings.identity, &settings.path]).output();
    let text = String::from_utf8(opened.unwrap().stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("value = \""));
    line.unwrap().trim_end_matches('"').to_owned()
}

fn harms(settings: &AgeSettings) -> Vec<Harm> {
    let of = |does: fn(&AgeSettings)| {
        let settings = settings.clone();
        move || does(&settings)
    };
    let mut harms = harms_of_a_file(&settings.path);
    harms.extend(harms_of_a_file(&settings.identity));
    harms.extend([
        exposed(&settings.identity),
        harm(
            "it was made for other recipients",
            of(|it| {
                let others = it.path.with_file_name("others.txt");
                let vault = it.path.with_file_name("others.age");
                Vault::create(&AgeSettings { path: vault, identity: others.clone() }).unwrap();
                fs::rename(others, &it.identity).unwrap();
            }),
        ),
        harm("holds no key", of(|it| write(&it.identity, "# nothing\n"))),
        harm(
            "line 2 of",
            of(|it| {
                let key = fs::read_to_string(&it.identity).unwrap();
                let line = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
                write(&it.identity, &format!("# bent\n{}x\n", &line[..line.len() - 2]));
            }),
        ),
        harm(
            "is damaged",
            of(|it| {
                let text = fs::read_to_string(&it.path).unwrap();
                write(&it.path, &text[..text.len() / 2]);
            }),
        ),
        harm("is not an age file", of(|it| write(&it.path, ""))),
        harm("is not an age file", of(|it| write(&it.path, &value(it)))),
        harm("has no secret `org`", of(|it| edit(it, |vault| vault.remove(&org()).unwrap()))),
        harm("is not TOML at line 1", of(|it| put(it, &format!("org = {}", value(it))))),
        harm(
            "does not belong there at line 2",
            of(|it| put(it, &format!("[secrets.org]\nkind = \"{}\"\nvalue = \"x\"", value(it)))),
        ),
        harm(
            "holds no token: it has a blank",
            of(|it| {
                let value = value(it);
                put(it, &format!("org = \"{value} {value}\""));
            }),
        ),
    ]);
    harms
}
