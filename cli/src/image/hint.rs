//! A nearer name for an image that nobody has: `unbuntu` is mostly `ubuntu`, `lastest` always `latest`.

use davit_proto::image::ListRequest;
use davit_proto::status::{ErrorKind, RemoteError};

use crate::client::Engine;
use crate::reference;

/// Names that people mistype most: the official images with the most pulls.
const KNOWN: [&str; 36] = [
    "alpine",
    "amazonlinux",
    "busybox",
    "caddy",
    "cassandra",
    "consul",
    "couchdb",
    "debian",
    "docker",
    "elasticsearch",
    "fedora",
    "ghost",
    "golang",
    "haproxy",
    "hello-world",
    "httpd",
    "influxdb",
    "mariadb",
    "maven",
    "memcached",
    "mongo",
    "mysql",
    "nextcloud",
    "nginx",
    "node",
    "php",
    "postgres",
    "python",
    "rabbitmq",
    "redis",
    "registry",
    "ruby",
    "tomcat",
    "traefik",
    "ubuntu",
    "wordpress",
];
/// Tags that people mistype most.
const TAGS: [&str; 4] = ["latest", "stable", "alpine", "slim"];

/// The same error, with the name that was perhaps meant.
pub async fn improve(engine: &Engine, typed: &str, mut error: RemoteError) -> RemoteError {
    // A registry that cannot be asked says nothing of the name; what is here still does.
    let known: &[&str] = match error.kind {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unauthenticated => &KNOWN,
        ErrorKind::Unavailable => &[],
        _ => return error,
    };
    if let Some(meant) = nearest(typed, &local(engine).await, known) {
        error.message.push_str(&format!("; did you mean {meant:?}?"));
    }
    error
}

/// References of the images that are here; none when even that cannot be asked.
async fn local(engine: &Engine) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut images) = engine.images().await else { return names };
    let Ok(answer) = images.list(ListRequest::default()).await else { return names };
    let mut answer = answer.into_inner();
    while let Ok(Some(frame)) = answer.message().await {
        let references = frame.images.into_iter().flat_map(|image| image.references);
        names.extend(references.map(|reference| reference::familiar(&reference).to_owned()));
    }
    names
}

/// The name that is meant, when one is near: one that is here first, then one that many know.
fn nearest(typed: &str, here: &[String], known: &[&str]) -> Option<String> {
    let whole = reference::with_tag(typed);
    if typed.contains('@') {
        return None;
    }
    let near = here.iter().filter(|name| is_near(&whole, name));
    if let Some(name) = near.min_by_key(|name| distance(&whole, name)) {
        return Some(name.clone());
    }
    let (repository, tag) = reference::split(&whole);
    let better_tag = TAGS.into_iter().find(|known| is_near(tag, known));
    let better_name = known.iter().copied().find(|known| is_near(repository, known));
    match (better_name, better_tag) {
        (None, None) => None,
        (name, better) => {
            let name = name.unwrap_or(repository);
            Some(match better {
                Some("latest") => name.to_owned(),
                Some(tag) => format!("{name}:{tag}"),
                None if reference::split(typed).1.is_empty() => name.to_owned(),
                None => format!("{name}:{tag}"),
            })
        }
    }
}

/// Whether one text is a slip of the other: at most two letters wrong, in a word of some length.
fn is_near(typed: &str, known: &str) -> bool {
    let allowed = if known.len() < 5 { 1 } else { 2 };
    typed != known
        && known.len() > 3
        && typed.len().abs_diff(known.len()) <= 2
        && distance(typed, known) <= allowed
}

/// Letters to change, add, leave out or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let above = rows.last().map_or(&[][..], Vec::as_slice);
            let mut best =
                (cell(above, j) + usize::from(x != y)).min(cell(above, j + 1) + 1).min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped && let Some(earlier) = rows.len().checked_sub(2).and_then(|at| rows.get(at)) {
                best = best.min(cell(earlier, j - 1) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slips_of_the_notes() {
        for (typed, meant) in [
            ("unbuntu:18.04", Some("ubuntu:18.04")),
            ("ubunut", Some("ubuntu")),
            ("ngnix", Some("nginx")),
            ("ubuntu:lastest", Some("ubuntu")),
            ("fastcampus/hello-world:lastest", Some("fastcampus/hello-world")),
            ("nigx:lastest", Some("nginx")),
            ("my-own-thing", None),
            ("ubuntu:18.04", None),
            ("nod@sha256:00", None),
        ] {
            assert_eq!(nearest(typed, &[], &KNOWN).as_deref(), meant, "{typed}");
        }
        assert_eq!(nearest("webb", &["web:latest".into()], &[]).as_deref(), Some("web:latest"));
        let here = ["ubuntu:14.04".into(), "ubuntu:18.04".into()];
        assert_eq!(nearest("unbuntu:18.04", &here, &[]).as_deref(), Some("ubuntu:18.04"), "the nearest");
    }

    #[test]
    fn distances() {
        for (a, b, wanted) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a, b), wanted, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_symmetric(a in "[abc]{0,8}", b in "[abc]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }

        #[test]
        fn no_name_makes_it_panic(typed in "\\PC{0,30}") {
            let _ = nearest(&typed, &["x:latest".into()], &KNOWN);
        }
    }
}
