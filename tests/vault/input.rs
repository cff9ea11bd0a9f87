//! Values on their way in.

use crate::harness::{Folder, SECOND, Said, TOKEN, fingerprint, run};

#[test]
fn what_people_paste_becomes_one_token() {
    let folder = Folder::with_vault();
    for pasted in [
        TOKEN.to_owned(),
        format!("{TOKEN}\n"),
        format!("  {TOKEN}\r\n\n"),
        format!("Bearer {TOKEN}\n"),
        format!("bearer \t{TOKEN}"),
    ] {
        folder.ok(&["set", "org", "--stdin"], &pasted);
        assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(TOKEN))]);
        folder.ok(&["rm", "org", "--yes"], "");
    }
}

#[test]
fn what_is_no_token_is_refused_by_its_place_and_changes_nothing() {
    let folder = Folder::with_vault();
    let before = folder.read("vault.age");
    for (pasted, words) in [
        (String::new(), "it is empty"),
        ("\n \t\n".into(), "it is empty"),
        ("Bearer \n".into(), "it is empty"),
        (format!("{TOKEN}\n{SECOND}\n"), "it has a control character at byte 65"),
        (format!("\u{1b}{TOKEN}"), "it has a control character at byte 0"),
        (format!("{TOKEN}\0"), "it has a control character at byte 65"),
        (format!("\"{TOKEN}\""), "is it quoted?"),
        (format!("OMNI_API_KEY=é{TOKEN}"), "that is not ASCII at byte 13"),
        (TOKEN.repeat(100), "it is longer than 4096 bytes"),
        (TOKEN.repeat(2000), "it is longer than 4096 bytes"),
    ] {
        let said = folder.fails(&["set", "org", "--stdin"], &pasted, 1);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(folder.read("vault.age"), before);
}

#[test]
fn another_form_is_taken_with_a_warning_that_mcp_tokens_do_not_get() {
    let folder = Folder::with_vault();
    let said = folder.ok(&["set", "org", "--stdin"], "another-form");
    assert!(said.err.starts_with("warning: the value has not the form"), "{}", said.err);
    assert!(!said.err.contains("another-form") && !said.out.contains("another-form"));
    assert_eq!(folder.ok(&["set", "m", "--kind", "mcp", "--stdin"], "another-form").err, "");
    assert_eq!(folder.ok(&["set", "pat", "--stdin"], TOKEN).err, "");
}

#[test]
fn a_value_as_an_argument_is_refused_and_not_repeated() {
    let folder = Folder::with_vault();
    let assigned = format!("--value={TOKEN}");
    for args in [
        &["set", TOKEN][..],
        &["set", "org", TOKEN],
        &["set", "org", "PLANTEDanother-form"],
        &["set", "org", "--stdin", TOKEN],
        &["set", "org", "--kind", TOKEN],
        &["set", "org", &assigned],
        &["rotate", "org", TOKEN],
        &["rotate", TOKEN, "--stdin"],
        &["rm", TOKEN],
        &["export", "--to", "env", TOKEN],
        &["export", "--to", TOKEN],
        &["recipients", "add", TOKEN],
        &["recipients", TOKEN],
        &["list", TOKEN],
        &[TOKEN],
    ] {
        let said = folder.fails(args, "", 2);
        assert!(said.starts_with("error: "), "{said}");
        assert!(!said.contains("PLANTED"), "{said}");
    }
    let said = folder.fails(&["set", "org", TOKEN], "", 2);
    assert!(said.contains("revoke it") && said.contains("--stdin"), "{said}");
}

#[test]
fn a_key_in_place_of_a_path_is_refused_and_not_repeated() {
    let folder = Folder::with_vault();
    // Whatever is said, the harness sees to it that no key is shown.
    for option in ["-c", "--vault", "--identity"] {
        let said = folder.fails(&[option, TOKEN, "list"], "", 2);
        assert!(said.contains("never given as an argument"), "{said}");
    }
}

#[test]
fn the_config_that_is_made_is_not_for_others_to_write() {
    let folder = Folder::new();
    let made = "umask 000; exec \"$0\" vault init";
    let program = env!("CARGO_BIN_EXE_omnigate");
    let said = Said::of(&run(folder.command("sh").args(["-c", made, program]), b""));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(folder.mode("omnigate.toml"), 0o644);
    assert_eq!((folder.mode("vault.age"), folder.mode("identity.txt")), (0o600, 0o600));
}

#[test]
fn other_mistakes_in_a_command_are_told_as_ever() {
    let folder = Folder::new();
    let said = folder.fails(&["lsit"], "", 2);
    assert!(said.contains("'lsit'"), "{said}");
    let said = folder.fails(&["rm", "a b", "--yes"], "", 2);
    assert!(said.contains("that is no name for a secret"), "{said}");
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let folder = Folder::with_vault();
    let said = folder.fails(&["set", "org"], TOKEN, 2);
    assert!(said.contains("say --stdin"), "{said}");
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let said = folder.fails(&["rotate", "org"], SECOND, 2);
    assert!(said.contains("say --stdin"), "{said}");
    let said = folder.fails(&["rm", "org"], "yes\n", 2);
    assert!(said.contains("say --yes"), "{said}");
    assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(TOKEN))]);
}

