//! What is measured: a piece of work and a thread count, and the id that names both.
//!
//! ```text
//! gemm/{f32|f16|bf16|f16w|bf16w}/{nn|nt|nn-packed|nt-packed}/MxNxK/tT
//! gemm-odd/... the same tail, for shapes outside the main list
//! attention/{f32|f16|bf16}/BxHxSqxSkxD/{none|causal|keypad}/tT
//! {layernorm|add-layernorm|rmsnorm|add-rmsnorm|softmax|log-softmax}/{type}/RxC/tT
//! {bias-relu|bias-gelu|bias-gelu-tanh|bias-silu}/{type}/RxC/tT
//! model/{encoder|forced|step|greedy|beam4}/{type}/{base|big}/BxS/tT
//! ```
//!
//! Attention of one query (`Sq` = 1) is a decoder's step: our keys and values lie in a cache, packed outside the timed
//! part; the others read them as they are given, which is all that they offer.

use std::{fmt, str::FromStr};

/// One line of the table: the work, and the size of the thread pool that does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// What is computed.
    pub work: Work,
    /// How many threads compute it.
    pub threads: usize,
}

/// What a case computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// A matrix product.
    Gemm(Gemm),
    /// Scaled dot-product attention.
    Attention(Attention),
    /// An operation on the rows of a matrix.
    Rows(Rows),
    /// A whole Transformer, or one half of it.
    Model(Model),
}

/// `C[m, n] = A[m, k] B[k, n]`, all row-major; `nt` means that B is stored as `[n, k]`, as a linear layer's weight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Whether the shape belongs to the list of odd shapes.
    pub odd: bool,
    /// Storage types.
    pub dtype: Dtype,
    /// How B is stored, and whether it may be packed beforehand.
    pub layout: Layout,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
}

/// Attention over `[B, H, S, D]`; every head of queries has its own keys and values. For one query, ours are those of a
/// cache, packed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Storage type.
    pub dtype: Dtype,
    /// Batches.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries per head.
    pub queries: usize,
    /// Keys per head.
    pub keys: usize,
    /// Size of a head.
    pub dim: usize,
    /// Which keys are hidden.
    pub mask: MaskKind,
}

/// An operation on each row of an `rows x cols` matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// The operation.
    pub op: RowOp,
    /// Storage type.
    pub dtype: Dtype,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
}

/// A run of the encoder-decoder on seeded weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    /// Which part of it.
    pub task: Task,
    /// Storage type of the weights.
    pub dtype: Dtype,
    /// Name of the configuration.
    pub config: String,
    /// Sentences at once.
    pub batch: usize,
    /// Tokens of each sentence.
    pub seq: usize,
}

impl Work {
    /// Storage types of the operands.
    pub fn dtype(&self) -> Dtype {
        match self {
            Work::Gemm(work) => work.dtype,
            Work::Attention(work) => work.dtype,
            Work::Rows(work) => work.dtype,
            Work::Model(work) => work.dtype,
        }
    }
}

/// A value with the name that stands for it in ids.
trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(Self, &'static str)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }
}

/// Storage types of an operation's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// All f32.
    F32,
    /// All f16.
    F16,
    /// All bf16.
    Bf16,
    /// f16 weights, f32 activations and output.
    F16w,
    /// bf16 weights, f32 activations and output.
    Bf16w,
}

impl Named for Dtype {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::F32, "f32"), (Self::F16, "f16"), (Self::Bf16, "bf16"), (Self::F16w, "f16w"), (Self::Bf16w, "bf16w")];
}

impl Dtype {
    /// Bytes of one activation or output.
    pub fn activation_bytes(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16w | Dtype::Bf16w => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Bytes of one weight.
    pub fn weight_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::F16w | Dtype::Bf16w => 2,
        }
    }
}

/// How the right-hand side of a product is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[k, n]`.
    Nn,
    /// `[n, k]`.
    Nt,
    /// `[k, n]`, packed outside the timed part by who can.
    NnPacked,
    /// `[n, k]`, packed outside the timed part by who can.
    NtPacked,
}

impl Named for Layout {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::Nn, "nn"), (Self::Nt, "nt"), (Self::NnPacked, "nn-packed"), (Self::NtPacked, "nt-packed")];
}

