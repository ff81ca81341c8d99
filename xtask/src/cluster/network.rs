//! The bed's networks ([`super::plan`]), in the network namespace that we are in.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::plan::{BRIDGE, CONTROL_PLANE, NodeId, ORDERS, ORDERS_BRIDGE, SERVICE};

/// Makes the bridges and a pair of tap devices for each node.
pub fn make(nodes: u8) -> Result<()> {
    let mut lines = vec!["link set lo up".to_owned(), format!("addr add {SERVICE}/32 dev lo")];
    for (bridge, address) in [(BRIDGE, CONTROL_PLANE), (ORDERS_BRIDGE, ORDERS)] {
        lines.push(format!("link add {bridge} type bridge"));
        lines.push(format!("addr add {address}/24 dev {bridge}"));
        lines.push(format!("link set {bridge} up"));
    }
    for node in NodeId::first(nodes) {
        for (tap, bridge) in [(node.tap(), BRIDGE), (node.orders_tap(), ORDERS_BRIDGE)] {
            lines.push(format!("tuntap add dev {tap} mode tap"));
            lines.push(format!("link set {tap} master {bridge} up"));
        }
        lines.push(format!("route add {} via {}", node.pods(), node.address()));
    }
    ip(&lines)
}

/// Cuts a node from all others and from the control plane. Never by `down`: the guest's interface would not come back.
pub fn cut(node: NodeId) -> Result<()> {
    ip(&[format!("link set {} nomaster", node.tap())])
}

/// Undoes [`cut`]; harmless when nothing was cut.
pub fn heal(node: NodeId) -> Result<()> {
    ip(&[format!("link set {} master {BRIDGE}", node.tap())])
}

/// Has `ip` do all of this, in one process.
pub fn ip(lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting ip (Debian package iproute2)")?;
    let text = lines.join("\n") + "\n";
    child.stdin.take().context("no standard input")?.write_all(text.as_bytes()).context("writing to ip")?;
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
