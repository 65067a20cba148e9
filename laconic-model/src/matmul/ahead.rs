//! Which bytes to fetch while a group is multiplied with a tile.

/// The next group's bytes (or what lies behind the last, which does no harm), each tile its share.
///
/// By itself the processor would see a group's bytes pass again and again, and then wait for the
/// next one's: with 16 rows that took twice as long.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "the kernels for x86 fetch; others were never timed"
    )
)]
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    /// Bytes behind the group's first at which this tile's share begins.
    pub(super) start: usize,
    /// Bytes further at each step.
    pub(super) pace: usize,
}

impl Ahead {
    /// For tile number `tile`, which takes `n_steps` to multiply with a group of `n_bytes`. Of more
    /// than `max_tiles`, which compute for longer than fetching a group takes, none fetches.
    pub(super) fn new(
        (tile, n_tiles): (usize, usize),
        max_tiles: usize,
        n_bytes: usize,
        n_steps: usize,
    ) -> Self {
        if n_tiles > max_tiles {
            return Self::default();
        }
        let pace = (n_bytes / n_steps.max(1)).div_ceil(n_tiles);
        Self {
            start: n_bytes + tile * n_steps * pace,
            pace,
        }
    }
}
