//! What can go wrong: one variant per mistake, each saying the names and numbers.

use std::io;

/// What a call gives, or the [`Error`] that kept it from that.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Any mistake in a configuration, a checkpoint or an input, or a failure of the machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not the JSON that [`Config`](crate::Config) describes.
    #[error("config: {0}")]
    ConfigSyntax(String),
    /// A size that must be at least 1 is 0.
    #[error("config: {field} is 0")]
    ConfigZero {
        /// The field.
        field: &'static str,
    },
    /// A number is infinite, not a number, or negative where that makes no sense.
    #[error("config: {field} is {value}")]
    ConfigNumber {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f32,
    },
    /// `heads` does not divide `d_model`.
    #[error("config: {heads} heads do not divide d_model {d_model}")]
    ConfigHeads {
        /// Width of the model.
        d_model: usize,
        /// Attention heads.
        heads: usize,
    },
    /// A special token lies outside the vocabulary.
    #[error("config: {field} {id} is outside the vocabulary of {vocabulary}")]
    ConfigSpecial {
        /// `bos`, `eos`, `pad` or `unk`.
        field: &'static str,
        /// Its id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// A list of tokens is not as long as its vocabulary.
    #[error("config: {field} lists {tokens} tokens for a vocabulary of {vocabulary}")]
    ConfigTokens {
        /// `src_tokens` or `tgt_tokens`.
        field: &'static str,
        /// Tokens listed.
        tokens: usize,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// Two source ids have the same text.
    #[error("config: src_tokens {first} and {second} are both {token:?}")]
    ConfigDuplicate {
        /// The text.
        token: String,
        /// The smaller id.
        first: usize,
        /// The larger id.
        second: usize,
    },
    /// The embeddings are tied but the vocabularies differ in size.
    #[error("config: tied embeddings, but src_vocab is {src_vocab} and tgt_vocab {tgt_vocab}")]
    ConfigTied {
        /// Source vocabulary.
        src_vocab: usize,
        /// Target vocabulary.
        tgt_vocab: usize,
    },
    /// The parameters do not fit the address space.
    #[error("config: the parameters do not fit the address space")]
    ConfigSize,

    /// A file could not be read.
    #[error("{what}: {source}")]
    Io {
        /// The file and what was done with it.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The safetensors file is shorter than its header says, or the header's length is absurd.
    #[error("safetensors: a header of {length} bytes where there are {available}")]
    HeaderLength {
        /// The length that the header claims, in bytes.
        length: u64,
        /// The bytes that the file has for it.
        available: u64,
    },
    /// The safetensors header is malformed.
    #[error("safetensors: {0}")]
    Header(String),
    /// The tensors' bytes are more or fewer than the file holds.
    #[error("safetensors: {found} bytes of data where the header describes {expected}")]
    DataLength {
        /// Bytes that the header describes.
        expected: u64,
        /// Bytes after the header.
        found: u64,
    },
    /// A tensor is there both with and without the `transformer.` prefix.
    #[error("tensor {name:?} is there with and without the prefix \"transformer.\"")]
    TensorTwice {
        /// Its name without the prefix.
        name: String,
    },
    /// The model needs a tensor that the checkpoint does not have.
    #[error("tensor {name:?} is missing")]
    TensorMissing {
        /// Its name.
        name: String,
    },
    /// The checkpoint has a tensor that the model does not need.
    #[error("tensor {name:?} has no place in this configuration")]
    TensorExtra {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the configuration asks for.
    #[error("tensor {name:?} has shape {found:?}; the configuration asks for {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
        /// The checkpoint's shape.
        found: Vec<usize>,
    },
    /// A tensor's elements are neither f32, f16 nor bf16.
    #[error("tensor {name:?} is {found}; expected F32, F16 or BF16")]
    TensorType {
        /// Its name.
        name: String,
        /// The element type found.
        found: String,
    },
    /// A tensor holds a NaN.
    #[error("tensor {name:?} holds a NaN at {index}")]
    TensorNan {
        /// Its name.
        name: String,
        /// Row-major index of the first NaN.
        index: usize,
    },
    /// More elements were asked of a tensor than it has.
    #[error("tensor {name:?} has only {elements} elements")]
    TensorEnd {
        /// Its name.
        name: String,
        /// The elements that it has.
        elements: usize,
    },
    /// Two tensors that are tied differ.
    #[error("tensor {name:?} is tied to {with:?} but differs from it at {index}")]
    TensorTied {
        /// The tensor that should equal the other.
        name: &'static str,
        /// The other.
        with: &'static str,
        /// Row-major index of the first difference in bits.
        index: usize,
    },

    /// Something is wrong with one sentence of a batch.
    #[error("sentence {index}: {cause}")]
    Sentence {
        /// Which, counted from 0.
        index: usize,
        /// What.
        #[source]
        cause: Box<Error>,
    },
    /// An id lies outside the vocabulary.
    #[error("id {id} at position {position} is outside the vocabulary of {vocabulary}")]
    IdOutOfRange {
        /// Position in the sentence.
        position: usize,
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
    /// A sentence has more tokens than there are learned positions.
    #[error("{length} tokens, but the model has {max_length} positions")]
    TooLong {
        /// Its tokens.
        length: usize,
        /// Learned positions.
        max_length: usize,
    },
    /// A batch of another size than the one in progress.
    #[error("{found} ids for {expected} targets in progress")]
    BatchSize {
        /// Targets in progress.
        expected: usize,
        /// Ids given.
        found: usize,
    },
    /// A target in progress cannot go on from one of another sentence.
    #[error("target {target} cannot continue target {parent}, which is not of its sentence")]
    Parent {
        /// The target, counted over the batch.
        target: usize,
        /// The target that it was to go on from.
        parent: usize,
    },
    /// A size among the options of generation is 0, or a list empty.
    #[error("option {field} is 0")]
    OptionZero {
        /// The option.
        field: &'static str,
    },
    /// A number among the options of generation is not one that makes sense.
    #[error("option {field} is {value}")]
    OptionNumber {
        /// The option.
        field: &'static str,
        /// Its value.
        value: f32,
    },
    /// An option of generation exceeds another that limits it.
    #[error("option {field} is {value}, but {limited_by} is {limit}")]
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
    #[error("sampling follows one hypothesis, not {beams} beams")]
    SampledBeams {
        /// The beams asked for.
        beams: usize,
    },
    /// Generation needs a `bos` token and the configuration names none.
    #[error("generation needs a beginning token; the configuration has no bos")]
    NoBeginning,
    /// Text was given or asked for, and the configuration lists no such tokens.
    #[error("the configuration has no {field}: text cannot be used, only ids")]
    NoTokens {
        /// `src_tokens` or `tgt_tokens`.
        field: &'static str,
    },
    /// Text that no token matches, and the configuration names no `unk`.
    #[error("no token matches {piece:?} at byte {offset}, and the configuration has no unk")]
    UnknownText {
        /// The first character that no token starts with.
        piece: char,
        /// Its byte offset in the text.
        offset: usize,
    },
    /// A name that is not one of a [`Precision`](crate::Precision).
    #[error("a precision is f32, f16 or bf16")]
    UnknownPrecision,
    /// A kernel refused its arguments: a level that cannot be used; or memory cannot be had. That of names, texts and
    /// configurations, of a session's own parts and of what rayon queues is taken for granted: without it Rust aborts.
    #[error("{0}")]
    Kernel(#[from] gristmill::Error),
}
