//! The raid table that a volume's metadata asks for.

use crate::raid::{LegDevs, RaidTable};
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
        region_size: seen.raid.region_size,
        slots,
    })
}

/// The table that the metadata asks for.
#[must_use]
pub fn wanted(seen: &Seen) -> Option<RaidTable> {
    let rebuild = seen.attached_slots().filter(|slot| seen.slots[*slot].is_rebuild()).collect();
    table(seen, |slot| seen.slots[slot].is_attached(), rebuild)
}
