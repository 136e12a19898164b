//! `gristmill generate`.

use crate::progress::Progress;
use crate::search::Search;
use crate::{Failure, Machine};
use gristmill_model::{Checkpoint, Hypothesis, Session, Tokenizer, Transformer};
use std::io::{IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder with config.json and model.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Lines are JSON arrays of ids, beginning and end tokens included, instead of text.
    #[arg(long)]
    ids: bool,
    /// Sentences that are generated together.
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// Write the score and the log-probability before each sentence, separated by tabs. Probabilities are those among
    /// the ids that --shortlist and --min-new-tokens leave.
    #[arg(long)]
    scores: bool,
    /// Say on stderr what generation took, without loading the model and reading the sentences.
    #[arg(long)]
    time: bool,
    #[command(flatten)]
    search: Search,
    #[command(flatten)]
    machine: Machine,
}

/// The options are checked before weights are loaded, and all lines before the first sentence is generated.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut checkpoint = Checkpoint::open(&arguments.model)?;
    let config = checkpoint.config().clone();
    arguments.search.check(&config)?;
    let tokenizer = if arguments.ids { None } else { Some(Tokenizer::new(&config)?) };
    let model = {
        let _progress = Progress::new("loading", 1);
        Transformer::new(config, &mut checkpoint, arguments.machine.precision)?
    };
    let sources = read_sources(&model, tokenizer.as_ref())?;
    arguments.machine.with_session(&model, |session| write_targets(session, &sources, tokenizer.as_ref(), arguments))
}

/// The sentences on stdin, one per line.
fn read_sources(model: &Transformer, tokenizer: Option<&Tokenizer>) -> Result<Vec<Vec<u32>>, Failure> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut input);
    read.map_err(|error| Failure::Message(format!("stdin: {error}")))?;
    let lines = input.split_inclusive(|&byte| byte == b'\n').enumerate();
    lines
        .map(|(index, line)| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            read_source(line, model, tokenizer).map_err(|why| Failure::in_line(index + 1, why))
        })
        .collect()
}

fn read_source(line: &[u8], model: &Transformer, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>, String> {
    if line.is_empty() {
        return Err("empty".to_owned());
    }
    let ids = match tokenizer {
        Some(tokenizer) => {
            let text = std::str::from_utf8(line).map_err(|why| why.to_string())?;
            tokenizer.encode(text).map_err(|why| why.to_string())?
        }
        None => serde_json::from_slice(line).map_err(|why| format!("not a JSON array of ids: {why}"))?,
    };
    if ids.is_empty() {
        return Err("no ids".to_owned());
    }
    model.check_source(&ids).map_err(|why| why.to_string())?;
    Ok(ids)
}

/// Generates batch by batch and writes a line per sentence, in order.
fn write_targets(
    session: &mut Session,
    sources: &[Vec<u32>],
    tokenizer: Option<&Tokenizer>,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    // On a terminal, the sentences themselves are the progress, and a bar would end up between them.
    let progress = (!out.is_terminal()).then(|| Progress::new("sentences", sources.len()));
    let size = arguments.batch.get();
    let (mut time, mut generated) = (Duration::ZERO, 0);
    for (index, batch) in sources.chunks(size).enumerate() {
        let options = arguments.search.options(index * size);
        let start = Instant::now();
        let hypotheses = if arguments.scores || options.n_best > 1 {
            session.hypotheses(batch, &options)?
        } else {
            let plain = |ids| vec![Hypothesis { ids, log_probability: 0.0, score: 0.0 }];
            session.generate(batch, &options)?.into_iter().map(plain).collect()
        };
        time += start.elapsed();
        let numbered = (index * size + 1..).zip(hypotheses);
        let numbered = numbered.flat_map(|(line, all)| all.into_iter().map(move |hypothesis| (line, hypothesis)));
        for (line, Hypothesis { ids, log_probability, score }) in numbered {
            generated += ids.len() - 1;
            if options.n_best > 1 {
                write!(out, "{line}\t")?;
            }
            if arguments.scores {
                write!(out, "{score}\t{log_probability}\t")?;
            }
            match tokenizer {
                Some(tokenizer) => writeln!(out, "{}", tokenizer.decode(&ids)?)?,
                None => writeln!(out, "{}", serde_json::json!(ids))?,
            }
        }
        out.flush()?;
        progress.iter().for_each(|bar| bar.advance(batch.len()));
    }
    drop(progress);
    if arguments.time {
        let (sentences, seconds) = (sources.len(), time.as_secs_f64());
        let each = seconds * 1e3 / sentences.max(1) as f64;
        let rate = generated as f64 / seconds.max(f64::MIN_POSITIVE);
        let told =
            format!("{sentences} sentences, {generated} ids: {each:.3} ms per sentence, {rate:.0} ids per second");
        writeln!(std::io::stderr(), "{told}")?;
    }
    Ok(())
}
