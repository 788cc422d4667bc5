//! A scenario as it is written: TOML, every key checked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::corpus::{DOMAIN_COUNT, Fates, Options, Sizes};
use crate::drive::{LATE_SHARE_MAX, STALLED_MAX};
use crate::plan::Load;
use crate::target::Connections;

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of its file.
    pub name: String,
    /// It takes long even at its shortest.
    pub is_long: bool,
    /// The cache knows every answer before it begins.
    pub is_warm: bool,
    /// How connections are used.
    pub connections: Connections,
    /// Messages under way at a time.
    pub in_flight_max: usize,
    /// Lines of the milter's configuration beside those that it needs.
    pub config: String,
    /// What happens beside the load.
    pub events: Vec<Event>,
    folder: PathBuf,
    file: File,
}

/// Why a file is no scenario.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct ScenarioError {
    path: PathBuf,
    what: String,
}

/// Something that happens beside the load.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, counted from the start.
    pub at: Duration,
    /// How often it happens again.
    pub every: Option<Duration>,
    /// What.
    pub act: Act,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Act {
    /// The DNS server says nothing more.
    DnsPause,
    /// It answers again.
    DnsResume,
    /// It does as this plan says.
    DnsPlan(PathBuf),
    /// The milter reads its configuration again.
    Reload,
    /// The milter reads a configuration that can not be used.
    ReloadBad,
}

/// A bound on a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    least: f64,
    most: f64,
}

