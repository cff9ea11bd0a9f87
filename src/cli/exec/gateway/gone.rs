//! Waiting for another process to be gone.

use std::time::Duration;

/// How often it is looked for where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until this process has ended, its locks and sockets with it; at once where there is none.
///
/// Cancel-safe.
#[cfg(target_os = "linux")]
pub(super) async fn gone(pid: u32) {
    use rustix::process::{PidfdFlags, pidfd_open};
    use tokio::io::unix::AsyncFd;
    let Some(pid) = known(pid) else { return };
    #[expect(deprecated, reason = "it owns what it registers; what replaces it is `unsafe`")]
    let open = |process| AsyncFd::new(process);
    match pidfd_open(pid, PidfdFlags::empty()).map(open) {
        Ok(Ok(process)) => drop(process.readable().await),
        Err(rustix::io::Errno::SRCH) => {}
        // An old kernel.
        Ok(Err(_)) | Err(_) => looked_for(pid).await,
    }
}

/// The same where the kernel does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) async fn gone(pid: u32) {
    if let Some(pid) = known(pid) {
        looked_for(pid).await;
    }
}

fn known(pid: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)
}

async fn looked_for(pid: rustix::process::Pid) {
    use rustix::io::Errno;
    while rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
        tokio::time::sleep(LOOK).await;
    }
}
