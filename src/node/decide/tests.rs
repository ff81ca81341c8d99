//! Tables of what is decided: an object, what is on the disks, what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::api::conditions::{self, Type};
use crate::api::volume::{Source, VolumePhase};
use crate::api::{MirrorSnapshot, MirrorVolume};
use crate::ids::{LvName, VgName};
use crate::node::decide::{Facts, PoolState, Refused, Work, import, pool, snapshot, volume};
use crate::node::look::PoolSeen;
use crate::node::wish::PoolWish;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::info::{
    Detached, PoolInfo, Progress, RollbackInfo, SlotInfo, SlotState, SnapshotInfo, ViewInfo, VolumeInfo,
};
use crate::volume::spec::Origin;
use crate::volume::{clone, key};

/// What there is: a node `n` with a pool `vg`.
struct World {
    pools: BTreeMap<VgName, PoolState>,
    volumes: BTreeMap<String, Arc<MirrorVolume>>,
    snapshots: BTreeMap<String, Arc<MirrorSnapshot>>,
    now: Time,
}

impl World {
    fn new() -> Self {
        let info = PoolInfo {
            name: vg(),
            id: "id".into(),
            seqno: 1,
            extent_size: Bytes::mib(4),
            disks: Vec::new(),
            volumes: 0,
            largest: Vec::new(),
            problems: Vec::new(),
        };
        let seen = PoolSeen {
            info,
            volumes: BTreeMap::new(),
            views: BTreeMap::new(),
            staged: std::collections::BTreeSet::new(),
        };
        let state = PoolState { seen: Some(Arc::new(seen)), ..PoolState::default() };
        Self {
            pools: BTreeMap::from([(vg(), state)]),
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            now: Time(Timestamp::from_second(1_700_000_000).expect("in range")),
        }
    }

    fn seen(&mut self) -> &mut PoolSeen {
        let state = self.pools.get_mut(&vg()).expect("there");
        Arc::make_mut(state.seen.as_mut().expect("open"))
    }

    /// With this on the disks.
    fn on_disk(mut self, volume: VolumeInfo) -> Self {
        self.seen().volumes.insert(volume.id.clone(), volume);
        self
    }

    fn with(mut self, object: &MirrorVolume) -> Self {
        self.volumes.insert(object.metadata.name.clone().expect("named"), Arc::new(object.clone()));
        self
    }

    fn and(mut self, object: &MirrorSnapshot) -> Self {
        self.snapshots.insert(object.metadata.name.clone().expect("named"), Arc::new(object.clone()));
        self
    }

    fn facts(&self) -> Facts<'_> {
        static NO_POOLS: BTreeMap<String, Arc<crate::api::MirrorPool>> = BTreeMap::new();
        Facts {
            node: "n",
            pools: &self.pools,
            pool_objects: &NO_POOLS,
            volumes: &self.volumes,
            snapshots: &self.snapshots,
            agent: None,
            now: &self.now,
        }
    }

    /// What becomes of a volume, in one line.
    fn of_volume(&self, object: &MirrorVolume, refused: Option<&Refused>) -> String {
        let verdict = volume::decide(object, refused, &self.facts());
        let told = verdict.status.map(|status| format!("{:?} {}", status.phase, told(&status.conditions)));
        line(verdict.work, told, verdict.gone)
    }

    /// What becomes of a snapshot, in one line.
    fn of_snapshot(&self, object: &MirrorSnapshot, refused: Option<&Refused>) -> String {
        let verdict = snapshot::decide(object, refused, &self.facts());
        let told = verdict.status.map(|status| format!("{:?} {}", status.phase, told(&status.conditions)));
        line(verdict.work, told, verdict.gone)
    }
}

