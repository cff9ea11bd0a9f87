//! The same file for us and for the `age` of others.

use crate::harness::{Folder, SECOND, TOKEN, fingerprint, make_private};

#[test]
fn what_we_write_opens_with_age() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    assert!(folder.read("vault.age").starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    let inside = folder.opened_by_age("vault.age", "identity.txt").unwrap();
    let inside: toml::Table = inside.parse().unwrap();
    let org = &inside["secrets"]["org"];
    assert_eq!(org["value"].as_str(), Some(TOKEN));
    assert_eq!(org["kind"].as_str(), Some("organization"));
    assert!(org["set_at"].as_str().unwrap().starts_with("20"));
}

#[test]
fn what_age_writes_opens_here_and_can_be_changed() {
    for (armor, text) in [
        (true, format!("[secrets.org]\nvalue = \"{TOKEN}\"\n")),
        (false, format!("[secrets.org]\nkind = \"personal\"\nvalue = \"{TOKEN}\"\n")),
        (true, format!("org = \"{TOKEN}\"\n")),
    ] {
        let folder = Folder::new();
        let public = folder.keygen("identity.txt");
        let args = ["-r", &public, "-o", "vault.age", "-a"];
        let made = folder.age(&args[..if armor { 5 } else { 4 }], text);
        assert!(made.status.success());
        assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(TOKEN))]);
        let said = folder.ok(&["set", "pat", "--kind", "personal", "--stdin"], SECOND);
        assert_eq!(said.err, "", "nobody is left out");
        let both = [("org".into(), fingerprint(TOKEN)), ("pat".into(), fingerprint(SECOND))];
        assert_eq!(folder.fingerprints(&[]), both);
        let inside = folder.opened_by_age("vault.age", "identity.txt").unwrap();
        assert!(inside.contains(TOKEN) && inside.contains(SECOND));
    }
}

#[test]
fn an_identity_of_age_keygen_is_used_by_init() {
    let folder = Folder::new();
    let public = folder.keygen("identity.txt");
    let said = folder.ok(&["init"], "");
    assert!(said.out.contains(&format!("identity.txt: was there, and is used: {public}")));
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    assert!(folder.opened_by_age("vault.age", "identity.txt").is_some());
}

#[test]
fn an_identity_of_ours_is_one_for_age_keygen() {
    let folder = Folder::with_vault();
    let public = folder.ok(&["recipients"], "").out;
    let output = folder.command("age-keygen").args(["-y", "identity.txt"]).output().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(public, format!("{}  (yours)\n", theirs.trim()));
    let file = folder.read("identity.txt");
    assert!(file.contains(&format!("\n# public key: {theirs}")));
}

#[test]
fn recipients_can_open_it_from_the_moment_that_they_are_in_until_they_are_out() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let theirs = folder.keygen("theirs.txt");
    assert!(folder.opened_by_age("vault.age", "theirs.txt").is_none());
    folder.ok(&["recipients", "add", &theirs], "");
    assert!(folder.opened_by_age("vault.age", "theirs.txt").unwrap().contains(TOKEN));
    folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND);
    assert!(folder.opened_by_age("vault.age", "theirs.txt").unwrap().contains(SECOND));
    let listed = folder.ok(&["recipients"], "").out;
    assert_eq!(listed.lines().count(), 2);
    assert!(listed.ends_with(&format!("{theirs}\n")), "{listed}");
    let said = folder.ok(&["recipients", "rm", &theirs], "");
    assert!(said.out.contains("rotate every secret"), "{}", said.out);
    assert!(folder.opened_by_age("vault.age", "theirs.txt").is_none());
    assert!(folder.opened_by_age("vault.age", "identity.txt").is_some());
}

#[test]
fn a_file_that_does_not_say_who_can_open_it_becomes_ours_alone_and_we_say_so() {
    let folder = Folder::new();
    let (ours, theirs) = (folder.keygen("identity.txt"), folder.keygen("theirs.txt"));
    let args = ["-a", "-r", &ours, "-r", &theirs, "-o", "vault.age"];
    assert!(folder.age(&args, format!("org = \"{TOKEN}\"")).status.success());
    let said = folder.ok(&["recipients"], "");
    assert_eq!(said.out, format!("{ours}  (yours)\n"));
    assert!(said.err.contains("1 more can open it"), "{}", said.err);
    let said = folder.ok(&["set", "pat", "--stdin"], SECOND);
    assert!(said.err.contains("1 more could open the vault until now"), "{}", said.err);
    assert!(folder.opened_by_age("vault.age", "theirs.txt").is_none());
    assert_eq!(folder.ok(&["set", "third", "--stdin"], TOKEN).err, "");
}

