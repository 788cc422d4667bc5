//! What a run cost, as the kernel counted it.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Messages, octets, wall time and CPU time of one run or pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) messages: u64,
    /// Lines of a batch that hold no message that could be judged.
    pub(crate) refused: u64,
    pub(crate) octets: u64,
    pub(crate) elapsed: Duration,
    /// Of every thread.
    pub(crate) cpu: Duration,
}

impl Cost {
    /// CPU time a message, in microseconds.
    pub(crate) fn cpu_us_per_message(&self) -> Option<f64> {
        (self.messages > 0).then(|| self.cpu.as_secs_f64() * 1e6 / self.messages as f64)
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

/// The CPU time of a run: of every thread of the process, those of the engine included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuMeter {
    before: Duration,
}

impl CpuMeter {
    pub(crate) fn start() -> Self {
        Self { before: process_cpu() }
    }

    /// What was used so far.
    pub(crate) fn total(self) -> Duration {
        process_cpu().saturating_sub(self.before)
    }
}

/// The most memory this process held at once, in octets.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_shows() {
        let meter = CpuMeter::start();
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed() < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(meter.total() > Duration::ZERO);
        assert!(peak_resident_bytes().is_none_or(|bytes| bytes > 100_000));
        let cost = Cost {
            messages: 4,
            refused: 0,
            octets: 9,
            elapsed: Duration::from_millis(2),
            cpu: Duration::from_micros(10),
        };
        assert_eq!(cost.to_string(), "4 messages, 9 bytes, 0.002 s, 2.5 µs CPU a message");
    }
}
