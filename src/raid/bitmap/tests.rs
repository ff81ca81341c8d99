use proptest::prelude::*;

use super::region::least_region_size;
use super::*;

const ARRAY: Sectors = Sectors(131_072);

fn bitmap(array: Sectors, marked: &[u64]) -> Bitmap {
    let mut bitmap = Bitmap::new(BitmapHeader::new(array, Bytes::mib(2)), array);
    for region in marked {
        bitmap.mark(*region);
    }
    bitmap
}

fn rmeta(bitmap: &Bitmap) -> Vec<u8> {
    [vec![0; 4096], bitmap.render()].concat()
}

#[test]
fn bits_lie_where_the_kernel_puts_them() {
    let bytes = rmeta(&bitmap(ARRAY, &[5, 15]));
    assert_eq!(&bytes[4096..4104], b"bitm\x04\0\0\0");
    assert_eq!(&bytes[0x1100..0x1106], [0x20, 0x80, 0, 0, 0xff, 0xff]);
    assert_eq!(bytes.len(), 8192);
}

#[test]
fn bits_past_the_last_region_do_not_count() {
    // 33 regions, the last one of a single sector.
    let array = ARRAY + Sectors(1);
    let mut bytes = rmeta(&bitmap(array, &[32]));
    bytes[4352 + 5..].fill(0xff);
    let read = Bitmap::parse(&bytes, array).expect("legal").expect("there");
    assert_eq!(read.regions(), 33);
    assert_eq!(read.marked().collect::<Vec<_>>(), [32]);
    assert_eq!(read.marked_ranges(), [Bytes::mib(64)..array.bytes()]);
    assert_eq!(read.marked_bytes(), Bytes(512));
}

#[test]
fn the_array_and_not_the_header_says_how_many_regions_there_are() {
    let mut kept = bitmap(ARRAY, &[3, 31]);
    kept.header.sync_size = Sectors(196_608);
    let smaller = Sectors(65_536);
    let read = Bitmap::parse(&rmeta(&kept), smaller).expect("legal").expect("there");
    assert_eq!(read.regions(), 16);
    assert_eq!(read.marked().collect::<Vec<_>>(), [3]);
}

#[test]
fn neighbours_are_joined() {
    let mib = Bytes::mib;
    let bitmap = bitmap(ARRAY, &[0, 1, 2, 7, 8, 31]);
    assert_eq!(bitmap.marked_ranges(), [mib(0)..mib(6), mib(14)..mib(18), mib(62)..mib(64)]);
    assert_eq!(bitmap.marked_bytes(), mib(12));
    assert_eq!(bitmap.marked_count(), 6);
}

#[test]
fn what_is_marked_in_any_leg_is_marked_in_the_union() {
    let union = Bitmap::union([&bitmap(ARRAY, &[1]), &bitmap(ARRAY, &[1, 30])]).expect("one shape");
    assert_eq!(union.expect("not empty").marked().collect::<Vec<_>>(), [1, 30]);
    assert_eq!(Bitmap::union([]), Ok(None));
    let other = bitmap(Sectors(65_536), &[]);
    assert!(matches!(Bitmap::union([&bitmap(ARRAY, &[]), &other]), Err(BitmapError::Geometry { .. })));
}

#[test]
fn marks_come_and_go() {
    let mut bitmap = bitmap(ARRAY, &[]);
    bitmap.mark_all();
    assert_eq!(bitmap.marked_bytes(), ARRAY.bytes());
    bitmap.clear(4);
    assert!(!bitmap.is_marked(4) && bitmap.is_marked(5) && !bitmap.is_marked(32));
    bitmap.mark(1 << 40);
    assert_eq!(bitmap.marked_count(), 31);
}

#[test]
fn what_the_kernel_would_refuse_is_refused() {
    let good = rmeta(&bitmap(ARRAY, &[]));
    let parse = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Bitmap::parse(&bytes, ARRAY)
    };
    assert_eq!(parse(|b| b[4096] = 0), Ok(None));
    assert_eq!(parse(|b| b[4100] = 5), Err(BitmapError::Version(5)));
    assert_eq!(parse(|b| b[4096 + 52..4096 + 56].fill(0)), Err(BitmapError::Chunk(0)));
    assert_eq!(parse(|b| b[4096 + 52] = 1), Err(BitmapError::Chunk(0x20_0001)));
    assert_eq!(parse(|b| b.truncate(4355)), Err(BitmapError::Short { have: 4355, need: Bytes(8192) }));
    assert_eq!(parse(|b| b.truncate(100)), Err(BitmapError::Short { have: 100, need: Bytes(8192) }));
}

