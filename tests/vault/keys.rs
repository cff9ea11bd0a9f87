//! A new identity.

use crate::harness::{Folder, TOKEN, fingerprint};

#[test]
fn a_rekey_keeps_the_secrets_and_the_others_and_puts_the_old_identity_aside() {
    let folder = Folder::with_vault();
    folder.ok(&["set", "org", "--stdin"], TOKEN);
    let theirs = folder.keygen("theirs.txt");
    folder.ok(&["recipients", "add", &theirs], "");
    let before = folder.read("identity.txt");
    let said = folder.ok(&["rekey"], "").out;
    assert!(said.contains("One other can open it as before"), "{said}");
    assert_eq!(folder.read("identity.txt.old"), before);
    assert_eq!((folder.mode("identity.txt"), folder.mode("identity.txt.old")), (0o600, 0o600));
    assert_eq!(folder.fingerprints(&[]), [("org".into(), fingerprint(TOKEN))]);
    for (identity, opens) in
        [("identity.txt", true), ("theirs.txt", true), ("identity.txt.old", false)]
    {
        assert_eq!(folder.opened_by_age("vault.age", identity).is_some(), opens, "{identity}");
    }
    let said = folder.fails(&["rekey"], "", 1);
    assert!(said.contains("omnigate vault rekey --forget"), "{said}");
    folder.ok(&["rekey", "--forget"], "");
    assert!(!folder.path("identity.txt.old").exists());
    assert!(folder.ok(&["rekey", "--forget"], "").out.contains("nothing was changed"));
}
