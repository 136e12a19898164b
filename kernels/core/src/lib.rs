//! Views, masks, errors, threads and scratch memory shared by the Gristmill kernels.
