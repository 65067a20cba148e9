//! The kernels in AVX2 and AVX-512, and the compiler's own vectors of that width.
//!
//! Each output has a lane of its own and its products are added in the order of the inputs, one
//! fused multiply-add each. So the result does not depend on the width of vectors, on how many
//! rows share a tile, or on where in it a row stands.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::cpu::{Cpu, Level, Work};
use super::int8::{ByteLine, Int8Tile, STEPS};
use super::{FloatLine, Lanes, scalar};

/// Calls a kernel that is compiled for each height of a tile.
macro_rules! by_height {
    ($kernel:ident $args:tt at $height:expr, of $($n:literal)*) => {
        match $height {
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            $($n => unsafe { $kernel::<$n> $args },)*
            height => unreachable!("a tile of {height} rows"),
        }
    };
}

impl Cpu {
    /// Rows of the tallest tile: as many as registers hold the sums of.
    pub(super) fn max_height(self) -> usize {
        match self.level() {
            Level::Scalar => 4,
            Level::Avx2 => 3,
            Level::Avx512 => 12,
        }
    }

    /// Runs `work` compiled for these instructions.
    pub(crate) fn vectorized<W: Work>(self, work: W) -> W::Output {
        match self.level() {
            Level::Scalar => work.run(),
            // SAFETY: a `Cpu` of this level exists only where its features were detected.
            Level::Avx2 => unsafe { with_avx2(work) },
            // SAFETY: as above.
            Level::Avx512 => unsafe { with_avx512(work) },
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
        Level::Avx2 => by_height!(float_avx2(x, w, out) at out.len(), of 1 2 3),
        Level::Avx512 => {
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
        Level::Avx512 => {
            by_height!(
                int8_avx512(x, w, scales, out) at out.len(), of 1 2 3 4 5 6 7 8 9 10 11 12
            )
        }
    }
}

#[target_feature(enable = "avx512f")]
fn float_avx512<const R: usize>(x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = out[0].each_ref().map(|lanes| load_lanes(lanes));
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
        let mut dots = offsets.map(|offset| [_mm512_set1_epi32(offset); 2]);
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
    let mut sums = out[0].each_ref().map(|lanes| load_quarters(lanes));
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        let x = x.map(|x| _mm256_set1_ps(x));
        for (quarter, w) in load_quarters(&w.0).into_iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(x) {
                sums[quarter] = _mm256_fmadd_ps(x, w, sums[quarter]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn load_quarters(lanes: &Lanes) -> [__m256; 4] {
    let (quarters, _) = lanes.as_chunks::<8>();
    // SAFETY: each quarter is 8 numbers.
    std::array::from_fn(|idx| unsafe { _mm256_loadu_ps(quarters[idx].as_ptr()) })
}

#[target_feature(enable = "avx2")]
pub(super) fn store_quarters(sums: [__m256; 4], lanes: &mut Lanes) {
    for (quarter, sums) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: each quarter is 8 numbers.
        unsafe { _mm256_storeu_ps(quarter.as_mut_ptr(), sums) };
    }
}

/// `vpmaddubsw` saturates at 16 bits, which unsigned × signed bytes overflow in pairs. |x| times w
/// with the sign of x does not, both being at most 127: 2 × 127 × 127 < 2¹⁵.
#[target_feature(enable = "avx2,fma")]
fn int8_avx2<const R: usize>(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let (out, _) = out.as_chunks_mut::<R>();
    let (ones, flip) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    let mut sums = [[_mm256_setzero_ps(); 4]; R];
    let rows = x.scales.as_chunks::<R>().0;
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * R)).zip(scales);
    for (((w, words), scales), x_scales) in blocks.zip(rows) {
        let mut dots = [[_mm256_setzero_si256(); 4]; R];
        for (w, words) in w.iter().zip(words.as_chunks::<R>().0) {
            let words = words.map(|word| _mm256_set1_epi32(word));
            let sizes = words.map(|word| _mm256_abs_epi8(word));
            for (quarter, w) in w.0.as_chunks::<32>().0.iter().enumerate() {
                // SAFETY: a quarter of the line is 32 bytes.
                let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
                let w = _mm256_xor_si256(w, flip);
                for row in 0..R {
                    let w = _mm256_sign_epi8(w, words[row]);
                    let pairs = _mm256_maddubs_epi16(sizes[row], w);
                    let quads = _mm256_madd_epi16(pairs, ones);
                    dots[row][quarter] = _mm256_add_epi32(dots[row][quarter], quads);
                }
            }
        }
        let scales = load_quarters(&scales.0);
        for ((sums, dots), x_scale) in sums.iter_mut().zip(dots).zip(x_scales) {
            let x_scale = _mm256_set1_ps(*x_scale);
            for quarter in 0..4 {
                let scale = _mm256_mul_ps(scales[quarter], x_scale);
                let dot = _mm256_cvtepi32_ps(dots[quarter]);
                sums[quarter] = _mm256_fmadd_ps(dot, scale, sums[quarter]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}
