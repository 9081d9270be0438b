//! Random layers against a model of a file tree: what the model says is on the disk, and nothing else.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a path is in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir(u32),
    File(u32, Vec<u8>),
    Symlink(String),
    Whiteout,
}

#[derive(Debug, Clone)]
struct Step {
    path: String,
    node: Node,
}

/// Few names and no deep paths, so that steps often meet.
fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof!["[abc]", Just("d".repeat(120))];
    let path = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let mode = prop_oneof![Just(0o644u32), Just(0o755), Just(0o4711), Just(0o1777)];
    let node =
        (mode, prop::collection::vec(any::<u8>(), 0..2000), 0..6u8).prop_map(
            |(mode, data, kind)| match kind {
                0 | 1 => Node::Dir(mode),
                2 => Node::Symlink("nowhere".to_owned()),
                3 => Node::Whiteout,
                _ => Node::File(mode, data),
            },
        );
    (path, node).prop_map(|(path, node)| Step { path, node })
}

/// Applies a step to the model; false where the layer must be refused.
fn model(tree: &mut BTreeMap<String, Node>, step: &Step) -> bool {
    let ends: Vec<usize> = step.path.match_indices('/').map(|(i, _)| i).collect();
    for end in ends {
        let parent = &step.path[..end];
        match tree.get(parent) {
            Some(Node::Dir(_)) => {}
            None | Some(Node::Whiteout) => {
                tree.insert(parent.to_owned(), Node::Dir(0o755));
            }
            Some(Node::File(..) | Node::Symlink(_)) => return false,
        }
    }
    match (tree.get(&step.path), &step.node) {
        (Some(_), Node::Whiteout) => return true,
        (Some(Node::Dir(_)), Node::Dir(_)) => {}
        (Some(Node::Dir(_)), _) => {
            let below = format!("{}/", step.path);
            tree.retain(|path, _| !path.starts_with(&below));
        }
        _ => {}
    }
    tree.insert(step.path.clone(), step.node.clone());
    true
}

fn archive(steps: &[Step]) -> Vec<u8> {
    let mut archive = Archive::default();
    for Step { path, node } in steps {
        let whited = match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        let (name, flag, mode, link, data): (&str, u8, u32, &str, &[u8]) = match node {
            Node::Dir(mode) => (path, b'5', *mode, "", b""),
            Node::File(mode, data) => (path, b'0', *mode, "", data),
            Node::Symlink(target) => (path, b'2', 0o777, target, b""),
            Node::Whiteout => (&whited, b'0', 0, "", b""),
        };
        archive = archive
            .pax(&[("path", name.as_bytes())])
            .entry(&Header { name: "short", flag, mode, link, ..Header::default() }, data);
    }
    archive.end()
}

fn found(root: &Path) -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = path.symlink_metadata().unwrap();
            let node = if meta.is_dir() {
                open.push(path.clone());
                Node::Dir(mode(&path))
            } else if meta.is_symlink() {
                Node::Symlink(std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else if is_whiteout(&path) {
                Node::Whiteout
            } else {
                Node::File(mode(&path), std::fs::read(&path).unwrap())
            };
            tree.insert(name, node);
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_disk_is_what_the_model_says(steps in prop::collection::vec(step(), 0..30)) {
        let place = Place::new();
        let mut expected = BTreeMap::new();
        let possible = steps.iter().all(|step| model(&mut expected, step));
        let result = place.apply(&archive(&steps));
        if possible {
            result.unwrap();
            prop_assert_eq!(found(&place.root()), expected);
        } else {
            prop_assert!(result.is_err());
        }
    }

    #[test]
    fn no_names_and_targets_get_out(
        names in prop::collection::vec("(\\.\\./|/|\\./|a/|b/|\\.wh\\.|\\.wh\\.\\.wh\\.\\.opq|a|b|\\.\\.){1,5}", 1..12),
        links in prop::collection::vec("(\\.\\./|/|a/|b|outside|canary|\\.\\.){1,6}", 12),
        flags in prop::collection::vec(prop::sample::select(vec![b'0', b'1', b'2', b'5', b'6']), 12),
    ) {
        let place = Place::new();
        let mut archive = Archive::default();
        for ((name, link), flag) in names.iter().zip(&links).zip(&flags) {
            archive = archive.entry(&Header { name, link, flag: *flag, mode: 0o777, ..Header::default() }, b"");
        }
        // Whatever it makes or refuses: `apply` checks that the canary outside did not change.
        let _ = place.apply(&archive.end());
        prop_assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 2);
    }
}
