//! A node: a guest with a root and disks of its own, on the bed's two networks. [`super::inside`] runs in it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::inside::Config;
use super::node_image::MODULES;
use super::plan::{DISK_BYTES, DISKS, MEM_MIB, NodeId};
use crate::contract::is_kernel_trouble;
use crate::guest::{Disks, Event, Guest, Lab, RootDisk, Running};
use crate::kernel::Kernel;

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    /// Which one.
    pub id: NodeId,
    // Before the disks that it writes to.
    running: Option<Running>,
    root: RootDisk,
    disks: Disks,
    config: Config,
    readable: Vec<PathBuf>,
    /// Of all its boots.
    console: Vec<String>,
}

impl Node {
    /// A node that has never run. `readable` are the host's directories that `config` names files in.
    pub fn create(
        lab: &Lab,
        image: &std::path::Path,
        config: Config,
        readable: Vec<PathBuf>,
    ) -> Result<Self> {
        let id = config.node;
        Ok(Self {
            id,
            running: None,
            root: RootDisk::changes_to(image, lab.fast(), &id.name())?,
            disks: lab.disks(DISKS, DISK_BYTES)?,
            config,
            readable,
            console: Vec::new(),
        })
    }

    /// Boots it, unless it runs.
    pub fn boot(&mut self, lab: &Lab, kernel: &Kernel) -> Result<()> {
        self.drain();
        if self.running.is_some() {
            return Ok(());
        }
        let name = self.id.name();
        let file = lab.seen().join(format!("{name}.json"));
        let text = serde_json::to_vec(&self.config).context("rendering the node's configuration")?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let command = vec![path(lab.program())?, "guest-node".to_owned(), path(&file)?];
        let mut guest = Guest::new(lab, kernel, command)
            .root(&self.root)
            .disks(&self.disks)
            .mem(MEM_MIB)
            .host_name(&name)
            .tap(&self.id.tap())
            .tap(&self.id.orders_tap())
            .modules(MODULES)
            .readable(lab.seen().to_owned());
        for dir in &self.readable {
            guest = guest.readable(dir.clone());
        }
        self.console.push("--- boot".to_owned());
        self.running = Some(guest.boot()?);
        Ok(())
    }

    /// Cuts its power. What its kernel had written to the disks is kept, what sat in its memory is lost.
    pub fn power_cut(&mut self) {
        self.drain();
        if let Some(running) = self.running.take() {
            let shown = running.lines().len();
            let report = running.power_cut();
            self.console.extend(report.lines.into_iter().skip(shown).map(|line| line.text));
            self.console.push("--- power cut".to_owned());
        }
    }

    /// Whether it runs: not if its power was cut, nor if it ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.drain();
        self.running.is_some()
    }

    /// What its disks are called in the guest.
    pub fn disk_names(&self) -> Vec<String> {
        self.disks.guest_names(1)
    }

    /// Its console since the last time, and what in it tells of a fault in the kernel.
    pub fn take_console(&mut self) -> (Vec<String>, Vec<String>) {
        self.drain();
        let lines = std::mem::take(&mut self.console);
        let trouble = lines.iter().filter(|line| is_kernel_trouble(line)).cloned().collect();
        (lines, trouble)
    }

    /// Takes what it has printed. A guest that ended by itself is not running any more.
    fn drain(&mut self) {
        let Some(running) = &mut self.running else { return };
        loop {
            match running.next(Duration::ZERO) {
                Event::Line(line) => self.console.push(line.text),
                Event::TimedOut => return,
                Event::Ended(end) => {
                    self.console.push(format!("--- ended by itself: {end:?}"));
                    self.running = None;
                    return;
                }
            }
        }
    }
}
