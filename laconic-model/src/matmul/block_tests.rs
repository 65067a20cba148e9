//! Kernels of blocks and of bfloat16, against the scalar ones and the definition.

use super::tests::{naive, on, product, random, trimmed};
use super::*;
use crate::float16::{narrow_bf16, widen_bf16};

const BLOCKS: [(WeightFormat, BlockFormat); 4] = [
    (WeightFormat::Q8_0, BlockFormat::Q8_0),
    (WeightFormat::Q4K, BlockFormat::Q4K),
    (WeightFormat::Q5K, BlockFormat::Q5K),
    (WeightFormat::Q6K, BlockFormat::Q6K),
];

/// (rows, superblocks, outputs)
const SHAPES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (2, 1, 33),
    (3, 2, 31),
    (4, 1, 32),
    (5, 1, 40),
    (6, 3, 65),
    (8, 1, 32),
    (9, 1, 32),
    (10, 1, 32),
    (11, 1, 32),
    (12, 2, 32),
    (14, 2, 96),
    (300, 1, 50),
];

fn scalar() -> Cpu {
    Cpu::available().next().unwrap()
}

/// Blocks of any codes, with scales that are small numbers.
fn any_blocks(format: BlockFormat, seed: u64, n_blocks: usize) -> Vec<u8> {
    let bytes = random(seed, n_blocks * format.bytes());
    let mut bytes: Vec<u8> = bytes.iter().map(|x| x.to_bits().to_le_bytes()[1]).collect();
    for block in bytes.chunks_mut(format.bytes()) {
        let places: &[usize] = match format {
            BlockFormat::Q8_0 => &[1],
            BlockFormat::Q6K => &[209],
            _ => &[1, 3],
        };
        // Between 2⁻¹⁴ and 2⁻⁶, of either sign.
        places
            .iter()
            .for_each(|at| block[*at] = block[*at] & 0x9f | 0x04);
        // The extremes, which training never leaves: −128 in Q8_0.
        let last = block.len() - 3;
        (block[last - 2], block[last - 1], block[last]) = (0x80, 0xff, 0x7f);
    }
    bytes
}

/// Packs blocks, 64 rows at a time.
fn packed(format: BlockFormat, bytes: &[u8], inputs: usize, is_weight_only: bool) -> Matrix {
    let row_bytes = format.row_bytes(inputs).unwrap();
    let shape = [bytes.len() / row_bytes, inputs];
    let read = |rows: Range<usize>, out: &mut Vec<u8>| -> Result<(), ()> {
        out.clear();
        out.extend(&bytes[rows.start * row_bytes..rows.end * row_bytes]);
        Ok(())
    };
    Matrix::read_blocks(format, shape, 64, is_weight_only, read).unwrap()
}

fn dequantized(format: BlockFormat, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / format.bytes() * format.inputs()];
    format.dequantize(bytes, &mut values);
    values
}

#[test]
fn products_of_blocks_agree_bit_for_bit_and_are_near_the_definition() {
    for (rows, n_blocks, outputs) in SHAPES {
        for (_, format) in BLOCKS {
            let inputs = n_blocks * format.inputs();
            let bytes = any_blocks(format, 1, outputs * n_blocks);
            let w = dequantized(format, &bytes);
            let mut x = random(2, rows * inputs);
            x[0] *= 1000.0;
            x[inputs * (rows / 2)..inputs * (rows / 2 + 1)].fill(0.0);
            let matrix = |cpu| {
                let mut matrix = packed(format, &bytes, inputs, false);
                matrix.cpu = cpu;
                matrix
            };
            let expected = product(&matrix(scalar()), &x);
            for cpu in Cpu::available() {
                assert_eq!(
                    product(&matrix(cpu), &x),
                    expected,
                    "{cpu:?} {format:?} {rows} {n_blocks}"
                );
            }
            let ours = trimmed(&matrix(scalar()), &expected, outputs);
            let largest = w.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
            for (row, (ours, truth)) in ours
                .chunks(outputs)
                .zip(naive(&x, &w, inputs).chunks(outputs))
                .enumerate()
            {
                // Each number of x is off by at most half a step of its 32.
                let x = &x[row * inputs..(row + 1) * inputs];
                let steps = x
                    .chunks(32)
                    .map(|x| x.iter().fold(0.0_f32, |max, x| max.max(x.abs())));
                let bound = f64::from(steps.sum::<f32>() * largest) * 32.0 / 254.0 * 1.001;
                for (ours, truth) in ours.iter().zip(truth) {
                    assert!(
                        (f64::from(*ours) - truth).abs() <= bound,
                        "{format:?} {ours} {truth}"
                    );
                }
            }
        }
    }
}

