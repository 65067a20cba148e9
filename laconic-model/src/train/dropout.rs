//! Dropout (Srivastava et al. 2014) whose mask is a function of a key, so that a piece of a
//! batch meets the same mask both times it goes through the network.

use candle_core::{DType, Device, Result, Tensor};

use super::random::Random;

/// Leaves out a share of its inputs and scales the rest up to keep the mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropout {
    pub(super) share: f64,
    /// Tells this place in the network from every other.
    pub(super) site: u64,
}

impl Dropout {
    pub(super) fn apply(&self, x: &Tensor, key: u64) -> Result<Tensor> {
        if self.share <= 0.0 {
            return Ok(x.clone());
        }
        let kept = match x.device() {
            Device::Cpu => self
                .mask(x.elem_count(), key)
                .and_then(|mask| Tensor::from_vec(mask, x.shape(), x.device()))?,
            device => {
                device.set_seed(Random::keyed(&[key, self.site]).next())?;
                let drawn = Tensor::rand(0_f32, 1_f32, x.shape(), device)?;
                (drawn.ge(self.share)?.to_dtype(DType::F32)? / (1.0 - self.share))?
            }
        };
        x * kept.to_dtype(x.dtype())?
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a share and its inverse, rounded to f32"
    )]
    fn mask(&self, len: usize, key: u64) -> Result<Vec<f32>> {
        let mut random = Random::keyed(&[key, self.site]);
        let (share, scale) = (self.share as f32, (1.0 / (1.0 - self.share)) as f32);
        let draw = |_| if random.unit() < share { 0.0 } else { scale };
        Ok((0..len).map(draw).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_kept_by_its_key_and_keeps_the_mean() {
        let x = Tensor::ones((100, 100), DType::F32, &Device::Cpu).unwrap();
        let of = |share, site, key| {
            let kept = Dropout { share, site }.apply(&x, key).unwrap();
            kept.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let once = of(0.1, 3, 5);
        assert_eq!(once, of(0.1, 3, 5));
        assert_ne!(once, of(0.1, 3, 6));
        assert_ne!(once, of(0.1, 4, 5));
        let n_dropped = once.iter().filter(|x| **x == 0.0).count();
        assert!((800..1200).contains(&n_dropped), "{n_dropped}");
        assert!(
            once.iter()
                .all(|x| *x == 0.0 || (*x - 1.0 / 0.9).abs() < 1e-6)
        );
        assert!(of(0.0, 3, 5).iter().all(|x| *x == 1.0));
    }
}
