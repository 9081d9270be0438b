//! What the commands of a build may use, and how they are confined: the client's words, handed to each container.

use davit_proto::build::Limits;
use davit_proto::container::ContainerSpec;

use crate::key::Key;

/// Gives a step's container its limits.
pub fn apply(limits: Option<&Limits>, spec: ContainerSpec) -> ContainerSpec {
    let Some(limits) = limits else { return spec };
    ContainerSpec {
        resources: limits.resources.clone(),
        ulimits: limits.ulimits.clone(),
        shm_size: limits.shm_size,
        cgroup_parent: limits.cgroup_parent.clone(),
        security_opt: limits.security_opt.clone(),
        ..spec
    }
}

/// Adds to a step's name what its command can see of them and is told of nowhere else. How much memory and time it
/// had says nothing about what it made: who gives more after a failure keeps the steps before it.
pub fn describe(limits: Option<&Limits>, key: &mut Key) {
    let Some(limits) = limits else { return };
    let seen = [("ulimit", &limits.ulimits), ("security", &limits.security_opt)];
    for (what, words) in seen.into_iter().filter(|(_, words)| !words.is_empty()) {
        key.add(what.as_bytes());
        words.iter().for_each(|word| key.add(word.as_bytes()));
    }
    if limits.shm_size != 0 {
        key.add(format!("shm {}", limits.shm_size).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use davit_proto::container::Resources;

    use super::*;

    fn name(limits: Option<&Limits>) -> String {
        let mut key = Key::new(None, "RUN");
        describe(limits, &mut key);
        key.reference()
    }

    #[test]
    fn only_what_a_command_can_see_makes_another_step() {
        let resources = Resources { memory_bytes: 1 << 30, ..Resources::default() };
        let more = Limits { resources: Some(resources), ..Limits::default() };
        assert_eq!(name(Some(&more)), name(None));
        let seen = Limits { ulimits: vec!["nofile=7".to_owned()], ..Limits::default() };
        assert_ne!(name(Some(&seen)), name(None));
        assert_eq!(apply(Some(&seen), ContainerSpec::default()).ulimits, seen.ulimits);
    }
}
