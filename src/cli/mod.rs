//! The commands. Nothing but this module and `main` speaks to the terminal.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command does")]

mod cache;
pub mod check;
mod completions;
mod demo;
mod exec;
mod explain;
mod hardening;
mod init;
mod kind;
mod lines;
mod man;
mod online;
mod routes;
mod schema;
mod serve;
mod status;
mod vault;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Nothing is wrong.
const OK: u8 = 0;
/// Something that we need is not to be had: a port, the state folder.
const UNAVAILABLE: u8 = 69;
/// The config is wrong (`EX_CONFIG` of sysexits).
const CONFIG: u8 = 78;

/// What to do where no gateway answers.
const START: &str =
    "start one with `omnigate serve`, or name the config of the one that runs with -c";

/// A gateway for Omni Analytics: it holds the keys, keeps the rate limit and queues your calls.
#[derive(Debug, Parser)]
#[command(name = "omnigate", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a config, and say what to do next.
    Init(init::InitArgs),
    /// Keep secrets in an encrypted file: make it, fill it, rotate, export.
    Vault(vault::VaultArgs),
    /// Run the gateway.
    Serve(serve::ServeArgs),
    /// Run a program with the gateway beside it: no key, no limit to think of.
    Exec(exec::ExecArgs),
    /// See what the running gateway does: who waits, what was sent, how the keys stand.
    ///
    /// Exits 0 where calls would be served, 1 where they would not, 69 if no gateway answers on the
    /// config's admin address, 78 if the config is wrong.
    Status(status::StatusArgs),
    /// Have the running gateway forget answers that it keeps.
    Cache(cache::CacheArgs),
    /// Check a config and say everything that is wrong with it; opens no port.
    Check(check::CheckArgs),
    /// Show the routes: which calls they take, and what each stands for.
    ///
    /// They come in the order in which a call looks for its own: the first that takes its path and
    /// method has it.
    Routes(routes::RoutesArgs),
    /// Say what becomes of a call, and why, without making it.
    ///
    /// Nothing is sent, no secret is read and nothing is counted; with --online the running gateway is
    /// asked, which also knows who waits, what is kept and how the keys stand.
    ///
    /// Exits 0 where the call would be sent or answered from what is kept, 1 where it would be refused, 2
    /// if nobody could make such a call, 69 with --online if no gateway answers, 78 if the config is wrong.
    Explain(explain::ExplainArgs),
    /// See it work: a pretended Omni with the real limit, the gateway, and three callers.
    Demo(demo::DemoArgs),
    /// Print the JSON schema of the config, for editors.
    Schema(schema::SchemaArgs),
    /// Print completions for a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual pages.
    Man(man::ManArgs),
    /// The gateway behind `exec`, in a process of its own.
    #[command(hide = true)]
    ExecGateway(exec::KeepArgs),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            vault::print_without_secrets(&error);
            return ExitCode::from(if error.use_stderr() { 2 } else { OK });
        }
    };
    // What `exec` gives up, its program would inherit; it reads no secret.
    let closed = match cli.command {
        Command::Exec(_) => hardening::close(),
        _ => hardening::harden(),
    };
    if let Err(soft) = closed {
        eprintln!("omnigate: {soft}");
    }
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Status(args) => status::run(args),
        Command::Cache(args) => cache::run(args),
        Command::Vault(args) => vault::run(args),
        Command::Init(args) => init::run(args),
        Command::Routes(args) => routes::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Exec(args) => exec::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::ExecGateway(args) => exec::keep(args),
    }
}

/// Prints all of it, as long as somebody reads.
fn print_whole(text: &[u8]) -> ExitCode {
    use std::io::{ErrorKind, Write, stdout};

    let mut out = stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(OK),
        // `| head` has enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(OK),
        Err(error) => {
            eprintln!("error: standard output cannot be written: {error}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// A path as a shell reads it.
fn in_shell(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@".contains(c);
    match path.chars().all(plain) && !path.starts_with('-') && !path.is_empty() {
        true => path.into_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// Runs `work` on the runtime that all commands share.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    start(work).unwrap_or_else(|error| {
        eprintln!("omnigate: the runtime cannot be started: {error}");
        ExitCode::from(UNAVAILABLE)
    })
}

/// The same for work that comes to something else.
fn start<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    // rustls has more than one provider to choose from; this is ours, for the whole process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A blocking read that hangs must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(result)
}
