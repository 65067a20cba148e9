//! Products of blocks in AVX-512: codes are put together in registers, as they are needed.
//!
//! Sums of 32 inputs are exact integers; what is rounded is rounded in the order of the scalar twin.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::x86_64::*;

use super::Lanes;
use super::block_avx2::{k_avx2, q8_0_avx2};
use super::block_scalar;
use super::blockwise::{BlockTile, Layout, Line, STEPS, SUBS};
use super::cpu::{Cpu, Level};
use super::kernels::{fetch, store_lanes};
use crate::blocks::BlockFormat;

/// Rows of the tallest tile: as many as registers hold the sums of, integers and numbers.
pub(super) fn max_height(cpu: Cpu) -> usize {
    match cpu.level() {
        Level::Scalar => 4,
        Level::Avx2 | Level::AvxVnni => 3,
        Level::Avx512 | Level::Amx => 6,
    }
}

/// Calls a kernel that is compiled for each height of a tile and each number of high bits.
macro_rules! by_shape {
    ($q8_0:ident $k:ident $args:tt, $format:expr, $height:expr, of $($n:literal)*) => {
        match ($format, $height) {
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            $((BlockFormat::Q8_0, $n) => unsafe { $q8_0::<$n> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q4K, $n) => unsafe { $k::<$n, 0> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q5K, $n) => unsafe { $k::<$n, 1> $args },)*
            // SAFETY: as above.
            $((BlockFormat::Q6K, $n) => unsafe { $k::<$n, 2> $args },)*
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
        Level::Avx2 | Level::AvxVnni => {
            by_shape!(q8_0_avx2 k_avx2 (x, lines, out), format, out.len(), of 1 2 3)
        }
        Level::Avx512 | Level::Amx => {
            by_shape!(q8_0_avx512 k_avx512 (x, lines, out), format, out.len(), of 1 2 3 4 5 6)
        }
    }
}

/// Numbers or integers of 32 outputs, 16 and 16.
type Halves<T> = [T; 2];

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: 64 bytes, aligned to as many.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// 32 numbers of 16 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(line: &Line) -> Halves<__m512> {
    let line = load(line);
    [
        _mm512_cvtph_ps(_mm512_castsi512_si256(line)),
        _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(line)),
    ]
}

/// Half a line: 32 factors of 8 bits, times the numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn times<const SIGNED: bool>(d: Halves<__m512>, line: &Line, idx: usize) -> Halves<__m512> {
    let (bytes, _) = line.0.as_chunks::<16>();
    let mut products = d;
    for (half, product) in products.iter_mut().enumerate() {
        // SAFETY: 16 bytes.
        let bytes = unsafe { _mm_loadu_si128(bytes[2 * idx + half].as_ptr().cast()) };
        let factors = match SIGNED {
            true => _mm512_cvtepi8_epi32(bytes),
            false => _mm512_cvtepu8_epi32(bytes),
        };
        *product = _mm512_mul_ps(*product, _mm512_cvtepi32_ps(factors));
    }
    products
}

/// Where the next group's bytes are fetched.
struct Fetch {
    at: usize,
    pace: usize,
}

impl Fetch {
    #[inline(always)]
    fn new(x: &BlockTile<'_>, lines: &[Line]) -> Self {
        Self {
            at: lines.as_ptr().addr().wrapping_add(x.ahead.start),
            pace: x.ahead.pace,
        }
    }

