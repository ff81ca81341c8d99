//! A database that is written to all the time: SQLite's own command line, one transaction after another.
//!
//! Each transaction adds a row with the next number and a random body, and puts the number into a counter of its own. It is
//! committed when SQLite has said so; that number is noted. WAL mode with `synchronous=FULL`: each commit is an fsync.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::guest::Outcome;
use crate::lab::{ensure, run, say};

const PREPARE: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=200;
    CREATE TABLE entry(n INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE counter(last INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);";

/// A database at work.
pub struct Database {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writer: JoinHandle<Outcome>,
}

/// What a database file holds.
#[derive(Debug)]
pub struct Content {
    /// What `PRAGMA integrity_check` says.
    pub integrity: String,
    /// The number of the last transaction.
    pub last: u64,
    /// Every transaction up to the last is there, and nothing else.
    pub complete: bool,
}

impl Database {
    /// Makes one and begins to write.
    pub fn start(path: &Path) -> Outcome<Self> {
        run("sqlite3", &[file(path)?, PREPARE])?;
        let mut sqlite = Command::new("sqlite3")
            .args(["-batch", "-bail", file(path)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sqlite3: {error}"))?;
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = std::thread::spawn({
            let (stop, committed) = (Arc::clone(&stop), Arc::clone(&committed));
            move || {
                let written = write(&mut sqlite, &stop, &committed);
                drop(sqlite.stdin.take());
                let end = sqlite.wait().map_err(say)?;
                written?;
                ensure(end.success(), || format!("sqlite3: {end}"))
            }
        });
        Ok(Self { stop, committed, writer })
    }

    /// The number of the last transaction that SQLite has called committed.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Waits for some more transactions.
    pub fn wait_for(&self, more: u64) -> Outcome {
        let goal = self.committed() + more;
        while self.committed() < goal {
            ensure(!self.writer.is_finished(), || "the database has stopped".into())?;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().map_err(|_| "the database's writer panicked")??;
        Ok(self.committed.load(Ordering::Acquire))
    }
}

fn write(sqlite: &mut Child, stop: &AtomicBool, committed: &AtomicU64) -> Outcome {
    let mut input = sqlite.stdin.take().ok_or("sqlite3 has no input")?;
    let mut output = BufReader::new(sqlite.stdout.take().ok_or("sqlite3 has no output")?);
    writeln!(input, "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=200;").map_err(say)?;
    for n in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        writeln!(
            input,
            "BEGIN; INSERT INTO entry VALUES ({n}, randomblob(600)); UPDATE counter SET last = {n}; COMMIT;\n\
             .print committed {n}"
        )
        .and_then(|()| input.flush())
        .map_err(|error| format!("sqlite3: {error}"))?;
        let wanted = format!("committed {n}");
        let mut line = String::new();
        while line.trim_end() != wanted {
            line.clear();
            let len = output.read_line(&mut line).map_err(say)?;
            ensure(len > 0, || format!("sqlite3 ended at transaction {n}"))?;
        }
        committed.store(n, Ordering::Release);
    }
    Ok(())
}

fn file(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| "a path is not UTF-8".to_owned())
}

/// Reads a database where it is, without changing or copying anything. `mode=ro` and not `immutable=1`: the latter ignores
/// the write-ahead log, in which the last commits are.
pub fn read(path: PathBuf) -> Outcome<Content> {
    let uri = format!("file:{}?mode=ro", file(&path)?);
    let query = "PRAGMA integrity_check; SELECT last FROM counter;
        SELECT count(*) = (SELECT last FROM counter) AND min(n) = 1 AND max(n) = count(*) FROM entry;";
    let out = run("sqlite3", &[&uri, query])?;
    match out.lines().collect::<Vec<_>>().as_slice() {
        [integrity, last, complete] => Ok(Content {
            integrity: (*integrity).to_owned(),
            last: last.parse().map_err(say)?,
            complete: *complete == "1",
        }),
        _ => Err(format!("sqlite3 {uri}: {out}")),
    }
}