impl Layout {
    /// Whether B is stored as `[n, k]`.
    pub fn transposed(self) -> bool {
        matches!(self, Layout::Nt | Layout::NtPacked)
    }

    /// Whether B may be packed outside the timed part.
    pub fn packed(self) -> bool {
        matches!(self, Layout::NnPacked | Layout::NtPacked)
    }
}

/// Which keys an attention case hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskKind {
    /// None.
    None,
    /// The keys after a query, both sequences aligned at their ends.
    Causal,
    /// The padding at the end of each batch: see [`Attention::key_lengths`].
    Keypad,
}

impl Named for MaskKind {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::None, "none"), (Self::Causal, "causal"), (Self::Keypad, "keypad")];
}

impl Attention {
    /// Keys that each batch really has: three quarters, all, half and one quarter of them in turn when the case is
    /// `keypad`, else all.
    pub fn key_lengths(&self) -> Vec<usize> {
        let quarters = |b: usize| if self.mask == MaskKind::Keypad { [3, 4, 2, 1][b % 4] } else { 4 };
        (0..self.batch).map(|b| (self.keys * quarters(b)).div_ceil(4)).collect()
    }
}

/// An operation on rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOp {
    /// Layernorm with gamma and beta.
    LayerNorm,
    /// Residual add and layernorm, keeping the norm alone.
    AddLayerNorm,
    /// RMS norm with gamma.
    RmsNorm,
    /// Residual add and RMS norm, keeping the norm alone.
    AddRmsNorm,
    /// Softmax.
    Softmax,
    /// Logarithm of softmax.
    LogSoftmax,
    /// Bias and ReLU.
    BiasRelu,
    /// Bias and exact GELU.
    BiasGelu,
    /// Bias and GELU by the hyperbolic tangent.
    BiasGeluTanh,
    /// Bias and SiLU.
    BiasSilu,
}

impl RowOp {
    /// Whether a second matrix is added first.
    pub fn adds(self) -> bool {
        matches!(self, RowOp::AddLayerNorm | RowOp::AddRmsNorm)
    }
}

impl Named for RowOp {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::LayerNorm, "layernorm"),
        (Self::AddLayerNorm, "add-layernorm"),
        (Self::RmsNorm, "rmsnorm"),
        (Self::AddRmsNorm, "add-rmsnorm"),
        (Self::Softmax, "softmax"),
        (Self::LogSoftmax, "log-softmax"),
        (Self::BiasRelu, "bias-relu"),
        (Self::BiasGelu, "bias-gelu"),
        (Self::BiasGeluTanh, "bias-gelu-tanh"),
        (Self::BiasSilu, "bias-silu"),
    ];
}

/// Which part of a model a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// The encoder.
    Encoder,
    /// Encoder, and the decoder over as many given tokens in one pass.
    Forced,
    /// One decoder step, after `seq` source tokens and as many generated ones.
    Step,
    /// Greedy generation of as many tokens as the source has.
    Greedy,
    /// Beam search of width four over as many tokens as the source has.
    Beam4,
}

impl Named for Task {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Encoder, "encoder"),
        (Self::Forced, "forced"),
        (Self::Step, "step"),
        (Self::Greedy, "greedy"),
        (Self::Beam4, "beam4"),
    ];
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Gemm(Gemm { odd, dtype, layout, m, n, k }) => {
                let group = if *odd { "gemm-odd" } else { "gemm" };
                write!(f, "{group}/{}/{}/{m}x{n}x{k}", dtype.name(), layout.name())
            }
            Work::Attention(Attention { dtype, batch, heads, queries, keys, dim, mask }) => {
                write!(f, "attention/{}/{batch}x{heads}x{queries}x{keys}x{dim}/{}", dtype.name(), mask.name())
            }
            Work::Rows(Rows { op, dtype, rows, cols }) => write!(f, "{}/{}/{rows}x{cols}", op.name(), dtype.name()),
            Work::Model(Model { task, dtype, config, batch, seq }) => {
                write!(f, "model/{}/{}/{config}/{batch}x{seq}", task.name(), dtype.name())
            }
        }?;
        write!(f, "/t{}", self.threads)
    }
}

impl FromStr for Case {
    type Err = CaseError;

