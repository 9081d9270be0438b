//! Which system calls a container may use: the default profile, and profiles of a spec.

use davit_sys::privilege::Capabilities;
use davit_sys::seccomp::{self, Abi, Action, Compare, Condition, Flags, Profile, Program, Rule, Width};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::error::Failure;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// The flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// Socket families that reach deep into the kernel or out of the virtual machine.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// `socketcall(SYS_SOCKET, …)`, whose family lies in memory where no filter can look.
const SOCKETCALL_SOCKET: u64 = 1;
/// What `personality` may be asked: the plain ones, with and without randomised addresses, and what it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Calls that every container may use.
const ALWAYS: &str = "_llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget \
    capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 \
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    file_getattr file_setattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 \
    fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid \
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom \
    getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen \
    listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink \
    mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll \
    ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev \
    pwritev2 read readahead readdir readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg \
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send \
    sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 \
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd signalfd4 sigpending \
    sigprocmask sigreturn sigsuspend socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat \
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev \
    arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// Calls that come with a capability; with several names any of them will do.
const WITH_CAPABILITY: [(&[&str], &str); 13] = [
    (
        &["SYS_ADMIN"],
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open \
         quotactl quotactl_fd setdomainname sethostname setns statmount syslog umount umount2 unshare",
    ),
    (&["BPF"], "bpf"),
    (&["PERFMON"], "perf_event_open"),
    (&["DAC_READ_SEARCH"], "open_by_handle_at"),
    (&["SYS_BOOT"], "reboot"),
    (&["SYS_CHROOT"], "chroot"),
    (&["SYS_MODULE"], "delete_module finit_module init_module"),
    (&["SYS_PACCT"], "acct"),
    (&["SYS_PTRACE"], "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (&["SYS_RAWIO"], "ioperm iopl"),
    (&["SYS_TIME"], "clock_settime clock_settime64 settimeofday stime"),
    (&["SYS_TTY_CONFIG"], "vhangup"),
    (&["SYSLOG"], "syslog"),
];

/// The memory policy calls, which need a capability for what others could feel.
const WITH_NICE: &str = "get_mempolicy mbind set_mempolicy set_mempolicy_home_node";

fn rule(names: &'static str, action: Action, conditions: Vec<Condition>) -> Rule<'static> {
    // A guess that is never short, so that the list is made in one piece.
    let mut list = Vec::with_capacity(names.len() / 4 + 1);
    list.extend(names.split_ascii_whitespace());
    Rule { names: list, action, conditions }
}

fn low(compare: Compare) -> Condition {
    Condition { argument: 0, width: Width::Low32, compare }
}

/// The default profile for a container with these capabilities: what is not allowed fails with EPERM, what is newer
/// than our tables with ENOSYS, so that C libraries fall back.
pub fn default_profile(capabilities: Capabilities) -> Profile<'static> {
    let has =
        |name: &&str| Capabilities::named(name).is_some_and(|one| capabilities.intersection(one) == one);
    let mut rules = Vec::new();
    for (any, names) in WITH_CAPABILITY {
        if any.iter().any(has) {
            rules.push(rule(names, Action::Allow, vec![]));
        }
    }
    if has(&"SYS_NICE") {
        rules.push(rule(WITH_NICE, Action::Allow, vec![]));
    }
    let no_namespaces = Compare::Masked { mask: NAMESPACE_FLAGS, value: 0 };
    rules.extend([
        rule("clone", Action::Allow, vec![low(no_namespaces)]),
        // Its flags lie in memory; without it the C libraries use clone.
        rule("clone3", Action::Errno(ENOSYS), vec![]),
        rule("socket", Action::Allow, vec![low(Compare::NotEqual(AF_ALG)), low(Compare::NotEqual(AF_VSOCK))]),
        rule("socketcall", Action::Allow, vec![low(Compare::NotEqual(SOCKETCALL_SOCKET))]),
        rule(ALWAYS, Action::Allow, vec![]),
    ]);
    rules.extend(PERSONALITIES.map(|p| rule("personality", Action::Allow, vec![low(Compare::Equal(p))])));
    let abis = Abi::of_this_machine().iter().copied().filter(|abi| *abi != Abi::X32).collect();
    Profile { default: Action::Errno(EPERM), unknown: Action::Errno(ENOSYS), rules, abis }
}

/// Compiles the default profile.
pub fn default_program(capabilities: Capabilities) -> Result<Program, Failure> {
    compile(&default_profile(capabilities))
}

fn compile(profile: &Profile<'_>) -> Result<Program, Failure> {
    seccomp::compile(profile).map_err(|e| Failure::invalid(e.to_string()))
}

/// Compiles the profile of a spec.
pub fn spec_program(spec: &LinuxSeccomp) -> Result<Program, Failure> {
    if spec.listener_path().is_some() {
        return Err(Failure::invalid("seccomp listeners are not supported"));
    }
    let default = plan_action(spec.default_action(), spec.default_errno_ret())?;
    let unknown = match default {
        Action::Errno(_) => Action::Errno(ENOSYS),
        other => other,
    };
    let mut rules = Vec::new();
    for syscall in spec.syscalls().iter().flatten() {
        rules.extend(plan_rules(syscall)?);
    }
    let abis = match spec.architectures() {
        Some(list) if !list.is_empty() => list.iter().copied().filter_map(plan_abi).collect(),
        _ => Abi::of_this_machine().first().copied().into_iter().collect(),
    };
    compile(&Profile { default, unknown, rules, abis })
}

/// How the filter of a spec is installed.
pub fn spec_flags(spec: &LinuxSeccomp) -> Result<Flags, Failure> {
    let mut flags = Flags::default();
    for flag in spec.flags().iter().flatten() {
        flags.0 |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => Flags::LOG.0,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW.0,
            // There is one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(Failure::invalid(format!("seccomp flag {flag} is not supported")));
            }
        };
    }
    Ok(flags)
}

