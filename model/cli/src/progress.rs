//! Progress on stderr, for what takes longer than a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A bar that shows itself after a second, on terminals only, and vanishes when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Dropping it ends the wait for the second.
    alive: Option<mpsc::Sender<()>>,
    waiter: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts counting to `length` of `what`.
    pub(crate) fn new(what: &'static str, length: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        let (alive, ended) = mpsc::channel::<()>();
        let shown = bar.clone();
        let waiter = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(500));
            }
        });
        Self { bar, alive: Some(alive), waiter: Some(waiter) }
    }

    /// Counts `steps` more.
    pub(crate) fn advance(&self, steps: usize) {
        self.bar.inc(steps as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(waiter) = self.waiter.take() {
            // It cannot fail, and if it did, only the bar would be missing.
            let _ = waiter.join();
        }
        self.bar.finish_and_clear();
    }
}
