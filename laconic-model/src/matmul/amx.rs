//! Quantized products on AMX's tiles: registers of 16 rows of 64 bytes, two of which are multiplied
//! in one instruction (Intel, "Intrinsics and architecture: Advanced Matrix Extensions").
//!
//! One tile of rows is up to 32 of them, in two register tiles; a group's 32 outputs are two more;
//! their products are four. What the instructions do is behind [`TileUnit`], of which there is a
//! second in plain Rust: with it every processor tests what is around them.
#![allow(
    unsafe_code,
    reason = "instructions that Rust has no name for; see the SAFETY notes"
)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::ahead::Ahead;
use super::int8::{ByteLine, Int8Tile, STEPS};
use super::{FloatLine, GROUP, Lanes};

/// Rows of the tallest tile.
pub(super) const MAX_HEIGHT: usize = 2 * REGISTER_ROWS;

/// Rows of a register tile, and bytes of each.
const REGISTER_ROWS: usize = 16;
const REGISTER_BYTES: usize = 64;
/// Steps that fill a register tile: its columns hold four inputs each.
const REGISTER_STEPS: usize = 16;
/// The registers: products by rows and outputs, rows, weights by outputs.
const PRODUCTS: [[u8; 2]; 2] = [[0, 1], [2, 3]];
const ROWS: [u8; 2] = [4, 5];
const WEIGHTS: [u8; 2] = [6, 7];

/// Products of one block: rows × outputs.
type Dots = [[i32; GROUP]; MAX_HEIGHT];

/// As the instruction reads it: palette 1, bytes of a row and rows of each register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// For rows in two registers of these heights.
    fn new(heights: [u8; 2]) -> Self {
        let mut config = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let mut set = |register: u8, rows: u8| {
            // A register without rows is one without bytes.
            let bytes = if rows == 0 { 0 } else { 64 };
            config.row_bytes[usize::from(register)] = bytes;
            config.rows[usize::from(register)] = rows;
        };
        for (half, height) in heights.into_iter().enumerate() {
            set(ROWS[half], height);
            set(PRODUCTS[half][0], height);
            set(PRODUCTS[half][1], height);
            set(WEIGHTS[half], 16);
        }
        config
    }
}

/// The instructions. `T`, `A` and `B` are registers.
///
/// # Safety
/// Of all: the processor has them, [`configure`](Self::configure) came first, and the memory that a
/// register is loaded from or stored to, its rows `stride` bytes apart, is there.
trait TileUnit {
    unsafe fn configure(&mut self, config: &Config);
    unsafe fn zero<const T: u8>(&mut self);
    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize);
    /// `T += A B`: A's bytes are signed, B's are not.
    unsafe fn multiply<const T: u8, const A: u8, const B: u8>(&mut self);
    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize);
    unsafe fn release(&mut self);
}

struct Hardware;

impl TileUnit for Hardware {
    #[inline(always)]
    unsafe fn configure(&mut self, config: &Config) {
        // SAFETY: 64 bytes that describe a sound configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly)) }
    }

    #[inline(always)]
    unsafe fn zero<const T: u8>(&mut self) {
        // SAFETY: the caller vouches for the register.
        unsafe { asm!("tilezero tmm{}", const T, options(nostack, nomem)) }
    }

    #[inline(always)]
    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: the caller vouches for the memory.
        unsafe {
            asm!("tileloadd tmm{}, [{} + {}*1]", const T, in(reg) from, in(reg) stride,
                options(nostack, readonly));
        }
    }

    #[inline(always)]
    unsafe fn multiply<const T: u8, const A: u8, const B: u8>(&mut self) {
        // SAFETY: the caller vouches for the registers.
        unsafe {
            asm!("tdpbsud tmm{}, tmm{}, tmm{}", const T, const A, const B,
                options(nostack, nomem));
        }
    }

    #[inline(always)]
    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize) {
        // SAFETY: the caller vouches for the memory.
        unsafe {
            asm!("tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) stride, const T,
                options(nostack));
        }
    }

    #[inline(always)]
    unsafe fn release(&mut self) {
        // SAFETY: no register is used behind this.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// Whether the processor has the instructions and the system lets this process use them.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted() && is_right())
}

