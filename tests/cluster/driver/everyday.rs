//! What the driver is for.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use splitmirror::api::quantity::{Size, SizeError};

use super::user::{
    CLASS, ask_snapshot, claim, class, end_volume, event, give_up, gone, images, leave, pod, read,
    ready_snapshot, refused_snapshot, sh, snapshot, user, view, volume_in_use, volume_of, write,
};
use super::{CHART, NAMESPACE, equal, ready, text, that};
use crate::Outcome;
use crate::bed::{DATABASE, until};
use crate::kubectl::{Namespace, PATIENCE, cluster, restarts};

/// The chart, with what it can be told, and the manifests made of it: every object is one that the API server takes.
pub fn the_chart_is_taken_by_the_api_server(bed: &Namespace) -> Outcome {
    ready(bed)?;
    // Kinds that only other software brings.
    let foreign = ["podMonitor.enabled", "serviceMonitor.enabled", "prometheusRule.enabled"];
    let off = foreign.map(|value| format!("{value}=false")).join(",");
    let pools =
        r#"pools=[{"volumeGroup":"fast","nodes":["db-*"],"devices":["/dev/sdb"],"wipe":["/dev/sdb"]}]"#;
    let values = [
        vec!["--set", "controller.replicas=3"],
        vec!["--set", "networkPolicy.enabled=true"],
        vec!["--set-json", pools, "--set", "csiDriver.storageCapacity=false,snapshots.enabled=false"],
        vec!["--set", "dashboard.enabled=true,kubeletDir=/var/lib/k0s/kubelet"],
    ];
    for values in values {
        // Under the release's own name: what cannot be changed in place must be the same.
        let template = ["template", "splitmirror", CHART, "--namespace", NAMESPACE, "--set", &off];
        let manifests = bed.kubectl().helm(&[&template[..], &values].concat())?;
        dry_run(bed, &manifests)?;
    }
    let root = Path::new(CHART).join("../..");
    // That of Velero, for its example.
    let velero = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "velero" } });
    bed.kubectl().apply(&velero)?;
    for file in ["deploy/splitmirror.yaml", "deploy/examples"] {
        for manifests in yaml(&root.join(file))? {
            dry_run(bed, &manifests)?;
        }
    }
    Ok(())
}

/// The YAML files of a directory, or one of them.
fn yaml(path: &Path) -> Outcome<Vec<String>> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.is_file() {
        return Ok(vec![std::fs::read_to_string(path).map_err(failed)?]);
    }
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            texts.push(std::fs::read_to_string(&path).map_err(failed)?);
        }
    }
    Ok(texts)
}

/// As `kubectl apply` would, with all its checks; what it warns of is an error.
fn dry_run(bed: &Namespace, manifests: &str) -> Outcome {
    let apply = ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--warnings-as-errors"];
    let all = [&apply[..], &["--validate=strict", "--filename=-"]].concat();
    // Most examples have no namespace.
    let own = ["--namespace", bed.name()];
    let args = if manifests.contains("  namespace: ") { all } else { [&all[..], &own].concat() };
    bed.kubectl().run_with(&args, Some(manifests)).map(drop)
}

/// From the claim to the merge, as README.md shows it.
pub fn a_claim_is_snapshotted_viewed_merged_and_grown(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;

    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;
    sh(bed, "app", "dd if=/dev/urandom of=/data/more bs=1M count=4; sync")?;
    images(bed, &volume, 2, 1)?;
    view(bed, "look", "cut", "64Mi")?;
    user(bed, "reader", "look", true)?;
    equal("the view holds the instant of the snapshot", read(bed, "reader")?.as_str(), "before")?;
    that("it cannot be written", bed.exec("reader", &["touch", "/data/new"]).is_err(), "")?;
    equal("the volume has gone on", read(bed, "app")?.as_str(), "after")?;
    let changed = |seen: &Value| seen["status"]["changed"].as_str().is_some_and(|changed| changed != "0");
    bed.kubectl().wait(cluster("mirrorsnapshot", &handle), "changed", changed)?;

    leave(bed, "reader", "look")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    gone(bed, cluster("mirrorsnapshot", &handle))?;
    images(bed, &volume, 3, 0)?;

    claim(bed, "data", CLASS, "96Mi")?;
    let grown = |seen: &Value| seen["status"]["capacity"]["storage"] == "96Mi";
    bed.kubectl().wait(bed.object("pvc", "data"), "grown", grown)?;
    let size = sh(bed, "app", "df -m /data | tail -1 | awk '{ print $2 }'")?;
    that("so has the file system", size.trim().parse().is_ok_and(|size: u32| size > 70), &size)?;
    equal("the data is there", read(bed, "app")?.as_str(), "after")?;

    end_volume(bed, "app", &volume)
}

