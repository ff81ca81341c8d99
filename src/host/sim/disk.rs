//! A disk in memory: sparse, cheap to copy, full of rubbish until it is written.
//!
//! Space that nobody has written reads as a pattern that differs from disk to disk, so that two legs are equal only
//! when somebody made them so, and stale space never passes for zeroes.

use std::sync::Arc;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;
const BLOCK: usize = 4096;
const BLOCK_SECTORS: usize = BLOCK / SECTOR;
const CHUNK_BLOCKS: usize = 256;
const CHUNK_SECTORS: usize = CHUNK_BLOCKS * BLOCK_SECTORS;

type Block = [u8; BLOCK];

/// A machine word that counts sectors of a disk in memory.
pub(super) fn index(sectors: u64) -> usize {
    usize::try_from(sectors).expect("a simulated disk fits the address space")
}

/// The other way round.
pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("a count of things in memory fits 64 bits")
}

/// One disk.
#[derive(Clone)]
pub(super) struct Disk {
    chunks: Vec<Arc<Vec<Arc<Block>>>>,
    zero: Arc<Block>,
    sectors: u64,
}

impl Disk {
    /// A disk of this many sectors, each full of `rubbish`.
    pub(super) fn new(sectors: u64, rubbish: u8) -> Self {
        let block = Arc::new([rubbish; BLOCK]);
        let chunk = Arc::new(vec![block; CHUNK_BLOCKS]);
        let chunks = vec![chunk; index(sectors).div_ceil(CHUNK_SECTORS)];
        Self { chunks, zero: Arc::new([0; BLOCK]), sectors }
    }

    /// Its size.
    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    fn block(&self, number: usize) -> &Arc<Block> {
        &self.chunks[number / CHUNK_BLOCKS][number % CHUNK_BLOCKS]
    }

    fn set_block(&mut self, number: usize, block: Arc<Block>) {
        Arc::make_mut(&mut self.chunks[number / CHUNK_BLOCKS])[number % CHUNK_BLOCKS] = block;
    }

    /// Reads whole sectors.
    pub(super) fn read(&self, sector: u64, count: u64) -> Vec<u8> {
        let (sector, count) = (index(sector), index(count));
        let mut data = Vec::with_capacity(count * SECTOR);
        let mut at = sector;
        while at < sector + count {
            let first = at % BLOCK_SECTORS;
            let run = (BLOCK_SECTORS - first).min(sector + count - at);
            data.extend_from_slice(&self.block(at / BLOCK_SECTORS)[first * SECTOR..(first + run) * SECTOR]);
            at += run;
        }
        data
    }

    /// Writes bytes from the start of a sector on; the last sector may be written in part.
    pub(super) fn write(&mut self, sector: u64, data: &[u8]) {
        for (at, bytes) in (index(sector)..).zip(data.chunks(SECTOR)) {
            let from = at % BLOCK_SECTORS * SECTOR;
            let chunk = Arc::make_mut(&mut self.chunks[at / CHUNK_SECTORS]);
            let block = Arc::make_mut(&mut chunk[at / BLOCK_SECTORS % CHUNK_BLOCKS]);
            block[from..from + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Writes zeroes.
    pub(super) fn zero(&mut self, sector: u64, count: u64) {
        let (mut at, end) = (index(sector), index(sector) + index(count));
        while at < end {
            if at.is_multiple_of(CHUNK_SECTORS) && at + CHUNK_SECTORS <= end {
                self.chunks[at / CHUNK_SECTORS] = Arc::new(vec![Arc::clone(&self.zero); CHUNK_BLOCKS]);
                at += CHUNK_SECTORS;
            } else if at.is_multiple_of(BLOCK_SECTORS) && at + BLOCK_SECTORS <= end {
                let zero = Arc::clone(&self.zero);
                self.set_block(at / BLOCK_SECTORS, zero);
                at += BLOCK_SECTORS;
            } else {
                self.write(wide(at), &[0; SECTOR]);
                at += 1;
            }
        }
    }

    /// Copies sectors from another disk.
    pub(super) fn copy_from(&mut self, to: u64, source: &Self, from: u64, count: u64) {
        let (to, from, count) = (index(to), index(from), index(count));
        let aligned = |n: usize| n.is_multiple_of(BLOCK_SECTORS);
        let mut done = 0;
        while done < count {
            if aligned(to + done) && aligned(from + done) && done + BLOCK_SECTORS <= count {
                let block = Arc::clone(source.block((from + done) / BLOCK_SECTORS));
                self.set_block((to + done) / BLOCK_SECTORS, block);
                done += BLOCK_SECTORS;
            } else {
                let data = source.read(wide(from + done), 1);
                self.write(wide(to + done), &data);
                done += 1;
            }
        }
    }

    /// The first few sectors, counted from the starts given, in which two disks differ.
    pub(super) fn differences(&self, mine: u64, other: &Self, theirs: u64, count: u64) -> Vec<u64> {
        const ENOUGH: usize = 16;
        let (mine, theirs) = (index(mine), index(theirs));
        let mut found = Vec::new();
        let mut at = 0;
        while at < index(count) && found.len() < ENOUGH {
            let (a, b) = (mine + at, theirs + at);
            let aligned = a.is_multiple_of(BLOCK_SECTORS) && b.is_multiple_of(BLOCK_SECTORS);
            let (left, right) = (self.block(a / BLOCK_SECTORS), other.block(b / BLOCK_SECTORS));
            if aligned && (Arc::ptr_eq(left, right) || left == right) {
                at += BLOCK_SECTORS;
                continue;
            }
            if self.read(wide(a), 1) != other.read(wide(b), 1) {
                found.push(wide(at));
            }
            at += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_rubbish() {
        let mut disk = Disk::new(4096, 0xa5);
        disk.write(9, &[1; 2 * SECTOR]);
        assert_eq!(disk.read(8, 1), vec![0xa5; SECTOR]);
        assert_eq!(disk.read(9, 2), vec![1; 2 * SECTOR]);
        disk.zero(1, 4095);
        assert_eq!(disk.read(9, 1), vec![0; SECTOR]);
        assert_eq!(disk.read(0, 1), vec![0xa5; SECTOR]);
    }

    #[test]
    fn copies_and_differences_are_exact_to_the_sector() {
        let (mut one, two) = (Disk::new(2048, 1), Disk::new(2048, 2));
        one.copy_from(16, &two, 24, 100);
        assert_eq!(one.differences(16, &two, 24, 100), Vec::<u64>::new());
        one.write(20, &[7; SECTOR]);
        assert_eq!(one.differences(16, &two, 24, 100), vec![4]);
        assert_eq!(one.differences(15, &two, 24, 1), vec![0]);
    }
}
