//! What every snapshotter does, whatever a layer is to it.

use std::path::Path;

use super::{SnapshotError, Snapshotter};
use crate::digest::digest;
use crate::fixture::gzip;
use crate::unpack::{Limits, UnpackError};
use davit_archive::fixture::Archive;
use davit_proto::id::Digest;

/// Runs all checks on snapshotters made at empty folders.
pub(crate) fn check<S: Snapshotter>(make: impl Fn(&Path) -> S) {
    layers_are_whole_or_absent(&make);
    layers_outlive_their_maker(&make);
    mounts_list_the_topmost_first(&make);
    removal_is_idempotent(&make);
    implied_directories_look_as_below(&make);
}

fn add(snapshots: &impl Snapshotter, archive: Archive) -> Digest {
    let tar = archive.end();
    let diff_id = digest(&tar);
    let layer = snapshots.unpack(&diff_id, &mut &gzip(&tar)[..], &Limits::default()).unwrap();
    assert_eq!(layer.diff_id, diff_id);
    diff_id
}

fn lower(snapshots: &impl Snapshotter, diff_ids: &[Digest]) -> Vec<String> {
    let mount = snapshots.mount(diff_ids).unwrap();
    assert_eq!(mount.kind, "overlay");
    mount.options.iter().map(|option| option.strip_prefix("lowerdir=").unwrap().to_owned()).collect()
}

/// Which of the lower directories have a file of this name.
fn having(lower: &[String], name: &str) -> Vec<usize> {
    (0..lower.len()).filter(|&i| Path::new(&lower[i]).join(name).symlink_metadata().is_ok()).collect()
}

fn layers_are_whole_or_absent<S: Snapshotter>(make: &impl Fn(&Path) -> S) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = make(dir.path());
    let good = Archive::default().dir("d", 0o755).file("d/f", b"12345").end();
    let diff_id = digest(&good);
    let limits = Limits::default();
    let error = snapshots.unpack(&diff_id, &mut &gzip(b"no archive")[..], &limits).unwrap_err();
    assert!(matches!(error, SnapshotError::Unpack(_)));
    let other = gzip(&Archive::default().file("other", b"").end());
    let error = snapshots.unpack(&diff_id, &mut &other[..], &limits).unwrap_err();
    assert!(matches!(error, SnapshotError::Unpack(UnpackError::DiffId { .. })));
    assert_eq!(snapshots.layer(&diff_id).unwrap(), None);
    assert!(matches!(snapshots.mount(std::slice::from_ref(&diff_id)), Err(SnapshotError::Missing(_))));
    assert!(snapshots.list().unwrap().is_empty());

    snapshots.unpack(&diff_id, &mut &gzip(&good)[..], &limits).unwrap();
    snapshots.unpack(&diff_id, &mut &good[..], &limits).unwrap();
    assert_eq!(snapshots.layer(&diff_id).unwrap().unwrap().bytes, 5);
    assert_eq!(snapshots.list().unwrap().len(), 1);
}

fn layers_outlive_their_maker<S: Snapshotter>(make: &impl Fn(&Path) -> S) {
    let dir = tempfile::tempdir().unwrap();
    let diff_id = add(&make(dir.path()), Archive::default().file("f", b"123"));
    let again = make(dir.path());
    assert_eq!(again.layer(&diff_id).unwrap().unwrap().bytes, 3);
    assert_eq!(having(&lower(&again, std::slice::from_ref(&diff_id)), "f"), [0]);
    assert!(again.paths(&[diff_id])[0].exists());
}

fn mounts_list_the_topmost_first<S: Snapshotter>(make: &impl Fn(&Path) -> S) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = make(dir.path());
    let a = add(&snapshots, Archive::default().file("a", b""));
    let b = add(&snapshots, Archive::default().file("b", b""));
    let cover = add(&snapshots, Archive::default().file(".wh..wh..opq", b"").file("c", b""));
    let two = lower(&snapshots, &[a.clone(), b.clone()]);
    assert_eq!((having(&two, "b"), having(&two, "a")), (vec![0], vec![1]));
    let covered = lower(&snapshots, &[a.clone(), cover, b.clone()]);
    assert_eq!((covered.len(), having(&covered, "b"), having(&covered, "c")), (2, vec![0], vec![1]));
    let twice = lower(&snapshots, &[a.clone(), b, a]);
    assert_eq!((twice.len(), having(&twice, "a")), (2, vec![0]), "an overlay takes no directory twice");
    let none = lower(&snapshots, &[]);
    assert_eq!(none.len(), 1);
    assert_eq!(std::fs::read_dir(&none[0]).unwrap().count(), 0);
}

fn removal_is_idempotent<S: Snapshotter>(make: &impl Fn(&Path) -> S) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = make(dir.path());
    let diff_id = add(&snapshots, Archive::default().file("a", b"1"));
    snapshots.remove(&diff_id).unwrap();
    snapshots.remove(&diff_id).unwrap();
    assert_eq!(snapshots.layer(&diff_id).unwrap(), None);
    assert!(snapshots.list().unwrap().is_empty());
    add(&snapshots, Archive::default().file("a", b"1"));
    assert!(snapshots.layer(&diff_id).unwrap().is_some());
}

fn implied_directories_look_as_below<S: Snapshotter>(make: &impl Fn(&Path) -> S) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let snapshots = make(dir.path());
    let base =
        add(&snapshots, Archive::default().dir("tmp", 0o1777).dir("var", 0o750).dir("var/tmp", 0o1777));
    let upper =
        add(&snapshots, Archive::default().file("tmp/x", b"").file("var/tmp/y", b"").file("new/z", b""));
    let shown = lower(&snapshots, &[base.clone(), upper.clone()]);
    let mode = |path: &str| {
        let top = having(&shown, path)[0];
        Path::new(&shown[top]).join(path).metadata().unwrap().permissions().mode() & 0o7777
    };
    assert_eq!((mode("tmp"), mode("var"), mode("var/tmp"), mode("new")), (0o1777, 0o750, 0o1777, 0o755));
    assert_eq!(lower(&snapshots, &[base.clone(), upper.clone()]), shown, "and the same again");
    let hidden = add(&snapshots, Archive::default().file(".wh.tmp", b"").file(".wh.var", b""));
    let gone = lower(&snapshots, &[base.clone(), upper.clone(), hidden]);
    assert_eq!(having(&gone, "tmp/x"), [1], "what a layer above hides is not made again");
    assert_eq!(
        lower(&snapshots, std::slice::from_ref(&upper)).len(),
        1,
        "a chain without a base needs nothing"
    );
    snapshots.remove(&base).unwrap();
    assert!(snapshots.mount(&[base, upper]).is_err());
}