/// In place: not while a pod uses the claim, and what is asked for once is done once. Whoever may edit a namespace may ask.
pub fn a_claim_is_put_back_to_its_snapshot(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;
    sh(bed, "app", "dd if=/dev/urandom of=/data/more bs=1M count=4; sync")?;

    let ask = |name: &str| {
        bed.apply(json!({
            "apiVersion": "splitmirror.io/v1alpha1",
            "kind": "VolumeRollback",
            "metadata": { "name": name },
            "spec": { "claim": "data", "snapshot": "cut" },
        }))
    };
    let may = ["auth", "can-i", "create", "volumerollbacks", "--namespace", bed.name(), "--as=somebody"];
    that("nobody else may", bed.kubectl().run(&may).is_err(), "")?;
    let bind = ["create", "rolebinding", "editor", "--clusterrole=edit", "--user=somebody", "--namespace"];
    bed.kubectl().run(&[&bind[..], &[bed.name()]].concat())?;
    until("an editor may", PATIENCE, || Ok(bed.kubectl().run(&may).ok()))?;

    ask("back")?;
    let waits = |seen: &Value| {
        seen["status"]["conditions"][0]["message"].as_str().is_some_and(|why| why.contains("in use"))
    };
    bed.kubectl().wait(bed.object("volumerollback", "back"), "waiting for the pod", waits)?;
    equal("nothing is changed", read(bed, "app")?.as_str(), "after")?;
    bed.kubectl().delete(bed.object("pod", "app"))?;
    let done = |seen: &Value| seen["status"]["phase"] == "Done";
    let seen = bed.kubectl().wait(bed.object("volumerollback", "back"), "Done", done)?;
    let copied: Result<Size, SizeError> = text(&seen["status"]["copied"])?.parse();
    let copied = copied.map_err(|error| error.to_string())?.0.0;
    that("what has changed is copied", (4 << 20..32 << 20).contains(&copied), copied.to_string())?;
    event(bed, "data", "RollbackCompleted", "")?;

    user(bed, "app", "data", false)?;
    equal("it is as it was", read(bed, "app")?.as_str(), "before")?;
    that("all of it", sh(bed, "app", "[ ! -e /data/more ]").is_ok(), "")?;
    write(bed, "app", "later")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    images(bed, &volume, 3, 0)?;
    equal("it is put back once", read(bed, "app")?.as_str(), "later")?;
    end_volume(bed, "app", &volume)
}

/// What somebody sees who looks, at each step.
pub fn kubectl_tells_what_becomes_of_a_claim(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    let handle = snapshot(bed, "cut", "data")?;
    write(bed, "app", "after")?;
    images(bed, &volume, 2, 1)?;

    let table = bed.kubectl().run(&["get", "mirrorvolumes", &volume])?;
    let columns = columns(&table);
    for (column, value) in
        [("SIZE", "64Mi"), ("IMAGES", "3"), ("IN-SYNC", "2"), ("SPLIT", "1"), ("PHASE", "Ready")]
    {
        let shown = columns.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str());
        equal(column, shown, Some(value))?;
    }
    let all = bed.kubectl().run(&["get", "splitmirror"])?;
    for name in [&volume, &handle, &super::pool_of(bed.node(1))] {
        that("the category has all kinds", all.contains(name.as_str()), &all)?;
    }
    event(bed, "cut", "SnapshotSplit", "")?;
    let told = bed.kubectl().run(&["describe", "volumesnapshot", "cut", "--namespace", bed.name()])?;
    that("the split is told of where the user looks", told.contains("SnapshotSplit"), &told)?;
    let told = bed.kubectl().run(&["describe", "mirrorvolume", &volume])?;
    that("slots are told of", told.contains("Slots:") && told.contains("Split"), &told)?;

    let status = plugin(bed, &["status", "--namespace", bed.name()])?;
    let expected =
        [&format!("{}/data: ready, 2 of 3 images in sync", bed.name()), "split off", "snapshot cut"];
    for words in expected {
        that("the tree has it all", status.contains(words), &status)?;
    }
    println!("{table}{status}");
    let status = plugin(bed, &["status", "--namespace", bed.name(), "--output", "json"])?;
    let status: Value = serde_json::from_str(&status).map_err(|error| format!("{error}: {status}"))?;
    that("so has the JSON", status.to_string().contains(&handle), &status)?;

    bed.kubectl().delete(bed.object("volumesnapshot", "cut"))?;
    event(bed, "data", "MergeCompleted", "")?;
    end_volume(bed, "app", &volume)
}

