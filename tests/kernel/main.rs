//! The engine on a real kernel's dm-raid, inside a guest: `cargo xtask test kernel`.

// Lossy casts are denied outside tests; here block numbers of small test disks are cast all the time.
#![allow(clippy::cast_lossless, clippy::cast_possible_truncation)]

#[path = "../guest/aligned.rs"]
mod aligned;
mod changes;
mod clones;
mod crashes;
#[path = "../guest/cut.rs"]
mod cut;
mod detached;
mod filesystems;
mod groups;
mod grow;
#[path = "../guest/mod.rs"]
mod guest;
mod host;
mod images;
#[path = "../guest/lab.rs"]
mod lab;
mod regions;
mod rollbacks;
mod snapshots;
mod volumes;
#[path = "../guest/writer.rs"]
mod writer;

use std::process::ExitCode;

use guest::Scenario;

/// A scenario named like its function.
macro_rules! scenario {
    ($module:ident :: $name:ident, $disks:expr) => {
        Scenario::new(stringify!($name), $disks, $module::$name)
    };
}

fn main() -> ExitCode {
    let mut scenarios = vec![
        scenario!(volumes::a_new_volume_is_in_sync_at_once_and_shows_nothing_of_what_was_on_the_disks, 4),
        scenario!(volumes::a_volume_is_deactivated_activated_and_deleted, 4),
        scenario!(volumes::a_volume_grows_under_load_and_its_new_part_is_blank, 4),
        scenario!(snapshots::a_snapshot_is_the_instant_of_the_split_and_stays_so_while_writes_go_on, 4),
        scenario!(snapshots::the_image_of_a_snapshot_refuses_writes, 4),
        scenario!(snapshots::a_merge_copies_only_the_marked_regions, 4),
        scenario!(snapshots::a_merge_without_changes_copies_nothing, 4),
        scenario!(snapshots::two_snapshots_of_different_instants_merge_in_either_order, 4),
        scenario!(snapshots::images_are_equal_after_every_merge_of_fifty_rounds_under_load, 4),
        scenario!(snapshots::legs_that_differ_are_found_by_the_comparison, 4),
        scenario!(snapshots::views_and_refusals, 4),
        scenario!(snapshots::what_a_dead_process_left_held_back_runs_again_after_a_start, 4),
        scenario!(snapshots::a_full_copy_of_one_image_does_not_spoil_the_merge_of_another, 4),
        scenario!(snapshots::a_slot_that_is_missing_in_the_running_table_is_copied_in_full, 4),
        scenario!(rollbacks::a_rollback_copies_what_has_changed_and_the_snapshots_stay, 5),
        scenario!(rollbacks::a_volume_in_use_is_not_rolled_back_and_one_rolled_back_is_not_used, 4),
        scenario!(clones::a_clone_is_used_at_once_and_filled_under_load_without_a_break, 4),
        scenario!(clones::a_clone_of_a_busy_volume_is_an_instant_of_it_and_costs_no_image, 4),
        scenario!(clones::a_clone_refuses_discards_and_keeps_to_its_rate, 4),
        scenario!(changes::blocks_that_differ_between_snapshots_are_told_to_the_block, 5),
        scenario!(grow::a_volume_of_two_images_keeps_both_and_an_added_one_goes_with_its_snapshot, 5),
        scenario!(grow::an_image_that_waits_to_leave_is_taken_by_the_next_snapshot, 5),
        scenario!(groups::a_group_is_one_instant_of_a_writer_that_goes_from_one_volume_to_the_other, 4),
        scenario!(images::a_new_image_is_copied_in_full_and_no_other_is_written_to, 5),
        scenario!(images::images_come_and_go_under_load_and_beside_snapshots, 6),
        scenario!(images::rates_and_images_that_reads_avoid_are_changed_under_load, 4),
        scenario!(images::a_volume_goes_down_to_one_image_and_back_under_load, 5),
        scenario!(regions::regions_are_changed_under_load_and_a_merge_copies_by_the_new_ones, 4),
        scenario!(regions::larger_regions_are_asked_for_while_an_image_is_copied, 4).on("256M"),
        scenario!(detached::a_snapshot_becomes_a_volume_under_load_without_a_copy_of_its_image, 5),
        scenario!(detached::images_become_a_volume_at_one_instant_under_load_without_a_copy, 6),
        scenario!(filesystems::ext4_mounted_and_busy_is_clean_in_every_snapshot, 4).on("400M"),
        scenario!(filesystems::xfs_mounted_and_busy_is_clean_in_every_snapshot, 4).on("400M"),
    ];
    for (name, run) in host::scenarios() {
        scenarios.push(Scenario::new(name, 4, run).on("256M"));
    }
    for operation in crashes::OPERATIONS {
        let name = format!("{}_survives_the_death_of_the_process", operation.name);
        scenarios.push(Scenario::new(&name, 5, move |disks| {
            crashes::survives_the_death_of_the_process(&operation, disks)
        }));
    }
    for operation in crashes::OPERATIONS {
        let name = format!("{}_survives_a_power_cut", operation.name);
        scenarios.push(Scenario::cut(&name, 5, operation));
    }
    for (name, operation) in [("split", groups::Operation::Split), ("merge", groups::Operation::Merge)] {
        let death = format!("{name}_of_a_group_survives_the_death_of_the_process");
        scenarios
            .push(Scenario::new(&death, 4, move |disks| operation.survives_the_death_of_the_process(disks)));
        scenarios.push(Scenario::cut(&format!("{name}_of_a_group_survives_a_power_cut"), 4, operation));
    }
    guest::main(&scenarios)
}
