//! An independent look at a volume group: does it keep the rules?
//!
//! Written without regard to [`super::edit`], so that an error in one is found by the other. What LVM2 would refuse
//! to read, or what would make two LVs write to one place, is an error, and [`super::commit`] refuses to write it.
//! What LVM2 accepts, and a group of others may have, is a warning.
//!
//! Sources: LVM2 `lib/metadata/merge.c` (`check_lv_segments`), `lib/format_text/import_vsn1.c`,
//! `lib/raid/raid.c`, `lib/metadata/raid_manip.c`, `lib/misc/lvm-string.c`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::LvName;
use crate::lvm2::model::{LogicalVolume, Raid1, Segment, SegmentKind, VolumeGroup};
use crate::units::Extents;

/// Longest tag that all LVM2 tools take.
const TAG_MAX: usize = 1024;

/// Most images LVM2 takes in a raid1.
pub const IMAGES_MAX: usize = 64;

/// Most regions that the kernel's bitmap takes.
pub const REGIONS_MAX: u64 = 1 << 21;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Unusual, and possible in a group of others.
    Warning,
    /// It breaks a rule: not to be written.
    Error,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which rule, in one stable word.
    pub code: &'static str,
    /// What, where.
    pub message: String,
}

/// Looks at a group.
#[must_use]
pub fn check(vg: &VolumeGroup) -> Vec<Finding> {
    let mut checker = Checker { vg, findings: Vec::new() };
    checker.names_and_ids();
    checker.tags();
    checker.pvs();
    for lv in &vg.lvs {
        checker.segments(lv);
        if lv.segments.iter().any(|segment| matches!(segment.kind, SegmentKind::Raid1(_))) {
            checker.raid1_lv(lv);
        }
    }
    checker.overlaps();
    checker.sub_lvs();
    checker.findings
}

/// Whether LVM2 takes this text as a tag.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= TAG_MAX
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&b))
}

/// Whether LVM2 takes this text as the name of a PV inside the metadata.
fn is_section_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b))
}

