//! The model falls into the kernel's traps when nobody asks.

use super::cuts::World;
use super::model::{Md, REGIONS, Use};
use super::*;

fn differs(world: &World) -> bool {
    world.machine.disks.iter().any(|disk| disk.data != world.machine.disks[0].data)
}

fn busy(slots: usize) -> World {
    let mut world = World::new(slots, 7, false);
    world.write(0);
    world
}

#[test]
fn a_split_and_merge_by_tables_loaded_before_the_suspend_copies_nothing() {
    let mut world = busy(2);
    let split = Md::load(&world.machine, &[Use::Leg, Use::Empty], false).expect("legal");
    world.md(Md::suspend);
    world.md = Some(split);
    world.md(Md::start);
    world.write(1);
    let merged = Md::load(&world.machine, &[Use::Leg, Use::Leg], false).expect("legal");
    world.md(Md::suspend);
    world.md = Some(merged);
    world.md(Md::start);
    world.recover(2 * REGIONS);
    assert!(differs(&world));
}

#[test]
fn an_unpinned_split_is_forgotten_in_a_power_cut() {
    let mut world = busy(2);
    world.md(Md::suspend);
    world.swap_in(&[Use::Leg, Use::Empty], 0);
    world.write(1);
    // The power goes; the array is assembled whole.
    world.md = None;
    world.swap_in(&[Use::Leg, Use::Leg], 0);
    world.recover(2 * REGIONS);
    assert!(differs(&world));
}

#[test]
fn marks_set_before_the_old_table_is_destroyed_are_lost_in_a_power_cut() {
    let mut world = busy(3);
    world.split(2, 0);
    world.md(Md::suspend);
    world.swap_in(&[Use::Leg, Use::Empty, Use::Empty], 3);
    let marked = world.machine.disks[0].meta.bitmap.as_ref().expect("started").marked_count();
    let written =
        world.machine.disks[0].data.iter().zip(&world.machine.disks[2].data).filter(|(a, b)| a != b);
    assert!(marked < u64::try_from(written.count()).expect("few"));
}

#[test]
fn the_word_rebuild_wipes_the_marks_of_another_split() {
    let mut world = busy(3);
    world.split(2, 0);
    world.split(1, 0);
    world.write(1);
    world.md(Md::suspend);
    world.swap_in(&[Use::Leg, Use::Empty, Use::Rebuild], 0);
    world.recover(2 * REGIONS);
    world.md(Md::suspend);
    let returning = &world.machine.disks[1];
    let survivors = [(0, &world.machine.disks[0].meta), (2, &world.machine.disks[2].meta)];
    assert_eq!(may_merge(&survivors, 1, &returning.meta, Some(returning.sb().events)), Merge::Tracked);
    world.swap_in(&[Use::Leg, Use::Leg, Use::Leg], 0);
    world.recover(2 * REGIONS);
    assert!(differs(&world));
}

#[test]
fn a_merge_of_which_only_the_survivors_know_is_taken_for_done() {
    let mut world = busy(2);
    world.split(1, 0);
    world.write(1);
    world.write(2);
    let before = world.machine.disks[1].clone();
    world.merge(1, 0, true);
    // The power goes between the first superblock and the second.
    world.machine.disks[1] = before;
    world.md = None;
    world.swap_in(&[Use::Leg, Use::Leg], 0);
    world.recover(2 * REGIONS);
    assert!(differs(&world));
}