fn told(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> String {
    let of = |of: Type| {
        let condition = conditions::find(conditions, of)?;
        Some(format!("{}={}", condition.type_, condition.reason))
    };
    let all = [Type::Ready, Type::Degraded, Type::Resized, Type::Modified, Type::Deleted]
        .into_iter()
        .filter_map(of);
    all.collect::<Vec<_>>().join(" ")
}

fn line(work: Option<Work>, told: Option<String>, gone: bool) -> String {
    let work = work.map(|work| {
        let text = format!("{work:?}");
        format!("do {}", text.split([' ', '(']).next().unwrap_or_default())
    });
    let parts = [work, told, gone.then(|| "gone".to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn vg() -> VgName {
    "vg".parse().expect("legal")
}

fn lv(name: &str) -> LvName {
    name.parse().expect("legal")
}

/// An object of a volume `v` of three images, with fields changed.
fn object(patch: &Value) -> MirrorVolume {
    let mut object = json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorVolume",
        "metadata": {"name": "v", "uid": "u", "generation": 1},
        "spec": {"node": "n", "pool": "vg", "lv": "v", "name": "v", "size": "8Mi", "images": 3, "regionSize": "2Mi"},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).expect("an object")
}

fn snapshot_object(patch: &Value) -> MirrorSnapshot {
    let mut object = json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorSnapshot",
        "metadata": {"name": "s", "uid": "u", "generation": 1},
        "spec": {"node": "n", "pool": "vg", "volume": "v", "key": "s", "name": "s", "minInSync": 1},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).expect("an object")
}

fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        match target.get_mut(key).filter(|field| field.is_object()) {
            Some(field) => merge(field, value),
            None => target[key] = value.clone(),
        }
    }
    if let Some(fields) = target.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}

/// The volume `v` on the disks, with slots in these states.
fn info(states: &[SlotState]) -> VolumeInfo {
    let slot = |(index, state): (usize, &SlotState)| SlotInfo {
        index,
        state: *state,
        device: format!("/dev/sd{index}"),
        write_mostly: false,
        rotational: false,
        grown: None,
        snapshot: (*state == SlotState::Split).then(|| "v@s".to_owned()),
        lent: None,
        lost: false,
    };
    let split = |(index, _): (usize, &SlotState)| SnapshotInfo {
        id: "v@s".into(),
        name: Some("s".into()),
        volume: "v".parse().expect("legal"),
        slot: index,
        cut_unix_nanos: Some(1_700_000_000_000_000_000),
        size: Bytes::mib(8),
        min_in_sync: 1,
        ready: true,
        changed: Bytes::ZERO,
        group: None,
        full_merge: None,
        views: Vec::new(),
        device: Some("/dev/dm-9".into()),
    };
    VolumeInfo {
        id: "v".parse().expect("legal"),
        name: Some("v".into()),
        pool: vg(),
        size: Bytes::mib(8),
        region_size: Bytes::mib(2),
        min_recovery_rate: None,
        max_recovery_rate: None,
        device: Some("/dev/dm-6".into()),
        slots: states.iter().enumerate().map(slot).collect(),
        sync_percent: 99.9,
        to_resync: Bytes::ZERO,
        snapshots: states
            .iter()
            .enumerate()
            .filter(|(_, state)| **state == SlotState::Split)
            .map(split)
            .collect(),
        rollback: None,
        rolled_back_for: None,
        creating: false,
        clone_of: None,
        detached: None,
        filling: None,
        problems: Vec::new(),
    }
}

const WHOLE: [SlotState; 3] = [SlotState::InSync; 3];
const SPLIT: [SlotState; 3] = [SlotState::InSync, SlotState::InSync, SlotState::Split];
const MERGING: [SlotState; 3] = [SlotState::InSync, SlotState::InSync, SlotState::Merging];

