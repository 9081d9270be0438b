//! What counts as a change of a layer, told from folders that were changed as an overlay would change them.

use std::fs;
use std::path::Path;

use davit_sys::file::{NodeKind, Times, make_node_at, open_dir, set_times, set_xattr};

use super::*;
use crate::layer;
use crate::tar::Reader;
use crate::write::Writer;

/// Two layers below and a writable one; whiteouts and opaque directories need root.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for layer in ["up", "one", "two"] {
            fs::create_dir(dir.path().join(layer)).unwrap();
        }
        Self(dir)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        self
    }

    fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    /// False where this user may not.
    fn gone(&self, path: &str) -> bool {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let dir = open_dir(path.parent().unwrap()).unwrap();
        make_node_at(dir, path.file_name().unwrap(), NodeKind::Character { major: 0, minor: 0 }, 0).is_ok()
    }

    fn opaque(&self, path: &str) -> bool {
        let dir = open_dir(&self.path(path)).unwrap();
        set_xattr(dir, "trusted.overlay.opaque".as_ref(), b"y").is_ok()
    }

    /// All directories that are here and below have the same time.
    fn settle(&self) {
        fn each(path: &Path) {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    each(&entry.path());
                }
            }
            let times = Times { accessed: (7, 0), modified: (7, 0) };
            set_times(open_dir(path).unwrap(), times).unwrap();
        }
        each(self.0.path());
    }

    fn overlay(&self, mounts: &[&str]) -> Overlay {
        let open = |name: &str| open_dir(&self.path(name)).unwrap();
        Overlay {
            upper: open("up"),
            lower: vec![open("one"), open("two")],
            mounts: mounts.iter().map(|mount| mount.as_bytes().to_vec()).collect(),
        }
    }

    fn changes(&self, mounts: &[&str]) -> Vec<String> {
        let mut told = Vec::new();
        changes(&self.overlay(mounts), &mut |change| {
            let sign = match change.kind {
                Kind::Added => 'A',
                Kind::Changed => 'C',
                Kind::Deleted => 'D',
                Kind::Covered => 'd',
                Kind::Same => '=',
            };
            told.push(format!("{sign}{}", String::from_utf8_lossy(change.path)));
            Ok(())
        })
        .unwrap();
        told
    }

    fn layer(&self) -> Vec<String> {
        let mut writer = Writer::new(Vec::new());
        layer(&self.overlay(&[]), &mut writer).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..], 1 << 20);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(String::from_utf8(entry.path).unwrap());
        }
        names
    }
}

#[test]
fn nothing_changed_is_nothing() {
    let scene = Scene::new();
    scene.file("one/a/b").dir("up/a").settle();
    assert!(scene.changes(&[]).is_empty());
    assert!(scene.layer().is_empty());
}

#[test]
fn files_are_new_or_changed_below_directories_that_may_be_the_same() {
    let scene = Scene::new();
    scene.file("two/etc/old").file("one/etc/other").file("one/usr/x");
    scene.file("up/etc/old").file("up/etc/new").file("up/zoo/deep/f").dir("up/usr").settle();
    assert_eq!(scene.changes(&[]), ["=", "=etc", "Aetc/new", "Cetc/old", "Azoo", "Azoo/deep", "Azoo/deep/f"]);
    assert_eq!(scene.layer(), ["./", "etc/", "etc/new", "etc/old", "zoo/", "zoo/deep/", "zoo/deep/f"]);
}

#[test]
fn whiteouts_count_where_something_was() {
    let scene = Scene::new();
    scene.file("one/a/gone").file("one/a/stays");
    if !scene.gone("up/a/gone") || !scene.gone("up/a/never") {
        return;
    }
    scene.settle();
    assert_eq!(scene.changes(&[]), ["=", "=a", "Da/gone"]);
    assert_eq!(scene.layer(), ["./", "a/", "a/.wh.gone"]);
}

