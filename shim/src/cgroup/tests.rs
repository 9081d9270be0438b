//! Tests of cgroups: plans, and real ones below a parent of the test's own.

use super::*;

#[test]
fn parents_are_plain_paths() {
    assert_eq!(plan_parent("/davit").unwrap(), ["davit"]);
    assert_eq!(plan_parent("a/b/").unwrap(), ["a", "b"]);
    for bad in ["", "/", "a/../b", "..", "./a", "a\0b"] {
        assert!(plan_parent(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn counters_match_whole_keys() {
    let text = "oom 3\noom_kill 7\npopulated 1\n";
    assert_eq!(counter(text, "oom_kill"), Some(7));
    assert_eq!(counter(text, "oom"), Some(3));
    assert_eq!(counter(text, "oo"), None);
}

#[tokio::test]
async fn privileged_a_cgroup_is_made_limited_and_removed() {
    let parent = format!("davit-test-{}", std::process::id());
    let cgroup = ContainerCgroup::create(&parent, "made").unwrap();
    let again = ContainerCgroup::create(&parent, "made").unwrap();
    let resources: LinuxResources =
        serde_json::from_str(r#"{"pids":{"limit":77},"memory":{"limit":67108864}}"#).unwrap();
    let policy = DevicePolicy::plan(false, &[]).unwrap();
    let warnings = cgroup.set_limits(&resources, &policy).unwrap();
    assert!(warnings.iter().all(|w| !w.contains("pids")), "{warnings:?}");
    for tasks in cgroup.tasks_files() {
        let pids = PathBuf::from(&tasks).with_file_name("pids.max");
        if pids.exists() {
            assert_eq!(std::fs::read_to_string(pids).unwrap().trim(), "77");
        }
    }
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    cgroup.freeze().await.unwrap();
    cgroup.thaw().await.unwrap();
    cgroup.empty().await.unwrap();
    cgroup.remove().unwrap();
    again.remove().unwrap();
    remove_parent(&parent);
}

#[tokio::test]
async fn privileged_a_killed_cgroup_can_be_lived_in_again() {
    let parent = format!("davit-renewed-{}", std::process::id());
    let mut cgroup = ContainerCgroup::create(&parent, "renewed").unwrap();
    for _ in 0..2 {
        let args = ["sleep", "1000"].map(|s| std::ffi::CString::new(s).unwrap());
        let child = davit_sys::process::spawn(&davit_sys::process::Spawn {
            program: c"/bin/sleep",
            args: &args,
            env: &[],
            fds: &[],
            namespaces: davit_sys::process::NewNamespaces::NONE,
            cgroup: Some(cgroup.unified()),
            session: true,
        })
        .unwrap();
        cgroup.freeze().await.unwrap();
        assert_eq!(davit_sys::process::try_wait(&child.pidfd).unwrap(), None, "it was killed in its clone");
        cgroup.renew().await.unwrap();
        assert_eq!(davit_sys::process::wait(&child.pidfd).unwrap(), davit_sys::process::Exit::Signaled(9));
    }
    cgroup.remove().unwrap();
    remove_parent(&parent);
}

/// Takes the test's own parent away again.
fn remove_parent(parent: &str) {
    let layout = Layout::of_this_host().unwrap();
    Dir::unified(&layout).unwrap().remove_tree(parent).unwrap();
    for hierarchy in &layout.legacy {
        v1::remove_tree(&hierarchy.at.join(parent)).unwrap();
    }
}

#[test]
fn privileged_the_unified_hierarchy_is_found_without_a_mount() {
    let hidden = Layout { unified: None, legacy: Vec::new() };
    let root = Dir::unified(&hidden).unwrap();
    assert!(root.read("cgroup.controllers").is_ok());
}

#[test]
fn privileged_device_filters_are_taken_by_the_kernel() {
    let parent = format!("davit-filter-{}", std::process::id());
    let root = Dir::unified(&Layout::of_this_host().unwrap()).unwrap();
    let dir = root.make(&parent).unwrap();
    let gate = v2::Gate::new(dir.try_clone().unwrap());
    let policy = DevicePolicy::plan(false, &[]).unwrap();
    gate.set(&policy).unwrap();
    // Born in the cgroup: /dev/null is allowed, /dev/kmsg (1:11) is not.
    let args = ["sh", "-c", "exec 3</dev/null || exit 1; exec 4</dev/kmsg"]
        .map(|s| std::ffi::CString::new(s).unwrap());
    let child = davit_sys::process::spawn(&davit_sys::process::Spawn {
        program: c"/bin/sh",
        args: &args,
        env: &[],
        fds: &[],
        namespaces: davit_sys::process::NewNamespaces::NONE,
        cgroup: Some(dir.as_fd()),
        session: true,
    })
    .unwrap();
    assert_eq!(davit_sys::process::wait(&child.pidfd).unwrap().code(), 2);
    gate.set(&DevicePolicy::Everything).unwrap();
    retry_busy(|| root.remove_tree(&parent)).unwrap();
}