#[test]
fn volumes_are_made_told_grown_and_removed() {
    let made = json!({"status": {"phase": "Ready", "size": "8Mi"}});
    let deleted = json!({"spec": {"delete": true}});
    let no_room = Refused { class: Class::Exhausted, message: "no room".into() };
    let device = |device: Option<&str>| VolumeInfo { device: device.map(str::to_owned), ..info(&WHOLE) };
    let named = |name: Option<&str>| VolumeInfo { name: name.map(str::to_owned), ..info(&WHOLE) };
    for (patch, disk, refused, expected) in [
        (json!({}), None, None, "do CreateVolume"),
        (json!({}), None, Some(&no_room), "do CreateVolume; Pending Ready=Exhausted"),
        (json!({}), Some(VolumeInfo { creating: true, ..info(&WHOLE) }), None, "do CreateVolume"),
        (json!({}), Some(info(&WHOLE)), None, "Ready Ready=Active Degraded=Whole"),
        (made.clone(), None, None, "Failed Ready=NotFound"),
        (json!({}), Some(device(None)), None, "do Activate; Pending Ready=Inactive Degraded=Whole"),
        (
            json!({"spec": {"size": "12Mi"}}),
            Some(info(&WHOLE)),
            None,
            "do Expand; Ready Ready=Active Degraded=Whole",
        ),
        (
            json!({"spec": {"size": "12Mi"}}),
            Some(info(&WHOLE)),
            Some(&no_room),
            "do Expand; Ready Ready=Active Degraded=Whole Resized=Exhausted",
        ),
        (json!({"spec": {"size": "4Mi"}}), Some(info(&WHOLE)), None, "Ready Ready=Active Degraded=Whole"),
        (json!({"spec": {"images": 2}}), Some(info(&WHOLE)), None, "Failed Ready=Exists Degraded=Whole"),
        (
            json!({"spec": {"images": 4}, "status": {"phase": "Ready", "size": "8Mi"}}),
            Some(info(&WHOLE)),
            None,
            "do Modify; Ready Ready=Active Degraded=Whole Modified=Changing",
        ),
        (
            json!({"spec": {"images": 2}, "status": {"phase": "Failed", "size": "8Mi", "conditions": [{
                "type": "Ready", "status": "False", "reason": "Exists", "message": "",
                "lastTransitionTime": "2023-01-01T00:00:00Z",
            }]}}),
            Some(info(&WHOLE)),
            None,
            "Failed Ready=Exists Degraded=Whole",
        ),
        (
            json!({"spec": {"minRecoveryRate": 9}, "status": {"phase": "Ready", "size": "8Mi"}}),
            Some(info(&WHOLE)),
            Some(&no_room),
            "do Modify; Ready Ready=Active Degraded=Whole Modified=Exhausted",
        ),
        (
            json!({"spec": {"writeMostly": "rotational"}, "status": {"phase": "Ready", "size": "8Mi"}}),
            Some(info(&WHOLE)),
            None,
            "Ready Ready=Active Degraded=Whole",
        ),
        (
            json!({"spec": {"regionSize": "4Mi"}}),
            Some(info(&WHOLE)),
            None,
            "Failed Ready=Exists Degraded=Whole",
        ),
        (
            json!({"spec": {"regionSize": "4Mi"}, "status": {"phase": "Ready", "size": "8Mi"}}),
            Some(info(&WHOLE)),
            None,
            "do Modify; Ready Ready=Active Degraded=Whole Modified=Changing",
        ),
        (json!({}), Some(named(None)), None, "Failed Ready=Exists"),
        (json!({}), Some(named(Some("other"))), None, "Failed Ready=Exists"),
        (json!({"spec": {"name": "w"}}), None, None, "Failed Ready=Invalid"),
        (json!({"spec": {"lv": "w"}}), None, None, "Failed Ready=Invalid"),
        (
            json!({"spec": {"lv": null, "images": null, "regionSize": null}}),
            None,
            None,
            "Failed Ready=Invalid",
        ),
        (json!({"spec": {"pool": "other"}}), None, None, "Pending Ready=NotFound"),
        (deleted.clone(), None, None, "gone"),
        (deleted.clone(), Some(info(&WHOLE)), None, "do DeleteVolume"),
        (deleted.clone(), Some(info(&WHOLE)), Some(&no_room), "do DeleteVolume; Deleting Deleted=Exhausted"),
        (deleted.clone(), Some(named(Some("other"))), None, "gone"),
        (json!({"spec": {"delete": true, "pool": "other"}}), None, None, "Deleting Deleted=NotFound"),
    ] {
        let world = disk.clone().into_iter().fold(World::new(), World::on_disk);
        assert_eq!(world.of_volume(&object(&patch), refused), expected, "{patch} {disk:?}");
    }
}

/// The clone `c` of a source on the disks, so far filled.
fn clone_info(of: &str, filling: Option<Progress>) -> VolumeInfo {
    VolumeInfo {
        id: "c".parse().expect("legal"),
        name: Some("c".into()),
        clone_of: Some(of.into()),
        filling,
        ..info(&WHOLE)
    }
}

