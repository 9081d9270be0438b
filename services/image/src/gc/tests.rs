//! What goes by which policy, and that nothing goes that anybody needs, whatever happens at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use davit_archive::fixture::Archive;
use davit_proto::id::ContainerId;
use davit_sys::file::{self, Times};

use super::policy::Settings;
use super::*;
use crate::fixture::{Made, Says};

struct Host {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { _dir: dir, store }
    }

    fn collector(&self, change: impl FnOnce(&mut Settings)) -> Arc<Collector> {
        let mut settings = Settings::default();
        change(&mut settings);
        Collector::new(self.store.clone(), Policy::new(&settings).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let list = self.store.list().unwrap();
        let mut names: Vec<String> = list.into_iter().flat_map(|summary| summary.references).collect();
        names.sort();
        names.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn left(&self) -> (usize, usize) {
        (self.store.content().list().unwrap().len(), self.store.snapshots().list().unwrap().len())
    }
}

fn container(n: u8) -> ContainerId {
    format!("{n:02x}").repeat(32).parse().unwrap()
}

fn image(name: &str, bytes: usize) -> Made {
    let base = Archive::default().dir("etc", 0o755).file("etc/base", b"base");
    Made::of([base, Archive::default().file(name, &vec![7; bytes])])
}

/// Makes a file older, as if its image had not been used for so many hours.
fn age(store: &Store, digest: &Digest, hours: i64) {
    let path = store.content().path(digest);
    let then = jiff::Timestamp::now().as_second() - hours * 3600;
    let times = Times { accessed: (then, 0), modified: (then, 0) };
    file::set_times(std::fs::File::open(path).unwrap(), times).unwrap();
}

fn age_folder(path: &Path, hours: i64) {
    let then = jiff::Timestamp::now().as_second() - hours * 3600;
    let times = Times { accessed: (then, 0), modified: (then, 0) };
    file::set_times(file::open_dir(path).unwrap(), times).unwrap();
}

#[test]
fn without_limits_only_old_content_of_nobody_goes() {
    let host = Host::new();
    let (named, nobodys) = (image("named", 10), image("nobodys", 10));
    named.put(&host.store, &["named:1"]);
    nobodys.put(&host.store, &[]);
    named.blobs.keys().chain(nobodys.blobs.keys()).for_each(|digest| age(&host.store, digest, 30));
    let collector = host.collector(|_| ());
    let run = collector.run();
    assert_eq!(host.left().0, 4, "what is named stays however old it is: {run:?}");
    assert_eq!((run.images, run.loose, run.trouble.as_str()), (0, 3, ""));
    assert!(run.freed > 0);
    let top = nobodys.diff_ids[1].hex();
    assert_eq!(host.left().1, 3, "its layer is young still");
    age_folder(&host.store.content().root().join("layers").join(top), 30);
    assert_eq!(collector.run().loose, 1);
    assert_eq!((host.left().1, host.names()), (2, vec!["named:1".to_owned()]));
    assert_eq!(collector.last().unwrap().loose, 1);
}

#[test]
fn images_go_by_budget_the_least_recently_used_first() {
    let host = Host::new();
    for (n, name) in ["old:1", "older:1", "kept:1", "used:1", "young:1"].iter().enumerate() {
        let made = image(name, 100_000 + n);
        made.put(&host.store, &[name]);
        let hours = [5, 9, 20, 30, 0][n];
        age(&host.store, &made.manifest.digest, hours);
    }
    host.store.prepare(&container(1), "used:1").unwrap();
    age(&host.store, &host.store.find("used:1").unwrap().image.descriptor.digest, 30);
    let taken = |store: &Store| {
        let usage = store.disk_usage().unwrap();
        usage.layer_bytes + usage.blob_bytes
    };
    let budget = taken(&host.store) - 1;
    let limited = |budget: u64| {
        host.collector(|settings| {
            settings.gc_budget = Some(budget.to_string());
            settings.gc_keep = vec!["reference=kept".into()];
        })
    };
    let run = limited(budget).run();
    assert_eq!(run.images, 1, "{run:?}");
    assert_eq!(
        host.names(),
        ["kept:1", "old:1", "used:1", "young:1"],
        "one was enough: the oldest that may go"
    );
    assert!(taken(&host.store) <= budget);
    let run = limited(1).run();
    assert_eq!(host.names(), ["kept:1", "used:1", "young:1"]);
    assert!(run.trouble.contains("bytes more cannot be freed"), "{run:?}");
    host.store.release(&container(1)).unwrap();
    limited(1).run();
    assert_eq!(host.names(), ["kept:1", "used:1", "young:1"], "a container used it just now");
}

#[test]
fn dangling_images_go_only_when_asked_and_idle() {
    let host = Host::new();
    let (old, new) = (image("a", 10), image("b", 10));
    old.put(&host.store, &["app:1"]);
    new.put(&host.store, &["app:1"]);
    age(&host.store, &old.manifest.digest, 30);
    host.collector(|_| ()).run();
    assert_eq!(host.store.list().unwrap().len(), 2);
    host.collector(|settings| settings.gc_dangling_age = Some("31h".into())).run();
    assert_eq!(host.store.list().unwrap().len(), 2);
    assert_eq!(host.collector(|settings| settings.gc_dangling_age = Some("29h".into())).run().images, 1);
    assert_eq!(host.names(), ["app:1"]);
}

#[test]
fn a_full_file_system_counts_as_df_says() {
    let dir = tempfile::tempdir().unwrap();
    let (used, all) = space(dir.path()).unwrap();
    assert!(used > 0 && used <= all);
    let host = Host::new();
    let made = image("a", 10);
    made.put(&host.store, &["a:1"]);
    age(&host.store, &made.manifest.digest, 30);
    let run = host.collector(|settings| (settings.gc_high, settings.gc_low) = (Some(1), Some(0))).run();
    assert_eq!((run.images, host.left()), (1, (0, 0)), "{run:?}");
}

#[test]
fn it_runs_by_itself_and_ends_with_its_service() {
    let host = Host::new();
    let made = image("a", 10);
    made.put(&host.store, &[]);
    made.blobs.keys().for_each(|digest| age(&host.store, digest, 30));
    tokio::runtime::Runtime::new().unwrap().block_on(runs_by_itself(&host));
}

async fn runs_by_itself(host: &Host) {
    let collector = host.collector(|settings| settings.gc_interval = Some("10ms".into()));
    collector.start();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while host.left().0 > 0 {
        assert!(std::time::Instant::now() < deadline, "nothing was collected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let weak = Arc::downgrade(&collector);
    drop(collector);
    while weak.upgrade().is_some() {
        assert!(std::time::Instant::now() < deadline, "the task keeps it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A handful of images that share layers; the same for every thread.
fn images() -> Vec<Made> {
    let layer = |n: usize| {
        Archive::default().dir("etc", 0o755).file(&format!("etc/{n}"), format!("layer {n}").as_bytes())
    };
    (0..6)
        .map(|n| {
            let says = Says { created: "2024-01-01T00:00:00Z", ..Says::default() };
            Made::saying([layer(0), layer(1 + n % 2), layer(10 + n)], &says)
        })
        .collect()
}

/// Brings an image in as a pull does: leased before it is looked for, content, layers, name.
fn take_in(store: &Store, made: &Made, name: &str) {
    let mut lease = store.lease();
    made.blobs.keys().chain(&made.diff_ids).for_each(|digest| lease.add(digest));
    for (digest, bytes) in &made.blobs {
        if let Some(ingest) = store.content().ingest_blocking(digest, bytes.len() as u64).unwrap() {
            let mut writer = ingest.restart().unwrap();
            writer.write(bytes).unwrap();
            writer.commit().unwrap();
        }
    }
    for (layer, diff_id) in made.layers.iter().zip(&made.diff_ids) {
        store.add_layer(layer, diff_id).unwrap();
    }
    let reference: crate::reference::ImageRef = name.parse().unwrap();
    store
        .name(
            &made.manifest,
            Some(reference.clone()),
            Some(reference.with_digest(made.manifest.digest.clone())),
        )
        .unwrap();
}

/// All that a container was promised is there.
fn check_held(store: &Store, made: &Made, layers: &[String]) {
    for option in layers {
        let folder = option.strip_prefix("lowerdir=").unwrap();
        assert!(Path::new(folder).is_dir(), "{folder} is gone under a container");
    }
    for digest in made.blobs.keys() {
        assert!(store.content().size(digest).unwrap().is_some(), "{digest} is gone under a container");
    }
}

fn xorshift(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap()
}

/// One thread's share: pulls, prepares, releases, tags, removes, prunes, in an order of its own.
fn work(store: &Store, images: &[Made], thread: u8, rounds: usize) {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ (u64::from(thread) << 32 | 1);
    for round in 0..rounds {
        let at = xorshift(&mut state) % images.len();
        let (made, name) = (&images[at], format!("image{at}:1"));
        match xorshift(&mut state) % 9 {
            0..=2 => take_in(store, made, &name),
            8 => {
                // Readers fill caches while others remove.
                store.list().unwrap();
                store.disk_usage().unwrap();
                let _ = store.history(&name);
            }
            3..=5 => {
                let id = container(thread);
                let Ok(prepared) = store.prepare(&id, &name) else { continue };
                check_held(store, made, &prepared.rootfs.options);
                std::thread::yield_now();
                check_held(store, made, &prepared.rootfs.options);
                store.release(&id).unwrap();
            }
            6 => {
                let _ = store.tag(&name, &format!("tag{thread}-{round}:1"));
                let _ = store.remove(&name, &crate::remove::How { force: true, ..Default::default() });
            }
            _ => {
                let scope = if round % 2 == 0 {
                    crate::remove::Scope::Unused
                } else {
                    crate::remove::Scope::Dangling
                };
                store.prune(scope, |_| true).unwrap();
            }
        }
    }
}

#[test]
fn whatever_happens_at_the_same_time_nothing_is_taken_that_is_held_or_named_and_all_else_goes() {
    let host = Host::new();
    let images = images();
    let ended = AtomicBool::new(false);
    // No grace and no age: whatever may go, goes at once.
    let collector = host.collector(|settings| {
        (settings.gc_grace, settings.gc_min_age) = (Some("0".into()), Some("0".into()));
        (settings.gc_budget, settings.gc_dangling_age) = (Some("1".into()), Some("0".into()));
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let run = collector.run();
                assert!(run.trouble.is_empty() || run.trouble.contains("cannot be freed"), "{run:?}");
            }
        });
        let workers: Vec<_> = (1..=6)
            .map(|n| {
                scope.spawn({
                    let (store, images) = (&host.store, &images);
                    move || work(store, images, n, 80)
                })
            })
            .collect();
        let panicked =
            workers.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_err).count();
        ended.store(true, Ordering::SeqCst);
        assert_eq!(panicked, 0);
    });
    // What is named is whole.
    for (entry, image) in host.store.images().unwrap() {
        for digest in image.blobs() {
            assert!(host.store.content().size(digest).unwrap().is_some(), "{digest} of {entry:?}");
        }
        host.store.snapshots().mount(image.diff_ids()).unwrap();
    }
    assert_eq!(host.store.images().unwrap().len(), host.store.references().entries().unwrap().len());
    // And when nobody needs anything, nothing stays.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while (host.left(), host.names().len()) != ((0, 0), 0) {
        // The kernel's clock for files is a little behind.
        assert!(std::time::Instant::now() < deadline, "{:?} {:?}", host.left(), host.names());
        collector.run();
    }
    let around = host.store.disk_usage().unwrap();
    assert_eq!((around.layer_bytes, around.blob_bytes), (0, 0));
}

#[test]
fn steps_go_when_nobody_needed_them_for_long_and_before_images() {
    let host = Host::new();
    let step = |n: u8| format!("{}:{}", davit_proto::step::REPOSITORY, format!("{n:02x}").repeat(32));
    for (n, (name, hours)) in [("one", 400), ("two", 20), ("three", 2)].into_iter().enumerate() {
        let made = image(name, 100_000 + n);
        made.put(&host.store, &[&step(u8::try_from(n).unwrap())]);
        age(&host.store, &made.manifest.digest, hours);
    }
    let named = image("named", 50_000);
    named.put(&host.store, &["named:1", &step(9)]);
    age(&host.store, &named.manifest.digest, 500);
    let steps = || {
        let usage = host.store.disk_usage().unwrap();
        assert_eq!(usage.images.len(), 1, "steps are no images");
        usage.steps.into_iter().map(|step| step.bytes - step.shared_bytes).collect::<Vec<_>>()
    };
    let before = steps();
    assert_eq!(before.len(), 4);
    assert_eq!(before[0], 0, "what an image has is the image's: {before:?}");
    assert!(before[1..].iter().all(|bytes| *bytes >= 100_000), "{before:?}");
    // By age, the name of one whose image stays as well.
    let run = host.collector(|_| ()).run();
    assert_eq!((run.images, steps().len()), (2, 2), "{run:?}");
    assert_eq!(host.names(), ["named:1"]);
    // By their budget, the least recently needed first.
    let run = host.collector(|settings| settings.gc_steps_budget = Some("150k".into())).run();
    assert_eq!((run.images, steps().len()), (1, 1), "{run:?}");
    // A limit of all takes steps before images, however young.
    let run = host.collector(|settings| settings.gc_budget = Some("150k".into())).run();
    assert_eq!((run.images, steps().len()), (1, 0), "{run:?}");
    assert_eq!(host.names(), ["named:1"]);
    // What is in use stays.
    let used = image("used", 10);
    used.put(&host.store, &[&step(7)]);
    age(&host.store, &used.manifest.digest, 500);
    host.store.prepare(&container(1), &step(7)).unwrap();
    age(&host.store, &used.manifest.digest, 500);
    assert_eq!(host.collector(|_| ()).run().images, 0);
}
