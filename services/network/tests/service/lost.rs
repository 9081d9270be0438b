//! Addresses that nobody gave back, and such as may still be answered for. Each test on a host of its own.

use std::process::{Child, Command};

use davit_proto::network::{AttachRequest, CreateRequest, Subnet};

use crate::lab::engine::{Engine, request};
use crate::lab::talk::{Over, Responder, hears};
use crate::lab::{Place, on_a_host, run, until};

/// A network of five addresses for containers.
async fn tiny(engine: &Engine) {
    let subnets = vec![Subnet { cidr: "10.9.0.0/29".into(), ..Subnet::default() }];
    let wanted = CreateRequest { name: "tiny".into(), subnets, ..CreateRequest::default() };
    engine.create(wanted).await.unwrap();
}

/// Another process that holds a container's namespace, as a shim does, and nobody else.
struct Holder {
    child: Child,
    request: AttachRequest,
}

impl Holder {
    fn new(network: &str, ports: &[&str]) -> Self {
        let place = Place::new();
        let hold = "exec 9</proc/self/ns/net; exec sleep 60";
        let child = place.within(|| Command::new("sh").args(["-c", hold]).spawn().unwrap());
        let exe = format!("/proc/{}/exe", child.id());
        until(|| std::fs::read_link(&exe).is_ok_and(|exe| !exe.ends_with("sh") && !exe.ends_with("dash")));
        let mut request = request(&place, network, ports);
        (request.netns_pid, request.netns_fd) = (child.id().try_into().unwrap(), 9);
        Self { child, request }
    }

    async fn attach(&self, engine: &Engine) -> String {
        let attached = engine.client().attach(self.request.clone()).await.unwrap().into_inner();
        attached.endpoints[0].ipv4.clone()
    }

    /// As a shim that is killed, with nobody there who releases.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn privileged_five_and_no_sixth() {
    on_a_host(async || {
        let engine = Engine::new().await;
        tiny(&engine).await;
        let places: Vec<Place> = (0..5).map(|_| Place::new()).collect();
        let mut given = Vec::new();
        for place in &places {
            given.push(engine.attach(place, "tiny", &[]).await.unwrap().endpoints.remove(0).ipv4);
        }
        assert_eq!(given, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
        let error = engine.attach(&Place::new(), "tiny", &[]).await.unwrap_err();
        assert!(error.is("ADDRESSES_EXHAUSTED"), "{error}");
        assert_eq!(engine.holders().await.len(), 5, "nobody who lives was taken for lost");
        // One who comes and goes on a full network has one address after the other.
        for _ in 0..7 {
            engine.detach(&places[3], "tiny").await.unwrap();
            assert_eq!(engine.join(&places[3], &["tiny"], &[]).await.unwrap()[0].ipv4, "10.9.0.5");
        }
    });
}

#[test]
fn privileged_what_may_still_answer_is_given_last() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        tiny(&engine).await;
        let (kept, gone) = (Place::new(), Place::new());
        for place in [&kept, &gone] {
            engine.attach(place, "tiny", &[]).await.unwrap();
            engine.release(place).await;
        }
        // One namespace goes, somebody holds the other one open.
        drop(gone);
        until(|| host.ip("-o link show type veth").lines().count() == 1);
        let places: Vec<Place> = (0..5).map(|_| Place::new()).collect();
        let mut given = Vec::new();
        for place in &places[..4] {
            given.push(engine.attach(place, "tiny", &[]).await.unwrap().endpoints.remove(0).ipv4);
        }
        assert_eq!(given, ["10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.3"], "not the one that still answers");
        let last = engine.attach(&places[4], "tiny", &[]).await.unwrap().endpoints.remove(0);
        assert_eq!(last.ipv4, "10.9.0.2");
        assert!(!kept.ip("-o link").contains("eth0"), "whoever had it before has it no more");
        let _responder = Responder::new(&places[4], "new", "0.0.0.0:80");
        assert_eq!(hears(&host, Over::Tcp, "10.9.0.2:80"), "new 10.9.0.1");
    });
}

#[test]
fn privileged_a_wanted_address_is_had_from_who_is_no_more() {
    on_a_host(async || {
        let (engine, host, old, new) = (Engine::new().await, Place::here(), Place::new(), Place::new());
        engine.run(&old, &[]).await;
        engine.release(&old).await;
        let mut wanted = request(&new, "bridge", &[]);
        wanted.endpoints[0].ipv4 = "172.17.0.2".into();
        engine.client().attach(wanted).await.unwrap();
        let _responders =
            [Responder::new(&old, "old", "0.0.0.0:80"), Responder::new(&new, "new", "0.0.0.0:80")];
        assert_eq!(hears(&host, Over::Tcp, "172.17.0.2:80"), "new 172.17.0.1");
    });
}