    fn from_str(id: &str) -> Result<Self, CaseError> {
        // An id has one spelling: what parses but would be printed otherwise is not an id.
        parse(id).filter(|case| case.to_string() == id).ok_or_else(|| CaseError(id.to_owned()))
    }
}

fn parse(id: &str) -> Option<Case> {
    let (head, threads) = id.rsplit_once("/t")?;
    let parts: Vec<&str> = head.split('/').collect();
    let work = match parts[..] {
        [group @ ("gemm" | "gemm-odd"), dtype, layout, shape] => {
            let [m, n, k] = sizes(shape)?;
            let (dtype, layout) = (Dtype::named(dtype)?, Layout::named(layout)?);
            Work::Gemm(Gemm { odd: group == "gemm-odd", dtype, layout, m, n, k })
        }
        ["attention", dtype, shape, mask] => {
            let [batch, heads, queries, keys, dim] = sizes(shape)?;
            let (dtype, mask) = (Dtype::named(dtype)?, MaskKind::named(mask)?);
            Work::Attention(Attention { dtype, batch, heads, queries, keys, dim, mask })
        }
        ["model", task, dtype, config, shape] => {
            let [batch, seq] = sizes(shape)?;
            let (task, dtype) = (Task::named(task)?, Dtype::named(dtype)?);
            Work::Model(Model { task, dtype, config: config.to_owned(), batch, seq })
        }
        [op, dtype, shape] => {
            let [rows, cols] = sizes(shape)?;
            Work::Rows(Rows { op: RowOp::named(op)?, dtype: Dtype::named(dtype)?, rows, cols })
        }
        _ => return None,
    };
    Some(Case { work, threads: threads.parse().ok().filter(|&threads| threads > 0)? })
}

fn sizes<const N: usize>(shape: &str) -> Option<[usize; N]> {
    let sizes: Option<Vec<usize>> = shape.split('x').map(|size| size.parse().ok()).collect();
    // Costs must be countable.
    let countable = |sizes: &Vec<usize>| {
        sizes.iter().try_fold(1, |product: usize, &size| product.checked_mul(size.max(1))).is_some_and(|n| n <= 1 << 48)
    };
    sizes.filter(countable)?.try_into().ok()
}

/// A string that is not a case id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError(pub String);

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a case id", self.0)
    }
}

impl std::error::Error for CaseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        for id in [
            "gemm/f32/nt-packed/32x2048x512/t1",
            "gemm-odd/bf16w/nn/33x511x513/t2",
            "attention/f16/1x8x512x512x64/causal/t2",
            "add-layernorm/f32/512x512/t1",
            "model/greedy/f32/base/8x32/t16",
            "model/beam4/bf16/annalog/1x60/t1",
        ] {
            let case: Case = id.parse().unwrap();
            assert_eq!(case.to_string(), id);
        }
    }

    #[test]
    fn parses_into_the_right_places() {
        let case: Case = "gemm/f16w/nt/7x1000x3/t4".parse().unwrap();
        let work = Gemm { odd: false, dtype: Dtype::F16w, layout: Layout::Nt, m: 7, n: 1000, k: 3 };
        assert_eq!(case, Case { work: Work::Gemm(work), threads: 4 });
    }

    #[test]
    fn rejects_what_is_not_an_id() {
        for id in [
            "",
            "gemm",
            "gemm/f32/nt/32x32/t1",
            "gemm/f32/nt/32x32x32x32/t1",
            "gemm/f32/nt/32x32x32",
            "gemm/f32/nt/32x32x32/t0",
            "gemm/f32/nt/32x032x32/t1",
            "gemm/f32/nt/0x65536x18446744073709551615/t1",
            "gemm/f64/nt/32x32x32/t1",
            "layernorm/f32/512x512/none/t1",
            "sort/f32/512x512/t1",
            "model/greedy/f32/base/8x/t1",
        ] {
            assert_eq!(id.parse::<Case>(), Err(CaseError(id.to_owned())));
        }
    }

    #[test]
    fn key_lengths_are_full_without_padding() {
        let case =
            Attention { dtype: Dtype::F32, batch: 5, heads: 1, queries: 2, keys: 10, dim: 4, mask: MaskKind::Causal };
        assert_eq!(case.key_lengths(), [10; 5]);
        assert_eq!(Attention { mask: MaskKind::Keypad, ..case }.key_lengths(), [8, 10, 5, 3, 8]);
    }
}
