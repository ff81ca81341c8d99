//! `cargo xtask demo --kubernetes`: a snapshot's whole life as a user of Kubernetes sees it, typed as a user would type it.
//!
//! The files are those of `deploy/examples`. What the bed cannot have is replaced in them, and that is said: images of
//! public registries, and volumes larger than its disks.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::cargo::{Metadata, build_for_guest};
use crate::cluster::{self, Client, DATABASE, Held, Parts, product};
use crate::cmd;
use crate::guest::Lab;

const EXAMPLES: &str = "deploy/examples";
/// What the examples ask for, and what there is room for.
const SIZE: (&str, &str) = ("storage: 10Gi", "storage: 128Mi");
/// The image of the examples' backup, and the bed's.
const BUSYBOX: (&str, &str) = ("busybox:1.37", cluster::BUSYBOX);

/// One row a turn, as fast as they get to the disks.
const WRITER: &str = "
sqlite3 /data/rows 'create table if not exists rows (n integer primary key, text text)'
while true; do
    sqlite3 -cmd '.timeout 10000' /data/rows 'insert into rows (text) values (hex(randomblob(500)))'
done";

/// Shows it.
pub fn main(kernel: Option<&str>) -> Result<()> {
    if let Some(obstacle) = cluster::obstacle() {
        bail!("{obstacle}");
    }
    let build = build_for_guest("cluster")?;
    let cache = Cache::open()?;
    let parts = Parts::find(&cache, kernel)?;
    let lab = Lab::open(&cache)?;
    let image = product::build(&cache, &build.program, lab.seen())?;
    let logs = Metadata::own()?.target_directory.join("guest-logs/demo-kubernetes");
    tell(
        "A Kubernetes of its own: etcd, API server, scheduler, and a node with a kubelet, containerd and four disks",
    );
    let bed = Held::start(&parts.spec(1, &[image], logs, false))?;
    let programs = build.program.parent().context("the program has no directory")?;
    Demo { bed: &bed.client, programs }.show()
}

/// Says what comes next.
fn tell(what: &str) {
    println!("\n\u{1b}[1m# {what}\u{1b}[0m");
}

struct Demo<'a> {
    bed: &'a Client,
    /// Where `kubectl-splitmirror` is.
    programs: &'a Path,
}

impl Demo<'_> {
    fn show(&self) -> Result<()> {
        tell("The chart: a pool on the node's four disks (the values name the bed's images and disks)");
        let values = self.bed.description.values.display().to_string();
        self.typed(&format!(
            "helm install splitmirror charts/splitmirror --namespace splitmirror --create-namespace --values {values} --wait"
        ))?;
        self.typed("kubectl wait mirrorpools --all --for=condition=Ready --timeout=90s")?;
        self.typed("kubectl get mirrorpools,storageclasses,volumesnapshotclasses,csidrivers")?;

        tell(
            "A claim, and a database that uses it: a raid1 array of three images (128Mi here instead of the example's 10Gi)",
        );
        self.apply("pvc.yaml")?;
        self.apply_text("database.yaml    # with SQLite instead of PostgreSQL", &database())?;
        self.typed("kubectl wait pod database --for=condition=Ready --timeout=90s")?;
        let in_sync = "--for=jsonpath={.status.inSync}=3 --timeout=90s";
        self.typed(&format!("kubectl wait mirrorvolumes --all {in_sync}"))?;
        self.typed("kubectl get pvc,mirrorvolumes")?;
        self.rows()?;

        tell("A snapshot: one image is split off, nothing is copied, the database goes on");
        self.apply("snapshot.yaml")?;
        let ready = "--for=jsonpath={.status.readyToUse}=true --timeout=90s";
        self.typed(&format!("kubectl wait volumesnapshot database {ready}"))?;
        self.rows()?;
        self.typed("kubectl get volumesnapshot,mirrorvolumes,mirrorsnapshots")?;
        self.typed("kubectl splitmirror status")?;

        tell("A backup reads the snapshot's image itself, read-only, while the database writes");
        self.apply("view.yaml")?;
        self.typed("kubectl wait job backup --for=condition=Complete --timeout=90s")?;
        self.typed("kubectl logs job/backup")?;
        self.rows()?;
        self.typed("kubectl get mirrorsnapshots")?;

        tell("The snapshot is deleted: what has changed since is copied back to its image, and nothing else");
        self.typed("kubectl delete job backup")?;
        self.typed("kubectl delete pvc database-view")?;
        self.typed("kubectl delete volumesnapshot database")?;
        self.typed(&format!("kubectl wait mirrorvolumes --all {in_sync}"))?;
        self.typed("kubectl get mirrorvolumes")?;
        self.typed("kubectl get events --field-selector involvedObject.kind=PersistentVolumeClaim")?;

        tell("The end of the volume");
        self.typed("kubectl delete pod database --grace-period=1")?;
        self.typed("kubectl delete pvc database")?;
        self.typed("kubectl wait mirrorvolumes --all --for=delete --timeout=90s")?;
        self.typed("kubectl get splitmirror")
    }

    /// How many rows the database has.
    fn rows(&self) -> Result<()> {
        let count = "select count(*) || ' rows' from rows";
        let args = ["exec", "database", "--", "sqlite3", "-cmd", ".timeout 10000", "/data/rows", count];
        println!("$ kubectl exec database -- sqlite3 /data/rows \"{count}\"");
        self.run(self.bed.inside("kubectl")?.args(args), None)
    }

    /// Applies an example as it is, but for what the bed cannot have.
    fn apply(&self, file: &str) -> Result<()> {
        let path = Path::new(EXAMPLES).join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let text = [SIZE, BUSYBOX].iter().fold(text, |text, (from, to)| text.replace(from, to));
        self.apply_text(file, &text)
    }

    fn apply_text(&self, file: &str, text: &str) -> Result<()> {
        println!("$ kubectl apply -f {EXAMPLES}/{file}");
        self.run(self.bed.inside("kubectl")?.args(["apply", "--filename=-"]), Some(text))
    }

    /// Runs a line that has no quotes.
    fn typed(&self, line: &str) -> Result<()> {
        println!("$ {line}");
        let mut words = line.split(' ');
        let mut command = self.bed.inside(words.next().context("an empty line")?)?;
        self.run(command.args(words), None)
    }

    fn run(&self, command: &mut Command, input: Option<&str>) -> Result<()> {
        // Where kubectl looks for its plugins; the bed's own programs stay before all others.
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        let path = std::env::split_paths(path.unwrap_or_default()).chain([self.programs.to_owned()]);
        let path = std::env::join_paths(path).context("a path holds a colon")?;
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = command
            .env("PATH", path)
            .stdin(stdin)
            .spawn()
            .with_context(|| format!("starting `{}`", cmd::line(command)))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).context("giving it its input")?;
        }
        let status = child.wait().context("waiting for it")?;
        if !status.success() {
            bail!("`{}`: {status}", cmd::line(command));
        }
        Ok(())
    }
}

/// The pod of the example, with a database that the bed has.
fn database() -> String {
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "database" },
        "spec": {
            "containers": [{
                "name": "sqlite",
                "image": DATABASE,
                "command": ["sh", "-ec", WRITER],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "database" } }],
        },
    });
    pod.to_string()
}
