//! `gristmill time`.

use crate::progress::Progress;
use crate::{Failure, Machine};
use gristmill::Simd;
use gristmill_model::{Checkpoint, Config, GenerateOptions, Session, Transformer};
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `base` or `big` of the paper, or a folder with config.json.
    #[arg(long, value_name = "base|big|DIR")]
    config: String,
    /// Sentences at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZeroUsize,
    /// Source tokens per sentence, and tokens to generate; fewer where the model has fewer positions.
    #[arg(long, value_name = "N", default_value = "32")]
    length: NonZeroUsize,
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
    let model = {
        let _progress = Progress::new("drawing weights", 1);
        Transformer::seeded(config, 0)?
    };
    let times = arguments.machine.with_session(&model, |session| measure(session, model.config(), arguments))?;
    write(model.config(), &times, arguments)
}

/// Medians, and of how many runs.
struct Times {
    encoder: Median,
    step: Median,
    generation: Median,
}

struct Median {
    time: Duration,
    of: usize,
}

impl Median {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { time: times[times.len() / 2], of: times.len() }
    }
}

/// Source tokens per sentence, decoder steps, and ids after the beginning token.
fn lengths(config: &Config, arguments: &Arguments) -> [usize; 3] {
    let (asked, positions) = (arguments.length.get(), config.max_length().unwrap_or(usize::MAX));
    [asked.min(positions), asked.min(positions), asked.min(positions - 1)]
}

fn measure(session: &mut Session, model: &Config, arguments: &Arguments) -> Result<Times, Failure> {
    let [source, steps, max_new_tokens] = lengths(model, arguments);
    let id = |position: usize, vocabulary: usize| (position * 7919 % vocabulary) as u32;
    let sentence = |first: usize| (0..source).map(|position| id(first + position, model.src_vocab)).collect();
    let sources: Vec<Vec<u32>> = (0..arguments.batch.get()).map(|index| sentence(index * source)).collect();
    let progress = Progress::new("timing", 3);

    let encoder = repeat(|times| timed(times, || session.encode(&sources).map(drop)))?;
    progress.advance(1);
    let step = repeat(|times| {
        let mut decoding = session.start(&sources)?;
        (0..steps).try_for_each(|position| {
            let ids = vec![id(position, model.tgt_vocab); sources.len()];
            timed(times, || decoding.step(&ids).map(drop))
        })
    })?;
    progress.advance(1);
    let options = GenerateOptions { max_new_tokens, ..Default::default() };
    let generation = repeat(|times| timed(times, || session.generate(&sources, &options).map(drop)))?;
    Ok(Times { encoder, step, generation })
}

fn timed<E: Into<Failure>>(times: &mut Vec<Duration>, work: impl FnOnce() -> Result<(), E>) -> Result<(), Failure> {
    let start = Instant::now();
    work().map_err(Into::into)?;
    times.push(start.elapsed());
    Ok(())
}

/// The median of what `run` pushes: once untimed, then for a second, at least 3 times.
fn repeat(mut run: impl FnMut(&mut Vec<Duration>) -> Result<(), Failure>) -> Result<Median, Failure> {
    let mut times = Vec::new();
    run(&mut times)?;
    times.clear();
    let start = Instant::now();
    let mut runs = 0;
    while runs < 3 || start.elapsed() < Duration::from_secs(1) {
        run(&mut times)?;
        runs += 1;
    }
    Ok(Median::of(times))
}

fn write(model: &Config, times: &Times, arguments: &Arguments) -> Result<(), Failure> {
    let machine = &arguments.machine;
    let level = Simd::choose(machine.level).map_err(|error| Failure::Message(error.to_string()))?.level();
    let threads = machine.threads.map_or(gristmill::Threads::Global.count(), usize::from);
    let [source, _, new] = lengths(model, arguments);
    let millions = model.parameters()? as f64 / 1e6;
    let row = |what: &str, median: &Median| {
        let milliseconds = median.time.as_secs_f64() * 1e3;
        format!("{what:<13}{milliseconds:>10.3} ms   median of {}", median.of)
    };

    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "d_model {}, heads {}, d_ff {}, layers {}+{}, vocabulary {}: {millions:.1} million parameters, f32, seeded",
        model.d_model, model.heads, model.d_ff, model.encoder_layers, model.decoder_layers, model.tgt_vocab
    )?;
    writeln!(out, "level {level}, threads {threads}, batch {}, {source} source tokens, {new} new", arguments.batch)?;
    writeln!(out, "{}", row("encoder", &times.encoder))?;
    writeln!(out, "{}", row("decoder step", &times.step))?;
    writeln!(out, "{}", row("generation", &times.generation))?;
    Ok(())
}
