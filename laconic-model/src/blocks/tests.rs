//! Blocks against candle's: the same numbers out of the same bytes, no larger errors.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;

const FORMATS: [(BlockFormat, GgmlDType); 4] = [
    (BlockFormat::Q8_0, GgmlDType::Q8_0),
    (BlockFormat::Q4K, GgmlDType::Q4K),
    (BlockFormat::Q5K, GgmlDType::Q5K),
    (BlockFormat::Q6K, GgmlDType::Q6K),
];

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Nearly normal: the sum of eight uniform bytes.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    let bytes = random_bytes(seed, len * 8);
    let sum = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| f32::from(*byte) - 127.5)
            .sum::<f32>()
    };
    bytes.chunks(8).map(|bytes| sum(bytes) / 10_000.0).collect()
}

fn theirs(dtype: GgmlDType, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let tensor = Tensor::new(values, &Device::Cpu).unwrap();
    let tensor = QTensor::quantize(&tensor, dtype).unwrap();
    let numbers = tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
    (tensor.data().unwrap().to_vec(), numbers)
}

fn round_trip(format: BlockFormat, values: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    format.quantize(values, &mut bytes);
    assert!(format.is_finite(&bytes));
    let mut out = vec![f32::NAN; values.len()];
    format.dequantize(&bytes, &mut out);
    out
}

fn rmse(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    let n = u32::try_from(a.len()).unwrap();
    (squares.sum::<f64>() / f64::from(n)).sqrt()
}

#[test]
fn sizes_are_those_of_ggml() {
    for (format, dtype) in FORMATS {
        assert_eq!(
            (format.inputs(), format.bytes()),
            (dtype.block_size(), dtype.type_size())
        );
    }
}

#[test]
fn blocks_that_candle_wrote_give_its_numbers_bit_for_bit() {
    for (format, dtype) in FORMATS {
        let (bytes, expected) = theirs(dtype, &normal(1, 64 * 256));
        let mut out = vec![f32::NAN; expected.len()];
        format.dequantize(&bytes, &mut out);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&out), bits(&expected), "{format:?}");
    }
}

#[test]
fn superblocks_taken_apart_are_put_together_again() {
    for (format, _) in &FORMATS[1..] {
        for bytes in random_bytes(2, 100 * format.bytes()).chunks(format.bytes()) {
            let mut again = vec![0xff; format.bytes()];
            KBlock::read(*format, bytes).write(*format, &mut again);
            assert_eq!(again, bytes, "{format:?}");
        }
    }
}

#[test]
fn errors_are_no_larger_than_candles() {
    let mut shifted = normal(3, 64 * 256);
    shifted.iter_mut().for_each(|x| *x += 0.03);
    let mut outliers = normal(4, 64 * 256);
    outliers.iter_mut().step_by(97).for_each(|x| *x *= 8.0);
    let uniform: Vec<f32> = random_bytes(5, 64 * 256)
        .iter()
        .map(|b| f32::from(*b) - 100.0)
        .collect();
    for values in [normal(6, 64 * 256), shifted, outliers, uniform] {
        for (format, dtype) in FORMATS {
            let ours = rmse(&values, &round_trip(format, &values));
            let theirs = rmse(&values, &theirs(dtype, &values).1);
            println!("{format:?}: {:.4} of candle's error", ours / theirs);
            assert!(ours <= 1.05 * theirs, "{format:?}: {ours} {theirs}");
        }
    }
}

#[test]
fn what_a_format_can_hold_comes_back_as_it_was() {
    for (format, dtype) in FORMATS {
        let held = theirs(dtype, &normal(7, 16 * 256)).1;
        let again = round_trip(format, &held);
        let size = rmse(&held, &vec![0.0; held.len()]);
        // A block that holds fewer steps than there are may be fitted by another scale.
        assert!(
            rmse(&held, &again) < 0.012 * size,
            "{format:?} {}",
            rmse(&held, &again) / size
        );
    }
}

#[test]
fn zeros_constants_and_extremes_survive() {
    for (format, _) in FORMATS {
        for value in [0.0, 1.0, -1.0, LARGEST, -LARGEST, 1e-38, 1e-44, -1e-6] {
            let values = vec![value; 256];
            for ours in round_trip(format, &values) {
                // binary16 scales end at 6e-8.
                assert!(
                    (ours - value).abs() <= value.abs() * 0.02 + 1e-5,
                    "{format:?} {value} {ours}"
                );
            }
        }
        let mut one = vec![0.0; 256];
        one[77] = -3.0;
        let ours = round_trip(format, &one);
        assert!((ours[77] + 3.0).abs() < 0.05, "{format:?} {}", ours[77]);
        assert!(
            ours.iter()
                .enumerate()
                .all(|(idx, x)| idx == 77 || x.abs() < 0.05),
            "{format:?}"
        );
    }
}

#[test]
fn a_scale_that_is_not_finite_is_seen() {
    for (format, _) in FORMATS {
        let mut bytes = vec![0; 3 * format.bytes()];
        let places: &[usize] = match format {
            BlockFormat::Q8_0 => &[0],
            BlockFormat::Q6K => &[208],
            _ => &[0, 2],
        };
        for at in places {
            let at = 2 * format.bytes() + at;
            for bits in [0x7c00_u16, 0xfc00, 0x7e01] {
                bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
                assert!(!format.is_finite(&bytes), "{format:?}");
            }
            bytes[at..at + 2].copy_from_slice(&0x7bff_u16.to_le_bytes());
            assert!(format.is_finite(&bytes));
        }
    }
}
