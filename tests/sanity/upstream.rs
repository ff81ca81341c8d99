//! Upstream's csi-sanity, every spec a result of its own. A spec that is skipped must be in the table below: what
//! is skipped for another reason fails, and so does an explanation that explains nothing.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde::Deserialize;

use crate::Outcome;
use crate::guest::{POOL, Standalone, create_pool, path, run, sanity, splitmirror};

/// Why specs are skipped, by what they say when they skip themselves.
const NOT_ADVERTISED: [(&str, &str); 5] = [
    (
        "ControllerPublishVolume not supported",
        "PUBLISH_UNPUBLISH_VOLUME: a volume is on its node, nothing is attached",
    ),
    ("Controller Publish, UnpublishVolume not supported", "PUBLISH_UNPUBLISH_VOLUME: nothing is attached"),
    ("ControllerUnpublishVolume not supported", "PUBLISH_UNPUBLISH_VOLUME: nothing is attached"),
    (
        "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported",
        "alpha in CSI 1.13: a snapshot is where its volume is",
    ),
    ("Health not supported", "volume health, alpha in CSI 1.13, is not built yet"),
];

/// Specs that upstream itself has switched off.
const PENDING: &str = "switched off by upstream";

const VOLUME_SIZE: u64 = 32 << 20;
const EXPANDED_SIZE: u64 = 64 << 20;

/// As file systems.
pub fn mount(name: &str) -> Outcome {
    check(name, "mount")
}

/// As raw block devices.
pub fn block(name: &str) -> Outcome {
    check(name, "block")
}

fn check(name: &str, access: &str) -> Outcome {
    create_pool()?;
    let standalone = Standalone::start()?;
    let (report, parameters, mutable) = (path("report.json"), path("parameters.yaml"), path("mutable.yaml"));
    fs::write(&parameters, "splitmirror.io/images: \"3\"\n").map_err(|error| error.to_string())?;
    fs::write(&mutable, "splitmirror.io/maxRecoveryRate: \"100000\"\n").map_err(|error| error.to_string())?;
    let sanity = run(Command::new(sanity()?)
        .arg(format!("--csi.endpoint=unix://{}", Standalone::socket().display()))
        .arg(format!("--csi.mountdir={}", path("mount").display()))
        .arg(format!("--csi.stagingdir={}", path("staging").display()))
        .arg(format!("--csi.testvolumeparameters={}", parameters.display()))
        .arg(format!("--csi.testvolumemutableparameters={}", mutable.display()))
        .arg(format!("--csi.testvolumesize={VOLUME_SIZE}"))
        .arg(format!("--csi.testvolumeexpandsize={EXPANDED_SIZE}"))
        .arg(format!("--csi.testvolumeaccesstype={access}"))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .args(["--ginkgo.no-color", "--ginkgo.seed=1"]));
    let text = fs::read(&report).map_err(|error| format!("no report, {error}: {sanity:?}"))?;
    let suites: Vec<Suite> = serde_json::from_slice(&text).map_err(|error| format!("report: {error}"))?;
    let specs: Vec<Spec> = suites.into_iter().flat_map(|suite| suite.specs).filter(Spec::is_it).collect();
    let failed = tell(name, &specs);
    if failed > 0 {
        println!("{}", standalone.log());
        return Err(format!("{failed} of {} specs", specs.len()));
    }
    sanity.map_err(|error| format!("no spec failed, but {error}"))?;
    standalone.stop()?;
    nothing_is_left()
}

/// All that upstream made it has removed again.
fn nothing_is_left() -> Outcome {
    for kind in ["volume", "snapshot"] {
        let left = run(&mut splitmirror(&[kind, "list", "--pool", POOL, "-o", "json"])?)?;
        if left.trim() != "[]" {
            return Err(format!("left: {left}"));
        }
    }
    Ok(())
}

/// Prints a result for each spec; how many did not hold.
fn tell(name: &str, specs: &[Spec]) -> usize {
    let mut failed = 0;
    let mut used = BTreeSet::new();
    for spec in specs {
        let part = format!("{name}/{}", spec.slug());
        match spec.state.as_str() {
            "passed" => println!("@@PASS {part}"),
            "pending" => println!("@@SKIP {part} {PENDING}"),
            "skipped" => match explain(spec) {
                Some((key, why)) => {
                    used.insert(key);
                    println!("@@SKIP {part} {why}");
                }
                None => {
                    failed += 1;
                    println!("@@FAIL {part} skipped without a known reason: {}", spec.message());
                }
            },
            state => {
                failed += 1;
                println!("@@FAIL {part} {state}: {}", spec.message());
            }
        }
    }
    for (key, why) in NOT_ADVERTISED.iter().filter(|(key, _)| !used.contains(key)) {
        failed += 1;
        println!("@@FAIL {name}/explanations nothing is skipped any more for {key:?} ({why})");
    }
    failed
}

fn explain(spec: &Spec) -> Option<(&'static str, &'static str)> {
    let message = spec.message();
    NOT_ADVERTISED.into_iter().find(|(said, _)| message.contains(said))
}

#[derive(Deserialize)]
struct Suite {
    #[serde(rename = "SpecReports")]
    specs: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    leaf_node_type: String,
    state: String,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "Message", default)]
    message: String,
}

impl Spec {
    fn is_it(&self) -> bool {
        self.leaf_node_type == "It"
    }

    fn name(&self) -> &str {
        &self.leaf_node_text
    }

    fn message(&self) -> String {
        self.failure.as_ref().map(|failure| failure.message.replace('\n', " | ")).unwrap_or_default()
    }

    /// Its whole name without white space.
    fn slug(&self) -> String {
        let texts = self.container_hierarchy_texts.iter().flatten().map(String::as_str).chain([self.name()]);
        let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
        texts.map(|text| text.chars().map(plain).collect::<String>()).collect::<Vec<_>>().join("/")
    }
}