#[test]
fn clones_are_made_from_what_is_there_and_neither_changed_nor_robbed_of_it_until_they_are_filled() {
    let lent = key::snapshot_id(
        &"v".parse().expect("legal"),
        &key::of(&clone::lent_name(&"c".parse().expect("legal"))),
    );
    let some = Some(Progress { done: Bytes::mib(2), total: Bytes::mib(8) });
    let of = |source: Value, more: Value| {
        let mut patch =
            json!({"metadata": {"name": "c"}, "spec": {"lv": "c", "name": "c", "source": source}});
        merge(&mut patch, &more);
        patch
    };
    let (snapshot, volume) = (json!({"snapshot": "s"}), json!({"volume": "v"}));
    let larger = json!({"spec": {"size": "12Mi"}});
    for (patch, disk, expected) in [
        (of(snapshot.clone(), json!({})), None, "do Clone"),
        (of(volume.clone(), json!({})), None, "do Clone"),
        (of(json!({"snapshot": "t"}), json!({})), None, "Pending Ready=NotFound"),
        (of(json!({"volume": "w"}), json!({})), None, "Pending Ready=NotFound"),
        (
            of(snapshot.clone(), json!({})),
            Some(clone_info("v@s", some)),
            "Filling Ready=Active Degraded=Whole",
        ),
        (of(snapshot.clone(), json!({})), Some(clone_info("v@s", None)), "Ready Ready=Active Degraded=Whole"),
        (of(volume.clone(), json!({})), Some(clone_info(&lent, some)), "Filling Ready=Active Degraded=Whole"),
        (of(volume, json!({})), Some(clone_info("v@s", None)), "Failed Ready=Exists Degraded=Whole"),
        (
            of(snapshot.clone(), larger.clone()),
            Some(clone_info("v@s", some)),
            "Filling Ready=Active Degraded=Whole Resized=InProgress",
        ),
        (
            of(snapshot.clone(), larger),
            Some(clone_info("v@s", None)),
            "do Expand; Ready Ready=Active Degraded=Whole",
        ),
        (of(snapshot, json!({"spec": {"delete": true}})), Some(clone_info("v@s", some)), "do DeleteVolume"),
    ] {
        let world = disk.clone().into_iter().fold(World::new().on_disk(info(&SPLIT)), World::on_disk);
        let world = world.with(&object(&json!({}))).and(&snapshot_object(&json!({})));
        assert_eq!(world.of_volume(&object(&patch), None), expected, "{patch} {disk:?}");
    }
    let deleted = json!({"spec": {"delete": true}});
    for (filling, expected) in [(some, "Pending Deleted=InProgress"), (None, "do Merge")] {
        let world = World::new().on_disk(info(&SPLIT)).on_disk(clone_info("v@s", filling));
        let world = world.with(&object(&json!({})));
        assert_eq!(world.of_snapshot(&snapshot_object(&deleted), None), expected);
        let mut source = info(&SPLIT);
        source.snapshots.clear();
        source.slots[2].lent = Some("c".into());
        let world = World::new().on_disk(source).on_disk(clone_info(&lent, filling));
        let expected = if filling.is_some() { "Deleting Deleted=InProgress" } else { "do DeleteVolume" };
        assert_eq!(world.of_volume(&object(&deleted), None), expected);
    }
    let doomed = World::new().on_disk(info(&SPLIT)).with(&object(&json!({}))).and(&snapshot_object(&deleted));
    let young = |creating| VolumeInfo { creating, ..clone_info("v@s", some) };
    let asked = object(&of(json!({"snapshot": "s"}), json!({})));
    assert_eq!(doomed.of_volume(&asked, None), "Pending Ready=Precondition");
    assert_eq!(doomed.on_disk(young(true)).of_volume(&asked, None), "do Clone", "what was begun is ended");
}

/// The volume `c` that was the snapshot `s` of `v`, and `v` without it.
fn detached() -> [VolumeInfo; 2] {
    let was = Some(Detached { name: Some("s".into()) });
    let mut left = info(&[SlotState::InSync, SlotState::InSync, SlotState::Missing]);
    (left.slots[2].lost, left.slots[2].device) = (true, String::new());
    [VolumeInfo { detached: was, ..clone_info("v@s", None) }, left]
}

