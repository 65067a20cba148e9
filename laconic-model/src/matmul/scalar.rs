//! The kernels in plain Rust: what every other kernel must compute, bit for bit.

use super::int8::{ByteLine, Int8Tile, STEPS};
use super::{FloatLine, Lanes};

/// `out += x w` for one tile: `x` is inputs × height, `w` one line for each input.
pub(super) fn float(x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    for (x, w) in x.chunks_exact(out.len()).zip(w) {
        for (x, sums) in x.iter().zip(out.iter_mut()) {
            for (sum, w) in sums.iter_mut().zip(&w.0) {
                *sum = fused(*x, *w, *sum);
            }
        }
    }
}

/// One rounding where the processor has the instruction; without it, a call to emulate it would
/// take a hundred times as long.
fn fused(x: f32, w: f32, sum: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        x.mul_add(w, sum)
    } else {
        x * w + sum
    }
}

/// `out = x w` for one tile of quantized rows.
pub(super) fn int8(x: &Int8Tile<'_>, w: &[ByteLine], scales: &[FloatLine], out: &mut [Lanes]) {
    let height = out.len();
    out.fill([0.0; 32]);
    let blocks = w.chunks(STEPS).zip(x.words.chunks(STEPS * height));
    for (block, (w, words)) in blocks.enumerate() {
        for (row, sums) in out.iter_mut().enumerate() {
            let at = block * height + row;
            let mut dots = [x.offsets[at]; 32];
            for (w, words) in w.iter().zip(words.chunks_exact(height)) {
                dot_step(w, words[row], &mut dots);
            }
            for ((sum, dot), scale) in sums.iter_mut().zip(dots).zip(&scales[block].0) {
                *sum = exact(dot).mul_add(*scale * x.scales[at], *sum);
            }
        }
    }
}

fn dot_step(w: &ByteLine, word: i32, dots: &mut [i32; 32]) {
    let x = word.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
    for (dot, w) in dots.iter_mut().zip(w.0.as_chunks::<4>().0) {
        let products = w.iter().zip(x).map(|(w, x)| i32::from(*w) * x);
        *dot += products.sum::<i32>();
    }
}

/// Exact: 128 products of at most 127 × 127 stay below 2²⁴.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn exact(dot: i32) -> f32 {
    dot as f32
}
