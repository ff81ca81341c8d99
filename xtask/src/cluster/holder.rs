//! The process that holds a bed: `xtask cluster-hold SPEC`. It is in a network namespace that ends with the last process in
//! it, and everything else hangs on it by life lines: however it ends, nothing is left running.
//!
//! Its own standard input is a life line too, unless the bed is detached.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bed::{Bed, Spec};
use super::protocol::{Reply, Request};
use super::stop::Stop;

/// Brings the bed up, takes requests, and ends with it.
pub fn main(spec: &Path) -> Result<()> {
    // A Ctrl-C is for who started us; its end is ours, in order.
    rustix::process::setsid().context("leaving the terminal")?;
    let text = fs::read(spec).with_context(|| format!("reading {}", spec.display()))?;
    let spec: Spec = serde_json::from_slice(&text).context("parsing the bed's specification")?;
    let stop = Stop::default();
    let (wake, woken) = std::sync::mpsc::channel::<PathBuf>();
    if !spec.detached {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
            stop.ask();
            // Whoever waits for requests looks up when one comes.
            if let Ok(socket) = woken.recv() {
                UnixStream::connect(socket).ok();
            }
        });
    }
    let file = spec.description.clone();
    let mut bed = Bed::up(spec, stop.clone())?;
    let listener = UnixListener::bind(bed.socket()).context("listening for requests")?;
    // Nobody waits for it when the bed is detached.
    wake.send(bed.socket()).ok();
    let description = serde_json::to_vec_pretty(&bed.description()).context("rendering the description")?;
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, description).with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, &file).with_context(|| format!("writing {}", file.display()))?;
    let mut asker = None;
    for connection in listener.incoming() {
        let connection = connection.context("taking a request")?;
        if stop.check().is_err() {
            break;
        }
        match serve(&mut bed, &connection) {
            Ok(Request::Down) => {
                asker = Some(connection);
                break;
            }
            Ok(_) => {}
            Err(error) => eprintln!("a request: {error:#}"),
        }
    }
    drop(bed);
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    match asker {
        Some(connection) => reply(&connection, &Reply::default()),
        None => Ok(()),
    }
}

/// Answers one request. That to end is answered when all has ended.
fn serve(bed: &mut Bed, connection: &UnixStream) -> Result<Request> {
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).context("reading it")?;
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let error = Some(format!("not a request: {error}"));
            reply(connection, &Reply { error, ..Reply::default() })?;
            return Err(error_of(&line));
        }
    };
    if request != Request::Down {
        reply(connection, &bed.answer(&request))?;
    }
    Ok(request)
}

fn error_of(line: &str) -> anyhow::Error {
    anyhow::anyhow!("not understood: {}", line.trim_end())
}

fn reply(mut connection: &UnixStream, reply: &Reply) -> Result<()> {
    let text = serde_json::to_string(reply).context("rendering a reply")?;
    connection.write_all(format!("{text}\n").as_bytes()).context("replying")
}