    #[inline(always)]
    fn step(&mut self) {
        fetch(self.at);
        self.at = self.at.wrapping_add(self.pace);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add_step<const R: usize>(
    dots: &mut [Halves<__m512i>; R],
    low: __m512i,
    high: __m512i,
    words: &[i32; R],
) {
    for (dots, word) in dots.iter_mut().zip(words) {
        let word = _mm512_set1_epi32(*word);
        dots[0] = _mm512_dpbusd_epi32(dots[0], low, word);
        dots[1] = _mm512_dpbusd_epi32(dots[1], high, word);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_scaled<const R: usize>(
    sums: &mut [Halves<__m512>; R],
    dots: [Halves<__m512i>; R],
    scales: Halves<__m512>,
    x_scales: &[f32; R],
) {
    for ((sums, dots), x_scale) in sums.iter_mut().zip(dots).zip(x_scales) {
        let x_scale = _mm512_set1_ps(*x_scale);
        for half in 0..2 {
            let scale = _mm512_mul_ps(scales[half], x_scale);
            sums[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[half]), scale, sums[half]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn q8_0_avx512<const R: usize>(x: &BlockTile<'_>, lines: &[Line], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let mut ahead = Fetch::new(x, lines);
    let chunk = Layout::of(BlockFormat::Q8_0).chunk;
    let rows = x
        .scales
        .as_chunks::<R>()
        .0
        .iter()
        .zip(x.sums.as_chunks::<R>().0);
    let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
    for ((lines, words), (x_scales, x_sums)) in lines.chunks_exact(chunk).zip(words).zip(rows) {
        let mut dots = [[_mm512_setzero_si512(); 2]; R];
        for (dots, [a, b]) in dots.iter_mut().zip(x_sums) {
            *dots = [_mm512_set1_epi32(-128 * (a + b)); 2];
        }
        for (pair, words) in lines[1..].as_chunks::<2>().0.iter().zip(words) {
            ahead.step();
            add_step(&mut dots, load(&pair[0]), load(&pair[1]), words);
        }
        add_scaled(&mut sums, dots, widened(&lines[0]), x_scales);
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

/// Superblocks with `HIGH` bits above the nibbles.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn k_avx512<const R: usize, const HIGH: usize>(
    x: &BlockTile<'_>,
    lines: &[Line],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let mut ahead = Fetch::new(x, lines);
    let head = if HIGH == 2 { 9 } else { 10 };
    let sub_lines = STEPS + 2 * HIGH;
    let rows = x
        .scales
        .as_chunks::<R>()
        .0
        .iter()
        .zip(x.sums.as_chunks::<R>().0);
    let rows = rows.zip(x.mins.as_chunks::<R>().0);
    let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
    let mut rows = words.zip(rows);
    for chunk in lines.chunks_exact(head + SUBS * sub_lines) {
        let (head, subs) = chunk.split_at(head);
        let d = widened(&head[0]);
        let subs = subs.chunks_exact(sub_lines).enumerate();
        for ((idx, lines), (words, ((x_scales, x_sums), x_mins))) in subs.zip(&mut rows) {
            let mut dots = [[_mm512_setzero_si512(); 2]; R];
            if HIGH == 2 {
                for (dots, [first, _]) in dots.iter_mut().zip(x_sums) {
                    *dots = [_mm512_set1_epi32(-32 * first); 2];
                }
            }
            let (halves, _) = words.as_chunks();
            add_half::<R, HIGH, 0>(&mut dots, lines, &halves[0], &mut ahead);
            if HIGH == 2 {
                let scales = times::<true>(d, &head[1 + idx], 0);
                add_scaled(&mut sums, dots, scales, x_scales);
                for (dots, [_, last]) in dots.iter_mut().zip(x_sums) {
                    *dots = [_mm512_set1_epi32(-32 * last); 2];
                }
            }
            add_half::<R, HIGH, 1>(&mut dots, lines, &halves[1], &mut ahead);
            if HIGH == 2 {
                let scales = times::<true>(d, &head[1 + idx], 1);
                add_scaled(&mut sums, dots, scales, x_scales);
                continue;
            }
            let scales = times::<false>(d, &head[2 + idx / 2], idx % 2);
            add_scaled(&mut sums, dots, scales, x_scales);
            let mins = times::<false>(widened(&head[1]), &head[6 + idx / 2], idx % 2);
            for (sums, x) in sums.iter_mut().zip(x_mins) {
                let x = _mm512_set1_ps(*x);
                for half in 0..2 {
                    sums[half] = _mm512_fmadd_ps(mins[half], x, sums[half]);
                }
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

/// Four steps, the first or the last of a sub-block.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn add_half<const R: usize, const HIGH: usize, const HALF: usize>(
    dots: &mut [Halves<__m512i>; R],
    lines: &[Line],
    words: &[[i32; R]; STEPS / 2],
    ahead: &mut Fetch,
) {
    let nibble = _mm512_set1_epi8(15);
    // Both halves of the outputs.
    let mut bits = [_mm512_setzero_si512(); 2];
    for (half, bits) in bits.iter_mut().enumerate() {
        match (HIGH, HALF) {
            (1, 0) => *bits = load(&lines[STEPS + half]),
            // The low nibble's turn.
            (1, _) => *bits = _mm512_slli_epi16::<4>(load(&lines[STEPS + half])),
            (2, _) => *bits = load(&lines[STEPS + 2 * HALF + half]),
            _ => {}
        }
    }
    for (step, words) in words.iter().enumerate() {
        ahead.step();
        let line = load(&lines[HALF * STEPS / 2 + step]);
        let mut codes = [
            _mm512_and_si512(line, nibble),
            _mm512_and_si512(_mm512_srli_epi16::<4>(line), nibble),
        ];
        if HIGH > 0 {
            let mask = _mm512_set1_epi8(if HIGH == 1 { 0x10 } else { 0x30 });
            for (codes, bits) in codes.iter_mut().zip(bits) {
                let bits = match (HIGH, step) {
                    (_, 0) => bits,
                    (1, 1) => _mm512_srli_epi16::<1>(bits),
                    (1, 3) => _mm512_srli_epi16::<3>(bits),
                    (1, _) | (_, 1) => _mm512_srli_epi16::<2>(bits),
                    (_, 2) => _mm512_slli_epi16::<4>(bits),
                    _ => _mm512_slli_epi16::<2>(bits),
                };
                // (bits & mask) | codes
                *codes = _mm512_ternarylogic_epi32::<0xea>(bits, mask, *codes);
            }
        }
        add_step(dots, codes[0], codes[1], words);
    }
}
