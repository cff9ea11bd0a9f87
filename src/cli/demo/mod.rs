//! `omnigate demo`: a pretended Omni with the real limit, the gateway, and three callers.

mod client;
mod stage;
mod tally;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::demo::client::Caller;
use crate::cli::demo::stage::Stage;
use crate::cli::demo::tally::Tally;
use crate::cli::{OK, UNAVAILABLE, block_on};

/// How the demo ends.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Stay up afterwards, to be tried with curl, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// One kind of caller: how many calls, by how many workers, who begin one after the other.
struct Part {
    name: &'static str,
    what: &'static str,
    calls: usize,
    workers: usize,
    stagger: Duration,
    paths: &'static [&'static str],
}

const PARTS: [Part; 3] = [
    Part {
        name: "dashboard",
        what: "interactive: a person who opens a page every 6 s",
        calls: 20,
        workers: 20,
        stagger: Duration::from_secs(6),
        paths: &["/api/v1/folders?pageSize=20", "/api/v1/labels"],
    },
    Part {
        name: "sync",
        what: "normal: compares users and models, 4 at a time",
        calls: 46,
        workers: 4,
        stagger: Duration::ZERO,
        paths: &["/api/scim/v2/Users?count=20", "/api/v1/models?pageSize=10"],
    },
    Part {
        name: "crawler",
        what: "batch: reads every document, 8 at a time",
        calls: 90,
        workers: 8,
        stagger: Duration::ZERO,
        paths: &["/api/v1/documents?pageSize=50", "/api/v1/connections"],
    },
];

pub(crate) fn run(args: DemoArgs) -> ExitCode {
    block_on(async {
        match play(args.keep).await {
            Ok(code) => code,
            Err(error) => {
                eprintln!("omnigate demo: {error}");
                ExitCode::from(UNAVAILABLE)
            }
        }
    })
}

async fn play(keep: bool) -> Result<ExitCode, stage::StageError> {
    let stage = Stage::set().await?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stage::StageError::Io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(stage::StageError::Io)?;
    introduce(&stage);

    let tally = Arc::new(Tally::new(PARTS.map(|part| (part.name, part.calls))));
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for (index, part) in PARTS.iter().enumerate() {
        for worker in 0..part.workers {
            callers.spawn(call(index, worker, stage.gateway(), tally.clone()));
        }
    }
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let live = std::io::stdout().is_terminal();
    let interrupted = loop {
        tokio::select! {
            done = callers.join_next() => if done.is_none() { break false },
            _ = interrupt.recv() => break true,
            _ = terminate.recv() => break true,
            _ = clock.tick() => show(&tally, &stage, started.elapsed(), live),
        }
    };
    if live {
        print!("\r\x1b[K");
    }
    if interrupted {
        println!("Interrupted.");
        return Ok(ExitCode::from(1));
    }
    let sound = tally.report(&stage, started.elapsed());
    if keep {
        invite(&stage);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    stage.strike().await;
    Ok(ExitCode::from(if sound { OK } else { 1 }))
}

/// One worker of a part: every `workers`th call of it, each through the gateway.
async fn call(index: usize, worker: usize, gateway: std::net::SocketAddr, tally: Arc<Tally>) {
    let part = &PARTS[index];
    let mut caller = Caller::new(gateway, part.name);
    tokio::time::sleep(part.stagger * u32::try_from(worker).unwrap_or(0)).await;
    for nth in (worker..part.calls).step_by(part.workers) {
        let began = Instant::now();
        let status = caller.get(part.paths[nth % part.paths.len()]).await;
        tally.answered(index, status, began.elapsed());
    }
}

fn introduce(stage: &Stage) {
    println!("omnigate demo: nothing here leaves this machine.\n");
    println!(
        "  A pretended Omni listens on http://{}; it admits 60 requests a minute",
        stage.omni()
    );
    println!(
        "  and answers more with 429. The gateway on http://{} holds the key.",
        stage.gateway()
    );
    println!("  Three callers that hold none share it:\n");
    for part in &PARTS {
        println!("    {:<10} {:>3} calls: {}", part.name, part.calls, part.what);
    }
    println!("\n  That is two and a half minutes of work at 60 a minute. Watch it in a browser:");
    println!("  http://{}/\n", stage.admin());
}

fn show(tally: &Tally, stage: &Stage, elapsed: Duration, live: bool) {
    let seconds = elapsed.as_secs();
    if !live && !seconds.is_multiple_of(10) {
        return;
    }
    let Some(budget) = stage.budget() else { return };
    let line = format!(
        "{:>2}:{:02}  {}  in the last minute {:>2} of {}, {:>2} wait",
        seconds / 60,
        seconds % 60,
        tally.line(),
        budget.used,
        budget.limit,
        budget.queued,
    );
    if live {
        use std::io::Write;
        print!("\r\x1b[K{line}");
        let _ = std::io::stdout().flush();
    } else {
        println!("{line}");
    }
}

fn invite(stage: &Stage) {
    println!("\nThe gateway stays up until Ctrl-C. Try it:\n");
    println!("  curl -i http://{}/api/v1/folders?pageSize=3", stage.gateway());
    println!("  curl -s http://{}/api/v1/whoami", stage.gateway());
    println!("  curl -i -H 'Prefer: wait=3' http://{}/api/v1/labels", stage.gateway());
    println!("  curl -i http://{}/api/v1/../v1/labels --path-as-is", stage.gateway());
    println!("  curl -s http://{}/readyz", stage.admin());
    println!("  curl -s http://{}/metrics", stage.admin());
    println!("\nThe pretended Omni itself wants a key:\n");
    println!("  curl -i http://{}/api/v1/whoami", stage.omni());
}
