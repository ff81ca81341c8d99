//! The driver in a real Kubernetes, and that Kubernetes itself. Runs on the host, in the network of a test bed;
//! `xtask/src/cluster/protocol.rs` tells how.

mod basics;
mod bed;
mod driver;
mod kubectl;
mod node;
mod trouble;

use std::process::ExitCode;

use bed::Bed;
use kubectl::Namespace;

/// What a scenario comes to.
type Outcome<T = ()> = Result<T, String>;

/// One thing to be shown, in a bed where all is well and a namespace of its own.
struct Scenario {
    name: &'static str,
    timeout: u32,
    run: fn(&Namespace) -> Outcome,
}

/// One that needs no driver.
const fn bare(name: &'static str, run: fn(&Namespace) -> Outcome) -> Scenario {
    Scenario { name, timeout: 400, run }
}

const BARE: [Scenario; 12] = [
    bare("all_nodes_are_ready", basics::all_nodes_are_ready),
    bare("a_scheduled_pod_runs_and_logs", basics::a_scheduled_pod_runs),
    bare("pods_reach_each_other_across_nodes", basics::pods_reach_each_other),
    bare("a_node_has_dm_raid", basics::a_node_has_dm_raid),
    bare("helm_installs_a_chart", basics::helm_installs_a_chart),
    bare("the_sidecars_run", basics::the_sidecars_run),
    bare("our_image_runs_unprivileged", basics::our_image_runs_unprivileged),
    bare("a_kubelet_takes_a_driver", basics::a_kubelet_takes_a_driver),
    bare("a_node_comes_back_after_a_power_cut", trouble::power_cut),
    bare("pods_outlive_the_api_server", trouble::no_api_server),
    bare("a_node_cut_from_the_network_is_not_ready", trouble::cut_off),
    bare("a_wiped_etcd_starts_anew", trouble::wiped_etcd),
];

/// All of them: a bed without the driver, then one with it.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    BARE.iter().chain(&driver::SCENARIOS)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--list") => {
            for Scenario { name, timeout, .. } in scenarios() {
                println!("{name} timeout={timeout}");
            }
            ExitCode::SUCCESS
        }
        Some("--cluster") => {
            let bed = match Bed::open() {
                Ok(bed) => bed,
                Err(why) => {
                    println!("no bed: {why}");
                    return ExitCode::FAILURE;
                }
            };
            for name in args {
                let Some(scenario) = scenarios().find(|scenario| scenario.name == name) else {
                    println!("there is no scenario {name}");
                    return ExitCode::FAILURE;
                };
                println!("@@RUN {name}");
                match run(&bed, scenario) {
                    Ok(()) => println!("@@PASS {name}"),
                    Err(why) => println!("@@FAIL {name} {}", why.replace('\n', " | ")),
                }
            }
            ExitCode::SUCCESS
        }
        // Any other way of starting it, such as by `cargo test`, has no bed: nothing to run.
        _ => {
            println!("runs in a test bed: cargo xtask test cluster");
            ExitCode::SUCCESS
        }
    }
}

fn run(bed: &Bed, scenario: &Scenario) -> Outcome {
    bed.restore()?;
    let namespace = Namespace::create(bed, &scenario.name.replace('_', "-"))?;
    let outcome = (scenario.run)(&namespace);
    if outcome.is_err() {
        namespace.show();
        driver::show(bed);
    }
    outcome
}
