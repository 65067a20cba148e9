//! Products of blocks in NEON: codes are put together in registers, as they are needed.
//!
//! Codes of K formats have at most 6 bits, which are the same signed or not. Sums of 32 inputs are
//! exact integers; what is rounded is rounded in the order of the scalar twin.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::block_i8mm::{k_i8mm, q8_0_i8mm};
use super::block_scalar;
use super::blockwise::{BlockTile, HIGH_1, HIGH_2, Layout, Line, STEPS, SUBS};
use super::cpu::{Cpu, Level};
use super::int8_neon::{add_dotprod, add_neon};
use super::kernels::{LANES, NEON_HEIGHT, VECTORS, add_scaled, load_lanes, places, store_lanes};
use super::{GROUP, Lanes};
use crate::blocks::BlockFormat;

/// Rows of the tallest tile.
pub(super) fn max_height(cpu: Cpu) -> usize {
    match cpu.level() {
        Level::Scalar => 4,
        Level::Neon => NEON_HEIGHT,
        Level::NeonDotprod | Level::NeonI8mm => 12,
    }
}

/// Calls a kernel that is compiled for each height of a tile and each number of high bits, with
/// vectors of outputs at a time, bytes' and nibbles'.
macro_rules! by_shape {
    ($q8_0:ident $k:ident $args:tt, $format:expr, $height:expr, of $(($n:literal $v:literal $w:literal))*) => {
        match ($format, $height) {
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            $((BlockFormat::Q8_0, $n) => unsafe { $q8_0::<$n, $v> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q4K, $n) => unsafe { $k::<$n, $w, 0> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q5K, $n) => unsafe { $k::<$n, $w, 1> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q6K, $n) => unsafe { $k::<$n, $w, 2> $args },)*
            (_, height) => unreachable!("a tile of {height} rows"),
        }
    };
}

/// `out = x w` for one tile of quantized rows.
pub(super) fn product(
    cpu: Cpu,
    format: BlockFormat,
    x: &BlockTile<'_>,
    lines: &[Line],
    out: &mut [Lanes],
) {
    match cpu.level() {
        Level::Scalar => block_scalar::product(format, x, lines, out),
        Level::Neon => by_shape!(
            q8_0_neon k_neon (x, lines, out), format, out.len(), of
            (1 4 4) (2 4 4) (3 4 4) (4 4 2) (5 2 2) (6 2 2) (7 2 2) (8 2 2)
        ),
        Level::NeonDotprod => by_shape!(
            q8_0_dotprod k_dotprod (x, lines, out), format, out.len(), of
            (1 4 4) (2 4 4) (3 4 4) (4 4 4) (5 4 2) (6 4 2)
            (7 2 2) (8 2 2) (9 2 2) (10 2 2) (11 2 2) (12 2 2)
        ),
        Level::NeonI8mm => by_shape!(
            q8_0_i8mm k_i8mm (x, lines, out), format, out.len(), of
            (1 4 4) (2 4 4) (3 4 2) (4 4 2) (5 2 2) (6 2 2)
            (7 2 2) (8 2 2) (9 2 2) (10 2 2) (11 2 2) (12 2 2)
        ),
    }
}

/// The `idx`th 16 bytes of a line.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(line: &Line, idx: usize) -> uint8x16_t {
    let (quarters, _) = line.0.as_chunks::<16>();
    // SAFETY: 16 bytes.
    unsafe { vld1q_u8(quarters[idx].as_ptr()) }
}

/// 32 numbers of 16 bits. The intrinsic that widens them is not stable in Rust.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widened(line: &Line) -> Lanes {
    let mut numbers = [0.0; GROUP];
    for (out, halves) in
        (numbers.as_chunks_mut::<LANES>().0.iter_mut()).zip(line.0.as_chunks::<8>().0)
    {
        // SAFETY: 8 bytes are read, 4 numbers written, and between them is arithmetic in registers.
        unsafe {
            let halves = vld1_u8(halves.as_ptr());
            let wide: float32x4_t;
            asm!(
                "fcvtl {wide:v}.4s, {halves:v}.4h",
                wide = lateout(vreg) wide,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
            vst1q_f32(out.as_mut_ptr(), wide);
        }
    }
    numbers
}

