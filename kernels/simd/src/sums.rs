//! Row sums in the one order that every level shares.
//!
//! Element `i` of a row goes to lane `i % 64`; a lane is a sequential chain from +0.0; the 64 lanes are combined by
//! halving (`l` with `l + 32`, then `+ 16`, down to `+ 1`). See `kernels/NUMERICS.md`, "Sums over a row".

use crate::Isa;

/// Lanes of a row sum.
pub const SUM_LANES: usize = 64;

/// Registers that hold the lanes of a row sum.
#[inline(always)]
pub const fn sum_registers<I: Isa>() -> usize {
    SUM_LANES / I::LANES
}

/// The halving tree over the 64 lanes; register `j` holds lanes `j * LANES ..`.
#[inline(always)]
pub fn reduce64<I: Isa>(isa: I, mut lanes: I::Lanes64) -> f32 {
    isa.reduce_add(halve(isa, &mut lanes.as_mut()[..sum_registers::<I>()]))
}

/// The first steps of the halving tree, down to the lanes of one register; the number of registers is a power of two.
#[inline(always)]
pub fn halve<I: Isa>(isa: I, registers: &mut [I::F32]) -> I::F32 {
    let mut half = registers.len() / 2;
    while half > 0 {
        for j in 0..half {
            registers[j] = isa.add(registers[j], registers[j + half]);
        }
        half /= 2;
    }
    registers[0]
}