/// Bytes of x that are what they stand for leave nothing to be rounded but sums.
#[test]
fn products_of_blocks_with_whole_numbers_are_the_definition() {
    for (_, format) in BLOCKS {
        let inputs = 2 * format.inputs();
        let bytes = any_blocks(format, 3, 2 * 40);
        let w = dequantized(format, &bytes);
        let mut x: Vec<f32> = random(4, 7 * inputs)
            .iter()
            .map(|x| (x * 127.0).round())
            .collect();
        x.iter_mut().step_by(32).for_each(|x| *x = 127.0);
        let matrix = packed(format, &bytes, inputs, false);
        let ours = trimmed(&matrix, &product(&matrix, &x), 40);
        for (ours, truth) in ours.iter().zip(naive(&x, &w, inputs)) {
            let gap = (f64::from(*ours) - truth).abs();
            assert!(
                gap <= 1e-5 * (1.0 + truth.abs()) * 100.0,
                "{format:?} {ours} {truth}"
            );
        }
    }
}

#[test]
fn blocks_as_they_lie_in_a_file_are_blocks_made_on_load() {
    let w = random(5, 70 * 512);
    let x = random(6, 9 * 512);
    for (weights, format) in BLOCKS {
        let mut bytes = vec![0; format.row_bytes(w.len()).unwrap()];
        format.quantize(&w, &mut bytes);
        let stored = packed(format, &bytes, 512, false);
        let made = Matrix::pack(weights, &w, 512);
        assert_eq!(product(&stored, &x), product(&made, &x), "{format:?}");
        assert_eq!(stored.n_bytes(), made.n_bytes());
        let mut row = vec![0.0; 512];
        for (idx, expected) in dequantized(format, &bytes).chunks(512).enumerate() {
            stored.row(idx, &mut row);
            assert_eq!(row, expected, "{format:?}");
        }
    }
}

#[test]
fn weights_alone_in_blocks_are_the_numbers_they_stand_for() {
    // 544 inputs are more than a block of the float kernel.
    for (rows, inputs, outputs) in [(1, 32, 33), (13, 544, 40), (300, 64, 7)] {
        let bytes = any_blocks(BlockFormat::Q8_0, 7, outputs * inputs / 32);
        let w = dequantized(BlockFormat::Q8_0, &bytes);
        let x = random(8, rows * inputs);
        for cpu in Cpu::available() {
            let mut ours = packed(BlockFormat::Q8_0, &bytes, inputs, true);
            ours.cpu = cpu;
            assert_eq!(
                product(&ours, &x),
                product(&on(cpu, WeightFormat::F32, &w, inputs), &x)
            );
        }
    }
}

#[test]
fn rounded_products_are_those_of_rounded_numbers() {
    let round = |values: &[f32]| -> Vec<f32> {
        values
            .iter()
            .map(|value| widen_bf16(narrow_bf16(*value)))
            .collect()
    };
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 127, 33), (25, 1025, 65), (300, 20, 40)] {
        let (x, w) = (random(9, rows * inputs), random(10, outputs * inputs));
        let truth = naive(&round(&x), &round(&w), inputs);
        let tolerance = 1e-6 * f64::from(u16::try_from(inputs).unwrap()).max(4.0);
        for cpu in Cpu::available() {
            let matrix = on(cpu, WeightFormat::Bf16, &w, inputs);
            let ours = trimmed(&matrix, &product(&matrix, &x), outputs);
            for (ours, truth) in ours.iter().zip(&truth) {
                assert!(
                    (f64::from(*ours) - truth).abs() < tolerance,
                    "{cpu:?} {ours} {truth}"
                );
            }
        }
    }
}

