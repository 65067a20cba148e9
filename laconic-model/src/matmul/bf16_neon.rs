//! Products of bfloat16 in NEON, by widening: a sum has the bits of the scalar twin, as products of
//! 8 by 8 bits are exact. (`bfdot` has a rounding of its own.)
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;

use super::Lanes;
use super::bf16::{PairLine, scalar};
use super::cpu::{Cpu, Level};
use super::kernels::{
    LANES, VECTORS, by_height, each_lane, load_lanes, load_some, places, store_lanes,
};

/// Pairs of inputs that are multiplied with all outputs in turn: 8 KiB of weights.
const RUN: usize = 64;

/// `out += x w` for one tile.
pub(super) fn product(cpu: Cpu, x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    match cpu.level() {
        Level::Scalar => scalar(cpu, x, w, out),
        Level::Neon | Level::NeonDotprod | Level::NeonI8mm => {
            by_height!(
                widening(x, w, out) at out.len(), of
                (1 8) (2 4) (3 4) (4 4) (5 4) (6 2) (7 2) (8 2) (9 2) (10 2) (11 2) (12 2)
            )
        }
    }
}

/// The first numbers of words.
#[inline]
#[target_feature(enable = "neon")]
fn first(words: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vshlq_n_u32::<16>(words))
}

#[inline]
#[target_feature(enable = "neon")]
fn second(words: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff_0000)))
}

#[target_feature(enable = "neon")]
fn widening<const R: usize, const V: usize>(x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let runs = x.as_chunks::<R>().0.chunks(RUN).zip(w.chunks(RUN));
    for (x, w) in runs {
        for pass in 0..VECTORS / V {
            let at = places::<V>(pass);
            let mut sums = [[vdupq_n_f32(0.0); V]; R];
            for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
                *sums = load_lanes(lanes, at);
            }
            for (x, w) in x.iter().zip(w) {
                let mut numbers = [[vdupq_n_f32(0.0); V]; 2];
                for (idx, at) in at.into_iter().enumerate() {
                    let words = load_some(&w.0.as_chunks::<LANES>().0[at]);
                    (numbers[0][idx], numbers[1][idx]) = (first(words), second(words));
                }
                for (sums, x) in sums.chunks_mut(LANES).zip(x.chunks(LANES)) {
                    let x = load_some(x);
                    let (x0, x1) = (first(x), second(x));
                    each_lane!(vfmaq_laneq_f32, sums, numbers[1], x1);
                    each_lane!(vfmaq_laneq_f32, sums, numbers[0], x0);
                }
            }
            for (out, sums) in out[0].iter_mut().zip(sums) {
                store_lanes(sums, at, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bf16::{Bf16Input, Bf16Panels};
    use super::super::{Rows, Tiles};
    use super::*;

    #[test]
    fn widening_has_the_bits_of_the_scalar_twin() {
        let number = |idx: u16| (f32::from(idx) * 0.37).sin();
        let w: Vec<f32> = (500..500 + 32 * 131).map(number).collect();
        let panels = Bf16Panels::pack(&w, 131);
        for rows in 1..=12 {
            let x: Vec<f32> = (0..12 * 131).map(number).collect();
            let rows_of_x = Rows::of(&x[..rows * 131], 131);
            let input = Bf16Input::new(Cpu::this(), &rows_of_x, Tiles::new(rows, rows));
            let x = input.tile(&(0..rows), 0, 66, 131);
            let mut expected = vec![[0.5; 32]; rows];
            scalar(Cpu::this(), x, panels.group(0, 131), &mut expected);
            for cpu in Cpu::available() {
                if cpu.level() == Level::Scalar {
                    continue;
                }
                let mut ours = vec![[0.5; 32]; rows];
                product(cpu, x, panels.group(0, 131), &mut ours);
                assert_eq!(ours, expected, "{cpu:?} {rows}");
            }
        }
    }
}
