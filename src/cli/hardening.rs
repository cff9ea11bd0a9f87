//! What the process gives up before it reads its first secret.

/// Sees to it that no key leaves by the process itself: no core dump is written, no other process of
/// the same user may trace it or read its memory and environment, and no program that it starts gains
/// rights by a set-user-id bit. Before any other thread is started, since a part of it is inherited.
///
/// # Errors
/// Names what the system does not let us give up; all else is done.
pub(super) fn harden() -> Result<(), Soft> {
    let core = no_core_dumps();
    let rest = linux();
    core.and(rest)
}

/// Closes the process to others of the same user, and gives up nothing that a program which it starts
/// would inherit: that resets itself when another program is executed (prctl(2), `PR_SET_DUMPABLE`).
///
/// # Errors
/// The system does not let us.
pub(super) fn close() -> Result<(), Soft> {
    not_dumpable()
}

/// Something that other processes can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Soft {
    #[error("core dumps cannot be turned off: a crash may write keys to a disk")]
    Core,
    #[error("the process cannot be closed to debuggers of the same user")]
    Dumpable,
    #[error("programs that are started may gain rights that we do not have")]
    Privileges,
}

fn no_core_dumps() -> Result<(), Soft> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|_| Soft::Core)
}

#[cfg(target_os = "linux")]
fn linux() -> Result<(), Soft> {
    let closed = not_dumpable();
    let privileges = rustix::thread::set_no_new_privs(true);
    closed?;
    privileges.map_err(|_| Soft::Privileges)
}

#[cfg(target_os = "linux")]
fn not_dumpable() -> Result<(), Soft> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // prctl(2): also makes the files in /proc/self root's, `environ` and `mem` among them.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| Soft::Dumpable)
}

#[cfg(not(target_os = "linux"))]
fn not_dumpable() -> Result<(), Soft> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn linux() -> Result<(), Soft> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn the_process_is_closed() {
        assert_eq!(harden(), Ok(()));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(rustix::thread::no_new_privs(), Ok(true));
    }
}
