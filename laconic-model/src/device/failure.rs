//! What candle reports, as errors of ours: memory that ran out is told from everything else.

use std::error::Error as _;

use crate::error::Error;

/// What drivers and libraries say when memory runs out, in lower case. candle keeps their errors
/// as text, or in types that exist only where its features are on.
const SIGNS: [&str; 5] = [
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "alloc failed",
    // candle-metal-kernels, `Buffer` being what could not be made.
    "failed to create metal resource: buffer",
];

/// A failure of the device while it did what `attempt` says.
pub(crate) fn failed(attempt: &str, source: candle_core::Error) -> Error {
    match is_out_of_memory(&source) {
        true => Error::out_of_memory(format!(
            "{attempt}: the device ran out of memory; take smaller batches, a shorter max_length \
             or bf16 weights, or end what else uses the device"
        )),
        false => Error::device(format!("{attempt}: {source}")),
    }
    .with_source(source)
}

fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    let text = text.to_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_told_from_other_failures() {
        let cuda = candle_core::Error::Cuda(
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into(),
        );
        let cublas = candle_core::Error::wrap("CublasError(CUBLAS_STATUS_ALLOC_FAILED)");
        let metal =
            candle_core::Error::Msg("Failed to create metal resource: Buffer".to_owned()).bt();
        for error in [cuda.bt(), cublas.context("matmul"), metal] {
            let error = failed("encoding", error);
            assert!(error.is_out_of_memory() && !error.is_device(), "{error}");
            assert!(error.to_string().starts_with("encoding: the device ran"));
            assert!(error.source().is_some());
        }
        let lost = candle_core::Error::Cuda("DriverError(CUDA_ERROR_LAUNCH_FAILED)".into());
        let error = failed("encoding", lost);
        assert!(error.is_device() && !error.is_out_of_memory(), "{error}");
    }
}
