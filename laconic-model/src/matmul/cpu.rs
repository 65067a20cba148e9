//! What the processor can do, found out once, at run time.

use std::sync::OnceLock;

/// Caps the instructions that kernels use: one of [`LEVELS`]' names.
const VARIABLE: &str = "LACONIC_CPU";

/// Those of this architecture, in ascending order; there are no others to ask for.
const LEVELS: &[(Level, &str)] = &[
    (Level::Scalar, "scalar"),
    #[cfg(target_arch = "x86_64")]
    (Level::Avx2, "avx2"),
    #[cfg(target_arch = "x86_64")]
    (Level::AvxVnni, "avx-vnni"),
    #[cfg(target_arch = "x86_64")]
    (Level::Avx512, "avx512"),
    #[cfg(target_arch = "x86_64")]
    (Level::Amx, "amx"),
    #[cfg(target_arch = "aarch64")]
    (Level::Neon, "neon"),
    #[cfg(target_arch = "aarch64")]
    (Level::NeonDotprod, "neon-dotprod"),
    #[cfg(target_arch = "aarch64")]
    (Level::NeonI8mm, "neon-i8mm"),
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
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// VNNI in AVX2's vectors: Intel's without AVX-512 since 2021.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW, VL and VNNI: Intel servers since 2019, AMD since 2022.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same and AMX's tiles of bytes: Intel servers since 2023.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// What every aarch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With FEAT_DotProd, products of bytes: Cortex-A76, Neoverse N1 and Apple's M1, and since.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    /// The same and FEAT_I8MM, two by two of them: Neoverse V1 and N2, Apple's M2, and since.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
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
            Self(best(cap))
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
        let mine = LEVELS.iter().find(|(level, _)| *level == self.0);
        mine.map_or("unknown", |(_, name)| *name)
    }

    /// Every set of instructions that this processor has.
    #[cfg(test)]
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        let levels = LEVELS.iter().map(|(level, _)| *level);
        levels.filter(|level| is_available(*level)).map(Self)
    }
}

/// The fastest that this processor has, up to `cap`.
fn best(cap: Option<Level>) -> Level {
    let levels = LEVELS.iter().map(|(level, _)| *level);
    let allowed = levels.filter(|level| cap.is_none_or(|cap| *level <= cap));
    let available = allowed.filter(|level| is_available(*level));
    available.max().unwrap_or(Level::Scalar)
}

fn parse(name: &str) -> Option<Level> {
    let level = LEVELS.iter().find(|(_, known)| *known == name);
    if level.is_none() {
        let names: Vec<&str> = LEVELS.iter().map(|(_, name)| *name).collect();
        let names = names.join(", ");
        log::warn!("{VARIABLE} is {name:?}, not one of {names}; it is ignored");
    }
    level.map(|(level, _)| *level)
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

#[cfg(target_arch = "aarch64")]
fn is_available(level: Level) -> bool {
    use std::arch::is_aarch64_feature_detected;
    match level {
        Level::Scalar => true,
        // The kernels take words apart into bytes, the first being the lowest.
        Level::Neon => cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon"),
        Level::NeonDotprod => is_available(Level::Neon) && is_aarch64_feature_detected!("dotprod"),
        Level::NeonI8mm => is_available(Level::NeonDotprod) && is_aarch64_feature_detected!("i8mm"),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn is_available(level: Level) -> bool {
    level == Level::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_kept_and_never_reaches_what_the_processor_lacks() {
        for (cap, name) in LEVELS {
            assert_eq!(parse(name), Some(*cap));
            let best = best(Some(*cap));
            assert!(best <= *cap && is_available(best));
        }
        assert_eq!(best(Some(Level::Scalar)), Level::Scalar);
        assert_eq!(parse("AVX2"), None);
    }

    #[test]
    fn another_architectures_instructions_are_no_cap() {
        let others: &[&str] = if cfg!(target_arch = "x86_64") {
            &["neon", "neon-dotprod", "neon-i8mm"]
        } else {
            &["avx2", "avx-vnni", "avx512", "amx"]
        };
        for name in others {
            assert_eq!(parse(name), None);
        }
        assert!(LEVELS.is_sorted() && is_available(best(None)));
    }
}
