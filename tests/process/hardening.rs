//! What the process itself would give away: to a crash, a debugger, a program that it starts.

use std::fs;

use crate::harness::Plan;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_gateway_leaves_no_core_dump_and_gains_no_rights() {
    let house = Plan::default().build().await;
    let gateway = house.start().await;
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", gateway.pid())).unwrap();
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
    let status = read("status");
    let of_thread = |status: &str| status.contains("NoNewPrivs:\t1\n");
    assert!(of_thread(&status), "{status}");
    // It is a matter of each thread, and those that were started before would not have it.
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status"));
        // One that ended meanwhile starts nothing any more.
        assert!(status.as_deref().is_ok_and(of_thread) || status.is_err(), "{status:?}");
    }
}
