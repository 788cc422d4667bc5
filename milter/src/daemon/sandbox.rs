//! Rights that the process gives up once it has what it needs, for the case that somebody finds a way to make it do
//! other things. Where the kernel can not do it, mail goes on without, and the log says so.
//!
//! Landlock: no file is written, made or executed but sockets and their removal; no TCP connection but to the ports of
//! resolvers; no TCP port is bound. Reading stays: keys and the configuration are read again on SIGHUP, from wherever the
//! operator keeps them. seccomp: calls that start programs, look into other processes, or change the system give EPERM.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What became of a restriction, in a word of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Restriction {
    /// It holds.
    On,
    /// The kernel knows a part of it.
    Partly,
    /// The kernel refuses it or does not know it.
    Unavailable,
    /// The configuration does not want it.
    Off,
}

impl Restriction {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Partly => "partly",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}

/// Restricts this thread and those that it starts. Files below `writable` may still be made and written.
pub(crate) fn restrict_files(writable: &[PathBuf], resolver_ports: &[u16]) -> Restriction {
    let restrict = || -> Result<RulesetStatus, landlock::RulesetError> {
        let writes = AccessFs::from_write(ABI_WANTED);
        let mut rules = Ruleset::default()
            .handle_access(writes | AccessFs::Execute)?
            .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
            .create()?;
        for folder in writable.iter().filter_map(|path| PathFd::new(path).ok()) {
            rules = rules.add_rule(PathBeneath::new(folder, writes))?;
        }
        for port in resolver_ports {
            rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => Restriction::On,
        Ok(RulesetStatus::PartiallyEnforced) => Restriction::Partly,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Restriction::Unavailable,
    }
}

/// Restricts the system calls of every thread of the process.
pub(crate) fn restrict_calls() -> Restriction {
    let apply = || -> Result<(), Box<dyn std::error::Error>> {
        let program = calls_filter()?;
        Ok(seccompiler::apply_filter_all_threads(&program)?)
    };
    if apply().is_ok() { Restriction::On } else { Restriction::Unavailable }
}

fn calls_filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED_CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family.unsigned_abs().into())
    });
    let other_families = families.into_iter().collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other_families)?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// The folders that hold these files.
pub(crate) fn folders_of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = files.into_iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The newest version whose rights are named here; the crate does with less where the kernel knows less.
const ABI_WANTED: ABI = ABI::V5;

/// Calls that a mail filter has no use for once it runs.
const REFUSED_CALLS: [i64; 50] = [
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Accounts and rights.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_personality,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_open_by_handle_at,
    // The kernel and the machine.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
];

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    /// On a thread of its own: what is given up does not come back.
    #[test]
    fn what_is_given_up_is_refused_and_the_rest_goes_on() {
        let folder = std::env::temp_dir().join(format!("mailproof-sandbox-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("open")).unwrap();
        let of_thread = folder.clone();
        std::thread::spawn(move || {
            let files = restrict_files(&[of_thread.join("open")], &[53]);
            let is_refused = std::fs::write(of_thread.join("x"), "x").is_err();
            assert_eq!(is_refused, matches!(files, Restriction::On | Restriction::Partly), "{files:?}");
            std::fs::write(of_thread.join("open/x"), "x").unwrap();
            assert_eq!(std::fs::read(of_thread.join("open/x")).unwrap(), b"x");
            let program = calls_filter().unwrap();
            if seccompiler::apply_filter(&program).is_ok() {
                let error = Command::new("/bin/true").status().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
            }
        })
        .join()
        .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
