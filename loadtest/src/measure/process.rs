//! What processes cost: those of the target, with all that they have started.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processes by their first one, or several.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    roots: Vec<u32>,
}

/// What a tree of processes has used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// User and system time, with that of processes that have ended and were waited for.
    pub cpu: Duration,
    /// Resident memory; of several processes, each with its share of what they have in common.
    pub rss_bytes: u64,
    /// Processes alive.
    pub processes: u32,
}

/// Processes of one tree: more are not looked at.
const PROCESSES_MAX: usize = 4096;

impl Tree {
    /// These processes and all below them.
    #[must_use]
    pub fn new(roots: Vec<u32>) -> Self {
        Self { roots }
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// What they have used. Processes that end meanwhile are passed over.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let alive = self.alive();
        let mut usage = Usage { processes: alive.len() as u32, ..Usage::default() };
        for process in &alive {
            usage.cpu += running_time(*process) + ended_children_time(*process);
            usage.rss_bytes += if alive.len() == 1 { resident(*process) } else { proportional(*process) };
        }
        usage
    }

    fn alive(&self) -> BTreeSet<u32> {
        let (mut alive, mut rest) = (BTreeSet::new(), self.roots.clone());
        while let Some(process) = rest.pop() {
            if alive.len() >= PROCESSES_MAX || !fs::exists(format!("/proc/{process}")).unwrap_or(false) {
                continue;
            }
            if alive.insert(process) {
                rest.extend(children(process));
            }
        }
        alive
    }
}

impl Usage {
    /// Of this process itself, without children.
    #[must_use]
    pub fn own() -> Self {
        let process = std::process::id();
        Self { cpu: running_time(process), rss_bytes: resident(process), processes: 1 }
    }
}

fn tasks(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

fn children(process: u32) -> Vec<u32> {
    let texts = tasks(process).into_iter().filter_map(|task| fs::read_to_string(format!("{task}/children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Of the process with threads that have ended, to the tick; of its threads alive, to the nanosecond: the greater counts.
fn running_time(process: u32) -> Duration {
    let alive: u64 = tasks(process)
        .into_iter()
        .filter_map(|task| {
            fs::read_to_string(format!("{task}/schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    stat_ticks(process, 0).max(Duration::from_nanos(alive))
}

fn ended_children_time(process: u32) -> Duration {
    stat_ticks(process, 2)
}

/// Two neighbouring fields of `stat`, from `utime` on.
fn stat_ticks(process: u32, from: usize) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may have spaces; `utime` is the twelfth field behind it.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields).split_whitespace().skip(11 + from).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn resident(process: u32) -> u64 {
    kib_of(&format!("/proc/{process}/status"), "VmRSS:")
}

fn proportional(process: u32) -> u64 {
    kib_of(&format!("/proc/{process}/smaps_rollup"), "Pss:")
}

fn kib_of(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Keeps this thread, and what it starts, on some processors until dropped.
#[derive(Debug)]
pub struct Pinned(CpuSet);

impl Pinned {
    /// Moves the calling thread to these processors; `None` is where it is already.
    ///
    /// # Errors
    /// When the machine has no such processor, or does not let us have it.
    pub fn to(processors: &[usize]) -> io::Result<Self> {
        let before = sched_getaffinity(None::<Pid>)?;
        let mut set = CpuSet::new();
        for processor in processors {
            if *processor >= CpuSet::MAX_CPU {
                return Err(io::Error::other(format!("there is no processor {processor}")));
            }
            set.set(*processor);
        }
        sched_setaffinity(None::<Pid>, &set)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What was allowed before is allowed.
        let _ = sched_setaffinity(None::<Pid>, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_tree_counts_children_alive_and_ended() {
        let script = "i=0; (while [ $i -lt 20000 ]; do i=$((i+1)); done); i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; read x";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let tree = Tree::new(vec![child.id()]);
        let usage = tree.usage();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(usage.cpu > Duration::from_millis(2), "{usage:?}");
        assert!(usage.rss_bytes > 100_000 && usage.processes == 1, "{usage:?}");
        assert_eq!(tree.usage(), Usage::default());
    }
}
