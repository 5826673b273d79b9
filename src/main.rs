//! `corten`: argv to a running daemon, or to one of the verbs that a person asks it things with.

use clap::Parser;
use corten::cli::{self, Arguments, Verb};
use corten::config::Live;
use corten::daemon::Daemon;
use corten::error::{Context, Kind, Result};
use corten::log::LogFilter;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Threads that run calls. Calls decode, ask and wait: whatever reads a disk or computes for long
/// runs on the blocking pool. More threads would only be more stacks and more heaps to keep warm.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to be done where stderr is closed.
            let _ = writeln!(std::io::stderr(), "corten: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { config, verb } = arguments;
    match verb.unwrap_or(Verb::Serve) {
        Verb::Serve => serve(config).map(|()| ExitCode::SUCCESS),
        Verb::Config { verb } => cli::config::run(&verb, config.as_deref()),
        Verb::Status(asked) => {
            let endpoint = cli::endpoint(asked.endpoint.as_deref(), config.as_deref())?;
            asking()?.block_on(cli::status(&endpoint, asked.output))
        }
        Verb::FirstPod { endpoint, verb } => {
            let endpoint = cli::endpoint(endpoint.as_deref(), config.as_deref())?;
            asking()?.block_on(cli::first_pod(&endpoint, &verb))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Image { endpoint, verb } => {
            let endpoint = cli::endpoint(endpoint.as_deref(), config.as_deref())?;
            asking()?.block_on(cli::image(&endpoint, verb))
        }
    }
}

fn serve(config: Option<PathBuf>) -> Result<()> {
    let live = Live::load(config).context(Kind::InvalidArgument, || "configuration".to_owned())?;
    let log = LogFilter::install(&live.get().log)?;
    let runtime = threads(Builder::new_multi_thread().worker_threads(WORKERS))?;
    let done = runtime.block_on(async { Daemon::build(live, log).await?.serve().await });
    // A thread that hangs on a dead mount must not keep the daemon from ending.
    runtime.shutdown_background();
    done
}

/// For one question one thread will do.
fn asking() -> Result<Runtime> {
    threads(&mut Builder::new_current_thread())
}

fn threads(builder: &mut Builder) -> Result<Runtime> {
    let built = builder.enable_all().build();
    built.context(Kind::Internal, || "start threads".to_owned())
}
