//! Metrics for Prometheus: operations as they end, and the state of volumes as a scrape finds it.
//!
//! Operations are counted here; everything about volumes, slots and pools is read afresh for each scrape
//! ([`Observation`]), so that a series ends when its volume does and a number is never older than its scrape.
//! All names begin with `splitmirror_`. Labels with volume ids are bounded by what one node holds.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::ids::VgName;
use crate::report::Class;
use crate::volume::info::{PoolInfo, SlotState, VolumeInfo};

/// Upper bounds of the latency histogram, in seconds: a split is milliseconds, a mkfs seconds.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// All states a slot can have, so that every one has a series.
const SLOT_STATES: [SlotState; 7] = [
    SlotState::InSync,
    SlotState::Split,
    SlotState::Merging,
    SlotState::Rebuilding,
    SlotState::Failed,
    SlotState::Missing,
    SlotState::Inactive,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpName {
    op: &'static str,
}

/// Operations that have ended, by name and error class (`ok` when there was none). Clones count together.
#[derive(Clone, Debug)]
pub struct Operations {
    total: Family<OpLabels, Counter>,
    seconds: Family<OpName, Histogram, fn() -> Histogram>,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            total: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS.iter().copied())),
        }
    }
}

impl Operations {
    /// Counts an operation that has ended.
    pub fn ended(&self, op: &'static str, error: Option<Class>, time: Duration) {
        let class = error.map_or("ok", Class::as_str);
        self.total.get_or_create(&OpLabels { op, class }).inc();
        self.seconds.get_or_create(&OpName { op }).observe(time.as_secs_f64());
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("operations", "Operations ended, by error class", self.total.clone());
        registry.register_with_unit(
            "operation_duration",
            "How long operations took",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
    class: &'static str,
}

/// Requests to the API server that have ended, watches not counted. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    total: Family<VerbLabels, Counter>,
}

impl Requests {
    /// Counts a request that has ended.
    pub fn ended(&self, verb: &'static str, error: Option<Class>) {
        let class = error.map_or("ok", Class::as_str);
        self.total.get_or_create(&VerbLabels { verb, class }).inc();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

/// What a controller knows of one kind of objects.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    /// The kind.
    pub kind: &'static str,
    /// How many there are.
    pub count: usize,
    /// How often all of them were listed.
    pub lists: u64,
}

/// The text of one scrape of a controller.
#[must_use]
pub fn render_controller(operations: &Operations, requests: &Requests, objects: &[Objects]) -> String {
    let mut registry = Registry::with_prefix("splitmirror");
    operations.register(&mut registry);
    registry.register(
        "api_requests",
        "Requests to the API server, by error class; watches are not counted",
        requests.total.clone(),
    );
    let (counts, lists): (Gauges<OfKind>, Family<OfKind, Counter>) = Default::default();
    for Objects { kind, count, lists: listed } in objects {
        counts.get_or_create(&OfKind { kind }).set(gauge(u64::try_from(*count).unwrap_or(u64::MAX)));
        lists.get_or_create(&OfKind { kind }).inc_by(*listed);
    }
    registry.register("objects", "Objects that are known", counts);
    registry.register("object_lists", "Times that all objects of a kind were listed", lists);
    text(&registry)
}

/// What a scrape finds of a pool.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The pool.
    pub pool: PoolInfo,
    /// Its volumes.
    pub volumes: Vec<VolumeInfo>,
}

/// The text of one scrape: each pool, and what was found of it. `splitmirror_pool_readable` is 0 for one that could not be
/// read.
#[must_use]
pub fn render(operations: &Operations, pools: &[(VgName, Option<Observation>)]) -> String {
    let mut registry = Registry::with_prefix("splitmirror");
    operations.register(&mut registry);
    let readable: Family<OfPool, Gauge> = Family::default();
    for (pool, found) in pools {
        readable.get_or_create(&OfPool { pool: pool.to_string() }).set(i64::from(found.is_some()));
    }
    registry.register("pool_readable", "Whether a pool's state could be read for this scrape", readable);
    let found: Vec<&Observation> = pools.iter().filter_map(|(_, found)| found.as_ref()).collect();
    observe_pools(&mut registry, &found);
    observe_volumes(&mut registry, &found);
    observe_snapshots(&mut registry, &found);
    text(&registry)
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail; were the encoder to refuse a metric, the end mark would be missing and the
    // scrape be counted as failed.
    if let Err(error) = encode_registry(&mut text, registry).and_then(|()| encode_eof(&mut text)) {
        tracing::error!("metrics could not be encoded: {error}");
    }
    text
}

/// A gauge of bytes or counts: `u64` as `f64`, exact up to 2^53.
fn gauge(value: u64) -> f64 {
    // Through the upper and lower halves, which f64 holds exactly.
    let half = |bits: u64| f64::from(u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX));
    half(value >> 32) * 4_294_967_296.0 + half(value)
}

