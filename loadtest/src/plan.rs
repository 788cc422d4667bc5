//! When messages start: planned before the run, and never moved by what the target does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is offered to a target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Load {
    /// Messages start at the planned moments, whatever becomes of earlier ones.
    Open(Vec<Phase>),
    /// A message starts when one ends: this says how much a target can do, and nothing about waiting.
    Closed {
        /// Messages under way at a time.
        in_flight: u32,
        /// How long.
        time: Duration,
    },
}

/// A part of an open plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// The rate goes evenly from one to the other, in messages a second.
    Rate {
        /// At its start.
        from: f64,
        /// At its end.
        to: f64,
        /// How long.
        time: Duration,
    },
    /// So many at once.
    Burst(u64),
    /// Nothing.
    Pause(Duration),
}

/// Why a text is no load.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{part}` is no load: `200/s for 10s`, `200..800/s for 10s`, `burst 300`, `pause 2s`, joined by `, `; or `closed 16 for 5s`"
)]
pub struct LoadError {
    part: String,
}

/// Messages of one plan.
pub const MESSAGES_MAX: u64 = 100_000_000;
/// Messages a second.
const RATE_MAX: f64 = 1e6;
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Messages under way in a closed load.
pub const IN_FLIGHT_MAX: u32 = 20_000;

impl Load {
    /// An even rate.
    #[must_use]
    pub fn steady(rate: f64, time: Duration) -> Self {
        Self::Open(vec![Phase::Rate { from: rate, to: rate, time }])
    }

    /// How long messages are started.
    #[must_use]
    pub fn time(&self) -> Duration {
        match self {
            Self::Open(phases) => phases.iter().map(Phase::time).sum(),
            Self::Closed { time, .. } => *time,
        }
    }

    /// Messages of an open plan.
    #[must_use]
    pub fn message_count(&self) -> Option<u64> {
        match self {
            Self::Open(phases) => Some(phases.iter().map(Phase::message_count).sum()),
            Self::Closed { .. } => None,
        }
    }

    /// When each message of an open plan starts, counted from the start of the run; none of a closed one.
    pub fn moments(&self) -> impl Iterator<Item = Duration> + use<> {
        let phases = match self {
            Self::Open(phases) => phases.clone(),
            Self::Closed { .. } => Vec::new(),
        };
        let mut began = Duration::ZERO;
        phases.into_iter().flat_map(move |phase| {
            let at = began;
            began += phase.time();
            (0..phase.message_count()).map(move |number| at + phase.moment(number))
        })
    }
}

impl Phase {
    fn time(&self) -> Duration {
        match self {
            Self::Rate { time, .. } | Self::Pause(time) => *time,
            Self::Burst(_) => Duration::ZERO,
        }
    }

    fn message_count(&self) -> u64 {
        match self {
            Self::Rate { from, to, time } => ((from + to) / 2.0 * time.as_secs_f64()).round() as u64,
            Self::Burst(count) => *count,
            Self::Pause(_) => 0,
        }
    }

    /// When message `number` of the phase starts: where the integral of the rate reaches it.
    fn moment(&self, number: u64) -> Duration {
        let Self::Rate { from, to, time } = self else { return Duration::ZERO };
        let (number, seconds) = (number as f64, time.as_secs_f64());
        let slope = (to - from) / seconds;
        // number = from t + slope t^2 / 2, in the form that does not divide by the slope.
        let root = (from * from + 2.0 * slope * number).max(0.0).sqrt();
        let at = if from + root > 0.0 { 2.0 * number / (from + root) } else { 0.0 };
        Duration::from_secs_f64(at.clamp(0.0, seconds))
    }
}

impl FromStr for Load {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        if let Some(closed) = text.trim().strip_prefix("closed ") {
            let parsed = closed.split_once(" for ").and_then(|(count, time)| {
                let in_flight = count.trim().parse().ok().filter(|count| (1..=IN_FLIGHT_MAX).contains(count))?;
                Some(Self::Closed { in_flight, time: read_time(time)? })
            });
            return parsed.ok_or_else(|| LoadError { part: text.to_owned() });
        }
        let phases: Result<Vec<Phase>, LoadError> = text.split(',').map(|part| part.trim().parse()).collect();
        let load = Self::Open(phases?);
        if load.message_count().is_none_or(|count| count > MESSAGES_MAX) {
            return Err(LoadError { part: text.to_owned() });
        }
        Ok(load)
    }
}

