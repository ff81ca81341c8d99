use proptest::prelude::*;

use super::*;

fn example() -> Superblock {
    Superblock { events: 21, failed_devices: [2, 0, 0, 0], ..Superblock::new(2, 0, Sectors(131_072)) }
}

#[test]
fn fields_lie_where_the_kernel_puts_them() {
    let bytes = example().render();
    assert_eq!(&bytes[..8], b"DmRd\x01\0\0\0");
    assert_eq!(bytes[8], 2);
    assert_eq!(bytes[12], 0);
    assert_eq!(bytes[16], 21);
    assert_eq!(bytes[24], 2);
    assert_eq!(&bytes[32..48], [0xff; 16]);
    assert_eq!(bytes[48], 1);
    assert_eq!(&bytes[88..96], 131_072_u64.to_le_bytes());
    assert!(bytes[148..].iter().all(|b| *b == 0));
}

#[test]
fn without_the_magic_there_is_no_superblock() {
    assert_eq!(Superblock::parse(&[0; 512]), Ok(None));
    assert_eq!(Superblock::parse(&[0xaa; 4096]), Ok(None));
    assert_eq!(Superblock::parse(&[0; 511]), Err(SuperblockError::Short(511)));
}

#[test]
fn a_leg_to_be_copied_in_full_is_neither_in_sync_nor_failed() {
    let array = Superblock { failed_devices: [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 3], ..example() };
    let leg = Superblock::for_full_copy(&array);
    assert_eq!((leg.disk_recovery_offset, leg.events, leg.any_failed()), (Sectors::ZERO, 0, false));
    assert!(!array.failed(usize::try_from(leg.array_position).expect("small")));
    assert_eq!((leg.array_sectors, leg.sectors, leg.num_devices), (array.array_sectors, array.sectors, 2));
}

#[test]
fn superblocks_of_others_are_refused() {
    let other = Superblock { level: 5, ..example() };
    assert_eq!(Superblock::parse(&other.render()), Err(SuperblockError::Level(5)));
    let newer = Superblock { compat_features: 3, ..example() };
    assert_eq!(Superblock::parse(&newer.render()), Err(SuperblockError::Compatible(3)));
    let newer = Superblock { incompat_features: 4, ..example() };
    assert_eq!(Superblock::parse(&newer.render()), Err(SuperblockError::Incompatible(4)));
}

#[test]
fn before_the_extension_its_bytes_mean_nothing() {
    let mut bytes = Superblock { compat_features: 0, ..example() }.render();
    bytes[64..512].fill(0xee);
    let read = Superblock::parse(&bytes).expect("legal").expect("there");
    assert!(!read.is_extended());
    assert_eq!(read.failed_devices, [2, 0, 0, 0]);
    assert_eq!((read.array_sectors, read.reshape_position), (Sectors::ZERO, MAX_SECTOR));
}

#[test]
fn failed_slots_are_known_up_to_255() {
    let mut superblock = example();
    for slot in [0, 1, 63, 64, 127, 128, 200, 255] {
        superblock.failed_devices = [0; 4];
        superblock.set_failed(slot, true);
        let read = Superblock::parse(&superblock.render()).expect("legal").expect("there");
        let failed: Vec<usize> = (0..300).filter(|slot| read.failed(*slot)).collect();
        assert_eq!(failed, [slot]);
        superblock.set_failed(slot, false);
        assert!(!superblock.any_failed());
    }
}

proptest! {
    #[test]
    fn every_superblock_reads_back_as_it_was(longs in any::<[u64; 12]>(), words in any::<[u32; 6]>()) {
        let superblock = Superblock {
            compat_features: EXTENDED,
            num_devices: words[1],
            array_position: words[2],
            events: longs[0],
            failed_devices: [longs[1], longs[2], longs[3], longs[4]],
            disk_recovery_offset: Sectors(longs[5]),
            array_resync_offset: Sectors(longs[6]),
            level: 1,
            layout: words[3],
            stripe_sectors: words[4],
            flags: words[5],
            reshape_position: Sectors(longs[7]),
            new_level: words[3].cast_signed(),
            new_layout: words[4],
            new_stripe_sectors: words[5],
            delta_disks: words[0].cast_signed(),
            array_sectors: Sectors(longs[8]),
            data_offset: Sectors(longs[9]),
            new_data_offset: Sectors(longs[10]),
            sectors: Sectors(longs[11]),
            incompat_features: 0,
        };
        prop_assert_eq!(Superblock::parse(&superblock.render()), Ok(Some(superblock)));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), magic: bool) {
        if magic && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&MAGIC);
        }
        let _ignored = Superblock::parse(&bytes);
    }
}
