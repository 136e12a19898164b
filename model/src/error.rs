//! What can go wrong: one variant per mistake, each saying the names and numbers.

use std::fmt;
use std::io;

/// Any mistake in a configuration, a checkpoint or an input, or a failure of the machine.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not the JSON that [`Config`](crate::Config) describes.
    ConfigSyntax(String),
    /// A size that must be at least 1 is 0.
    ConfigZero {
        /// The field.
        field: &'static str,
    },
    /// A number is infinite, not a number, or negative where that makes no sense.
    ConfigNumber {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f32,
    },
    /// `heads` does not divide `d_model`.
    ConfigHeads {
        /// Width of the model.
        d_model: usize,
        /// Attention heads.
        heads: usize,
    },
    /// A special token lies outside the vocabulary.
    ConfigSpecial {
        /// `bos`, `eos`, `pad` or `unk`.
        field: &'static str,
        /// Its id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// A list of tokens is not as long as its vocabulary.
    ConfigTokens {
        /// `src_tokens` or `tgt_tokens`.
        field: &'static str,
        /// Tokens listed.
        tokens: usize,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// Two source ids have the same text.
    ConfigDuplicate {
        /// The text.
        token: String,
        /// The smaller id.
        first: usize,
        /// The larger id.
        second: usize,
    },
    /// The embeddings are tied but the vocabularies differ in size.
    ConfigTied {
        /// Source vocabulary.
        src_vocab: usize,
        /// Target vocabulary.
        tgt_vocab: usize,
    },
    /// The parameters do not fit the address space.
    ConfigSize,

    /// A file could not be read.
    Io {
        /// The file and what was done with it.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The safetensors file is shorter than its header says, or the header's length is absurd.
    HeaderLength {
        /// The length that the header claims, in bytes.
        length: u64,
        /// The bytes that the file has for it.
        available: u64,
    },
    /// The safetensors header is malformed.
    Header(String),
    /// The tensors' bytes are more or fewer than the file holds.
    DataLength {
        /// Bytes that the header describes.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// A tensor is there both with and without the `transformer.` prefix.
    TensorTwice {
        /// Its name without the prefix.
        name: String,
    },
    /// The model needs a tensor that the checkpoint does not have.
    TensorMissing {
        /// Its name.
        name: String,
    },
    /// The checkpoint has a tensor that the model does not need.
    TensorExtra {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the configuration asks for.
    TensorShape {
        /// Its name.
        name: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The checkpoint's shape.
        found: Vec<usize>,
    },
    /// A tensor's elements are neither f32, f16 nor bf16.
    TensorType {
        /// Its name.
        name: String,
        /// The element type found.
        found: String,
    },
    /// A tensor holds a NaN.
    TensorNan {
        /// Its name.
        name: String,
        /// Row-major index of the first NaN.
        index: usize,
    },
    /// More elements were asked of a tensor than it has.
    TensorEnd {
        /// Its name.
        name: String,
        /// The elements that it has.
        elements: usize,
    },
    /// Two tensors that are tied differ.
    TensorTied {
        /// The tensor that should equal the other.
        name: &'static str,
        /// The other.
        with: &'static str,
        /// Row-major index of the first difference in bits.
        index: usize,
    },

    /// Something is wrong with one sentence of a batch.
    Sentence {
        /// Which, counted from 0.
        index: usize,
        /// What.
        cause: Box<Error>,
    },
    /// An id lies outside the vocabulary.
    IdOutOfRange {
        /// Position in the sentence.
        position: usize,
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// A sentence has more tokens than there are learned positions.
    TooLong {
        /// Its tokens.
        length: usize,
        /// Learned positions.
        max_length: usize,
    },
    /// A batch of another size than the one in progress.
    BatchSize {
        /// Targets in progress.
        expected: usize,
        /// Ids given.
        found: usize,
    },
    /// A target in progress cannot go on from one of another sentence.
    Parent {
        /// The target, counted over the batch.
        target: usize,
        /// The target that it was to go on from.
        parent: usize,
    },
    /// A size among the options of generation is 0, or a list empty.
    OptionZero {
        /// The option.
        field: &'static str,
    },
    /// A number among the options of generation is not one that makes sense.
    OptionNumber {
        /// The option.
        field: &'static str,
        /// Its value.
        value: f32,
    },
    /// An option of generation exceeds another that limits it.
    OptionLimit {
        /// The option.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The other.
        limited_by: &'static str,
        /// The other's value.
        limit: usize,
    },
    /// Sampling follows one hypothesis of each sentence.
    SampledBeams {
        /// The beams asked for.
        beams: usize,
    },
    /// Generation needs a `bos` token and the configuration names none.
    NoBeginning,
    /// Text was given or asked for, and the configuration lists no such tokens.
    NoTokens {
        /// `src_tokens` or `tgt_tokens`.
        field: &'static str,
    },
    /// Text that no token matches, and the configuration names no `unk`.
    UnknownText {
        /// The first character that no token starts with.
        piece: char,
        /// Its byte offset in the text.
        offset: usize,
    },
    /// A kernel refused its arguments: a level that cannot be used, or memory that cannot be had.
    Kernel(gristmill::Error),
    /// Memory could not be had.
    OutOfMemory {
        /// Elements of 4 bytes asked for.
        elements: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            ConfigSyntax(why) => write!(f, "config: {why}"),
            ConfigZero { field } => write!(f, "config: {field} is 0"),
            ConfigNumber { field, value } => write!(f, "config: {field} is {value}"),
            ConfigHeads { d_model, heads } => write!(f, "config: {heads} heads do not divide d_model {d_model}"),
            ConfigSpecial { field, id, vocabulary } => {
                write!(f, "config: {field} {id} is outside the vocabulary of {vocabulary}")
            }
            ConfigTokens { field, tokens, vocabulary } => {
                write!(f, "config: {field} lists {tokens} tokens for a vocabulary of {vocabulary}")
            }
            ConfigDuplicate { token, first, second } => {
                write!(f, "config: src_tokens {first} and {second} are both {token:?}")
            }
            ConfigTied { src_vocab, tgt_vocab } => {
                write!(f, "config: tied embeddings, but src_vocab is {src_vocab} and tgt_vocab {tgt_vocab}")
            }
            ConfigSize => write!(f, "config: the parameters do not fit the address space"),
            Io { what, source } => write!(f, "{what}: {source}"),
            HeaderLength { length, available } => {
                write!(f, "safetensors: a header of {length} bytes where there are {available}")
            }
            Header(why) => write!(f, "safetensors: {why}"),
            DataLength { expected, found } => {
                write!(f, "safetensors: {found} bytes of data where the header describes {expected}")
            }
            TensorTwice { name } => write!(f, "tensor {name:?} is there with and without the prefix \"transformer.\""),
            TensorMissing { name } => write!(f, "tensor {name:?} is missing"),
            TensorExtra { name } => write!(f, "tensor {name:?} has no place in this configuration"),
            TensorShape { name, expected, found } => {
                write!(f, "tensor {name:?} has shape {found:?}; the configuration asks for {expected:?}")
            }
            TensorType { name, found } => write!(f, "tensor {name:?} is {found}; expected F32, F16 or BF16"),
            TensorNan { name, index } => write!(f, "tensor {name:?} holds a NaN at {index}"),
            TensorEnd { name, elements } => write!(f, "tensor {name:?} has only {elements} elements"),
            TensorTied { name, with, index } => {
                write!(f, "tensor {name:?} is tied to {with:?} but differs from it at {index}")
            }
            Sentence { index, cause } => write!(f, "sentence {index}: {cause}"),
            IdOutOfRange { position, id, vocabulary } => {
                write!(f, "id {id} at position {position} is outside the vocabulary of {vocabulary}")
            }
            TooLong { length, max_length } => {
                write!(f, "{length} tokens, but the model has {max_length} positions")
            }
            BatchSize { expected, found } => write!(f, "{found} ids for {expected} targets in progress"),
            Parent { target, parent } => {
                write!(f, "target {target} cannot continue target {parent}, which is not of its sentence")
            }
            OptionZero { field } => write!(f, "option {field} is 0"),
            OptionNumber { field, value } => write!(f, "option {field} is {value}"),
            OptionLimit { field, value, limited_by, limit } => {
                write!(f, "option {field} is {value}, but {limited_by} is {limit}")
            }
            SampledBeams { beams } => write!(f, "sampling follows one hypothesis, not {beams} beams"),
            NoBeginning => write!(f, "generation needs a beginning token; the configuration has no bos"),
            NoTokens { field } => write!(f, "the configuration has no {field}: text cannot be used, only ids"),
            UnknownText { piece, offset } => {
                write!(f, "no token matches {piece:?} at byte {offset}, and the configuration has no unk")
            }
            Kernel(error) => error.fmt(f),
            OutOfMemory { elements } => write!(f, "no memory for {elements} values"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Sentence { cause, .. } => Some(cause),
            Error::Kernel(error) => Some(error),
            _ => None,
        }
    }
}

impl From<gristmill::Error> for Error {
    fn from(error: gristmill::Error) -> Self {
        Error::Kernel(error)
    }
}
