//! Opens files, as root, in folders that the service's user may write to.

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{fs::File, io, path::Path};

/// Opens a regular file for reading. Does not follow a symbolic link, which could point to anything that only root may
/// read, and does not wait for the writer of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => io::Error::other("a symbolic link, which is not followed here"),
        errno => errno.into(),
    });
    let file = File::from(file?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}
