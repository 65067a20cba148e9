//! The kernels in AVX2 and AVX-512, and the compiler's own vectors of that width.
//!
//! Each output has a lane of its own and its products are added in the order of the inputs, one
//! fused multiply-add each. So the result does not depend on the width of vectors, on how many
//! rows share a tile, or on where in it a row stands.
//!
//! Arrays of vectors are filled by loops, never by `array::map`: its closure has these instructions
//! but `map` itself has not, so without link-time optimisation it stays a call, and the sums stay in
//! memory for it: three times slower.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::amx;
use super::cpu::{Cpu, Level, Work};
use super::int8::{Arrangement, ByteLine, Int8Tile, STEPS};
use super::{FloatLine, Lanes, scalar};

/// Calls a kernel that is compiled for each height of a tile.
macro_rules! by_height {
    ($kernel:ident $args:tt at $height:expr, of $($n:literal)*) => {
        match $height {
            // SAFETY: a `Cpu` of this level exists only where its features were detected; who uses
            // others has just asked for them.
            $($n => unsafe { $kernel::<$n> $args },)*
            height => unreachable!("a tile of {height} rows"),
        }
    };
}
pub(super) use by_height;

impl Cpu {
    /// Rows of the tallest tile: as many as registers hold the sums of.
    pub(super) fn max_height(self) -> usize {
        match self.level() {
            Level::Scalar => 4,
            Level::Avx2 | Level::AvxVnni => 3,
            Level::Avx512 | Level::Amx => 12,
        }
    }

    /// As [`max_height`](Self::max_height), of rows as bytes, and how these lie in it.
    pub(super) fn int8_tiles(self) -> (usize, Arrangement) {
        match self.level() {
            Level::Amx => (amx::MAX_HEIGHT, Arrangement::RowByRow),
            _ => (self.max_height(), Arrangement::SideBySide),
        }
    }

