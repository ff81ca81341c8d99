//! Groups and disks to try things on.

use std::collections::BTreeMap;

use crate::ids::{LvName, LvmUuid};
use crate::lvm2::Provenance;
use crate::lvm2::commit::{Missing, Write, init_pv, plan};
use crate::lvm2::edit::{NewGroup, NewLeg, NewPv, NewRaid1, add_raid1, create_vg};
use crate::lvm2::group::{Group, Survey};
use crate::lvm2::label::Label;
use crate::lvm2::model::{Run, VolumeGroup};
use crate::lvm2::read::PvRead;
use crate::units::{Bytes, Extents, Sectors};

/// An id of its own for each number.
pub(crate) fn id(number: u64) -> LvmUuid {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    LvmUuid::from_random(bytes)
}

/// A name that is legal.
pub(crate) fn name(name: &str) -> LvName {
    name.parse().unwrap()
}

/// Extents of a PV.
pub(crate) fn run(pv: &str, first: u64, count: u64) -> Run {
    Run { pv: pv.to_owned(), first: Extents(first), count: Extents(count) }
}

/// The label of the PV of this number; its disk is `size` long.
pub(crate) fn label(number: u64, size: Bytes) -> Label {
    Label::fresh(id(1000 + number), size, false)
}

/// A group of this many PVs of 256 MiB, 63 extents each, without an LV.
pub(crate) fn group(pvs: u64) -> VolumeGroup {
    let pv = |number| NewPv::of(&label(number, Bytes::mib(256)), &format!("/dev/sd{number}"));
    create_vg(NewGroup {
        name: "vg".parse().unwrap(),
        id: id(1),
        extent_size: Sectors(8192),
        system_id: None,
        tags: Vec::new(),
        flags: Vec::new(),
        pvs: (0..pvs).map(pv).collect(),
    })
    .unwrap()
}

/// What makes a raid1 LV `lv` of `legs` legs, the leg of slot N on PV N: metadata on extent 0, data after it.
pub(crate) fn new_raid1(legs: u64, size: u64) -> NewRaid1 {
    let leg = |number: u64| NewLeg {
        meta_id: id(200 + number),
        image_id: id(300 + number),
        meta: vec![run(&format!("pv{number}"), 0, 1)],
        image: vec![run(&format!("pv{number}"), 1, size)],
    };
    NewRaid1 {
        name: name("lv"),
        id: id(100),
        region_size: Sectors(4096),
        min_recovery_rate: None,
        max_recovery_rate: None,
        legs: (0..legs).map(leg).collect(),
        tags: Vec::new(),
        flags: Vec::new(),
        created: (1_795_355_697, "host".to_owned()),
    }
}

/// A group with that LV.
pub(crate) fn mirrored(legs: u64) -> VolumeGroup {
    add_raid1(&group(legs), new_raid1(legs, 16)).unwrap()
}

/// Who wrote it.
pub(crate) fn provenance() -> Provenance {
    Provenance {
        description: "test".to_owned(),
        creation_host: "host".to_owned(),
        creation_time: 1_795_355_697,
        generated_by: "splitmirror 0.0.0".to_owned(),
    }
}

/// Disks in memory, long enough for label and metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disks(pub(crate) BTreeMap<LvmUuid, Vec<u8>>);

const DISK: usize = 64 << 10;

impl Disks {
    /// Fresh PVs with these labels.
    pub(crate) fn init(labels: &[Label]) -> Self {
        let blank = labels.iter().map(|label| (label.pv, vec![0xee; DISK])).collect();
        let mut disks = Self(blank);
        for step in labels.iter().flat_map(|label| init_pv(label).unwrap()) {
            disks.write_all(&step);
        }
        disks
    }

    /// A group that is committed on fresh PVs with small metadata areas, so that the ring goes round often.
    pub(crate) fn with_group(vg: &VolumeGroup) -> Self {
        let labels: Vec<Label> = vg.pvs.iter().map(|pv| small_label(pv.id)).collect();
        let mut disks = Self::init(&labels);
        let joining = disks.survey().orphans;
        disks.commit(&Group::unborn(vg.clone()), vg, &joining);
        disks
    }

    pub(crate) fn write_all(&mut self, writes: &[Write]) {
        for write in writes {
            self.write(write, write.data.len());
        }
    }

    /// The first `len` bytes of a write.
    pub(crate) fn write(&mut self, write: &Write, len: usize) {
        let at = usize::try_from(write.offset.0).unwrap();
        assert_eq!((at % 512, write.data.len() % 512), (0, 0), "only whole sectors are written");
        self.0.get_mut(&write.pv).unwrap()[at..at + len].copy_from_slice(&write.data[..len]);
    }

    pub(crate) fn commit(&mut self, group: &Group, new: &VolumeGroup, joining: &[PvRead]) {
        let plan = plan(group, new, joining, Missing::Refuse, &provenance()).unwrap();
        for step in plan.steps() {
            self.write_all(step);
        }
    }

    pub(crate) fn read(&self, pv: &LvmUuid) -> Option<PvRead> {
        let disk = &self.0[pv];
        let read = |offset: Bytes, len: Bytes| -> Result<Vec<u8>, std::io::Error> {
            assert_eq!((offset.0 % 512, len.0 % 512), (0, 0), "only whole sectors are read");
            let start = usize::try_from(offset.0).unwrap();
            Ok(disk[start..start + usize::try_from(len.0).unwrap()].to_vec())
        };
        PvRead::read(read).unwrap()
    }

    pub(crate) fn survey(&self) -> Survey {
        Survey::new(self.0.keys().filter_map(|pv| self.read(pv)).collect())
    }

    /// The one group on the disks.
    pub(crate) fn group(&self) -> Group {
        let survey = self.survey();
        assert_eq!(survey.broken, []);
        let [group] = <[Group; 1]>::try_from(survey.groups).unwrap();
        group
    }
}

/// A label whose metadata area is 24 KiB long.
pub(crate) fn small_label(pv: LvmUuid) -> Label {
    let mut label = Label::fresh(pv, Bytes::mib(256), false);
    label.metadata[0].size = Bytes::kib(24);
    label
}