fn has_instructions() -> bool {
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    const TILE_STATE: u64 = 3 << 17;
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: OSXSAVE says that the instruction is there.
    let saved = unsafe { saved_state() };
    features & (TILE | INT8) == TILE | INT8 && saved & TILE_STATE == TILE_STATE
}

#[target_feature(enable = "xsave")]
fn saved_state() -> u64 {
    // SAFETY: register 0 is always there.
    unsafe { _xgetbv(0) }
}

/// Asks Linux to save the tiles with this process's state (arch_prctl, ARCH_REQ_XCOMP_PERM).
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that takes two numbers and touches no memory of ours.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// A product whose result is known: the processor that gets it wrong does without.
fn is_right() -> bool {
    const HEIGHT: usize = 17;
    let (words, w) = example(HEIGHT, STEPS);
    let offsets = [3; HEIGHT];
    let scales = [FloatLine([0.5; GROUP])];
    let tile = Int8Tile {
        words: &words,
        scales: &[2.0; HEIGHT],
        offsets: &offsets,
        ahead: Ahead::default(),
    };
    let (mut ours, mut truth) = ([[0.0; GROUP]; HEIGHT], [[0.0; GROUP]; HEIGHT]);
    // SAFETY: the instructions are there, and permitted.
    unsafe { multiply(&mut Hardware, &tile, &w, &scales, &mut ours) };
    // SAFETY: nothing, since it is plain Rust.
    unsafe { multiply(&mut Software::new(), &tile, &w, &scales, &mut truth) };
    let is_right = ours == truth;
    if !is_right {
        log::warn!("AMX multiplies wrongly on this processor; AVX-512 is used");
    }
    is_right
}

/// Rows and weights of all bytes there are.
fn example(height: usize, steps: usize) -> (Vec<i32>, Vec<ByteLine>) {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    let mut word = || i32::from_le_bytes([byte(), byte(), byte(), byte()]);
    let words = (0..height * STEPS).map(|_| word()).collect();
    let lines = (0..steps).map(|_| ByteLine([0; 128].map(|_: u8| byte())));
    (words, lines.collect())
}

/// `out = x w` for one tile of quantized rows, which lie as blocks × rows × steps.
///
/// # Safety
/// [`is_available`] said so.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn int8(
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe { multiply(&mut Hardware, x, w, scales, out) };
}

/// # Safety
/// The unit's instructions are there.
#[inline(always)]
unsafe fn multiply<U: TileUnit>(
    unit: &mut U,
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    let height = out.len();
    let low = height.min(REGISTER_ROWS);
    let heights = [low, height - low].map(|rows| u8::try_from(rows).unwrap_or(0));
    out.fill([0.0; GROUP]);
    // SAFETY: heights are at most 16.
    unsafe { unit.configure(&Config::new(heights)) };
    let mut dots: Dots = [[0; GROUP]; MAX_HEIGHT];
    for (block, w) in w.chunks(STEPS).enumerate() {
        let words = &x.words[block * height * STEPS..(block + 1) * height * STEPS];
        let mut filled = [ByteLine([0; 128]); STEPS];
        let w = match w.try_into() {
            Ok(whole) => whole,
            Err(_) => {
                // The rows' bytes behind the last input are 0: what they meet does not matter.
                filled[..w.len()].copy_from_slice(w);
                &filled
            }
        };
        // SAFETY: `words` are the block's rows, and whoever called configured for their number.
        unsafe { block_dots(unit, words, heights, w, &mut dots) };
        let at = block * height..(block + 1) * height;
        let rows = x.scales[at.clone()].iter().zip(&x.offsets[at]);
        for ((dots, sums), (scale, offset)) in dots.iter().zip(out.iter_mut()).zip(rows) {
            for ((sum, dot), w_scale) in sums.iter_mut().zip(dots).zip(&scales[block].0) {
                let dot = exact(dot + offset);
                *sum = dot.mul_add(w_scale * scale, *sum);
            }
        }
    }
    // SAFETY: nothing is left in the registers that is needed.
    unsafe { unit.release() };
}

/// Exact: 128 products of at most 127 × 127 stay below 2²⁴.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn exact(dot: i32) -> f32 {
    dot as f32
}

