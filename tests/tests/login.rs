//! Who is known at which registry: `login`, `logout`, stored and helped credentials, certificates of one registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use davit_tests::engine::{Answer, Engine};
use davit_tests::host::Host;
use davit_tests::image::{Compression, Layout, busybox_layer};
use davit_tests::registry::{Registry, Settings};
use serde_json::{Value, json};

/// `me` with the password `hunter2`.
const USERS: &str = "me:$2y$04$kazAqlen6/6xNpRuYTAU3ucODohlVY7YCD6c/2H5oVXGJ5qkqMlmC\n";
const PASSWORD: &str = "hunter2";

fn private(host: &Host) -> Registry {
    Registry::start_with(host, &Settings { users: USERS, ..Settings::default() }).unwrap()
}

/// A command with a folder of docker's settings of its own.
fn as_user(engine: &Engine, config: &Path, words: &[&str]) -> Answer {
    engine.davit_in(&[("DOCKER_CONFIG", config.to_str().unwrap())], words, "")
}

fn settings(config: &Path) -> Value {
    serde_json::from_slice(&fs::read(config.join("config.json")).unwrap()).unwrap()
}

/// An image in the engine, named for a registry.
fn image(engine: &Engine, name: &str) {
    let mut layout = Layout::new(engine.host().folder().join("made")).unwrap();
    layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
    layout.finish("m", &json!({"Cmd": ["true"]})).unwrap();
    let archive = engine.host().folder().join("made.tar");
    let packed = engine
        .host()
        .command("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:m", layout.folder().display()))
        .arg(format!("oci-archive:{}", archive.display()))
        .status();
    assert!(packed.unwrap().success());
    let loaded = engine.ok(["load", "-i", archive.to_str().unwrap()]);
    engine.ok(["tag", loaded.stdout.trim().rsplit(": ").next().unwrap(), name]);
}

