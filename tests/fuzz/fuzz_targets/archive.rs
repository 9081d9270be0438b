//! An image archive never panics and leaves no partial blob: the input is `manifest.json`, `index.json`, or all of it.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use davit_image::archive::{Intake, load};
use davit_image::content::Content;
use davit_image::document::Platform;
use davit_image::lease::Leases;
use libfuzzer_sys::fuzz_target;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let archive = match kind % 4 {
        0 => tar(&[("config.json", CONFIG), ("layer.tar", &[0; 1024]), ("manifest.json", input)]),
        1 => tar(&[("oci-layout", LAYOUT), ("index.json", input)]),
        2 => tar(&[("oci-layout", LAYOUT), ("index.json", input), ("manifest.json", input)]),
        _ => input.to_vec(),
    };
    let store = store();
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let mut lease = Leases::default().take();
    // Most inputs are refused, which is as good as being loaded.
    let _ = load(archive.as_slice(), Intake { content: store, lease: &mut lease, platform: &platform });
    let left = fs::read_dir(store.ingest_path()).expect("the store's folder").count();
    assert_eq!(left, 0, "a partial blob was left");
});

/// One store for the whole run, in memory where there is some.
fn store() -> &'static Content {
    static STORE: OnceLock<(tempfile::TempDir, Content)> = OnceLock::new();
    let (_, content) = STORE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory } else { Path::new("/tmp") };
        let folder = tempfile::tempdir_in(parent).expect("a temporary folder");
        let content = Content::open(folder.path()).expect("a new store");
        (folder, content)
    });
    content
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, data) in entries {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(data);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
