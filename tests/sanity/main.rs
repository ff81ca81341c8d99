//! `splitmirror standalone` as an orchestrator meets it: upstream's csi-sanity, and journeys of our own, over real
//! volumes on a real kernel. Runs in a guest; `xtask/src/contract.rs` tells how.

mod clones;
mod deaths;
mod detached;
mod driver;
mod groups;
mod grow;
mod guest;
mod journeys;
mod upstream;

use std::process::ExitCode;

/// What a scenario found: nothing to say, or what did not hold.
type Outcome = Result<(), String>;

struct Scenario {
    name: &'static str,
    /// What it needs, as the contract words it.
    needs: &'static str,
    run: fn(&str) -> Outcome,
}

const SCENARIOS: [Scenario; 23] = [
    Scenario {
        name: "sanity_mount",
        needs: "disks=3 size=512M mem=768 timeout=400 alone",
        run: upstream::mount,
    },
    Scenario {
        name: "sanity_block",
        needs: "disks=3 size=512M mem=768 timeout=400 alone",
        run: upstream::block,
    },
    Scenario { name: "ext4_journey", needs: "disks=3 size=1G mem=768", run: journeys::ext4 },
    Scenario { name: "xfs_journey", needs: "disks=3 size=1G mem=768", run: journeys::xfs },
    Scenario { name: "btrfs_journey", needs: "disks=3 size=1G mem=768", run: journeys::btrfs },
    Scenario { name: "block_journey", needs: "disks=3 size=1G mem=768", run: journeys::block },
    Scenario { name: "group_journey", needs: "disks=3 size=1G mem=768", run: groups::journey },
    Scenario {
        name: "killed_and_started_again",
        needs: "disks=3 size=1G mem=768",
        run: deaths::between_calls,
    },
    Scenario {
        name: "killed_in_the_middle",
        needs: "disks=3 size=1G mem=768 timeout=300",
        run: deaths::in_the_middle,
    },
    Scenario { name: "half_formatted", needs: "disks=3 size=1G mem=768", run: deaths::half_formatted },
    Scenario { name: "bad_input", needs: "disks=3 size=1G mem=768", run: journeys::bad_input },
    Scenario { name: "damaged_pool", needs: "disks=3 size=1G mem=768", run: journeys::damaged_pool },
    Scenario { name: "command_line", needs: "disks=4 size=1G mem=768", run: journeys::command_line },
    Scenario { name: "grown_snapshot", needs: "disks=4 size=1G mem=768", run: grow::grown },
    Scenario { name: "ext4_clone", needs: "disks=4 size=1G mem=768", run: clones::ext4 },
    Scenario { name: "xfs_clone", needs: "disks=4 size=1G mem=768", run: clones::xfs },
    Scenario { name: "btrfs_clone", needs: "disks=4 size=1G mem=768", run: clones::btrfs },
    Scenario { name: "ext4_detached", needs: "disks=4 size=1G mem=768", run: detached::ext4 },
    Scenario { name: "xfs_detached", needs: "disks=4 size=1G mem=768", run: detached::xfs },
    Scenario { name: "images_detached", needs: "disks=4 size=512M mem=768", run: detached::images },
    Scenario { name: "changed_blocks", needs: "disks=3 size=1G mem=768", run: journeys::changed_blocks },
    Scenario { name: "changed_by_hand", needs: "disks=3 size=1G mem=768", run: journeys::changed },
    Scenario { name: "rolled_back_by_hand", needs: "disks=3 size=1G mem=768", run: journeys::rolled_back },
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--list") => {
            for Scenario { name, needs, .. } in SCENARIOS {
                println!("{name} {needs}");
            }
            ExitCode::SUCCESS
        }
        Some("--guest") => {
            for name in args {
                let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
                    println!("there is no scenario {name}");
                    return ExitCode::FAILURE;
                };
                println!("@@RUN {name}");
                match guest::wipe().and_then(|()| (scenario.run)(scenario.name)) {
                    Ok(()) => println!("@@PASS {name}"),
                    Err(why) => println!("@@FAIL {name} {}", why.replace('\n', " | ")),
                }
            }
            ExitCode::SUCCESS
        }
        // Any other way of starting it, such as by `cargo test`, has no guest: nothing to run.
        _ => {
            println!("runs in a guest: cargo xtask test sanity");
            ExitCode::SUCCESS
        }
    }
}