/// The cells of a table of one row, by their titles.
fn columns(table: &str) -> Vec<(String, String)> {
    let mut rows = table.lines().map(|line| line.split_whitespace().map(str::to_owned));
    rows.next().into_iter().flatten().zip(rows.next().into_iter().flatten()).collect()
}

/// Runs `kubectl splitmirror`, which kubectl finds beside our program.
fn plugin(bed: &Namespace, args: &[&str]) -> Outcome<String> {
    let program = std::env::var("SPLITMIRROR_BIN").map_err(|_| "SPLITMIRROR_BIN is not set")?;
    let dir = Path::new(&program).parent().ok_or("it has no directory")?;
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let mut command: Command = bed.kubectl().program("kubectl");
    crate::kubectl::output(command.env("PATH", path).arg("splitmirror").args(args), None)
}

/// Capacity objects, and what becomes of a claim that fits nowhere.
pub fn capacity_follows_what_is_left_on_each_node(bed: &Namespace) -> Outcome {
    ready(bed)?;
    class(bed, "immediate", "Immediate", &json!({ "splitmirror.io/images": "3" }))?;
    // All nodes have the same disks: what earlier scenarios had there is gone, and has been told of.
    let before = until("there is the same capacity for each node", PATIENCE, || {
        let seen = capacities(bed)?;
        let same = seen.windows(2).all(|two| two[0].1 == two[1].1);
        if same && seen.len() == bed.nodes().len() { Ok(Some(seen)) } else { Err(format!("{seen:?}")) }
    })?;
    claim(bed, "data", "immediate", "256Mi")?;
    let volume = volume_of(bed, "data")?;
    let at = bed.kubectl().get(cluster("mirrorvolume", &volume))?;
    let at = text(&at["spec"]["node"])?;
    const TAKEN: u64 = 256 << 20;
    until("the capacity of its node is less, and of no other", PATIENCE, || {
        let now = capacities(bed)?;
        let taken = |node: &str| {
            let of = |all: &[(String, u64)]| all.iter().find(|(name, _)| name == node).map(|(_, size)| *size);
            Some(of(&before)?.saturating_sub(of(&now)?))
        };
        let right = bed.nodes().iter().all(|node| match taken(node.name()) {
            Some(0) => node.name() != at,
            // Its own size, and a little metadata.
            Some(taken) => node.name() == at && (TAKEN..TAKEN + (16 << 20)).contains(&taken),
            None => false,
        });
        if right { Ok(Some(())) } else { Err(format!("{before:?} has become {now:?}, volume on {at}")) }
    })?;

    // Larger than any node: refused with what is there, and the scheduler knows before it asks.
    claim(bed, "vast", "immediate", "100Gi")?;
    let told = event(bed, "vast", "ProvisioningFailed", "ResourceExhausted")?;
    that("it is told what there is", told.contains(&at), &told)?;
    claim(bed, "vast-too", CLASS, "100Gi")?;
    let vast = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "vast-too" } }]);
    bed.pod("waits", json!({ "containers": [crate::kubectl::shell("exec sleep 1000")], "volumes": vast }))?;
    event(bed, "waits", "FailedScheduling", "did not have enough free storage")?;
    for claim in ["vast", "vast-too"] {
        let claim = bed.kubectl().get(bed.object("pvc", claim))?;
        equal("it waits", claim["status"]["phase"].as_str(), Some("Pending"))?;
    }
    leave(bed, "waits", "vast-too")?;
    bed.kubectl().delete(bed.object("pvc", "vast"))?;
    give_up(bed, "data", &volume)?;
    until("the room is there again", PATIENCE, || {
        let now = capacities(bed)?;
        if now == before { Ok(Some(())) } else { Err(format!("{before:?} has become {now:?}")) }
    })
}

/// What a volume of three images can have on each node, in the order of their names.
fn capacities(bed: &Namespace) -> Outcome<Vec<(String, u64)>> {
    let items = bed.kubectl().list(&["csistoragecapacities", "--namespace", NAMESPACE])?;
    let mut capacities = Vec::new();
    for item in items.iter().filter(|item| item["storageClassName"] == CLASS) {
        let node = text(&item["nodeTopology"]["matchLabels"]["topology.splitmirror.io/node"])?;
        let Size(capacity) =
            text(&item["capacity"])?.parse().map_err(|error: SizeError| error.to_string())?;
        capacities.push((node, capacity.0));
    }
    capacities.sort();
    Ok(capacities)
}

