//! What a run cost, as the kernel counted it.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Messages, octets, wall time and CPU time of one run or pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) messages: u64,
    /// Lines of a batch that hold no message that could be judged.
    pub(crate) refused: u64,
    pub(crate) octets: u64,
    pub(crate) elapsed: Duration,
    /// Of every thread that took part; `None` where the kernel does not say.
    pub(crate) cpu: Option<Duration>,
}

impl Cost {
    /// CPU time a message, in microseconds.
    pub(crate) fn cpu_us_per_message(&self) -> Option<f64> {
        let cpu = self.cpu?;
        (self.messages > 0).then(|| cpu.as_secs_f64() * 1e6 / self.messages as f64)
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages, {} bytes, {:.3} s", self.messages, self.octets, self.elapsed.as_secs_f64())?;
        if let Some(microseconds) = self.cpu_us_per_message() {
            write!(f, ", {microseconds:.1} µs CPU a message")?;
        }
        if self.refused > 0 {
            write!(f, ", {} not judged", self.refused)?;
        }
        Ok(())
    }
}

/// The CPU time of a run: every thread that takes part adds its own when it is done.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    nanoseconds: AtomicU64,
    ticks_before: Option<Duration>,
}

impl CpuMeter {
    pub(crate) fn start() -> Self {
        Self { nanoseconds: AtomicU64::new(0), ticks_before: process_ticks() }
    }

    /// Runs a thread's share of the work and counts what it used.
    pub(crate) fn measure<T>(&self, share: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let outcome = share();
        if let Some(used) = thread_cpu().zip(before).and_then(|(after, before)| after.checked_sub(before)) {
            self.nanoseconds.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        outcome
    }

    /// What was used so far: by the kernel's run times, or where it keeps none by the clock ticks of the process.
    pub(crate) fn total(&self) -> Option<Duration> {
        match self.nanoseconds.load(Ordering::Relaxed) {
            0 => process_ticks()?.checked_sub(self.ticks_before?),
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

/// The most memory this process held at once, in octets.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Time the calling thread has run, exact to the kernel's last look at it (a few milliseconds).
fn thread_cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn process_ticks() -> Option<Duration> {
    /// The unit of the kernel's interface on every Linux system (`USER_HZ`).
    const TICK: Duration = Duration::from_millis(10);
    /// Fields 14 and 15 of proc(5), counted behind the name in parentheses, which may hold anything.
    const BEHIND_NAME: usize = 14 - 3;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind) = stat.rsplit_once(") ")?;
    let ticks = behind.split_ascii_whitespace().skip(BEHIND_NAME).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<Result<u32, _>>().ok()?;
    Some(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_shows() {
        let meter = CpuMeter::start();
        let started = Instant::now();
        meter.measure(|| {
            let mut sum = 0_u64;
            while started.elapsed() < Duration::from_millis(60) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        });
        assert!(meter.total().is_none_or(|total| total <= Duration::from_millis(500)));
        assert!(peak_resident_bytes().is_none_or(|bytes| bytes > 100_000));
        let cost = Cost {
            messages: 4,
            refused: 0,
            octets: 9,
            elapsed: Duration::from_millis(2),
            cpu: Some(Duration::from_micros(10)),
        };
        assert_eq!(cost.to_string(), "4 messages, 9 bytes, 0.002 s, 2.5 µs CPU a message");
    }
}
