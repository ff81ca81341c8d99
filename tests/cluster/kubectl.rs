//! What a user does with `kubectl` and `helm`: the programs themselves, and objects as JSON.

use std::ffi::OsStr;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::bed::{BUSYBOX, Bed, until};

/// How long something may take that a user would wait for without a thought, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The label of scenarios' namespaces.
pub const SCENARIO: &str = "scenario";

/// `kubectl` and `helm`. Which cluster, and as whom, is in the environment.
pub struct Kubectl {
    clients: PathBuf,
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// `pod`, `pvc`, `mirrorvolume`.
    pub kind: &'a str,
    /// Of an object that has one.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

/// An object in no namespace.
pub fn cluster<'a>(kind: &'a str, name: &'a str) -> Object<'a> {
    Object { kind, namespace: None, name }
}

impl Kubectl {
    /// Those in a directory.
    pub fn new(clients: &Path) -> Self {
        Self { clients: clients.to_owned() }
    }

    /// Runs `kubectl` and returns what it prints.
    pub fn run(&self, args: &[&str]) -> Outcome<String> {
        self.run_with(args, None)
    }

    /// Runs `kubectl`, which waits as long as its own arguments say, and returns what it prints.
    pub fn run_long(&self, args: &[&str]) -> Outcome<String> {
        output(self.program("kubectl").args(args), None)
    }

    /// Runs `helm` and returns what it prints.
    pub fn helm(&self, args: &[&str]) -> Outcome<String> {
        output(self.program("helm").args(args), None)
    }

    /// `kubectl apply --server-side`.
    pub fn apply(&self, object: &Value) -> Outcome {
        let args = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.run_with(&args, Some(&object.to_string())).map(drop)
    }

    /// An object, if it is there.
    pub fn find(&self, object: Object) -> Outcome<Option<Value>> {
        let mut args = vec!["get", object.kind, object.name, "--ignore-not-found", "--output=json"];
        let namespace = object.namespace_option();
        args.extend(namespace.as_deref());
        let text = self.run(&args)?;
        if text.trim().is_empty() { Ok(None) } else { parse(&text).map(Some) }
    }

    /// An object.
    pub fn get(&self, object: Object) -> Outcome<Value> {
        self.find(object)?.ok_or_else(|| format!("there is no {} {}", object.kind, object.name))
    }

    /// All objects that `kubectl get` with these arguments finds.
    pub fn list(&self, args: &[&str]) -> Outcome<Vec<Value>> {
        let text = self.run(&[&["get", "--output=json"], args].concat())?;
        Ok(parse(&text)?["items"].as_array().cloned().unwrap_or_default())
    }

    /// Has an object deleted, and does not wait.
    pub fn begin_delete(&self, object: Object) -> Outcome {
        let mut args = vec!["delete", object.kind, object.name, "--wait=false"];
        let namespace = object.namespace_option();
        args.extend(namespace.as_deref());
        self.run(&args).map(drop)
    }

    /// Deletes an object and waits until it is gone.
    pub fn delete(&self, object: Object) -> Outcome {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        let mut args = vec!["delete", object.kind, object.name, "--ignore-not-found", timeout.as_str()];
        let namespace = object.namespace_option();
        args.extend(namespace.as_deref());
        self.run(&args).map(drop)
    }

    /// Watches an object until it is as it should be, and returns it. It need not exist yet; an API server that goes away is
    /// tried again.
    pub fn wait(&self, object: Object, what: &str, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let began = Instant::now();
        let deadline = began + PATIENCE;
        let mut last = Value::Null;
        loop {
            let watch = Watch::start(self, object)?;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match watch.seen.recv_timeout(left) {
                    Ok(seen) if fits(&seen) => {
                        told(&format!("waiting until {} {} is {what}", object.kind, object.name), began);
                        return Ok(seen);
                    }
                    Ok(seen) => last = seen,
                    Err(RecvTimeoutError::Timeout) => {
                        let Object { kind, name, .. } = object;
                        let status = &last["status"];
                        return Err(format!("{kind} {name} is not {what} after {PATIENCE:?}: {status}"));
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// Runs `kubectl` with this as its standard input.
    pub fn run_with(&self, args: &[&str], input: Option<&str>) -> Outcome<String> {
        output(self.program("kubectl").arg("--request-timeout=20s").args(args), input)
    }

    /// One of them, to be run.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.clients.join(name))
    }
}

impl Object<'_> {
    fn namespace_option(&self) -> Option<String> {
        self.namespace.map(|namespace| format!("--namespace={namespace}"))
    }
}

/// A `kubectl get --watch`. Dropping it ends it.
struct Watch {
    child: Child,
    seen: Receiver<Value>,
}

impl Watch {
    fn start(kubectl: &Kubectl, object: Object) -> Outcome<Self> {
        let mut command = kubectl.program("kubectl");
        // By a selector: an object that is not there yet is waited for.
        command.args(["get", object.kind, "--watch", "--output=json"]);
        command.arg(format!("--field-selector=metadata.name={}", object.name));
        command.args(object.namespace_option());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.map_err(|error| format!("starting kubectl: {error}"))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
            // Whoever waited may have seen enough.
            values.map_while(Result::ok).try_for_each(|value| sender.send(value)).ok();
        });
        Ok(Self { child, seen })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Ended already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A namespace of a scenario's own.
pub struct Namespace<'a> {
    bed: &'a Bed,
    name: String,
}

impl Deref for Namespace<'_> {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        self.bed
    }
}

