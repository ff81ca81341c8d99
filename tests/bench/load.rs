//! Writing to a device as a program does that trusts no cache.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use splitmirror::units::Bytes;

use crate::aligned::Aligned;
use crate::guest::Outcome;
use crate::lab::say;
use crate::writer::open_direct;

/// Where writes go.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// One block after the other, the whole range.
    InTurn,
    /// One block in sixteen, all over the range, never two in turn.
    Scattered,
}

impl Pattern {
    /// Numbers of the blocks to write, of `blocks`, which is a power of two.
    fn blocks(self, blocks: u64) -> Vec<u64> {
        match self {
            Self::InTurn => (0..blocks).collect(),
            // Odd multiples modulo a power of two meet each block once.
            Self::Scattered => (0..blocks / 16).map(|n| n.wrapping_mul(0x9e37_79b1) % blocks).collect(),
        }
    }
}

/// Writes blocks of this size to the first `range` of a device; what is in them, no other call has written. Bytes in a
/// second.
pub fn write(device: &Path, range: Bytes, block: Bytes, pattern: Pattern) -> Outcome<f64> {
    let file = open_direct(device, true)?;
    let mut data = Aligned::new(usize::try_from(block.0).map_err(say)?);
    let mark = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(say)?.as_nanos();
    for word in data.bytes_mut().chunks_exact_mut(16) {
        word.copy_from_slice(&mark.to_le_bytes());
    }
    let blocks = pattern.blocks(range.0 / block.0);
    let begun = Instant::now();
    for n in &blocks {
        file.write_all_at(data.bytes(), n * block.0).map_err(say)?;
    }
    let took: Duration = begun.elapsed();
    #[allow(clippy::cast_precision_loss)]
    let bytes = (blocks.len() as u64 * block.0) as f64;
    Ok(bytes / took.as_secs_f64().max(1e-9))
}

/// Reads the first block of a device.
pub fn first_block(device: &Path) -> Outcome {
    let mut data = Aligned::new(4096);
    open_direct(device, false)?.read_exact_at(data.bytes_mut(), 0).map_err(say)
}
