//! Loop devices: a file becomes a block device, for as long as somebody has it open or mounted.
//!
//! Every device is made with `LO_FLAGS_AUTOCLEAR`: the kernel takes it apart with its last user, whoever was killed
//! before. One file is never two devices: two caches over one file would destroy it.
//!
//! UNSAFETY: the ioctls of loop devices have no safe wrapper.

#![expect(unsafe_code, reason = "LOOP_* are raw ioctls")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::OFlags;

use crate::file;

const CONFIGURE: u32 = 0x4C0A;
const GET_STATUS: u32 = 0x4C05;
const GET_FREE: u32 = 0x4C82;
const READ_ONLY: u32 = 1;
const AUTO_CLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// As many free devices are tried as somebody else may have taken first.
const TRIES: usize = 64;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Status,
    reserved: [u64; 8],
}

const NO_STATUS: Status = Status {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// A loop device, there at least until this is dropped.
#[derive(Debug)]
pub struct LoopDevice {
    /// Open, it keeps the device.
    fd: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// The device of a file: the one that it is already, or a new one.
    ///
    /// Callers see to it that nobody else asks for the same file at the same moment.
    ///
    /// # Errors
    /// When the kernel has no loop devices, or refuses the file.
    pub fn of(image: &File, read_only: bool) -> io::Result<Self> {
        match Self::find(image)? {
            Some(device) => Ok(device),
            None => Self::make(image, read_only),
        }
    }

    /// The device that a file is already.
    ///
    /// # Errors
    /// When the file cannot be looked at, or the list of devices not be read.
    pub fn find(image: &File) -> io::Result<Option<Self>> {
        let wanted = file::stat(image)?;
        for entry in std::fs::read_dir("/sys/block")? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("loop")).map(str::parse);
            let Some(Ok(number)) = number else { continue };
            // Only one that is in use has this folder; opening the others would be work for nothing.
            if !PathBuf::from(format!("/sys/block/loop{number}/loop")).is_dir() {
                continue;
            }
            let Ok(device) = Self::open(number) else { continue };
            // Open, it stays what it is.
            let Ok(status) = device.status() else { continue };
            if (status.device, status.inode) == (wanted.st_dev, wanted.st_ino) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    fn make(image: &File, read_only: bool) -> io::Result<Self> {
        let control =
            rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        let fd = u32::try_from(image.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut busy = io::Error::from(io::ErrorKind::ResourceBusy);
        for attempt in 0..TRIES {
            // SAFETY: the request takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE as libc::Ioctl) };
            let number = u32::try_from(number).map_err(|_| io::Error::last_os_error())?;
            let device = Self::open(number)?;
            // Not every file system below has direct writes, and nothing depends on them.
            let direct = if attempt % 2 == 0 { DIRECT_IO } else { 0 };
            let flags = AUTO_CLEAR | direct | if read_only { READ_ONLY } else { 0 };
            let config = Config { fd, block_size: 0, info: Status { flags, ..NO_STATUS }, reserved: [0; 8] };
            // SAFETY: the request reads one `struct loop_config`, which lives over the call.
            let result = unsafe {
                libc::ioctl(device.fd.as_raw_fd(), CONFIGURE as libc::Ioctl, std::ptr::from_ref(&config))
            };
            if result == 0 {
                return Ok(device);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // Somebody was faster; or: no direct writes here.
                Some(libc::EBUSY) => busy = error,
                Some(libc::EINVAL) if direct != 0 => busy = error,
                _ => return Err(error),
            }
        }
        Err(busy)
    }

    fn open(number: u32) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let path = format!("/dev/loop{number}");
        let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
        Ok(Self { fd, number })
    }

    fn status(&self) -> io::Result<Status> {
        let mut status = NO_STATUS;
        // SAFETY: the request fills one `struct loop_info64`, which lives over the call.
        let result = unsafe {
            libc::ioctl(
                self.fd.as_fd().as_raw_fd(),
                GET_STATUS as libc::Ioctl,
                std::ptr::from_mut(&mut status),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
    }

    /// Its path, `/dev/loop0`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/dev/loop{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<Status>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }

    #[test]
    fn a_file_is_one_device_and_goes_with_its_last_user() {
        let folder = tempfile::tempdir().unwrap();
        let image = File::create_new(folder.path().join("image")).unwrap();
        image.set_len(1 << 20).unwrap();
        let image = File::options().read(true).write(true).open(folder.path().join("image")).unwrap();
        let first = match LoopDevice::of(&image, false) {
            Ok(device) => device,
            Err(error) => return eprintln!("skipped: no loop devices here: {error}"),
        };
        let again = LoopDevice::of(&image, false).unwrap();
        assert_eq!(first.path(), again.path());
        drop((first, again));
        assert!(LoopDevice::find(&image).unwrap().is_none(), "the kernel took it apart");
    }
}
