//! The constructor: at table *load* it reads the superblocks and decides whom to trust.
//!
//! The freshest superblock is the one with most events, on a tie the first in the table. A leg is stale only if the
//! freshest says that the slot *which the leg's own superblock names* has failed; events are not compared further.

use super::super::errno::{EAGAIN, EINVAL, EIO, Errno};
use super::super::world::World;
use super::bitmap::Bitmap;
use super::format::{BITMAP_SECTOR, HEADER, Header, MAX, Super};
use super::params::Params;
use super::{Array, DAEMON_NANOS, Leg};
use crate::host::DevNo;
use crate::host::sim::disk::{SECTOR, index, wide};

/// What is read from a leg before anything is decided.
enum Read {
    Super(Super),
    Fresh,
    Failed,
}

impl Array {
    /// Constructs an instance. It runs when it is resumed.
    pub(in crate::host::sim) fn construct(world: &mut World, text: &str, len: u64) -> Result<Self, Errno> {
        let params = Params::parse(text, len, |word| world.lookup(word))?;
        if params.sync {
            return Err(EINVAL); // what `sync` does to an array with a bitmap is not modelled
        }
        for (meta, data) in params.devices.iter().flatten() {
            let too_small = world.size(*data).is_none_or(|size| size < len);
            if too_small || world.size(*meta).is_none() {
                return Err(EINVAL);
            }
        }
        let reads: Vec<Option<Read>> = params
            .devices
            .iter()
            .enumerate()
            .map(|(slot, pair)| pair.map(|(meta, _)| read(world, meta, params.rebuild.contains(&slot))))
            .collect();
        for (meta, _) in params.devices.iter().flatten() {
            if world.read(*meta, 0, 1) == Err(EAGAIN) {
                world
                    .violations
                    .push(format!("a raid table is loaded while {meta} is suspended: this would hang"));
            }
        }
        let mut freshest: Option<(usize, u64)> = None;
        for (slot, read) in reads.iter().enumerate() {
            let events = match read {
                None | Some(Read::Failed) => continue,
                Some(Read::Fresh) => 0,
                Some(Read::Super(sb)) => sb.events,
            };
            if freshest.is_none_or(|(_, most)| events > most && matches!(read, Some(Read::Super(_)))) {
                freshest = Some((slot, events));
            }
        }
        let (freshest, _) = freshest.ok_or(EINVAL)?;
        let source = match &reads[freshest] {
            Some(Read::Super(sb)) => Some(*sb),
            _ => None,
        };
        let fresh = reads.iter().filter(|r| matches!(r, Some(Read::Fresh))).count();
        let all_fresh = fresh == params.devices.len();
        if !all_fresh && fresh != params.rebuild.len() {
            return Err(EINVAL); // New device injected into existing raid set without 'rebuild'
        }
        // `validate_raid_redundancy` counts against the slots that the superblock knows of, not against those of the table.
        let known = source.map_or(params.devices.len(), |sb| index(sb.devices.into()));
        let absent = reads.iter().filter(|read| matches!(read, None | Some(Read::Failed))).count();
        if absent >= known {
            return Err(EINVAL);
        }
        let failed = source.map_or(0, |sb| sb.failed);
        let legs = params
            .devices
            .iter()
            .zip(&reads)
            .enumerate()
            .map(|(slot, (pair, read))| {
                pair.map(|pair| leg(slot, pair, read.as_ref(), &params, failed, all_fresh))
            })
            .collect();
        Self::run(world, params, legs, source, len)
    }

