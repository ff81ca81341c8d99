//! A node of the bed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::Outcome;
use crate::bed::Requests;

/// How long a command on a node may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node.
pub struct Node {
    number: u8,
    name: String,
    address: String,
    orders: String,
    disks: Vec<String>,
    requests: Requests,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// As a shell would say it.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Node {
    /// As the bed describes it.
    pub fn new(
        number: u8,
        name: String,
        address: String,
        orders: String,
        disks: Vec<String>,
        requests: Requests,
    ) -> Self {
        Self { number, name, address, orders, disks, requests }
    }

    /// In the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In the cluster.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its disks besides the root. They outlive the boots, and the scenarios.
    pub fn disks(&self) -> &[String] {
        &self.disks
    }

    /// Cuts its power.
    pub fn power_cut(&self) -> Outcome {
        self.ask("power-cut")
    }

    /// Boots it; does not wait for the kubelet.
    pub fn boot(&self) -> Outcome {
        self.ask("boot")
    }

    /// Cuts it from the cluster's network. [`Self::run`] still reaches it.
    pub fn cut(&self) -> Outcome {
        self.ask("cut")
    }

    /// Puts it back on the network.
    pub fn heal(&self) -> Outcome {
        self.ask("heal")
    }

    /// Which boot this is.
    pub fn boot_id(&self) -> Outcome<String> {
        Ok(self.run(&["cat", "/proc/sys/kernel/random/boot_id"])?.trim().to_owned())
    }

    /// Runs a command in its guest, as root and outside of all pods; anything but success is an error.
    pub fn run(&self, command: &[&str]) -> Outcome<String> {
        let ran = self.try_run(command)?;
        if ran.status == 0 {
            Ok(ran.out)
        } else {
            Err(format!(
                "`{}` on {}: status {}: {}",
                command.join(" "),
                self.name,
                ran.status,
                ran.err.trim()
            ))
        }
    }

    /// Runs a script with `sh`, as [`Self::run`].
    pub fn sh(&self, script: &str) -> Outcome<String> {
        self.run(&["sh", "-ec", script])
    }

    /// Runs a command whatever its status.
    pub fn try_run(&self, command: &[&str]) -> Outcome<Ran> {
        #[derive(Deserialize)]
        struct Answer {
            status: i32,
            out: usize,
            err: usize,
        }
        let failed =
            |error: &dyn std::fmt::Display| format!("`{}` on {}: {error}", command.join(" "), self.name);
        let io = |error: std::io::Error| failed(&error);
        let address: SocketAddr = self.orders.parse().map_err(|error| failed(&error))?;
        let mut connection = TcpStream::connect_timeout(&address, PATIENCE).map_err(io)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        connection.write_all(format!("{}\n", json!({ "command": command })).as_bytes()).map_err(io)?;
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        reader.read_line(&mut head).map_err(io)?;
        let answer: Answer = serde_json::from_str(&head).map_err(|error| failed(&error))?;
        let mut text = |length: usize| -> Outcome<String> {
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes).map_err(io)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Ran { status: answer.status, out: text(answer.out)?, err: text(answer.err)? })
    }

    fn ask(&self, what: &str) -> Outcome {
        self.requests.ask(&json!({ "do": what, "node": self.number }))
    }
}
