//! The files by which containers find each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use davit_proto::names::{Line, View, parse};
use davit_proto::network::{EndpointRequest, NameLink, RenameRequest};

use crate::lab::engine::{Engine, request};
use crate::lab::{Place, on_a_host, until};

fn folder(engine: &Engine) -> PathBuf {
    engine.root().join("run/dns")
}

fn files(engine: &Engine) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder(engine)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn view(path: &str) -> View {
    View::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Names of a zone, each with the address that it has.
fn names(zone: &Path) -> Vec<(String, String)> {
    let (_, lines) = parse(&std::fs::read_to_string(zone).unwrap()).unwrap();
    let named = lines.into_iter().filter_map(|line| match line {
        Line::Name(name, addresses) => Some((name.to_string(), addresses[0].to_string())),
        _ => None,
    });
    named.collect()
}

fn has(zone: &Path, name: &str, address: &str) -> bool {
    names(zone).contains(&(name.to_owned(), address.to_owned()))
}

#[test]
fn privileged_files_follow_the_books() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        let inside = engine.network("inside", true).await;
        let mut asked = request(&a, "bridge", &[]);
        asked.container_name = "Web".into();
        asked.links = vec![NameLink { name: "db".into(), container_id: b.id.to_string() }];
        asked.endpoints[0].aliases = vec!["www".into()];
        asked.endpoints.push(EndpointRequest { network: "inside".into(), ..EndpointRequest::default() });
        let answer = engine.client().attach(asked).await.unwrap().into_inner();
        assert!(answer.resolv_conf.starts_with("nameserver 127.0.0.11\n"), "{}", answer.resolv_conf);
        assert_eq!(Path::new(&answer.names), folder(&engine).join(format!("{}.view", a.id)));
        let seen = view(&answer.names);
        assert!(seen.forward && seen.links.len() == 1 && seen.zones.len() == 2);
        let bridge = folder(&engine).join(seen.zones[0].file());
        for name in ["web", "www", a.id.short()] {
            assert!(has(&bridge, name, "172.17.0.2"), "{name}: {:?}", names(&bridge));
        }
        let zone = folder(&engine).join(format!("{}.zone", inside.id));
        assert!(
            has(&zone, "web", &answer.endpoints[1].ipv4) && !has(&zone, "www", &answer.endpoints[1].ipv4)
        );

        let mut asked = request(&b, "inside", &[]);
        asked.container_name = "only".into();
        let b_names = engine.client().attach(asked).await.unwrap().into_inner().names;
        assert!(!view(&b_names).forward, "no way out of an internal network");
        let rename = RenameRequest { container_id: a.id.to_string(), name: "new".into() };
        engine.client().rename(rename).await.unwrap();
        assert!(has(&bridge, "new", "172.17.0.2") && !has(&bridge, "web", "172.17.0.2"));
        assert_eq!(view(&answer.names), seen, "a name is no change of what one sees");

        engine.release(&b).await;
        assert!(!Path::new(&b_names).exists() && names(&zone).iter().all(|(name, _)| name != "only"));
        engine.release(&a).await;
        assert_eq!(files(&engine), BTreeSet::new());
        let unknown = RenameRequest { container_id: a.id.to_string(), name: "x".into() };
        engine.client().rename(unknown).await.unwrap();
    });
}

#[test]
fn privileged_files_are_made_again_at_a_start_and_when_somebody_takes_them_away() {
    on_a_host(async || {
        let (mut engine, a) = (Engine::new().await, Place::new());
        let mut asked = request(&a, "bridge", &[]);
        asked.container_name = "web".into();
        engine.client().attach(asked).await.unwrap();
        let before = files(&engine);
        let content =
            |name: &String| (name.clone(), std::fs::read_to_string(folder(&engine).join(name)).unwrap());
        let text: Vec<_> = before.iter().map(content).collect();
        engine.kill();
        let folder = folder(&engine);
        for name in &before {
            std::fs::write(folder.join(name), "torn").unwrap();
        }
        for stray in [".x.zone.7-1.tmp".to_owned(), format!("{}.zone", "0".repeat(64))] {
            std::fs::write(folder.join(stray), "").unwrap();
        }
        engine.start(|_| {}).await;
        let whole = || {
            text.iter().all(|(name, text)| {
                std::fs::read_to_string(folder.join(name)).is_ok_and(|found| found == *text)
            })
        };
        assert!(whole());
        assert_eq!(files(&engine), before);
        std::fs::remove_dir_all(&folder).unwrap();
        until(whole);
    });
}
