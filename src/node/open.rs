//! From what a pool should be to one that is open: the group is used as it is, extended, or made.

use std::path::PathBuf;
use std::sync::Arc;

use crate::csi::backend::Error;
use crate::csi::node::mounts::Mounts;
use crate::engine::{self, Engine, Settings, pool};
use crate::host::Host;
use crate::node::wish::PoolWish;
use crate::pool::Pool;
use crate::report::Class;

/// Opens a pool, and brings its volumes up. A group that exists is used although disks cannot be added to it: the second
/// value says why not.
///
/// # Errors
/// There is no such group and none can be made, or it may not be used.
pub async fn open<H: Host + Clone + 'static, M: Mounts>(
    host: H,
    mounts: Arc<M>,
    settings: Settings,
    wish: PoolWish,
) -> Result<(Pool<H, M>, Result<(), Error>), Error> {
    let name = wish.volume_group.clone();
    let (engine, grown) = blocking(move || group(&host, &settings, &wish)).await?;
    let pool = Pool::new(engine, mounts);
    let unable = pool.recover().await?;
    tracing::info!(pool = %name, unable, "the pool is open");
    Ok((pool, grown))
}

/// Adds the disks that an open pool should have and does not.
///
/// # Errors
/// A disk is not blank, in use, or not there.
pub async fn grow<H: Host + 'static, M: Mounts>(
    pool: &Pool<H, M>,
    settings: &Settings,
    wish: &PoolWish,
) -> Result<(), Error> {
    let (devices, options) = (devices(&wish.devices), options(wish, settings));
    if devices.is_empty() {
        return Ok(());
    }
    pool.change(move |engine| engine.extend(&devices, &options)).await.map(drop)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(Error::new(Class::Internal, format!("a pool was not opened: {panic}"))))
}

/// An engine, and why disks were not added.
type Opened<H> = (Engine<H>, Result<(), Error>);

fn group<H: Host + Clone>(host: &H, settings: &Settings, wish: &PoolWish) -> Result<Opened<H>, Error> {
    let told = |error: engine::Error| Error::of(error.class(), &error);
    let open = || Engine::open(host.clone(), wish.volume_group.clone(), settings.clone());
    let (devices, options) = (devices(&wish.devices), options(wish, settings));
    match open() {
        Ok(engine) if devices.is_empty() => Ok((engine, Ok(()))),
        Ok(engine) => {
            let grown = engine.extend(&devices, &options).map(drop).map_err(told);
            Ok((engine, grown))
        }
        Err(error) if error.class() == Class::NotFound && !devices.is_empty() => {
            pool::create(host, &wish.volume_group, &devices, &options).map_err(told)?;
            tracing::info!(pool = %wish.volume_group, devices = devices.len(), "the pool is made");
            Ok((open().map_err(told)?, Ok(())))
        }
        Err(error) => Err(told(error)),
    }
}

fn options(wish: &PoolWish, settings: &Settings) -> pool::Options {
    let default = pool::Options::default();
    pool::Options {
        extent_size: wish.extent_size.unwrap_or(default.extent_size),
        wipe_signatures: devices(&wish.wipe),
        system_id: settings.system_id.clone(),
    }
}

/// The device nodes that paths such as `/dev/disk/by-id/…` lead to; those that lead nowhere stay as they are, to be told.
fn devices(paths: &[String]) -> Vec<PathBuf> {
    let follow = |path: &String| std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    paths.iter().map(follow).collect()
}
