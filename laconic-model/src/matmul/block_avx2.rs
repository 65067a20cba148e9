//! Products of blocks in AVX2.
//!
//! Codes of K-quants have at most 6 bits: pairs of products, and sums of a few of them, fit the 16
//! bits that `vpmaddubsw` gives.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::x86_64::*;

use super::Lanes;
use super::blockwise::{BlockTile, Layout, Line, STEPS, SUBS, widened};
use super::kernels::{load_quarters, store_quarters};
use crate::blocks::BlockFormat;

/// Numbers or integers of 32 outputs, 8 at a time.
type Quarters<T> = [T; 4];

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line, half: usize) -> __m256i {
    let (halves, _) = line.0.as_chunks::<32>();
    // SAFETY: 32 bytes.
    unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) }
}

/// Half a line: 32 factors of 8 bits, times the numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn times<const SIGNED: bool>(d: &Lanes, line: &Line, idx: usize) -> Quarters<__m256> {
    let (bytes, _) = line.0.as_chunks::<8>();
    let mut products = load_quarters(d);
    for (quarter, product) in products.iter_mut().enumerate() {
        // SAFETY: 8 bytes.
        let bytes = unsafe { _mm_loadl_epi64(bytes[4 * idx + quarter].as_ptr().cast()) };
        let factors = match SIGNED {
            true => _mm256_cvtepi8_epi32(bytes),
            false => _mm256_cvtepu8_epi32(bytes),
        };
        *product = _mm256_mul_ps(*product, _mm256_cvtepi32_ps(factors));
    }
    products
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_scaled<const R: usize>(
    sums: &mut [Quarters<__m256>; R],
    dots: &[__m256i; R],
    quarter: usize,
    scale: __m256,
    x_scales: &[f32; R],
) {
    for ((sums, dots), x_scale) in sums.iter_mut().zip(dots).zip(x_scales) {
        let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*x_scale));
        sums[quarter] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*dots), scale, sums[quarter]);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn q8_0_avx2<const R: usize>(x: &BlockTile<'_>, lines: &[Line], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    let mut sums = [[_mm256_setzero_ps(); 4]; R];
    let chunk = Layout::of(BlockFormat::Q8_0).chunk;
    let words = x.words.as_chunks::<R>().0.chunks_exact(STEPS);
    let rows = words.zip(x.scales.as_chunks::<R>().0);
    for (lines, (words, x_scales)) in lines.chunks_exact(chunk).zip(rows) {
        let scales = load_quarters(&widened(&lines[0]));
        let (steps, _) = lines[1..].as_chunks::<2>();
        for quarter in 0..4 {
            let mut dots = [_mm256_setzero_si256(); R];
            for (step, words) in steps.iter().zip(words) {
                let w = _mm256_xor_si256(load(&step[quarter / 2], quarter % 2), flip);
                // |w| may be 128, x with its sign at most 127: pairs stay below 2¹⁵.
                let size = _mm256_abs_epi8(w);
                for (dot, word) in dots.iter_mut().zip(words) {
                    let x = _mm256_sign_epi8(_mm256_set1_epi32(*word), w);
                    let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(size, x), ones);
                    *dot = _mm256_add_epi32(*dot, quads);
                }
            }
            add_scaled(&mut sums, &dots, quarter, scales[quarter], x_scales);
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}

/// Superblocks with `HIGH` bits above the nibbles.
#[target_feature(enable = "avx2,fma")]
pub(super) fn k_avx2<const R: usize, const HIGH: usize>(
    x: &BlockTile<'_>,
    lines: &[Line],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm256_setzero_ps(); 4]; R];
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
        let dmin = widened(&head[1]);
        let subs = subs.chunks_exact(sub_lines).enumerate();
        for ((idx, lines), (words, ((x_scales, x_sums), x_mins))) in subs.zip(&mut rows) {
            if HIGH == 2 {
                for half in 0..2 {
                    let scales = times::<true>(&d, &head[1 + idx], half);
                    let start = x_sums.map(|sums| -32 * sums[half]);
                    let words = &words[4 * half..4 * half + 4];
                    add_half::<R, HIGH>(&mut sums, start, lines, half, words, scales, x_scales);
                }
                continue;
            }
            let scales = times::<false>(&d, &head[2 + idx / 2], idx % 2);
            add_half::<R, HIGH>(&mut sums, [0; R], lines, 0, words, scales, x_scales);
            let mins = times::<false>(&dmin, &head[6 + idx / 2], idx % 2);
            for (sums, x) in sums.iter_mut().zip(x_mins) {
                let x = _mm256_set1_ps(*x);
                for quarter in 0..4 {
                    sums[quarter] = _mm256_fmadd_ps(mins[quarter], x, sums[quarter]);
                }
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}

/// The inputs that share a scale: four steps of `Q6_K`, from the half that is said; else eight.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_half<const R: usize, const HIGH: usize>(
    sums: &mut [Quarters<__m256>; R],
    start: [i32; R],
    lines: &[Line],
    half: usize,
    words: &[[i32; R]],
    scales: Quarters<__m256>,
    x_scales: &[f32; R],
) {
    // Steps whose pairs add up to less than 2¹⁵: 2 × 127 × 15 × 8, × 31 × 4, × 63 × 2.
    let run = [8, 4, 2][HIGH];
    let (ones, nibble) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15));
    let mask = _mm256_set1_epi8(if HIGH == 1 { 0x10 } else { 0x30 });
    for side in 0..2 {
        // The low nibbles are those of one quarter of the outputs, the high ones of another.
        let mut dots = [[_mm256_setzero_si256(); R]; 2];
        for (row, start) in start.into_iter().enumerate() {
            let start = _mm256_set1_epi32(start);
            (dots[0][row], dots[1][row]) = (start, start);
        }
        for (part, words) in words.chunks(run).enumerate() {
            let mut pairs = [[_mm256_setzero_si256(); R]; 2];
            for (step, words) in words.iter().enumerate() {
                let step = 4 * half + part * run + step;
                let line = load(&lines[step], side);
                let codes = [line, _mm256_srli_epi16::<4>(line)];
                for (which, codes) in codes.into_iter().enumerate() {
                    let mut codes = _mm256_and_si256(codes, nibble);
                    if HIGH > 0 {
                        let bits = high::<HIGH>(lines, step, which, side);
                        codes = _mm256_or_si256(codes, _mm256_and_si256(bits, mask));
                    }
                    for (pairs, word) in pairs[which].iter_mut().zip(words) {
                        let products = _mm256_maddubs_epi16(codes, _mm256_set1_epi32(*word));
                        *pairs = _mm256_add_epi16(*pairs, products);
                    }
                }
            }
            for (dots, pairs) in dots.iter_mut().zip(pairs) {
                for (dot, pairs) in dots.iter_mut().zip(pairs) {
                    *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for (which, dots) in dots.iter().enumerate() {
            let quarter = 2 * which + side;
            add_scaled(sums, dots, quarter, scales[quarter], x_scales);
        }
    }
}

/// The high bits of a step, where the mask looks for them.
#[target_feature(enable = "avx2")]
#[inline]
fn high<const HIGH: usize>(lines: &[Line], step: usize, which: usize, side: usize) -> __m256i {
    if HIGH == 1 {
        let bits = load(&lines[STEPS + which], side);
        return match step {
            0..4 => _mm256_srl_epi16(bits, _mm_cvtsi32_si128([0, 1, 2, 3][step % 4])),
            _ => _mm256_sll_epi16(bits, _mm_cvtsi32_si128([4, 3, 2, 1][step % 4])),
        };
    }
    let bits = load(&lines[STEPS + step / 4 * 2 + which], side);
    match step % 4 {
        0 => bits,
        1 => _mm256_srli_epi16::<2>(bits),
        2 => _mm256_slli_epi16::<4>(bits),
        _ => _mm256_slli_epi16::<2>(bits),
    }
}
