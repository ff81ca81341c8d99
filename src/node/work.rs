//! Does one piece of work on the disks, and looks at what it changed. No decisions here.

use crate::csi::backend::{Error, Result};
use crate::csi::node::mounts::Mounts;
use crate::engine::Engine;
use crate::host::Host;
use crate::node::decide::Work;
use crate::node::look::{Focus, Glance, glance};
use crate::pool::Pool;
use crate::report::Class;
use crate::volume::spec::Origin;

/// Does it.
///
/// # Errors
/// The engine's, or that what is to be removed is mounted.
pub async fn run<H: Host + 'static, M: Mounts>(pool: &Pool<H, M>, work: Work) -> Result<()> {
    match work {
        Work::OpenPool(_) | Work::ClosePool(_) => {
            Err(Error::new(Class::Internal, "a pool is not opened or closed by its own engine"))
        }
        Work::CreateVolume(spec) => pool.change(move |engine| engine.create_volume(&spec)).await.map(drop),
        Work::Clone { spec, origin } => {
            let make = move |engine: &Engine<H>| match &origin {
                Origin::Snapshot(id) => engine.create_clone(&spec, id),
                Origin::Volume(lv) => engine.clone_volume(&spec, lv, 1),
                Origin::Image(id) => engine.detach_snapshot(&spec, id),
                Origin::Images(lv) => engine.detach_images(&spec, lv),
            };
            pool.change(make).await.map(drop)
        }
        Work::CreateView { name, snapshot } => {
            pool.change(move |engine| engine.create_view(&name, &snapshot)).await.map(drop)
        }
        Work::Expand { lv, size, limit } => {
            pool.change(move |engine| engine.expand_volume(&lv, size, limit)).await.map(drop)
        }
        Work::Modify { lv, change } => {
            pool.change(move |engine| engine.modify_volume(&lv, &change)).await.map(drop)
        }
        Work::Activate(lv) => pool.change(move |engine| engine.activate(&lv)).await,
        Work::DeleteVolume(lv) => pool.delete_volume(lv.as_str()).await,
        Work::Split(spec) => pool.change(move |engine| engine.create_snapshot(&spec)).await.map(drop),
        Work::RollBack(wanted) => pool.begin_rollback(wanted).await,
        Work::SplitGroup(spec) => {
            pool.change(move |engine| engine.create_group_snapshot(&spec)).await.map(drop)
        }
        Work::MergeGroup { id, .. } => pool.change(move |engine| engine.delete_group_snapshot(&id)).await,
        Work::Merge { id, .. } => pool.change(move |engine| engine.delete_snapshot(&id)).await,
    }
}

/// How what it was about is seen now; `None` when that could not be read.
pub async fn seen<H: Host + 'static, M: Mounts>(pool: &Pool<H, M>, work: &Work) -> Option<Glance> {
    let volumes = work.lvs();
    let focus = if volumes.is_empty() { Focus::all() } else { Focus { volumes, ..Focus::default() } };
    pool.run(move |engine: &Engine<H>| glance(engine, &focus)).await.ok()
}

/// What it is called in metrics and logs.
#[must_use]
pub fn name(work: &Work) -> &'static str {
    match work {
        Work::OpenPool(_) => "open pool",
        Work::ClosePool(_) => "close pool",
        Work::CreateVolume(_) => "create volume",
        Work::Clone { origin: Origin::Image(_) | Origin::Images(_), .. } => "detach",
        Work::Clone { origin: Origin::Snapshot(_) | Origin::Volume(_), .. } => "clone",
        Work::CreateView { .. } => "create view",
        Work::Expand { .. } => "expand volume",
        Work::Modify { .. } => "modify volume",
        Work::Activate(_) => "activate volume",
        Work::DeleteVolume(_) => "delete volume",
        Work::Split(_) => "split",
        Work::RollBack(_) => "roll back",
        Work::SplitGroup(_) => "split group",
        Work::MergeGroup { .. } => "merge group",
        Work::Merge { .. } => "merge",
    }
}
