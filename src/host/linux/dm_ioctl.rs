//! The three device-mapper ioctls that tell udev what to do: resume, rename and remove; and the one that makes a block
//! device read-only.
//!
//! They are not left to the `devicemapper` crate because it ties udev's flags to udev's semaphore: where it sees udev it
//! waits, without end, for a semaphore that a udev in another IPC namespace can never find, and where it does not see
//! udev it drops the flags, so that the host's udev would take a hidden image for an ordinary volume and link
//! `/dev/disk/by-uuid` to it. Here the flags are always sent and nothing is waited for: the low half of the cookie, which
//! names the semaphore, stays zero, which `dmsetup udevcomplete` in udev's rules takes as "flags only".
//!
//! Sources: Linux `include/uapi/linux/dm-ioctl.h`, `drivers/md/dm-ioctl.c` (`dev_suspend`, `dev_rename`, `dev_remove`);
//! LVM2 `libdm/libdevmapper.h` (flags), `lib/activate/dev_manager.c` (`_get_udev_flags`).
// An ioctl with a structure of our own can only be made through an unsafe call.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

use crate::host::{DevNo, Udev};

const DM_MAGIC: u8 = 0xfd;
const DEV_REMOVE: Opcode = opcode::read_write::<Header>(DM_MAGIC, 4);
const DEV_RENAME: Opcode = opcode::read_write::<Header>(DM_MAGIC, 5);
const DEV_SUSPEND: Opcode = opcode::read_write::<Header>(DM_MAGIC, 6);

/// `BLKROSET`.
const SET_READ_ONLY: Opcode = opcode::none(0x12, 93);

/// `DM_SKIP_LOCKFS_FLAG`: a resume that must first suspend does not freeze the file system.
const SKIP_LOCKFS: u32 = 1 << 10;

const UDEV_FLAGS_SHIFT: u32 = 16;
const UDEV_DISABLE_SUBSYSTEM_RULES: u32 = 0x02;
const UDEV_DISABLE_DISK_RULES: u32 = 0x04;
const UDEV_DISABLE_OTHER_RULES: u32 = 0x08;
const UDEV_PRIMARY_SOURCE: u32 = 0x40;

const NAME_LEN: usize = 128;

/// `struct dm_ioctl`.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; NAME_LEN],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// A header with the new name of a rename behind it; unused by the other two.
#[repr(C)]
struct Request {
    header: Header,
    new_name: [u8; NAME_LEN],
}

/// Resumes a device and says which it is. Where the device runs already, the kernel does nothing, unless a table waits
/// in the inactive slot: then it suspends first, and does so without freezing a file system.
pub(super) fn resume(control: &File, name: &str, udev: Udev) -> io::Result<DevNo> {
    let mut request = Request::new(name, udev_event(udev))?;
    request.header.flags = SKIP_LOCKFS;
    // SAFETY: `DEV_SUSPEND` reads and writes the `data_size` bytes of `Request`, which has the kernel's layout.
    unsafe { ioctl(control, Updater::<DEV_SUSPEND, Request>::new(&mut request)) }?;
    Ok(devno(request.header.dev))
}

/// Renames a device.
pub(super) fn rename(control: &File, name: &str, new_name: &str, udev: Udev) -> io::Result<()> {
    let mut request = Request::new(name, udev_event(udev))?;
    request.new_name = c_name(new_name)?;
    // SAFETY: `DEV_RENAME` reads and writes the `data_size` bytes of `Request`, which has the kernel's layout; the new
    // name ends with a zero byte.
    unsafe { ioctl(control, Updater::<DEV_RENAME, Request>::new(&mut request)) }?;
    Ok(())
}

/// Removes a device.
pub(super) fn remove(control: &File, name: &str) -> io::Result<()> {
    // udev's rules take the links away whatever the flags say.
    let mut request = Request::new(name, udev_event(Udev::Volume))?;
    // SAFETY: `DEV_REMOVE` reads and writes the `data_size` bytes of `Request`, which has the kernel's layout.
    unsafe { ioctl(control, Updater::<DEV_REMOVE, Request>::new(&mut request)) }?;
    Ok(())
}

/// Makes a block device refuse to be opened for writing. No table is loaded and nothing waits for it, as `DM_READONLY_FLAG`
/// would need; the kernel shows it as that same flag.
pub(super) fn set_read_only(device: &File) -> io::Result<()> {
    // SAFETY: `BLKROSET` reads one `int` through the pointer that `Setter` passes.
    unsafe { ioctl(device, Setter::<SET_READ_ONLY, i32>::new(1)) }?;
    Ok(())
}

/// The event number of the uevent that udev gets: flags in the high half, no semaphore in the low half.
fn udev_event(udev: Udev) -> u32 {
    let flags = match udev {
        Udev::Volume => 0,
        Udev::Image => UDEV_DISABLE_DISK_RULES | UDEV_DISABLE_OTHER_RULES,
        Udev::Hidden => UDEV_DISABLE_SUBSYSTEM_RULES | UDEV_DISABLE_DISK_RULES | UDEV_DISABLE_OTHER_RULES,
    };
    (flags | UDEV_PRIMARY_SOURCE) << UDEV_FLAGS_SHIFT
}

impl Request {
    fn new(name: &str, event_nr: u32) -> io::Result<Self> {
        let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        Ok(Self {
            header: Header {
                version: [4, 0, 0],
                data_size: size(size_of::<Self>())?,
                data_start: size(size_of::<Header>())?,
                target_count: 0,
                open_count: 0,
                flags: 0,
                event_nr,
                padding: 0,
                dev: 0,
                name: c_name(name)?,
                uuid: [0; 129],
                data: [0; 7],
            },
            new_name: [0; NAME_LEN],
        })
    }
}

/// A name with the zero byte that ends it.
fn c_name(name: &str) -> io::Result<[u8; NAME_LEN]> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= NAME_LEN || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} cannot name a device")));
    }
    let mut field = [0; NAME_LEN];
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}

/// The kernel's `huge_decode_dev`.
fn devno(dev: u64) -> DevNo {
    let field = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
    DevNo { major: field((dev & 0xf_ff00) >> 8), minor: field((dev & 0xff) | ((dev >> 12) & 0xfff_ff00)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(std::mem::offset_of!(Header, dev), 40);
        assert_eq!(std::mem::offset_of!(Header, name), 48);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
        assert_eq!(std::mem::offset_of!(Request, new_name), 312);
        assert_eq!([DEV_REMOVE, DEV_RENAME, DEV_SUSPEND], [0xc138_fd04, 0xc138_fd05, 0xc138_fd06]);
        assert_eq!(SET_READ_ONLY, 0x125d);
    }

    #[test]
    fn udev_gets_flags_and_no_semaphore() {
        for (udev, event) in
            [(Udev::Volume, 0x0040_0000), (Udev::Image, 0x004c_0000), (Udev::Hidden, 0x004e_0000)]
        {
            assert_eq!(udev_event(udev), event, "{udev:?}");
        }
    }

    #[test]
    fn device_numbers_beyond_one_byte_are_decoded() {
        assert_eq!(devno(0xfd03), DevNo { major: 253, minor: 3 });
        assert_eq!(devno(0x0010_fd03), DevNo { major: 253, minor: 259 });
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(c_name("").is_err());
        assert!(c_name(&"x".repeat(128)).is_err());
        assert!(c_name("a\0b").is_err());
        assert!(c_name(&"x".repeat(127)).is_ok());
    }
}
