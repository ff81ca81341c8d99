//! What is free, disk by disk, and taking from it.

use crate::lvm2::model::{Run, VolumeGroup};
use crate::units::Extents;

/// The free extents of a volume group, while legs are placed in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeMap {
    disks: Vec<Disk>,
}

/// The free extents of one PV: ascending, apart from one another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disk {
    pv: String,
    runs: Vec<Run>,
}

impl FreeMap {
    /// What is free in a group. A PV that is missing or not allocatable has nothing to offer.
    #[must_use]
    pub fn of(vg: &VolumeGroup) -> Self {
        Self {
            disks: vg.pvs.iter().map(|pv| Disk { pv: pv.name.clone(), runs: vg.free(&pv.name) }).collect(),
        }
    }

    /// How much is free on one PV.
    #[must_use]
    pub fn free_on(&self, pv: &str) -> Extents {
        self.runs(pv).iter().map(|run| run.count).sum()
    }

    /// How much is free in all.
    #[must_use]
    pub fn total(&self) -> Extents {
        self.disks.iter().flat_map(|disk| &disk.runs).map(|run| run.count).sum()
    }

    /// What is free on one PV, ascending.
    #[must_use]
    pub fn runs(&self, pv: &str) -> &[Run] {
        self.disks.iter().find(|disk| disk.pv == pv).map_or(&[], |disk| &disk.runs)
    }

    /// The PVs, the one with most room first; among equals the earlier in the group's own order.
    #[must_use]
    pub fn most_room_first(&self) -> Vec<(&str, Extents)> {
        let mut disks: Vec<(&str, Extents)> = self
            .disks
            .iter()
            .map(|disk| (disk.pv.as_str(), disk.runs.iter().map(|run| run.count).sum()))
            .collect();
        disks.sort_by_key(|(_, free)| std::cmp::Reverse(*free));
        disks
    }

    /// Takes extents of one PV, in as few runs as can be: what lies directly `behind` an extent first, then the first
    /// run that holds the rest whole, else the longest runs. `None`, and nothing taken, when there is too little.
    pub fn take(&mut self, pv: &str, count: Extents, behind: Option<Extents>) -> Option<Vec<Run>> {
        let disk = self.disks.iter_mut().find(|disk| disk.pv == pv)?;
        if disk.runs.iter().map(|run| run.count).sum::<Extents>() < count {
            return None;
        }
        let mut taken = Vec::new();
        let mut left = count;
        if let Some(index) = behind.and_then(|at| disk.runs.iter().position(|run| run.first == at)) {
            left = disk.cut(index, left, &mut taken);
        }
        let kept = taken.len();
        while left > Extents::ZERO {
            let whole = disk.runs.iter().position(|run| run.count >= left);
            // Of equally long ones the first.
            let longest = || {
                let runs = disk.runs.iter().enumerate();
                runs.max_by_key(|(index, run)| (run.count, std::cmp::Reverse(*index))).map(|(index, _)| index)
            };
            let index = whole.or_else(longest)?;
            left = disk.cut(index, left, &mut taken);
        }
        taken[kept..].sort_by_key(|run| run.first);
        Some(joined(taken))
    }

    /// Takes one leg's extents of one PV: the metadata and the image directly behind it when some run holds both;
    /// else the image in one piece if it can be, since it is the one that is read and written.
    pub fn take_leg(&mut self, pv: &str, meta: Extents, data: Extents) -> Option<(Vec<Run>, Vec<Run>)> {
        let runs = self.runs(pv);
        if self.free_on(pv) < meta + data {
            return None;
        }
        if let Some(first) = runs.iter().find(|run| run.count >= meta + data).map(|run| run.first) {
            let meta_runs = self.take(pv, meta, Some(first))?;
            let image_runs = self.take(pv, data, Some(first + meta))?;
            return Some((meta_runs, image_runs));
        }
        if runs.iter().any(|run| run.count >= data) {
            let image_runs = self.take(pv, data, None)?;
            return Some((self.take(pv, meta, None)?, image_runs));
        }
        let meta_runs = self.take(pv, meta, None)?;
        Some((meta_runs, self.take(pv, data, None)?))
    }
}

impl Disk {
    /// Cuts up to `count` off the start of a run; says how much is still wanted.
    fn cut(&mut self, index: usize, count: Extents, taken: &mut Vec<Run>) -> Extents {
        let run = &mut self.runs[index];
        let got = run.count.min(count);
        if got > Extents::ZERO {
            taken.push(Run { pv: run.pv.clone(), first: run.first, count: got });
        }
        if got == run.count {
            self.runs.remove(index);
        } else {
            run.first += got;
            run.count = run.count - got;
        }
        count - got
    }
}

/// Runs that continue one another become one.
fn joined(runs: Vec<Run>) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.pv == run.pv && last.end() == run.first => last.count += run.count,
            _ => joined.push(run),
        }
    }
    joined
}