struct Checker<'a> {
    vg: &'a VolumeGroup,
    findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn error(&mut self, code: &'static str, message: String) {
        self.findings.push(Finding { severity: Severity::Error, code, message });
    }

    fn warning(&mut self, code: &'static str, message: String) {
        self.findings.push(Finding { severity: Severity::Warning, code, message });
    }

    fn names_and_ids(&mut self) {
        let vg = self.vg;
        let mut pv_ids = BTreeSet::new();
        let mut pv_names = BTreeSet::new();
        for pv in &vg.pvs {
            if !pv_ids.insert(pv.id) {
                self.error("pv-id", format!("PV id {} is there twice", pv.id));
            }
            if !pv_names.insert(&pv.name) {
                self.error("pv-name", format!("PV name {} is there twice", pv.name));
            }
            if !is_section_name(&pv.name) {
                self.error("pv-name", format!("{:?} is no name for a PV", pv.name));
            }
        }
        let mut lv_ids = BTreeSet::new();
        let mut lv_names = BTreeSet::new();
        for lv in &vg.lvs {
            if !lv_ids.insert(lv.id) {
                self.error("lv-id", format!("id {} of LV {} is there twice", lv.id, lv.name));
            }
            if !lv_names.insert(&lv.name) {
                self.error("lv-name", format!("LV name {} is there twice", lv.name));
            }
        }
        if vg.extent_size.0 == 0 {
            self.error("extent-size", "the extent size is zero".to_owned());
        }
    }

    fn tags(&mut self) {
        let vg = self.vg;
        let of_vg = vg.tags.iter().map(|tag| ("the group".to_owned(), tag));
        let of_pvs = vg.pvs.iter().flat_map(|pv| pv.tags.iter().map(|tag| (format!("PV {}", pv.name), tag)));
        let of_lvs = vg.lvs.iter().flat_map(|lv| {
            let segments = lv.segments.iter().flat_map(|segment| &segment.tags);
            lv.tags.iter().chain(segments).map(|tag| (format!("LV {}", lv.name), tag))
        });
        for (owner, tag) in
            of_vg.chain(of_pvs).chain(of_lvs).filter(|(_, tag)| !is_tag(tag)).collect::<Vec<_>>()
        {
            self.error("tag", format!("{owner} has the tag {tag:?}, which LVM2 does not take"));
        }
    }

    fn pvs(&mut self) {
        for pv in &self.vg.pvs {
            let data = u128::from(pv.pe_count.0) * u128::from(self.vg.extent_size.0);
            let end = u128::from(pv.pe_start.0) + data;
            if pv.dev_size.0 > 0 && end > u128::from(pv.dev_size.0) {
                self.warning("pv-size", format!("the extents of PV {} end after its device", pv.name));
            }
        }
    }

    /// No gap, no overlap within the LV, and each segment on what exists.
    fn segments(&mut self, lv: &LogicalVolume) {
        if lv.segments.is_empty() {
            self.error("segments", format!("LV {} has no segment", lv.name));
        }
        let mut next = Extents::ZERO;
        for segment in &lv.segments {
            if segment.start != next {
                let (found, wanted) = (segment.start.0, next.0);
                self.error(
                    "segments",
                    format!("a segment of LV {} starts at {found}, not {wanted}", lv.name),
                );
            }
            if segment.count.0 == 0 {
                self.error("segments", format!("a segment of LV {} is empty", lv.name));
            }
            next = Extents(segment.start.0.saturating_add(segment.count.0));
            if let SegmentKind::Linear { pv, .. } = &segment.kind
                && self.vg.pv(pv).is_none()
            {
                self.linear_on_something_else(lv, pv);
            }
        }
    }

    /// LVM2 also maps segments onto other LVs (a layer of a mirror under conversion): possible, not ours.
    fn linear_on_something_else(&mut self, lv: &LogicalVolume, target: &str) {
        if self.vg.lvs.iter().any(|other| other.name.as_str() == target) {
            self.warning("layer", format!("LV {} is mapped onto LV {target}", lv.name));
        } else {
            self.error("pv-reference", format!("LV {} is on {target}, which is no PV of the group", lv.name));
        }
    }

    /// Each extent on its PV, and used once.
    fn overlaps(&mut self) {
        let mut runs = self.vg.allocations();
        for allocation in &runs {
            let run = &allocation.run;
            let Some(pv) = self.vg.pv(&run.pv) else { continue };
            if run.first.0.checked_add(run.count.0).is_none_or(|end| end > pv.pe_count.0) {
                let message = format!("LV {} has {run}, which has {} extents", allocation.lv, pv.pe_count.0);
                if allocation.exact {
                    self.error("pv-end", message);
                } else {
                    self.warning("pv-end", message);
                }
            }
        }
        runs.sort_by(|a, b| (&a.run.pv, a.run.first).cmp(&(&b.run.pv, b.run.first)));
        let mut furthest: BTreeMap<&str, usize> = BTreeMap::new();
        let mut found = Vec::new();
        for (index, next) in runs.iter().enumerate() {
            if let Some(before) = furthest.get(next.run.pv.as_str()).and_then(|at| runs.get(*at)) {
                if before.run.overlaps(&next.run) {
                    let message = format!(
                        "LV {} has {}, LV {} has {}: they share extents",
                        before.lv, before.run, next.lv, next.run
                    );
                    found.push((before.exact && next.exact, message));
                }
                if before.run.end() >= next.run.end() {
                    continue;
                }
            }
            furthest.insert(&next.run.pv, index);
        }
        for (exact, message) in found {
            if exact {
                self.error("overlap", message);
            } else {
                self.warning("overlap", message);
            }
        }
    }

    fn raid1_lv(&mut self, lv: &'a LogicalVolume) {
        let Some(raid) = lv.raid1() else {
            self.error("raid1-segments", format!("raid1 LV {} has several segments", lv.name));
            return;
        };
        let top = &lv.name;
        if raid.region_size.0 == 0 || !raid.region_size.0.is_power_of_two() {
            let size = raid.region_size.0;
            self.error("region-size", format!("the region size of LV {top}, {size}, is no power of two"));
        } else if self.regions(lv, raid) > REGIONS_MAX {
            self.warning("region-count", format!("LV {top} has more than {REGIONS_MAX} regions"));
        }
        if lv.segments.iter().any(|s| s.extra.iter().any(|n| n.name() == Some("stripe_size"))) {
            self.error("raid1-stripes", format!("raid1 LV {top} has a stripe size"));
        }
        match raid.slots.len() {
            0 => self.error("raid1-images", format!("raid1 LV {top} has no image")),
            1..=IMAGES_MAX => {}
            more => self.error("raid1-images", format!("raid1 LV {top} has {more} images; 64 is the most")),
        }
        self.raid1_subs(lv, raid);
        self.raid1_disks(lv, raid);
    }

    fn regions(&self, lv: &LogicalVolume, raid: &Raid1) -> u64 {
        let sectors = lv.extents().0.saturating_mul(self.vg.extent_size.0);
        sectors.div_ceil(raid.region_size.0.max(1))
    }

    fn raid1_subs(&mut self, lv: &LogicalVolume, raid: &Raid1) {
        let top = &lv.name;
        let mut meta_size = None;
        for slot in &raid.slots {
            let (Some(meta), Some(image)) = (self.vg.lv(&slot.meta), self.vg.lv(&slot.image)) else {
                let (meta, image) = (&slot.meta, &slot.image);
                self.error(
                    "raid1-sub-lv",
                    format!("LV {top} needs {meta} and {image}, and one is not there"),
                );
                continue;
            };
            if !slot.meta.as_str().contains("_rmeta_") {
                self.error("raid1-names", format!("{} of LV {top} is not named as a metadata LV", slot.meta));
            }
            if slot.image.as_str().contains("_rmeta_") || !slot.image.as_str().contains("_rimage_") {
                self.error("raid1-names", format!("{} of LV {top} is not named as an image", slot.image));
            } else if slot.image.as_str().split("_rimage_").next() != Some(top.as_str()) {
                self.warning("raid1-names", format!("{} is an image of LV {top}", slot.image));
            }
            if meta.has("VISIBLE") {
                self.error("raid1-visible", format!("metadata LV {} is visible", slot.meta));
            }
            if image.has("VISIBLE") && image.has("WRITE") {
                self.error("raid1-visible", format!("image {} is visible and writable", slot.image));
            }
            if image.extents() != lv.extents() {
                let (found, wanted) = (image.extents().0, lv.extents().0);
                let message = format!("image {} has {found} extents, LV {top} has {wanted}", slot.image);
                self.error("raid1-size", message);
            }
            if *meta_size.get_or_insert(meta.extents()) != meta.extents() {
                self.error("raid1-size", format!("metadata LV {} is not as long as the others", slot.meta));
            }
        }
    }

    /// A mirror is worth something on different disks only.
    fn raid1_disks(&mut self, lv: &LogicalVolume, raid: &Raid1) {
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        for (index, slot) in raid.slots.iter().enumerate() {
            let pvs = |name: &LvName| self.vg.lv(name).map(|lv| self.vg.pvs_of(lv)).unwrap_or_default();
            let (meta, image) = (pvs(&slot.meta), pvs(&slot.image));
            if meta.iter().any(|pv| !image.contains(pv)) && !image.is_empty() {
                let message = format!("{} and {} are not on the same PV", slot.meta, slot.image);
                self.warning("raid1-disks", message);
            }
            for pv in image.into_iter().collect::<BTreeSet<_>>() {
                if let Some(other) = used.insert(pv.clone(), index) {
                    let message = format!("slots {other} and {index} of LV {} are both on PV {pv}", lv.name);
                    self.warning("raid1-disks", message);
                }
            }
        }
    }

    /// Each sub-LV belongs to one slot of one raid1.
    fn sub_lvs(&mut self) {
        let raids = self.vg.lvs.iter().flat_map(|lv| {
            lv.segments.iter().filter_map(|segment| match &segment.kind {
                SegmentKind::Raid1(raid) => Some(raid),
                SegmentKind::Linear { .. } | SegmentKind::Error | SegmentKind::Other { .. } => None,
            })
        });
        let mut listed = BTreeSet::new();
        let mut twice = Vec::new();
        for name in raids.flat_map(|raid| &raid.slots).flat_map(|slot| [&slot.meta, &slot.image]) {
            if !listed.insert(name) {
                twice.push(name.clone());
            }
        }
        for name in twice {
            self.error("raid1-sub-lv", format!("{name} is used twice"));
        }
        let orphans = self.vg.lvs.iter().filter(|lv| {
            let name = lv.name.as_str();
            (name.contains("_rimage_") || name.contains("_rmeta_"))
                && !listed.contains(&lv.name)
                && !is_named_by_another(self.vg, &lv.name)
        });
        for name in orphans.map(|lv| lv.name.clone()).collect::<Vec<_>>() {
            self.warning("raid1-sub-lv", format!("{name} belongs to no raid LV"));
        }
    }
}

