//! The raid table that a volume's metadata asks for.

use crate::raid::{self, Health, LegDevs, RaidTable};
use crate::units::Sectors;
use crate::volume::seen::Seen;

/// The table with these slots attached; `None` while a device of one of them is not there.
///
/// A slot whose disk is missing is left empty: the kernel then marks what it misses, as for a split. Slots that leave for
/// good are not in it.
#[must_use]
pub fn table(seen: &Seen, attached: impl Fn(usize) -> bool, rebuild: Vec<usize>) -> Option<RaidTable> {
    let slots = (0..seen.staying())
        .map(|slot| {
            if !attached(slot) {
                return Some(None);
            }
            let of = &seen.slots[slot];
            let (meta, image) = (of.meta_dev.as_ref()?.info.devno, of.image_dev.as_ref()?.info.devno);
            Some(Some(LegDevs { meta, image }))
        })
        .collect::<Option<Vec<_>>>()?;
    let whole = rebuild.is_empty() && slots.iter().all(Option::is_some);
    let (write_mostly, plain): (Vec<usize>, Vec<usize>) = (0..slots.len())
        .filter(|slot| slots[*slot].is_some())
        .partition(|slot| seen.slots[*slot].is_write_mostly());
    // The kernel refuses a table in which all are, which is no reason to run none.
    let write_mostly = if plain.is_empty() { Vec::new() } else { write_mostly };
    let has_write_mostly = !write_mostly.is_empty();
    Some(RaidTable {
        len: seen.len,
        nosync: false,
        write_mostly,
        rebuild,
        min_recovery_rate: seen.raid.min_recovery_rate,
        max_recovery_rate: seen.raid.max_recovery_rate,
        write_behind: seen.raid.write_behind.filter(|_| has_write_mostly),
        region_size: region_size(seen, whole),
        slots,
    })
}

/// How large the regions of a table are; `whole` when all images are in it, and none is to be copied.
///
/// When a table asks for others than the bitmap has, the kernel makes a new one at the resume. What the old one marked for a
/// missing image is then in its memory only, and until the next pin the header on disk tells of the old regions. So a start takes
/// what is on disk, as no pin follows it, and a running array gets others only while nothing that is marked counts.
fn region_size(seen: &Seen, whole: bool) -> Sectors {
    let wanted = seen.raid.region_size;
    let now = match seen.running() {
        Some((_, status)) if whole && status.health.iter().all(|health| *health == Health::InSync) => None,
        Some((running, _)) => Some(running.region_size),
        None => on_disk(seen),
    };
    now.filter(|now| raid::check_region_size(*now, seen.len).is_ok()).unwrap_or(wanted)
}

/// The regions of the bitmap that the kernel will take: that of the first image which is whole.
fn on_disk(seen: &Seen) -> Option<Sectors> {
    let metas = seen.metas.as_ref()?;
    let mut whole = seen.attached_slots().filter(|slot| !seen.slots[*slot].is_rebuild());
    whole.find_map(|slot| Some(metas[slot].as_ref()?.bitmap.as_ref()?.header.chunk.sectors_floor()))
}

/// The table that the metadata asks for.
#[must_use]
pub fn wanted(seen: &Seen) -> Option<RaidTable> {
    let rebuild = seen.attached_slots().filter(|slot| seen.slots[*slot].is_rebuild()).collect();
    table(seen, |slot| seen.slots[slot].is_attached(), rebuild)
}
