//! How long the parts of a forward pass took.

use std::time::{Duration, Instant};

/// Wall time by part; sums over all passes it was handed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Products with the weights of the layers, SwiGLU included.
    pub linear: Duration,
    /// Rotation, scores, softmax, mixing.
    pub attention: Duration,
    /// Products with the head, pooling included.
    pub head: Duration,
    /// All of it: also embedding, norms, residuals and the cut.
    pub total: Duration,
}

#[derive(Clone, Copy)]
pub(crate) enum Part {
    Linear,
    Attention,
    Head,
    Total,
}

impl Timings {
    pub(crate) fn time<T>(&mut self, part: Part, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(part, start.elapsed());
        result
    }

    pub(crate) fn add(&mut self, part: Part, time: Duration) {
        *match part {
            Part::Linear => &mut self.linear,
            Part::Attention => &mut self.attention,
            Part::Head => &mut self.head,
            Part::Total => &mut self.total,
        } += time;
    }
}
