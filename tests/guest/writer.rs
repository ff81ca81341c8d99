//! Busy writers that know afterwards what must be on the disk.
//!
//! Each thread writes a sequence of 4 KiB blocks, one at a time, past the cache: block and content of the n-th write
//! follow from its seed and n alone. At any instant what the thread has written is therefore a prefix of its sequence,
//! and a reader finds out which: the highest n in its blocks. An image is a true instant of the volume exactly when
//! every thread's blocks are those of one prefix, and nothing was lost when the prefix reaches what was
//! acknowledged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::aligned::Aligned;

pub const BLOCK: u64 = 4096;
const O_DIRECT: i32 = 0o40000;

/// Where a thread's writes go and what is in them.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub threads: u64,
    /// Blocks of the device that all threads share, dealt out in turn.
    pub blocks: u64,
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Plan {
    fn block(&self, thread: u64, n: u64) -> u64 {
        let own = self.blocks / self.threads;
        let random = mix(self.seed ^ mix(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n));
        (random % own) * self.threads + thread
    }

    fn fill(&self, thread: u64, n: u64, block: u64, data: &mut [u8]) {
        for (i, word) in data.chunks_exact_mut(8).enumerate() {
            let value = match i {
                0 => n,
                1 => block,
                2 => self.seed,
                i => mix(n ^ (thread << 56) ^ (i as u64)),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Writers at work on a device.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acked: Arc<Vec<AtomicU64>>,
    failed: Arc<Mutex<Option<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them. What is acknowledged is also noted on the disk `journal`, when given.
    pub fn start(device: &Path, plan: Plan, journal: Option<PathBuf>) -> Result<Self, String> {
        Self::start_across(&[device], plan, journal)
    }

    /// Starts them on several devices: each write goes to one after the other in this order, and is acknowledged when it is
    /// on all.
    pub fn start_across(
        devices: &[impl AsRef<Path>],
        plan: Plan,
        journal: Option<PathBuf>,
    ) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let acked: Arc<Vec<AtomicU64>> = Arc::new((0..plan.threads).map(|_| AtomicU64::new(0)).collect());
        let failed = Arc::new(Mutex::new(None));
        let mut threads = Vec::new();
        for thread in 0..plan.threads {
            let files: Vec<File> =
                devices.iter().map(|device| open_direct(device.as_ref(), true)).collect::<Result<_, _>>()?;
            let journal = journal.as_ref().map(|path| open_direct(path, true)).transpose()?;
            let (stop, acked, failed) = (Arc::clone(&stop), Arc::clone(&acked), Arc::clone(&failed));
            threads.push(std::thread::spawn(move || {
                let mut data = Aligned::new(BLOCK as usize);
                let mut note = Aligned::new(BLOCK as usize);
                let mut n: u64 = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let block = plan.block(thread, n);
                    plan.fill(thread, n, block, data.bytes_mut());
                    let mut each = files.iter();
                    if let Err(error) =
                        each.try_for_each(|file| file.write_all_at(data.bytes(), block * BLOCK))
                    {
                        *failed.lock().expect("no panic") =
                            Some(format!("write {n} of thread {thread}: {error}"));
                        return;
                    }
                    acked[thread as usize].store(n, Ordering::Release);
                    if let Some(journal) = &journal {
                        note.bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
                        let noted = journal.write_all_at(note.bytes(), thread * BLOCK);
                        if let Err(error) = noted {
                            *failed.lock().expect("no panic") = Some(format!("journal: {error}"));
                            return;
                        }
                    }
                }
            }));
        }
        Ok(Self { stop, acked, failed, threads })
    }

    /// What each thread has been told is written.
    pub fn acked(&self) -> Vec<u64> {
        self.acked.iter().map(|n| n.load(Ordering::Acquire)).collect()
    }

    /// Waits until every thread has had some more writes acknowledged.
    pub fn wait_for(&self, more: u64) -> Result<(), String> {
        let goal: Vec<u64> = self.acked().iter().map(|n| n + more).collect();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.acked().iter().zip(&goal).any(|(now, goal)| now < goal) {
            if let Some(error) = self.failed.lock().expect("no panic").clone() {
                return Err(error);
            }
            if std::time::Instant::now() > deadline {
                return Err("the writers are stuck".into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Stops them; what each was told is written.
    pub fn stop(mut self) -> Result<Vec<u64>, String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| "a writer panicked".to_owned())?;
        }
        if let Some(error) = self.failed.lock().expect("no panic").take() {
            return Err(error);
        }
        Ok(self.acked.iter().map(|n| n.load(Ordering::Acquire)).collect())
    }
}

/// A scenario that fails does not leave writers behind that would keep the device in use.
impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                eprintln!("a writer panicked");
            }
        }
    }
}

