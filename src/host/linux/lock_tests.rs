use super::*;

use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("temporary directory");
    let path = dir.path().join("lvm/V_vg");
    (dir, path)
}

#[test]
fn a_second_taker_is_told_who_holds_the_lock() {
    let (_dir, path) = place();
    let lock = Lock::take(path.clone(), LONG).expect("lock");
    let error = Lock::take(path.clone(), Duration::from_millis(20)).expect_err("held");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(lock);
    drop(Lock::take(path, LONG).expect("free again"));
}

#[test]
fn the_holder_is_found_although_other_locks_come_and_go() {
    let (dir, path) = place();
    let lock = Lock::take(path, LONG).expect("lock");
    let inode = lock.file.metadata().expect("metadata").ino();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        for n in 0..2 {
            let other = dir.path().join(format!("other/{n}"));
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    drop(Lock::take(other.clone(), LONG).expect("lock"));
                }
            });
        }
        let found = (0..2000).filter(|_| holder(&locks(), inode) == Some(std::process::id())).count();
        stop.store(true, Ordering::SeqCst);
        found
    });
    assert_eq!(found, 2000);
}

#[test]
fn files_are_gone_once_nobody_holds_them() {
    let (_dir, path) = place();
    drop(Lock::take(path.clone(), LONG).expect("lock"));
    let left = std::fs::read_dir(path.parent().expect("directory")).expect("list").count();
    assert_eq!(left, 0);
}

#[test]
fn a_lock_on_a_file_that_was_replaced_is_not_taken_for_the_lock() {
    let (_dir, path) = place();
    let old = Lock::take(path.clone(), LONG).expect("lock");
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, "").expect("another file");
    assert!(!is_at(&old.file, &path).expect("compare"));
    let new = Lock::take(path.clone(), LONG).expect("the new file is free");
    drop(old);
    assert!(path.exists(), "the old holder must not remove the new file");
    drop(new);
}

#[test]
fn one_at_a_time_although_files_come_and_go() {
    let (_dir, path) = place();
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let lock = Lock::take(path.clone(), LONG).expect("lock");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have the lock");
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
}

#[test]
fn holders_are_read_from_the_list_of_locks() {
    let locks = "1: POSIX  ADVISORY  WRITE 77 00:19:41 0 EOF\n\
                 2: FLOCK  ADVISORY  WRITE 4242 00:19:1234 0 EOF\n\
                 2: -> FLOCK  ADVISORY  WRITE 4243 00:19:1235 0 EOF\n\
                 3: FLOCK  ADVISORY  WRITE 0 00:19:99 0 EOF\n";
    assert_eq!(holder(locks, 1234), Some(4242));
    for inode in [41, 1235, 99, 7] {
        assert_eq!(holder(locks, inode), None, "{inode}");
    }
}

#[test]
fn hints_are_voided_only_where_there_are_hints() {
    let dir = TempDir::new().expect("temporary directory");
    invalidate_hints(dir.path()).expect("nothing to do");
    assert!(!dir.path().join("newhints").exists());
    std::fs::write(dir.path().join("hints"), "# hints").expect("file");
    invalidate_hints(dir.path()).expect("void");
    assert!(dir.path().join("newhints").exists());
}
