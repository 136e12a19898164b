//! The `gristmill` program: what the machine offers, generation from a checkpoint, and timings.
//!
//! Bad input ends with exit code 2 and one line on stderr.

#![forbid(unsafe_code)]

mod failure;
mod generate;
mod info;
mod progress;
mod report;
mod search;
mod time;
mod workers;

use clap::{Parser, Subcommand};
use failure::Failure;
use gristmill::{LEVEL_VARIABLE, Level, Simd};
use gristmill_model::{Precision, Session, SessionOptions, Transformer};
use std::process::ExitCode;

/// Transformer inference on CPUs, the same bits everywhere.
#[derive(Parser)]
#[command(name = "gristmill", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what this machine offers and what would be used.
    Info,
    /// Generate one sentence per line of stdin.
    Generate(generate::Arguments),
    /// Time encoder, decoder step and generation on seeded weights, operation by operation.
    Time(time::Arguments),
}

/// Where to run.
#[derive(clap::Args)]
struct Machine {
    /// Threads; by default one per CPU, or what RAYON_NUM_THREADS says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Instruction set: portable, avx2, avx512 or avx512bf16; by default the best, or what GRISTMILL_LEVEL says.
    #[arg(long)]
    level: Option<Level>,
    /// Storage type of weights, activations and caches, whatever the checkpoint's: f32, f16 or bf16.
    #[arg(long, value_name = "TYPE", default_value_t)]
    precision: Precision,
}

impl Machine {
    /// Calls `work` with a session on these threads at this level, inside their pool.
    fn with_session<R: Send>(
        &self,
        model: &Transformer,
        work: impl FnOnce(&mut Session) -> Result<R, Failure> + Send,
    ) -> Result<R, Failure> {
        let pool = match self.threads {
            Some(threads) => Some(rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build()?),
            None => None,
        };
        let threads = pool.as_ref().map_or(gristmill::Threads::Global, gristmill::Threads::Pool);
        let mut session = model.session(SessionOptions { threads, level: self.level })?;
        threads.enter(|| work(&mut session))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let command = Cli::try_parse()?.command;
    // Every command needs it, if only for weights to be packed; here it is known that the environment is what is wrong.
    let level = Simd::choose(None).map_err(|error| Failure::Message(format!("{LEVEL_VARIABLE}: {error}")))?.level();
    match command {
        Command::Info => info::run(level),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Time(arguments) => time::run(&arguments),
    }
}
