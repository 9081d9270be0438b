//! Layers that try to get out, or to cost more than they may.

use super::*;

fn refused(archive: Archive) -> UnpackError {
    Place::new().apply(&archive.end()).unwrap_err()
}

#[test]
fn names_that_walk_are_errors_that_name_the_entry() {
    for name in ["../x", "a/../../x", "/x", "a/../b", ".."] {
        let error = refused(Archive::default().dir("a", 0o755).file(name, b"x"));
        assert!(
            matches!(&error, UnpackError::Entry { entry, problem: Problem::Path(_) } if entry == name),
            "{error:?}"
        );
    }
    for link in ["../outside/canary", "/etc/passwd", "a/../../outside/canary"] {
        let error = refused(Archive::default().dir("a", 0o755).hardlink("h", link));
        assert!(matches!(&error, UnpackError::Entry { problem: Problem::Target(_), .. }), "{error:?}");
    }
    assert!(matches!(refused(Archive::default().symlink("s", "")), UnpackError::Entry { .. }));
}

#[test]
fn writing_through_a_symlink_stays_inside() {
    let place = Place::new();
    let outside = place.outside();
    let up = "../../../../../../../../..";
    let to_outside = format!("{up}{}", outside.display());
    for (i, target) in [outside.to_str().unwrap(), to_outside.as_str(), "../outside"].into_iter().enumerate()
    {
        let (link, file) = (format!("link{i}"), format!("link{i}/canary"));
        let _ = place.apply(&Archive::default().symlink(&link, target).file(&file, b"dead").end());
        let _ = place.apply(
            &Archive::default().symlink(&link, target).file(&format!("link{i}/.wh.canary"), b"").end(),
        );
        let _ =
            place.apply(&Archive::default().symlink(&link, target).hardlink(&format!("h{i}"), &file).end());
        let _ = place.apply(
            &Archive::default().symlink(&link, target).file(&format!("link{i}/.wh..wh..opq"), b"").end(),
        );
    }
    assert_eq!(std::fs::read(outside.join("canary")).unwrap(), b"alive");
}

#[test]
fn writing_through_a_symlink_inside_the_layer_works() {
    let place = Place::new();
    let bytes = Archive::default()
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/x", b"1");
    place.apply(&bytes.end()).unwrap();
    assert_eq!(std::fs::read(place.at("usr/lib/x")).unwrap(), b"1");
    let error =
        refused(Archive::default().dir("d", 0o755).file("d/f", b"1").symlink("l", "d").hardlink("h", "l/f"));
    assert!(
        matches!(error, UnpackError::Entry { problem: Problem::Io(..), .. }),
        "a link target behind a symlink"
    );
}

#[test]
fn a_directory_over_a_symlink_leaves_its_target_alone() {
    let place = Place::new();
    let canary = place.outside();
    let link = canary.to_str().unwrap();
    place.apply(&Archive::default().symlink("d", link).dir("d", 0o777).file("d/x", b"1").end()).unwrap();
    assert!(place.at("d").symlink_metadata().unwrap().is_dir());
    assert_eq!(mode(&place.at("d")), 0o777);
    place
        .apply(&Archive::default().symlink("f", &format!("{link}/canary")).file("f", b"mine").end())
        .unwrap();
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"mine");
}

#[test]
fn a_name_under_a_file_is_an_error() {
    let error = refused(Archive::default().file("f", b"").file("f/x", b""));
    assert!(matches!(error, UnpackError::Entry { problem: Problem::Io(..), .. }));
    let error = refused(Archive::default().symlink("s", "nowhere").file("s/x", b""));
    assert!(matches!(error, UnpackError::Entry { problem: Problem::Io(..), .. }));
    let error = refused(Archive::default().symlink("s", "s").file("s/x", b""));
    assert!(matches!(error, UnpackError::Entry { problem: Problem::Io(..), .. }));
}

#[test]
fn names_in_errors_are_escaped() {
    let error = refused(Archive::default().file("/\u{1b}[2J\n", b""));
    assert!(matches!(&error, UnpackError::Entry { entry, .. } if entry == "/\\u{1b}[2J\\n"), "{error:?}");
}

#[test]
fn opening_a_fifo_or_device_of_the_layer_never_happens() {
    let place = Place::new();
    let pipe = Header { name: "p", flag: b'6', ..Header::default() };
    place.apply(&Archive::default().entry(&pipe, b"").entry(&pipe, b"").file("p", b"file").end()).unwrap();
    assert_eq!(std::fs::read(place.at("p")).unwrap(), b"file");
    let error = refused(Archive::default().entry(&pipe, b"").file("p/x", b""));
    assert!(matches!(error, UnpackError::Entry { problem: Problem::Io(..), .. }));
}

#[test]
fn each_limit_has_a_name() {
    let limited = |limits: Limits, archive: Archive| {
        let tar = archive.end();
        let place = Place::new();
        let root = Root::open(&place.root()).unwrap();
        match unpack(&gzip(&tar)[..], root, &digest(&tar), &limits).unwrap_err() {
            UnpackError::Layer(Problem::Limit(name, _))
            | UnpackError::Entry { problem: Problem::Limit(name, _), .. } => name,
            other => panic!("{other:?}"),
        }
    };
    let base = Limits::default();
    let zeros = || Archive::default().file("z", &vec![0; 4 << 20]);
    assert_eq!(limited(Limits { bytes: 1 << 20, ..base }, zeros()), "number of decompressed bytes");
    assert_eq!(
        limited(Limits { ratio: 50, ratio_from: 1 << 20, ..base }, zeros()),
        "ratio of decompressed to compressed bytes"
    );
    let three = || Archive::default().dir("a", 0o755).dir("b", 0o755).file("c/d/e/f", b"");
    assert_eq!(limited(Limits { entries: 2, ..base }, three()), "number of entries");
    assert_eq!(limited(Limits { directory_bytes: 20, ..base }, three()), "bytes of directory names");
    assert_eq!(
        limited(Limits { implied_bytes: 4, ..base }, three()),
        "bytes of names of implied directories"
    );
}

#[test]
fn a_huge_window_is_refused() {
    let tar = Archive::default().file("a", &[0; 100]).end();
    // A frame header that asks for a window of 2 GiB: magic, descriptor, window descriptor.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8];
    frame.extend([0x01, 0, 0]);
    let error = Place::new().unpack(&frame, &tar).unwrap_err();
    assert!(matches!(error, UnpackError::Layer(Problem::Decompress(_))), "{error:?}");
}
