//! `gristmill time`.

use crate::progress::Progress;
use crate::report::{self, Part, Report, milliseconds};
use crate::{Failure, Machine, workers};
use gristmill::Simd;
use gristmill_limits::{Arithmetic, Bandwidth, Footprint, Rates, Traffic};
use gristmill_model::{Checkpoint, Config, GenerateOptions, Precision, Session, Transformer};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `base` or `big` of the paper, or a folder with config.json.
    #[arg(long, value_name = "base|big|DIR")]
    config: String,
    /// Sentences at a time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    batch: u32,
    /// Source tokens per sentence, and tokens to generate; fewer where the model has fewer positions.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    length: u32,
    /// Also time so many sessions side by side, of one thread and one batch each, that share the weights.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// Write one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = match arguments.config.as_str() {
        "base" => Config::base(),
        "big" => Config::big(),
        folder => Checkpoint::config_of(folder)?,
    };
    // Every sentence runs to its full length.
    (config.bos, config.eos) = (Some(0), None);
    let work = Work::new(&config, arguments)?;
    let model = {
        let _progress = Progress::new("drawing weights", 1);
        Transformer::seeded(config, 0, arguments.machine.precision)?
    };
    let mut report = arguments.machine.with_session(&model, |session| measure(session, &model, &work, arguments))?;
    if arguments.workers > 1 {
        let _progress = Progress::new("timing workers", 1);
        let (count, level) = (arguments.workers.into(), arguments.machine.level);
        report.workers = Some(workers::measure(&model, &work.sources, &work.options, count, level)?);
    }
    if arguments.json { report.write_json() } else { report.write_tables() }
}

/// Source tokens of a batch, at most: more of their activations than any machine holds.
const TOKENS: usize = 1 << 24;

/// What is timed.
struct Work {
    length: usize,
    sources: Vec<Vec<u32>>,
    options: GenerateOptions<'static>,
}

fn id(position: usize, vocabulary: usize) -> u32 {
    (position * 7919 % vocabulary) as u32
}

impl Work {
    fn new(config: &Config, arguments: &Arguments) -> Result<Self, Failure> {
        let (asked, positions) = (arguments.length as usize, config.max_length().unwrap_or(usize::MAX));
        let (length, max_new_tokens) = (asked.min(positions), asked.min(positions - 1));
        let batch = arguments.batch as usize;
        if length > TOKENS / batch {
            let message = format!("{batch} sentences of {length} tokens are more than {TOKENS} tokens");
            return Err(Failure::Message(message));
        }
        let sentence = |first: usize| (0..length).map(|position| id(first + position, config.src_vocab)).collect();
        let sources = (0..batch).map(|index| sentence(index * length)).collect();
        Ok(Self { length, sources, options: GenerateOptions { max_new_tokens, ..Default::default() } })
    }
}

fn measure(session: &mut Session, model: &Transformer, work: &Work, arguments: &Arguments) -> Result<Report, Failure> {
    let config = model.config();
    let Work { length, sources, options } = work;
    let simd = Simd::choose(arguments.machine.level).map_err(|error| Failure::Message(error.to_string()))?;
    let progress = Progress::new("timing", 3);
    // What is read again and again.
    let arithmetic = match model.precision() {
        Precision::Bf16 => Arithmetic::bf16(simd),
        _ => Arithmetic::fma(simd),
    };
    let rates = |bytes: usize| {
        let bandwidth = Bandwidth::new(Footprint { traffic: Traffic::Read, bytes: bytes as u64 })?;
        Ok::<_, Failure>(Rates { gflops: arithmetic.peak(), gbs: bandwidth.best().1 })
    };
    let [encoder, decoder] = config.weight_bytes(model.precision())?;
    let (encoder, decoder) = (rates(encoder)?, rates(decoder)?);

    let encoder =
        part("encoder", session, encoder, |session, times| timed(times, || session.encode(sources).map(drop)))?;
    progress.advance(1);
    let step = part("decoder step", session, decoder, |session, times| {
        session.start(sources)?;
        if session.profile().is_some() {
            // That of the steps alone.
            session.start_profile();
        }
        let mut decoding = session.resume();
        let mut ids = vec![0; sources.len()];
        (0..*length).try_for_each(|position| {
            ids.fill(id(position, config.tgt_vocab));
            timed(times, || decoding.step(&ids).map(drop))
        })
    })?;
    progress.advance(1);
    let generation = part("generation", session, decoder, |session, times| {
        timed(times, || session.generate(sources, options).map(drop))
    })?;
    Ok(Report {
        config: config.clone(),
        parameters: config.parameters()?,
        precision: model.precision().name(),
        weight_bytes: model.bytes(),
        cache_bytes: session.cache_bytes(),
        level: simd.level().name(),
        threads: gristmill::Threads::Global.count(),
        batch: sources.len(),
        source_tokens: *length,
        new_tokens: options.max_new_tokens,
        parts: vec![encoder, step, generation],
        workers: None,
    })
}

/// Times `run`, which pushes a time for each of what it does: once untimed, then for a second, at least 3 times; and
/// once more with a profile.
fn part(
    name: &'static str,
    session: &mut Session,
    limits: Rates,
    mut run: impl FnMut(&mut Session, &mut Vec<Duration>) -> Result<(), Failure>,
) -> Result<Part, Failure> {
    let mut times = Vec::new();
    run(session, &mut times)?;
    times.clear();
    let (start, mut turns) = (Instant::now(), 0);
    while turns < 3 || start.elapsed() < Duration::from_secs(1) {
        run(session, &mut times)?;
        turns += 1;
    }
    times.sort_unstable();
    let (median, runs) = (times[times.len() / 2], times.len());
    session.start_profile();
    times.clear();
    run(session, &mut times)?;
    let operations = session.profile().map_or(Vec::new(), |profile| report::lines(limits, &times, profile));
    let profiled_runs = times.len();
    session.stop_profile();
    let Rates { gflops, gbs } = limits;
    Ok(Part { name, median_ms: milliseconds(median), runs, gflops, gbs, profiled_runs, operations })
}

fn timed<E: Into<Failure>>(times: &mut Vec<Duration>, work: impl FnOnce() -> Result<(), E>) -> Result<(), Failure> {
    let start = Instant::now();
    work().map_err(Into::into)?;
    times.push(start.elapsed());
    Ok(())
}
