//! Fused layer normalisation.
