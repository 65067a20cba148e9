//! Products of blocks in plain Rust: what every other kernel must compute, bit for bit.

use super::blockwise::{BlockTile, HIGH_1, HIGH_2, Layout, Line, STEP, STEPS, SUBS, widened};
use super::{FloatLine, GROUP, Lanes};
use crate::blocks::{BLOCK, BlockFormat};

/// Codes of four inputs of every output.
type Step = [[u8; STEP]; GROUP];

/// 32 inputs of a group: where their codes lie, and their scales.
struct Sub<'a> {
    format: BlockFormat,
    lines: &'a [Line],
    /// Of the first 16 inputs and of the last, the same but in `Q6K`.
    scales: [Lanes; 2],
    /// What is taken away from every number.
    mins: Lanes,
    /// What a code holds more than the number.
    offset: u8,
}

impl<'a> Sub<'a> {
    /// The `idx`th of a group.
    #[inline(always)]
    fn new(format: BlockFormat, lines: &'a [Line], idx: usize) -> Self {
        let layout = Layout::of(format);
        let n_subs = format.inputs() / BLOCK;
        let chunk = &lines[idx / n_subs * layout.chunk..][..layout.chunk];
        let (head, subs) = chunk.split_at(layout.head);
        let idx = idx % n_subs;
        let d = widened(&head[0]);
        let bytes = |start: usize, idx: usize| {
            let line = &head[start + idx / 2].0;
            let (halves, _) = line.as_chunks::<GROUP>();
            halves[idx % 2]
        };
        let times = |d: Lanes, factors: [i16; GROUP]| -> Lanes {
            std::array::from_fn(|lane| d[lane] * f32::from(factors[lane]))
        };
        let (mut mins, mut offset) = ([0.0; GROUP], 0);
        let scales = match format {
            BlockFormat::Q8_0 => {
                offset = 128;
                [d; 2]
            }
            BlockFormat::Q6K => {
                offset = 32;
                [0, 1].map(|half| {
                    let scales = bytes(1, 2 * idx + half);
                    times(d, scales.map(|scale| i16::from(scale.cast_signed())))
                })
            }
            _ => {
                mins = times(widened(&head[1]), bytes(2, SUBS + idx).map(i16::from));
                [times(d, bytes(2, idx).map(i16::from)); 2]
            }
        };
        Self {
            format,
            lines: &subs[idx * layout.sub..(idx + 1) * layout.sub],
            scales,
            mins,
            offset,
        }
    }

    #[inline(always)]
    fn step(&self, step: usize) -> Step {
        let mut codes = [[0; STEP]; GROUP];
        let (low, high) = codes.split_at_mut(GROUP / 2);
        let words = |line: usize| self.lines[line].0.as_chunks::<STEP>().0;
        if self.format == BlockFormat::Q8_0 {
            low.copy_from_slice(words(2 * step));
            high.copy_from_slice(words(2 * step + 1));
            return codes;
        }
        for (lane, word) in words(step).iter().enumerate() {
            low[lane] = word.map(|byte| byte & 15);
            high[lane] = word.map(|byte| byte >> 4);
        }
        for (half, codes) in [low, high].into_iter().enumerate() {
            let (line, place, mask) = match self.format {
                BlockFormat::Q5K => (half, HIGH_1[step], 1),
                BlockFormat::Q6K => (step / 4 * 2 + half, HIGH_2[step], 3),
                _ => continue,
            };
            for (codes, bits) in codes.iter_mut().zip(words(STEPS + line)) {
                for (code, bits) in codes.iter_mut().zip(bits) {
                    *code |= (bits >> place & mask) << 4;
                }
            }
        }
        codes
    }
}

/// Writes 32 inputs of a group as numbers, the bits that a file's reader gives.
#[inline(always)]
pub(super) fn dequantize(
    format: BlockFormat,
    lines: &[Line],
    idx: usize,
    out: &mut [FloatLine; BLOCK],
) {
    let sub = Sub::new(format, lines, idx);
    for (step, out) in out.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
        let (codes, scales) = (sub.step(step), &sub.scales[step * 2 / STEPS]);
        for (idx, line) in out.iter_mut().enumerate() {
            for (lane, value) in line.0.iter_mut().enumerate() {
                let code = i16::from(codes[lane][idx]) - i16::from(sub.offset);
                *value = scales[lane] * f32::from(code) - sub.mins[lane];
            }
        }
    }
}

/// `out = x w` for one tile of quantized rows.
pub(super) fn product(format: BlockFormat, x: &BlockTile<'_>, lines: &[Line], out: &mut [Lanes]) {
    let height = out.len();
    out.fill([0.0; GROUP]);
    for idx in 0..x.scales.len() / height {
        let sub = Sub::new(format, lines, idx);
        let at = idx * height..(idx + 1) * height;
        let words = &x.words[at.start * STEPS..at.end * STEPS];
        for (row, (at, out)) in at.zip(out.iter_mut()).enumerate() {
            let words = words[row..].iter().step_by(height).copied();
            add_product(&sub, words, x, at, out);
        }
    }
}

/// Adds the product of 32 inputs of a row.
fn add_product(
    sub: &Sub<'_>,
    words: impl Iterator<Item = i32>,
    x: &BlockTile<'_>,
    at: usize,
    out: &mut Lanes,
) {
    let x_scale = x.scales[at];
    let mut dots = x.sums[at].map(|sum| [-i32::from(sub.offset) * sum; GROUP]);
    for (step, word) in words.enumerate() {
        let x = word.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
        for (dot, codes) in dots[step * 2 / STEPS].iter_mut().zip(sub.step(step)) {
            *dot += codes
                .iter()
                .zip(x)
                .map(|(code, x)| i32::from(*code) * x)
                .sum::<i32>();
        }
    }
    let [first, last] = dots;
    if sub.format == BlockFormat::Q6K {
        for (dots, scales) in [first, last].iter().zip(&sub.scales) {
            scaled(dots, scales, x_scale, out);
        }
        return;
    }
    let dots = std::array::from_fn(|lane| first[lane] + last[lane]);
    scaled(&dots, &sub.scales[0], x_scale, out);
    if sub.format != BlockFormat::Q8_0 {
        for (sum, min) in out.iter_mut().zip(sub.mins) {
            *sum = min.mul_add(x.mins[at], *sum);
        }
    }
}

fn scaled(dots: &[i32; GROUP], scales: &Lanes, x_scale: f32, out: &mut Lanes) {
    for ((sum, dot), scale) in out.iter_mut().zip(dots).zip(scales) {
        *sum = exact(*dot).mul_add(scale * x_scale, *sum);
    }
}

/// Exact: 32 products of at most 128 × 127 stay below 2²⁴.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn exact(dot: i32) -> f32 {
    dot as f32
}
