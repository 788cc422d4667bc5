//! How much a target can do before it makes mail wait.

use std::time::Duration;

use crate::corpus::Letter;
use crate::drive::{self, Observer, Settings, Subject};
use crate::plan::Load;
use crate::report::Run;
use crate::target::Target;

/// How long each part takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) saturation: Duration,
    pub(crate) step: Duration,
    pub(crate) common: Duration,
}

/// The runs of one target.
pub(crate) struct Found {
    /// As much as it can do.
    pub(crate) saturated: Run,
    /// The highest rate of those tried that it keeps up with.
    pub(crate) knee: Option<Run>,
    /// The rate that everybody is given.
    pub(crate) common: Run,
}

/// A rate that is kept up with: messages do not pile up, and of a hundred 99 are answered within this.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Parts of the saturated rate that are tried, from above.
const PARTS: [f64; 6] = [1.0, 0.95, 0.9, 0.8, 0.7, 0.5];
/// Messages under way when a target is given as much as it takes.
const SATURATION: u32 = 8;
/// Messages a second that the slowest target keeps up with.
pub(crate) const COMMON_RATE: f64 = 100.0;

impl Times {
    pub(crate) const QUICK: Self = Self {
        warm_up: Duration::from_secs(2),
        saturation: Duration::from_secs(4),
        step: Duration::from_secs(4),
        common: Duration::from_secs(8),
    };
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_secs(10),
        saturation: Duration::from_secs(20),
        step: Duration::from_secs(20),
        common: Duration::from_secs(60),
    };
}

/// # Errors
/// When the target can not be driven, or when `is_alive`, asked after each part, says that it is gone.
pub(crate) fn find(
    target: &Target,
    letters: &[Letter],
    settings: &Settings,
    times: Times,
    observer: &mut dyn Observer,
    mut is_alive: impl FnMut() -> Result<(), String>,
) -> Result<Found, String> {
    let mut run = |load: &Load| {
        let run = drive::run(&Subject::Target(target), letters, load, settings, &mut *observer);
        is_alive()?;
        run.map_err(|error| error.to_string())
    };
    run(&Load::Closed { in_flight: SATURATION, time: times.warm_up })?;
    let saturated = run(&Load::Closed { in_flight: SATURATION, time: times.saturation })?;
    let mut knee = None;
    for part in PARTS {
        let step = run(&Load::steady((saturated.rate() * part).max(1.0), times.step))?;
        if keeps_up(&step, settings) {
            knee = Some(step);
            break;
        }
    }
    let common = run(&Load::steady(COMMON_RATE, times.common))?;
    Ok(Found { saturated, knee, common })
}

fn keeps_up(run: &Run, settings: &Settings) -> bool {
    let total = &run.total;
    let wait = Duration::from_micros(total.whole.value_at_quantile(0.99));
    total.failed == 0 && total.dropped == 0 && wait <= WAIT_MAX && run.invalid(settings.late_share_max).is_none()
}
