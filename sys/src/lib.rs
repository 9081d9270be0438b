//! The kernel's one address: every raw system call of davit, without policy and without async.
//!
//! | family | module |
//! |---|---|
//! | openat2 below an untrusted root, `*at` calls, atomic writes, file locks | [`mod@file`] |
//! | clone3, pidfd, waitid, signals | [`process`] |
//! | SCM_RIGHTS, pipes, standard streams | [`fd`] |
//! | pseudo-terminals, raw mode | [`pty`] |
//! | capabilities, ids, limits | [`privilege`] |
//! | system call filters | [`seccomp`] |
//! | device filters of v2 cgroups | [`bpf`] |
//! | sealed executables | [`memory`] |
//! | fsopen, open_tree, move_mount, mount_setattr, pivot_root | [`mount`] |
//! | setns, unshare, host names | [`namespace`] |
//! | limits of what a directory takes | [`quota`] |
//! | files as block devices | [`loop_device`] |
//! | sockets that hold and serve ports of the host | [`port`] |
//! | signalfd, ended children | [`supervise`] |
//! | giving back stack pages | [`stack`] |
//! | giving back free memory, processor time | [`resident`] |

pub mod bpf;
pub mod fd;
pub mod file;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod port;
pub mod privilege;
pub mod process;
pub mod pty;
pub mod quota;
pub mod resident;
pub mod seccomp;
pub mod stack;
pub mod supervise;
