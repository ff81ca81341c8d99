//! What a volume can hold after its applications' writes, some of which were under way when power was lost.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use splitmirror::host::sim::{Journal, Write};

/// The writes of one volume.
#[derive(Clone, Debug, Default)]
pub struct History {
    acknowledged: Vec<Write>,
    /// Writes under way at a power cut, each with the number of writes acknowledged before it.
    uncertain: Vec<(usize, Write)>,
    /// What a clone held at first, by sector; every other sector held 0.
    initial: BTreeMap<u64, u64>,
}

impl History {
    /// The history so far: the machine's journal and what was uncertain before.
    pub fn new(journal: &Journal, uncertain: &[(usize, Write)]) -> Self {
        let mut uncertain = uncertain.to_vec();
        uncertain.extend(journal.pending.map(|write| (journal.acknowledged.len(), write)));
        Self { acknowledged: journal.acknowledged.clone(), uncertain, initial: BTreeMap::new() }
    }

    /// The same of a volume that held this at first.
    pub fn starting_from(mut self, initial: impl Fn(u64) -> u64) -> Self {
        self.initial = self.sectors().into_iter().map(|sector| (sector, initial(sector))).collect();
        self
    }

    /// How many writes are acknowledged.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Every sector that was ever written to.
    pub fn sectors(&self) -> Vec<u64> {
        let uncertain = self.uncertain.iter().map(|(_, write)| write);
        let mut sectors: Vec<u64> =
            self.acknowledged.iter().chain(uncertain).map(|write| write.sector).collect();
        sectors.sort_unstable();
        sectors.dedup();
        sectors
    }

    /// The moments, counted in acknowledged writes, at which a volume can have held these contents; or which sector
    /// can never have held what it holds together with the others.
    pub fn moments(&self, contents: &BTreeMap<u64, u64>) -> Result<RangeInclusive<usize>, String> {
        let mut by_sector: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (at, write) in (1..).zip(&self.acknowledged) {
            by_sector.entry(write.sector).or_default().push((at, write.value));
        }
        let (mut first, mut last) = (0, self.len());
        for (sector, value) in contents {
            let writes = by_sector.get(sector).map_or(&[][..], Vec::as_slice);
            let (from, to) = self
                .lifetime(*sector, *value, writes)
                .ok_or_else(|| format!("sector {sector} holds {value}, which was never written there"))?;
            (first, last) = (first.max(from), last.min(to));
            if first > last {
                return Err(format!(
                    "sector {sector} holds {value}, which it did from write {from} to {to}, but others are from \
                     {first} to {last}"
                ));
            }
        }
        Ok(first..=last)
    }

    /// In the time that the values of all volumes' writes tell: from when to when the volume was at one of these moments.
    pub fn times(&self, moments: &RangeInclusive<usize>) -> Range<u64> {
        let time = |moment: usize| self.acknowledged.get(moment).map(|write| write.value);
        let from = moments.start().checked_sub(1).and_then(time).unwrap_or(0);
        from..time(*moments.end()).unwrap_or(u64::MAX)
    }

    /// From when to when a sector can have held a value; 0 is what it held at first. `writes` are the acknowledged ones
    /// to this sector.
    fn lifetime(&self, sector: u64, value: u64, writes: &[(usize, u64)]) -> Option<(usize, usize)> {
        let from = if value == self.initial.get(&sector).copied().unwrap_or_default() {
            0
        } else if let Some((at, _)) = writes.iter().find(|(_, written)| *written == value) {
            *at
        } else {
            self.uncertain.iter().find(|(_, write)| write.sector == sector && write.value == value)?.0
        };
        let next = writes.iter().find(|(at, _)| *at > from);
        Some((from, next.map_or(self.len(), |(at, _)| at - 1)))
    }
}

#[test]
fn contents_tell_the_moment_they_are_from() {
    let write = |sector, value| Write { sector, value };
    let journal =
        Journal { acknowledged: vec![write(1, 10), write(2, 20), write(1, 11)], pending: Some(write(2, 21)) };
    let history = History::new(&journal, &[]);
    let moments = |one, two| history.moments(&BTreeMap::from([(1, one), (2, two)]));
    assert_eq!(moments(0, 0), Ok(0..=0));
    assert_eq!(moments(10, 0), Ok(1..=1));
    assert_eq!(moments(10, 20), Ok(2..=2));
    assert_eq!(moments(11, 20), Ok(3..=3));
    assert_eq!(moments(11, 21), Ok(3..=3));
    assert!(moments(11, 0).is_err(), "the second write is missing, the third is there");
    assert!(moments(10, 99).is_err());
}
