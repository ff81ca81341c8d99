//! What an application sees of a pause: a thread that writes 4 KiB past the cache every millisecond.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::aligned::Aligned;
use crate::guest::Outcome;
use crate::writer::{BLOCK, open_direct};

const PACE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Write {
    begun: Instant,
    ended: Instant,
}

/// A writer at work.
pub struct Probe {
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    thread: JoinHandle<std::io::Result<()>>,
}

/// What the writer saw during something.
#[derive(Debug)]
pub struct Felt {
    writes: Vec<Write>,
}

impl Felt {
    /// The longest that one write took.
    pub fn longest(&self) -> Duration {
        self.writes.iter().map(Write::took).max().unwrap_or_default()
    }

    /// What these times, from … to, held the writer back together: of each the longest write that was under way in it. One
    /// that began in one of them and ended in the next was held back once.
    pub fn all_within(&self, times: &[(Instant, Instant)]) -> Duration {
        let longest = |(begun, ended): &(Instant, Instant)| {
            let meets = |(_, write): &(usize, &Write)| write.begun < *ended && write.ended > *begun;
            let met = self.writes.iter().enumerate().filter(meets);
            met.max_by_key(|(_, write)| write.took()).map(|(n, _)| n)
        };
        let held: BTreeSet<usize> = times.iter().filter_map(longest).collect();
        held.into_iter().map(|n| self.writes[n].took()).sum()
    }
}

impl Write {
    fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

impl Probe {
    /// Starts writing to the first `blocks` blocks of a device or file, in turn.
    pub fn start(device: &Path, blocks: u64) -> Outcome<Self> {
        let file = open_direct(device, true)?;
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let (stop, writes) = (Arc::clone(&stop), Arc::clone(&writes));
            move || {
                let mut data = Aligned::new(usize::try_from(BLOCK).unwrap_or(4096));
                for n in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    data.bytes_mut()[..8].copy_from_slice(&n.to_le_bytes());
                    let begun = Instant::now();
                    file.write_all_at(data.bytes(), n % blocks * BLOCK)?;
                    let ended = Instant::now();
                    writes.lock().unwrap_or_else(PoisonError::into_inner).push(Write { begun, ended });
                    std::thread::sleep(PACE.saturating_sub(ended - begun));
                }
                Ok(())
            }
        });
        Ok(Self { stop, writes, thread })
    }

    /// Runs something; how long that took, and what the writer saw meanwhile.
    pub fn during<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration, Felt)> {
        let from = self.next_after(Instant::now())?;
        let begun = Instant::now();
        let done = work()?;
        let took = begun.elapsed();
        self.next_after(Instant::now())?;
        let mut writes = std::mem::take(&mut *self.writes.lock().unwrap_or_else(PoisonError::into_inner));
        writes.retain(|write| write.ended > from);
        Ok((done, took, Felt { writes }))
    }

    /// Waits for a write that began after `moment`; when it ended.
    fn next_after(&self, moment: Instant) -> Outcome<Instant> {
        loop {
            let last = self.writes.lock().unwrap_or_else(PoisonError::into_inner).last().copied();
            if let Some(write) = last.filter(|write| write.begun > moment) {
                return Ok(write.ended);
            }
            if self.thread.is_finished() {
                return Err("the writer failed".into());
            }
            std::thread::sleep(PACE);
        }
    }

    /// Ends it.
    pub fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the writer panicked")?.map_err(|error| format!("write: {error}"))
    }
}
