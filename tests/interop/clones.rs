//! A clone that is not filled, in the hands of LVM2.

use std::path::PathBuf;

use splitmirror::units::Bytes;
use splitmirror::volume::spec::VolumeSpec;

use crate::lab::{self, Outcome, ensure, say};
use crate::lvm::{ANY, calm, is_content, lvm, node, plan, shows, visible};
use crate::writer::{Writers, check_instant};

pub fn lvm2_reads_a_clone_at_every_stage_and_does_not_expose_what_is_not_filled(
    disks: &[PathBuf],
) -> Outcome {
    let engine = lab::new_pool(disks, 4)?;
    let device = lab::new_volume(&engine, "v", 3)?;
    let writers = Writers::start(&device, plan(71), None)?;
    writers.wait_for(100)?;
    let snapshot = lab::split(&engine, "s", "v")?;
    writers.stop()?;
    let image = PathBuf::from(snapshot.device.as_ref().ok_or("a snapshot has no device")?);
    let cut = check_instant(&image, &plan(71), &ANY.0, &ANY.1)?;
    // So slow that it is not filled before it is told to be.
    let spec = VolumeSpec { max_recovery_rate: Some(1), size: Bytes::mib(24), ..lab::volume_spec("c", 2) };
    engine.create_clone(&spec, &snapshot.id).map_err(say)?;
    let unfilled = |what: &str, active: bool| -> Outcome {
        let look = || -> Outcome {
            if active {
                // It is legal; that the device runs dm-clone for now is worth a warning to `lvs`, which asks the kernel.
                calm("vgck pool")?;
                lvm("lvs -a -o +lv_all,seg_all,devices")?;
            } else {
                is_content(disks)?;
            }
            let shown = visible()?;
            ensure(shown == ["c", "c-hydr", "v", "v_rimage_2"], || format!("lvs shows {shown:?}"))?;
            shows(
                "c",
                &[("segtype", "raid1"), ("lv_skip_activation", "skip activation"), ("lv_size", "25165824")],
            )?;
            shows("c-hydr", &[("segtype", "raid1"), ("lv_skip_activation", "skip activation")])
        };
        look().map_err(|e| format!("{what}: {e}"))
    };
    unfilled("used and not filled", true)?;
    check_instant(&lab::device(&engine, "c")?, &plan(71), &cut, &cut)?;

    // As at the boot of a host whose LVM2 activates by itself, and by hand.
    for volume in ["c", "v"] {
        engine.deactivate(&volume.parse().map_err(say)?).map_err(say)?;
    }
    let exposed = || -> Outcome<bool> { Ok(lab::devices()?.iter().any(|name| name.starts_with("pool-c"))) };
    for activation in ["vgchange -aay pool", "vgchange -ay pool", "lvchange -ay pool/c"] {
        lvm(activation)?;
        ensure(!exposed()?, || format!("{activation}: {:?}", lab::devices()))?;
    }
    unfilled("left alone by LVM2", false)?;

    let failed = engine.recover().map_err(say)?;
    ensure(failed.is_empty(), || format!("{failed:?}"))?;
    check_instant(&lab::device(&engine, "c")?, &plan(71), &cut, &cut)?;
    // An administrator takes it down: the stack goes from the top, and comes back.
    lvm("lvchange -an pool/c")?;
    ensure(!lab::devices()?.contains(&"pool-c".to_owned()), || format!("{:?}", lab::devices()))?;
    engine.activate(&"c".parse().map_err(say)?).map_err(say)?;
    let device = lab::device(&engine, "c")?;
    check_instant(&device, &plan(71), &cut, &cut)?;
    engine.delete_volume("c").map_err(say)?;
    is_content(disks)?;

    engine.create_clone(&VolumeSpec { max_recovery_rate: None, ..spec }, &snapshot.id).map_err(say)?;
    lab::settle(&engine)?;
    lab::merge(&engine, &snapshot.id)?;
    is_content(disks)?;
    shows("c", &[("lv_skip_activation", ""), ("lv_attr", "rwi-a-r---"), ("copy_percent", "100.00")])?;
    ensure(visible()? == ["c", "v"], || format!("{:?}", visible()))?;
    lvm("vgchange -an pool")?;
    lvm("vgchange -ay pool")?;
    check_instant(&node("c"), &plan(71), &cut, &cut)?;
    ensure(engine.recover().map_err(say)?.is_empty(), || "it does not come up".into())?;
    lab::wait_in_sync(&engine, "c")?;
    ensure(lab::legs_are_equal(&engine, "c")? == 2, || "an image is missing".into())
}
