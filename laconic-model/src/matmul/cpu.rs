//! What the processor can do, found out once, at run time.

use std::sync::OnceLock;

/// Caps the instructions that kernels use: `scalar`, `avx2` or `avx512`.
const VARIABLE: &str = "LACONIC_CPU";

/// A set of instructions that this processor has: no value exists for one it lacks, which is what
/// makes calling the kernels sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu(Level);

/// Sets of instructions, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// What the compiler makes of plain loops.
    Scalar,
    /// AVX2 and FMA: Intel since 2013, AMD since 2017.
    Avx2,
    /// AVX-512 F, BW, VL and VNNI: Intel servers since 2019, AMD since 2022.
    Avx512,
}

/// A loop that the compiler shall translate for the instructions there are. `run` and all that it
/// calls must be `#[inline(always)]`: what is not inlined keeps the instructions of every x86-64.
pub(crate) trait Work {
    type Output;

    fn run(self) -> Self::Output;
}

impl Cpu {
    /// The best there is, under the cap of the environment.
    pub(crate) fn this() -> Self {
        static THIS: OnceLock<Cpu> = OnceLock::new();
        *THIS.get_or_init(|| {
            let cap = std::env::var(VARIABLE).ok().and_then(|name| parse(&name));
            Self(detect().min(cap.unwrap_or(Level::Avx512)))
        })
    }

    pub(super) fn level(self) -> Level {
        self.0
    }

    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Every set of instructions that this processor has.
    #[cfg(test)]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let levels = [Level::Scalar, Level::Avx2, Level::Avx512];
        levels
            .into_iter()
            .filter(|level| *level <= detect())
            .map(Self)
    }
}

fn parse(name: &str) -> Option<Level> {
    match name {
        "scalar" => Some(Level::Scalar),
        "avx2" => Some(Level::Avx2),
        "avx512" => Some(Level::Avx512),
        _ => {
            log::warn!("{VARIABLE} is {name:?}, not scalar, avx2 or avx512; it is ignored");
            None
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    match (has_avx2, has_avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Scalar
}
