//! Starting a bed, asking it for something, and running programs in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::bed::Spec;
use super::control_plane::KUBECTL_CACHE;
use super::protocol::{Description, Reply, Request, VARIABLE};

/// A bed that is up.
#[derive(Debug)]
pub struct Client {
    file: PathBuf,
    /// What it says of itself.
    pub description: Description,
}

/// A bed that ends with this value.
#[derive(Debug)]
pub struct Held {
    /// How to use it.
    pub client: Client,
    holder: Child,
    life_line: Option<ChildStdin>,
}

impl Client {
    /// The bed that a description tells of, if its holder lives.
    pub fn find(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let description: Description = serde_json::from_slice(&text).context("parsing the description")?;
        if UnixStream::connect(&description.socket).is_err() {
            // What a killed bed left.
            fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
            return Ok(None);
        }
        Ok(Some(Self { file: file.to_owned(), description }))
    }

    /// Has the bed do something.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let mut connection = UnixStream::connect(&self.description.socket).context("reaching the bed")?;
        let text = serde_json::to_string(request).context("rendering a request")?;
        connection.write_all(format!("{text}\n").as_bytes()).context("asking the bed")?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).context("hearing the bed")?;
        let reply: Reply = serde_json::from_str(&line).context("understanding the bed")?;
        match reply.error {
            Some(error) => bail!("{error}"),
            None => Ok(reply),
        }
    }

    /// A program to be run in the bed's network, with the environment that the contract promises.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let bed = &self.description;
        let old = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(bed.clients.clone()).chain(std::env::split_paths(&old)))
                .context("the cache's path holds a colon")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", bed.pid))
            .arg("--")
            .arg(program)
            .env("PATH", path)
            .env("KUBECONFIG", &bed.kubeconfig)
            .env(KUBECTL_CACHE, &bed.kubectl_cache)
            .env(VARIABLE, &self.file);
        Ok(command)
    }
}

impl Held {
    /// Starts a bed and waits until it is up. What it says meanwhile is shown, and kept in its logs.
    pub fn start(spec: &Spec) -> Result<Self> {
        fs::create_dir_all(&spec.logs).with_context(|| format!("creating {}", spec.logs.display()))?;
        let file = spec.logs.join("spec.json");
        let text = serde_json::to_vec_pretty(spec).context("rendering the bed's specification")?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let log = spec.logs.join("bed.log");
        let said = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let said_too = said.try_clone().context("opening the log twice")?;
        let mut holder = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().context("finding our own program")?)
            .arg("cluster-hold")
            .arg(&file)
            .stdin(if spec.detached { Stdio::null() } else { Stdio::piped() })
            .stdout(said)
            .stderr(said_too)
            .spawn()
            .context("starting unshare")?;
        let life_line = holder.stdin.take();
        let mut shown = 0;
        let client = loop {
            show(&log, &mut shown)?;
            if let Some(client) = Client::find(&spec.description)? {
                break client;
            }
            if let Some(status) = holder.try_wait().context("looking after the bed")? {
                show(&log, &mut shown)?;
                bail!("the bed did not come up: {status}");
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        Ok(Self { client, holder, life_line })
    }

    /// Lets a detached bed go on without us.
    pub fn detach(mut self) -> Client {
        // Without one there is nothing that ends with this value.
        self.life_line = None;
        Client { file: self.client.file.clone(), description: self.client.description.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(life_line) = self.life_line.take() else { return };
        drop(life_line);
        if let Err(error) = self.holder.wait() {
            eprintln!("xtask: waiting for the bed's end: {error}");
        }
    }
}

/// Shows what was added to a file: standard output is for what was asked for.
fn show(log: &Path, shown: &mut u64) -> Result<()> {
    let mut file = File::open(log).with_context(|| format!("opening {}", log.display()))?;
    file.seek(SeekFrom::Start(*shown)).with_context(|| format!("reading {}", log.display()))?;
    let mut text = String::new();
    let read = file.read_to_string(&mut text).with_context(|| format!("reading {}", log.display()))?;
    *shown += u64::try_from(read).context("a log of that size")?;
    eprint!("{text}");
    Ok(())
}
