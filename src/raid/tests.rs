//! What real kernels left on metadata LVs; see `tests/golden/raid/README.md`.

use super::*;
use crate::host::TargetLine;
use crate::units::{Bytes, Sectors};

const ARRAY: Sectors = Sectors(131_072);
const REGION: Sectors = Sectors(4096);

/// What one kernel left.
struct Kernel {
    lines: &'static str,
    legs: Vec<(&'static str, Vec<&'static [u8]>)>,
}

macro_rules! legs {
    ($kernel:literal, $state:literal, $($slot:literal),+) => {
        ($state, vec![$(include_bytes!(concat!(
            "../../tests/golden/raid/linux-", $kernel, "/", $state, "-", $slot, ".rmeta"
        ))),+])
    };
}

macro_rules! kernel {
    ($kernel:literal) => {
        Kernel {
            lines: include_str!(concat!("../../tests/golden/raid/linux-", $kernel, "/lines.txt")),
            legs: vec![
                legs!($kernel, "fresh", 0, 1),
                legs!($kernel, "synced", 0, 1),
                legs!($kernel, "busy", 0, 1),
                legs!($kernel, "idle", 0, 1),
                legs!($kernel, "split", 0, 1),
                legs!($kernel, "written", 0, 1),
                legs!($kernel, "pinned", 0, 1),
                legs!($kernel, "merging", 0, 1),
                legs!($kernel, "merged", 0, 1),
                legs!($kernel, "cut", 0, 1, 2),
            ],
        }
    };
}

fn kernels() -> [Kernel; 2] {
    [kernel!("6.1"), kernel!("7.2")]
}

impl Kernel {
    fn bytes(&self, state: &str) -> &[&'static [u8]] {
        &self.legs.iter().find(|(name, _)| *name == state).expect("a state of the list").1
    }

    fn metas(&self, state: &str) -> Vec<LegMeta> {
        self.bytes(state).iter().map(|bytes| LegMeta::parse(bytes, ARRAY).expect("a real leg")).collect()
    }

    fn lines(&self, state: &str) -> (TargetLine, RaidStatus) {
        let mut lines = self.lines.lines().skip_while(|line| *line != state).skip(1);
        let mut words = || {
            let line = lines.next().expect("a table and a status").trim_start();
            line.strip_prefix("0 131072 raid ").expect("of the array").to_owned()
        };
        let table =
            TargetLine { start: Sectors::ZERO, len: ARRAY, target: "raid".to_owned(), params: words() };
        (table, RaidStatus::parse(&words()).expect("a real status"))
    }

    fn activate(&self, state: &str, roles: &[LegRole]) -> Plan {
        let metas = self.metas(state);
        let legs: Vec<(usize, LegRole, &LegMeta)> =
            roles.iter().zip(&metas).enumerate().map(|(slot, (role, meta))| (slot, *role, meta)).collect();
        match at_activation(&legs, ARRAY, LastStop::Unclean) {
            Activation::Assemble(plan) => plan,
            other => panic!("{state} is not to be assembled: {other:?}"),
        }
    }
}

fn superblock(meta: &LegMeta) -> &Superblock {
    meta.superblock.as_ref().expect("a started leg")
}

fn marked(meta: &LegMeta) -> Vec<u64> {
    meta.bitmap.as_ref().expect("a started leg").marked().collect()
}

#[test]
fn what_a_kernel_wrote_is_written_back_byte_for_byte() {
    for kernel in kernels() {
        for (state, legs) in &kernel.legs {
            for (bytes, meta) in legs.iter().zip(kernel.metas(state)) {
                assert_eq!(&meta.render()[..bytes.len()], *bytes, "{state}");
            }
        }
    }
}

#[test]
fn every_leg_tells_of_its_array() {
    for kernel in kernels() {
        for (state, legs) in &kernel.legs {
            for (slot, meta) in (0..).zip(kernel.metas(state)) {
                let superblock = superblock(&meta);
                assert_eq!(superblock.array_position, slot);
                assert_eq!(usize::try_from(superblock.num_devices), Ok(legs.len()));
                assert_eq!((superblock.array_sectors, superblock.sectors), (ARRAY, ARRAY));
                let bitmap = meta.bitmap.as_ref().expect("a started leg");
                assert_eq!((bitmap.regions(), bitmap.header.chunk), (32, REGION.bytes()));
                assert_eq!(bitmap.header.sync_size, ARRAY);
            }
        }
    }
}

#[test]
fn what_lvm2_loaded_is_what_we_would_load() {
    for kernel in kernels() {
        for state in ["fresh", "synced", "split", "merging"] {
            let (line, _) = kernel.lines(state);
            let table = RaidTable::parse(&line).expect("a real table");
            assert_eq!(table.line(), line);
            assert_eq!(table.validate(), Ok(()));
        }
    }
}

