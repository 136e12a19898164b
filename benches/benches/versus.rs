//! The referee: our kernels, the others, and the limit of the machine, side by side. See the crate's documentation.

use clap::Parser;
use gristmill_bench::{
    cases::Case,
    contest,
    limits::Limits,
    machine::{self, Machine},
    paths, referee,
    report::{self, Report},
    rivals, shapes,
};
use std::{
    env,
    error::Error,
    ffi::OsStr,
    fs::File,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

/// Times our kernels and their rivals in turns and compares with the limit of the machine.
#[derive(Parser)]
#[command(name = "versus")]
struct Arguments {
    /// Write one JSON object per case to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Time for each case, in seconds.
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Size of the thread pool; without it, one thread and then one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Run the cases whose id contains this text, or the one whose id it is, in the list or not.
    #[arg(default_value = "")]
    filter: String,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Measure in this process, and append to the JSON file.
    #[arg(long, hide = true, requires = "threads")]
    worker: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.threads {
        Some(threads) if arguments.worker => measure(&arguments, threads.into()),
        _ => oversee(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("versus: {error}");
        ExitCode::from(2)
    })
}

/// Runs one process per thread count: some rivals read theirs from the environment, once.
fn oversee(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let mut counts = match (arguments.threads, arguments.filter.parse::<Case>()) {
        (Some(threads), _) => vec![threads.into()],
        (None, Ok(case)) => vec![case.threads],
        (None, Err(_)) if machine::threads() > 1 => vec![1, machine::threads()],
        (None, Err(_)) => vec![1],
    };
    counts.retain(|&threads| !selected(arguments, threads).is_empty());
    if counts.is_empty() {
        return Err(format!("no case has {:?} in its id", arguments.filter).into());
    }
    let json = arguments.json.as_deref().map(paths::resolve);
    if let Some(json) = &json {
        File::create(json).map_err(|error| format!("cannot write {}: {error}", json.display()))?;
    }
    println!("{}\nrivals   {}", Machine::this(), rivals::roster().join(", "));
    for threads in counts {
        let mut worker = Command::new(env::current_exe()?);
        worker.arg("--worker").args(["--threads", &threads.to_string()]);
        worker.envs(rivals::THREADS_VARIABLES.map(|variable| (variable, threads.to_string())));
        worker.args(["--seconds", &arguments.seconds.as_secs_f64().to_string()]);
        worker.args(json.iter().flat_map(|json| [OsStr::new("--json"), json.as_os_str()]));
        let status = worker.args(["--", &arguments.filter]).status()?;
        if !status.success() {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges the selected cases on one pool. Fails when an output of ours is wrong.
fn measure(arguments: &Arguments, threads: usize) -> Result<ExitCode, Box<dyn Error>> {
    let cases = selected(arguments, threads);
    let json = arguments.json.as_ref().map(|path| File::options().append(true).open(path)).transpose()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let limits = pool.install(Limits::measure)?;
    println!("\nthreads  {threads}: {limits}\n\n{}", report::heading());

    let mut report = Report::new(json);
    let mut sound = true;
    for case in cases {
        // A case that memory cannot hold ends here, with an error.
        let pace = pool.install(|| limits.pace(&case.work)).map_err(|error| format!("{case}: {error}"))?;
        let contest = contest::prepare(&case).map_err(|error| format!("{case}: {error}"))?;
        match referee::judge(&case, &*contest, &pool, &pace, arguments.seconds) {
            Ok(verdict) => report.add(&verdict)?,
            Err(wrong) => {
                println!("{case}: {wrong}");
                sound = false;
            }
        }
    }
    print!("\n{}", report.summary());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn selected(arguments: &Arguments, threads: usize) -> Vec<Case> {
    match arguments.filter.parse::<Case>() {
        Ok(case) => Vec::from_iter((case.threads == threads).then_some(case)),
        Err(_) => {
            let cases = shapes::cases(threads).into_iter();
            cases.filter(|case| case.to_string().contains(&arguments.filter)).collect()
        }
    }
}