pub fn two_snapshots_show_their_instants_and_a_third_is_refused(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let volume = volume_in_use(bed, CLASS, "64Mi")?;
    for name in ["first", "second"] {
        write(bed, "app", name)?;
        snapshot(bed, name, "data")?;
    }
    write(bed, "app", "third")?;
    images(bed, &volume, 1, 2)?;
    ask_snapshot(bed, "third", "data", CLASS)?;
    let why = refused_snapshot(bed, "third")?;
    that("it is told why", why.contains("images"), &why)?;
    println!("refused: {why}");
    bed.kubectl().delete(bed.object("volumesnapshot", "third"))?;

    for name in ["first", "second"] {
        view(bed, &format!("look-{name}"), name, "64Mi")?;
        user(bed, &format!("reader-{name}"), &format!("look-{name}"), true)?;
        equal("each shows its own instant", read(bed, &format!("reader-{name}"))?.as_str(), name)?;
    }
    // One goes while the other is still looked at.
    leave(bed, "reader-first", "look-first")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "first"))?;
    images(bed, &volume, 2, 1)?;
    equal("the other one stays", read(bed, "reader-second")?.as_str(), "second")?;
    equal("and so does the volume", read(bed, "app")?.as_str(), "third")?;
    leave(bed, "reader-second", "look-second")?;
    bed.kubectl().delete(bed.object("volumesnapshot", "second"))?;
    images(bed, &volume, 3, 0)?;
    end_volume(bed, "app", &volume)
}

/// Every row is on the disks when it is counted.
const ROWS: &str = "
mkdir -p /data/db
sqlite3 /data/db/rows 'pragma synchronous = full; create table if not exists rows (n integer primary key, text text)' >/dev/null
while true; do
    sqlite3 -cmd '.timeout 10000' /data/db/rows 'pragma synchronous = full; insert into rows (text) values (hex(randomblob(500)))' >/dev/null
done";
/// In a copy of the files, as after a power cut: how many rows there are, the last one's number, and whether all is well.
const CHECKED: &str = "
rm -rf /tmp/db; cp -r /data/db /tmp/db
sqlite3 /tmp/db/rows 'select count(*), max(n) from rows; pragma integrity_check'";

pub fn a_database_goes_on_while_its_volume_is_split_and_merged(bed: &Namespace) -> Outcome {
    ready(bed)?;
    let container =
        |script: &str| json!({ "name": "main", "image": DATABASE, "command": ["sh", "-ec", script] });
    let rows = || -> Outcome<u64> {
        let count = sh(
            bed,
            "database",
            "sqlite3 -readonly -cmd '.timeout 10000' /data/db/rows 'select count(*) from rows'",
        )?;
        count.trim().parse().map_err(|error| format!("`{count}`: {error}"))
    };
    let goes_on = || -> Outcome {
        let before = rows()?;
        until("it writes", PATIENCE, || Ok((rows()? >= before + 5).then_some(())))
    };
    claim(bed, "data", CLASS, "64Mi")?;
    pod(bed, "database", "data", container(ROWS), false)?;
    let volume = volume_of(bed, "data")?;
    images(bed, &volume, 3, 0)?;
    until("it writes", PATIENCE, || Ok((rows()? >= 5).then_some(())))?;
    for round in ["one", "two"] {
        let before = rows()?;
        ask_snapshot(bed, round, "data", CLASS)?;
        goes_on()?;
        let handle = ready_snapshot(bed, round)?;
        goes_on()?;
        let after = rows()?;
        view(bed, "look", round, "64Mi")?;
        pod(bed, "reader", "look", container("exec sleep 1000000"), true)?;
        let seen = sh(bed, "reader", CHECKED)?;
        let (counts, health) = seen.trim().split_once('\n').ok_or_else(|| format!("`{seen}`"))?;
        equal("the database in the snapshot is whole", health, "ok")?;
        let (count, last) = counts.split_once('|').ok_or_else(|| format!("`{seen}`"))?;
        equal("no row is missing", count, last)?;
        let count: u64 = count.parse().map_err(|error| format!("`{seen}`: {error}"))?;
        that("it is of the instant between", (before..=after).contains(&count), (before, count, after))?;
        leave(bed, "reader", "look")?;
        goes_on()?;
        bed.kubectl().delete(bed.object("volumesnapshot", round))?;
        goes_on()?;
        gone(bed, cluster("mirrorsnapshot", &handle))?;
        images(bed, &volume, 3, 0)?;
        goes_on()?;
    }
    let pod = bed.kubectl().get(bed.object("pod", "database"))?;
    equal("it was never started again", restarts(&pod), Some(0))?;
    end_volume(bed, "database", &volume)
}
