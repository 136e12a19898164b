//! Strategies for proptest: layouts, values and masks.

use crate::{
    Fill, Heads, Layout, Matrix, Rng, Strided,
    mask::{OwnedCausal, OwnedMask},
    strided::GAP,
};
use gristmill_simd::Element;
use proptest::{array::uniform4, prelude::*, sample::select};

/// Any kind of fill, normal values most often.
pub fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![4 => Just(Fill::Normal), 1 => Just(Fill::Integers), 1 => Just(Fill::Scaled), 2 => Just(Fill::Special)]
}

/// A size around the edges of tiles, or any below `limit`.
pub fn size(limit: usize) -> impl Strategy<Value = usize> {
    let edges: Vec<usize> = crate::shapes::EDGES.into_iter().filter(|&edge| edge <= limit).collect();
    prop_oneof![select(edges), 0..=limit]
}

/// Layouts that an output may have.
pub fn output_layout<const N: usize>() -> impl Strategy<Value = Layout<N>> {
    let shuffled = Just((0..N).collect::<Vec<_>>()).prop_shuffle();
    let shuffled = shuffled.prop_map(|order| std::array::from_fn(|d| order[d]));
    let order = prop_oneof![Just(std::array::from_fn(|d| d)), shuffled];
    let step = prop_oneof![4 => Just(1usize), 1 => 2..4usize];
    let padding = prop_oneof![Just([0usize; N]), proptest::array::uniform::<_, N>(0..5usize)];
    let absurd = select(vec![isize::MAX, isize::MIN, 0, -1]).prop_map(Some);
    let idle = prop_oneof![3 => Just(None), 1 => absurd];
    (order, step, padding, 0..3usize, idle).prop_map(|(order, step, padding, margin, idle)| Layout {
        order,
        step,
        padding,
        margin,
        idle,
        ..Layout::default()
    })
}

/// Layouts that an input may have: also backwards and with strides of zero.
pub fn input_layout<const N: usize>() -> impl Strategy<Value = Layout<N>> {
    let flags = |weight| prop_oneof![weight => Just([false; N]), 1 => proptest::array::uniform::<_, N>(any::<bool>())];
    (output_layout(), flags(3), flags(6)).prop_map(|(layout, reversed, repeated)| Layout {
        reversed,
        repeated,
        ..layout
    })
}

/// An input of these sizes in any layout, with any values.
pub fn input<T: Element, const N: usize>(sizes: [usize; N]) -> impl Strategy<Value = Strided<T, N>> {
    (input_layout(), fill(), any::<u64>())
        .prop_map(move |(layout, fill, seed)| Strided::filled(sizes, &layout, fill, seed))
}

/// An output of these sizes in any layout that outputs may have, holding any values.
pub fn output<T: Element, const N: usize>(sizes: [usize; N]) -> impl Strategy<Value = Strided<T, N>> {
    (output_layout(), fill(), any::<u64>())
        .prop_map(move |(layout, fill, seed)| Strided::filled(sizes, &layout, fill, seed))
}

/// An input matrix.
pub fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Matrix> {
    input([rows, cols])
}

/// An output matrix.
pub fn output_matrix(rows: usize, cols: usize) -> impl Strategy<Value = Matrix> {
    output([rows, cols])
}

/// Input heads of the sizes `[B, S, H, D]`.
pub fn heads(sizes: [usize; 4]) -> impl Strategy<Value = Heads> {
    input(sizes)
}

/// Output heads of the sizes `[B, S, H, D]`.
pub fn output_heads(sizes: [usize; 4]) -> impl Strategy<Value = Heads> {
    output(sizes)
}

/// `len` values of any kind: a bias, gamma, beta.
pub fn vector<T: Element>(len: usize) -> impl Strategy<Value = Vec<T>> {
    (fill(), any::<u64>()).prop_map(move |(fill, seed)| fill.vec(seed, len))
}

/// A mask of any combination of its parts, for the sizes `[B, H, S_q, S_k]`.
pub fn mask(sizes: [usize; 4]) -> impl Strategy<Value = OwnedMask> {
    let [batch, _, _, keys] = sizes;
    let key_lengths = proptest::collection::vec(0..=keys, batch);
    let (keep, bias) = (keep(sizes), bias(sizes));
    let half = |strategy| proptest::option::weighted(0.5, strategy);
    let key_lengths = proptest::option::weighted(0.4, key_lengths);
    (
        half(causal(sizes).boxed()),
        key_lengths,
        proptest::option::weighted(0.3, keep),
        proptest::option::weighted(0.4, bias),
    )
        .prop_map(|(causal, key_lengths, keep, bias)| OwnedMask { causal, key_lengths, keep, bias })
}

fn causal([batch, _, queries, keys]: [usize; 4]) -> impl Strategy<Value = OwnedCausal> {
    let (lowest, highest) = (-(queries as isize) - 2, keys as isize + 2);
    let offset = lowest..=highest;
    prop_oneof![
        3 => Just(OwnedCausal::BottomRight),
        2 => prop_oneof![6 => offset.clone(), 1 => Just(isize::MIN), 1 => Just(isize::MAX)].prop_map(OwnedCausal::Offset),
        2 => proptest::collection::vec(offset, batch).prop_map(OwnedCausal::PerBatch),
    ]
}

/// Sizes of which each dimension is whole or broadcasts.
fn broadcast(sizes: [usize; 4]) -> impl Strategy<Value = [usize; 4]> {
    uniform4(any::<bool>()).prop_map(move |whole| std::array::from_fn(|d| if whole[d] { sizes[d] } else { 1 }))
}

/// A boolean mask; the hidden share varies from none to all.
fn keep(sizes: [usize; 4]) -> impl Strategy<Value = Strided<bool, 4>> {
    (broadcast(sizes), input_layout(), 0..=8usize, any::<u64>()).prop_map(|(sizes, layout, hidden, seed)| {
        let mut rng = Rng::new(seed);
        Strided::new(sizes, &layout, false, || rng.below(8) >= hidden)
    })
}

/// An additive mask; some of it hides, and now and then some of it is NaN.
fn bias(sizes: [usize; 4]) -> impl Strategy<Value = Strided<f32, 4>> {
    let nan = prop_oneof![3 => Just(false), 1 => Just(true)];
    (broadcast(sizes), input_layout(), 0..=8usize, nan, any::<u64>()).prop_map(|(sizes, layout, hidden, nan, seed)| {
        let mut rng = Rng::new(seed);
        Strided::new(sizes, &layout, GAP, || match rng.below(8) {
            n if n < hidden => f32::NEG_INFINITY,
            _ if nan && rng.one_in(16) => Fill::Special.value(&mut rng),
            _ => rng.normal(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes, and something of these sizes.
    fn sized<S: Strategy>(of: fn([usize; 4]) -> S) -> impl Strategy<Value = ([usize; 4], S::Value)> {
        uniform4(0..4usize).prop_flat_map(move |sizes| (Just(sizes), of(sizes)))
    }

    proptest! {
        #[test]
        fn inputs_make_views((sizes, heads) in sized(heads)) {
            prop_assert_eq!(heads.heads().sizes(), sizes);
            heads.assert_gaps("an input");
        }

        #[test]
        fn outputs_make_views((sizes, mut heads) in sized(output_heads)) {
            prop_assert_eq!(heads.heads_mut().sizes(), sizes);
            heads.assert_gaps("an output");
        }

        #[test]
        fn masks_fit_their_sizes((sizes, mask) in sized(mask)) {
            let [b, h, sq, sk] = sizes;
            prop_assert_eq!(mask.mask().validate(b, h, sq, sk), Ok(()));
        }
    }
}
