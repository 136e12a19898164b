//! The encoder-decoder Transformer of 'Attention Is All You Need' on the Gristmill kernels.