#[test]
fn a_snapshots_image_becomes_a_volume_and_the_snapshot_tells_so_before_anything_is_deleted() {
    let of = |source: Value| json!({"metadata": {"name": "c"}, "spec": {"lv": "c", "name": "c", "source": source}});
    let asked = object(&of(json!({"detached": "s"})));
    let deleted = json!({"spec": {"delete": true}});
    let with_delete = |mut patch: Value| {
        merge(&mut patch, &deleted);
        patch
    };
    let ready = json!({"status": {"phase": "Ready", "slot": 2, "size": "8Mi"}});
    let told = json!({"status": {"phase": "Detached", "detachedTo": "c", "size": "8Mi"}});

    let before = World::new().on_disk(info(&SPLIT)).with(&object(&json!({}))).with(&asked);
    assert_eq!(before.of_volume(&asked, None), "Pending Ready=NotFound");
    let before = before.and(&snapshot_object(&ready));
    assert_eq!(before.of_volume(&asked, None), "do Clone");
    let verdict = volume::decide(&asked, None, &before.facts());
    let Some(Work::Clone { origin: Origin::Image(image), .. }) = verdict.work else { panic!("{verdict:?}") };
    assert_eq!(image, "v@s");
    let doomed = before.and(&snapshot_object(&with_delete(ready.clone())));
    assert_eq!(doomed.of_volume(&asked, None), "Pending Ready=Precondition");

    let after =
        || detached().into_iter().fold(World::new(), World::on_disk).with(&object(&json!({}))).with(&asked);
    for (patch, expected) in [
        (ready.clone(), "Detached Ready=Detached"),
        (with_delete(ready.clone()), "Detached Ready=Detached"),
        (told.clone(), ""),
        (with_delete(told.clone()), "gone"),
        (
            json!({"spec": {"name": "t", "key": "s"}, "status": {"phase": "Ready", "slot": 2}}),
            "Failed Ready=Invalid",
        ),
    ] {
        let object = snapshot_object(&patch);
        assert_eq!(after().and(&object).of_snapshot(&object, None), expected, "{patch}");
    }
    // Whatever else is gone: the volume that it was of, what it has become, or its pool.
    assert_eq!(World::new().of_snapshot(&snapshot_object(&told), None), "");
    let lost = World { pools: BTreeMap::new(), ..World::new() };
    assert_eq!(lost.of_snapshot(&snapshot_object(&told), None), "");
    assert_eq!(lost.of_snapshot(&snapshot_object(&with_delete(told.clone())), None), "gone");

    for (snapshot, expected) in [
        (Some(&ready), "Deleting Deleted=InProgress"),
        (Some(&told), "do DeleteVolume"),
        (None, "do DeleteVolume"),
    ] {
        let world = snapshot.into_iter().fold(after(), |world, patch| world.and(&snapshot_object(patch)));
        for doomed in [object(&deleted), object(&with_delete(of(json!({"detached": "s"}))))] {
            assert_eq!(world.of_volume(&doomed, None), expected, "{snapshot:?}");
        }
    }
    let cut_again = World::new().on_disk(info(&SPLIT)).on_disk(detached()[0].clone());
    let cut_again = cut_again.with(&object(&json!({}))).and(&snapshot_object(&ready));
    assert_eq!(cut_again.of_snapshot(&snapshot_object(&ready), None), "Ready Ready=Split");
    let doomed = object(&with_delete(of(json!({"detached": "s"}))));
    assert_eq!(cut_again.of_volume(&doomed, None), "do DeleteVolume", "nobody waits for what is never told");
    let after = after().and(&snapshot_object(&told));
    assert_eq!(after.of_volume(&asked, None), "Ready Ready=Active Degraded=Whole");
    assert_eq!(
        after.of_volume(&object(&of(json!({"snapshot": "s"}))), None),
        "Failed Ready=Exists Degraded=Whole"
    );
    let status = volume::decide(&object(&json!({})), None, &after.facts()).status.expect("told");
    let why = conditions::find(&status.conditions, Type::Degraded).expect("judged");
    assert_eq!((why.status.as_str(), why.message.as_str()), ("True", "slot 2 has no image"));
}

