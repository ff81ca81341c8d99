use super::*;

use std::os::unix::fs::symlink;

use tempfile::TempDir;

/// A sysfs and a /dev in a temporary directory.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(TempDir::new().expect("temporary directory"));
        for dir in ["class/block", "dev/block", "nodes"] {
            std::fs::create_dir_all(tree.0.path().join(dir)).expect("directory");
        }
        tree
    }

    /// Adds a device below `devices/`, with files `(path, content)`, and its node.
    fn add(&self, place: &str, devno: &str, size: u64, files: &[(&str, &str)]) {
        let root = self.0.path();
        let dir = root.join("devices").join(place);
        let name = dir.file_name().expect("a name").to_owned();
        let size = size.to_string();
        for (file, content) in [("dev", devno), ("size", size.as_str())].iter().chain(files) {
            let path = dir.join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            std::fs::write(path, format!("{content}\n")).expect("file");
        }
        symlink(&dir, root.join("class/block").join(&name)).expect("link");
        symlink(&dir, root.join("dev/block").join(devno)).expect("link");
        std::fs::write(root.join("nodes").join(&name), "").expect("node");
    }

    fn scan(&self) -> Vec<BlockDevice> {
        block_devices(self.0.path(), &self.dev()).expect("scan")
    }

    fn dev(&self) -> PathBuf {
        self.0.path().join("nodes")
    }

    fn names(&self) -> Vec<String> {
        let name = |d: BlockDevice| d.path.file_name().expect("a name").to_string_lossy().into_owned();
        self.scan().into_iter().map(name).collect()
    }
}

#[test]
fn disks_and_partitions_are_found_with_size_number_and_kind() {
    let tree = Tree::new();
    tree.add("sda", "8:0", 2048, &[("queue/rotational", "1")]);
    tree.add("sda/sda1", "8:1", 1024, &[("partition", "1")]);
    tree.add("nvme0n1", "259:0", 4096, &[("queue/rotational", "0")]);
    let disk = |name: &str, major, minor, size, rotational| BlockDevice {
        path: tree.dev().join(name),
        devno: DevNo { major, minor },
        size: Sectors(size),
        rotational,
    };
    let expected =
        [disk("nvme0n1", 259, 0, 4096, false), disk("sda", 8, 0, 2048, true), disk("sda1", 8, 1, 1024, true)];
    assert_eq!(tree.scan(), expected);
}

#[test]
fn what_cannot_carry_a_pv_is_left_out() {
    let tree = Tree::new();
    tree.add("ram0", "1:0", 8192, &[]);
    tree.add("sr0", "11:0", 8192, &[]);
    tree.add("loop0", "7:0", 0, &[]);
    tree.add("loop1", "7:1", 2048, &[("loop/backing_file", "/disk")]);
    tree.add("dm-0", "253:0", 2048, &[("dm/uuid", "LVM-abc"), ("dm/name", "vg-lv")]);
    tree.add("dm-1", "253:1", 2048, &[("dm/uuid", "CRYPT-LUKS2-x"), ("dm/name", "secret")]);
    tree.add("sdz", "8:240", 2048, &[]);
    std::fs::remove_file(tree.dev().join("sdz")).expect("node");
    assert_eq!(tree.names(), ["dm-1", "loop1"]);
}

#[test]
fn paths_of_a_multipath_device_and_members_of_an_array_are_left_out() {
    let tree = Tree::new();
    tree.add("sda", "8:0", 2048, &[("holders/dm-3/x", "")]);
    tree.add("sdb", "8:16", 2048, &[("holders/md0/x", "")]);
    tree.add("sdc", "8:32", 2048, &[("holders/dm-4/x", "")]);
    tree.add("dm-3", "253:3", 2048, &[("dm/uuid", "mpath-36001"), ("dm/name", "mpatha")]);
    tree.add("dm-4", "253:4", 2048, &[("dm/uuid", "LVM-abc"), ("dm/name", "vg-lv")]);
    tree.add("md0", "9:0", 2048, &[("md/level", "raid1")]);
    assert_eq!(tree.names(), ["dm-3", "md0", "sdc"]);
}

#[test]
fn device_mapper_devices_are_listed_with_name_and_uuid() {
    let tree = Tree::new();
    tree.add("sda", "8:0", 2048, &[]);
    tree.add("dm-7", "253:7", 0, &[("dm/uuid", "LVM-abc"), ("dm/name", "vg-lv")]);
    let entry =
        DmEntry { name: "vg-lv".into(), uuid: "LVM-abc".into(), devno: DevNo { major: 253, minor: 7 } };
    assert_eq!(dm_entries(tree.0.path()).expect("list"), [entry]);
}

#[test]
fn nodes_are_found_by_number() {
    let tree = Tree::new();
    tree.add("cciss!c0d0", "104:0", 2048, &[]);
    tree.add("sda", "8:0", 2048, &[]);
    let node = |major, minor| node(tree.0.path(), &tree.dev(), DevNo { major, minor });
    assert_eq!(node(8, 0).expect("node"), tree.dev().join("sda"));
    assert!(node(8, 1).is_err());
    std::fs::create_dir(tree.dev().join("cciss")).expect("directory");
    std::fs::write(tree.dev().join("cciss/c0d0"), "").expect("node");
    assert_eq!(node(104, 0).expect("node"), tree.dev().join("cciss/c0d0"));
}

#[test]
fn sectors_written_are_the_seventh_number() {
    let stat = "     103        0     4984       12       57        3      968       40        0       36       52\n";
    assert_eq!(sectors_written(stat).expect("a number"), Sectors(968));
    assert!(sectors_written("1 2 3").is_err());
}
