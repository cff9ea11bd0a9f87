//! The program: started, spoken to and ended as without us.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::harness::{PROGRAM, StandIn, Start, key};

#[tokio::test]
async fn the_programs_exit_code_is_ours() {
    let gateway = StandIn::start().await;
    for code in [0, 1, 77, 255] {
        let ended = Start::script(gateway.address, &format!("exit {code}")).run().await;
        assert_eq!(ended.code(), Some(code), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_program_that_a_signal_ends_ends_us_by_the_same() {
    let gateway = StandIn::start().await;
    for signal in [Signal::TERM, Signal::KILL, Signal::SEGV, Signal::INT, Signal::PIPE] {
        let number = signal.as_raw();
        let ended = Start::script(gateway.address, &format!("kill -{number} $$")).run().await;
        assert_eq!(ended.status.signal(), Some(number), "{ended:?}");
        assert!(!ended.status.core_dumped(), "our memory was written to a disk");
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_said_as_shells_do() {
    let gateway = StandIn::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for (program, code, says) in [
        ("no-such-program".to_owned(), 127, "no program `no-such-program` on the PATH"),
        ("./no-such-file".to_owned(), 127, "there is no program ./no-such-file"),
        (file("plain", "#!/bin/sh\n", 0o644), 126, "chmod +x"),
        (file("text", "echo", 0o755), 126, "as in `sh "),
        (file("lost", "#!/no/such/interpreter\n", 0o755), 127, "interpreter"),
    ] {
        let via = format!("http://{}", gateway.address);
        let ended = Start::new(&["--via", &via, "--", &program]).run().await;
        assert_eq!(ended.code(), Some(code), "{program}: {}", ended.err);
        assert!(ended.err.contains(says), "{program}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_signal_that_is_sent_to_us_is_meant_for_the_program() {
    let gateway = StandIn::start().await;
    for (signal, name) in
        [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")]
    {
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo ready; read line; exit 6");
        let mut exec = Start::script(gateway.address, &script).spawn();
        assert_eq!(exec.line().await, "ready");
        exec.signal(signal);
        assert_eq!(exec.line().await, format!("got {name}"));
        let ended = exec.ends().await;
        assert_eq!(ended.code(), Some(5), "{}", ended.err);
    }
}

#[tokio::test]
async fn we_stay_until_a_program_that_ignores_signals_has_ended() {
    let gateway = StandIn::start().await;
    let mut exec =
        Start::script(gateway.address, "trap '' TERM; echo ready; read line; echo $line; exit 3")
            .spawn();
    assert_eq!(exec.line().await, "ready");
    exec.signal(Signal::TERM);
    exec.signal(Signal::TERM);
    exec.say("still here\n").await;
    assert_eq!(exec.line().await, "still here");
    assert_eq!(exec.ends().await.code(), Some(3));
}

#[tokio::test]
async fn what_was_ignored_before_us_is_ignored_in_the_program() {
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let script = "trap '' HUP INT; exec \"$@\"";
    let inner = "kill -HUP $$; kill -INT $$; echo alive; exec grep SigBlk /proc/self/status";
    let arguments = ["-c", script, "sh", PROGRAM, "exec", "--via", &via, "--", "sh", "-c", inner];
    let ended = Start::by("sh", &arguments).run().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    assert_eq!(ended.out, "alive\nSigBlk:\t0000000000000000\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_group_and_a_session_from_outside_of_our_pid_namespace_do_no_harm() {
    let fork = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    // Containers often may not make one.
    let may = std::process::Command::new("unshare").args(fork).arg("true").output();
    if !may.is_ok_and(|done| done.status.success()) {
        return;
    }
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let mut arguments = fork.to_vec();
    arguments.extend([
        PROGRAM,
        "exec",
        "--via",
        &via,
        "--",
        "sh",
        "-c",
        "cut -d' ' -f5,6 /proc/self/stat",
    ]);
    let ended = Start::by("unshare", &arguments).run().await;
    assert_eq!(ended.code(), Some(0), "{}", ended.err);
    assert_eq!(ended.out, "0 0\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn limits_mask_group_and_folder_are_as_without_us() {
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    let look = "pwd; umask; ulimit -a; grep -E 'SigBlk|SigIgn|NoNewPrivs' /proc/self/status; \
                cut -d' ' -f5 /proc/$$/stat; ls /proc/self/fd | wc -l";
    let wrap = "umask 027; ulimit -n 900; ulimit -c 0; exec \"$@\"";
    let mut with = vec!["-c", wrap, "sh", PROGRAM, "exec", "-q", "--via", &via, "--"];
    with.extend(["sh", "-c", look]);
    let with = Start::by("sh", &with).folder(folder.path()).run().await;
    let without = ["-c", wrap, "sh", "sh", "-c", look];
    let without = Start::by("sh", &without).folder(folder.path()).run().await;
    assert_eq!((with.code(), without.code()), (Some(0), Some(0)), "{}", with.err);
    assert!(with.out.contains("900") && with.out.contains("NoNewPrivs:\t0"), "{}", with.out);
    // glibc's posix_spawn, by which std starts programs, leaves its two own signals (32, 33) ignored; and
    // some of them may be so where this test itself was started.
    let of_glibc = |out: &str| {
        let line = |line: &str| match line.strip_prefix("SigIgn:\t") {
            Some(mask) => format!("{:x}", u64::from_str_radix(mask, 16).unwrap() & !(3 << 31)),
            None => line.to_owned(),
        };
        out.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(of_glibc(&with.out), of_glibc(&without.out));
}

#[tokio::test]
async fn input_and_output_are_the_programs() {
    let gateway = StandIn::start().await;
    let mut exec = Start::script(gateway.address, "cat; echo gone >&2").spawn();
    let text = "a line\nand more than a pipe holds: ".to_owned() + &"x".repeat(200_000);
    let (said, expected) = (text.clone(), text.len());
    exec.say(&said[..7]).await;
    assert_eq!(exec.reads(7).await, "a line\n");
    let mut rest = String::new();
    for piece in said.as_bytes()[7..].chunks(10_000) {
        exec.say(std::str::from_utf8(piece).unwrap()).await;
        rest.push_str(&exec.reads(piece.len()).await);
    }
    assert_eq!(rest.len() + 7, expected);
    let ended = exec.ends().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(0), ""));
    assert!(ended.err.starts_with("gone\n"), "{}", ended.err);
}

#[tokio::test]
async fn the_environment_holds_no_key() {
    let gateway = StandIn::start().await;
    let key = key().token().to_owned();
    let ended = Start::script(gateway.address, "env")
        .env("OMNI_API_KEY", &key)
        .env("OMNI_API_TOKEN", "of an older form")
        .env("OMNI_BASE_URL", "https://acme.omniapp.co")
        .env("MY_HEADER", &format!("Bearer {key}"))
        .env("OMNIGATE_TOKEN", "word")
        .env("KEPT", "kept")
        .env("HTTP_PROXY", "http://proxy:3128")
        .run()
        .await;
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(!ended.out.contains(&key) && !ended.out.contains("older form"), "{}", ended.out);
    assert!(!ended.out.contains("OMNIGATE_TOKEN") && !ended.out.contains("acme"), "{}", ended.out);
    for line in ["KEPT=kept", "OMNI_API_KEY=omnigate-adds-the-key", "NO_PROXY=127.0.0.1,localhost"]
    {
        assert!(lines.contains(&line), "{line} in {}", ended.out);
    }
    assert!(lines.iter().any(|line| line.starts_with("OMNI_BASE_URL=http://127.0.0.1:")));
    let note = "the program does not get to see your MY_HEADER, OMNIGATE_TOKEN, OMNI_API_KEY, OMNI_API_TOKEN";
    assert!(ended.err.contains(note) && !ended.err.contains(&key), "{}", ended.err);
}

/// Root reads everything, so this is about another user; who is none can only try its own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn our_own_environment_is_closed_to_the_program() {
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("omnigate");
    std::fs::copy(PROGRAM, &program).unwrap();
    let program = program.to_str().unwrap();
    let exec = [
        program,
        "exec",
        "--via",
        &via,
        "--",
        "sh",
        "-c",
        "cat /proc/$PPID/environ || echo closed",
    ];
    let start = if rustix::process::geteuid().is_root() {
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        Start::by("setpriv", &[&nobody[..], &exec[..]].concat())
    } else {
        Start::by(program, &exec[1..])
    };
    let ended = start.folder(std::path::Path::new("/")).env("OMNI_API_KEY", "planted").run().await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(0), "closed\n"), "{}", ended.err);
}

#[tokio::test]
async fn a_stderr_that_takes_nothing_does_not_disturb_the_program() {
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let script = ["-c", "exec \"$@\" 2>/dev/full", "sh", PROGRAM, "exec", "--via", &via, "--"];
    let ended = Start::by("sh", &[&script[..], &["sh", "-c", "echo ran; exit 5"][..]].concat())
        .env("OMNI_API_KEY", "said to be taken out")
        .run()
        .await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(5), "ran\n"), "{}", ended.err);
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_said_before_the_program_starts() {
    let gateway = StandIn::start().await;
    let via = format!("http://{}", gateway.address);
    let ended = Start::new(&["--via", &via, "--report", "/no/such/folder/r.json", "echo", "ran"])
        .run()
        .await;
    assert_eq!((ended.code(), ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("--report /no/such/folder/r.json"), "{}", ended.err);
}
