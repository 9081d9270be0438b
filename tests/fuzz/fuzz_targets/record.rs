//! What an engine finds of itself when it starts: records of its store, files of bundles, of images, networks and
//! volumes, whole, torn or another's. None makes a reader fail as a whole, and what is read is the same when it is
//! written and read again.
#![no_main]

use std::fs;
use std::path::Path;

use davit_controller::container::bundle::Bundle;
use davit_controller::container::fuzz;
use libfuzzer_sys::fuzz_target;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

// Which files, and what is in the first one; behind a line of `%` what is in the second.
fuzz_target!(|input: &[u8]| {
    let Some((kind, input)) = input.split_first() else { return };
    let end = input.windows(3).position(|bytes| bytes == b"\n%\n");
    let (first, second) = end.map_or((input, &b""[..]), |end| (&input[..end], &input[end + 3..]));
    let folder = tempfile::tempdir_in(memory()).expect("a temporary folder");
    let folder = folder.path();
    let lay = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("its folder");
        fs::write(path, bytes).expect("a file");
    };
    let bundle = Bundle::new(folder.to_owned());
    match kind % 8 {
        0 => {
            lay("life", second);
            fuzz::record(first, &bundle);
        }
        1 => {
            lay("spec.json", first);
            lay("life", second);
            fuzz::bundle(&bundle);
        }
        2 => {
            lay("wanted", first);
            lay("exit", second);
            lay("config.json", second);
            fuzz::bundle(&bundle);
        }
        3 => {
            lay("spec.json", br#"{"version":1,"container":{}}"#);
            lay("life", first);
            lay("exit", second);
            fuzz::bundle(&bundle);
        }
        4 | 5 => {
            lay("net.json", first);
            lay(".next/net", b"10.1.0.7");
            lay(&format!(".lease/{ID}.json"), second);
            davit_network::fuzz::books(folder);
        }
        6 => {
            lay("index.json", first);
            lay(&format!("use/{ID}.json"), second);
            davit_image::fuzz::records(folder);
        }
        _ => {
            lay("data/volume.json", first);
            lay(&format!(".use/{ID}.json"), second);
            davit_volume::fuzz::records(folder);
        }
    }
});

/// Memory, where there is some, for the file system is most of the time.
fn memory() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}
