//! Tiled matrix products with prepacked weights and fused epilogues.
