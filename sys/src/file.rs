//! Files: below a root that nobody trusts, one entry at a time, whole trees, atomic replacement, locks.
//!
//! A path that an image, an archive, a container or a user had a hand in is only ever resolved by [`Root`];
//! what it answers is a descriptor, and everything after works on descriptors and single names.

mod atomic;
mod entry;
mod handle;
mod lock;
mod reserve;
mod root;
mod share;
mod spread;
mod tree;
mod usage;
mod which;

pub use atomic::{Durability, read_bounded, read_bounded_file, sync_dir, sync_file_system, write_atomic};
pub(crate) use entry::single;
pub use entry::{
    NodeKind, Times, change_directory, chmod, chmod_at, chown, chown_at, device_numbers, is_devpts, is_dir,
    is_kernel_interface, is_procfs, is_same, is_sysfs, is_tmpfs, link_at, make_dir_at, make_node_at, open_at,
    open_dir, open_dir_at, remove_dir_at, remove_file_at, rename_at, set_times, set_times_at, set_xattr,
    set_xattr_at, stat, stat_at, symlink_at,
};
pub use handle::{
    finish_sparse, is_read_only, open_listing, read_link, rename_new_at, reopen, set_times_of, write_sparse,
    xattrs,
};
pub use lock::Flock;
pub use reserve::{keep_reserve, reserve_ahead, write_from_reserve};
pub use root::{Parent, Root, is_elsewhere};
pub use share::{copy_data, share};
pub use spread::spread_directories;
pub use tree::{list_dirs, list_names, remove_children, remove_tree};
pub use usage::{Usage, disk_of, usage, usage_below};
pub use which::{MountOf, mount_of, mount_of_entry, mount_of_link};

/// The type bits of a file's mode.
pub use rustix::fs::FileType;
/// Flags of an open call, as the kernel names them.
pub use rustix::fs::OFlags;
/// What `stat` says about a file.
pub use rustix::fs::Stat;