/// Products of a block's rows with its lines.
///
/// # Safety
/// The unit's instructions are there, it is configured for `heights`, and `words` are their rows of
/// 32 each.
#[inline(always)]
unsafe fn block_dots<U: TileUnit>(
    unit: &mut U,
    words: &[i32],
    heights: [u8; 2],
    w: &[ByteLine; STEPS],
    dots: &mut Dots,
) {
    const ROW_BYTES: usize = 4 * STEPS;
    const LINE_BYTES: usize = size_of::<ByteLine>();
    let has_second = heights[1] > 0;
    let (low, high) = dots.as_flattened_mut().split_at_mut(REGISTER_ROWS * GROUP);
    // SAFETY: a register's 16 rows of weights are 16 lines, 64 bytes of each; its rows are as many
    // as there are; products are 16 rows of 32 numbers. The second half is there if it has rows.
    unsafe {
        unit.zero::<{ PRODUCTS[0][0] }>();
        unit.zero::<{ PRODUCTS[0][1] }>();
        if has_second {
            unit.zero::<{ PRODUCTS[1][0] }>();
            unit.zero::<{ PRODUCTS[1][1] }>();
        }
        for part in 0..STEPS / REGISTER_STEPS {
            let rows = words.as_ptr().cast::<u8>().add(part * REGISTER_BYTES);
            let lines = w.as_ptr().add(part * REGISTER_STEPS).cast::<u8>();
            unit.load::<{ ROWS[0] }>(rows, ROW_BYTES);
            unit.load::<{ WEIGHTS[0] }>(lines, LINE_BYTES);
            unit.multiply::<{ PRODUCTS[0][0] }, { ROWS[0] }, { WEIGHTS[0] }>();
            unit.load::<{ WEIGHTS[1] }>(lines.add(REGISTER_BYTES), LINE_BYTES);
            unit.multiply::<{ PRODUCTS[0][1] }, { ROWS[0] }, { WEIGHTS[1] }>();
            if has_second {
                unit.load::<{ ROWS[1] }>(rows.add(REGISTER_ROWS * ROW_BYTES), ROW_BYTES);
                unit.multiply::<{ PRODUCTS[1][0] }, { ROWS[1] }, { WEIGHTS[0] }>();
                unit.multiply::<{ PRODUCTS[1][1] }, { ROWS[1] }, { WEIGHTS[1] }>();
            }
        }
        let stride = 4 * GROUP;
        unit.store::<{ PRODUCTS[0][0] }>(low.as_mut_ptr().cast(), stride);
        unit.store::<{ PRODUCTS[0][1] }>(low.as_mut_ptr().add(GROUP / 2).cast(), stride);
        if has_second {
            unit.store::<{ PRODUCTS[1][0] }>(high.as_mut_ptr().cast(), stride);
            unit.store::<{ PRODUCTS[1][1] }>(high.as_mut_ptr().add(GROUP / 2).cast(), stride);
        }
    }
}

/// The same in plain Rust.
struct Software {
    /// Bytes of a row, and rows.
    shapes: [(usize, usize); 8],
    registers: [[u8; REGISTER_ROWS * REGISTER_BYTES]; 8],
}

impl Software {
    fn new() -> Self {
        Self {
            shapes: [(0, 0); 8],
            registers: [[0; REGISTER_ROWS * REGISTER_BYTES]; 8],
        }
    }

    fn row(&mut self, register: u8, row: usize) -> &mut [u8] {
        let rows = &mut self.registers[usize::from(register)];
        &mut rows[row * REGISTER_BYTES..(row + 1) * REGISTER_BYTES]
    }

    fn shape(&self, register: u8) -> (usize, usize) {
        self.shapes[usize::from(register)]
    }
}

impl TileUnit for Software {
    unsafe fn configure(&mut self, config: &Config) {
        assert_eq!((config.palette, size_of::<Config>()), (1, 64));
        let shapes = config.row_bytes.iter().zip(config.rows);
        for (shape, (bytes, rows)) in self.shapes.iter_mut().zip(shapes) {
            assert!(*bytes <= 64 && rows <= 16);
            assert_eq!(*bytes == 0, rows == 0);
            *shape = (usize::from(*bytes), usize::from(rows));
        }
        self.registers = Self::new().registers;
    }

