//! Random operations and faults, under load, against a model that only knows names.
//!
//! Whatever is cut wherever: an operation that is repeated until it has an answer gives the answer that the model
//! gives, and the end state is right.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use splitmirror::host::sim::{Cut, Fault, Stop, run};
use splitmirror::report::{Class, chain};
use splitmirror::volume::spec::{GroupSpec, SnapshotPolicy, SnapshotSpec};

use crate::check::check;
use crate::foreign;
use crate::machine::{
    LARGER, Machine, Process, group_spec, lv, snapshot_id, snapshot_spec, top, volume_spec,
};

/// How much time a test may take is decided here.
const CASES: u32 = 24;
const OPERATIONS: usize = 10;

const VOLUMES: [&str; 2] = ["a", "b"];
const SNAPSHOTS: [&str; 3] = ["one", "two", "three"];
const GROUP: &str = "both";
const VIEWS: [&str; 2] = ["look", "see"];

#[derive(Clone, Copy, Debug)]
enum Operation {
    Create { volume: usize, images: usize },
    Delete { volume: usize },
    Split { volume: usize, snapshot: usize, min_in_sync: usize, policy: SnapshotPolicy },
    Detach { volume: usize, snapshot: usize },
    Merge { volume: usize, snapshot: usize },
    SplitGroup { min_in_sync: usize },
    MergeGroup,
    View { view: usize, volume: usize, snapshot: usize },
    DeleteView { view: usize },
    Expand { volume: usize },
    Deactivate { volume: usize },
    Activate { volume: usize },
    Advance,
    Sleep { millis: u64 },
}

/// What goes wrong during an operation, if it makes so many calls.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Fault { fault: Fault, foreign: bool },
    PlugPulledAfterwards { foreign: bool },
    KilledAfterwards,
}