type Gauges<L> = Family<L, Gauge<f64, std::sync::atomic::AtomicU64>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolDevice {
    pool: String,
    device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVolume {
    pool: String,
    volume: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSlot {
    pool: String,
    volume: String,
    slot: usize,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSnapshot {
    pool: String,
    volume: String,
    snapshot: String,
    slot: usize,
}

fn observe_pools(registry: &mut Registry, found: &[&Observation]) {
    let (size, free, missing): (Gauges<PoolDevice>, Gauges<PoolDevice>, Gauges<PoolDevice>) =
        Default::default();
    let problems: Gauges<OfPool> = Family::default();
    for Observation { pool, .. } in found {
        for disk in &pool.disks {
            let of = PoolDevice { pool: pool.name.to_string(), device: disk.device.clone() };
            size.get_or_create(&of).set(gauge(disk.size.0));
            free.get_or_create(&of).set(gauge(disk.free.0));
            missing.get_or_create(&of).set(f64::from(u8::from(disk.missing)));
        }
        problems.get_or_create(&OfPool { pool: pool.name.to_string() }).set(count(pool.problems.len()));
    }
    registry.register_with_unit("pool_device_size", "Space for extents on a disk", Unit::Bytes, size);
    registry.register_with_unit("pool_device_free", "Space in free extents on a disk", Unit::Bytes, free);
    registry.register("pool_device_missing", "Whether a disk of the pool is not there", missing);
    registry.register("pool_problems", "What is not as it should be with a pool", problems);
}

fn count(number: usize) -> f64 {
    gauge(u64::try_from(number).unwrap_or(u64::MAX))
}

fn observe_volumes(registry: &mut Registry, found: &[&Observation]) {
    let [size, resync, ratio, problems, unfilled]: [Gauges<OfVolume>; 5] = Default::default();
    let slots: Gauges<OfSlot> = Family::default();
    for volume in found.iter().flat_map(|found| &found.volumes) {
        let (pool, id) = (volume.pool.to_string(), volume.id.to_string());
        let of = OfVolume { pool: pool.clone(), volume: id.clone() };
        size.get_or_create(&of).set(gauge(volume.size.0));
        resync.get_or_create(&of).set(gauge(volume.to_resync.0));
        ratio.get_or_create(&of).set(volume.sync_percent / 100.0);
        problems.get_or_create(&of).set(count(volume.problems.len()));
        let left = volume.filling.map_or(0, |filling| filling.total.0.saturating_sub(filling.done.0));
        unfilled.get_or_create(&of).set(gauge(left));
        for slot in &volume.slots {
            for state in SLOT_STATES {
                let (pool, volume, state_name) = (pool.clone(), id.clone(), format!("{state:?}"));
                let of = OfSlot { pool, volume, slot: slot.index, state: state_name };
                slots.get_or_create(&of).set(f64::from(u8::from(slot.state == state)));
            }
        }
    }
    registry.register_with_unit("volume_size", "Size of a volume", Unit::Bytes, size);
    registry.register_with_unit("volume_to_resync", "What a resync has still to copy", Unit::Bytes, resync);
    registry.register_with_unit("volume_sync", "How far attached images are equal", Unit::Ratios, ratio);
    registry.register_with_unit(
        "volume_to_fill",
        "What a clone does not hold itself yet",
        Unit::Bytes,
        unfilled,
    );
    registry.register("volume_problems", "What is not as it should be with a volume", problems);
    registry.register("slot_state", "1 for the state that a slot is in", slots);
}

fn observe_snapshots(registry: &mut Registry, found: &[&Observation]) {
    let (changed, ready, views): (Gauges<OfSnapshot>, Gauges<OfSnapshot>, Gauges<OfSnapshot>) =
        Default::default();
    for volume in found.iter().flat_map(|found| &found.volumes) {
        for snapshot in &volume.snapshots {
            let of = OfSnapshot {
                pool: volume.pool.to_string(),
                volume: snapshot.volume.to_string(),
                snapshot: snapshot.id.clone(),
                slot: snapshot.slot,
            };
            changed.get_or_create(&of).set(gauge(snapshot.changed.0));
            ready.get_or_create(&of).set(f64::from(u8::from(snapshot.ready)));
            views.get_or_create(&of).set(count(snapshot.views.len()));
        }
    }
    registry.register_with_unit("snapshot_changed", "What its merge would copy", Unit::Bytes, changed);
    registry.register("snapshot_ready", "Whether a snapshot can be used", ready);
    registry.register("snapshot_views", "Read-only volumes that show a snapshot", views);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use crate::volume::info::{DiskInfo, SlotInfo, SnapshotInfo};

    fn observation() -> Observation {
        let volume = "vol".parse().expect("legal");
        let snapshot = SnapshotInfo {
            id: "vol@s".into(),
            name: None,
            volume: "vol".parse().expect("legal"),
            slot: 1,
            cut_unix_nanos: None,
            size: Bytes::mib(64),
            min_in_sync: 1,
            ready: true,
            changed: Bytes::mib(2),
            group: None,
            full_merge: None,
            views: vec!["view".into()],
            device: None,
        };
        let slot = |index, state| SlotInfo {
            index,
            state,
            device: format!("/dev/sd{index}"),
            write_mostly: false,
            rotational: false,
            grown: None,
            snapshot: None,
            lent: None,
            lost: false,
        };
        let volume = VolumeInfo {
            id: volume,
            name: None,
            pool: "vg".parse().expect("legal"),
            size: Bytes::mib(64),
            region_size: Bytes::mib(2),
            min_recovery_rate: None,
            max_recovery_rate: None,
            device: None,
            slots: vec![slot(0, SlotState::InSync), slot(1, SlotState::Split)],
            sync_percent: 50.0,
            to_resync: Bytes::ZERO,
            snapshots: vec![snapshot],
            rollback: None,
            rolled_back_for: None,
            creating: false,
            clone_of: None,
            detached: None,
            filling: None,
            problems: Vec::new(),
        };
        let disk = DiskInfo {
            device: "/dev/sd0".into(),
            id: "x".into(),
            size: Bytes::gib(3),
            free: Bytes::gib(5),
            missing: false,
        };
        let pool = PoolInfo {
            name: "vg".parse().expect("legal"),
            id: "y".into(),
            seqno: 1,
            extent_size: Bytes::mib(4),
            disks: vec![disk],
            volumes: 1,
            largest: Vec::new(),
            problems: Vec::new(),
        };
        Observation { pool, volumes: vec![volume] }
    }

    #[test]
    fn a_scrape_shows_operations_and_every_volume() {
        let operations = Operations::default();
        operations.ended("CreateVolume", None, Duration::from_millis(3));
        operations.ended("CreateVolume", Some(Class::Exhausted), Duration::from_millis(3));
        let text = render(&operations, &[("vg".parse().expect("legal"), Some(observation()))]);
        for line in [
            "splitmirror_operations_total{op=\"CreateVolume\",class=\"ok\"} 1",
            "splitmirror_operations_total{op=\"CreateVolume\",class=\"exhausted\"} 1",
            "splitmirror_operation_duration_seconds_count{op=\"CreateVolume\"} 2",
            "splitmirror_pool_readable{pool=\"vg\"} 1",
            "splitmirror_pool_device_free_bytes{pool=\"vg\",device=\"/dev/sd0\"} 5368709120.0",
            "splitmirror_volume_sync_ratios{pool=\"vg\",volume=\"vol\"} 0.5",
            "splitmirror_volume_to_fill_bytes{pool=\"vg\",volume=\"vol\"} 0.0",
            "splitmirror_slot_state{pool=\"vg\",volume=\"vol\",slot=\"1\",state=\"Split\"} 1.0",
            "splitmirror_slot_state{pool=\"vg\",volume=\"vol\",slot=\"1\",state=\"InSync\"} 0.0",
            "splitmirror_snapshot_changed_bytes{pool=\"vg\",volume=\"vol\",snapshot=\"vol@s\",slot=\"1\"} 2097152.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_controller_shows_calls_requests_and_objects() {
        let requests = Requests::default();
        requests.ended("create", None);
        requests.ended("get", Some(Class::Transient));
        let objects = [Objects { kind: "MirrorVolume", count: 3, lists: 2 }];
        let text = render_controller(&Operations::default(), &requests, &objects);
        for line in [
            "splitmirror_api_requests_total{verb=\"create\",class=\"ok\"} 1",
            "splitmirror_api_requests_total{verb=\"get\",class=\"transient\"} 1",
            "splitmirror_objects{kind=\"MirrorVolume\"} 3.0",
            "splitmirror_object_lists_total{kind=\"MirrorVolume\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn an_unreadable_pool_is_told() {
        let text = render(&Operations::default(), &[("vg".parse().expect("legal"), None)]);
        assert!(text.contains("splitmirror_pool_readable{pool=\"vg\"} 0"));
    }

    #[test]
    fn gauges_are_exact() {
        assert_eq!(gauge(0), 0.0);
        assert_eq!(gauge((1 << 53) - 1), 9_007_199_254_740_991.0);
    }
}
