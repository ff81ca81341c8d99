//! What can be said on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::error::EXIT_CODES;
use crate::csi::server::Endpoint;
use crate::ids::{HiddenUuid, VgName};
use crate::units::Bytes;
use crate::volume::tune::WriteMostly;

/// Mirrored node-local volumes whose snapshots are tracked splits of one raid1 image.
///
/// A pool is an LVM2 volume group and a volume a raid1 LV in it: LVM2's own tools see and can use all that is made here.
#[derive(Debug, Parser)]
#[command(name = "splitmirror", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Of the machine.
    #[command(flatten)]
    pub host: HostArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve CSI on a unix socket for one pool, without Kubernetes
    ///
    /// All that must be remembered is in the volume group. What is logged is set with SPLITMIRROR_LOG, such as
    /// "info,splitmirror=debug".
    Standalone(StandaloneArgs),
    /// Serve CSI's Controller service to the sidecars: custom resources tell the nodes what to do
    #[cfg(feature = "kubernetes")]
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`
    #[cfg(feature = "kubernetes")]
    Crds,
    /// Serve CSI's Node service to kubelet, and carry out what the custom resources of this node ask for
    #[cfg(feature = "kubernetes")]
    Node(NodeArgs),
    /// Make, change and show pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Show and change volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Show snapshots
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// Of the machine, the same for all commands.
#[derive(Clone, Debug, Args)]
pub struct HostArgs {
    /// Where LVM2 keeps its lock files [default: /run/lock/lvm]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Machine")]
    pub lock_dir: Option<PathBuf>,
    /// How the host's LVM2 forms the device-mapper uuids of hidden LVs: bare up to 2.03.35, real from 2.03.36 on
    #[arg(long, global = true, value_enum, default_value_t = Suffix::Bare, help_heading = "Machine")]
    pub hidden_uuid: Suffix,
    /// The host's LVM2 system id, when it has one
    #[arg(long, global = true, value_name = "ID", help_heading = "Machine")]
    pub system_id: Option<String>,
}

/// How device-mapper uuids of hidden LVs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suffix {
    /// No suffix.
    Bare,
    /// `-real`.
    Real,
}

impl HostArgs {
    /// How device-mapper uuids of hidden LVs end.
    #[must_use]
    pub fn hidden_uuid(&self) -> HiddenUuid {
        match self.hidden_uuid {
            Suffix::Bare => HiddenUuid::Bare,
            Suffix::Real => HiddenUuid::Real,
        }
    }
}

/// Of `standalone`.
#[derive(Debug, Args)]
pub struct StandaloneArgs {
    /// The socket to serve on, such as unix:///run/splitmirror/csi.sock
    #[arg(long)]
    pub endpoint: Endpoint,
    /// The volume group to serve
    #[arg(long, value_name = "VG")]
    pub pool: VgName,
    /// The node's name, as the orchestrator knows it
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub node_id: String,
    /// Where to show /metrics and /healthz, such as 127.0.0.1:9809
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// Of `node`.
#[cfg(feature = "kubernetes")]
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The socket to serve on, such as unix:///csi/csi.sock
    #[arg(long)]
    pub endpoint: Endpoint,
    /// The node's name, as Kubernetes knows it
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub node_id: String,
    /// A JSON file of pools: [{"volumeGroup", "devices", "nodes", "wipe"}]
    #[arg(long, value_name = "FILE")]
    pub pools: Option<PathBuf>,
    /// Where to show /metrics and /healthz, such as 0.0.0.0:9809
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Whom to tell the blocks of snapshots
    #[command(flatten)]
    pub tell: Option<TellArgs>,
    /// How to reach the API server [default: as any pod does]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Of `node`, all of them or none.
#[cfg(feature = "kubernetes")]
#[derive(Debug, Args)]
pub struct TellArgs {
    /// Tell the controller the blocks of snapshots, and listen for it on this address, which is the pod's
    #[arg(long, value_name = "ADDRESS", required = false, requires_all = ["blocks_port", "controller_user"])]
    pub blocks_ip: IpAddr,
    /// The port to listen on for the controller
    #[arg(long, value_name = "PORT", required = false, requires = "blocks_ip")]
    pub blocks_port: u16,
    /// The controller's user, such as system:serviceaccount:splitmirror:splitmirror-controller
    #[arg(long, value_name = "USER", required = false, requires = "blocks_ip")]
    pub controller_user: String,
}

/// Of `controller`.
#[cfg(feature = "kubernetes")]
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The socket to serve on, such as unix:///csi/csi.sock
    #[arg(long)]
    pub endpoint: Endpoint,
    /// Where to show /metrics and /healthz, such as 0.0.0.0:9809
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// How the API server is reached; in a pod it is known
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How long a call waits for a node; a little less than the sidecars' own --timeout
    #[arg(long, value_name = "SECONDS", default_value_t = 110, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Serve the blocks of snapshots, which the nodes' agents are asked for with the token in this file
    #[arg(long, value_name = "FILE")]
    pub agent_token: Option<PathBuf>,
}

/// What the CSI specification allows for a node id that is also a topology value.
fn node_name(name: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    if name.len() <= 63 && name.bytes().all(plain) && ends(name.bytes().next()) && ends(name.bytes().last()) {
        return Ok(name.to_owned());
    }
    Err("a node's name has 1 to 63 letters, digits and - _ . and begins and ends with a letter or digit"
        .to_owned())
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Which pool.
#[derive(Clone, Debug, Args)]
pub struct PoolChoice {
    /// The volume group; needed when there are several
    #[arg(long, value_name = "VG")]
    pub pool: Option<VgName>,
}

/// Of `pool`.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Make a pool of disks
    ///
    /// A disk that carries anything (a file system, a partition table, another volume group) is refused unless it is
    /// named with --wipe-signatures.
    Create {
        /// The new volume group's name
        name: VgName,
        /// Its disks: at least as many as volumes have images
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
        /// Size of one extent: a power of two
        #[arg(long, value_name = "SIZE", default_value = "4Mi")]
        extent_size: Bytes,
        /// A disk whose old contents may be lost; may be given more than once
        #[arg(long, value_name = "DEVICE")]
        wipe_signatures: Vec<PathBuf>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Add disks to a pool
    Extend {
        /// The volume group
        name: VgName,
        /// The disks
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
        /// A disk whose old contents may be lost; may be given more than once
        #[arg(long, value_name = "DEVICE")]
        wipe_signatures: Vec<PathBuf>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Take unused disks out of a pool
    Reduce {
        /// The volume group
        name: VgName,
        /// The disks
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show all pools
    List {
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one pool: its disks, and what fits
    Show {
        /// The volume group; may be left out when there is one only
        name: Option<VgName>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Of `volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Show all volumes
    List(ListArgs),
    /// Show one volume: its slots, what each does, and its snapshots
    Show(ShowArgs),
    /// Put a volume that nobody uses back to one of its snapshots, in place
    ///
    /// What was written since is lost; the snapshot stays. Only what has changed is copied. When it is cut short the
    /// volume cannot be used until it is repeated, or the server that serves the pool has finished it.
    Rollback(RollbackArgs),
    /// Change a volume while it is used: how many images it has, how fast they are copied, which are read from
    ///
    /// A new image is copied in the background, by the server that serves the pool. Images leave from the last one on; one
    /// that is a snapshot stays until that is deleted.
    Set(SetArgs),
    /// Make the last images of a volume a volume of their own, without a copy, while it is used
    ///
    /// They leave at one instant. The volume has so many images fewer from then on, and at least 2 must stay.
    Detach(DetachImagesArgs),
}