/// What each thread had been told is written, from the journal of a guest that lost power.
pub fn journal(path: &Path, threads: u64) -> Result<Vec<u64>, String> {
    let file = open_direct(path, false)?;
    let mut note = Aligned::new(BLOCK as usize);
    (0..threads)
        .map(|thread| {
            file.read_exact_at(note.bytes_mut(), thread * BLOCK).map_err(|e| format!("journal: {e}"))?;
            Ok(u64::from_le_bytes(note.bytes()[..8].try_into().expect("8 bytes")))
        })
        .collect()
}

/// Checks that `image` holds one instant of the writers' work, and which: the length of each thread's prefix must lie
/// between the two bounds.
pub fn check_instant(
    image: &Path,
    plan: &Plan,
    at_least: &[u64],
    at_most: &[u64],
) -> Result<Vec<u64>, String> {
    let file = open_direct(image, false)?;
    let mut found = vec![0u64; plan.blocks as usize];
    let mut data = Aligned::new(1 << 20);
    let mut wanted = Aligned::new(BLOCK as usize);
    let per_chunk = (1u64 << 20) / BLOCK;
    for chunk in 0..plan.blocks.div_ceil(per_chunk) {
        let blocks = per_chunk.min(plan.blocks - chunk * per_chunk);
        let bytes = &mut data.bytes_mut()[..(blocks * BLOCK) as usize];
        file.read_exact_at(bytes, chunk * per_chunk * BLOCK)
            .map_err(|e| format!("read {}: {e}", image.display()))?;
        for i in 0..blocks {
            let block = chunk * per_chunk + i;
            let content = &bytes[(i * BLOCK) as usize..((i + 1) * BLOCK) as usize];
            let n = u64::from_le_bytes(content[..8].try_into().expect("8 bytes"));
            if n == 0 && content.iter().all(|b| *b == 0) {
                continue;
            }
            let thread = block % plan.threads;
            plan.fill(thread, n, block, wanted.bytes_mut());
            if content != wanted.bytes() {
                return Err(format!("{}: block {block} is torn or foreign (n={n})", image.display()));
            }
            found[block as usize] = n;
        }
    }
    let mut prefixes = Vec::new();
    for thread in 0..plan.threads {
        let own = (thread..plan.blocks).step_by(plan.threads as usize);
        let prefix = own.clone().map(|block| found[block as usize]).max().unwrap_or(0);
        let (low, high) = (at_least[thread as usize], at_most[thread as usize]);
        if prefix < low || prefix > high {
            return Err(format!(
                "{}: thread {thread} is at {prefix}, not within {low}..={high}",
                image.display()
            ));
        }
        let mut last = vec![0u64; plan.blocks as usize];
        for n in 1..=prefix {
            last[plan.block(thread, n) as usize] = n;
        }
        for block in own {
            if found[block as usize] != last[block as usize] {
                return Err(format!(
                    "{}: block {block} of thread {thread} holds write {} instead of {} (prefix {prefix})",
                    image.display(),
                    found[block as usize],
                    last[block as usize]
                ));
            }
        }
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

pub fn open_direct(path: &Path, write: bool) -> Result<File, String> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(O_DIRECT)
        .open(path)
        .map_err(|e| format!("open {}: {e}", path.display()))
}
