//! Direct I/O at any multiple of 512 bytes, whatever the block size of the device.
//!
//! The kernel takes direct I/O only in whole logical blocks, from memory aligned to them. On a device with blocks of 4096
//! bytes a request that starts or ends within a block is widened: a read fetches the whole block, a write reads it,
//! changes it and writes it back. What a power cut leaves whole is then the block: a write of 512 bytes may tear or,
//! on such a device, take its seven neighbours with it, but never leaves a block half of the old and half of the new.
//!
//! Nobody else may write the neighbours of a range meanwhile; all callers hold the lock of the volume group.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit of offsets and lengths.
const SECTOR: u64 = 512;

/// Alignment of memory that satisfies every device.
const MEMORY_ALIGN: usize = 4096;

/// How much goes in one call.
const CHUNK: u64 = 1 << 20;

/// A file or device with its block size.
pub(super) struct Direct {
    file: File,
    block: u64,
}

impl Direct {
    pub(super) fn new(file: File, block: u64) -> io::Result<Self> {
        if block < SECTOR || !block.is_power_of_two() || block > CHUNK {
            return Err(io::Error::other(format!("a logical block size of {block} bytes is not usable")));
        }
        Ok(Self { file, block })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn block(&self) -> u64 {
        self.block
    }

    /// Reads exactly `len` bytes.
    pub(super) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let end = end(offset, len)?;
        let mut data = Vec::with_capacity(size(len)?);
        let mut buffer = Aligned::new(CHUNK)?;
        let mut at = self.floor(offset);
        while at < end {
            let whole = (self.ceil(end)? - at).min(CHUNK);
            let chunk = buffer.slice(whole)?;
            self.file.read_exact_at(chunk, at)?;
            let wanted = size(offset.saturating_sub(at))?..size((end - at).min(whole))?;
            data.extend_from_slice(&chunk[wanted]);
            at += whole;
        }
        Ok(data)
    }

    /// Writes all of `data`, in order from front to back.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = end(offset, u64::try_from(data.len()).map_err(io::Error::other)?)?;
        let mut buffer = Aligned::new(CHUNK)?;
        let mut at = self.floor(offset);
        let mut rest = data;
        while at < end {
            let whole = (self.ceil(end)? - at).min(CHUNK);
            let from = size(offset.saturating_sub(at))?;
            let to = size((end - at).min(whole))?;
            let chunk = buffer.slice(whole)?;
            if from > 0 {
                self.file.read_exact_at(&mut chunk[..size(self.block)?], at)?;
            }
            let last = whole - self.block;
            if to < size(whole)? && (last > 0 || from == 0) {
                self.file.read_exact_at(&mut chunk[size(last)?..], at + last)?;
            }
            let (now, later) = rest.split_at(to - from);
            chunk[from..to].copy_from_slice(now);
            self.file.write_all_at(chunk, at)?;
            rest = later;
            at += whole;
        }
        Ok(())
    }

    /// Copies a range to another file or device. All of it is whole blocks of both.
    pub(super) fn copy(&self, offset: u64, to: &Self, at: u64, len: u64) -> io::Result<()> {
        let block = self.block.max(to.block);
        if [offset, at, len].iter().any(|number| !number.is_multiple_of(block)) {
            let message = format!("{len} bytes at {offset}, for {at}, are not whole blocks of {block}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut buffer = Aligned::new(len.min(CHUNK))?;
        let mut done = 0;
        while done < len {
            let chunk = buffer.slice((len - done).min(CHUNK))?;
            self.file.read_exact_at(chunk, offset + done)?;
            to.file.write_all_at(chunk, at + done)?;
            done += chunk.len() as u64;
        }
        Ok(())
    }

    fn floor(&self, offset: u64) -> u64 {
        offset - offset % self.block
    }

    fn ceil(&self, offset: u64) -> io::Result<u64> {
        offset.checked_next_multiple_of(self.block).ok_or_else(too_far)
    }
}

/// Memory that starts at a multiple of [`MEMORY_ALIGN`].
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new(len: u64) -> io::Result<Self> {
        let memory = vec![0; size(len)? + MEMORY_ALIGN];
        let start = memory.as_ptr().align_offset(MEMORY_ALIGN);
        Ok(Self { memory, start })
    }

    fn slice(&mut self, len: u64) -> io::Result<&mut [u8]> {
        let end = self.start + size(len)?;
        Ok(&mut self.memory[self.start..end])
    }
}

