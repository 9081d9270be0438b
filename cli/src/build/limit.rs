//! Flags of limits, as builds say them to the engine.

use davit_proto::build::{BuildOpen, Limits};
use davit_proto::container::Resources;

use crate::args::build::BuildArgs;
use crate::error::Error;
use crate::spec::{self, limit, network, security};

/// Fills in what the commands may use, whom they know, and what is done anew.
///
/// # Errors
/// A flag says what cannot be, or what is not served.
pub fn fill(open: &mut BuildOpen, args: &BuildArgs) -> Result<(), Error> {
    let flags = &args.limit;
    if flags.squash {
        let text = "--squash is not served: end the Dockerfile with a stage FROM scratch that copies all of the one \
            before it";
        return Err(Error::Usage(text.to_owned()));
    }
    match flags.isolation.as_deref() {
        None | Some("" | "default") => {}
        Some(kind) => return Err(Error::Usage(format!("isolation {kind:?} is not served: only default is"))),
    }
    flags.ulimit.iter().try_for_each(|ulimit| limit::check_ulimit(ulimit))?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let resources = Resources {
        memory_bytes: limit::size("--memory", flags.memory.as_ref())?,
        memory_swap_bytes: limit::swap(flags.memory_swap.as_deref())?,
        cpu_shares: flags.cpu_shares.unwrap_or(0),
        cpu_period_us: flags.cpu_period.unwrap_or(0),
        cpu_quota_us: flags.cpu_quota.unwrap_or(0),
        cpuset_cpus: text(&flags.cpuset_cpus),
        cpuset_mems: text(&flags.cpuset_mems),
        ..Resources::default()
    };
    let shm_size = flags.shm_size.as_ref().map(|size| spec::bytes("--shm-size", size)).transpose()?;
    let limits = Limits {
        resources: Some(resources).filter(|resources| *resources != Resources::default()),
        ulimits: flags.ulimit.clone(),
        shm_size: shm_size.unwrap_or(0),
        cgroup_parent: text(&flags.cgroup_parent),
        security_opt: security::options(&flags.security_opt)?,
    };
    open.limits = Some(limits).filter(|limits| *limits != Limits::default());
    let hosts = args.add_host.iter().map(|host| network::extra_host(host));
    open.extra_hosts = hosts.collect::<Result<_, _>>()?;
    open.no_cache_filter.clone_from(&args.no_cache_filter);
    open.check = args.check;
    Ok(())
}
