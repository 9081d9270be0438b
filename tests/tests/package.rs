//! The Debian package: what is in it, and that it starts nothing by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_package_is_whole_and_starts_nothing() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("skipped: no dpkg-deb here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let deb = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/deb");
    let mut pack = Command::new(deb);
    pack.arg(davit_tests::engine::binaries());
    said(pack.env("CARGO_TARGET_DIR", folder.path()).env("DAVIT_DEB_COMPRESSION", "none"));
    let made = fs::read_dir(folder.path().join("debian")).unwrap().flatten().next().unwrap().path();

    let field = |name: &str| said(Command::new("dpkg-deb").arg("-f").arg(&made).arg(name));
    assert_eq!(field("Package"), "davit\n");
    assert!(field("Depends").contains("nftables") && field("Depends").contains("libc6 (>= 2."));
    let (files, control) = (folder.path().join("files"), folder.path().join("control"));
    said(Command::new("dpkg-deb").arg("-x").arg(&made).arg(&files));
    said(Command::new("dpkg-deb").arg("-e").arg(&made).arg(&control));

    for file in [
        "usr/bin/davit",
        "usr/bin/davitd",
        "usr/bin/davit-shim",
        "usr/bin/davit-build",
        "etc/davit/davitd.toml",
        "lib/systemd/system/davit-containers.service",
        "usr/share/man/man1/davit-run.1.gz",
        "usr/share/man/man1/davit-network-create.1.gz",
        "usr/share/man/man8/davitd.8.gz",
        "usr/share/bash-completion/completions/davit",
        "usr/share/zsh/vendor-completions/_davit",
        "usr/share/fish/vendor_completions.d/davit.fish",
        "usr/share/doc/davit/copyright",
        "usr/share/doc/davit/docs/install.md",
    ] {
        assert!(files.join(file).is_file(), "{file} is not in the package");
    }
    assert!(said(Command::new(files.join("usr/bin/davit")).arg("-v")).starts_with("davit version "));
    let unit = fs::read_to_string(files.join("lib/systemd/system/davitd.service")).unwrap();
    let wanted =
        ["KillMode=process", "Delegate=yes", "ExecStart=/usr/bin/davitd --config /etc/davit/davitd.toml"];
    for line in wanted {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    // A mount namespace of the engine's own would hide from containers what the host has.
    let set = |line: &str| {
        ["Private", "Protect", "ReadOnly", "Inaccessible"].iter().any(|word| line.starts_with(word))
    };
    assert!(!unit.lines().any(set), "{unit}");

    assert_eq!(fs::read_to_string(control.join("conffiles")).unwrap(), "/etc/davit/davitd.toml\n");
    let postinst = fs::read_to_string(control.join("postinst")).unwrap();
    let commands = postinst.lines().filter(|line| !line.starts_with('#'));
    assert!(
        !commands.into_iter().any(|line| line.contains("enable") || line.contains(" start ")),
        "{postinst}"
    );
    // Settings are shown, and none is set.
    let settings = fs::read_to_string(files.join("etc/davit/davitd.toml")).unwrap();
    assert!(
        settings.contains("# gc-high = 85") && settings.lines().all(|l| l.is_empty() || l.starts_with('#'))
    );
}