/// Half a line: 32 factors of 8 bits, times the numbers.
#[inline(always)]
pub(super) fn times<const SIGNED: bool>(d: &Lanes, line: &Line, idx: usize) -> Lanes {
    let (halves, _) = line.0.as_chunks::<GROUP>();
    let mut products = *d;
    for (product, byte) in products.iter_mut().zip(halves[idx]) {
        *product *= match SIGNED {
            true => f32::from(byte.cast_signed()),
            false => f32::from(byte),
        };
    }
    products
}

/// Places of vectors whose codes share bytes: those of low nibbles, then those of high ones.
#[inline(always)]
pub(super) fn nibble_places<const V: usize>(pass: usize) -> [usize; V] {
    let mut places = [0; V];
    for (idx, place) in places.iter_mut().enumerate() {
        *place = (pass * V / 2 + idx % (V / 2)) % 4 + VECTORS / 2 * (idx / (V / 2));
    }
    places
}

/// How far high bits are shifted, to the left, to lie above the nibble.
const SHIFTS: [[i8; STEPS]; 2] = [shifts(HIGH_1), shifts(HIGH_2)];

const fn shifts(places: [u32; STEPS]) -> [i8; STEPS] {
    let mut shifts = [0; STEPS];
    let mut step = 0;
    while step < STEPS {
        shifts[step] = 4 - places[step].to_le_bytes()[0].cast_signed();
        step += 1;
    }
    shifts
}

/// The codes of a step, with `HIGH` bits above the nibbles.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn codes<const V: usize, const HIGH: usize>(
    lines: &[Line],
    step: usize,
    at: [usize; V],
) -> [uint8x16_t; V] {
    let mut codes = [vdupq_n_u8(0); V];
    for idx in 0..V / 2 {
        let line = load(&lines[step], at[idx]);
        codes[idx] = vandq_u8(line, vdupq_n_u8(15));
        codes[idx + V / 2] = vshrq_n_u8::<4>(line);
    }
    if HIGH > 0 {
        let mask = vdupq_n_u8(if HIGH == 1 { 0x10 } else { 0x30 });
        let shift = vdupq_n_s8(SHIFTS[HIGH - 1][step]);
        let first = STEPS + if HIGH == 1 { 0 } else { step / 4 * 2 };
        for (codes, at) in codes.iter_mut().zip(at) {
            let bits = load(&lines[first + at / 4], at % 4);
            *codes = vorrq_u8(*codes, vandq_u8(vshlq_u8(bits, shift), mask));
        }
    }
    codes
}

/// Bytes of a step of `Q8_0`, as they lie there.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn bytes<const V: usize>(step: &[Line; 2], at: [usize; V]) -> [uint8x16_t; V] {
    let mut bytes = [vdupq_n_u8(0); V];
    for (bytes, at) in bytes.iter_mut().zip(at) {
        *bytes = load(&step[at / 4], at % 4);
    }
    bytes
}

/// What `flip` turns into signed numbers.
#[inline]
#[target_feature(enable = "neon")]
fn signed<const V: usize>(bytes: [uint8x16_t; V], flip: u8) -> [int8x16_t; V] {
    let mut signed = [vdupq_n_s8(0); V];
    for (signed, bytes) in signed.iter_mut().zip(bytes) {
        *signed = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(flip)));
    }
    signed
}

/// `out += mins × x`
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add_mins<const R: usize>(out: &mut [Lanes; R], mins: &Lanes, x: &[f32; R]) {
    for pass in 0..VECTORS / 4 {
        let at = places::<4>(pass);
        let mins = load_lanes(mins, at);
        for (out, x) in out.iter_mut().zip(x) {
            let mut sums = load_lanes(out, at);
            for (sums, mins) in sums.iter_mut().zip(mins) {
                *sums = vfmaq_n_f32(*sums, mins, *x);
            }
            store_lanes(sums, at, out);
        }
    }
}