/// Of `volume detach`.
#[derive(Debug, Args)]
pub struct DetachImagesArgs {
    /// The volume: its id, or the name it was asked for by
    pub volume: String,
    /// What they become
    #[command(flatten)]
    pub new: NewVolumeArgs,
}

/// A volume that is made of images of another.
#[derive(Debug, Args)]
pub struct NewVolumeArgs {
    /// The new volume's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Copies of the data that it has, each on a disk of its own: at least 2
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub images: usize,
    /// Which pool
    #[command(flatten)]
    pub pool: PoolChoice,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Of `volume rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The volume: its id, or the name it was asked for by
    pub volume: String,
    /// The snapshot of it: its id, or the name it was asked for by
    #[arg(long, value_name = "SNAPSHOT")]
    pub to: String,
    /// Which pool
    #[command(flatten)]
    pub pool: PoolChoice,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Of `volume set`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true, id = "what", args = ["images", "min_recovery_rate", "max_recovery_rate", "write_mostly", "region_size"])]
pub struct SetArgs {
    /// The volume: its id, or the name it was asked for by
    pub volume: String,
    /// Copies of the data, each on a disk of its own: 1 to 10
    #[arg(long, value_name = "N")]
    pub images: Option<usize>,
    /// KiB/s per disk below which a resync is never throttled; 0 leaves it to the kernel
    #[arg(long, value_name = "KIB/S")]
    pub min_recovery_rate: Option<u64>,
    /// KiB/s per disk to which a resync is throttled; 0 leaves it to the kernel
    #[arg(long, value_name = "KIB/S")]
    pub max_recovery_rate: Option<u64>,
    /// Images that are read from only when no other can be: their slots, `rotational` for those on disks that seek, or `none`
    #[arg(long, value_name = "SLOT,…|rotational|none")]
    pub write_mostly: Option<WriteMostly>,
    /// Granularity of the bitmap that tracks changes: a power of two. Not while the volume has snapshots
    #[arg(long, value_name = "SIZE")]
    pub region_size: Option<Bytes>,
    /// Which pool
    #[command(flatten)]
    pub pool: PoolChoice,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Of `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Show all snapshots
    List(ListArgs),
    /// Show one snapshot
    Show(ShowArgs),
    /// Tell which blocks of a snapshot hold anything, or differ from those of another one
    Blocks(BlocksArgs),
    /// Make a snapshot's image a volume of its own, without a copy: the snapshot is gone then
    ///
    /// The volume that it was of gets another image in its place, and the new one its other images, copied in the background
    /// by the server that serves the pool, as far as there is room.
    Detach(DetachArgs),
}

/// Of `snapshot detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The snapshot: its id, or the name it was asked for by
    pub id: String,
    /// What it becomes, of at most as many images as its volume has
    #[command(flatten)]
    pub new: NewVolumeArgs,
}

/// Of `snapshot blocks`.
#[derive(Debug, Args)]
pub struct BlocksArgs {
    /// The id, as `list` shows it, or the name it was asked for by
    pub id: String,
    /// Only what differs from this snapshot of the same volume
    #[arg(long, value_name = "SNAPSHOT")]
    pub since: Option<String>,
    /// Which pool
    #[command(flatten)]
    pub pool: PoolChoice,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which pool
    #[command(flatten)]
    pub pool: PoolChoice,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
    /// Go on showing it while an image is being copied
    #[arg(short, long)]
    pub watch: bool,
}

/// Of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The id, as `list` shows it, or the name it was asked for by
    pub id: String,
    /// All that lists have
    #[command(flatten)]
    pub list: ListArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_of_nodes_are_label_values() {
        for good in ["a", "node-1.example_x", &"x".repeat(63)] {
            assert!(node_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "ü", &"x".repeat(64)] {
            assert!(node_name(bad).is_err(), "{bad}");
        }
    }
}
