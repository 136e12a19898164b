//! The sizes that tests and benches share.

/// A matrix product: `[m, n, k]`.
pub type Gemm = [usize; 3];

/// Rows that a linear layer is called with: from one decoded token to a long batch.
pub const LINEAR_ROWS: [usize; 6] = [1, 8, 32, 128, 512, 2048];

/// The Transformer's linear layers, `[n, k]`: projections, stacked projections, both halves of the feed-forward
/// block.
pub const LINEAR_LAYERS: [[usize; 2]; 4] = [[512, 512], [1536, 512], [2048, 512], [512, 2048]];

/// Square products.
pub const SQUARES: [usize; 6] = [64, 128, 256, 512, 1024, 2048];

/// The output layer over a vocabulary of 37,000.
pub const VOCABULARY: [Gemm; 2] = [[1, 37_000, 512], [32, 37_000, 512]];

/// The products inside attention.
pub const ATTENTION_LIKE: [Gemm; 4] = [[128, 128, 64], [128, 64, 128], [512, 512, 64], [512, 64, 512]];

/// Sizes that fit no tile.
pub const ODD: [Gemm; 3] = [[127, 509, 253], [7, 1000, 3], [33, 33, 33]];

/// Every product of the list.
pub fn gemm() -> Vec<Gemm> {
    let squares = SQUARES.iter().map(|&n| [n, n, n]);
    let linear = LINEAR_LAYERS.iter().flat_map(|&[n, k]| LINEAR_ROWS.iter().map(move |&m| [m, n, k]));
    squares.chain(linear).chain(VOCABULARY).chain(ATTENTION_LIKE).chain(ODD).collect()
}

/// The products of the list with at most `limit` multiplications.
pub fn gemm_below(limit: usize) -> Vec<Gemm> {
    gemm().into_iter().filter(|shape| shape.iter().product::<usize>() <= limit).collect()
}

/// Sizes around the multiples of registers, panels and tiles.
pub const EDGES: [usize; 22] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65];

/// Key counts around tiles and the blocks of 512 keys.
pub const KEY_EDGES: [usize; 14] = [0, 1, 2, 15, 16, 17, 31, 33, 64, 65, 511, 512, 513, 1025];

/// Widths of a head.
pub const HEAD_DIMS: [usize; 11] = [1, 3, 8, 16, 20, 32, 33, 64, 80, 96, 128];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_whole() {
        let all = gemm();
        assert_eq!(all.len(), 6 + 24 + 2 + 4 + 3);
        assert!(all.contains(&[2048, 512, 2048]) && all.contains(&[8, 1536, 512]));
        assert!(gemm_below(64 * 64 * 64).contains(&[64, 64, 64]) && gemm_below(0).is_empty());
    }
}
