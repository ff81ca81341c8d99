use proptest::prelude::*;

use super::*;

fn leg(minor: u32) -> LegDevs {
    LegDevs { meta: DevNo { major: 253, minor }, image: DevNo { major: 253, minor: minor + 1 } }
}

fn table() -> RaidTable {
    RaidTable {
        len: Sectors(131_072),
        nosync: false,
        rebuild: Vec::new(),
        min_recovery_rate: None,
        max_recovery_rate: None,
        write_mostly: Vec::new(),
        write_behind: None,
        region_size: Sectors(4096),
        slots: vec![Some(leg(0)), Some(leg(2))],
    }
}

fn raid(params: &str) -> TargetLine {
    TargetLine {
        start: Sectors::ZERO,
        len: Sectors(131_072),
        target: "raid".to_owned(),
        params: params.to_owned(),
    }
}

#[test]
fn tables_are_written_as_lvm2_writes_them() {
    assert_eq!(table().line(), raid("raid1 3 0 region_size 4096 2 253:0 253:1 253:2 253:3"));
    let split = RaidTable { slots: vec![Some(leg(0)), None], ..table() };
    assert_eq!(split.line(), raid("raid1 3 0 region_size 4096 2 253:0 253:1 - -"));
    let rebuild = RaidTable { rebuild: vec![1], ..table() };
    assert_eq!(rebuild.line(), raid("raid1 5 0 rebuild 1 region_size 4096 2 253:0 253:1 253:2 253:3"));
    let all = RaidTable {
        nosync: true,
        min_recovery_rate: Some(128),
        max_recovery_rate: Some(256),
        write_mostly: vec![1],
        write_behind: Some(512),
        ..table()
    };
    assert_eq!(
        all.line().params,
        "raid1 12 0 nosync min_recovery_rate 128 max_recovery_rate 256 write_mostly 1 max_write_behind 512 \
         region_size 4096 2 253:0 253:1 253:2 253:3"
    );
}

#[test]
fn parameters_are_read_in_any_order() {
    let line =
        raid("raid1 9 128 region_size 4096 max_write_behind 512 write_mostly 1 rebuild 0 2 1:0 1:1 8:2 8:3");
    let read = RaidTable::parse(&line).expect("legal");
    assert_eq!(read.rebuild, [0]);
    assert_eq!(read.write_mostly, [1]);
    assert_eq!(read.write_behind, Some(512));
    assert_eq!(
        read.slots[0],
        Some(LegDevs { meta: DevNo { major: 1, minor: 0 }, image: DevNo { major: 1, minor: 1 } })
    );
}

#[test]
fn without_a_region_size_the_kernel_takes_its_own() {
    let read = RaidTable::parse(&raid("raid1 1 0 1 253:0 253:1")).expect("legal");
    assert_eq!(read.region_size, Sectors(8192));
}

#[test]
fn parameters_that_cannot_be_carried_are_named() {
    for word in ["daemon_sleep 5000", "journal_dev 8:1", "delta_disks 1", "sync", "of_tomorrow 1"] {
        let count = 1 + word.split(' ').count();
        let line = raid(&format!("raid1 {count} 0 {word} 1 253:0 253:1"));
        let name = word.split(' ').next().expect("a word").to_owned();
        assert_eq!(RaidTable::parse(&line), Err(TableError::Parameter(name)));
    }
}

#[test]
fn malformed_lines_are_refused() {
    for (params, error) in [
        ("", TableError::Ends("the raid type")),
        ("raid5_ls 1 0 1 253:0 253:1", TableError::Level("raid5_ls".to_owned())),
        ("raid1", TableError::Ends("the number of parameters")),
        ("raid1 9 0 1 253:0 253:1", TableError::Ends("a parameter")),
        ("raid1 1 0", TableError::Ends("the number of slots")),
        ("raid1 1 0 0", TableError::SlotCount(0)),
        ("raid1 1 0 254", TableError::SlotCount(254)),
        ("raid1 1 0 2 253:0 253:1", TableError::Ends("a metadata device")),
        ("raid1 1 0 1 253:0", TableError::Ends("a data device")),
        ("raid1 1 0 1 - 253:1", TableError::HalfLeg(0)),
        ("raid1 1 0 1 253:0 -", TableError::HalfLeg(0)),
        ("raid1 1 0 1 253:0 253:1 x", TableError::Trailing("x".to_owned())),
        ("raid1 1 0 1 253:0 /dev/sda", value("a data device", "/dev/sda")),
        ("raid1 2 0 region_size 1 253:0 253:1", TableError::Ends("region_size")),
        ("raid1 3 0 region_size x 1 253:0 253:1", value("region_size", "x")),
    ] {
        assert_eq!(RaidTable::parse(&raid(params)), Err(error), "{params}");
    }
    let linear = TargetLine { target: "linear".to_owned(), ..raid("8:1 0") };
    assert_eq!(
        RaidTable::parse(&linear),
        Err(TableError::Target { wanted: "raid", found: "linear".to_owned() })
    );
}

