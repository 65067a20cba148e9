//! Every kernel against the scalar one and the definition, in odd shapes.

use super::*;

/// Uniform in −1..1, by SplitMix64.
pub(super) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, ..] = z.to_le_bytes();
        (f32::from(u16::from_le_bytes([a, b])) - 32_767.5) / 32_768.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn on(cpu: Cpu, format: WeightFormat, w: &[f32], inputs: usize) -> Matrix {
    let mut matrix = Matrix::pack(format, w, inputs);
    matrix.cpu = cpu;
    matrix
}

pub(super) fn product(matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    matrix.product(&matrix.input(&Rows::of(x, matrix.inputs)), &mut out);
    out
}

/// (rows, inputs, outputs)
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 2048, 64),
    (2, 3, 33),
    (3, 127, 31),
    (4, 140, 32),
    (5, 128, 40),
    (6, 150, 33),
    (8, 160, 32),
    (11, 131, 32),
    (12, 129, 96),
    (13, 130, 17),
    (24, 260, 32),
    (25, 1025, 65),
    (37, 333, 7),
    (40, 2500, 70),
    (1100, 20, 50),
];

pub(super) fn naive(x: &[f32], w: &[f32], inputs: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| {
        let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.sum::<f64>()
    };
    let rows = x.chunks_exact(inputs);
    rows.flat_map(|x| w.chunks_exact(inputs).map(move |w| dot(x, w)))
        .collect()
}

/// The columns of a product that are outputs.
pub(super) fn trimmed(matrix: &Matrix, values: &[f32], outputs: usize) -> Vec<f32> {
    let rows = Rows::of(values, matrix.width()).columns(0..outputs);
    rows.iter().flatten().copied().collect()
}

#[test]
fn float_products_are_the_definition_on_every_processor() {
    for (rows, inputs, outputs) in SHAPES {
        let (x, w) = (random(1, rows * inputs), random(2, outputs * inputs));
        let truth = naive(&x, &w, inputs);
        let tolerance = 1e-6 * f64::from(u16::try_from(inputs).unwrap()).max(4.0);
        for cpu in Cpu::available() {
            let matrix = on(cpu, WeightFormat::F32, &w, inputs);
            let ours = trimmed(&matrix, &product(&matrix, &x), outputs);
            assert_eq!(ours.len(), truth.len());
            for (ours, truth) in ours.iter().zip(&truth) {
                assert!((f64::from(*ours) - truth).abs() < tolerance, "{cpu:?}");
            }
        }
    }
}

#[test]
fn vector_kernels_of_floats_agree_bit_for_bit() {
    // Plain loops fuse where every processor of the architecture does.
    let is_fused = |cpu: &Cpu| cfg!(target_arch = "aarch64") || cpu.name() != "scalar";
    let fused: Vec<Cpu> = Cpu::available().filter(is_fused).collect();
    for (rows, inputs, outputs) in SHAPES {
        let (x, w) = (random(3, rows * inputs), random(4, outputs * inputs));
        let mut all = fused
            .iter()
            .map(|cpu| product(&on(*cpu, WeightFormat::F32, &w, inputs), &x));
        let first = all.next();
        assert!(
            all.all(|other| Some(other) == first),
            "{rows} {inputs} {outputs}"
        );
    }
}

/// Each height is a kernel of its own.
#[test]
fn a_row_has_its_bits_in_tiles_of_every_height() {
    let (inputs, w) = (333, random(15, 40 * 333));
    for format in [WeightFormat::F32, WeightFormat::Int8, WeightFormat::Bf16] {
        for rows in 1..=16 {
            let x = random(16, rows * inputs);
            for cpu in Cpu::available() {
                let matrix = on(cpu, format, &w, inputs);
                let all = product(&matrix, &x);
                for (x, expected) in x.chunks(inputs).zip(all.chunks(matrix.width())) {
                    assert_eq!(product(&matrix, x), expected, "{cpu:?} {format:?} {rows}");
                }
            }
        }
    }
}

#[test]
fn quantized_products_agree_bit_for_bit_and_are_near_the_definition() {
    for (rows, inputs, outputs) in SHAPES {
        let (mut x, w) = (random(5, rows * inputs), random(6, outputs * inputs));
        // An outlier, a row of zeros, a row too small to have a scale.
        x[0] *= 1000.0;
        x[inputs * (rows / 2)..inputs * (rows / 2 + 1)].fill(0.0);
        x[inputs * (rows - 1)..]
            .iter_mut()
            .for_each(|x| *x *= 1e-35);
        let expected = {
            let scalar = Cpu::available().next().unwrap();
            product(&on(scalar, WeightFormat::Int8, &w, inputs), &x)
        };
        for cpu in Cpu::available() {
            let ours = product(&on(cpu, WeightFormat::Int8, &w, inputs), &x);
            assert_eq!(ours, expected, "{cpu:?} {rows} {inputs} {outputs}");
        }
        let matrix = Matrix::pack(WeightFormat::Int8, &w, inputs);
        let ours = trimmed(&matrix, &expected, outputs);
        let truth = naive(&x, &w, inputs);
        for (row, (ours, truth)) in ours.chunks(outputs).zip(truth.chunks(outputs)).enumerate() {
            let x = &x[row * inputs..(row + 1) * inputs];
            let max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
            // Each product is off by at most half a step of either side: (1 + 1) / 254.
            let bound = f64::from(max) * f64::from(u16::try_from(inputs).unwrap()) * 2.1 / 254.0;
            for (ours, truth) in ours.iter().zip(truth) {
                assert!(
                    (f64::from(*ours) - truth).abs() <= bound + 1e-30,
                    "{ours} {truth}"
                );
            }
        }
    }
}