    unsafe fn zero<const T: u8>(&mut self) {
        assert_ne!(self.shape(T).1, 0, "register {T} is configured");
        self.registers[usize::from(T)].fill(0);
    }

    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize) {
        let (bytes, rows) = self.shape(T);
        assert_ne!(rows, 0, "register {T} is configured");
        for row in 0..rows {
            // SAFETY: the caller vouches for the memory.
            let line = unsafe { std::slice::from_raw_parts(from.add(row * stride), bytes) };
            self.row(T, row)[..bytes].copy_from_slice(line);
        }
    }

    unsafe fn multiply<const T: u8, const A: u8, const B: u8>(&mut self) {
        let ((a_bytes, a_rows), (b_bytes, b_rows)) = (self.shape(A), self.shape(B));
        assert_eq!(self.shape(T), (b_bytes, a_rows));
        assert_eq!(a_bytes, 4 * b_rows);
        for row in 0..a_rows {
            for step in 0..b_rows {
                let a: [u8; 4] = std::array::from_fn(|i| self.row(A, row)[4 * step + i]);
                for column in 0..b_bytes / 4 {
                    let b: [u8; 4] = std::array::from_fn(|i| self.row(B, step)[4 * column + i]);
                    let products = a.iter().zip(b);
                    let dot: i32 = products
                        .map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b))
                        .sum();
                    let place = &mut self.row(T, row)[4 * column..4 * column + 4];
                    let sum = i32::from_le_bytes(std::array::from_fn(|i| place[i]));
                    place.copy_from_slice(&(sum + dot).to_le_bytes());
                }
            }
        }
    }

    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize) {
        let (bytes, rows) = self.shape(T);
        for row in 0..rows {
            // SAFETY: the caller vouches for the memory.
            let line = unsafe { std::slice::from_raw_parts_mut(to.add(row * stride), bytes) };
            line.copy_from_slice(&self.row(T, row)[..bytes]);
        }
    }

    unsafe fn release(&mut self) {
        self.shapes = [(0, 0); 8];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::scalar;

    /// Tiles of every height, blocks whole and not, through the tiles in plain Rust.
    #[test]
    fn tiles_multiply_as_the_scalar_kernel_does() {
        for height in 1..=MAX_HEIGHT {
            for steps in [1_usize, 15, 16, 17, 31, 32, 33, 70, 96] {
                let n_blocks = steps.div_ceil(STEPS);
                let (mut words, w) = example(height * n_blocks, steps);
                // Bytes of rows are 0 behind the last input.
                for (idx, word) in words.iter_mut().enumerate() {
                    let block = idx / (height * STEPS);
                    if block * STEPS + idx % STEPS >= steps {
                        *word = 0;
                    }
                }
                let numbers = || (0..height * n_blocks).zip(0_u16..);
                let scales: Vec<f32> = numbers().map(|(_, i)| 1.0 / f32::from(1 + i)).collect();
                let offsets: Vec<i32> = numbers().map(|(_, i)| i32::from(i) * 7 - 99).collect();
                let w_scales = vec![FloatLine([0.25; GROUP]); n_blocks];
                // The scalar kernel's rows lie side by side.
                let mut side_by_side = vec![0; words.len()];
                for (idx, word) in words.iter().enumerate() {
                    let (block, rest) = (idx / (height * STEPS), idx % (height * STEPS));
                    let (row, step) = (rest / STEPS, rest % STEPS);
                    side_by_side[(block * STEPS + step) * height + row] = *word;
                }
                let tile = |words| Int8Tile {
                    words,
                    scales: &scales,
                    offsets: &offsets,
                    ahead: Ahead::default(),
                };
                let mut truth = vec![[0.0; GROUP]; height];
                let plain = &side_by_side[..steps * height];
                scalar::int8(&tile(plain), &w, &w_scales, &mut truth);
                let mut ours = vec![[f32::NAN; GROUP]; height];
                // SAFETY: plain Rust.
                unsafe {
                    multiply(
                        &mut Software::new(),
                        &tile(&words),
                        &w,
                        &w_scales,
                        &mut ours,
                    );
                }
                assert_eq!(ours, truth, "{height} rows, {steps} steps");
            }
        }
    }
}