fn operation() -> impl Strategy<Value = Operation> {
    let volume = || 0..VOLUMES.len();
    let snapshot = |volume: usize| (0..SNAPSHOTS.len()).prop_map(move |snapshot| (volume, snapshot));
    let pair = move || volume().prop_flat_map(snapshot);
    let policy = prop_oneof![Just(SnapshotPolicy::Borrow), Just(SnapshotPolicy::Grow)];
    prop_oneof![
        2 => (volume(), 2..=3_usize).prop_map(|(volume, images)| Operation::Create { volume, images }),
        1 => volume().prop_map(|volume| Operation::Delete { volume }),
        6 => (pair(), 1..=2_usize, policy).prop_map(|((volume, snapshot), min_in_sync, policy)| {
            Operation::Split { volume, snapshot, min_in_sync, policy }
        }),
        5 => pair().prop_map(|(volume, snapshot)| Operation::Merge { volume, snapshot }),
        2 => pair().prop_map(|(volume, snapshot)| Operation::Detach { volume, snapshot }),
        3 => (1..=2_usize).prop_map(|min_in_sync| Operation::SplitGroup { min_in_sync }),
        2 => Just(Operation::MergeGroup),
        1 => (0..VIEWS.len(), pair()).prop_map(|(view, (volume, snapshot))| {
            Operation::View { view, volume, snapshot }
        }),
        1 => (0..VIEWS.len()).prop_map(|view| Operation::DeleteView { view }),
        1 => volume().prop_map(|volume| Operation::Expand { volume }),
        1 => volume().prop_map(|volume| Operation::Deactivate { volume }),
        1 => volume().prop_map(|volume| Operation::Activate { volume }),
        1 => Just(Operation::Advance),
        1 => (1..3000_u64).prop_map(|millis| Operation::Sleep { millis }),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let call = || 0..40_u64;
    let inside = (0..8_u64, 0..=16_u64, any::<bool>()).prop_map(|(request, sixteenths, torn)| Cut::Inside {
        request,
        sixteenths,
        torn,
    });
    let cut = prop_oneof![1 => Just(Cut::After), 3 => inside];
    prop_oneof![
        3 => Just(Trouble::None),
        4 => (call(), cut, any::<bool>()).prop_map(|(call, at, foreign)| {
            Trouble::Fault { fault: Fault::PowerCut { call, at }, foreign }
        }),
        2 => (call(), any::<bool>()).prop_map(|(call, done)| {
            Trouble::Fault { fault: Fault::Kill { call, done }, foreign: false }
        }),
        1 => (call(), any::<bool>()).prop_map(|(call, done)| {
            Trouble::Fault { fault: Fault::Errno { call, errno: 5, done }, foreign: false }
        }),
        1 => any::<bool>().prop_map(|foreign| Trouble::PlugPulledAfterwards { foreign }),
        1 => Just(Trouble::KilledAfterwards),
    ]
}

/// An answer: done, or refused for this reason.
type Answer = Result<(), Class>;

impl Operation {
    fn run(self, process: &mut Process) -> splitmirror::engine::Result<()> {
        let host = process.host.clone();
        let engine = process.engine()?;
        match self {
            Self::Create { volume, images } => {
                engine.create_volume(&volume_spec(VOLUMES[volume], images)).map(drop)
            }
            Self::Delete { volume } => engine.delete_volume(VOLUMES[volume]),
            Self::Split { volume, snapshot, min_in_sync, policy } => {
                let spec = snapshot_spec(VOLUMES[volume], &name(volume, snapshot));
                let spec = SnapshotSpec { min_in_sync, policy, ..spec };
                engine.create_snapshot(&spec).map(drop)
            }
            Self::Merge { volume, snapshot } => {
                engine.delete_snapshot(&snapshot_id(VOLUMES[volume], &name(volume, snapshot)))
            }
            Self::Detach { volume, snapshot } => engine
                .detach_snapshot(
                    &volume_spec(VOLUMES[1 - volume], 2),
                    &snapshot_id(VOLUMES[volume], &name(volume, snapshot)),
                )
                .map(drop),
            Self::SplitGroup { min_in_sync } => {
                let spec = GroupSpec { min_in_sync, ..group_spec(GROUP, &VOLUMES) };
                engine.create_group_snapshot(&spec).map(drop)
            }
            Self::MergeGroup => engine.delete_group_snapshot(GROUP),
            Self::View { view, volume, snapshot } => engine
                .create_view(VIEWS[view], &snapshot_id(VOLUMES[volume], &name(volume, snapshot)))
                .map(drop),
            Self::DeleteView { view } => engine.delete_volume(VIEWS[view]),
            Self::Expand { volume } => engine.expand_volume(&lv(VOLUMES[volume]), LARGER, None).map(drop),
            Self::Deactivate { volume } => engine.deactivate(&lv(VOLUMES[volume])),
            Self::Activate { volume } => engine.activate(&lv(VOLUMES[volume])),
            Self::Advance => engine.advance().map(drop),
            Self::Sleep { millis } => {
                host.sleep(Duration::from_millis(millis));
                Ok(())
            }
        }
    }

    /// What the model says to it. `begun`: how far the volume's journal was before.
    fn answer(self, machine: &mut Machine, begun: usize) -> Answer {
        let exists = |machine: &Machine, volume: usize| machine.volumes.contains_key(VOLUMES[volume]);
        match self {
            Self::Create { volume, images } if exists(machine, volume) => {
                let known = machine.volumes.get_mut(VOLUMES[volume]).expect("exists");
                if known.images != images || known.image_of.is_some() {
                    return Err(Class::Exists);
                }
                known.active = true;
                Ok(())
            }
            Self::Create { volume, images } => {
                machine.created(VOLUMES[volume], images);
                Ok(())
            }
            Self::Delete { volume } => match machine.volumes.get(VOLUMES[volume]) {
                Some(known) if !known.snapshots.is_empty() => Err(Class::Precondition),
                Some(_) => {
                    machine.gone(VOLUMES[volume]);
                    Ok(())
                }
                None => Ok(()),
            },
            Self::Split { volume, snapshot, min_in_sync, policy } => {
                let disks = machine.pool.len();
                let known = machine.volumes.get_mut(VOLUMES[volume]).ok_or(Class::NotFound)?;
                known.active = true;
                if known.snapshots.contains_key(&name(volume, snapshot)) {
                    return Ok(());
                }
                match policy {
                    SnapshotPolicy::Borrow if known.attached() > min_in_sync.max(known.must_stay()) => {
                        machine.snapped(VOLUMES[volume], &name(volume, snapshot), begun);
                    }
                    SnapshotPolicy::Grow
                        if known.attached() >= min_in_sync
                            && (known.slots() < disks || known.grown.contains(&None)) =>
                    {
                        machine.grown(VOLUMES[volume], &name(volume, snapshot), begun);
                    }
                    SnapshotPolicy::Borrow | SnapshotPolicy::Grow => return Err(Class::Precondition),
                }
                machine.needs(VOLUMES[volume], &name(volume, snapshot), min_in_sync);
                Ok(())
            }
            Self::Merge { volume, snapshot } => {
                let id = snapshot_id(VOLUMES[volume], &name(volume, snapshot));
                let viewed = machine.views.values().any(|of| *of == id);
                let Some(known) = machine.volumes.get_mut(VOLUMES[volume]) else { return Ok(()) };
                known.active = true;
                if viewed {
                    return Err(Class::Precondition);
                }
                known.merged(&name(volume, snapshot));
                Ok(())
            }
            Self::Detach { volume, snapshot } => {
                let (new, id) = (VOLUMES[1 - volume], snapshot_id(VOLUMES[volume], &name(volume, snapshot)));
                if let Some(known) = machine.volumes.get_mut(new) {
                    // It is this one when it was made so before.
                    if known.image_of.as_ref() != Some(&id) || known.images != 2 {
                        return Err(Class::Exists);
                    }
                    known.active = true;
                    if let Some(of) = machine.volumes.get_mut(VOLUMES[volume]) {
                        of.active = true;
                    }
                    return Ok(());
                }
                let viewed = machine.views.values().any(|of| *of == id);
                let known = machine.volumes.get_mut(VOLUMES[volume]).ok_or(Class::NotFound)?;
                known.active = true;
                known.snapshots.get(&name(volume, snapshot)).ok_or(Class::NotFound)?;
                if viewed {
                    return Err(Class::Precondition);
                }
                if known.grown.contains(&Some(name(volume, snapshot))) {
                    return Err(Class::Invalid);
                }
                machine.detached(new, 2, VOLUMES[volume], &name(volume, snapshot));
                Ok(())
            }
            Self::SplitGroup { min_in_sync } => {
                // One after the other is brought up.
                for volume in VOLUMES {
                    machine.volumes.get_mut(volume).ok_or(Class::NotFound)?.active = true;
                }
                if machine.groups.contains_key(GROUP) {
                    return Ok(());
                }
                let spare = |volume: &&str| {
                    let known = &machine.volumes[*volume];
                    known.attached() > min_in_sync.max(known.must_stay())
                };
                if !VOLUMES.iter().all(spare) {
                    return Err(Class::Precondition);
                }
                machine.snapped_together(GROUP, &VOLUMES, 0);
                for volume in VOLUMES {
                    machine.needs(volume, GROUP, min_in_sync);
                }
                Ok(())
            }
            Self::MergeGroup => {
                for volume in machine.groups.get(GROUP).cloned().unwrap_or_default() {
                    machine.volumes.get_mut(&volume).expect("it has a snapshot").active = true;
                }
                machine.merged_together(GROUP);
                Ok(())
            }
            Self::View { view, volume, snapshot } => {
                let id = snapshot_id(VOLUMES[volume], &name(volume, snapshot));
                if let Some(of) = machine.views.get(VIEWS[view]) {
                    return if *of == id { Ok(()) } else { Err(Class::Exists) };
                }
                let known = machine.volumes.get(VOLUMES[volume]).ok_or(Class::NotFound)?;
                known.snapshots.get(&name(volume, snapshot)).ok_or(Class::NotFound)?;
                machine.views.insert(VIEWS[view].to_owned(), id);
                Ok(())
            }
            Self::DeleteView { view } => {
                machine.views.remove(VIEWS[view]);
                Ok(())
            }
            Self::Expand { volume } => {
                let known = machine.volumes.get_mut(VOLUMES[volume]).ok_or(Class::NotFound)?;
                known.active = true;
                if known.size == LARGER {
                    return Ok(());
                }
                if !known.snapshots.is_empty() {
                    return Err(Class::Precondition);
                }
                known.size = LARGER;
                machine.host.keep_busy(&top(VOLUMES[volume]), LARGER.sectors_floor(), 1);
                Ok(())
            }
            Self::Deactivate { volume } => {
                machine.volumes.get_mut(VOLUMES[volume]).ok_or(Class::NotFound)?.active = false;
                Ok(())
            }
            Self::Activate { volume } => {
                machine.volumes.get_mut(VOLUMES[volume]).ok_or(Class::NotFound)?.active = true;
                Ok(())
            }
            Self::Advance | Self::Sleep { .. } => Ok(()),
        }
    }
}

/// Names of snapshots are one space for all volumes.
fn name(volume: usize, snapshot: usize) -> String {
    format!("{}-{}", VOLUMES[volume], SNAPSHOTS[snapshot])
}

/// Starts again after a stop.
fn start_again(machine: &mut Machine, stop: Stop, foreign: bool) -> Process {
    machine.start_again(stop);
    if foreign && stop == Stop::PowerCut {
        foreign::activate(&machine.host);
    }
    let mut process = machine.process();
    let failed = process.engine().expect("open").recover().expect("recovered");
    assert!(failed.is_empty(), "{failed:?}");
    for volume in machine.volumes.values_mut() {
        volume.active = true;
    }
    process
}

/// Repeats an operation until it has an answer.
fn insist(process: &mut Process, operation: Operation) -> Answer {
    for _ in 0..20 {
        match operation.run(process) {
            Ok(()) => return Ok(()),
            Err(error) if matches!(error.class(), Class::InProgress) => process.finish().expect("finished"),
            Err(error) if matches!(error.class(), Class::Transient | Class::Internal | Class::Corrupt) => {
                panic!("{operation:?}: {}", chain(&error))
            }
            Err(error) => return Err(error.class()),
        }
    }
    panic!("{operation:?} is in progress for ever");
}

fn play(steps: &[(Operation, Trouble)]) {
    let mut machine = Machine::with_pool();
    let mut process = machine.process();
    for (number, (operation, trouble)) in steps.iter().enumerate() {
        let journals: BTreeMap<&str, usize> =
            VOLUMES.map(|name| (name, machine.host.journal(&top(name)).acknowledged.len())).into();
        let begun = match operation {
            Operation::Split { volume, .. } => journals[VOLUMES[*volume]],
            _ => 0,
        };
        if let Trouble::Fault { fault, foreign } = trouble {
            machine.host.arm(Some(*fault));
            let stopped = run(|| drop(operation.run(&mut process)));
            machine.host.arm(None);
            if let Err(stop) = stopped {
                process = start_again(&mut machine, stop, *foreign);
            }
        }
        let answer = insist(&mut process, *operation);
        assert_eq!(answer, operation.answer(&mut machine, begun), "step {number}, {operation:?}");
        match trouble {
            Trouble::PlugPulledAfterwards { foreign } => {
                process = start_again(&mut machine, Stop::PowerCut, *foreign);
            }
            Trouble::KilledAfterwards => process = start_again(&mut machine, Stop::Killed, false),
            Trouble::None | Trouble::Fault { .. } => {}
        }
        if number % 3 == 2 || number + 1 == steps.len() {
            process = start_again(&mut machine, Stop::Killed, false);
            process.finish().expect("finished");
            check(&mut machine, &mut process, &format!("after step {number}"));
        }
    }
    machine.merge_all(&mut process).expect("merged");
    process.finish().expect("finished");
    check(&mut machine, &mut process, "all merged");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_with_any_faults_give_the_model_s_answers(
        steps in prop::collection::vec((operation(), trouble()), 1..OPERATIONS)
    ) {
        // Most operations need a volume.
        let mut all = vec![(Operation::Create { volume: 0, images: 3 }, Trouble::None)];
        all.extend(steps);
        play(&all);
    }
}
