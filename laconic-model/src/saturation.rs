//! Log-saturation: what becomes of a logit.

/// How often log(1 + x) is applied to the positive part of a logit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Saturation {
    /// log(1 + relu(x)), as SPLADE has it.
    #[default]
    Once,
    /// log(1 + log(1 + relu(x))), as the inference-free encoders of OpenSearch have it from their
    /// third version on (Geng et al. 2025).
    Twice,
}

impl Saturation {
    /// One of the two by its number.
    pub(crate) fn times(times: u8) -> Self {
        if times == 2 { Self::Twice } else { Self::Once }
    }

    /// The saturated logit; 0 for one that is not positive.
    #[inline]
    pub(crate) fn of(self, logit: f32) -> f32 {
        if logit <= 0.0 {
            return 0.0;
        }
        match self {
            Self::Once => logit.ln_1p(),
            Self::Twice => logit.ln_1p().ln_1p(),
        }
    }
}