/// What has to come out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expect {
    pub(super) wrong: Option<Limit>,
    pub(super) failed: Option<Limit>,
    pub(super) right_share: Option<Limit>,
    pub(super) temporary_share: Option<Limit>,
    pub(super) p50_ms: Option<Limit>,
    pub(super) p99_ms: Option<Limit>,
    pub(super) max_ms: Option<Limit>,
    pub(super) content_p99_ms: Option<Limit>,
    pub(super) cpu_us: Option<Limit>,
    pub(super) rss_mib: Option<Limit>,
    pub(super) rss_growth_mib: Option<Limit>,
    pub(super) late_share: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    /// For people.
    #[serde(rename = "about")]
    _about: String,
    #[serde(default)]
    long_only: bool,
    #[serde(default)]
    warm: bool,
    #[serde(default)]
    connections: Connections,
    #[serde(default)]
    in_flight_max: Option<usize>,
    #[serde(default)]
    config: String,
    #[serde(default)]
    stream: StreamFile,
    #[serde(default)]
    dns: DnsFile,
    load: LoadFile,
    #[serde(default)]
    stalled: StalledFile,
    #[serde(default, rename = "event")]
    events: Vec<EventFile>,
    expect: ExpectFile,
    /// Bounds that are other ones at full length.
    #[serde(default)]
    expect_long: ExpectFile,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StreamFile {
    count: Option<u64>,
    domains: Option<u32>,
    seed: Option<u64>,
    sizes: Option<SizesWord>,
    #[serde(default)]
    honest: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SizesWord {
    Ordinary,
    Tiny,
    Giant,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DnsFile {
    /// A plan of faults, beside the scenario.
    plan: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadFile {
    short: Load,
    long: Load,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StalledFile {
    #[serde(default)]
    short: usize,
    #[serde(default)]
    long: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EventFile {
    at_ms: u64,
    every_ms: Option<u64>,
    act: ActWord,
    plan: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ActWord {
    DnsPause,
    DnsResume,
    DnsPlan,
    Reload,
    ReloadBad,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ExpectFile {
    wrong_max: Option<f64>,
    failed_max: Option<f64>,
    right_share_min: Option<f64>,
    temporary_share_max: Option<f64>,
    temporary_share_min: Option<f64>,
    p50_ms_max: Option<f64>,
    p99_ms_max: Option<f64>,
    max_ms_max: Option<f64>,
    content_p99_ms_max: Option<f64>,
    cpu_us_max: Option<f64>,
    rss_mib_max: Option<f64>,
    rss_growth_mib_max: Option<f64>,
    late_share_max: Option<f64>,
}

/// Octets of a scenario file.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// Things that may happen beside a load.
const EVENTS_MAX: usize = 64;
/// Between two times of what happens again and again.
const EVERY_MIN_MS: u64 = 5;
/// Messages of a stream unless told otherwise.
const COUNT: u64 = 300;
/// Late starts at the shortest: such runs say whether it works, not how fast, on machines that do other things too.
const SHORT_LATE_SHARE_MAX: f64 = 0.25;
/// Messages under way at a time unless told otherwise.
const IN_FLIGHT_MAX: usize = 5000;

impl Scenario {
    /// Reads one from its file.
    ///
    /// # Errors
    /// [`ScenarioError`] with what is wrong, and where.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let fault = |what: String| ScenarioError { path: path.to_owned(), what };
        let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Self::parse(&text, name, folder).map_err(fault)
    }

    fn parse(text: &str, name: String, folder: PathBuf) -> Result<Self, String> {
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("more than {FILE_BYTES_MAX} octets"));
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.events.len() > EVENTS_MAX {
            return Err(format!("more than {EVENTS_MAX} events"));
        }
        if file.stalled.short.max(file.stalled.long) > STALLED_MAX {
            return Err(format!("more than {STALLED_MAX} stalled connections"));
        }
        let events: Result<Vec<Event>, String> = file.events.iter().map(|event| event.read(&folder)).collect();
        Ok(Self {
            name,
            is_long: file.long_only,
            is_warm: file.warm,
            connections: file.connections,
            in_flight_max: file.in_flight_max.unwrap_or(IN_FLIGHT_MAX).max(1),
            config: file.config.clone(),
            events: events?,
            folder,
            file,
        })
    }

    /// Its messages.
    #[must_use]
    pub fn stream(&self) -> Options {
        let stream = &self.file.stream;
        Options {
            count: stream.count.unwrap_or(COUNT).max(1),
            domain_count: stream.domains.unwrap_or(DOMAIN_COUNT),
            seed: self.seed(),
            sizes: match stream.sizes {
                None | Some(SizesWord::Ordinary) => Sizes::Ordinary,
                Some(SizesWord::Tiny) => Sizes::Tiny,
                Some(SizesWord::Giant) => Sizes::Giant,
            },
            fates: if stream.honest { Fates::Honest } else { Fates::Mixed },
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.file.stream.seed.unwrap_or(1)
    }

    pub(super) const fn offered(&self, is_long: bool) -> &Load {
        if is_long { &self.file.load.long } else { &self.file.load.short }
    }

    pub(super) const fn stalled(&self, is_long: bool) -> usize {
        if is_long { self.file.stalled.long } else { self.file.stalled.short }
    }

    pub(super) fn dns_plan(&self) -> Option<PathBuf> {
        self.file.dns.plan.as_ref().map(|plan| self.folder.join(plan))
    }

    pub(super) fn expect(&self, is_long: bool) -> Expect {
        let (usual, long) = (self.file.expect, self.file.expect_long);
        let of =
            |bound: fn(ExpectFile) -> Option<f64>| if is_long { bound(long).or(bound(usual)) } else { bound(usual) };
        let most = |bound| of(bound).map(Limit::at_most);
        Expect {
            // No wrong verdict and no message without an answer, unless a scenario says how many.
            wrong: Some(Limit::at_most(of(|it| it.wrong_max).unwrap_or(0.0))),
            failed: Some(Limit::at_most(of(|it| it.failed_max).unwrap_or(0.0))),
            right_share: of(|it| it.right_share_min).map(Limit::at_least),
            temporary_share: Some(Limit {
                least: of(|it| it.temporary_share_min).unwrap_or(0.0),
                most: of(|it| it.temporary_share_max).unwrap_or(0.0),
            }),
            p50_ms: most(|it| it.p50_ms_max),
            p99_ms: most(|it| it.p99_ms_max),
            max_ms: most(|it| it.max_ms_max),
            content_p99_ms: most(|it| it.content_p99_ms_max),
            cpu_us: most(|it| it.cpu_us_max),
            rss_mib: most(|it| it.rss_mib_max),
            rss_growth_mib: most(|it| it.rss_growth_mib_max),
            late_share: of(|it| it.late_share_max).unwrap_or(if is_long {
                LATE_SHARE_MAX
            } else {
                SHORT_LATE_SHARE_MAX
            }),
        }
    }
}

impl EventFile {
    fn read(&self, folder: &Path) -> Result<Event, String> {
        if self.every_ms.is_some_and(|every| every < EVERY_MIN_MS) {
            return Err(format!("every-ms has to be {EVERY_MIN_MS} or more"));
        }
        let act = match (self.act, &self.plan) {
            (ActWord::DnsPlan, Some(plan)) => Act::DnsPlan(folder.join(plan)),
            (ActWord::DnsPlan, None) => return Err("an event `dns-plan` names its plan".to_owned()),
            (_, Some(_)) => return Err("only an event `dns-plan` has a plan".to_owned()),
            (ActWord::DnsPause, None) => Act::DnsPause,
            (ActWord::DnsResume, None) => Act::DnsResume,
            (ActWord::Reload, None) => Act::Reload,
            (ActWord::ReloadBad, None) => Act::ReloadBad,
        };
        Ok(Event { at: Duration::from_millis(self.at_ms), every: self.every_ms.map(Duration::from_millis), act })
    }
}

impl Limit {
    pub(super) const fn at_most(most: f64) -> Self {
        Self { least: f64::NEG_INFINITY, most }
    }

    const fn at_least(least: f64) -> Self {
        Self { least, most: f64::INFINITY }
    }

    pub(super) fn allows(self, found: f64) -> bool {
        (self.least..=self.most).contains(&found)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least.is_finite(), self.most.is_finite()) {
            (true, true) => write!(out, "{} to {}", self.least, self.most),
            (true, false) => write!(out, "{} or more", self.least),
            _ => write!(out, "{} or less", self.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse(text, "x".to_owned(), PathBuf::from("/x"))
    }

    const LEAST: &str = "about = 'x'\nload = { short = '1/s for 1s', long = '2/s for 1s' }\nexpect = {}\n";

    #[test]
    fn what_is_left_out_is_strict() {
        let scenario = parse(LEAST).unwrap();
        let expect = scenario.expect(false);
        assert_eq!((expect.wrong, expect.failed), (Some(Limit::at_most(0.0)), Some(Limit::at_most(0.0))));
        assert!(!expect.temporary_share.unwrap().allows(0.001));
        assert_eq!((expect.late_share, scenario.expect(true).late_share), (SHORT_LATE_SHARE_MAX, LATE_SHARE_MAX));
        assert_ne!(scenario.offered(false), scenario.offered(true));
        let long = parse("expect-long = { p99-ms-max = 5 }\nabout = 'x'\nload = { short = '1/s for 1s', long = '2/s for 1s' }\nexpect = { p99-ms-max = 9 }").unwrap();
        assert!(long.expect(false).p99_ms.unwrap().allows(9.0) && !long.expect(true).p99_ms.unwrap().allows(9.0));
    }

    #[test]
    fn mistakes_are_refused() {
        let with = |line: &str| parse(&format!("{line}\n{LEAST}")).map(drop);
        assert_eq!(with(""), Ok(()));
        assert_eq!(with("stalled = { long = 20000 }"), Ok(()));
        let faults = [
            "colour = 1",
            "stalled = { long = 20001 }",
            "event = [{ at-ms = 1, act = 'dns-plan' }]",
            "event = [{ at-ms = 1, act = 'reload', plan = 'x' }]",
            "event = [{ at-ms = 1, every-ms = 4, act = 'reload' }]",
        ];
        for fault in faults {
            assert!(with(fault).is_err(), "{fault}");
        }
        let events = |count: usize| with(&format!("event = [{}]", "{ at-ms = 1, act = 'reload' },".repeat(count)));
        assert!(events(EVENTS_MAX).is_ok() && events(EVENTS_MAX + 1).is_err());
        assert!(with(&"#".repeat(FILE_BYTES_MAX)).is_err());
    }
}
