//! The kernels in NEON, whose vectors hold four outputs: which there are, and those of numbers. What
//! `vectorized` runs needs nothing: every aarch64 has NEON, and the compiler uses it.
//!
//! 24 of the 32 registers hold sums: those of `V` vectors of outputs in each of `R` rows. So the
//! higher a tile, the fewer of a group's outputs are computed at a time, while the inputs that
//! they share stay in the first-level cache.
//!
//! Each output has a lane of its own and its products are added in the order of the inputs, as in
//! the other kernels. Loops instead of `array::map`: see `x86`.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;

use super::cpu::{Cpu, Level, Work};
use super::int8::{Arrangement, ByteLine, Int8Tile};
use super::int8_i8mm::int8_i8mm;
use super::int8_neon::{int8_dotprod, int8_neon};
use super::{FloatLine, GROUP, Lanes, scalar};

/// Numbers of a vector, and steps of four bytes.
pub(super) const LANES: usize = 4;
/// Vectors of a group's outputs.
pub(super) const VECTORS: usize = GROUP / LANES;

/// Inputs that are multiplied with all outputs in turn: 8 KiB of weights.
const RUN: usize = 64;

/// Rows of the tallest tile of bytes without `sdot`: 16 registers for sums, as products take more.
pub(super) const NEON_HEIGHT: usize = 8;

/// Calls a kernel that is compiled for each height of a tile, with vectors of outputs at a time.
macro_rules! by_height {
    ($kernel:ident $args:tt at $height:expr) => {
        by_height!($kernel $args at $height, of
            (1 8) (2 8) (3 4) (4 4) (5 4) (6 4) (7 2) (8 2) (9 2) (10 2) (11 2) (12 2))
    };
    ($kernel:ident $args:tt at $height:expr, of $(($n:literal $v:literal))*) => {
        match $height {
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            $($n => unsafe { $kernel::<$n, $v> $args },)*
            height => unreachable!("a tile of {height} rows"),
        }
    };
}
pub(super) use by_height;

/// `sums = op(sums, w, x)` for four rows or fewer, each with a lane of `x`.
macro_rules! each_lane {
    ($op:ident, $sums:expr, $w:expr, $x:expr) => {
        each_lane!($op, $sums, $w, $x, 0 1 2 3)
    };
    ($op:ident, $sums:expr, $w:expr, $x:expr, $($lane:literal)*) => {
        $(if let Some(sums) = $sums.get_mut($lane) {
            for (sum, w) in sums.iter_mut().zip($w) {
                *sum = $op::<$lane>(*sum, w, $x);
            }
        })*
    };
}
pub(super) use each_lane;

impl Cpu {
    /// Rows of the tallest tile.
    pub(super) fn max_height(self) -> usize {
        match self.level() {
            Level::Scalar => 4,
            Level::Neon | Level::NeonDotprod | Level::NeonI8mm => 12,
        }
    }

    /// As [`max_height`](Self::max_height), of rows as bytes, and how these lie in it.
    pub(super) fn int8_tiles(self) -> (usize, Arrangement) {
        let max_height = match self.level() {
            Level::Neon => NEON_HEIGHT,
            _ => self.max_height(),
        };
        (max_height, Arrangement::SideBySide)
    }

    /// Runs `work`, compiled for NEON as all code is.
    pub(crate) fn vectorized<W: Work>(self, work: W) -> W::Output {
        work.run()
    }
}

/// `out += x w` for one tile: `x` is inputs × height, `w` one line for each input.
pub(super) fn float(cpu: Cpu, x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    match cpu.level() {
        Level::Scalar => scalar::float(x, w, out),
        Level::Neon | Level::NeonDotprod | Level::NeonI8mm => {
            by_height!(float_neon(x, w, out) at out.len())
        }
    }
}

