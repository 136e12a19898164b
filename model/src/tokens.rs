//! Text to ids and back, for configurations that list their tokens.

use crate::{Config, Error, Result};
use std::collections::{BTreeSet, HashMap};

/// Turns source text into ids and target ids into text.
///
/// Text becomes ids by the longest token first from the left; a character that no token starts with becomes `unk`.
/// `bos` and `eos` are added where the configuration names them. Ids become text by concatenation, the special ids
/// `bos`, `eos`, `pad` and `unk` left out.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    ids: HashMap<String, u32>,
    /// The lengths in bytes that source tokens have.
    lengths: BTreeSet<usize>,
    texts: Vec<String>,
    /// `bos`, `eos`, `pad` and `unk`.
    specials: [Option<u32>; 4],
}

impl Tokenizer {
    /// The tokenizer of a configuration.
    ///
    /// # Errors
    /// [`Error::NoTokens`] when either list is missing, [`Error::ConfigDuplicate`] when two source ids share a text,
    /// and whatever [`Config::validate`] finds.
    pub fn new(config: &Config) -> Result<Self> {
        config.validate()?;
        let sources = config.src_tokens.as_ref().ok_or(Error::NoTokens { field: "src_tokens" })?;
        let texts = config.tgt_tokens.clone().ok_or(Error::NoTokens { field: "tgt_tokens" })?;
        let mut ids = HashMap::with_capacity(sources.len());
        // An empty token matches nothing: it may stand for unused ids, as often as it likes.
        for (id, token) in sources.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
            if let Some(first) = ids.insert(token.clone(), id as u32) {
                return Err(Error::ConfigDuplicate { token: token.clone(), first: first as usize, second: id });
            }
        }
        let lengths = ids.keys().map(String::len).collect();
        Ok(Self { ids, lengths, texts, specials: [config.bos, config.eos, config.pad, config.unk] })
    }

    /// The ids of a source text, `bos` and `eos` included.
    ///
    /// # Errors
    /// [`Error::UnknownText`] where no token matches and there is no `unk`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let [bos, eos, _, unk] = self.specials;
        let mut ids = Vec::from_iter(bos);
        let mut rest = text;
        while let Some(piece) = rest.chars().next() {
            let token = self.lengths.iter().rev().find_map(|&length| self.ids.get_key_value(rest.get(..length)?));
            let (length, id) = match token {
                Some((token, &id)) => (token.len(), id),
                None => {
                    let unknown = Error::UnknownText { piece, offset: text.len() - rest.len() };
                    (piece.len_utf8(), unk.ok_or(unknown)?)
                }
            };
            ids.push(id);
            rest = &rest[length..];
        }
        ids.extend(eos);
        Ok(ids)
    }

    /// The text of target ids.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`] for an id that the vocabulary does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut text = String::new();
        for (position, &id) in ids.iter().enumerate() {
            let outside = Error::IdOutOfRange { position, id, vocabulary: self.texts.len() };
            let token = self.texts.get(id as usize).ok_or(outside)?;
            if !self.specials.contains(&Some(id)) {
                text.push_str(token);
            }
        }
        Ok(text)
    }
}
