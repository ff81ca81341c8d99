//! The pause of a group snapshot beside that of a single one, in turn on the same volume.

use std::path::PathBuf;
use std::time::Duration;

use crate::guest::Outcome;
use crate::lab::{self, say};
use crate::pauses::Probe;
use crate::rows::{Bar, median, ms, ratio, row};

const ROUNDS: usize = 15;
const VOLUMES: [&str; 4] = ["v", "w", "x", "y"];

/// Groups of so many volumes of two images each.
pub fn measure(disks: &[PathBuf]) -> Outcome {
    let engine = lab::new_pool(disks, 3)?;
    for volume in VOLUMES {
        lab::new_volume(&engine, volume, 2)?;
    }
    // The first is held back first, and so for longest.
    let probe = Probe::start(&lab::device(&engine, VOLUMES[0])?, 256)?;
    for members in [2, 4] {
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for n in 0..=ROUNDS {
            let (snapshot, _, felt) = probe.during(|| lab::split(&engine, "s", VOLUMES[0]))?;
            let of_one = felt.longest();
            lab::merge(&engine, &snapshot.id)?;
            let spec = lab::group_spec("g", &VOLUMES[..members]);
            let (group, _, felt) = probe.during(|| engine.create_group_snapshot(&spec).map_err(say))?;
            engine.delete_group_snapshot(&group.id).map_err(say)?;
            lab::settle(&engine)?;
            // The first round warms up.
            if n > 0 {
                alone.push(of_one);
                together.push(felt.longest());
            }
        }
        let (together, alone): (Duration, Duration) = (median(together), median(alone));
        let name = format!("longest pause of a group of {members} volumes");
        let single = format!("{} one volume", ms(alone));
        row(&name, &ms(together), &single, ratio(together, alone), Bar::AtMost(1.5));
    }
    probe.stop()
}
