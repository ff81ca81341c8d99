//! Orders to a node: any command, run in its guest as root, outside of all pods. They come over a network of their own, so
//! that a node which is cut from the cluster can still be looked into.
//!
//! One order a connection. `{"command":["sh","-c","dmsetup table"]}` and a line end; the answer is a line
//! `{"status":0,"out":123,"err":0}` with the lengths of what follows: standard output, then standard error, as they are.
//! `status` is that of a shell: 128 and the signal for a command that a signal ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::plan::{NodeId, ORDERS_PORT};

/// How long a node may take to take a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a command may take: the longest is the import of an image.
const ANSWER: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    command: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    status: i32,
    out: usize,
    err: usize,
}

/// Carries out orders, each in a thread of its own.
pub fn serve(listener: &TcpListener) {
    for connection in listener.incoming() {
        std::thread::spawn(move || {
            if let Err(error) = connection.context("taking a connection").and_then(obey) {
                println!("orders: {error:#}");
            }
        });
    }
}

fn obey(mut connection: TcpStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line).context("reading an order")?;
    let order: Order = serde_json::from_str(&line).context("parsing an order")?;
    let (program, args) = order.command.split_first().context("an order without a command")?;
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let (status, out, err) = match output {
        Ok(output) => {
            let status = output.status;
            let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            (code, output.stdout, output.stderr)
        }
        Err(error) => (127, Vec::new(), format!("{program}: {error}").into_bytes()),
    };
    let answer = Answer { status, out: out.len(), err: err.len() };
    let head = serde_json::to_string(&answer).context("rendering an answer")?;
    let whole = [head.as_bytes(), b"\n", &out, &err].concat();
    connection.write_all(&whole).context("answering")
}

/// Gives an order to a node, and returns what the command printed; anything but success is an error.
pub fn give(node: NodeId, command: &[&str]) -> Result<String> {
    let to = || format!("an order to {}", node.name());
    let address: SocketAddr = format!("{}:{ORDERS_PORT}", node.orders()).parse().with_context(to)?;
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).with_context(to)?;
    connection.set_read_timeout(Some(ANSWER)).with_context(to)?;
    let line =
        serde_json::to_string(&Order { command: command.iter().map(|&word| word.to_owned()).collect() })
            .context("rendering an order")?;
    connection.write_all(format!("{line}\n").as_bytes()).with_context(to)?;
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    reader.read_line(&mut head).with_context(to)?;
    let answer: Answer = serde_json::from_str(&head).with_context(to)?;
    let (mut out, mut err) = (vec![0; answer.out], vec![0; answer.err]);
    reader.read_exact(&mut out).with_context(to)?;
    reader.read_exact(&mut err).with_context(to)?;
    if answer.status != 0 {
        bail!(
            "`{}` on {}: status {}: {}",
            command.join(" "),
            node.name(),
            answer.status,
            String::from_utf8_lossy(&err)
        );
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