#[test]
fn opaque_directories_cover_what_is_below() {
    let scene = Scene::new();
    scene.file("one/d/old").file("two/d/older").file("two/d/sub/deep").file("two/d/away");
    scene.file("up/d/new").dir("up/d/sub").dir("up/fresh");
    if !scene.opaque("up/d") || !scene.opaque("up/fresh") || !scene.gone("one/d/away") {
        return;
    }
    scene.settle();
    assert_eq!(
        scene.changes(&[]),
        ["=", "Cd", "Ad/new", "dd/old", "dd/older", "=d/sub", "dd/sub/deep", "Afresh"]
    );
    assert_eq!(scene.layer(), ["./", "d/", "d/.wh..wh..opq", "d/new", "d/sub/", "fresh/"]);
}

#[test]
fn another_kind_of_file_is_a_change_that_hides() {
    let scene = Scene::new();
    scene.file("one/was_file").file("one/was_dir/f").file("up/was_file/inside").file("up/was_dir").settle();
    assert_eq!(scene.changes(&[]), ["=", "Cwas_dir", "Cwas_file", "Awas_file/inside"]);
}

#[test]
fn mount_points_that_were_made_do_not_count() {
    let scene = Scene::new();
    scene.file("one/etc/passwd").dir("one/there").settle();
    fs::create_dir_all(scene.path("up/etc")).unwrap();
    fs::write(scene.path("up/etc/hosts"), "").unwrap();
    scene.dir("up/data").dir("up/a/b/c").dir("up/there");
    let mounts = ["data", "etc/hosts", "a/b/c", "there"];
    fs::File::create(scene.path("up/root")).unwrap();
    let shown = scene.changes(&mounts);
    assert_eq!(shown, ["=", "Aroot", "Cthere"], "a directory of the image is one, whatever is mounted on it");
    // With something beside them they show what they are in.
    scene.file("up/a/b/file").file("up/etc/new").file("up/data/in");
    assert_eq!(
        scene.changes(&mounts),
        ["=", "Aa", "Aa/b", "Aa/b/file", "Adata", "Adata/in", "=etc", "Aetc/new", "Aroot", "Cthere"]
    );
}

#[test]
fn names_that_look_like_whiteouts_cannot_be_in_a_layer() {
    let scene = Scene::new();
    scene.file("up/.wh.passwd").file("up/.wh..wh..opq/f").file("up/d/.wh.x").settle();
    assert_eq!(scene.layer(), ["./", "d/"]);
}

#[test]
fn modes_and_attributes_of_directories_are_changes() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    scene.dir("one/a").dir("one/b").dir("up/a").dir("up/b");
    fs::set_permissions(scene.path("up/a"), fs::Permissions::from_mode(0o700)).unwrap();
    let tagged = set_xattr(open_dir(&scene.path("up/b")).unwrap(), "user.k".as_ref(), b"v").is_ok();
    scene.settle();
    let expected: &[&str] = if tagged { &["=", "Ca", "Cb"] } else { &["=", "Ca"] };
    assert_eq!(scene.changes(&[]), expected);
    // Of the root too.
    fs::set_permissions(scene.path("up"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(scene.changes(&[])[0], "C");
}

#[test]
fn who_swaps_links_meanwhile_shows_nothing_of_the_host() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "never to be seen").unwrap();
    let scene = Scene::new();
    scene.file("one/d/secret").file("up/d/secret").file("up/e/f");
    fs::create_dir_all(scene.path("up/spare")).unwrap();
    fs::write(scene.path("up/spare/secret"), "harmless").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // A directory, a link out of the tree, a link to one file outside; whatever fails is the race itself.
                let _ = fs::rename(scene.path("up/d"), scene.path("up/away"));
                let _ = std::os::unix::fs::symlink(outside.path(), scene.path("up/d"));
                let _ = fs::remove_file(scene.path("up/d"));
                let _ = fs::rename(scene.path("up/away"), scene.path("up/d"));
                let _ = fs::rename(scene.path("up/e/f"), scene.path("up/e/g"));
                let _ = std::os::unix::fs::symlink(outside.path().join("secret"), scene.path("up/e/f"));
                let _ = fs::rename(scene.path("up/e/g"), scene.path("up/e/f"));
            }
        });
        for _ in 0..300 {
            let mut writer = Writer::new(Vec::new());
            if layer(&scene_overlay(&scene), &mut writer).is_ok() {
                let bytes = writer.finish().unwrap();
                assert!(!bytes.windows(16).any(|window| window == b"never to be seen"));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn scene_overlay(scene: &Scene) -> Overlay {
    scene.overlay(&["d/mount", "e/f"])
}