#[test]
fn privileged_lost_leases_are_found_when_there_is_no_room() {
    on_a_host(async || {
        let (engine, host) = (Engine::new().await, Place::here());
        tiny(&engine).await;
        let mut holders: Vec<Holder> =
            (0..5).map(|n| Holder::new("tiny", &[&format!("80{n}0:80/tcp")])).collect();
        for holder in &holders {
            holder.attach(&engine).await;
        }
        holders[2].kill();
        until(|| host.ip("-o link show type veth").lines().count() == 4);
        let place = Place::new();
        let given = engine.attach(&place, "tiny", &["8020:80/tcp"]).await.unwrap().endpoints.remove(0);
        assert_eq!(given.ipv4, "10.9.0.4");
        assert_eq!(engine.holders().await.len(), 5);
    });
}

#[test]
fn privileged_lost_leases_are_found_at_start() {
    on_a_host(async || {
        let (mut engine, host) = (Engine::new().await, Place::here());
        let (mut lost, stays) =
            (Holder::new("bridge", &["8080:80/tcp"]), Holder::new("bridge", &["9090:80/tcp"]));
        let released = Holder::new("bridge", &[]);
        for holder in [&lost, &stays, &released] {
            holder.attach(&engine).await;
        }
        engine.kill();
        lost.kill();
        until(|| host.ip("-o link show type veth").lines().count() == 2);
        // As a release leaves it that was cut off before the namespace went.
        std::fs::remove_file(
            engine.root().join(format!("network/.lease/{}.json", released.request.container_id)),
        )
        .unwrap();
        engine.start(|_| {}).await;
        assert_eq!(engine.holders().await, std::slice::from_ref(&stays.request.container_id));
        assert_eq!(host.ip("-o link show type veth").lines().count(), 1, "no link without a lease");
        let rules = host.within(|| run("nft", "list table inet davit"));
        assert!(!rules.contains("8080") && rules.contains("9090"), "{rules}");
        assert_eq!(engine.inspect("bridge").await.unwrap().endpoints.len(), 1);
        assert_eq!(stays.attach(&engine).await, "172.17.0.3");

        // Nobody is left at all.
        let mut stays = stays;
        engine.kill();
        stays.kill();
        until(|| host.ip("-o link show type veth").is_empty());
        engine.start(|_| {}).await;
        assert!(engine.holders().await.is_empty());
        assert!(!host.within(|| run("nft", "list table inet davit")).contains("9090"));
    });
}

#[test]
fn privileged_a_lease_that_a_power_cut_tore_keeps_nobody_from_starting() {
    on_a_host(async || {
        let mut engine = Engine::new().await;
        tiny(&engine).await;
        let mut lost = Holder::new("tiny", &["8080:80/tcp"]);
        lost.attach(&engine).await;
        engine.kill();
        lost.kill();
        until(|| Place::here().ip("-o link show type veth").is_empty());
        let record = engine.root().join(format!("network/.lease/{}.json", lost.request.container_id));
        std::fs::write(&record, "").unwrap();
        engine.start(|_| {}).await;
        assert!(engine.holders().await.is_empty());
        assert!(!record.exists());
        let places: Vec<Place> = (0..5).map(|_| Place::new()).collect();
        for place in &places {
            engine.attach(place, "tiny", &[]).await.unwrap();
        }
    });
}

#[test]
fn privileged_counters_are_the_containers() {
    on_a_host(async || {
        let (engine, a, b) = (Engine::new().await, Place::new(), Place::new());
        engine.run(&a, &[]).await;
        engine.run(&b, &[]).await;
        a.ip("link set eth0 mtu 9000");
        a.within(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..100 {
                socket.send_to(&[0; 1000], "172.17.0.3:9").unwrap();
            }
        });
        let of = async |place: &Place| {
            let bridge = engine.inspect_counted("bridge").await.unwrap();
            let mut endpoints = bridge.endpoints.into_iter();
            endpoints.find(|endpoint| endpoint.container_id == place.id.to_string()).unwrap().traffic.unwrap()
        };
        let (sender, receiver) = (of(&a).await, of(&b).await);
        assert!(sender.sent_packets >= 100 && sender.sent_bytes >= 100 * 1000, "{sender:?}");
        assert!(receiver.received_packets >= 100 && receiver.received_bytes >= 100 * 1000, "{receiver:?}");
        assert!(receiver.sent_bytes < receiver.received_bytes && sender.received_bytes < sender.sent_bytes);
    });
}