#[test]
fn a_volume_that_was_a_snapshot_gets_an_object_and_the_snapshot_none() {
    let taken = import::Taken::default();
    let [new, left] = detached();
    let sources = |world: &World| -> Vec<Option<Source>> {
        assert_eq!(import::snapshots(&taken, &world.facts()).len(), 0);
        let missing = import::volumes(&taken, &world.facts());
        missing
            .into_iter()
            .filter(|object| object.name_any() == "c")
            .map(|object| object.spec.source)
            .collect()
    };
    let source = |name: &str| vec![Some(Source::Detached(name.to_owned()))];
    let world = World::new().on_disk(new.clone()).on_disk(left);
    assert_eq!(sources(&world), source("s"), "its own name is kept");
    let found = crate::api::names::found_snapshot("n", &vg(), &lv("v"), &lv("s"));
    let named = json!({"metadata": {"name": found}});
    let world = world.with(&object(&json!({}))).and(&snapshot_object(&named));
    assert_eq!(sources(&world), source(&found), "that of its object counts");
    let foreign = VolumeInfo { detached: Some(Detached { name: None }), ..new };
    assert_eq!(sources(&World::new().on_disk(foreign)), source(&found), "another tool had split it");
}

#[test]
fn a_volume_that_is_mounted_is_kept() {
    let mut world = World::new().on_disk(info(&WHOLE));
    world.seen().staged.insert("v".parse().expect("legal"));
    let deleted = object(&json!({"spec": {"delete": true}}));
    assert_eq!(world.of_volume(&deleted, None), "Deleting Deleted=Precondition");
}

#[test]
fn redundancy_is_lost_with_images_and_back_when_they_are_equal_but_a_merge_is_no_loss() {
    use SlotState::{Failed, InSync, Merging, Missing, Rebuilding};
    let was = |degraded: bool| {
        let status = if degraded { "True" } else { "False" };
        json!({"status": {"phase": "Ready", "conditions": [{
            "type": "Degraded", "status": status, "reason": "X", "message": "", "lastTransitionTime": "2023-01-01T00:00:00Z",
        }]}})
    };
    for (states, before, expected) in [
        (WHOLE, false, VolumePhase::Ready),
        (SPLIT, false, VolumePhase::Ready),
        ([InSync, InSync, Failed], false, VolumePhase::Degraded),
        ([InSync, Missing, InSync], false, VolumePhase::Degraded),
        ([InSync, Rebuilding, InSync], true, VolumePhase::Degraded),
        ([InSync, InSync, Merging], false, VolumePhase::Ready),
        ([InSync, InSync, Rebuilding], false, VolumePhase::Ready),
        (WHOLE, true, VolumePhase::Ready),
    ] {
        let world = World::new().on_disk(info(&states));
        let verdict = volume::decide(&object(&was(before)), None, &world.facts());
        let status = verdict.status.expect("told");
        assert_eq!(status.phase, expected, "{states:?} {before}");
        assert_eq!(status.sync.expect("told").get(), 99, "rounded down");
    }
}

#[test]
fn two_objects_are_never_one_volume() {
    let found = crate::api::names::found_volume("n", &vg(), &"v".parse().expect("legal"));
    let (first, second) = (object(&json!({})), object(&json!({"metadata": {"name": found}})));
    let world = World::new().on_disk(info(&WHOLE)).with(&first).with(&second);
    assert_eq!(world.of_volume(&first, None), "Ready Ready=Active Degraded=Whole");
    assert_eq!(world.of_volume(&second, None), "Failed Ready=Exists");
}