/// Whether a segment that is not understood names this LV.
pub(super) fn is_named_by_another(vg: &VolumeGroup, name: &LvName) -> bool {
    user_of(vg, name).is_some()
}

/// The LV that is made of this one in a way that is not understood, such as a COW snapshot of it.
#[must_use]
pub fn user_of<'vg>(vg: &'vg VolumeGroup, name: &LvName) -> Option<&'vg LogicalVolume> {
    let mut others = vg.lvs.iter().filter(|lv| &lv.name != name);
    // Where either could be meant, LVM2 takes a name as that of a PV.
    let is_pv = vg.pv(name.as_str()).is_some();
    others.find(|lv| lv.segments.iter().any(|segment| names(segment, name.as_str(), is_pv)))
}

fn names(segment: &Segment, name: &str, is_pv: bool) -> bool {
    use crate::lvm2::text::{Node, Value};
    let may_be_pv = |node: &&Node| matches!(node.name(), Some("stripes" | "mirrors"));
    fn in_value(value: &Value, name: &str) -> bool {
        match value {
            Value::Str(text) => text == name,
            Value::List(values) => values.iter().any(|value| in_value(value, name)),
            Value::Int(_) | Value::Float(_) => false,
        }
    }
    fn in_node(node: &Node, name: &str) -> bool {
        match node {
            Node::Value { value, .. } => in_value(value, name),
            Node::Section { nodes, .. } => nodes.iter().any(|node| in_node(node, name)),
            Node::Comment(_) => false,
        }
    }
    segment.extra.iter().filter(|node| !(is_pv && may_be_pv(node))).any(|node| in_node(node, name))
        || matches!(&segment.kind, SegmentKind::Linear { pv, .. } if pv == name && !is_pv)
}
