//! CPU kernels for Transformer inference that return the bits of their naive versions.