#[test]
fn snapshots_are_split_told_and_merged() {
    let made = json!({"status": {"phase": "Ready", "slot": 2}});
    let deleted = json!({"spec": {"delete": true}});
    let mut both = made.clone();
    merge(&mut both, &deleted);
    let none_spare = Refused { class: Class::Exhausted, message: "none".into() };
    let not_ready = || {
        let mut info = info(&SPLIT);
        info.snapshots[0].ready = false;
        info
    };
    let renamed = || {
        let mut info = info(&SPLIT);
        info.snapshots[0].name = Some("other".into());
        info
    };
    let shown = || {
        let mut info = info(&SPLIT);
        info.snapshots[0].views = vec!["w".into()];
        info
    };
    for (patch, disk, refused, expected) in [
        (json!({}), info(&WHOLE), None, "do Split"),
        (json!({}), info(&WHOLE), Some(&none_spare), "do Split; Failed Ready=Exhausted"),
        (json!({}), not_ready(), None, "do Split"),
        (json!({}), info(&SPLIT), None, "Ready Ready=Split"),
        (json!({}), renamed(), None, "Failed Ready=Exists"),
        (made.clone(), info(&WHOLE), None, "Failed Ready=NotFound"),
        (made.clone(), info(&MERGING), None, "Merging Ready=Merging"),
        (json!({}), info(&MERGING), None, "do Split"),
        (json!({"spec": {"key": "t"}}), info(&WHOLE), None, "Failed Ready=Invalid"),
        (json!({"spec": {"name": "t"}}), info(&WHOLE), None, "Failed Ready=Invalid"),
        (json!({"spec": {"volume": "w"}}), info(&WHOLE), None, "Pending Ready=NotFound"),
        (both.clone(), info(&SPLIT), None, "do Merge"),
        (both.clone(), info(&MERGING), None, "Merging Ready=Merging"),
        (both.clone(), info(&WHOLE), None, "gone"),
        (both.clone(), shown(), None, "Ready Deleted=Precondition"),
        (deleted.clone(), info(&WHOLE), None, "gone"),
        (deleted.clone(), info(&MERGING), None, "gone"),
        (deleted.clone(), renamed(), None, "gone"),
        (json!({"spec": {"volume": "w", "delete": true}}), info(&WHOLE), None, "gone"),
        (json!({"spec": {"volume": "w", "delete": true}}), info(&SPLIT), None, "Pending Deleted=NotFound"),
    ] {
        let world = World::new().on_disk(disk.clone()).with(&object(&json!({})));
        let what = format!("{patch} {:?}", disk.slots);
        assert_eq!(world.of_snapshot(&snapshot_object(&patch), refused), expected, "{what}");
    }
}

#[test]
fn no_snapshot_is_cut_of_a_volume_that_is_being_deleted() {
    let world = World::new().on_disk(info(&WHOLE)).with(&object(&json!({"spec": {"delete": true}})));
    assert_eq!(world.of_snapshot(&snapshot_object(&json!({})), None), "Pending Ready=Precondition");
}

#[test]
fn a_pool_is_opened_until_it_is_as_wished_and_closed_when_nobody_wishes_it() {
    let wish = PoolWish::existing(vg());
    let open = World::new().pools.remove(&vg()).expect("there");
    let trouble = Some(Refused { class: Class::Precondition, message: "in use".into() });
    let tried = PoolState { wish: Some(wish.clone()), tried: Some(wish.clone()), ..PoolState::default() };
    let seen = open.seen.clone();
    for (state, expected) in [
        (PoolState { wish: Some(wish.clone()), ..PoolState::default() }, Some(Work::OpenPool(wish.clone()))),
        (PoolState { trouble: trouble.clone(), ..tried.clone() }, Some(Work::OpenPool(wish.clone()))),
        (PoolState { seen: seen.clone(), ..tried.clone() }, None),
        (PoolState { seen: seen.clone(), trouble, ..tried }, Some(Work::OpenPool(wish))),
        (PoolState { seen, ..PoolState::default() }, Some(Work::ClosePool(vg()))),
        (PoolState::default(), None),
    ] {
        assert_eq!(pool::work(&state), expected, "{state:?}");
    }
}

#[test]
fn what_has_no_object_gets_one_when_what_it_is_of_has_one() {
    let mut world = World::new().on_disk(info(&SPLIT));
    let view = ViewInfo {
        id: "w".into(),
        name: "w".into(),
        snapshot: "v@s".into(),
        size: Bytes::mib(8),
        device: None,
    };
    world.seen().views.insert("w".parse().expect("legal"), view);
    let taken = import::Taken::default();
    let names = |world: &World| {
        let facts = world.facts();
        let volumes = import::volumes(&taken, &facts).into_iter().map(|object| object.metadata.name);
        let snapshots = import::snapshots(&taken, &facts).into_iter().map(|object| object.metadata.name);
        volumes.chain(snapshots).flatten().collect::<Vec<_>>()
    };
    assert_eq!(names(&world), ["v"]);
    let world = world.with(&object(&json!({})));
    assert_eq!(names(&world), ["s"]);
    let world = world.and(&snapshot_object(&json!({})));
    assert_eq!(names(&world), ["w"]);
    let other = World::new().on_disk(info(&WHOLE)).with(&object(&json!({"spec": {"pool": "other"}})));
    let found = crate::api::names::found_volume("n", &vg(), &"v".parse().expect("legal"));
    assert_eq!(names(&other), [found], "its name is another one's");
    let young = World::new().on_disk(VolumeInfo { creating: true, ..info(&WHOLE) });
    assert_eq!(names(&young), Vec::<String>::new(), "it may never be");
}

