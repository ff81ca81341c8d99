//! Real LVM2 beside the engine, both ways, inside a guest: `cargo xtask test interop`.

// Lossy casts are denied outside tests; here block numbers of small test disks are cast all the time.
#![allow(clippy::cast_lossless, clippy::cast_possible_truncation)]

#[path = "../guest/aligned.rs"]
mod aligned;
mod clones;
#[allow(dead_code)]
#[path = "../guest/cut.rs"]
mod cut;
mod detached;
#[allow(dead_code)]
#[path = "../guest/mod.rs"]
mod guest;
mod images;
mod input;
#[allow(dead_code)]
#[path = "../guest/lab.rs"]
mod lab;
mod lvm;
mod ours;
mod theirs;
mod trouble;
mod udev;
#[allow(dead_code)]
#[path = "../guest/writer.rs"]
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use guest::Scenario;
use lab::Outcome;

/// A scenario named like its function, on four disks.
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        vec![$(Scenario::new(stringify!($name), 4, fresh($module::$name))),*]
    };
}

/// Does away with what a scenario before has left outside of the disks.
fn fresh(run: fn(&[PathBuf]) -> Outcome) -> impl Fn(&[PathBuf]) -> Outcome {
    move |disks| lvm::forget().and_then(|()| run(disks))
}

fn main() -> ExitCode {
    guest::main(&scenarios![
        ours::lvm2_reads_every_state_we_write_without_a_warning,
        ours::lvm2_stops_and_starts_our_volume,
        ours::lvm2_splits_and_merges_our_volume,
        ours::lvm2_extends_our_volume_under_load_and_removes_it,
        ours::our_snapshot_merged_by_lvm2_under_load_is_noticed_and_made_equal,
        ours::our_snapshot_survives_a_stop_and_start_by_lvm2_and_is_merged_by_its_marks,
        images::lvm2_reads_every_state_of_a_change_of_images_without_a_warning,
        images::lvm2_reads_every_state_of_a_grown_snapshot_without_a_warning,
        images::what_waits_to_leave_is_a_split_to_lvm2_and_copied_in_full_when_that_merges_it,
        images::images_are_added_and_removed_by_us_and_by_lvm2_in_turns,
        images::a_volume_of_one_image_is_a_mirror_that_lvm2_reads,
        images::rates_regions_and_images_to_avoid_are_those_of_lvm2,
        ours::our_metadata_and_a_backup_by_lvm2_agree,
        ours::a_disk_taken_out_of_our_pool_is_free_for_lvm2,
        ours::a_disk_of_our_pool_is_kept_by_lvm2,
        clones::lvm2_reads_a_clone_at_every_stage_and_does_not_expose_what_is_not_filled,
        detached::lvm2_reads_every_state_of_a_detachment_without_a_warning,
        detached::lvm2_reads_every_state_of_images_that_become_a_volume_without_a_warning,
        theirs::a_raid1_lv_of_two_images_is_adopted,
        theirs::a_raid1_lv_of_three_images_is_adopted,
        theirs::a_tracked_split_by_lvm2_is_adopted_and_merged_in_full,
        theirs::other_kinds_of_lvs_are_kept_as_they_are,
        theirs::a_raid1_lv_under_a_cow_snapshot_is_left_alone,
        theirs::an_lv_that_is_resyncing_is_not_split,
        theirs::an_lv_made_without_a_first_sync_is_not_split,
        theirs::both_change_the_group_at_once_and_nothing_is_lost,
        theirs::splits_and_merges_by_lvm2_alone_under_load,
        trouble::an_exported_group_is_refused,
        trouble::the_group_of_another_host_is_refused,
        trouble::a_wrong_name_is_answered_with_the_names_there_are,
        trouble::a_group_that_misses_a_disk_is_shown_and_not_changed,
        trouble::a_disk_that_was_away_is_made_equal_when_it_is_back,
        trouble::a_degraded_lv_of_lvm2_is_not_split,
        trouble::a_clone_of_a_disk_is_told,
        trouble::a_damaged_copy_of_the_metadata_is_repaired,
        trouble::an_old_copy_of_the_metadata_is_repaired,
        trouble::a_group_without_a_whole_copy_is_left_alone,
        input::a_disk_with_a_file_system_is_taken_only_when_named,
        input::a_pool_is_not_made_of_the_wrong_devices,
        input::volumes_that_do_not_fit_are_refused,
        input::any_name_of_128_bytes_is_taken,
        input::a_name_that_is_taken_is_refused,
        udev::udev_links_the_volume_and_never_a_leg,
    ])
}
