//! Power cuts at every write of random histories: whatever is on the disks then, [`at_activation`] must lead back to
//! legs that are equal and hold all that was acknowledged.

use proptest::prelude::*;

use super::model::{Data, Disk, Machine, Md, REGIONS, Use, array};
use super::*;

/// The machine with what is durable beside the disks, and what its user knows.
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) md: Option<Md>,
    newer: bool,
    roles: Vec<LegRole>,
    /// A split's table was swapped in and not pinned yet.
    pending: bool,
    /// What was acknowledged, or found after a cut.
    data: Data,
    /// What may or may not be there after a cut.
    in_flight: Option<(usize, u32)>,
    serial: u32,
    /// What each split image must hold.
    frozen: Vec<Option<Data>>,
}

impl World {
    pub(super) fn new(slots: usize, chance: u64, newer: bool) -> Self {
        let mut world = Self {
            machine: Machine::new(slots, chance),
            md: None,
            newer,
            roles: vec![LegRole::Attached; slots],
            pending: false,
            data: [0; REGIONS],
            in_flight: None,
            serial: 0,
            frozen: vec![None; slots],
        };
        world.swap_in(&vec![Use::Leg; slots], 0);
        world
    }

    /// Commits metadata; that too takes power.
    fn commit(&mut self, change: impl FnOnce(&mut Self)) {
        if self.machine.has_power() {
            self.machine.writes_left = self.machine.writes_left.saturating_sub(1);
            change(self);
        }
    }

    pub(super) fn md(&mut self, run: impl FnOnce(&mut Md, &mut Machine)) {
        if let Some(md) = &mut self.md {
            run(md, &mut self.machine);
        }
    }

    pub(super) fn write(&mut self, region: usize) {
        if self.md.is_none() || !self.machine.has_power() {
            return;
        }
        self.serial += 1;
        let value = self.serial;
        self.in_flight = Some((region, value));
        let mut acknowledged = false;
        self.md(|md, machine| acknowledged = md.write(machine, region, value));
        if acknowledged {
            self.data[region] = value;
            self.in_flight = None;
        }
    }

    /// Resumes with a new table; the old one is destroyed after some writes to the new one.
    pub(super) fn swap_in(&mut self, table: &[Use], writes_between: usize) {
        let Some(new) = Md::load(&self.machine, table, self.newer) else {
            panic!("the kernel refuses the table")
        };
        let old = self.md.replace(new);
        self.md(Md::start);
        for _ in 0..writes_between {
            let region = self.machine.chance(REGIONS);
            self.write(region);
        }
        if let Some(old) = old.filter(|_| self.machine.has_power()) {
            old.destroy(&mut self.machine);
        }
    }

    fn pin(&mut self) {
        self.md(|md, machine| {
            md.suspend(machine);
            md.resume();
        });
    }

    fn table(&self) -> Vec<Use> {
        self.roles.iter().map(|role| if is_split(role) { Use::Empty } else { Use::Leg }).collect()
    }

    fn settled(&self) -> bool {
        let in_order = |role: &LegRole| is_split(role) || *role == LegRole::Attached;
        self.md.as_ref().is_some_and(|md| !md.is_recovering())
            && self.roles.iter().all(in_order)
            && !self.pending
    }

    pub(super) fn split(&mut self, slot: usize, writes_between: usize) {
        let attached = self.roles.iter().filter(|role| **role == LegRole::Attached).count();
        if !self.settled() || attached < 2 || self.roles[slot] != LegRole::Attached {
            return;
        }
        self.md(Md::suspend);
        if !self.machine.has_power() {
            return;
        }
        self.frozen[slot] = Some(self.data);
        self.commit(|world| {
            world.roles[slot] = LegRole::Split { recorded_events: None };
            world.pending = true;
        });
        if !self.machine.has_power() {
            return;
        }
        self.swap_in(&self.table(), writes_between);
        self.pin();
        if !self.machine.has_power() {
            return;
        }
        let survivors = survivors(&self.machine.disks, &self.roles);
        let events =
            split_is_pinned(&survivors, slot, &self.machine.disks[slot].meta).expect("pinned by the cycle");
        self.commit(|world| {
            world.roles[slot] = LegRole::Split { recorded_events: Some(events) };
            world.pending = false;
        });
    }

