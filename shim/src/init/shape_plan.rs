//! From a shape to the first half of init's work: pure.

use davit_proto::confinement::{CGROUPS, MASKED, MASKED_BY_PROCESSOR, READ_ONLY};

use super::plan::{JoinKind, PreparePlan};
use super::shape::{Namespace, Shape};
use crate::cgroup::Layout;

/// What init does before it knows image or command. `kept` says that the namespaces of an earlier life are joined.
pub fn plan_prepare(shape: &Shape, tasks: Vec<String>, layout: &Layout, kept: bool) -> PreparePlan {
    let open = |path: &&str| !shape.leaves_open(path);
    let paths = |list: &[&str]| list.iter().copied().filter(open).map(str::to_owned).collect::<Vec<_>>();
    let legacy = layout.legacy.iter().map(|hierarchy| {
        let name = hierarchy.at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, hierarchy.controllers.clone())
    });
    PreparePlan {
        join: plan_join(shape, kept),
        in_user_namespace: shape.own_ids().is_some(),
        tasks,
        host_cgroups: shape.own_ids().is_some() && !shape.cgroup.is_own(),
        own_cgroup_view: shape.cgroup.is_own(),
        bring_up_loopback: shape.net.is_own() && !kept,
        host_shm: shape.ipc == Namespace::Host,
        joined_shm: shape.shm.is_some(),
        legacy: legacy.collect(),
        unified: layout.unified.is_some(),
        writable_sys: shape.privileged,
        // Never by "all": docker's word for that leaves them as they are.
        writable_cgroups: shape.privileged || shape.unmask.iter().any(|path| path == CGROUPS),
        masked: [paths(&MASKED), paths(&[MASKED_BY_PROCESSOR])].concat(),
        readonly: paths(&READ_ONLY),
    }
}

/// Which namespaces are joined rather than made, in the order of their descriptors.
pub fn plan_join(shape: &Shape, kept: bool) -> Vec<JoinKind> {
    let joined = |namespace: &Namespace| match namespace {
        Namespace::Joined { .. } => true,
        Namespace::Own => kept,
        Namespace::Host => false,
    };
    let mut join = Vec::new();
    for (namespace, kind) in
        [(&shape.net, JoinKind::Net), (&shape.ipc, JoinKind::Ipc), (&shape.uts, JoinKind::Uts)]
    {
        if joined(namespace) {
            join.push(kind);
        }
    }
    // Its cgroup view is made anew in each life: there is nothing in it to keep.
    if matches!(shape.cgroup, Namespace::Joined { .. }) {
        join.push(JoinKind::Cgroup);
    }
    join
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Legacy;

    fn layout() -> Layout {
        Layout {
            unified: None,
            legacy: vec![Legacy { at: "/sys/fs/cgroup/cpu,cpuacct".into(), controllers: vec!["cpu".into()] }],
        }
    }

    #[test]
    fn the_standard_shape_hides_all_and_joins_nothing() {
        let plan = plan_prepare(&Shape::standard(), vec![], &layout(), false);
        assert_eq!((plan.masked.len(), plan.readonly.len()), (MASKED.len() + 1, READ_ONLY.len()));
        assert_eq!(plan.join, []);
        assert!(plan.bring_up_loopback && plan.own_cgroup_view && !plan.writable_sys && !plan.host_shm);
        assert_eq!(plan.legacy, [("cpu,cpuacct".to_owned(), vec!["cpu".to_owned()])]);
    }

    #[test]
    fn a_second_life_joins_what_the_first_one_made() {
        let mut shape = Shape::standard();
        shape.ipc = Namespace::Host;
        let plan = plan_prepare(&shape, vec![], &layout(), true);
        assert_eq!(plan.join, [JoinKind::Net, JoinKind::Uts]);
        assert!(!plan.bring_up_loopback && plan.host_shm);
    }

    #[test]
    fn unmask_opens_one_or_all() {
        let mut shape = Shape::standard();
        shape.unmask = vec!["/proc/kcore".into(), "/proc/sys".into()];
        let plan = plan_prepare(&shape, vec![], &layout(), false);
        assert!(!plan.masked.contains(&"/proc/kcore".to_owned()) && plan.masked.len() == MASKED.len());
        assert_eq!(plan.readonly.len(), READ_ONLY.len() - 1);
        shape.unmask = vec!["ALL".into()];
        let plan = plan_prepare(&shape, vec![], &layout(), false);
        assert!(plan.masked.is_empty() && plan.readonly.is_empty());
    }
}
