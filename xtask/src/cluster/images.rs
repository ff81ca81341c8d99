//! The container images of the bed that do not change with the project: pause, busybox, a database, the sidecars. Kept in the
//! cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::oci::Image;
use super::programs::{Sidecar, Sidecars};
use crate::cache::{Cache, Key};
use crate::cmd;

/// What holds a pod's namespaces open.
pub const PAUSE: &str = "localhost/pause:1";

/// For pods of tests: a shell and the usual tools.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// For pods of tests: the same, and SQLite.
pub const DATABASE: &str = "localhost/database:1";

/// As Debian's package `sqlite3` installs it.
const SQLITE_PROGRAM: &str = "/usr/bin/sqlite3";

/// As Debian's package `busybox-static` installs it.
const BUSYBOX_PROGRAM: &str = "/bin/busybox";

const PAUSE_SOURCE: &str = include_str!("pause.c");

/// Changes when this module makes something else from the same programs.
const FORMAT: &str = "2";

/// An archive, and the image in it.
#[derive(Clone, Debug)]
pub struct Archive {
    /// `registry/name:tag`.
    pub image: String,
    /// An OCI archive.
    pub file: PathBuf,
    /// Something else for another archive.
    pub id: String,
}

/// All of them.
pub fn fixed(cache: &Cache, sidecars: &Sidecars) -> Result<Vec<Archive>> {
    let sidecars = sidecars.all()?;
    let applets = cmd::stdout(Command::new(BUSYBOX_PROGRAM).arg("--list"))
        .context("the package busybox-static is needed (cargo xtask setup --cluster)")?;
    let mut key = Key::default().text(FORMAT).text(PAUSE_SOURCE).text(&applets);
    let mut names = vec![PAUSE.to_owned(), BUSYBOX.to_owned(), DATABASE.to_owned()];
    for Sidecar { program, image } in &sidecars {
        // The path tells what was built.
        key = key.text(&program.to_string_lossy()).text(image);
        names.push(image.clone());
    }
    let dir = cache.made(&key.name("images"), |work, _| {
        println!("making images");
        let scratch = work.join("scratch");
        let mut images = vec![pause(work)?, busybox(&applets), database(&applets)?];
        images.extend(sidecars.iter().map(sidecar));
        for image in images {
            fs::create_dir(&scratch).context("creating a scratch directory")?;
            image.write(&scratch, &work.join(file_name(&image.name)))?;
            fs::remove_dir_all(&scratch).context("removing the scratch directory")?;
        }
        fs::remove_file(work.join("pause")).context("removing a built program")
    })?;
    let archive = |image: String| {
        let file = dir.join(file_name(&image));
        // The directory is named by what they are made from.
        Archive { id: file.to_string_lossy().into_owned(), file, image }
    };
    Ok(names.into_iter().map(archive).collect())
}

/// Of an image's archive.
fn file_name(image: &str) -> String {
    format!("{}.tar", image.replace(['/', ':'], "_"))
}

fn pause(work: &Path) -> Result<Image> {
    let (source, program) = (work.join("pause.c"), work.join("pause"));
    fs::write(&source, PAUSE_SOURCE).with_context(|| format!("writing {}", source.display()))?;
    cmd::run(Command::new("cc").args(["-O2", "-static", "-s", "-o"]).arg(&program).arg(&source))
        .context("a C compiler is needed (Debian package gcc)")?;
    fs::remove_file(&source).with_context(|| format!("removing {}", source.display()))?;
    Ok(Image {
        name: PAUSE.to_owned(),
        programs: vec![(program, "/bin/pause".to_owned())],
        links: Vec::new(),
        entrypoint: vec!["/bin/pause".to_owned()],
    })
}

fn busybox(applets: &str) -> Image {
    Image {
        name: BUSYBOX.to_owned(),
        programs: vec![(BUSYBOX_PROGRAM.into(), "/bin/busybox".to_owned())],
        links: applets
            .lines()
            .filter(|applet| *applet != "busybox")
            .map(|applet| (format!("/bin/{applet}"), "busybox"))
            .collect(),
        entrypoint: Vec::new(),
    }
}

fn database(applets: &str) -> Result<Image> {
    let mut image = Image { name: DATABASE.to_owned(), ..busybox(applets) };
    image.programs.push((SQLITE_PROGRAM.into(), "/bin/sqlite3".to_owned()));
    let linked = cmd::stdout(Command::new("ldd").arg(SQLITE_PROGRAM))
        .context("the package sqlite3 is needed (cargo xtask setup)")?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader without the arrow.
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    image.programs.extend(libraries.map(|library| (library.into(), library.to_owned())));
    Ok(image)
}

fn sidecar(Sidecar { program, image }: &Sidecar) -> Image {
    Image {
        name: image.clone(),
        programs: vec![(program.clone(), "/bin/program".to_owned())],
        links: Vec::new(),
        entrypoint: vec!["/bin/program".to_owned()],
    }
}
