//! What is in the store is whole, whatever happened.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

fn store() -> (tempfile::TempDir, Content) {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path()).unwrap();
    (dir, content)
}

fn begin(content: &Content, bytes: &[u8]) -> Ingest {
    content.ingest_blocking(&digest(bytes), bytes.len() as u64).unwrap().unwrap()
}

#[test]
fn a_blob_is_taken_in_whole_or_continued() {
    let (_dir, content) = store();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7) as u8).collect();
    let wanted = digest(&bytes);
    let mut writer = begin(&content, &bytes).resume(|_| true).unwrap();
    writer.write(&bytes[..400_000]).unwrap();
    drop(writer);
    assert_eq!(content.size(&wanted).unwrap(), None);

    let ingest = begin(&content, &bytes);
    assert_eq!(ingest.left(), 400_000);
    let mut seen = Vec::new();
    let mut writer = ingest
        .resume(|piece| {
            seen.extend_from_slice(piece);
            true
        })
        .unwrap();
    assert_eq!((writer.position(), &seen[..]), (400_000, &bytes[..400_000]));
    writer.write(&bytes[400_000..]).unwrap();
    writer.commit().unwrap();
    assert_eq!(content.read(&wanted, 1 << 20).unwrap(), bytes);
    assert!(content.ingest_blocking(&wanted, bytes.len() as u64).unwrap().is_none(), "it is here");
    assert_eq!(std::fs::read_dir(content.ingest_path()).unwrap().count(), 0);
}

#[test]
fn wrong_bytes_are_never_a_blob() {
    let (_dir, content) = store();
    let mut writer = begin(&content, b"right").resume(|_| true).unwrap();
    writer.write(b"wrong").unwrap();
    assert!(matches!(writer.commit(), Err(ContentError::WrongDigest { .. })));
    assert_eq!(
        std::fs::read_dir(content.ingest_path()).unwrap().count(),
        0,
        "they are no start for the next either"
    );

    let mut writer = begin(&content, b"right").resume(|_| true).unwrap();
    assert!(matches!(writer.write(b"right and more"), Err(ContentError::WrongSize { .. })));
    writer.write(b"rig").unwrap();
    assert!(matches!(writer.commit(), Err(ContentError::WrongSize { .. })));
    let ingest = begin(&content, b"right");
    assert_eq!(ingest.left(), 3);
    let mut writer = ingest.restart().unwrap();
    writer.write(b"right").unwrap();
    writer.commit().unwrap();
    let wanted = digest(b"right");
    assert!(matches!(content.ingest_blocking(&wanted, 6), Err(ContentError::WrongSize { .. })));

    std::fs::write(content.path(&wanted), b"wronG").unwrap();
    assert!(matches!(content.read(&wanted, 10), Err(ContentError::WrongDigest { .. })));
    assert!(matches!(content.read(&wanted, 4), Err(ContentError::Large { .. })));
    content.remove(&wanted).unwrap();
    content.remove(&wanted).unwrap();
    assert!(matches!(content.read(&wanted, 10), Err(ContentError::Missing(_))));
}

#[tokio::test]
async fn of_two_the_second_waits_and_finds_it_whole() {
    let (_dir, content) = store();
    let wanted = digest(b"shared");
    let first = content.ingest(&wanted, 6).await.unwrap().unwrap();
    let second = tokio::spawn({
        let (content, wanted) = (content.clone(), wanted.clone());
        async move { content.ingest(&wanted, 6).await.unwrap().is_none() }
    });
    let other = digest(b"other");
    assert!(content.ingest(&other, 5).await.unwrap().is_some(), "another blob does not wait");
    assert!(!second.is_finished());
    let mut writer = first.resume(|_| true).unwrap();
    writer.write(b"shared").unwrap();
    writer.commit().unwrap();
    assert!(second.await.unwrap());
}

#[tokio::test]
async fn when_the_first_gives_up_the_second_goes_on() {
    let (_dir, content) = store();
    let wanted = digest(b"shared");
    let mut first = content.ingest(&wanted, 6).await.unwrap().unwrap().resume(|_| true).unwrap();
    first.write(b"sha").unwrap();
    let second = tokio::spawn({
        let content = content.clone();
        async move { content.ingest(&wanted, 6).await.unwrap().map(|ingest| ingest.left()) }
    });
    drop(first);
    assert_eq!(second.await.unwrap(), Some(3));
}

#[test]
fn sweeping_leaves_what_is_young_or_whole() {
    let (_dir, content) = store();
    let whole = content.write(b"whole").unwrap();
    drop(begin(&content, b"partial"));
    std::fs::write(content.path(&whole).with_file_name(".x.1-0.tmp"), "").unwrap();
    content.sweep(SystemTime::now() - Duration::from_secs(60)).unwrap();
    assert_eq!(std::fs::read_dir(content.ingest_path()).unwrap().count(), 1);
    content.sweep(SystemTime::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(std::fs::read_dir(content.ingest_path()).unwrap().count(), 0);
    assert_eq!(content.list().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(content.path(&whole).parent().unwrap()).unwrap().count(), 1);
}

/// The blobs that the killed child below takes in again and again.
fn blob(n: u32) -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(n + 3) >> 3) as u8).collect()
}

/// The child of the test that follows: takes in blobs until it is killed.
#[test]
fn taking_in_until_killed() {
    let Some(root) = std::env::var_os("DAVIT_TEST_KILLED_INGEST") else { return };
    let content = Content::open(Path::new(&root)).unwrap();
    println!("ready");
    for n in 0.. {
        let bytes = blob(n);
        let Some(ingest) = content.ingest_blocking(&digest(&bytes), bytes.len() as u64).unwrap() else {
            continue;
        };
        let mut writer = ingest.resume(|_| true).unwrap();
        let from = usize::try_from(writer.position()).unwrap();
        for piece in bytes[from..].chunks(1000) {
            writer.write(piece).unwrap();
        }
        writer.commit().unwrap();
    }
}

#[test]
fn killed_at_any_moment_leaves_nothing_half() {
    use std::io::{BufRead as _, BufReader};
    let (dir, content) = store();
    let mut whole = 0;
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "content::tests::taking_in_until_killed", "--nocapture"])
            .env("DAVIT_TEST_KILLED_INGEST", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        // The moment is what varies between the rounds; nothing waits for it to pass.
        std::thread::sleep(Duration::from_micros(round * 1700));
        child.kill().unwrap();
        child.wait().unwrap();
        let blobs = content.list().unwrap();
        for (named, _) in &blobs {
            content.read(named, 1 << 20).unwrap();
        }
        assert!(blobs.len() >= whole, "a blob that was whole is gone");
        whole = blobs.len();
    }
    assert!(whole > 0, "nothing was ever taken in");
}
