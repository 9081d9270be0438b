//! The kernel's one address: every raw system call of davit, without policy and without async.
//!
//! | family | module |
//! |---|---|
//! | openat2 below an untrusted root, `*at` calls, atomic writes, file locks | [`file`] |
//! | clone3, pidfd, waitid, signals | [`process`] |

pub mod file;
pub mod process;