    pub(super) fn merge(&mut self, slot: usize, writes_between: usize, pin: bool) {
        let LegRole::Split { recorded_events } = self.roles[slot] else { return };
        if !self.settled() {
            return;
        }
        self.md(Md::suspend);
        if !self.machine.has_power() {
            return;
        }
        let returning = &self.machine.disks[slot].meta;
        let merge = may_merge(&survivors(&self.machine.disks, &self.roles), slot, returning, recorded_events);
        let in_full = merge != Merge::Tracked;
        if in_full {
            self.prepare(slot);
        }
        let events_before = Some(self.machine.disks[slot].sb().events);
        self.frozen[slot] = None;
        self.commit(|world| world.roles[slot] = LegRole::Returning { events_before, in_full });
        if !self.machine.has_power() {
            return;
        }
        self.swap_in(&self.table(), writes_between);
        if pin {
            self.pin();
        }
    }

    /// Some progress, and what follows from it.
    pub(super) fn recover(&mut self, steps: usize) {
        for _ in 0..steps {
            self.md(Md::recover);
        }
        let whole = |slot: usize| self.md.as_ref().is_some_and(|md| md.is_in_sync(slot));
        let returned = |slot: &usize| matches!(self.roles[*slot], LegRole::Returning { .. }) && whole(*slot);
        let returned: Vec<usize> = (0..self.roles.len()).filter(returned).collect();
        if returned.is_empty() {
            return;
        }
        self.pin();
        for slot in returned {
            let survivors = survivors(&self.machine.disks, &self.roles);
            if self.machine.has_power() {
                merge_is_pinned(&survivors, slot, &self.machine.disks[slot].meta)
                    .expect("pinned by the cycle");
                self.commit(|world| world.roles[slot] = LegRole::Attached);
            }
        }
    }

    fn activate(&mut self, stop: LastStop) {
        self.md = None;
        let legs: Vec<(usize, LegRole, &LegMeta)> = self
            .roles
            .iter()
            .zip(&self.machine.disks)
            .enumerate()
            .map(|(slot, (role, disk))| (slot, *role, &disk.meta))
            .collect();
        let Activation::Assemble(plan) = at_activation(&legs, array(), stop) else {
            panic!("the array cannot be assembled: {:?} {legs:?}", at_activation(&legs, array(), stop))
        };
        for (slot, role) in self.roles.iter().enumerate() {
            if *role == LegRole::Attached {
                // Two cuts in a row, each in the middle of an update, leave a leg two events behind; a third may leave
                // it prepared for a full copy.
                let behind = |why: &Why| matches!(why, Why::Behind { .. } | Why::OtherSlot { .. });
                let verdict = &plan.legs[&slot];
                let expected =
                    *verdict == Verdict::Trust || matches!(verdict, Verdict::Rebuild(why) if behind(why));
                assert!(expected, "slot {slot} of {legs:?}: {plan:?}");
            }
        }
        if let Some(Equalize { from, to, ranges }) = &plan.equalize {
            for region in 0..REGIONS {
                let start = Bytes::mib(2) * u64::try_from(region).expect("few");
                if ranges.iter().any(|range| range.contains(&start)) {
                    let value = self.machine.disks[*from].data[region];
                    self.machine.write(to, |_, disk| disk.data[region] = value);
                }
            }
        }
        let mut roles = self.roles.clone();
        for slot in plan.rebuild() {
            self.prepare(slot);
            roles[slot] = LegRole::Returning { events_before: Some(0), in_full: true };
        }
        for (slot, merge) in &plan.splits {
            if *merge != Merge::Tracked {
                self.prepare(*slot);
                roles[*slot] = LegRole::Split { recorded_events: None };
            }
        }
        self.commit(|world| {
            world.roles = roles;
            world.pending = false;
        });
        if self.machine.has_power() {
            self.swap_in(&self.table(), 0);
        }
    }

    /// Makes the kernel copy all of a leg.
    fn prepare(&mut self, slot: usize) {
        let attached = self.roles.iter().position(|role| *role == LegRole::Attached).expect("one is");
        let superblock = Superblock::for_full_copy(self.machine.disks[attached].sb());
        self.machine.write(&[slot], |_, disk| disk.meta.superblock = Some(superblock.clone()));
    }

