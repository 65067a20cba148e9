//! Products of bytes by `usmmla`, which multiplies two outputs with two rows, eight inputs each.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::int8::{ByteLine, Int8Tile, STEPS};
use super::kernels::{LANES, VECTORS, add_scaled, load_lanes, load_some, places};
use super::{FloatLine, GROUP, Lanes};

/// Two outputs times two rows: output, row in the order 00 01 10 11.
type Square = int32x4_t;

/// Of `V` vectors of outputs, each two squares, and of pairs of `R` rows: of this array the first
/// half is used.
pub(super) type Squares<const R: usize, const V: usize> = [[[Square; 2]; V]; R];

/// Two steps of all rows: the words of a row one behind the other.
pub(super) type Pair<const R: usize> = [[i32; R]; 2];

/// Four inputs of four outputs, and their next four, to eight of two outputs and of two more.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn zipped(first: uint8x16_t, next: uint8x16_t) -> [uint32x4_t; 2] {
    let (first, next) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(next));
    [vzip1q_u32(first, next), vzip2q_u32(first, next)]
}

/// Pairs of steps, zeros behind the last if their number is odd.
#[inline(always)]
pub(super) fn pair<const R: usize>(steps: &[[i32; R]], out: &mut [Pair<R>]) {
    for (steps, out) in steps.chunks(2).zip(out) {
        let zeros = [0; R];
        let (first, next) = (&steps[0], steps.get(1).unwrap_or(&zeros));
        let (words, _) = out.as_flattened_mut().as_chunks_mut::<2>();
        for ((words, first), next) in words.iter_mut().zip(first).zip(next) {
            *words = [*first, *next];
        }
    }
}

/// Sums that begin with a number for each row.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn squares_of<const R: usize, const V: usize>(start: &[i32; R]) -> Squares<R, V> {
    let mut squares = [[[vdupq_n_s32(0); 2]; V]; R];
    for (squares, start) in squares.iter_mut().zip(start.chunks(2)) {
        let start = vreinterpretq_s64_u32(load_some(start));
        *squares = [[vreinterpretq_s32_s64(vdupq_laneq_s64::<0>(start)); 2]; V];
    }
    squares
}

/// Adds products of unsigned bytes with signed ones. Its intrinsic is not stable in Rust.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn add_square(mut sums: Square, w: uint32x4_t, x: int32x4_t) -> Square {
    // SAFETY: arithmetic in registers.
    unsafe {
        asm!(
            "usmmla {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Eight inputs, of some outputs and all rows.
#[inline]
#[target_feature(enable = "neon,i8mm")]
pub(super) fn add_squares<const R: usize, const V: usize>(
    squares: &mut Squares<R, V>,
    w: [[uint32x4_t; 2]; V],
    x: &Pair<R>,
) {
    for (squares, x) in squares.iter_mut().zip(x.as_flattened().chunks(LANES)) {
        let x = vreinterpretq_s32_u32(load_some(x));
        for (squares, w) in squares.iter_mut().zip(w) {
            for (square, w) in squares.iter_mut().zip(w) {
                *square = add_square(*square, w, x);
            }
        }
    }
}

/// The sums of each row, four outputs a vector.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn rows_of<const R: usize, const V: usize>(
    squares: &Squares<R, V>,
) -> [[int32x4_t; V]; R] {
    let mut dots = [[vdupq_n_s32(0); V]; R];
    for (dots, squares) in dots.chunks_mut(2).zip(squares) {
        for (idx, [low, high]) in squares.iter().enumerate() {
            dots[0][idx] = vuzp1q_s32(*low, *high);
            if let Some(second) = dots.get_mut(1) {
                second[idx] = vuzp2q_s32(*low, *high);
            }
        }
    }
    dots
}

#[inline]
#[target_feature(enable = "neon")]
fn load_two<const V: usize>(lines: [&ByteLine; 2], at: [usize; V]) -> [[uint32x4_t; 2]; V] {
    let mut loaded = [[vdupq_n_u32(0); 2]; V];
    for (loaded, at) in loaded.iter_mut().zip(at) {
        let [first, next] = [0, 1].map(|idx| lines[idx].0.as_chunks::<16>().0[at].as_ptr());
        // SAFETY: a vector is 16 bytes.
        *loaded = unsafe { zipped(vld1q_u8(first), vld1q_u8(next)) };
    }
    loaded
}

#[target_feature(enable = "neon,i8mm")]
pub(super) fn int8_i8mm<const R: usize, const V: usize>(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    out[0] = [[0.0; GROUP]; R];
    let rows = x.scales.as_chunks::<R>().0.iter();
    let rows = rows.zip(x.offsets.as_chunks::<R>().0);
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
    let mut pairs = [[[0; R]; 2]; STEPS / 2];
    for (((w, words), scales), (x_scales, offsets)) in blocks.zip(rows) {
        pair(words.as_chunks::<R>().0, &mut pairs);
        for pass in 0..VECTORS / V {
            let at = places::<V>(pass);
            let mut squares = squares_of::<R, V>(offsets);
            for (w, x) in w.chunks(2).zip(&pairs) {
                // Where there is no next step, x is zero.
                let w = load_two([&w[0], w.get(1).unwrap_or(&w[0])], at);
                add_squares(&mut squares, w, x);
            }
            let scales = load_lanes(&scales.0, at);
            add_scaled(&mut out[0], &rows_of(&squares), scales, x_scales, at);
        }
    }
}
