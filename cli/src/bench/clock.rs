//! Wall and CPU time of a piece of work.

use std::time::Instant;

/// Seconds that a piece of work took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seconds {
    pub(super) wall: f64,
    /// `None` where the platform does not say.
    pub(super) cpu: Option<f64>,
}

/// Whose CPU time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CpuOf {
    Thread,
    /// Work that is spread over threads.
    Process,
}

/// Does `work` and says how long it took. The CPU clock is a system call: it is read outside
/// the wall time.
pub(super) fn timed<T>(cpu_of: CpuOf, work: impl FnOnce() -> T) -> (T, Seconds) {
    let cpu_start = cpu_seconds(cpu_of);
    let start = Instant::now();
    let result = work();
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(cpu_of)
        .zip(cpu_start)
        .map(|(end, start)| end - start);
    (result, Seconds { wall, cpu })
}

#[cfg(unix)]
fn cpu_seconds(cpu_of: CpuOf) -> Option<f64> {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(match cpu_of {
        CpuOf::Thread => ClockId::ThreadCPUTime,
        CpuOf::Process => ClockId::ProcessCPUTime,
    });
    let duration = std::time::Duration::try_from(now).ok()?;
    Some(duration.as_secs_f64())
}

#[cfg(not(unix))]
fn cpu_seconds(_cpu_of: CpuOf) -> Option<f64> {
    None
}
