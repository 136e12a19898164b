//! Row-wise Transformer kernels: softmax, bias and activation, argmax, embedding.