    /// The power is back: assembles the array, and looks.
    fn power_up(&mut self, writes_left: usize) {
        let stop = if self.pending { LastStop::MidSwap } else { LastStop::Unclean };
        self.machine.writes_left = writes_left;
        self.activate(stop);
    }

    /// Every leg is whole and holds what was acknowledged.
    fn check(&mut self) {
        self.recover(2 * REGIONS);
        let attached = self.roles.iter().zip(&self.machine.disks).filter(|(role, _)| !is_split(role));
        let legs: Vec<Data> = attached.map(|(_, disk)| disk.data).collect();
        for leg in &legs {
            assert_eq!(leg, &legs[0], "the legs differ: {:?}", self.machine.disks);
        }
        for (region, value) in legs[0].iter().enumerate() {
            let cut = self.in_flight == Some((region, *value));
            assert!(cut || *value == self.data[region], "region {region} holds {value}: {:?}", self.data);
        }
        self.data = legs[0];
        self.in_flight = None;
        for (frozen, disk) in self.frozen.iter().zip(&self.machine.disks) {
            assert!(frozen.is_none_or(|frozen| frozen == disk.data), "a split was written to");
        }
    }
}

fn is_split(role: &LegRole) -> bool {
    matches!(role, LegRole::Split { .. })
}

fn survivors<'a>(disks: &'a [Disk], roles: &[LegRole]) -> Vec<(usize, &'a LegMeta)> {
    let slots = disks.iter().enumerate().zip(roles);
    slots
        .filter(|(_, role)| **role == LegRole::Attached)
        .map(|((slot, disk), _)| (slot, &disk.meta))
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(usize),
    Idle,
    Clean,
    Recover(usize),
    Progress,
    Split(usize, usize),
    Merge(usize, usize, bool),
    Restart,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..REGIONS).prop_map(Op::Write),
        1 => Just(Op::Idle),
        1 => Just(Op::Clean),
        2 => (1..3_usize).prop_map(Op::Recover),
        1 => Just(Op::Progress),
        3 => (0..4_usize, 0..3_usize).prop_map(|(slot, writes)| Op::Split(slot, writes)),
        3 => (0..4_usize, 0..3_usize, any::<bool>()).prop_map(|(slot, writes, pin)| Op::Merge(slot, writes, pin)),
        1 => Just(Op::Restart),
    ]
}

fn step(world: &mut World, op: Op) {
    let slots = world.roles.len();
    match op {
        Op::Write(region) => world.write(region),
        Op::Idle => world.md(Md::fall_idle),
        Op::Clean => world.md(Md::clean),
        Op::Recover(steps) => world.recover(steps),
        Op::Progress => world.md(|md, machine| {
            if md.is_recovering() {
                md.note_progress(machine);
            }
        }),
        Op::Split(slot, writes) => world.split(slot % slots, writes),
        Op::Merge(slot, writes, pin) => world.merge(slot % slots, writes, pin),
        Op::Restart => {
            world.md(Md::suspend);
            if let Some(md) = world.md.take().filter(|_| world.machine.has_power()) {
                md.destroy(&mut world.machine);
            }
            if world.machine.has_power() {
                world.activate(LastStop::Clean);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_power_cut_makes_legs_differ_or_loses_a_write(
        slots in 2..5_usize,
        chance: u64,
        newer: bool,
        lives in prop::collection::vec((prop::collection::vec(ops(), 1..14), 0..160_usize), 1..5),
    ) {
        let mut world = World::new(slots, chance, newer);
        for (ops, writes_left) in lives {
            world.machine.writes_left = writes_left;
            for op in ops {
                if world.machine.has_power() {
                    step(&mut world, op);
                }
            }
            // Sometimes the power goes again while the array is assembled.
            let short = world.machine.chance(12);
            world.power_up(short);
            world.power_up(usize::MAX);
            world.check();
        }
        for slot in 0..slots {
            world.recover(2 * REGIONS);
            world.merge(slot, 1, false);
        }
        world.check();
    }
}
