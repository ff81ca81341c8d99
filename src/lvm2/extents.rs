//! Which extents of which PV are taken, and by which LV.
//!
//! Extents that a foreign segment type uses count too: from lists of `"pvN", extent` pairs, whatever the type is
//! (`stripes` of several PVs, `mirrors` of a pvmove). Where such a type does not tell how long its parts are, they
//! count as long as the whole segment: rather too much is taken for used than too little.
//!
//! Sources: LVM2 `lib/format_text/import_vsn1.c`, `lib/striped/striped.c`, `lib/mirror/mirrored.c`.

use crate::ids::LvName;
use crate::lvm2::model::{LogicalVolume, Run, Segment, SegmentKind, VolumeGroup};
use crate::lvm2::text::{Node, Value};
use crate::units::Extents;

/// Extents in a row that an LV has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation<'a> {
    /// The LV.
    pub lv: &'a LvName,
    /// Its extents.
    pub run: Run,
    /// How many there are is sure; `false` for a foreign segment type that does not say.
    pub exact: bool,
}

impl VolumeGroup {
    /// All extents that are taken.
    #[must_use]
    pub fn allocations(&self) -> Vec<Allocation<'_>> {
        self.lvs.iter().flat_map(|lv| self.allocations_of(lv)).collect()
    }

    /// The extents that one LV has itself, without those of its sub-LVs.
    #[must_use]
    pub fn allocations_of<'a>(&self, lv: &'a LogicalVolume) -> Vec<Allocation<'a>> {
        let segments = lv.segments.iter();
        let runs = segments.flat_map(|segment| self.runs_of(segment));
        runs.map(|(run, exact)| Allocation { lv: &lv.name, run, exact }).collect()
    }

    /// The runs of an LV of linear segments, in order.
    #[must_use]
    pub fn runs(&self, lv: &LogicalVolume) -> Vec<Run> {
        self.allocations_of(lv).into_iter().map(|allocation| allocation.run).collect()
    }

    /// What is free on a PV, in order. Nothing is on one that is missing or not allocatable.
    #[must_use]
    pub fn free(&self, pv_name: &str) -> Vec<Run> {
        let Some(pv) = self.pv(pv_name).filter(|pv| pv.is_allocatable()) else { return Vec::new() };
        let mut taken: Vec<Run> = self.allocations().into_iter().map(|allocation| allocation.run).collect();
        taken.retain(|run| run.pv == pv_name);
        taken.sort_by_key(|run| run.first);
        let mut free = Vec::new();
        let mut next = Extents::ZERO;
        let end = Run { pv: pv_name.to_owned(), first: pv.pe_count, count: Extents::ZERO };
        for run in taken.into_iter().chain([end]) {
            if let Some(count) = run.first.min(pv.pe_count).checked_sub(next).filter(|count| count.0 > 0) {
                free.push(Run { pv: pv_name.to_owned(), first: next, count });
            }
            next = next.max(run.end());
        }
        free
    }

    /// The PVs that an LV lies on, with its sub-LVs' when it is a raid1; without repeats.
    #[must_use]
    pub fn pvs_of(&self, lv: &LogicalVolume) -> Vec<String> {
        let slots = lv.raid1().map(|raid| raid.slots.as_slice()).unwrap_or_default();
        let subs = slots.iter().flat_map(|slot| [&slot.meta, &slot.image]).filter_map(|name| self.lv(name));
        let mut names: Vec<String> = Vec::new();
        for run in std::iter::once(lv).chain(subs).flat_map(|lv| self.runs(lv)) {
            if !names.contains(&run.pv) {
                names.push(run.pv);
            }
        }
        names
    }

    fn runs_of(&self, segment: &Segment) -> Vec<(Run, bool)> {
        match &segment.kind {
            SegmentKind::Linear { pv, first } => {
                vec![(Run { pv: pv.clone(), first: *first, count: segment.count }, true)]
            }
            SegmentKind::Raid1(_) | SegmentKind::Error => Vec::new(),
            SegmentKind::Other { name } => {
                let find = |key: &str| segment.extra.iter().find_map(|node| node.value_of(key));
                let stripes = find("stripe_count").and_then(Value::as_count).filter(|stripes| *stripes > 0);
                let (count, exact) = match stripes {
                    Some(stripes) => (Extents(segment.count.0.div_ceil(stripes)), true),
                    None => (segment.count, name == "mirror"),
                };
                let pairs = segment.extra.iter().flat_map(pairs);
                let known = pairs.filter(|(pv, _)| self.pv(pv).is_some());
                known.map(|(pv, first)| (Run { pv: pv.to_owned(), first, count }, exact)).collect()
            }
        }
    }
}

/// The `"name", number` pairs in a list.
fn pairs(node: &Node) -> Vec<(&str, Extents)> {
    let Node::Value { value: Value::List(values), .. } = node else { return Vec::new() };
    let couples = values.windows(2).filter_map(|couple| match couple {
        [Value::Str(name), number] => Some((name.as_str(), Extents(number.as_count()?))),
        _ => None,
    });
    couples.collect()
}