#[test]
fn tables_the_kernel_would_refuse_or_misread_are_refused() {
    let broken = |change: fn(&mut RaidTable)| {
        let mut table = RaidTable { slots: vec![Some(leg(0)), Some(leg(2)), None], ..table() };
        table.write_mostly = vec![2];
        assert_eq!(table.validate(), Ok(()));
        change(&mut table);
        table.validate().expect_err("broken")
    };
    assert_eq!(broken(|t| t.slots.clear()), TableError::SlotCount(0));
    assert_eq!(broken(|t| t.slots = vec![None, None]), TableError::NoLeg);
    assert_eq!(broken(|t| t.rebuild = vec![2]), TableError::EmptySlot { word: "rebuild", slot: 2 });
    assert_eq!(broken(|t| t.rebuild = vec![3]), TableError::NoSlot { word: "rebuild", slot: 3 });
    assert_eq!(broken(|t| t.rebuild = vec![1, 1]), TableError::Twice { word: "rebuild", slot: 1 });
    assert_eq!(broken(|t| t.rebuild = vec![0, 1]), TableError::AllRebuilt);
    assert_eq!(broken(|t| t.write_mostly = vec![0, 1]), TableError::AllWriteMostly);
    assert_eq!(broken(|t| t.rebuild = vec![0]), TableError::MarksWiped);
    assert_eq!(
        broken(|t| {
            t.slots.truncate(2);
            t.write_mostly.clear();
            t.rebuild = vec![0];
            t.nosync = true;
        }),
        TableError::NosyncAndRebuild
    );
    assert_eq!(broken(|t| t.slots[1] = t.slots[0]), TableError::SharedDevice(DevNo { major: 253, minor: 0 }));
    assert!(matches!(broken(|t| t.region_size = Sectors(3000)), TableError::Region(_)));
}

#[test]
fn linear_lines_follow_one_another_and_read_back() {
    let sda = DevNo { major: 8, minor: 1 };
    let runs = [(Sectors(8192), sda, Sectors(2048)), (Sectors(4096), sda, Sectors(90_000))];
    let lines = linear(&runs);
    assert_eq!(lines[1].start, Sectors(8192));
    assert_eq!(lines[1].params, "8:1 90000");
    assert_eq!(parse_linear(&lines).as_deref(), Ok(runs.as_slice()));
    assert_eq!(parse_linear(&lines[1..]), Err(TableError::Gap { index: 0, start: 8192, expected: 0 }));
}

fn tables() -> impl Strategy<Value = RaidTable> {
    (
        (any::<u32>(), any::<bool>(), prop::option::of(any::<u64>()), prop::option::of(any::<u64>())),
        (prop::option::of(any::<u64>()), 0_u32..20, prop::collection::vec(any::<bool>(), 1..8)),
        (prop::collection::vec(0_usize..8, 0..3), prop::collection::vec(0_usize..8, 0..3)),
    )
        .prop_map(|((len, nosync, min, max), (behind, region, slots), (rebuild, write_mostly))| {
            RaidTable {
                len: Sectors(u64::from(len)),
                nosync,
                rebuild,
                min_recovery_rate: min,
                max_recovery_rate: max,
                write_mostly,
                write_behind: behind,
                region_size: Sectors(1 << region),
                slots: (0..).step_by(2).zip(slots).map(|(minor, full)| full.then(|| leg(minor))).collect(),
            }
        })
}

proptest! {
    #[test]
    fn every_table_reads_back_as_it_was(table in tables()) {
        prop_assert_eq!(RaidTable::parse(&table.line()), Ok(table));
    }

    #[test]
    fn no_text_makes_the_parser_panic(params in "(raid1 )?[0-9a-z:_ -]{0,60}") {
        let _ignored = RaidTable::parse(&raid(&params));
    }
}
