//! An image with everything in it that a file tree can have, and what it must look like wherever it is unpacked.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use crate::image::{Compression, Layout, busybox_layer};
use crate::tree::{self, Tree};

/// Where the tree lies in the image.
pub const FOLDER: &str = "tree";
/// `cap_net_bind_service+ep`, as the kernel keeps it with a file.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x04\x00\x00\0\0\0\0\0\0\0\0\0\0\0\0";

/// The image as a layout, under `tag`, in a folder below `folder`: busybox, the tree, and a layer that takes some of it
/// away again. Answers with the layout and with what [`FOLDER`] must hold.
///
/// # Errors
/// When the tree cannot be made.
pub fn image(folder: &Path, tag: &str) -> Result<(Layout, Tree)> {
    let [first, second, truth] = ["first", "second", "truth"].map(|name| folder.join(name));
    populate(&first.join(FOLDER))?;
    change(&second.join(FOLDER))?;

    fs::create_dir(&truth)?;
    run(Command::new("cp").args(["-a", "--preserve=all"]).arg(first.join(FOLDER)).arg(&truth))?;
    let top = truth.join(FOLDER);
    fs::remove_file(top.join("doomed"))?;
    fs::remove_dir_all(top.join("replaced"))?;
    replaced(&top)?;
    dates(&top, &["replaced", ""])?;

    let mut layout = Layout::new(folder.join("layout"))?;
    layout.layer(&busybox_layer()?, Compression::Gzip)?;
    // Not zstd: umoci knows none.
    layout.layer(&archive(&first)?, Compression::Gzip)?;
    layout.layer(&archive(&second)?, Compression::Gzip)?;
    layout.finish(
        tag,
        &serde_json::json!({"Cmd": ["cat", "/tree/plain"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}}),
    )?;
    Ok((layout, tree::read(&top)?))
}

/// A folder as a tar, with all that tar can say.
///
/// # Errors
/// When tar fails.
pub fn archive(folder: &Path) -> Result<Vec<u8>> {
    let flags =
        ["--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name", "-cf", "-"];
    let packed = Command::new("tar").arg("-C").arg(folder).args(flags).arg(FOLDER).output()?;
    ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    Ok(packed.stdout)
}

fn populate(top: &Path) -> Result<()> {
    for (name, mode) in
        [("", 0o755), ("sticky", 0o1777), ("setgid", 0o2755), ("empty", 0o700), ("replaced", 0o711)]
    {
        fs::create_dir_all(top.join(name))?;
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode))?;
    }
    let deep = top.join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep)?;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(3_000_000).collect();
    let files: [(PathBuf, &[u8], u32); 10] = [
        (top.join("plain"), b"plain\n", 0o644),
        (top.join("none"), b"nobody may", 0o000),
        (top.join("setuid"), b"#!/bin/sh\n", 0o4755),
        (top.join("nothing"), b"", 0o600),
        (top.join("large"), &large, 0o640),
        (top.join("\u{540d}\u{524d} \u{1f980}"), b"unicode", 0o644),
        (top.join("capable"), b"may bind", 0o755),
        (top.join("doomed"), b"gone in the end", 0o644),
        (top.join("replaced/old"), b"gone too", 0o644),
        (deep.join("f".repeat(200)), b"deep", 0o444),
    ];
    for (path, bytes, mode) in files {
        fs::write(&path, bytes)?;
        lchown(&path, Some(1234), Some(5678))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    lchown(top.join("setgid"), Some(0), Some(20))?;
    fs::set_permissions(top.join("setgid"), fs::Permissions::from_mode(0o2755))?;
    for (name, target) in [("relative", "plain"), ("absolute", "/tree/plain"), ("dangling", "../nowhere")] {
        symlink(target, top.join(name))?;
        lchown(top.join(name), Some(7), Some(8))?;
    }
    for name in ["second name", "sticky/third name"] {
        fs::hard_link(top.join("large"), top.join(name))?;
    }
    run(Command::new("mkfifo").arg(top.join("fifo")))?;
    run(Command::new("mknod").arg(top.join("null")).args(["c", "1", "3"]))?;
    let attributes: [(&str, &str, &[u8]); 3] = [
        ("plain", "user.note", b"a \0 byte"),
        ("setgid", "user.note", b"a folder's"),
        ("capable", "security.capability", CAPABILITY),
    ];
    for (name, attribute, value) in attributes {
        rustix::fs::lsetxattr(top.join(name), attribute, value, XattrFlags::empty())?;
    }
    let mut names: Vec<PathBuf> = tree::read(top)?.into_keys().collect();
    // A folder after what is in it, whose making changed its time.
    names.reverse();
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).chain([""]).collect();
    dates(top, &names)
}

/// What the upper layer says: one file is hidden, and all that one folder had.
fn change(top: &Path) -> Result<()> {
    fs::create_dir_all(top)?;
    fs::set_permissions(top, fs::Permissions::from_mode(0o755))?;
    fs::write(top.join(".wh.doomed"), "")?;
    replaced(top)?;
    fs::write(top.join("replaced/.wh..wh..opq"), "")?;
    dates(top, &["replaced", ""])
}

fn replaced(top: &Path) -> Result<()> {
    fs::create_dir(top.join("replaced"))?;
    fs::set_permissions(top.join("replaced"), fs::Permissions::from_mode(0o750))?;
    fs::write(top.join("replaced/new"), "new")?;
    fs::set_permissions(top.join("replaced/new"), fs::Permissions::from_mode(0o604))?;
    dates(top, &["replaced/new"])
}

/// Gives each name a time of its own, to the nanosecond.
fn dates(top: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let seconds = 981_173_106 + i64::try_from(name.len())? * 86_400;
        let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, top.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("date {name}"))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