#[test]
fn the_last_recipient_stays_and_ours_goes_only_when_told_twice() {
    let folder = Folder::with_vault();
    let ours = folder.ok(&["recipients"], "").out.split(' ').next().unwrap().to_owned();
    let said = folder.fails(&["recipients", "rm", &ours, "--yes"], "", 1);
    assert!(said.contains("last recipient"), "{said}");
    let theirs = folder.keygen("theirs.txt");
    let said = folder.fails(&["recipients", "rm", &theirs], "", 1);
    assert!(said.contains("is not among the recipients"), "{said}");
    folder.ok(&["recipients", "add", &theirs], "");
    let said = folder.fails(&["recipients", "rm", &ours], "", 1);
    assert!(said.contains("say --yes"), "{said}");
    folder.ok(&["recipients", "rm", &ours, "--yes"], "");
    let said = folder.fails(&["list"], "", 78);
    assert!(said.contains("identity.txt does not open vault.age"), "{said}");
    folder.ok(&["list", "--identity", "theirs.txt"], "");
}

#[test]
fn what_is_no_recipient_is_refused() {
    let folder = Folder::with_vault();
    let said = folder.fails(&["recipients", "add", "age1nonsense"], "", 2);
    assert!(said.contains("this is no age recipient"), "{said}");
}

#[test]
fn a_wrong_identity_is_told_by_both_files() {
    let folder = Folder::with_vault();
    folder.keygen("other.txt");
    let said = folder.fails(&["list", "--identity", "other.txt"], "", 78);
    assert!(said.contains("other.txt does not open vault.age"), "{said}");
}

#[test]
fn what_is_damaged_or_something_else_is_told_as_what_it_is() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let good = folder.read("vault.age");
    let half = &good[..good.len() / 2];
    for (content, words) in [
        (half, "vault.age is damaged"),
        ("", "vault.age is not an age file"),
        ("org = \"omni_osk_PLANTED0q7Zk3mT9xW2b\"", "vault.age is not an age file"),
        ("age-encryption.org/v9\nx", "vault.age is"),
        (&"x".repeat(1024 * 1024 + 1), "vault.age is larger than 1 MiB"),
    ] {
        folder.write("vault.age", content);
        let said = folder.fails(&["list"], "", 78);
        assert!(said.contains(words), "{said}");
        // Nothing is written over what cannot be read.
        folder.fails(&["set", "pat", "--stdin"], SECOND, 78);
        assert_eq!(folder.read("vault.age"), content);
    }
    folder.write("vault.age", &good);
    folder.ok(&["list"], "");
}

#[test]
fn wrong_text_inside_is_told_by_its_place_alone() {
    let folder = Folder::new();
    let public = folder.keygen("identity.txt");
    for (text, words) in [
        (format!("[secrets.org]\nvalue = {TOKEN}\n"), "is not TOML at line 2, column 9"),
        (format!("[secrets.org]\n{TOKEN} = \"value\"\n"), "at line 2, column 1"),
        (format!("[secrets.org]\nkind = \"{TOKEN}\"\nvalue = \"x\"\n"), "at line 2, column 8"),
        (format!("{TOKEN} = \"org\"\n"), "at line 1, column 1"),
        (format!("[secrets.{TOKEN}]\nvalue = \"org\"\n"), "at line 1, column 10"),
    ] {
        assert!(folder.age(&["-r", &public, "-o", "vault.age"], &text).status.success());
        let said = folder.fails(&["list"], "", 78);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_identity_that_others_may_read_is_refused_and_so_is_one_without_a_key() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::with_vault();
    let path = folder.path("identity.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let said = folder.fails(&["list"], "", 78);
    assert!(said.contains("chmod 600"), "{said}");
    folder.write("identity.txt", "# nothing\n");
    make_private(&path);
    let said = folder.fails(&["list"], "", 78);
    assert!(said.contains("identity.txt holds no key"), "{said}");
    std::fs::remove_file(&path).unwrap();
    let said = folder.fails(&["list"], "", 78);
    assert!(said.contains("identity.txt is not there; `omnigate vault init`"), "{said}");
}
