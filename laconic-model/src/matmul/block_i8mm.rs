//! Products of blocks by `usmmla`; see `int8_i8mm`, and `block_neon` for what codes are.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;
use std::ops::Range;

use super::block_kernels::{add_mins, bytes, codes, k_kernel, nibble_places, times, widened};
use super::blockwise::{BlockTile, Layout, Line, STEPS, SUBS};
use super::int8_i8mm::{add_squares, pair, rows_of, squares_of, zipped};
use super::kernels::{VECTORS, add_scaled, load_lanes, places};
use super::{GROUP, Lanes};
use crate::blocks::BlockFormat;

#[inline]
#[target_feature(enable = "neon")]
fn zip_all<const V: usize>(first: [uint8x16_t; V], next: [uint8x16_t; V]) -> [[uint32x4_t; 2]; V] {
    let mut all = [[vdupq_n_u32(0); 2]; V];
    for ((all, first), next) in all.iter_mut().zip(first).zip(next) {
        *all = zipped(first, next);
    }
    all
}

#[target_feature(enable = "neon,i8mm")]
pub(super) fn q8_0_i8mm<const R: usize, const V: usize>(
    x: &BlockTile<'_>,
    lines: &[Line],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    out[0] = [[0.0; GROUP]; R];
    let chunk = Layout::of(BlockFormat::Q8_0).chunk;
    let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
    let rows = words.zip(x.scales.as_chunks::<R>().0);
    let rows = rows.zip(x.sums.as_chunks::<R>().0);
    let mut pairs = [[[0; R]; 2]; STEPS / 2];
    for (lines, ((words, x_scales), x_sums)) in lines.chunks_exact(chunk).zip(rows) {
        pair(words, &mut pairs);
        let start = x_sums.map(|[first, last]| -128 * (first + last));
        let scales = widened(&lines[0]);
        let (steps, _) = lines[1..].as_chunks::<2>();
        for pass in 0..VECTORS / V {
            let at = places::<V>(pass);
            let mut squares = squares_of::<R, V>(&start);
            for ([first, next], x) in steps.as_chunks::<2>().0.iter().zip(&pairs) {
                let w = zip_all(bytes(first, at), bytes(next, at));
                add_squares(&mut squares, w, x);
            }
            let scales = load_lanes(&scales, at);
            add_scaled(&mut out[0], &rows_of(&squares), scales, x_scales, at);
        }
    }
}

k_kernel!(k_i8mm, part_i8mm, "neon,i8mm");

/// The inputs that share a scale: four steps of `Q6_K`, else eight.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn part_i8mm<const R: usize, const V: usize, const HIGH: usize>(
    out: &mut [Lanes; R],
    start: [i32; R],
    lines: &[Line],
    steps: Range<usize>,
    words: &[[i32; R]],
    scales: &Lanes,
    x_scales: &[f32; R],
) {
    let mut pairs = [[[0; R]; 2]; STEPS / 2];
    pair(&words[steps.clone()], &mut pairs);
    for pass in 0..VECTORS / V {
        let at = nibble_places::<V>(pass);
        let mut squares = squares_of::<R, V>(&start);
        for (step, x) in steps.clone().step_by(2).zip(&pairs) {
            let first = codes::<V, HIGH>(lines, step, at);
            let next = codes::<V, HIGH>(lines, step + 1, at);
            add_squares(&mut squares, zip_all(first, next), x);
        }
        let scales = load_lanes(scales, at);
        add_scaled(out, &rows_of(&squares), scales, x_scales, at);
    }
}
