//! Compiles the protos without an installed protoc and keeps the descriptor set for reflection.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("davit");
    println!("cargo::rerun-if-changed=davit");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();

    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("davit.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".davit.types.v1")
        .bytes(".davit.build.v1")
        .bytes(".davit.image.v1")
        .bytes(".davit.container.v1.CopyOutResponse")
        .bytes(".davit.container.v1.CopyInRequest")
        .bytes(".davit.container.v1.ExportResponse")
        .bytes(".davit.container.v1.DiffEntry")
        .bytes(".davit.container.v1.LogLine")
        .bytes(".davit.volume.v1")
        .include_file("davit.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