/// The kernel of superblocks, whichever multiplies the inputs that share a scale.
macro_rules! k_kernel {
    ($k:ident, $part:ident, $features:literal) => {
        /// Superblocks with `HIGH` bits above the nibbles.
        #[target_feature(enable = $features)]
        pub(super) fn $k<const R: usize, const V: usize, const HIGH: usize>(
            x: &BlockTile<'_>,
            lines: &[Line],
            out: &mut [Lanes],
        ) {
            let (out, _) = out.as_chunks_mut::<R>();
            let out = &mut out[0];
            *out = [[0.0; GROUP]; R];
            let head = if HIGH == 2 { 9 } else { 10 };
            let sub_lines = STEPS + 2 * HIGH;
            let rows = x.scales.as_chunks::<R>().0.iter();
            let rows = rows.zip(x.sums.as_chunks::<R>().0);
            let rows = rows.zip(x.mins.as_chunks::<R>().0);
            let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
            let mut rows = words.zip(rows);
            for chunk in lines.chunks_exact(head + SUBS * sub_lines) {
                let (head, subs) = chunk.split_at(head);
                let (d, dmin) = (widened(&head[0]), widened(&head[1]));
                let subs = subs.chunks_exact(sub_lines).enumerate();
                for ((idx, lines), (words, ((x_scales, x_sums), x_mins))) in subs.zip(&mut rows) {
                    if HIGH == 2 {
                        for half in 0..2 {
                            let scales = times::<true>(&d, &head[1 + idx], half);
                            let start = x_sums.map(|sums| -32 * sums[half]);
                            let steps = half * STEPS / 2..(half + 1) * STEPS / 2;
                            $part::<R, V, HIGH>(out, start, lines, steps, words, &scales, x_scales);
                        }
                        continue;
                    }
                    let scales = times::<false>(&d, &head[2 + idx / 2], idx % 2);
                    $part::<R, V, HIGH>(out, [0; R], lines, 0..STEPS, words, &scales, x_scales);
                    let mins = times::<false>(&dmin, &head[6 + idx / 2], idx % 2);
                    add_mins(out, &mins, x_mins);
                }
            }
        }
    };
}
pub(super) use k_kernel;

/// The kernels, whichever instructions add the products of a step.
macro_rules! block_kernels {
    ($q8_0:ident, $k:ident, $part:ident, $features:literal, $add:ident) => {
        #[target_feature(enable = $features)]
        fn $q8_0<const R: usize, const V: usize>(
            x: &BlockTile<'_>,
            lines: &[Line],
            out: &mut [Lanes],
        ) {
            let (out, _) = out.as_chunks_mut::<R>();
            out[0] = [[0.0; GROUP]; R];
            let chunk = Layout::of(BlockFormat::Q8_0).chunk;
            let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
            let rows = words.zip(x.scales.as_chunks::<R>().0);
            for (lines, (words, x_scales)) in lines.chunks_exact(chunk).zip(rows) {
                let scales = widened(&lines[0]);
                let (steps, _) = lines[1..].as_chunks::<2>();
                for pass in 0..VECTORS / V {
                    let at = places::<V>(pass);
                    let mut dots = [[vdupq_n_s32(0); V]; R];
                    for (step, words) in steps.iter().zip(words) {
                        $add(&mut dots, signed(bytes(step, at), 128), words);
                    }
                    add_scaled(&mut out[0], &dots, load_lanes(&scales, at), x_scales, at);
                }
            }
        }

        k_kernel!($k, $part, $features);

        /// The inputs that share a scale: four steps of `Q6_K`, else eight.
        #[inline]
        #[target_feature(enable = $features)]
        fn $part<const R: usize, const V: usize, const HIGH: usize>(
            out: &mut [Lanes; R],
            start: [i32; R],
            lines: &[Line],
            steps: Range<usize>,
            words: &[[i32; R]],
            scales: &Lanes,
            x_scales: &[f32; R],
        ) {
            for pass in 0..VECTORS / V {
                let at = nibble_places::<V>(pass);
                let mut dots = [[vdupq_n_s32(0); V]; R];
                for (dots, start) in dots.iter_mut().zip(start) {
                    *dots = [vdupq_n_s32(start); V];
                }
                for step in steps.clone() {
                    let codes = codes::<V, HIGH>(lines, step, at);
                    $add(&mut dots, signed(codes, 0), &words[step]);
                }
                add_scaled(out, &dots, load_lanes(scales, at), x_scales, at);
            }
        }
    };
}
block_kernels!(q8_0_neon, k_neon, part_neon, "neon", add_neon);
block_kernels!(
    q8_0_dotprod,
    k_dotprod,
    part_dotprod,
    "neon,dotprod",
    add_dotprod
);
