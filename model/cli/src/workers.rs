//! Sessions side by side that share one model: how much they generate together, against one alone.

use crate::Failure;
use gristmill::Threads;
use gristmill_limits::median;
use gristmill_model::{GenerateOptions, Session, SessionOptions, Transformer};
use serde::Serialize;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Rounds, one worker alone and then all of them, of which the medians count.
const ROUNDS: usize = 3;

/// Each turn of a worker lasts at least this long.
const TURN: Duration = Duration::from_millis(500);

/// Tokens per second of workers of one thread each.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Workers {
    pub(crate) count: usize,
    pub(crate) alone_tokens_per_s: f64,
    pub(crate) together_tokens_per_s: f64,
}

/// Measures `count` workers, each of which generates for a batch of its own.
pub(crate) fn measure(
    model: &Transformer,
    sources: &[Vec<u32>],
    options: &GenerateOptions<'_>,
    count: usize,
    level: Option<gristmill::Level>,
) -> Result<Workers, Failure> {
    let session = || -> Result<Session, Failure> {
        let mut session = model.session(SessionOptions { threads: Threads::Serial, level })?;
        // Once untimed: memory is allocated here.
        session.generate(sources, options)?;
        Ok(session)
    };
    let mut sessions = (0..count).map(|_| session()).collect::<Result<Vec<_>, _>>()?;
    let (mut alone, mut together) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for (alone, together) in alone.iter_mut().zip(&mut together) {
        *alone = rate(&mut sessions[..1], sources, options)?;
        *together = rate(&mut sessions, sources, options)?;
    }
    Ok(Workers { count, alone_tokens_per_s: median(&mut alone), together_tokens_per_s: median(&mut together) })
}

/// Tokens per second of all sessions, each on a thread of its own.
fn rate(sessions: &mut [Session], sources: &[Vec<u32>], options: &GenerateOptions<'_>) -> Result<f64, Failure> {
    let start = Barrier::new(sessions.len());
    std::thread::scope(|scope| {
        let turn = |session: &mut Session| -> Result<f64, Failure> {
            start.wait();
            let (begin, mut turns) = (Instant::now(), 0);
            while begin.elapsed() < TURN {
                session.generate(sources, options)?;
                turns += 1;
            }
            Ok((turns * sources.len() * options.max_new_tokens) as f64 / begin.elapsed().as_secs_f64())
        };
        let workers: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(move || turn(session))).collect();
        workers.into_iter().map(|worker| worker.join().expect("generation does not panic")).sum()
    })
}
