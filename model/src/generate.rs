//! Generation: whole target sentences from sources.

use crate::{Error, Session};

/// When generation stops.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions {
    /// Ids after the beginning token; at most 256 by default.
    pub max_new_tokens: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 256 }
    }
}

impl Session<'_> {
    /// Greedy generation: each sentence is `bos` and then, always, the likeliest id (of equals the first), up to and
    /// including `eos`, or to `max_new_tokens`, or to as many ids as there are learned positions.
    ///
    /// A sentence that is finished leaves the batch.
    ///
    /// # Errors
    /// [`Error::NoBeginning`] when the configuration has no `bos`, and as [`Session::encode`].
    pub fn generate<S: AsRef<[u32]> + Sync>(
        &mut self,
        sources: &[S],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let config = self.model().config();
        let bos = config.bos.ok_or(Error::NoBeginning)?;
        let longest = options.max_new_tokens.saturating_add(1).min(config.max_length().unwrap_or(usize::MAX));
        self.entered(|session| {
            let mut sentences = vec![vec![bos]; sources.len()];
            let mut decoding = session.start(sources)?;
            // Place i of the batch holds sentence live[i], which so far ends with last[i].
            let mut live: Vec<usize> = (0..sources.len()).collect();
            let mut last = vec![bos; sources.len()];
            let mut next = vec![0; sources.len()];
            while !live.is_empty() && decoding.length() + 1 < longest {
                decoding.step_greedy(&last, &mut next[..live.len()])?;
                // From the end, so that a place is refilled only by one that has been dealt with.
                for place in (0..live.len()).rev() {
                    let id = next[place] as u32;
                    sentences[live[place]].push(id);
                    last[place] = id;
                    if config.eos == Some(id) {
                        live.swap_remove(place);
                        last.swap_remove(place);
                        decoding.swap_remove(place);
                    }
                }
            }
            Ok(sentences)
        })
    }
}
