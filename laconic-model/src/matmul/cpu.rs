//! What the processor can do, found out once, at run time.

use std::sync::OnceLock;

/// Caps the instructions that kernels use: one of [`LEVELS`]' names.
const VARIABLE: &str = "LACONIC_CPU";

const LEVELS: [(Level, &str); 5] = [
    (Level::Scalar, "scalar"),
    (Level::Avx2, "avx2"),
    (Level::AvxVnni, "avx-vnni"),
    (Level::Avx512, "avx512"),
    (Level::Amx, "amx"),
];

/// A set of instructions that this processor has: no value exists for one it lacks, which is what
/// makes calling the kernels sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu(Level);

/// Sets of instructions, the faster behind the slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// What the compiler makes of plain loops.
    Scalar,
    /// AVX2 and FMA: Intel since 2013, AMD since 2017.
    Avx2,
    /// VNNI in AVX2's vectors: Intel's without AVX-512 since 2021.
    AvxVnni,
    /// AVX-512 F, BW, VL and VNNI: Intel servers since 2019, AMD since 2022.
    Avx512,
    /// The same and AMX's tiles of bytes: Intel servers since 2023.
    Amx,
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
            Self(best(cap.unwrap_or(Level::Amx)))
        })
    }

    pub(super) fn level(self) -> Level {
        self.0
    }

    /// Whether a product and a sum are one instruction, and one rounding.
    pub(super) fn has_fma(self) -> bool {
        self.0 > Level::Scalar || cfg!(target_arch = "aarch64")
    }

    pub(crate) fn name(self) -> &'static str {
        let mine = LEVELS.into_iter().find(|(level, _)| *level == self.0);
        mine.map_or("unknown", |(_, name)| name)
    }

    /// Every set of instructions that this processor has.
    #[cfg(test)]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let levels = LEVELS.into_iter().map(|(level, _)| level);
        levels.filter(|level| is_available(*level)).map(Self)
    }
}

/// The fastest that this processor has, up to `cap`.
fn best(cap: Level) -> Level {
    let levels = LEVELS.into_iter().map(|(level, _)| level);
    let available = levels.filter(|level| *level <= cap && is_available(*level));
    available.max().unwrap_or(Level::Scalar)
}

fn parse(name: &str) -> Option<Level> {
    let level = LEVELS.into_iter().find(|(_, known)| *known == name);
    if level.is_none() {
        let names = LEVELS.map(|(_, name)| name).join(", ");
        log::warn!("{VARIABLE} is {name:?}, not one of {names}; it is ignored");
    }
    level.map(|(level, _)| level)
}

/// Whether this processor has these instructions. No level implies another: some with AVX-512 have
/// VNNI in its vectors only.
#[cfg(target_arch = "x86_64")]
fn is_available(level: Level) -> bool {
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match level {
        Level::Scalar => true,
        Level::Avx2 => has_avx2,
        Level::AvxVnni => has_avx2 && is_x86_feature_detected!("avxvnni"),
        Level::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        Level::Amx => is_available(Level::Avx512) && super::amx::is_available(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_available(level: Level) -> bool {
    level == Level::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_kept_and_never_reaches_what_the_processor_lacks() {
        for (cap, name) in LEVELS {
            assert_eq!(parse(name), Some(cap));
            assert!(best(cap) <= cap && is_available(best(cap)));
        }
        assert_eq!(best(Level::Scalar), Level::Scalar);
        assert_eq!(parse("AVX2"), None);
    }
}
