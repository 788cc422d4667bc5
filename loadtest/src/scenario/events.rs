//! What happens beside a load, at its moments.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mailproof_fault_dns::{Plan, Server};

use super::LOOK;
use super::daemon::Daemon;
use super::settings::{Act, Event};

/// Lets everything happen until the run is over; gives what its end came too soon for.
pub(super) fn play<'a>(
    events: &'a [Event],
    dns: &Server,
    daemon: &Daemon,
    is_over: &AtomicBool,
) -> io::Result<Vec<&'a Event>> {
    let began = Instant::now();
    let mut due: Vec<(Instant, Option<Duration>, &Act)> =
        events.iter().map(|event| (began + event.at, event.every, &event.act)).collect();
    let mut last = began;
    while !is_over.load(Ordering::Acquire) && !due.is_empty() {
        let now = Instant::now();
        last = now;
        for (when, every, act) in &mut due {
            if *when <= now {
                carry_out(act, dns, daemon)?;
                // Where it falls behind it does not catch up.
                *when = every.map_or(*when, |every| (*when + every).max(now));
            }
        }
        due.retain(|(when, every, _)| *when > now || every.is_some());
        let next = due.iter().map(|it| it.0).min().unwrap_or(now + LOOK);
        thread::sleep(next.saturating_duration_since(Instant::now()).min(LOOK));
    }
    Ok(events.iter().filter(|event| began + event.at > last).collect())
}

fn carry_out(act: &Act, dns: &Server, daemon: &Daemon) -> io::Result<()> {
    match act {
        Act::DnsPause => dns.pause(),
        Act::DnsResume => dns.resume(),
        Act::DnsPlan(plan) => dns.set_plan(Plan::load(plan).map_err(io::Error::other)?),
        Act::Reload => daemon.reload(false)?,
        Act::ReloadBad => daemon.reload(true)?,
    }
    Ok(())
}
