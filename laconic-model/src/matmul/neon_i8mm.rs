//! Products of bytes by `usmmla`, which multiplies two outputs with two rows, eight inputs each.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::int8::{ByteLine, Int8Tile, STEPS};
use super::kernels::{VECTORS, add_scaled, load_lanes, load_some, places};
use super::{FloatLine, GROUP, Lanes};

/// `out = x w` for one tile. Only for a processor with these instructions.
pub(super) fn int8_i8mm(x: &Int8Tile<'_>, w: &[ByteLine], scales: &[FloatLine], out: &mut [Lanes]) {
    /// Rows, pairs of them, vectors of outputs at a time.
    macro_rules! by_height {
        ($(($n:literal $p:literal $v:literal))*) => {
            match out.len() {
                // SAFETY: a `Cpu` of this level exists only where its features were detected.
                $($n => unsafe { int8_pairs::<$n, $p, $v>(x, w, scales, out) },)*
                height => unreachable!("a tile of {height} rows"),
            }
        };
    }
    by_height!(
        (1 1 4) (2 1 4) (3 2 4) (4 2 4) (5 3 2) (6 3 2)
        (7 4 2) (8 4 2) (9 5 2) (10 5 2) (11 6 2) (12 6 2)
    );
}

/// Two outputs times two rows: output, row in the order 00 01 10 11.
type Square = int32x4_t;

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

/// A step of four inputs and the next step, of two outputs and of two more.
#[inline]
#[target_feature(enable = "neon")]
fn load_two(lines: [&ByteLine; 2], at: usize) -> [uint32x4_t; 2] {
    let [a, b] = lines.map(|line| line.0.as_chunks::<16>().0[at].as_ptr());
    // SAFETY: a vector is 16 bytes.
    let (a, b) = unsafe { (vld1q_u8(a), vld1q_u8(b)) };
    let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
    [vzip1q_u32(a, b), vzip2q_u32(a, b)]
}

/// The words of rows, two steps of a row one behind the other, zeros where there is none.
#[inline(always)]
fn pair_steps<const R: usize, const P: usize>(words: &[i32], out: &mut [[[i32; 4]; P]]) {
    let (steps, _) = words.as_chunks::<R>();
    for (steps, out) in steps.chunks(2).zip(out) {
        let zeros = [0; R];
        let (a, b) = (&steps[0], steps.get(1).unwrap_or(&zeros));
        for ((a, b), out) in a.chunks(2).zip(b.chunks(2)).zip(out) {
            *out = match (a, b) {
                ([a0, a1], [b0, b1]) => [*a0, *b0, *a1, *b1],
                _ => [a[0], b[0], 0, 0],
            };
        }
    }
}

/// `R` rows, `P` pairs of them.
#[target_feature(enable = "neon,i8mm")]
fn int8_pairs<const R: usize, const P: usize, const V: usize>(
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
    let mut pairs = [[[0; 4]; P]; STEPS / 2];
    for (((w, words), scales), (x_scales, offsets)) in blocks.zip(rows) {
        pair_steps::<R, P>(words, &mut pairs);
        for pass in 0..VECTORS / V {
            let at = places::<V>(pass);
            let mut squares = [[[vdupq_n_s32(0); 2]; V]; P];
            for (squares, offsets) in squares.iter_mut().zip(offsets.chunks(2)) {
                let offsets = vreinterpretq_s64_u32(load_some(offsets));
                *squares = [[vreinterpretq_s32_s64(vdupq_laneq_s64::<0>(offsets)); 2]; V];
            }
            for (w, x) in w.chunks(2).zip(&pairs) {
                let lines = [&w[0], w.get(1).unwrap_or(&w[0])];
                let mut loaded = [[vdupq_n_u32(0); 2]; V];
                for (loaded, at) in loaded.iter_mut().zip(at) {
                    *loaded = load_two(lines, at);
                }
                for (squares, x) in squares.iter_mut().zip(x) {
                    let x = vreinterpretq_s32_u32(load_some(x));
                    for (squares, w) in squares.iter_mut().zip(loaded) {
                        for (square, w) in squares.iter_mut().zip(w) {
                            *square = add_square(*square, w, x);
                        }
                    }
                }
            }
            let dots = rows_of::<R, P, V>(squares);
            let scales = load_lanes(&scales.0, at);
            add_scaled(&mut out[0], &dots, scales, x_scales, at);
        }
    }
}

/// The products of each row, four outputs a vector.
#[inline]
#[target_feature(enable = "neon")]
fn rows_of<const R: usize, const P: usize, const V: usize>(
    squares: [[[Square; 2]; V]; P],
) -> [[int32x4_t; V]; R] {
    let mut dots = [[vdupq_n_s32(0); V]; R];
    for (dots, squares) in dots.chunks_mut(2).zip(squares) {
        for (idx, [low, high]) in squares.into_iter().enumerate() {
            dots[0][idx] = vuzp1q_s32(low, high);
            if let Some(second) = dots.get_mut(1) {
                second[idx] = vuzp2q_s32(low, high);
            }
        }
    }
    dots
}
