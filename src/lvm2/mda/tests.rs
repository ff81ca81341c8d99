use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const AREA: Area = Area { offset: Bytes::kib(4), size: Bytes::kib(16) };

/// A device in memory.
struct Disk(Vec<u8>);

impl Disk {
    fn new() -> Self {
        Self(vec![0xa5; 64 << 10])
    }

    fn write(&mut self, offset: Bytes, data: &[u8]) {
        assert_eq!(offset.0 % SECTOR_BYTES, 0);
        assert_eq!(data.len() % SECTOR, 0);
        let at = usize::try_from(offset.0).expect("small");
        let lower = usize::try_from(AREA.offset.0).expect("small");
        let upper = lower + usize::try_from(AREA.size.0).expect("small");
        assert!(at >= lower && at + data.len() <= upper, "outside of the area: {at} + {}", data.len());
        self.0[at..at + data.len()].copy_from_slice(data);
    }

    fn text(&self, header: &MdaHeader) -> Result<String, MdaError> {
        let location = header.text().expect("there is one");
        let mut bytes = Vec::new();
        for piece in header.pieces(location)? {
            let at = usize::try_from(piece.offset.0).expect("small");
            bytes.extend(&self.0[at..at + usize::try_from(piece.size.0).expect("small")]);
        }
        MdaHeader::check_text(location, bytes)
    }
}

#[test]
fn an_empty_header_reads_back() {
    let header = MdaHeader::empty(AREA);
    assert_eq!(MdaHeader::parse(&header.render(), AREA), Ok(header));
}

#[test]
fn real_headers_are_rendered_as_they_were() {
    let area = Area { offset: Bytes::kib(4), size: Bytes(1_044_480) };
    let orphan = include_bytes!("../../../tests/golden/lvm2/pv-orphan.bin");
    let header = MdaHeader::parse(&orphan[4096..4608], area).unwrap();
    assert_eq!(header, MdaHeader::empty(area));
    assert_eq!(header.render(), orphan[4096..4608]);
    let used = include_bytes!("../../../tests/golden/lvm2/pv-in-use.bin");
    let header = MdaHeader::parse(&used[4096..4608], area).unwrap();
    assert_eq!(header.render(), used[4096..4608]);
    let text = header.text().unwrap();
    assert_eq!((text.offset, header.pieces(text).unwrap().len()), (Bytes(512), 1));
    let start = 4096 + 512;
    let bytes = used[start..start + usize::try_from(text.size.0).unwrap()].to_vec();
    assert_eq!(
        MdaHeader::check_text(text, bytes).unwrap(),
        include_str!("../../../tests/golden/lvm2/empty.vg")
    );
}

#[test]
fn damage_and_strangers_are_told_apart() {
    let good = MdaHeader::empty(AREA).render();
    let other = Area { offset: Bytes::kib(8), ..AREA };
    assert_eq!(MdaHeader::parse(&good, other), Err(MdaError::Place { label: other, header: AREA }));
    assert_eq!(MdaHeader::parse(&[0; 512], AREA), Err(MdaError::Magic { at: AREA.offset }));
    assert_eq!(MdaHeader::parse(&good[..511], AREA), Err(MdaError::Short { at: AREA.offset, found: 511 }));
    let mut torn = good;
    torn[300] ^= 1;
    assert_eq!(MdaHeader::parse(&torn, AREA), Err(MdaError::Checksum { at: AREA.offset }));
}

#[test]
fn a_text_too_large_for_two_is_refused() {
    let header = MdaHeader::empty(AREA);
    assert_eq!(header.text_max(), Bytes((16384 - 512) / 2 - 512));
    let max = usize::try_from(header.text_max().0).expect("small");
    assert!(header.place(&"x".repeat(max - 1)).is_ok());
    let error = header.place(&"x".repeat(max)).expect_err("too large");
    assert!(matches!(error, PlaceError::TooLarge { .. }));
}

#[test]
fn an_ignored_area_has_no_text() {
    let mut header = MdaHeader::empty(AREA).place("x").expect("fits").1;
    header.committed.flags = FLAG_IGNORED;
    assert!(header.is_ignored() && header.text().is_none());
}

proptest! {
    /// Text after text, the ring goes round; before each header is written, the one before must still be there.
    #[test]
    fn texts_follow_each_other_and_the_old_one_stays_readable(texts in vec((b'a'..=b'z', 0..7000_usize), 1..20)) {
        let mut disk = Disk::new();
        let mut header = MdaHeader::empty(AREA);
        let mut old: Option<String> = None;
        for (letter, len) in texts {
            let text = char::from(letter).to_string().repeat(len);
            let (chunks, next) = header.place(&text).expect("fits");
            for chunk in chunks {
                disk.write(chunk.offset, &chunk.data);
            }
            if let Some(old) = old {
                prop_assert_eq!(disk.text(&header).expect("untouched"), old);
            }
            header = MdaHeader::parse(&next.render(), AREA).expect("just rendered");
            prop_assert_eq!(disk.text(&header).expect("just written"), text.clone());
            old = Some(text);
        }
    }

    #[test]
    fn any_header_with_a_right_checksum_is_handled(
        mut sector in vec(any::<u8>(), 512),
        offset in prop_oneof![0..20_000_u64, any::<u64>()],
        size in prop_oneof![0..20_000_u64, any::<u64>()],
    ) {
        sector[4..20].copy_from_slice(&MAGIC);
        sector[20..24].copy_from_slice(&1_u32.to_le_bytes());
        sector[24..32].copy_from_slice(&AREA.offset.0.to_le_bytes());
        sector[32..40].copy_from_slice(&AREA.size.0.to_le_bytes());
        sector[40..48].copy_from_slice(&offset.to_le_bytes());
        sector[48..56].copy_from_slice(&size.to_le_bytes());
        let sum = crc(&sector[4..]);
        sector[..4].copy_from_slice(&sum.to_le_bytes());
        let header = MdaHeader::parse(&sector, AREA).expect("the checksum is right");
        if let Some(text) = header.text()
            && let Ok(pieces) = header.pieces(text)
        {
            prop_assert!(pieces.iter().all(|piece| piece.size <= AREA.size));
        }
        let mut disk = Disk::new();
        if let Ok((chunks, next)) = header.place("new") {
            for chunk in chunks {
                disk.write(chunk.offset, &chunk.data);
            }
            if !next.is_ignored() {
                prop_assert_eq!(disk.text(&next).expect("just written"), "new");
            }
        }
    }
}
