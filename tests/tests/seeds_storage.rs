//! The storage chapters of the notes that davit was begun from, typed into a real terminal as they stand there, with
//! `davit` for `docker`.

use davit_tests::engine::Engine;
use davit_tests::image::{self, Compression, Layout, busybox_layer, many_files};
use davit_tests::person::Person;
use davit_tests::registry::Registry;
use serde_json::json;

fn engine() -> Engine {
    let engine = Engine::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = image::with_bash(folder.path(), "ubuntu:18.04").unwrap();
    engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
    // The notes' own paths, on this host alone.
    let mounted = engine.host().command("mount").args(["-t", "tmpfs", "tmpfs", "/home"]).status().unwrap();
    assert!(mounted.success());
    engine
}

#[test]
fn folders_and_files_of_the_host() {
    let engine = engine();
    let mut person = Person::at(&engine);
    let write = "sh -c 'echo tables > /var/lib/mysql/db; sleep 1000'";
    person.types(
        &format!("davit run -d --name wordpressdb -v /home/wordpress_db:/var/lib/mysql ubuntu:18.04 busybox {write}"),
        0,
    );
    assert!(
        person
            .types("davit exec wordpressdb busybox ls /var/lib/mysql; ls /home/wordpress_db", 0)
            .contains("db")
    );
    person.types("davit rm -f wordpressdb", 0);
    assert!(person.types("cat /home/wordpress_db/db", 0).contains("tables"), "it outlives its container");

    // Single files, and several at once.
    person.types("echo one > /home/hello; echo two > /home/hello2", 0);
    let several = "davit run --rm -v /home/hello:/hello -v /home/hello2:/hello2:ro ubuntu:18.04 busybox";
    let seen = person.types(&format!("{several} cat /hello /hello2"), 0);
    assert!(seen.contains("one") && seen.contains("two"), "{seen}");
    person.types(&format!("{several} sh -c 'echo three > /hello'"), 0);
    assert!(person.types("cat /home/hello", 0).contains("three"));
    person.types(&format!("{several} sh -c 'echo three > /hello2'"), 1);
    // What the image has at that place is covered.
    person.types("mkdir /home/etc", 0);
    assert!(
        !person.types("davit run --rm -v /home/etc:/etc ubuntu:18.04 busybox ls /etc", 0).contains("passwd")
    );
}

#[test]
fn volume_containers_and_volumes() {
    let engine = engine();
    let mut person = Person::at(&engine);
    person.enters(
        "davit run -i -t --name volume_override -v /home/wordpress_db:/home/testdir_2 ubuntu:18.04",
        "inside#",
    );
    person
        .says("echo shared-$((40+2)) > /home/testdir_2/file; busybox cat /home/testdir_2/file", "shared-42");
    person.leaves();
    person.enters(
        "davit run -i -t --name volumes_from_container --volumes-from volume_override ubuntu:18.04",
        "inside#",
    );
    person.says("busybox cat /home/testdir_2/file", "shared-42");
    person.says("echo back-$((40+2)) > /home/testdir_2/file; busybox cat /home/testdir_2/file", "back-42");
    person.leaves();
    assert!(person.types("cat /home/wordpress_db/file", 0).contains("back-42"));
    // As a page of the notes has it: the long dash of a word processor.
    let hint = person.types("davit run --rm \u{2014}volumes-from volume_override ubuntu:18.04 true", 125);
    assert!(hint.contains("two hyphens"), "{hint}");

    assert!(person.types("davit volume create volume_id", 0).contains("volume_id"));
    let listed = person.types("davit volume ls", 0);
    assert!(
        listed.contains("DRIVER") && listed.contains("local") && listed.contains("volume_id"),
        "{listed}"
    );
    person.enters("davit run -i -t --name volume_id_1 -v volume_id:/root/ ubuntu:18.04", "inside#");
    person.says("echo hello-$((40+2)) > /root/volume; busybox cat /root/volume", "hello-42");
    person.leaves();
    person.types("davit rm volume_id_1", 0);
    person.enters("davit run -i -t --name volume_id_2 -v volume_id:/root/ ubuntu:18.04", "inside#");
    person.says("busybox cat /root/volume", "hello-42");
    person.leaves();
    let inspected = person.types("davit inspect --type volume volume_id", 0);
    assert!(inspected.contains("Mountpoint") && inspected.contains("\"Name\": \"volume_id\""), "{inspected}");
    person
        .types("cat $(davit volume inspect --format '{{.Mountpoint}}' volume_id)/volume | grep hello-42", 0);
    let refused = person.types("davit volume rm volume_id", 1);
    assert!(refused.contains("in use"), "{refused}");
    person.types("davit rm volume_id_2", 0);
    person.types("davit volume rm volume_id", 0);
}