    fn run(
        world: &World,
        params: Params,
        legs: Vec<Option<Leg>>,
        source: Option<Super>,
        len: u64,
    ) -> Result<Self, Errno> {
        let events = source.map_or(1, |sb| sb.events.max(1));
        let stored = source.map_or(len, |sb| sb.array_sectors);
        let rebuild = !params.rebuild.is_empty();
        let sectors = if stored < len && !rebuild { stored } else { len };
        let recovery_cp = match source {
            _ if params.nosync => MAX,
            None => 0,
            Some(_) if rebuild => MAX,
            Some(sb) => sb.resync_offset,
        };
        let bitmap = Bitmap::new(params.region, sectors, events);
        let update_at_resume = source.is_none() || rebuild || stored > len;
        let full_sync = legs.iter().flatten().any(|l| l.member && !l.in_sync && !l.by_bitmap);
        let mut array = Self {
            params,
            legs,
            len,
            sectors,
            events,
            recovery_cp,
            bitmap,
            update_at_resume,
            clean: false,
            read_only: true,
            can_decrease: false,
            change_devices: false,
            change_clean: false,
            suspended: true,
            disturbed: false,
            preresumed: false,
            resumed: false,
            frozen: true,
            sync_needed: false,
            full_sync,
            sync: None,
            did_recover: false,
            requested: None,
            mismatches: 0,
            last_write: None,
            daemon_at: world.clock_nanos + DAEMON_NANOS,
        };
        match array.legs.len() - array.degraded() {
            0 => return Err(EINVAL),
            1 if array.recovery_cp < MAX => array.recovery_cp = MAX,
            _ => {}
        }
        if source.is_some() {
            let slot = array.in_sync_legs().next().ok_or(EINVAL)?;
            let page = world.read(array.leg(slot).meta, BITMAP_SECTOR, 1).map_err(|_| EIO)?;
            let header = Header::parse(&page).ok_or(EINVAL)?;
            array.bitmap = Bitmap::from_header(header, sectors, events);
        }
        Ok(array)
    }

    /// At the first resume: the bits become "needed" only in a degraded array whose bitmap says that it kept them.
    pub(super) fn load_bitmap(&mut self, world: &mut World) {
        let kept = self.degraded() > 0 && self.bitmap.events_cleared != self.events;
        let start = if kept { 0 } else { self.recovery_cp };
        let len = wide(self.bitmap.page().len() / SECTOR);
        let slot = self.in_sync_legs().next().expect("the constructor has found one");
        let page = world.read(self.leg(slot).meta, BITMAP_SECTOR, len).unwrap_or_else(|_| vec![0; HEADER]);
        if self.bitmap.load(&page, start) {
            self.write_bitmap(world);
        }
        self.bitmap.loaded();
        self.bitmap.update_header(self.events, self.sectors);
        self.write_bitmap(world);
    }
}

fn read(world: &World, meta: DevNo, rebuild: bool) -> Read {
    match world.read(meta, 0, 1) {
        Err(_) => Read::Failed,
        Ok(_) if rebuild => Read::Fresh,
        Ok(page) => Super::parse(&page).map_or(Read::Fresh, Read::Super),
    }
}

fn leg(
    slot: usize,
    (meta, data): (DevNo, DevNo),
    read: Option<&Read>,
    params: &Params,
    failed: u64,
    all_fresh: bool,
) -> Leg {
    let mut leg = Leg {
        meta,
        data,
        in_sync: true,
        faulty: false,
        member: true,
        recovery_offset: MAX,
        by_bitmap: false,
        failed: 0,
    };
    match read {
        None | Some(Read::Failed) => (leg.faulty, leg.member) = (true, false),
        Some(Read::Fresh) if params.rebuild.contains(&slot) && !all_fresh => {
            (leg.in_sync, leg.recovery_offset) = (false, 0);
        }
        Some(Read::Fresh) => {}
        Some(Read::Super(sb)) => {
            leg.recovery_offset = sb.recovery_offset;
            leg.in_sync = sb.recovery_offset == MAX;
            if failed & (1_u64.checked_shl(sb.position).unwrap_or(0)) != 0 {
                (leg.in_sync, leg.recovery_offset, leg.by_bitmap) = (false, 0, true);
            }
        }
    }
    leg
}