impl<'a> Namespace<'a> {
    /// A fresh one: what an earlier run left is gone.
    pub fn create(bed: &'a Bed, name: &str) -> Outcome<Self> {
        bed.kubectl().delete(cluster("namespace", name))?;
        let labels = json!({ "pod-security.kubernetes.io/enforce": "privileged", SCENARIO: "true" });
        bed.kubectl().apply(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        }))?;
        // Pods are refused before it is there.
        let account = Object { kind: "serviceaccount", namespace: Some(name), name: "default" };
        bed.kubectl().wait(account, "there", |_| true)?;
        Ok(Self { bed, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An object in it.
    pub fn object<'n>(&'n self, kind: &'n str, name: &'n str) -> Object<'n> {
        Object { kind, namespace: Some(&self.name), name }
    }

    /// Applies an object in it.
    pub fn apply(&self, mut object: Value) -> Outcome {
        object["metadata"]["namespace"] = json!(self.name);
        self.kubectl().apply(&object)
    }

    /// Runs `helm` in it.
    pub fn helm(&self, args: &[&str]) -> Outcome<String> {
        self.kubectl().helm(&[args, &["--namespace", &self.name]].concat())
    }

    /// Starts a pod; `spec` needs no more than what is not usual.
    pub fn pod(&self, name: &str, mut spec: Value) -> Outcome {
        let usual = json!({ "terminationGracePeriodSeconds": 1, "restartPolicy": "Always" });
        for (key, value) in usual.as_object().into_iter().flatten() {
            if spec[key].is_null() {
                spec[key] = value.clone();
            }
        }
        self.apply(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec }))
    }

    /// Waits until all containers of a pod are ready.
    pub fn wait_until_ready(&self, pod: &str) -> Outcome<Value> {
        self.kubectl().wait(self.object("pod", pod), "Ready", is_ready)
    }

    /// What a pod has printed.
    pub fn logs(&self, pod: &str) -> Outcome<String> {
        self.kubectl().run(&["logs", pod, "--all-containers", "--namespace", &self.name])
    }

    /// Runs a command in a pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Outcome<String> {
        let args = ["exec", pod, "--namespace", &self.name, "--"];
        self.kubectl().run(&[&args, command].concat())
    }

    /// Waits until a pod has printed this.
    pub fn wait_for_log(&self, pod: &str, text: &str) -> Outcome<String> {
        until(&format!("{pod} prints `{text}`"), PATIENCE, || {
            let log = self.logs(pod)?;
            if log.contains(text) { Ok(Some(log)) } else { Err(format!("it has printed `{}`", log.trim())) }
        })
    }

    /// Prints what somebody would look at first.
    pub fn show(&self) {
        let namespace = format!("--namespace={}", self.name);
        for args in [
            vec!["get", "nodes,pods,pvc,pv", "--all-namespaces", "--output=wide"],
            vec!["describe", "pods", &namespace],
            vec!["get", "events", &namespace, "--sort-by=.lastTimestamp"],
        ] {
            println!("$ kubectl {}", args.join(" "));
            match self.kubectl().run(&args) {
                Ok(text) | Err(text) => println!("{text}"),
            }
        }
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // Not waited for. One that cannot be deleted now is deleted before it is used again.
        let args = ["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"];
        self.kubectl().run(&args).ok();
    }
}

/// A busybox that runs a script.
pub fn shell(script: &str) -> Value {
    json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-ec", script] })
}

/// `True`, `False` or `Unknown`, if the object has such a condition.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// Says what has taken long.
fn told(what: &str, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    if seconds > 3.0 {
        println!("{seconds:.1} s: {what}");
    }
}

/// Whether an object says that it is ready.
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready") == Some("True")
}

/// How often the container of a pod was started again.
pub fn restarts(pod: &Value) -> Option<u64> {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
}

/// Reads JSON.
fn parse(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map_err(|error| format!("{error} in `{text}`"))
}

/// What a program prints; anything but success is an error.
pub fn output(command: &mut Command, input: Option<&str>) -> Outcome<String> {
    let line = || {
        let words = command.get_args().map(OsStr::to_string_lossy);
        words.fold(command.get_program().to_string_lossy().into_owned(), |line, word| line + " " + &word)
    };
    let line = line();
    let failed = |error: std::io::Error| format!("{line}: {error}");
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let began = Instant::now();
    let output = child.wait_with_output().map_err(failed)?;
    told(&line, began);
    if !output.status.success() {
        return Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
