//! The process edge: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    omnigate::cli::run()
}
