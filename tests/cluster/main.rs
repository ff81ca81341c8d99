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

const BARE: [Scenario; 12] = [
    Scenario { name: "all_nodes_are_ready", timeout: 400, run: basics::all_nodes_are_ready },
    Scenario { name: "a_scheduled_pod_runs_and_logs", timeout: 400, run: basics::a_scheduled_pod_runs },
    Scenario { name: "pods_reach_each_other_across_nodes", timeout: 400, run: basics::pods_reach_each_other },
    Scenario { name: "a_node_has_dm_raid", timeout: 400, run: basics::a_node_has_dm_raid },
    Scenario { name: "helm_installs_a_chart", timeout: 400, run: basics::helm_installs_a_chart },
    Scenario { name: "the_sidecars_run", timeout: 400, run: basics::the_sidecars_run },
    Scenario { name: "our_image_runs_unprivileged", timeout: 400, run: basics::our_image_runs_unprivileged },
    Scenario { name: "a_kubelet_takes_a_driver", timeout: 400, run: basics::a_kubelet_takes_a_driver },
    Scenario { name: "a_node_comes_back_after_a_power_cut", timeout: 400, run: trouble::power_cut },
    Scenario { name: "pods_outlive_the_api_server", timeout: 400, run: trouble::no_api_server },
    Scenario { name: "a_node_cut_from_the_network_is_not_ready", timeout: 400, run: trouble::cut_off },
    Scenario { name: "a_wiped_etcd_starts_anew", timeout: 400, run: trouble::wiped_etcd },
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