/// An order to go back to snapshot `s`, in the state that was told last.
fn ordered(before: &str, told: Option<&str>) -> Value {
    let reference = json!({"namespace": "db", "name": "back"});
    let order = json!({"snapshot": "s", "rollback": reference, "request": "r", "before": before});
    let told =
        told.map(|phase| json!({"request": "r", "phase": phase, "message": "it waits", "total": "4Mi"}));
    json!({"spec": {"rollback": order}, "status": {"phase": "Ready", "size": "8Mi", "rollback": told}})
}

#[test]
fn a_rollback_is_begun_once_and_in_time_while_nobody_uses_the_volume() {
    let running = |request: Option<&str>| RollbackInfo {
        snapshot: "v@s".into(),
        request: request.map(str::to_owned),
        copied: Bytes::mib(1),
        total: Bytes::mib(4),
    };
    let split = || info(&SPLIT);
    let with = |rollback| VolumeInfo { rollback: Some(rollback), ..split() };
    let done = VolumeInfo { rolled_back_for: Some("r".into()), ..split() };
    let other = VolumeInfo { rolled_back_for: Some("q".into()), ..split() };
    let unready = Refused { class: Class::Precondition, message: "not ready".into() };
    let (soon, late) = ("2023-11-14T23:00:00Z", "2023-11-14T22:00:00Z");
    for (patch, disk, staged, refused, expected) in [
        (json!({}), split(), false, None, "Ready"),
        (ordered(soon, None), split(), false, None, "do RollBack; Ready"),
        (ordered(soon, None), split(), false, Some(&unready), "do RollBack; Ready; Pending r: not ready"),
        (
            ordered(soon, Some("Pending")),
            other.clone(),
            false,
            None,
            "do RollBack; Ready; Pending r: it waits",
        ),
        (
            ordered(soon, None),
            split(),
            true,
            None,
            "Ready; Pending r: the volume is in use on node n: stop all pods that use it",
        ),
        (ordered(soon, None), info(&WHOLE), false, None, "Ready; Pending r: the volume has no snapshot s"),
        (
            ordered(late, Some("Pending")),
            split(),
            false,
            None,
            "Ready; Failed r: it was not begun in time: it waits",
        ),
        (
            ordered(late, None),
            split(),
            false,
            None,
            "Ready; Failed r: it was not begun in time: its node did not come to it",
        ),
        (ordered(soon, Some("Failed")), split(), false, None, "Ready; Failed r: it waits"),
        (ordered(soon, None), with(running(Some("r"))), false, None, "RollingBack; Copying r: 1Mi of 4Mi"),
        (
            ordered(late, Some("Copying")),
            with(running(Some("r"))),
            false,
            None,
            "RollingBack; Copying r: 1Mi of 4Mi",
        ),
        (ordered(soon, None), with(running(None)), false, None, "RollingBack; Copying : 1Mi of 4Mi"),
        (ordered(late, Some("Copying")), done.clone(), true, None, "Ready; Done r: 4Mi of 4Mi"),
        (ordered(soon, None), done.clone(), false, None, "Ready; Done r: "),
    ] {
        let mut world = World::new().on_disk(disk).and(&snapshot_object(&json!({})));
        let object = object(&patch);
        world = world.with(&object);
        if staged {
            world.seen().staged.insert("v".parse().expect("legal"));
        }
        let verdict = volume::decide(&object, refused, &world.facts());
        let status = verdict.status.expect("it is told");
        let told = status.rollback.map(|told| {
            let text = match (told.copied, told.total) {
                (Some(copied), Some(total)) => format!("{copied} of {total}"),
                _ => told.message,
            };
            format!("; {:?} {}: {text}", told.phase, told.request)
        });
        let work = line(verdict.work, None, false);
        let work = if work.is_empty() { work } else { format!("{work}; ") };
        let phase = status.phase;
        assert_eq!(format!("{work}{phase:?}{}", told.unwrap_or_default()), expected, "{patch}");
    }
}