#[test]
fn a_password_opens_a_private_registry_until_logout() {
    let engine = Engine::start_empty().unwrap();
    let registry = private(engine.host());
    let config = engine.host().folder().join("docker");
    let (address, name) = (registry.address(), format!("{}/private:1", registry.address()));
    image(&engine, &name);

    let refused = as_user(&engine, &config, &["push", &name]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("access refused"), "{refused:?}");

    let login = ["login", "-u", "me", "--password-stdin", address];
    let config_env = [("DOCKER_CONFIG", config.to_str().unwrap())];
    let wrong = engine.davit_in(&config_env, &login, "secret-and-wrong\n");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("incorrect user name or password"), "{wrong:?}");
    assert!(!wrong.stderr.contains("secret-and-wrong"), "{wrong:?}");
    assert!(!config.join("config.json").exists());

    let right = engine.davit_in(&config_env, &login, &format!("{PASSWORD}\n"));
    assert!(right.stdout.ends_with("Login Succeeded\n"), "{right:?}");
    assert!(right.stderr.contains("stored unencrypted"), "{right:?}");
    let mode = fs::metadata(config.join("config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(settings(&config)["auths"][address]["auth"], "bWU6aHVudGVyMg==", "as docker writes it");

    let pushed = as_user(&engine, &config, &["push", &name]);
    assert!(pushed.stdout.contains("digest: sha256:"), "{pushed:?}");
    engine.ok(["rmi", &name]);
    let pulled = as_user(&engine, &config, &["pull", &name]);
    assert!(pulled.stdout.contains("Downloaded newer image"), "{pulled:?}");
    let again = as_user(&engine, &config, &["login", address]);
    assert!(again.stdout.contains("existing credentials") && again.code == 0, "{again:?}");

    let out = as_user(&engine, &config, &["logout", address]);
    assert_eq!(out.line(), format!("Removing login credentials for {address}"));
    let out = as_user(&engine, &config, &["logout", address]);
    assert_eq!(out.line(), format!("Not logged in to {address}"));
    assert_eq!(as_user(&engine, &config, &["pull", &name]).code, 1);
    let log = fs::read_to_string(engine.log("davitd")).unwrap_or_default();
    assert!(!log.contains(PASSWORD) && !log.contains("bWU6aHVudGVyMg"), "{log}");
}

#[test]
fn flags_of_login_are_dockers() {
    let engine = Engine::start_empty().unwrap();
    let registry = private(engine.host());
    let config = engine.host().folder().join("docker");
    let address = registry.address();
    let warned = as_user(&engine, &config, &["login", "-u", "me", "-p", PASSWORD, address]);
    assert!(warned.stderr.contains("Using --password via the CLI is insecure"), "{warned:?}");
    assert_eq!(warned.code, 0, "{warned:?}");
    for (words, wanted) in [
        (vec!["login", "--password-stdin", address], "--username"),
        (vec!["login", "-u", "me", "-p", "x", "--password-stdin", address], "mutually exclusive"),
        (vec!["login", "-u", "you", address], "non TTY"),
        (vec!["login", "-u", "me", "-p", "x", "not a host"], "invalid reference format"),
        (vec!["login", "-u", "me", "-p", "x", "127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let refused = as_user(&engine, &config, &words);
        assert_eq!(refused.code, 1, "{words:?} {refused:?}");
        assert!(refused.stderr.contains(wanted), "{words:?} {refused:?}");
    }
}

#[test]
fn a_helper_keeps_what_the_file_does_not() {
    let engine = Engine::start_empty().unwrap();
    let registry = private(engine.host());
    let address = registry.address();
    let config = engine.host().folder().join("docker");
    let bin = engine.host().folder().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.json"), json!({"credsStore": "test", "detachKeys": "ctrl-q"}).to_string())
        .unwrap();
    let store = bin.join("store");
    let script = format!(
        "#!/bin/sh\necho \"$1\" >> {0}.log\ncase $1 in\nstore) cat > {0};;\n\
         get) cat >/dev/null; cat {0} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\n\
         erase) cat >/dev/null; rm {0};;\nesac\n",
        store.display()
    );
    let helper = bin.join("docker-credential-test");
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let environment = [("DOCKER_CONFIG", config.to_str().unwrap()), ("PATH", path.as_str())];

    let login = ["login", "-u", "me", "--password-stdin", address];
    let right = engine.davit_in(&environment, &login, PASSWORD);
    assert_eq!((right.code, right.stdout.as_str()), (0, "Login Succeeded\n"), "{right:?}");
    assert!(!right.stderr.contains("unencrypted"), "{right:?}");
    let kept: Value = serde_json::from_slice(&fs::read(&store).unwrap()).unwrap();
    assert_eq!(kept, json!({"ServerURL": address, "Username": "me", "Secret": PASSWORD}));
    let now = settings(&config);
    assert_eq!(now["auths"], json!({address: {}}));
    assert_eq!(now["detachKeys"], "ctrl-q", "what we do not know stays");

    let name = format!("{address}/helped:1");
    image(&engine, &name);
    assert_eq!(engine.davit_in(&environment, &["push", &name], "").code, 0);
    assert_eq!(engine.davit_in(&environment, &["logout", address], "").code, 0);
    assert!(!store.exists());
    assert_eq!(engine.davit_in(&environment, &["push", &name], "").code, 1);
}

#[test]
fn certificates_of_one_registry_are_dockers() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let engine = Engine::start_empty().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(
        "certificate: {}, key: {}, clientcas: [{}]",
        at("server.crt"),
        at("server.key"),
        at("ca.crt")
    );
    let registry =
        Registry::start_with(engine.host(), &Settings { tls: &tls, ..Settings::default() }).unwrap();
    let name = format!("{}/over/tls:1", registry.address());
    image(&engine, &name);
    let refused = engine.davit(["push", &name]);
    assert!(refused.stderr.contains("TLS"), "{refused:?}");

    let own = engine.host().folder().join("certs.d");
    fs::create_dir_all(&own).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")] {
        fs::copy(folder.path().join(from), own.join(to)).unwrap();
    }
    // A copy of /etc in the engine's own mount namespace: nobody else sees it.
    let etc = engine.host().folder().join("etc");
    let place = format!(
        "cp -a /etc {0} && mkdir -p {0}/docker/certs.d && cp -r {1} {0}/docker/certs.d/{2} && mount --bind {0} /etc",
        etc.display(),
        own.display(),
        registry.address()
    );
    assert!(engine.host().command("sh").args(["-c", &place]).status().unwrap().success());
    let pushed = engine.ok(["push", &name]);
    assert!(pushed.stdout.contains("digest: sha256:"), "{pushed:?}");
}

/// An authority, a server's certificate of it and a client's.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 30"));
    for who in ["server", "client"] {
        openssl(&format!("req {key} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        openssl(&format!(
            "x509 -req -in {who}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -out {who}.crt -days 30"
        ));
    }
}