fn end(offset: u64, len: u64) -> io::Result<u64> {
    if !offset.is_multiple_of(SECTOR) || !len.is_multiple_of(SECTOR) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{len} bytes at {offset} are not whole sectors"),
        ));
    }
    offset.checked_add(len).ok_or_else(too_far)
}

fn too_far() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of any device")
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SECTORS: u64 = 6000;

    fn pattern() -> Vec<u8> {
        (0..SECTORS * SECTOR).map(|i| u8::try_from((i / 7) % 251).expect("below 251")).collect()
    }

    fn file() -> File {
        let file = tempfile::tempfile().expect("temporary file");
        file.write_all_at(&pattern(), 0).expect("write");
        file
    }

    fn bytes(sectors: u64) -> usize {
        usize::try_from(sectors * SECTOR).expect("small")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_write_changes_its_range_and_nothing_else(
            shift in 0_u32..4, start in 0_u64..4000, sectors in 0_u64..2000
        ) {
            let direct = Direct::new(file(), SECTOR << shift).expect("direct");
            let mut expected = pattern();
            let data = vec![0xee; bytes(sectors)];
            expected[bytes(start)..bytes(start + sectors)].copy_from_slice(&data);
            direct.write(start * SECTOR, &data).expect("write");
            let whole = direct.read(0, SECTORS * SECTOR).expect("read");
            prop_assert!(whole == expected);
        }

        #[test]
        fn a_read_gives_its_range(shift in 0_u32..4, start in 0_u64..5000, sectors in 0_u64..1000) {
            let direct = Direct::new(file(), SECTOR << shift).expect("direct");
            let data = direct.read(start * SECTOR, sectors * SECTOR).expect("read");
            prop_assert!(data == pattern()[bytes(start)..bytes(start + sectors)]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_copy_changes_its_range_of_the_target_and_nothing_else(
            shift in 0_u32..4, start in 0_u64..300, at in 0_u64..300, blocks in 0_u64..440
        ) {
            // Whole blocks of the larger of both block sizes, and more than one chunk.
            let block = 4096;
            let (from, to) = (Direct::new(file(), SECTOR << shift), Direct::new(file(), block));
            let (from, to) = (from.expect("direct"), to.expect("direct"));
            let mut expected = pattern();
            let of = |block: u64, blocks: u64| bytes(block * 8)..bytes((block + blocks) * 8);
            expected[of(at, blocks)].copy_from_slice(&pattern()[of(start, blocks)]);
            from.copy(start * block, &to, at * block, blocks * block).expect("copy");
            prop_assert!(to.read(0, SECTORS * SECTOR).expect("read") == expected);
            prop_assert!(from.copy(SECTOR, &to, 0, block).is_err());
        }
    }

    #[test]
    fn what_is_not_whole_sectors_or_beyond_the_end_is_refused() {
        let direct = Direct::new(file(), 4096).expect("direct");
        assert!(direct.read(1, 512).is_err());
        assert!(direct.write(0, &[0; 100]).is_err());
        assert!(direct.read(u64::MAX - 511, 512).is_err());
        let error = direct.read(SECTORS * SECTOR, 512).expect_err("beyond the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn memory_is_aligned_for_every_device() {
        for len in [512, 4096, CHUNK] {
            let mut memory = Aligned::new(len).expect("memory");
            assert_eq!(memory.slice(len).expect("slice").as_ptr().align_offset(MEMORY_ALIGN), 0);
        }
    }
}
