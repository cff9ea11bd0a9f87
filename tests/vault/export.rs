//! Secrets on their way out, which is the one way on which they are seen.

use crate::harness::{Folder, SECOND, Said, TOKEN, base64, run};

fn filled() -> Folder {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    folder.ok(&["set", "my-pat", "--kind", "personal", "--stdin"], SECOND);
    folder
}

/// Runs it without looking for secrets in what it says.
fn export(folder: &Folder, args: &[&str]) -> Said {
    Said::of(&run(folder.omnigate().args(["vault", "export"]).args(args), b""))
}

#[test]
fn a_folder_gets_a_file_for_each_secret() {
    let folder = filled();
    let said = folder.ok(&["export", "--to", "dir", "--out", "keys"], "");
    assert_eq!(said.err, "2 files in keys, for its owner alone\n");
    assert_eq!(folder.mode("keys"), 0o700);
    for (name, token) in [("keys/org", TOKEN), ("keys/my-pat", SECOND)] {
        assert_eq!((folder.read(name), folder.mode(name)), (token.to_owned(), 0o600));
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let folder = filled();
    std::fs::create_dir(folder.path("keys")).unwrap();
    folder.write("keys/org", "mine");
    folder.write("env", "mine");
    let said = folder.fails(&["export", "--to", "dir", "--out", "keys"], "", 1);
    assert!(said.contains("chmod 700 keys"), "{said}");
    std::fs::set_permissions(
        folder.path("keys"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let said = folder.fails(&["export", "--to", "dir", "--out", "keys"], "", 1);
    assert!(said.contains("keys/org is there already"), "{said}");
    assert!(!folder.path("keys/my-pat").exists(), "all or nothing");
    folder.fails(&["export", "--to", "env", "--out", "env"], "", 1);
    assert_eq!((folder.read("keys/org"), folder.read("env")), ("mine".into(), "mine".into()));
    folder.ok(&["export", "--to", "dir", "--out", "keys", "--force"], "");
    folder.ok(&["export", "--to", "env", "--out", "env", "--force"], "");
    assert_eq!((folder.read("keys/org"), folder.mode("keys/org")), (TOKEN.into(), 0o600));
    assert_eq!(folder.read("env"), format!("my_pat={SECOND}\norg={TOKEN}\n"));
    assert_eq!(folder.mode("env"), 0o600);
}

#[test]
fn standard_output_gets_only_what_was_asked_for() {
    let folder = filled();
    let said = export(&folder, &["--to", "env", "org"]);
    assert_eq!((said.out, said.err), (format!("org={TOKEN}\n"), String::new()));
    let said = folder.fails(&["export", "--to", "env", "ogr"], "", 1);
    assert!(said.contains("has no secret `ogr`; it has org, my-pat"), "{said}");
    let said = folder.fails(&["export", "--to", "dir"], "", 2);
    assert!(said.contains("--out FOLDER"), "{said}");
}

#[test]
fn a_manifest_holds_the_secret_in_base64() {
    let said = export(&filled(), &["--to", "k8s-secret", "org"]);
    let (head, rest) = TOKEN.as_bytes().split_at(63);
    assert_eq!(rest.len(), 2);
    let line = format!("  \"org\": \"{}", base64(head));
    assert!(said.out.contains("\ntype: Opaque\ndata:\n"), "{}", said.out);
    let data = said.out.lines().last().unwrap();
    assert!(data.starts_with(&line) && data.ends_with("=\"") && data.len() == line.len() + 5);
}