/// `out = x w` for one tile of quantized rows.
pub(super) fn int8(
    cpu: Cpu,
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    match cpu.level() {
        Level::Scalar => scalar::int8(x, w, scales, out),
        Level::Neon => {
            by_height!(
                int8_neon(x, w, scales, out) at out.len(), of
                (1 8) (2 4) (3 4) (4 4) (5 2) (6 2) (7 2) (8 2)
            )
        }
        Level::NeonDotprod => by_height!(int8_dotprod(x, w, scales, out) at out.len()),
        Level::NeonI8mm => {
            by_height!(
                int8_i8mm(x, w, scales, out) at out.len(), of
                (1 4) (2 4) (3 4) (4 4) (5 2) (6 2) (7 2) (8 2) (9 2) (10 2) (11 2) (12 2)
            )
        }
    }
}

/// A number of 32 bits.
///
/// # Safety
/// Four bytes, any of which make a `u32`, at an address that is a multiple of four.
pub(super) unsafe trait Word: Copy {}
// SAFETY: as is said there.
unsafe impl Word for f32 {}
// SAFETY: as is said there.
unsafe impl Word for i32 {}
// SAFETY: as is said there.
unsafe impl Word for u32 {}

/// Up to four words, zeros behind them.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_some<T: Word>(words: &[T]) -> uint32x4_t {
    let at = words.as_ptr().cast::<u32>();
    let zeros = vdupq_n_u32(0);
    let two_zeros = vget_low_u32(zeros);
    // SAFETY: no more words are read than there are, and each is a `u32` as well.
    unsafe {
        match words.len() {
            0 => zeros,
            1 => vld1q_lane_u32::<0>(at, zeros),
            2 => vcombine_u32(vld1_u32(at), two_zeros),
            3 => vld1q_lane_u32::<2>(at.add(2), vcombine_u32(vld1_u32(at), two_zeros)),
            _ => vld1q_u32(at),
        }
    }
}

/// The vectors of a group's outputs at some places.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_lanes<const V: usize>(lanes: &Lanes, at: [usize; V]) -> [float32x4_t; V] {
    let (vectors, _) = lanes.as_chunks::<LANES>();
    let mut loaded = [vdupq_n_f32(0.0); V];
    for (loaded, at) in loaded.iter_mut().zip(at) {
        // SAFETY: a vector is 4 numbers.
        *loaded = unsafe { vld1q_f32(vectors[at].as_ptr()) };
    }
    loaded
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store_lanes<const V: usize>(
    sums: [float32x4_t; V],
    at: [usize; V],
    lanes: &mut Lanes,
) {
    let (vectors, _) = lanes.as_chunks_mut::<LANES>();
    for (sums, at) in sums.into_iter().zip(at) {
        // SAFETY: a vector is 4 numbers.
        unsafe { vst1q_f32(vectors[at].as_mut_ptr(), sums) };
    }
}

/// The places of the `pass`th `V` vectors.
#[inline(always)]
pub(super) fn places<const V: usize>(pass: usize) -> [usize; V] {
    let mut places = [0; V];
    for (idx, place) in places.iter_mut().enumerate() {
        *place = pass * V + idx;
    }
    places
}

#[target_feature(enable = "neon")]
fn float_neon<const R: usize, const V: usize>(x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
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
                let w = load_lanes::<V>(&w.0, at);
                for (sums, x) in sums.chunks_mut(LANES).zip(x.chunks(LANES)) {
                    let x = vreinterpretq_f32_u32(load_some(x));
                    each_lane!(vfmaq_laneq_f32, sums, w, x);
                }
            }
            for (out, sums) in out[0].iter_mut().zip(sums) {
                store_lanes(sums, at, out);
            }
        }
    }
}

/// `out += dots × scales × x_scales`
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_scaled<const R: usize, const V: usize>(
    out: &mut [Lanes; R],
    dots: &[[int32x4_t; V]; R],
    scales: [float32x4_t; V],
    x_scales: &[f32; R],
    at: [usize; V],
) {
    for ((out, dots), x_scale) in out.iter_mut().zip(dots).zip(x_scales) {
        let mut sums = load_lanes(out, at);
        for ((sums, dots), scale) in sums.iter_mut().zip(dots).zip(scales) {
            let scale = vmulq_n_f32(scale, *x_scale);
            *sums = vfmaq_f32(*sums, vcvtq_f32_s32(*dots), scale);
        }
        store_lanes(sums, at, out);
    }
}