impl FromStr for Phase {
    type Err = LoadError;

    fn from_str(part: &str) -> Result<Self, LoadError> {
        let read = || {
            if let Some(count) = part.strip_prefix("burst ") {
                return count.trim().parse().ok().filter(|count| *count <= MESSAGES_MAX).map(Self::Burst);
            }
            if let Some(time) = part.strip_prefix("pause ") {
                return read_time(time).map(Self::Pause);
            }
            let (rate, time) = part.split_once("/s for ")?;
            let (from, to) = rate.split_once("..").unwrap_or((rate, rate));
            let rate = |text: &str| text.trim().parse().ok().filter(|rate| (0.0..=RATE_MAX).contains(rate));
            Some(Self::Rate { from: rate(from)?, to: rate(to)?, time: read_time(time)? })
        };
        read().ok_or_else(|| LoadError { part: part.to_owned() })
    }
}

/// `300ms`, `10s`, `2.5s`, `5m`, `24h`; more than nothing.
fn read_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds: f64 = number.trim().parse().ok()?;
    let time = Duration::try_from_secs_f64(seconds * unit).ok()?;
    (!time.is_zero() && time <= TIME_MAX).then_some(time)
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { in_flight, time } => write!(out, "closed {in_flight} for {}s", time.as_secs_f64()),
            Self::Open(phases) => phases.iter().enumerate().try_for_each(|(at, phase)| {
                let comma = if at > 0 { ", " } else { "" };
                match phase {
                    Phase::Rate { from, to, time } if from == to => {
                        write!(out, "{comma}{from}/s for {}s", time.as_secs_f64())
                    }
                    Phase::Rate { from, to, time } => write!(out, "{comma}{from}..{to}/s for {}s", time.as_secs_f64()),
                    Phase::Burst(count) => write!(out, "{comma}burst {count}"),
                    Phase::Pause(time) => write!(out, "{comma}pause {}s", time.as_secs_f64()),
                }
            }),
        }
    }
}

impl TryFrom<String> for Load {
    type Error = LoadError;

    fn try_from(text: String) -> Result<Self, LoadError> {
        text.parse()
    }
}

impl From<Load> for String {
    fn from(load: Load) -> Self {
        load.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for text in ["200/s for 10s", "200..800/s for 10s, burst 300, pause 0.5s", "closed 16 for 5s"] {
            assert_eq!(text.parse::<Load>().unwrap().to_string(), text);
        }
        assert_eq!("1/s for 1m".parse::<Load>(), "1/s for 60s".parse());
        let faults = [
            "",
            "200",
            "200/s",
            "200/s for 0s",
            "200/s for 10",
            "-1/s for 1s",
            "burst",
            "closed 0 for 1s",
            "NaN/s for 1s",
            "inf/s for 1s",
            "1/s for infs",
            "burst 100000001",
            "20000000/s for 1s",
            "1/s for 200h",
            "closed 20001 for 1s",
        ];
        for fault in faults {
            assert!(fault.parse::<Load>().is_err(), "{fault}");
        }
        assert!("burst 100000000".parse::<Load>().is_ok() && "closed 20000 for 1s".parse::<Load>().is_ok());
    }

    #[test]
    fn moments_are_where_the_rate_puts_them() {
        let moments = |text: &str| text.parse::<Load>().unwrap().moments().map(|it| it.as_millis()).collect::<Vec<_>>();
        assert_eq!(moments("4/s for 1s"), [0, 250, 500, 750]);
        assert_eq!(moments("burst 2, pause 1s, burst 1, 2/s for 1s"), [0, 0, 1000, 1000, 1500]);
        // Half of a ramp from nothing is over after 1 / sqrt(2) of its time.
        let ramp = moments("0..1000/s for 1s");
        assert_eq!((ramp.len(), ramp[250]), (500, 707));
        let fall = moments("1000..0/s for 1s");
        assert_eq!((fall.len(), fall[250]), (500, 292));
        assert!(ramp.is_sorted() && fall.is_sorted());
    }
}
