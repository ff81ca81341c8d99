use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn device(label: &Label) -> Vec<u8> {
    let at = usize::try_from(label.offset().0).expect("small");
    let mut device = vec![0; 4096];
    device[at..at + SECTOR].copy_from_slice(&label.render().expect("fits"));
    device
}

fn fresh() -> Label {
    Label::fresh(LvmUuid::from_random([3; 32]), Bytes::gib(1), false)
}

#[test]
fn a_blank_device_has_no_label() {
    assert_eq!(Label::parse(&[0; 4096]), Ok(None));
    assert_eq!(Label::parse(&[]), Ok(None));
}

#[test]
fn a_fresh_label_is_laid_out_as_pvcreate_does_it() {
    let sector = fresh().with_used(true).render().expect("fits");
    let u64_at = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("8 bytes"));
    assert_eq!(&sector[..8], b"LABELONE");
    assert_eq!(&sector[24..32], b"LVM2 001");
    let areas: Vec<u64> = (0..8).map(|n| u64_at(72 + 8 * n)).collect();
    assert_eq!(areas, [1_048_576, 0, 0, 0, 4096, 1_044_480, 0, 0]);
    assert_eq!(&sector[136..144], [2, 0, 0, 0, 1, 0, 0, 0]);
    assert!(sector[144..].iter().all(|b| *b == 0));
}

#[test]
fn real_labels_are_rendered_as_they_were() {
    let orphan = include_bytes!("../../../tests/golden/lvm2/pv-orphan.bin");
    let used = include_bytes!("../../../tests/golden/lvm2/pv-in-use.bin");
    for (file, in_group) in [(orphan, false), (used, true)] {
        let label = Label::parse(file).unwrap().unwrap();
        assert_eq!(label.render().unwrap(), file[512..1024]);
        assert_eq!(label, Label::fresh(label.pv, Bytes::mib(256), in_group));
    }
}

#[test]
fn a_damaged_label_is_an_error_and_not_a_blank_device() {
    let mut bytes = device(&fresh());
    bytes[600] ^= 1;
    assert!(matches!(Label::parse(&bytes), Err(LabelError::Checksum { sector: 1, .. })));
}

#[test]
fn a_label_in_the_wrong_sector_does_not_count() {
    let mut bytes = device(&fresh());
    bytes.copy_within(512..1024, 1024);
    bytes[512..1024].fill(0);
    assert_eq!(Label::parse(&bytes), Err(LabelError::Place { sector: 2, claimed: 1 }));
}

#[test]
fn an_extension_of_tomorrow_is_refused() {
    let mut label = fresh();
    label.extension = Some(Extension { version: 3, flags: 0, bootloader: Vec::new() });
    assert_eq!(Label::parse(&device(&label)), Err(LabelError::Newer { sector: 1, version: 3 }));
}

#[test]
fn the_used_flag_is_set_and_cleared() {
    let label = fresh();
    assert_eq!(label.is_used(), Some(false));
    assert_eq!(label.with_used(true).is_used(), Some(true));
    assert_eq!(label.with_used(true).with_used(false), label);
}

fn areas() -> impl Strategy<Value = Vec<Area>> {
    let area = (1..u64::MAX, any::<u64>());
    vec(area.prop_map(|(offset, size)| Area { offset: Bytes(offset), size: Bytes(size) }), 0..4)
}

proptest! {
    #[test]
    fn labels_read_back(
        (sector, id, size) in (0..4_u64, any::<[u8; 32]>(), any::<u64>()),
        (data, metadata, bootloader) in (areas(), areas(), areas()),
        (version, flags) in (1..=2_u32, any::<u32>()),
    ) {
        let extension = Some(Extension { version, flags, bootloader });
        let pv = LvmUuid::from_random(id);
        let label = Label { sector, pv, device_size: Bytes(size), data, metadata, extension };
        prop_assert_eq!(Label::parse(&device(&label)), Ok(Some(label)));
    }

    #[test]
    fn garbage_never_panics(mut bytes in vec(any::<u8>(), 2048), sector in 0..4_usize, right in any::<bool>()) {
        let start = sector * SECTOR;
        bytes[start..start + 8].copy_from_slice(MAGIC);
        bytes[start + 24..start + 32].copy_from_slice(KIND);
        bytes[start + 8..start + 16].copy_from_slice(&u64::try_from(sector).expect("small").to_le_bytes());
        if right {
            let sum = crc(&bytes[start + 20..start + 512]);
            bytes[start + 16..start + 20].copy_from_slice(&sum.to_le_bytes());
        }
        drop(Label::parse(&bytes));
    }
}