/// Extremes of both sides, where sums of pairs would saturate at 16 bits.
#[test]
fn quantized_products_of_extremes_are_exact() {
    for (x_sign, w_sign) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        let (x, w) = (
            vec![x_sign * 127.0; 3 * 256],
            vec![w_sign * 127.0; 40 * 256],
        );
        for cpu in Cpu::available() {
            let matrix = on(cpu, WeightFormat::Int8, &w, 256);
            let ours = trimmed(&matrix, &product(&matrix, &x), 40);
            let exact = x_sign * w_sign * 127.0 * 127.0 * 256.0;
            assert!(ours.iter().all(|ours| *ours == exact), "{cpu:?}");
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_others() {
    for format in [WeightFormat::F32, WeightFormat::Int8] {
        for (rows, inputs, outputs) in SHAPES {
            let (x, w) = (random(7, rows * inputs), random(8, outputs * inputs));
            for cpu in Cpu::available() {
                let matrix = on(cpu, format, &w, inputs);
                let all = product(&matrix, &x);
                for row in [0, rows / 2, rows - 1] {
                    let alone = product(&matrix, &x[row * inputs..(row + 1) * inputs]);
                    let width = matrix.width();
                    assert_eq!(alone, all[row * width..(row + 1) * width]);
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in [WeightFormat::F32, WeightFormat::Int8] {
            for cpu in Cpu::available() {
                let mut x = random(9, 7 * 150);
                x[4 * 150 + 140] = poison;
                let matrix = on(cpu, format, &random(10, 5 * 150), 150);
                let ours = trimmed(&matrix, &product(&matrix, &x), 5);
                for (row, values) in ours.chunks(5).enumerate() {
                    assert!(
                        values.iter().all(|x| x.is_finite() != (row == 4)),
                        "{cpu:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_come_back_as_they_were_packed() {
    let w = random(11, 70 * 133);
    for (format, tolerance) in [(WeightFormat::F32, 0.0), (WeightFormat::Int8, 0.5 / 126.9)] {
        let matrix = Matrix::pack(format, &w, 133);
        let mut row = vec![0.0; 133];
        for (idx, expected) in w.chunks(133).enumerate() {
            matrix.row(idx, &mut row);
            for (ours, expected) in row.iter().zip(expected) {
                assert!((ours - expected).abs() <= tolerance, "{ours} {expected}");
            }
        }
    }
}

#[test]
fn stacked_matrices_give_their_products_side_by_side() {
    let (a, b) = (random(12, 40 * 50), random(13, 10 * 50));
    let x = random(14, 15 * 50);
    for format in [WeightFormat::F32, WeightFormat::Int8] {
        let parts = [&a, &b].map(|w| Matrix::pack(format, w, 50));
        let expected = parts.each_ref().map(|part| product(part, &x));
        let split = parts[0].width();
        let both = Matrix::stack(parts);
        let product = product(&both, &x);
        let rows = Rows::of(&product, both.width());
        let columns = [0..split, split..both.width()];
        for (columns, expected) in columns.into_iter().zip(expected) {
            let part: Vec<f32> = rows.columns(columns).iter().flatten().copied().collect();
            assert_eq!(part, expected);
        }
    }
}

#[test]
fn rows_of_bytes_are_the_same_in_both_arrangements() {
    use super::int8::{Arrangement, STEPS};
    for (rows, inputs) in [(1, 1), (3, 127), (5, 128), (12, 129), (7, 300)] {
        let x = random(11, rows * inputs);
        let x = Rows::of(&x, inputs);
        let quantize = |arrangement| {
            let mut input = Int8Input::new(arrangement, rows, inputs);
            let tiles = input.tiles_mut([rows].into_iter(), inputs);
            for tile in tiles {
                Cpu::this().vectorized(Quantize(tile, x));
            }
            input
        };
        let [a, b] = [Arrangement::SideBySide, Arrangement::RowByRow].map(quantize);
        let tiles = Tiles::new(rows, rows);
        let [a, b] = [&a, &b].map(|input| input.tile(&tiles, 0, inputs));
        assert_eq!((a.scales, a.offsets), (b.scales, b.offsets));
        for (idx, word) in b.words.iter().enumerate() {
            let (block, row, step) = (idx / (rows * STEPS), idx / STEPS % rows, idx % STEPS);
            let other = a.words.get((block * STEPS + step) * rows + row);
            let is_there = block * STEPS + step < inputs.div_ceil(4);
            let expected = if is_there { *other.unwrap() } else { 0 };
            assert_eq!(*word, expected, "{rows} rows, {inputs} inputs, word {idx}");
        }
    }
}