#[test]
fn states_are_told_apart_by_their_status() {
    for kernel in kernels() {
        let status = |state| kernel.lines(state).1;
        assert_eq!(status("fresh").health, [Health::NotInSync, Health::NotInSync]);
        assert_eq!(status("fresh").action, Action::Resync);
        assert_eq!(status("split").health, [Health::InSync, Health::Empty]);
        assert_eq!(status("merging").health, [Health::InSync, Health::NotInSync]);
        assert_eq!(status("merging").action, Action::Recover);
        let settled: Vec<bool> = ["fresh", "synced", "split", "merging", "merged"]
            .map(|state| status(state).is_settled())
            .to_vec();
        assert_eq!(settled, [false, true, true, false, true]);
    }
}

#[test]
fn what_was_written_is_marked() {
    for kernel in kernels() {
        let marks = |state| kernel.metas(state).iter().map(marked).collect::<Vec<_>>();
        assert_eq!(marks("fresh"), [(0..32).collect::<Vec<_>>(), (0..32).collect()]);
        assert_eq!(marks("synced"), [vec![], vec![]] as [Vec<u64>; 2]);
        assert_eq!(marks("busy"), [[1, 2], [1, 2]]);
        assert_eq!(marks("split"), [vec![], vec![]] as [Vec<u64>; 2]);
        assert_eq!(marks("written"), [vec![5, 15], vec![]]);
        assert_eq!(marks("pinned"), [vec![5, 15], vec![]]);
        assert_eq!(marks("merging"), [[5, 15], [5, 15]]);
        assert_eq!(marks("merged"), [vec![], vec![]] as [Vec<u64>; 2]);
        let thirds: Vec<u64> = (0..32).step_by(3).collect();
        assert_eq!(marks("cut"), [thirds.clone(), thirds, vec![]]);
        let bytes = kernel.metas("cut")[0].bitmap.as_ref().map(Bitmap::marked_bytes);
        assert_eq!(bytes, Some(Bytes::mib(22)));
    }
}

#[test]
fn a_split_is_pinned_by_the_cycle_and_on_newer_kernels_before() {
    for (kernel, at_once) in kernels().iter().zip([false, true]) {
        let pinned = |state| {
            let metas = kernel.metas(state);
            split_is_pinned(&[(0, &metas[0])], 1, &metas[1])
        };
        assert_eq!(pinned("split").is_ok(), at_once);
        let events = pinned("pinned").expect("after the cycle");
        let metas = kernel.metas("pinned");
        assert_eq!(may_merge(&[(0, &metas[0])], 1, &metas[1], Some(events)), Merge::Tracked);
        assert_eq!(events, superblock(&metas[1]).events);
    }
}

#[test]
fn the_power_may_go_in_any_of_these_states() {
    let attached = [LegRole::Attached; 2];
    for kernel in kernels() {
        for state in ["fresh", "synced", "busy", "idle", "merged"] {
            let plan = kernel.activate(state, &attached);
            assert!(plan.legs.values().all(|verdict| *verdict == Verdict::Trust), "{state}: {plan:?}");
            let ranges = plan.equalize.map(|equalize| equalize.ranges).unwrap_or_default();
            let written = [Bytes::mib(2)..Bytes::mib(6)];
            assert_eq!(ranges, if matches!(state, "busy" | "idle") { &written[..] } else { &[] }, "{state}");
        }
        let left = superblock(&kernel.metas("pinned")[1]).events;
        let merging = LegRole::Returning { events_before: Some(left), in_full: false };
        let plan = kernel.activate("merging", &[LegRole::Attached, merging]);
        assert_eq!(plan.legs[&1], Verdict::Resume);
        let metas = kernel.metas("merging");
        assert!(merge_is_pinned(&[(0, &metas[0])], 1, &metas[1]).is_err());
        let metas = kernel.metas("merged");
        assert_eq!(merge_is_pinned(&[(0, &metas[0])], 1, &metas[1]), Ok(()));
        // Cut before the returning leg's superblock was written.
        let legs = [kernel.metas("merged")[0].clone(), kernel.metas("pinned")[1].clone()];
        let legs = [(0, LegRole::Attached, &legs[0]), (1, merging, &legs[1])];
        let Activation::Assemble(plan) = at_activation(&legs, ARRAY, LastStop::Unclean) else {
            panic!("to be assembled")
        };
        assert!(matches!(plan.legs[&1], Verdict::Rebuild(_)));
    }
}

#[test]
fn a_split_outlives_a_real_power_cut() {
    for kernel in kernels() {
        let events = superblock(&kernel.metas("cut")[2]).events;
        let split = LegRole::Split { recorded_events: Some(events) };
        let plan = kernel.activate("cut", &[LegRole::Attached, LegRole::Attached, split]);
        assert_eq!(plan.splits[&2], Merge::Tracked);
        let equalize = plan.equalize.expect("the legs may differ where the writer was");
        assert_eq!((equalize.from, equalize.to, equalize.ranges.len()), (0, vec![1], 11));
    }
}