#[test]
fn files_are_copied_both_ways() {
    let engine = engine();
    let mut person = Person::at(&engine);
    person.types("davit run -d --name web ubuntu:18.04 sleep 1000", 0);
    person.types("davit exec web busybox mkdir -p /usr/local/apache2/htdocs", 0);
    person.types("mkdir -p /home/site/img; cd /home/site; echo page > index.html; echo dot > img/dot", 0);
    person.types("davit container cp ./ web:/usr/local/apache2/htdocs/", 0);
    let seen = person.types(
        "davit exec web busybox cat /usr/local/apache2/htdocs/index.html /usr/local/apache2/htdocs/img/dot",
        0,
    );
    assert!(seen.contains("page") && seen.contains("dot"), "{seen}");
    person.types("davit cp web:/usr/local/apache2/htdocs/index.html /home/copy", 0);
    assert!(person.types("cat /home/copy", 0).contains("page"));
    // From one container to another, which docker refuses.
    person.types("davit create --name other ubuntu:18.04", 0);
    person.types("davit cp web:/usr/local/apache2/htdocs other:/copied", 0);
    person.types("davit cp other:/copied/img/dot - | tar -xO", 0);
}

#[test]
fn a_container_becomes_an_image() {
    let engine = engine();
    let mut person = Person::at(&engine);
    person.enters("davit run -i -t --name mine ubuntu:18.04", "inside#");
    person.says("echo game-$((40+2)) > /pacman; busybox cat /pacman", "game-42");
    person.leaves();
    let changed = person.types("davit diff mine", 0);
    assert!(changed.contains("A /pacman"), "{changed}");
    person.types("davit container commit mine my_pacman:1.0", 0);
    assert!(person.types("davit images my_pacman", 0).contains("1.0"));
    assert!(person.types("davit run --rm my_pacman:1.0 busybox cat /pacman", 0).contains("game-42"));
    let history = person.types("davit history my_pacman:1.0", 0);
    assert!(history.contains("<missing>"), "{history}");
}

#[test]
fn images_share_their_layers() {
    let engine = engine();
    let registry = Registry::start(engine.host()).unwrap();
    let base = many_files(1, 20, 2_000_000).unwrap();
    for (tag, layers) in [("a", 0), ("b", 1)] {
        let mut layout = Layout::new(engine.host().folder().join(tag)).unwrap();
        layout.layer(&busybox_layer().unwrap(), Compression::Gzip).unwrap();
        layout.layer(&base, Compression::Gzip).unwrap();
        for seed in 0..layers {
            layout.layer(&many_files(10 + seed, 5, 50_000).unwrap(), Compression::Gzip).unwrap();
        }
        layout
            .finish(tag, &json!({"Cmd": ["true"], "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}}}))
            .unwrap();
        registry.push_layout(engine.host(), layout.folder(), tag, &format!("{tag}:1")).unwrap();
    }
    let mut person = Person::at(&engine);
    person.types("davit pull 127.0.0.1:5000/a:1", 0);
    let second = person.types("davit pull 127.0.0.1:5000/b:1 | cat", 0);
    assert_eq!(second.matches("Already exists").count(), 2, "{second}");
    assert_eq!(second.matches("Pull complete").count(), 1, "only what is new: {second}");
    let removed = person.types("davit rmi 127.0.0.1:5000/a:1", 0);
    assert!(removed.contains("Untagged: 127.0.0.1:5000/a:1"), "{removed}");
    person.types("davit run --rm 127.0.0.1:5000/b:1 ls /data1/0/0 /data10/0/0", 0);

    let inspected = person.types("davit inspect 127.0.0.1:5000/b:1 | grep -A4 RootFS", 0);
    assert!(inspected.contains("\"Type\": \"layers\""), "{inspected}");
    person.types("davit inspect 127.0.0.1:5000/b:1 | grep 80/tcp", 0);
    let history = person.types("davit history 127.0.0.1:5000/b:1", 0);
    assert!(history.contains("CREATED BY") && history.contains("<missing>"), "{history}");
    let told = person.types("davit info | grep -E 'Docker Root Dir|Images:'", 0);
    assert!(told.contains("Images:"), "{told}");
    let used = person.types("davit system df", 0);
    assert!(used.contains("RECLAIMABLE") && used.contains("Images"), "{used}");
    person.types("davit tag 127.0.0.1:5000/b:1 127.0.0.1:5000/mine:2", 0);
    let pushed = person.types("davit push 127.0.0.1:5000/mine:2 | cat", 0);
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    person.types("davit rmi 127.0.0.1:5000/mine:2", 0);
    person.types("davit run --rm 127.0.0.1:5000/mine:2", 0);
}
