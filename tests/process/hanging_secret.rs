//! Programs that print secrets, as children of the process: one that hangs, and what one inherits.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use tokio::time::{Instant, timeout};

use crate::harness::{House, Plan, SECOND};

/// Adds a credential whose secret is what a script prints.
fn add_program(house: &House, script: &str) {
    let folder = house.config().parent().unwrap().to_owned();
    let program = folder.join("program");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let text = std::fs::read_to_string(house.config()).unwrap();
    let program = program.display();
    let vault = format!("[vault]\nallow_exec = [\"{program}\"]\n");
    let more = format!(
        "
        [vault.providers.tool]
        backend = \"exec\"
        command = [\"{program}\"]
        [credentials.printed]
        kind = \"organization\"
        secret = {{ provider = \"tool\", name = \"printed\" }}
        "
    );
    std::fs::write(house.config(), text.replacen("[vault]\n", &vault, 1) + &more).unwrap();
}

fn wait_for(path: &Path) -> impl AsyncFnMut() -> Option<()> {
    async || path.exists().then_some(())
}

#[tokio::test]
async fn a_program_that_hangs_keeps_neither_callers_nor_the_signal_to_end_waiting() {
    let house = Plan::default().build().await;
    add_program(
        &house,
        "#!/bin/sh\ncd \"${0%/*}\" || exit\n[ -e hang ] && : > hangs && sleep 60\necho omni_osk_made_up\n",
    );
    let gateway = house.start().await;
    let folder = house.config().parent().unwrap().to_owned();
    std::fs::write(folder.join("hang"), "").unwrap();
    gateway.signal(Signal::HUP);
    crate::harness::until(wait_for(&folder.join("hangs"))).await;
    let begun = Instant::now();
    let answer = timeout(2 * SECOND, gateway.get("/api/v1/labels")).await;
    println!("a call beside a program that hangs: {:?}", begun.elapsed());
    assert_eq!(answer.expect("callers wait for the program").status, 200);
    gateway.signal(Signal::TERM);
    let ended = timeout(5 * SECOND, gateway.ends()).await.expect("the end waits for the program");
    assert!(ended.status.success(), "{}", ended.said);
}

/// Everything that a child can see of us without asking.
const CURIOUS: &str = "#!/bin/sh
cd \"${0%/*}\" || exit
runs=$(cat runs 2>/dev/null || echo 0)
echo $((runs + 1)) > runs
for fd in /proc/$$/fd/*; do echo \"$fd $(readlink $fd)\"; done > seen.new
# By the shell itself: while it starts a program, it blocks all signals for a moment.
while read -r line; do case $line in Sig*) echo \"$line\";; esac; done < /proc/$$/status >> seen.new
env >> seen.new
mv seen.new seen.$runs
[ -e fails ] && exit 1
echo omni_osk_made_up
";

#[tokio::test]
async fn a_program_inherits_nothing_of_ours_and_a_hundred_that_fail_leave_no_zombie() {
    let house = Plan::default().build().await;
    add_program(&house, CURIOUS);
    let gateway = house.start().await;
    // Sockets to callers, to Omni and to the admin port are open from now on.
    let mut caller = gateway.caller().await;
    assert_eq!(caller.get("/api/v1/labels").await.status, 200);
    let folder = house.config().parent().unwrap().to_owned();
    gateway.signal(Signal::HUP);
    crate::harness::until(wait_for(&folder.join("seen.1"))).await;
    for nth in [0, 1] {
        let seen = std::fs::read_to_string(folder.join(format!("seen.{nth}"))).unwrap();
        // A shell has pipes of its own, and whoever started us may have left us some.
        let own = |line: &str| line.ends_with("/program") || line.ends_with("/seen.new");
        let ours = |line: &&str| {
            let inside = line.contains(folder.to_str().unwrap()) && !own(line);
            line.starts_with("/proc/")
                && (inside || line.contains("socket:") || line.contains("anon_inode:"))
        };
        assert!(seen.lines().filter(|line| line.starts_with("/proc/")).count() > 3, "{seen}");
        assert_eq!(seen.lines().find(ours), None, "{seen}");
        assert!(seen.contains("SigBlk:\t0000000000000000"), "{seen}");
        let variables = seen.lines().filter(|line| line.contains('=')).map(str::to_owned);
        let others: Vec<_> = variables
            .filter(|line| !line.starts_with("PWD=") && !line.starts_with("OLDPWD="))
            .collect();
        assert!(others.is_empty(), "{others:?}");
    }
    std::fs::write(folder.join("fails"), "").unwrap();
    for nth in 2..102 {
        gateway.signal(Signal::HUP);
        crate::harness::until(wait_for(&folder.join(format!("seen.{nth}")))).await;
    }
    crate::harness::until(async || children(gateway.pid()).is_empty().then_some(())).await;
}

/// The children of a process, those included that nobody has reaped.
fn children(parent: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok());
    children.filter(|line| !line.trim().is_empty()).collect()
}
