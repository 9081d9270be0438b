//! Who runs.

use std::fs;

use serde_json::json;

use crate::Scene;
use crate::fixture::Container;

pub const SCENES: &[Scene] = &[
    ("users_by_name_and_number", users_by_name_and_number),
    ("digits_are_never_a_name", digits_are_never_a_name),
    ("groups_are_exact", groups_are_exact),
    ("a_user_can_open_its_streams_again", a_user_can_open_its_streams_again),
];

fn id(container: Container) -> String {
    container.run().out
}

fn shell(user: &str) -> Container {
    Container::shell("id -u; id -g; id -G; echo $HOME").annotated("davit.user", user)
}

fn users_by_name_and_number() {
    assert_eq!(id(shell("app")), "1000\n1001\n1001 50\n/home/app\n");
    assert_eq!(id(shell("1000")), "1000\n1001\n1001 50\n/home/app\n");
    assert_eq!(id(shell("app:staff")), "1000\n50\n50\n/home/app\n");
    assert_eq!(id(shell("77:88")), "77\n88\n88\n/\n");
    let numeric =
        Container::shell("id -u; id -g; echo $HOME").with("/process/user", json!({"uid": 1000, "gid": 5}));
    assert_eq!(id(numeric), "1000\n5\n/home/app\n");
    let error = shell("nobody").try_run().unwrap_err().to_string();
    assert_eq!(error, "unable to find user nobody: no matching entries in passwd file");
}

fn digits_are_never_a_name() {
    let container = shell("1000");
    fs::write(container.lower().join("etc/passwd"), "1000:x:0:0:::\n").unwrap();
    assert!(id(container).starts_with("1000\n0\n"));
    for bad in ["2147483648", "4294967296", "-1"] {
        assert!(shell(bad).try_run().is_err(), "{bad}");
    }
}

fn groups_are_exact() {
    let more = Container::shell("grep Groups /proc/self/status")
        .with("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [7, 9]}));
    assert_eq!(id(more), "Groups:\t7 9 \n");
    assert_eq!(id(Container::shell("grep Groups /proc/self/status")), "Groups:\t \n");
}

fn a_user_can_open_its_streams_again() {
    let container = Container::shell("echo again > /dev/stdout").annotated("davit.user", "app");
    assert_eq!(container.run().out, "again\n");
}