/// Conditions on different arguments must all hold. Of several on the same argument any one will do, as in runc, which
/// profiles are written for.
fn plan_rules(syscall: &LinuxSyscall) -> Result<Vec<Rule<'_>>, Failure> {
    let args = syscall.args().as_deref().unwrap_or_default();
    let conditions: Vec<Condition> = args.iter().map(plan_condition).collect::<Result<_, _>>()?;
    let action = plan_action(syscall.action(), syscall.errno_ret())?;
    let rule =
        |conditions| Rule { names: syscall.names().iter().map(String::as_str).collect(), action, conditions };
    let repeated = |(n, arg): (usize, &LinuxSeccompArg)| {
        args.iter().take(n).any(|earlier| earlier.index() == arg.index())
    };
    if args.iter().enumerate().any(repeated) {
        return Ok(conditions.into_iter().map(|one| rule(vec![one])).collect());
    }
    Ok(vec![rule(conditions)])
}

fn plan_condition(arg: &LinuxSeccompArg) -> Result<Condition, Failure> {
    let argument = u8::try_from(arg.index()).ok().filter(|n| *n < 6);
    let argument = argument
        .ok_or_else(|| Failure::invalid(format!("seccomp argument {} is out of range", arg.index())))?;
    let value = arg.value();
    let compare = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Compare::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Compare::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Compare::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Compare::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Compare::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Compare::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Compare::Masked { mask: value, value: arg.value_two().unwrap_or(0) }
        }
    };
    Ok(Condition { argument, width: Width::Full64, compare })
}

fn plan_action(action: LinuxSeccompAction, data: Option<u32>) -> Result<Action, Failure> {
    let number = |otherwise: u16| match data {
        None => Ok(otherwise),
        Some(n) => {
            u16::try_from(n).map_err(|_| Failure::invalid(format!("seccomp errno {n} is out of range")))
        }
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => Action::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(number(EPERM)?),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(number(0)?),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Failure::invalid("seccomp action SCMP_ACT_NOTIFY is not supported"));
        }
    })
}

fn plan_abi(arch: Arch) -> Option<Abi> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "machines that this program does not run on")]
    match arch {
        Arch::ScmpArchX86_64 => Some(Abi::X86_64),
        Arch::ScmpArchX86 => Some(Abi::I386),
        Arch::ScmpArchX32 => Some(Abi::X32),
        Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
        Arch::ScmpArchArm => Some(Abi::Arm),
        Arch::ScmpArchNative => Abi::of_this_machine().first().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<'a>(profile: &Profile<'a>) -> Vec<&'a str> {
        let allow = profile.rules.iter().filter(|r| r.action == Action::Allow && r.conditions.is_empty());
        allow.flat_map(|r| r.names.iter().copied()).collect()
    }

    #[test]
    fn every_name_is_a_system_call() {
        let all = default_profile(Capabilities(u64::MAX));
        let unknown: Vec<_> =
            all.rules.iter().flat_map(|r| &r.names).filter(|n| !seccomp::is_known(n)).collect();
        assert_eq!(unknown, Vec::<&&str>::new());
    }

    #[test]
    fn what_never_runs_is_never_allowed() {
        let never = "add_key keyctl request_key io_uring_setup io_uring_enter io_uring_register userfaultfd \
            kexec_load kexec_file_load pivot_root swapon swapoff move_pages migrate_pages ustat sysfs uselib";
        for capabilities in [0, u64::MAX] {
            let profile = default_profile(Capabilities(capabilities));
            let allowed = names(&profile);
            for name in never.split_ascii_whitespace() {
                assert!(!allowed.contains(&name), "{name}");
            }
        }
        let profile = default_profile(Capabilities(0));
        for name in
            ["mount", "bpf", "perf_event_open", "setns", "unshare", "quotactl", "fsopen", "clone", "socket"]
        {
            assert!(!names(&profile).contains(&name), "{name}");
        }
        assert!(names(&default_profile(Capabilities::SYS_ADMIN)).contains(&"mount"));
    }

    #[test]
    fn the_default_is_small() {
        let docker = Capabilities(0xa80425fb);
        assert!(default_program(docker).unwrap().0.len() < 300);
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let rule = |args: &str| -> LinuxSyscall {
            let text = format!(r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let arg = |index: u8, value: u8| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
        let two = rule(&[arg(0, 1), arg(0, 2)].join(","));
        assert_eq!(plan_rules(&two).unwrap().iter().map(|r| r.conditions.len()).collect::<Vec<_>>(), [1, 1]);
        let both = rule(&[arg(0, 1), arg(1, 2)].join(","));
        assert_eq!(plan_rules(&both).unwrap().iter().map(|r| r.conditions.len()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_spec_is_honoured_or_refused() {
        let parse = |json: &str| spec_program(&serde_json::from_str(json).unwrap());
        let good = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64",
            "SCMP_ARCH_AARCH64","SCMP_ARCH_S390"],"syscalls":[{"names":["read","nonsense"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,
            "op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        assert!(!parse(good).unwrap().0.is_empty());
        for bad in [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":70000}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
