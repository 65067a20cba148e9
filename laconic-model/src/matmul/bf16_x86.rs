//! Products of bfloat16 in AVX-512 BF16, and in AVX2 and AVX-512 by widening.
#![allow(unsafe_code, reason = "vector instructions; see the SAFETY notes")]

use std::arch::x86_64::*;

use super::Lanes;
use super::bf16::{PairLine, scalar};
use super::cpu::{Cpu, Level};
use super::kernels::{by_height, load_lanes, load_quarters, store_lanes, store_quarters};

/// `out += x w` for one tile.
pub(super) fn product(cpu: Cpu, x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    match cpu.level() {
        Level::Scalar => scalar(cpu, x, w, out),
        Level::Avx2 | Level::AvxVnni => by_height!(widening_avx2(x, w, out) at out.len(), of 1 2 3),
        Level::Avx512 | Level::Amx if is_x86_feature_detected!("avx512bf16") => {
            by_height!(native(x, w, out) at out.len(), of 1 2 3 4 5 6 7 8 9 10 11 12)
        }
        Level::Avx512 | Level::Amx => {
            by_height!(widening_avx512(x, w, out) at out.len(), of 1 2 3 4 5 6 7 8 9 10 11 12)
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_pairs(line: &PairLine) -> [__m512i; 2] {
    let line = line.0.as_ptr();
    // SAFETY: 32 words, aligned to 64 bytes, read as 16 and 16.
    unsafe {
        [
            _mm512_load_si512(line.cast()),
            _mm512_load_si512(line.add(16).cast()),
        ]
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn native<const R: usize>(x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
        *sums = load_lanes(lanes);
    }
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        let w = load_pairs(w);
        // SAFETY: 64 bytes are 32 bfloat16.
        let w: [__m512bh; 2] = unsafe { std::mem::transmute(w) };
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = _mm512_set1_epi32(x.cast_signed());
            // SAFETY: as above.
            let x = unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
            sums[0] = _mm512_dpbf16_ps(sums[0], w[0], x);
            sums[1] = _mm512_dpbf16_ps(sums[1], w[1], x);
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

#[target_feature(enable = "avx512f")]
fn widening_avx512<const R: usize>(x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
        *sums = load_lanes(lanes);
    }
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        let w = load_pairs(w);
        let (mut first, mut second) = ([_mm512_setzero_ps(); 2], [_mm512_setzero_ps(); 2]);
        for half in 0..2 {
            second[half] = _mm512_castsi512_ps(_mm512_and_si512(w[half], upper));
            first[half] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w[half]));
        }
        for (sums, x) in sums.iter_mut().zip(x) {
            let x0 = _mm512_set1_ps(f32::from_bits(x << 16));
            let x1 = _mm512_set1_ps(f32::from_bits(x & 0xffff_0000));
            for half in 0..2 {
                sums[half] = _mm512_fmadd_ps(x1, second[half], sums[half]);
                sums[half] = _mm512_fmadd_ps(x0, first[half], sums[half]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_lanes(sums, out);
    }
}

#[target_feature(enable = "avx2,fma")]
fn widening_avx2<const R: usize>(x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    let (out, _) = out.as_chunks_mut::<R>();
    let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
    let mut sums = [[_mm256_setzero_ps(); 4]; R];
    for (sums, lanes) in sums.iter_mut().zip(&out[0]) {
        *sums = load_quarters(lanes);
    }
    for (x, w) in x.as_chunks::<R>().0.iter().zip(w) {
        for (quarter, w) in w.0.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: 8 words.
            let w = unsafe { _mm256_loadu_si256(w.as_ptr().cast()) };
            let second = _mm256_castsi256_ps(_mm256_and_si256(w, upper));
            let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(w));
            for (sums, x) in sums.iter_mut().zip(x) {
                let x0 = _mm256_set1_ps(f32::from_bits(x << 16));
                let x1 = _mm256_set1_ps(f32::from_bits(x & 0xffff_0000));
                sums[quarter] = _mm256_fmadd_ps(x1, second, sums[quarter]);
                sums[quarter] = _mm256_fmadd_ps(x0, first, sums[quarter]);
            }
        }
    }
    for (out, sums) in out[0].iter_mut().zip(sums) {
        store_quarters(sums, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::bf16::{Bf16Input, Bf16Panels};
    use super::super::{Rows, Tiles};
    use super::*;

    /// `widening_avx512` runs on no processor that has the instruction unless it is called.
    #[test]
    fn widening_in_avx512_is_widening_in_avx2() {
        if !Cpu::available().any(|cpu| cpu.level() == Level::Avx512) {
            return;
        }
        let number = |idx: u16| (f32::from(idx) * 0.37).sin();
        let (x, w): (Vec<f32>, Vec<f32>) = (
            (0..3 * 130).map(number).collect(),
            (500..500 + 32 * 130).map(number).collect(),
        );
        let panels = Bf16Panels::pack(&w, 130);
        let input = Bf16Input::new(Cpu::this(), &Rows::of(&x, 130), Tiles::new(3, 3));
        let x = input.tile(&(0..3), 0, 65, 130);
        let (mut a, mut b) = ([[0.5; 32]; 3], [[0.5; 32]; 3]);
        // SAFETY: a processor with AVX-512 has AVX2 as well.
        unsafe {
            widening_avx512::<3>(x, panels.group(0, 130), &mut a);
            widening_avx2::<3>(x, panels.group(0, 130), &mut b);
        }
        assert_eq!(a, b);
        assert_ne!(a, [[0.5; 32]; 3]);
    }
}