#[test]
fn a_value_that_is_there_already_is_told_and_the_kind_may_change_alone() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let before = folder.read("vault.age");
    let said = folder.ok(&["set", "org", "--stdin"], format!("Bearer {TOKEN}\n"));
    assert!(said.out.contains("has this value already; nothing was changed"), "{}", said.out);
    assert_eq!(folder.read("vault.age"), before);
    let said = folder.ok(&["set", "org", "--kind", "personal", "--stdin"], TOKEN);
    assert!(said.out.contains("another kind"), "{}", said.out);
    let said = folder.ok(&["set", "org", "--stdin"], SECOND);
    assert!(said.out.contains("(personal, "), "the kind is the one from before: {}", said.out);
}

#[test]
fn a_rotation_needs_a_secret_that_is_there_and_a_value_that_is_new() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let said = folder.fails(&["rotate", "ogr", "--stdin"], SECOND, 1);
    assert!(said.contains("has no secret `ogr`; it has org"), "{said}");
    let said = folder.fails(&["rotate", "org", "--stdin", "--untried"], TOKEN, 1);
    assert!(said.contains("this is the value that `org` has"), "{said}");
    let said = folder.ok(&["rotate", "org", "--stdin", "--untried"], SECOND).out;
    assert!(said.contains("within 5 s") && said.contains("revoke the old key in Omni"), "{said}");
    assert!(said.contains(&fingerprint(TOKEN)), "the old one can be told from the new: {said}");
    assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(SECOND))]);
}

#[test]
fn a_list_tells_all_but_the_values() {
    let folder = Folder::with_vault();
    assert!(folder.ok(&["list"], "").out.contains("vault.age is empty"));
    assert_eq!(folder.ok(&["list", "--json"], "").out, "[]\n");
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    folder.ok(&["set", "my-pat", "--kind", "personal", "--stdin"], SECOND);
    let said = folder.ok(&["list"], "").out;
    let lines: Vec<Vec<_>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["name", "kind", "age", "sha256"]);
    assert_eq!((lines[1][0], lines[1][1]), ("my-pat", "personal"));
    assert_eq!(lines[1].last(), Some(&&*fingerprint(SECOND)));
    assert_eq!((lines[2][0], lines[2][1]), ("org", "organization"));
    let said = folder.ok(&["list", "--json"], "").out;
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(list[1]["kind"], "organization");
    assert!(list[1]["age_seconds"].as_u64().unwrap() < 60);
    assert!(list[1]["set_at"].as_str().unwrap().ends_with('Z'));
}