#[test]
fn region_sizes_the_kernel_refuses_are_refused() {
    let tebi = Sectors(1 << 31);
    assert_eq!(check_region_size(Sectors(4096), ARRAY), Ok(()));
    assert_eq!(check_region_size(Sectors(1024), tebi), Ok(()));
    assert_eq!(
        check_region_size(Sectors(512), tebi),
        Err(RegionSizeError::TooSmall { region: Sectors(512), min: Sectors(1024) })
    );
    assert_eq!(check_region_size(Sectors(0), ARRAY), Err(RegionSizeError::NotPowerOfTwo(Sectors(0))));
    assert_eq!(check_region_size(Sectors(4095), ARRAY), Err(RegionSizeError::NotPowerOfTwo(Sectors(4095))));
    assert_eq!(
        check_region_size(Sectors(262_144), ARRAY),
        Err(RegionSizeError::TooLarge { region: Sectors(262_144), max: ARRAY })
    );
    assert!(check_region_size(Sectors(1 << 23), Sectors(1 << 40)).is_err());
}

#[test]
fn metadata_is_read_in_whole_pages() {
    assert_eq!(rmeta_len(ARRAY, Sectors(4096)), Bytes(8192));
    // 30720 bits fill the first page behind the header.
    assert_eq!(rmeta_len(Sectors(30_720 * 4096), Sectors(4096)), Bytes(8192));
    assert_eq!(rmeta_len(Sectors(30_720 * 4096 + 1), Sectors(4096)), Bytes(12_288));
}

proptest! {
    #[test]
    fn every_bitmap_reads_back_as_it_was(
        sectors in 4096_u64..2_000_000, shift in 0_u32..8, marks in prop::collection::vec(any::<u64>(), 0..40),
        events: u64, cleared: u64, state in 0_u32..8,
    ) {
        let array = Sectors(sectors);
        let header = BitmapHeader { events, events_cleared: cleared, state, ..BitmapHeader::new(array, Bytes::kib(64 << shift)) };
        let mut bitmap = Bitmap::new(header, array);
        for mark in &marks {
            bitmap.mark(mark % bitmap.regions());
        }
        let bytes = rmeta(&bitmap);
        let region = bitmap.header.chunk.sectors_floor();
        prop_assert_eq!(Bytes(u64::try_from(bytes.len()).expect("small")), rmeta_len(array, region));
        prop_assert_eq!(Bitmap::parse(&bytes, array), Ok(Some(bitmap.clone())));

        // The ranges are the marked regions, in order, apart from one another, within the array.
        let ranges = bitmap.marked_ranges();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].end < pair[1].start);
        }
        for range in &ranges {
            prop_assert!(range.start < range.end && range.end <= array.bytes());
        }
        for region in 0..bitmap.regions() {
            let start = bitmap.header.chunk * region;
            prop_assert_eq!(bitmap.is_marked(region), ranges.iter().any(|r| r.contains(&start)));
        }
        let marked: Vec<u64> = (0..bitmap.regions()).filter(|r| bitmap.is_marked(*r)).collect();
        prop_assert_eq!(bitmap.marked().collect::<Vec<_>>(), marked);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(mut bytes in prop::collection::vec(any::<u8>(), 4000..4500), sectors: u64) {
        if bytes.len() > 4104 {
            bytes[4096..4104].copy_from_slice(b"bitm\x04\0\0\0");
        }
        let _ignored = Bitmap::parse(&bytes, Sectors(sectors));
    }

    #[test]
    fn the_kernels_own_region_size_is_possible(sectors in 8192_u64..1 << 40) {
        let array = Sectors(sectors);
        prop_assert_eq!(check_region_size(least_region_size(array), array), Ok(()));
        prop_assert_eq!(check_region_size(default_region_size(array), array), Ok(()));
    }
}