    /// Runs `work` compiled for these instructions.
    pub(crate) fn vectorized<W: Work>(self, work: W) -> W::Output {
        match self.level() {
            Level::Scalar => work.run(),
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            Level::Avx2 | Level::AvxVnni => unsafe { with_avx2(work) },
            // SAFETY: as above.
            Level::Avx512 | Level::Amx => unsafe { with_avx512(work) },
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn with_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn with_avx512<W: Work>(work: W) -> W::Output {
    work.run()
}

/// `out += x w` for one tile: `x` is inputs × height, `w` one line for each input.
pub(super) fn float(cpu: Cpu, x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    match cpu.level() {
        Level::Scalar => scalar::float(x, w, out),
        Level::Avx2 | Level::AvxVnni => {
            by_height!(float_avx2(x, w, out) at out.len(), of 1 2 3)
        }
        Level::Avx512 | Level::Amx => {
            by_height!(float_avx512(x, w, out) at out.len(), of 1 2 3 4 5 6 7 8 9 10 11 12)
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
        Level::Avx2 => by_height!(int8_avx2(x, w, scales, out) at out.len(), of 1 2 3),
        Level::AvxVnni => by_height!(int8_avx_vnni(x, w, scales, out) at out.len(), of 1 2 3),
        Level::Avx512 => {
            by_height!(
                int8_avx512(x, w, scales, out) at out.len(), of 1 2 3 4 5 6 7 8 9 10 11 12
            )
        }
        // SAFETY: a `Cpu` of this level exists only where its features were detected.
        Level::Amx => unsafe { amx::int8(x, w, scales, out) },
    }
}

#[target_feature(enable = "avx512f")]
fn float_avx512<const R: usize>(x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
        *sums = load_lanes(lanes);
    }
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        let w = load_lanes(&w.0);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm512_set1_ps(*x);
            sums[0] = _mm512_fmadd_ps(x, w[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(x, w[1], sums[1]);
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_lanes(lanes: &Lanes) -> [__m512; 2] {
    // SAFETY: 32 numbers, read as 16 and 16.
    unsafe {
        [
            _mm512_loadu_ps(lanes.as_ptr()),
            _mm512_loadu_ps(lanes.as_ptr().add(16)),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_lanes(sums: [__m512; 2], lanes: &mut Lanes) {
    // SAFETY: 32 numbers, written as 16 and 16.
    unsafe {
        _mm512_storeu_ps(lanes.as_mut_ptr(), sums[0]);
        _mm512_storeu_ps(lanes.as_mut_ptr().add(16), sums[1]);
    }
}

/// Fetches a line into the second-level cache, if the address is one.
///
/// The intrinsic for it counts as an access to memory, and made the compiler keep the sums of the
/// loop around it in memory too: three times slower.
#[inline(always)]
pub(super) fn fetch(at: usize) {
    // SAFETY: a hint, which changes nothing that a program sees and cannot fault.
    unsafe {
        asm!("prefetcht1 [{at}]", at = in(reg) at, options(nomem, nostack, preserves_flags));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn int8_avx512<const R: usize>(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let rows = x.scales.as_chunks::<R>().0.iter();
    let rows = rows.zip(x.offsets.as_chunks::<R>().0);
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
    let mut ahead = w.as_ptr().addr().wrapping_add(x.ahead.start);
    for (((w, words), scales), (x_scales, offsets)) in blocks.zip(rows) {
        let mut dots = [[_mm512_setzero_si512(); 2]; R];
        for (dots, offset) in dots.iter_mut().zip(offsets) {
            *dots = [_mm512_set1_epi32(*offset); 2];
        }
        for (w, words) in w.iter().zip(words.as_chunks::<R>().0) {
            fetch(ahead);
            ahead = ahead.wrapping_add(x.ahead.pace);
            // SAFETY: 128 bytes, read as 64 and 64.
            let (low, high) = unsafe {
                let line = w.0.as_ptr();
                (
                    _mm512_load_si512(line.cast()),
                    _mm512_load_si512(line.add(64).cast()),
                )
            };
            for (dots, word) in dots.iter_mut().zip(words) {
                let word = _mm512_set1_epi32(*word);
                dots[0] = _mm512_dpbusd_epi32(dots[0], low, word);
                dots[1] = _mm512_dpbusd_epi32(dots[1], high, word);
            }
        }
        let scales = load_lanes(&scales.0);
        for ((sums, dots), x_scale) in sums.iter_mut().zip(dots).zip(x_scales) {
            let x_scale = _mm512_set1_ps(*x_scale);
            for half in 0..2 {
                let scale = _mm512_mul_ps(scales[half], x_scale);
                sums[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[half]), scale, sums[half]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

#[target_feature(enable = "avx2,fma")]
fn float_avx2<const R: usize>(x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm256_setzero_ps(); 4]; R];
    for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
        *sums = load_quarters(lanes);
    }
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        let mut rows = [_mm256_setzero_ps(); R];
        for (row, x) in rows.iter_mut().zip(x) {
            *row = _mm256_set1_ps(*x);
        }
        // A quarter after the other: all four and the sums of three rows are 16 registers.
        for (quarter, w) in load_quarters(&w.0).into_iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(rows) {
                sums[quarter] = _mm256_fmadd_ps(x, w, sums[quarter]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_quarters(lanes: &Lanes) -> [__m256; 4] {
    let (quarters, _) = lanes.as_chunks::<8>();
    let mut loaded = [_mm256_setzero_ps(); 4];
    for (loaded, quarter) in loaded.iter_mut().zip(quarters) {
        // SAFETY: a quarter is 8 numbers.
        *loaded = unsafe { _mm256_loadu_ps(quarter.as_ptr()) };
    }
    loaded
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_quarters(sums: [__m256; 4], lanes: &mut Lanes) {
    for (quarter, sums) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: each quarter is 8 numbers.
        unsafe { _mm256_storeu_ps(quarter.as_mut_ptr(), sums) };
    }
}

/// `vpmaddubsw` saturates at 16 bits, which unsigned × signed bytes overflow in pairs. |x| times w
/// with the sign of x does not, both being at most 127: 2 × 127 × 127 < 2¹⁵.
///
/// Half a group at a time: sums, sizes and constants of all of it are more than 16 registers.
#[target_feature(enable = "avx2,fma")]
fn int8_avx2<const R: usize>(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    out[0] = [[0.0; 32]; R];
    let rows = x.scales.as_chunks::<R>().0;
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
    for (((w, words), scales), x_scales) in blocks.zip(rows) {
        for half in 0..2 {
            let dots = half_dots::<R>(w, words, half);
            for (row, [low, high]) in dots.into_iter().enumerate() {
                let (sums, _) = out[0][row].as_chunks_mut::<8>();
                let (scales, _) = scales.0.as_chunks::<8>();
                scale_eight(low, &scales[2 * half], x_scales[row], &mut sums[2 * half]);
                scale_eight(
                    high,
                    &scales[2 * half + 1],
                    x_scales[row],
                    &mut sums[2 * half + 1],
                );
            }
        }
    }
}

/// The products of one block for half of a group's outputs.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn half_dots<const R: usize>(w: &[ByteLine], words: &[i32], half: usize) -> [[__m256i; 2]; R] {
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    let mut dots = [[_mm256_setzero_si256(); 2]; R];
    for (w, words) in w.iter().zip(words.as_chunks::<R>().0) {
        let (quarters, _) = w.0[half * 64..half * 64 + 64].as_chunks::<32>();
        // SAFETY: a quarter of the line is 32 bytes.
        let (low, high) = unsafe {
            (
                _mm256_load_si256(quarters[0].as_ptr().cast()),
                _mm256_load_si256(quarters[1].as_ptr().cast()),
            )
        };
        let w = [_mm256_xor_si256(low, flip), _mm256_xor_si256(high, flip)];
        for (dots, word) in dots.iter_mut().zip(words) {
            let word = _mm256_set1_epi32(*word);
            let size = _mm256_abs_epi8(word);
            for (dots, w) in dots.iter_mut().zip(w) {
                let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w, word));
                *dots = _mm256_add_epi32(*dots, _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    dots
}

/// `sums += dots × scales × x_scale`
#[inline]
#[target_feature(enable = "avx2,fma")]
fn scale_eight(dots: __m256i, scales: &[f32; 8], x_scale: f32, sums: &mut [f32; 8]) {
    // SAFETY: both are 8 numbers.
    unsafe {
        let scale = _mm256_mul_ps(_mm256_loadu_ps(scales.as_ptr()), _mm256_set1_ps(x_scale));
        let sum = _mm256_loadu_ps(sums.as_ptr());
        let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sum);
        _mm256_storeu_ps(sums.as_mut_ptr(), sum);
    }
}

/// As [`int8_avx512`], in vectors half as wide: processors with VNNI and without AVX-512.
#[target_feature(enable = "avx2,fma,avxvnni")]
fn int8_avx_vnni<const R: usize>(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    out[0] = [[0.0; 32]; R];
    let rows = x.scales.as_chunks::<R>().0.iter();
    let rows = rows.zip(x.offsets.as_chunks::<R>().0);
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
    for (((w, words), scales), (x_scales, offsets)) in blocks.zip(rows) {
        let mut dots = [[_mm256_setzero_si256(); 4]; R];
        for (dots, offset) in dots.iter_mut().zip(offsets) {
            *dots = [_mm256_set1_epi32(*offset); 4];
        }
        for (w, words) in w.iter().zip(words.as_chunks::<R>().0) {
            let mut rows = [_mm256_setzero_si256(); R];
            for (row, word) in rows.iter_mut().zip(words) {
                *row = _mm256_set1_epi32(*word);
            }
            for (quarter, w) in w.0.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: a quarter of the line is 32 bytes.
                let w = unsafe { _mm256_load_si256(w.as_ptr().cast()) };
                for (dots, row) in dots.iter_mut().zip(rows) {
                    dots[quarter] = _mm256_dpbusd_avx_epi32(dots[quarter], w, row);
                }
            }
        }
        for (row, dots) in dots.into_iter().enumerate() {
            let (scales, _) = scales.0.as_chunks::<8>();
            let sums = out[0][row].as_chunks_mut::<8>().0.iter_mut();
            for ((sums, scales), dots) in sums.zip(scales).zip(dots) {
                scale_eight(dots, scales, x_scales[row], sums);
            }
        }
    }
}