#[test]
fn a_row_has_its_bits_in_any_company_in_every_format() {
    let (inputs, x, w) = (512, random(11, 41 * 512), random(12, 40 * 512));
    let formats = BLOCKS.map(|(format, _)| format);
    for format in formats
        .into_iter()
        .chain([WeightFormat::Bf16, WeightFormat::Q8_0WeightOnly])
    {
        for cpu in Cpu::available() {
            let matrix = on(cpu, format, &w, inputs);
            let all = product(&matrix, &x);
            for row in [0, 1, 5, 6, 40] {
                let alone = product(&matrix, &x[row * inputs..(row + 1) * inputs]);
                let width = matrix.width();
                assert_eq!(
                    alone,
                    all[row * width..(row + 1) * width],
                    "{format:?} {cpu:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so_in_every_format() {
    let formats = BLOCKS.map(|(format, _)| format);
    for format in formats
        .into_iter()
        .chain([WeightFormat::Bf16, WeightFormat::Q8_0WeightOnly])
    {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for cpu in Cpu::available() {
                let mut x = random(13, 7 * 512);
                x[4 * 512 + 500] = poison;
                let matrix = on(cpu, format, &random(14, 5 * 512), 512);
                let ours = trimmed(&matrix, &product(&matrix, &x), 5);
                for (row, values) in ours.chunks(5).enumerate() {
                    assert!(
                        values.iter().all(|x| x.is_finite() != (row == 4)),
                        "{format:?} {cpu:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn matrices_that_take_unlike_rows_are_stacked_as_numbers() {
    let (a, b) = (random(15, 40 * 256), random(16, 10 * 256));
    let x = random(17, 3 * 256);
    let parts = [
        Matrix::pack(WeightFormat::Q4K, &a, 256),
        Matrix::pack(WeightFormat::F32, &b, 256),
    ];
    let widths = parts.each_ref().map(Matrix::width);
    let expected = product(&parts[1], &x);
    let both = Matrix::stack(parts);
    let out = product(&both, &x);
    assert_eq!(both.width(), widths[0] + widths[1]);
    for (out, expected) in out.chunks(both.width()).zip(expected.chunks(widths[1])) {
        assert_eq!(out[widths[0]..], *expected);
        assert!(out[..40].iter().all(|value| *value != 0.0));
    }
    // Blocks of several formats take the same rows and stay what they are.
    let parts = [
        Matrix::pack(WeightFormat::Q4K, &a, 256),
        Matrix::pack(WeightFormat::Q6K, &b, 256),
    ];
    let n_bytes = parts.each_ref().map(Matrix::n_bytes);
    assert_eq!(Matrix::stack(parts).n_bytes(), n_bytes[0] + n_bytes[1]);
}

#[test]
fn what_does_not_fit_takes_the_next_format() {
    for (format, inputs, expected) in [
        (WeightFormat::Q4K, 512, WeightFormat::Q4K),
        (WeightFormat::Q5K, 384, WeightFormat::Q8_0),
        (WeightFormat::Q6K, 40, WeightFormat::F32),
        (WeightFormat::Q8_0, 33, WeightFormat::F32),
        (
            WeightFormat::Q8_0WeightOnly,
            32,
            WeightFormat::Q8_0WeightOnly,
        ),
        (WeightFormat::Bf16, 33, WeightFormat::Bf16),
        (WeightFormat::Int8, 33, WeightFormat::Int8),
    ] {
        assert_eq!(format.for_inputs(inputs), expected);
    }
}
