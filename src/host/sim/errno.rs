//! What the kernel answers, by number.

/// An error number.
pub(super) type Errno = i32;

pub(super) const ENOENT: Errno = 2;
pub(super) const EIO: Errno = 5;
pub(super) const ENXIO: Errno = 6;
pub(super) const EAGAIN: Errno = 11;
pub(super) const EBUSY: Errno = 16;
pub(super) const EINVAL: Errno = 22;
pub(super) const EROFS: Errno = 30;
pub(super) const EDEADLK: Errno = 35;
pub(super) const ESHUTDOWN: Errno = 108;
