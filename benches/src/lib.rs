//! Criterion benches and the side-by-side referee for the Gristmill kernels.
