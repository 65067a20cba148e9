//! Products of bytes in NEON, by widening products or by `sdot`.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::int8::{ByteLine, Int8Tile, STEPS};
use super::kernels::{LANES, VECTORS, add_scaled, each_lane, load_lanes, load_some, places};
use super::{FloatLine, GROUP, Lanes};

/// Weights as signed bytes, of the outputs at some places.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_signed<const V: usize>(line: &[u8; 128], at: [usize; V]) -> [int8x16_t; V] {
    let (vectors, _) = line.as_chunks::<16>();
    let mut loaded = [vdupq_n_s8(0); V];
    for (loaded, at) in loaded.iter_mut().zip(at) {
        // SAFETY: a vector is 16 bytes.
        let bytes = unsafe { vld1q_u8(vectors[at].as_ptr()) };
        *loaded = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
    }
    loaded
}

/// Adds the products of four bytes a lane with those of one lane of `x`. Each side's are −128 to 127,
/// one of them at least −127: pairs stay below 2¹⁵.
#[inline]
#[target_feature(enable = "neon")]
fn dot_neon<const LANE: i32>(sums: int32x4_t, w: int8x16_t, x: int32x4_t) -> int32x4_t {
    let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(x));
    let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    let high = vmull_high_s8(w, x);
    vpadalq_s16(sums, vpaddq_s16(low, high))
}

/// As [`dot_neon`], in one instruction. Its intrinsic is not stable in Rust.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_dotprod<const LANE: i32>(mut sums: int32x4_t, w: int8x16_t, x: int32x4_t) -> int32x4_t {
    // SAFETY: arithmetic in registers.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// A step of four inputs, of some outputs and all rows.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_neon<const R: usize, const V: usize>(
    dots: &mut [[int32x4_t; V]; R],
    w: [int8x16_t; V],
    words: &[i32; R],
) {
    for (dots, words) in dots.chunks_mut(LANES).zip(words.chunks(LANES)) {
        let x = vreinterpretq_s32_u32(load_some(words));
        each_lane!(dot_neon, dots, w, x);
    }
}

/// As [`add_neon`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn add_dotprod<const R: usize, const V: usize>(
    dots: &mut [[int32x4_t; V]; R],
    w: [int8x16_t; V],
    words: &[i32; R],
) {
    for (dots, words) in dots.chunks_mut(LANES).zip(words.chunks(LANES)) {
        let x = vreinterpretq_s32_u32(load_some(words));
        each_lane!(dot_dotprod, dots, w, x);
    }
}

/// Products of bytes, whichever instructions add those of a step.
macro_rules! int8_kernel {
    ($name:ident, $features:literal, $add:ident) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<const R: usize, const V: usize>(
            x: &Int8Tile<'_>,
            w: &[ByteLine],
            scales: &[FloatLine],
            out: &mut [Lanes],
        ) {
            let (out, _) = out.as_chunks_mut::<R>();
            out[0] = [[0.0; GROUP]; R];
            let rows = x.scales.as_chunks::<R>().0;
            let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
            for (((w, words), scales), x_scales) in blocks.zip(rows) {
                for pass in 0..VECTORS / V {
                    let at = places::<V>(pass);
                    let mut dots = [[vdupq_n_s32(0); V]; R];
                    for (w, words) in w.iter().zip(words.as_chunks::<R>().0) {
                        $add(&mut dots, load_signed(&w.0, at), words);
                    }
                    let scales = load_lanes(&scales.0, at);
                    add_scaled(&mut out[0], &dots, scales, x_scales, at);
                }
            }
        }
    };
}
int8_kernel!(int8_neon, "neon", add_neon);
int8_kernel!(int8_dotprod, "neon,dotprod", add_dotprod);
