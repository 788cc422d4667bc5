//! What happens in a run: everything drawn from a seed before it begins, so that it can be looked at and made smaller.

use std::collections::BTreeSet;
use std::fmt;

use mailproof_testkit::random::Random;

/// One run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Where the random numbers of the run start.
    pub seed: u64,
    /// Workers of the engine.
    pub workers: usize,
    /// DNS servers.
    pub servers: usize,
    /// Mail servers' connections.
    pub connections: Vec<Connection>,
    /// Messages that are handed in whole.
    pub jobs: Vec<Whole>,
    /// How often each trouble strikes, in percent, in the order of [`Trouble::ALL`].
    pub rates: [u8; Trouble::ALL.len()],
    /// When every domain withdraws what it has published, in milliseconds.
    pub revoked_ms: Option<u64>,
    /// How long records live.
    pub ttl_seconds: u32,
    /// How long an answer may serve after its end.
    pub stale_seconds: u64,
    /// Limits.
    pub limits: Limits,
}

/// Limits that a run is under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Questions asked at a time.
    pub in_flight: usize,
    /// Questions that wait.
    pub waiting: usize,
    /// Questions on one connection to a server.
    pub link_outstanding: usize,
    /// Mail servers' connections.
    pub connections: usize,
    /// Octets of the cache.
    pub cache_bytes: u64,
}

/// A mail server's connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Its place in the plan before anything was left out.
    pub number: usize,
    /// When it comes, in milliseconds.
    pub start_ms: u64,
    /// Its messages.
    pub messages: Vec<Message>,
    /// What the mail server offers: version and steps.
    pub offer: (u32, u32),
    /// Octets that travel together, at the most.
    pub piece_bytes: usize,
    /// The mail server goes after so many octets, as if its machine had failed.
    pub cut: Option<usize>,
}

/// A message on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its place in the plan before anything was left out.
    pub number: usize,
    /// Which of the stage's letters, by a number that goes round.
    pub letter: usize,
    /// Octets of the body in one frame, at the most.
    pub chunk_bytes: usize,
    /// How long the mail server waits before it.
    pub pause_ms: u64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is sent to its end, and the reply is waited for.
    Whole,
    /// It is given up after so many commands.
    Aborted(usize),
    /// It is sent to its end, and given up when the reply has not come after so many milliseconds; then the connection ends.
    GivenUp(u64),
}

/// A message that is handed in whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Whole {
    /// Which of the stage's letters, by a number that goes round.
    pub letter: usize,
    /// When, in milliseconds.
    pub at_ms: u64,
    /// When it is cancelled.
    pub cancelled_ms: Option<u64>,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Trouble {
    /// Datagrams are lost.
    Loss,
    /// Datagrams come twice.
    Duplicate,
    /// Datagrams and octets take long, and overtake each other.
    Delay,
    /// Servers say nothing for a while.
    Silence,
    /// Nobody listens at a server's port for a while.
    DeadPort,
    /// Servers answer with errors.
    ServerError,
    /// Replies have another ID, name, type, class or no question.
    WrongReply,
    /// Replies are cut off, so that TCP has to tell.
    Truncation,
    /// Replies are no messages.
    Octets,
    /// Somebody who knows the ID answers another question, in his own favour.
    Impostor,
    /// Connections to servers can not be made.
    Refused,
    /// Servers close or reset connections, with replies under way.
    Closed,
    /// Streams hand out few octets at a time.
    ShortReads,
    /// Streams take few octets at a time.
    PartialWrites,
    /// Mail servers go away anywhere.
    Cut,
    /// Mail servers give messages up.
    Abort,
    /// Answers are purged while they are in use.
    Purge,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Loss,
        Self::Duplicate,
        Self::Delay,
        Self::Silence,
        Self::DeadPort,
        Self::ServerError,
        Self::WrongReply,
        Self::Truncation,
        Self::Octets,
        Self::Impostor,
        Self::Refused,
        Self::Closed,
        Self::ShortReads,
        Self::PartialWrites,
        Self::Cut,
        Self::Abort,
        Self::Purge,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Silence => "silence",
            Self::DeadPort => "dead-port",
            Self::ServerError => "server-error",
            Self::WrongReply => "wrong-reply",
            Self::Truncation => "truncation",
            Self::Octets => "octets",
            Self::Impostor => "impostor",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::ShortReads => "short-reads",
            Self::PartialWrites => "partial-writes",
            Self::Cut => "cut",
            Self::Abort => "abort",
            Self::Purge => "purge",
        }
    }
}

impl std::str::FromStr for Trouble {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|trouble| trouble.word() == word);
        found.ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|trouble| trouble.word()).collect();
            format!("{word:?} is none of {}", words.join(", "))
        })
    }
}

/// What a run can have plain.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Plain {
    /// Nothing reaches its limit.
    Limits,
    /// There is one.
    Workers,
    /// There is one.
    Servers,
    /// Nothing that was published is withdrawn.
    Withdrawal,
    /// No answer serves after its end.
    Stale,
}

impl Plain {
    /// All of it.
    pub const ALL: [Self; 5] = [Self::Limits, Self::Workers, Self::Servers, Self::Withdrawal, Self::Stale];

    /// Its name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Workers => "workers",
            Self::Servers => "servers",
            Self::Withdrawal => "withdrawal",
            Self::Stale => "stale",
        }
    }

    const fn apply(self, plan: &mut Plan) {
        match self {
            Self::Limits => plan.limits = Limits::ROOMY,
            Self::Workers => plan.workers = 1,
            Self::Servers => plan.servers = 1,
            Self::Withdrawal => plan.revoked_ms = None,
            Self::Stale => plan.stale_seconds = 0,
        }
    }
}

impl std::str::FromStr for Plain {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::word).join(", ");
        Self::ALL.into_iter().find(|it| it.word() == word).ok_or_else(|| format!("{word:?} is none of {}", words()))
    }
}

impl Limits {
    /// More than a run needs.
    pub(super) const ROOMY: Self =
        Self { in_flight: 64, waiting: 256, link_outstanding: 128, connections: 64, cache_bytes: 1 << 20 };
}

/// What is left out of a plan.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cuts {
    /// Troubles that do not happen.
    pub off: BTreeSet<Trouble>,
    /// Connections that do not come, by their numbers.
    pub connections: BTreeSet<usize>,
    /// Messages that are not sent, by the numbers of connection and message.
    pub messages: BTreeSet<(usize, usize)>,
    /// No message is handed in whole.
    pub jobs: bool,
    /// All messages are the shortest letter, sent in large pieces.
    pub short: bool,
    /// What is plain.
    pub plain: BTreeSet<Plain>,
}

impl Plan {
    /// Draws a plan, and leaves out what is to be left out. What is left is the same as without.
    #[must_use]
    pub fn draw(seed: u64, cuts: &Cuts) -> Self {
        let mut random = Random::of_case(seed, PLAN_CASE);
        // The swarm: every kind of trouble is there in some runs only, so that none hides another.
        let is_calm = random.chance(6);
        let share = random.between(10, 60);
        let rates = Trouble::ALL.map(|_| {
            let (is_there, rate) = (random.chance(share), *random.pick_from(&[2, 10, 30, 70, 100]));
            if is_there && !is_calm { rate } else { 0 }
        });
        let few = random.chance(30);
        let limits = Limits {
            in_flight: if few { random.between(1, 4) } else { Limits::ROOMY.in_flight },
            waiting: if few && random.chance(30) { random.between(1, 8) } else { Limits::ROOMY.waiting },
            link_outstanding: if random.chance(30) { random.between(1, 3) } else { Limits::ROOMY.link_outstanding },
            connections: if random.chance(30) { random.between(1, 2) } else { Limits::ROOMY.connections },
            cache_bytes: *random.pick_from(&[0, 1 << 14, 1 << 20, 1 << 20, 1 << 20]),
        };
        let (workers, servers) = (random.between(1, 3), random.between(1, 3));
        let ttl_seconds = *random.pick_from(&[5, 30, 120]);
        let stale_seconds = *random.pick_from(&[0, 0, 20, 60]);
        let revoked_ms = random.chance(30).then(|| random.between(100, 60_000) as u64);
        let span_ms = if revoked_ms.is_some() { *random.pick_from(&[5_000, 400_000]) } else { 5_000 };
        let focus = random.chance(50).then(|| random.below(LETTERS));
        let of = |trouble: Trouble, rates: &[u8]| usize::from(rates[trouble as usize]);
        let (cut, abort) = (of(Trouble::Cut, &rates), of(Trouble::Abort, &rates));
        let connections = (0..random.between(1, 3)).map(|number| {
            let mut own = Random::of_case(seed, PLAN_CASE + 1 + number as u64);
            draw_connection(number, span_ms, focus, (cut, abort), &mut own)
        });
        let connections: Vec<Connection> = connections.collect();
        let jobs: Vec<Whole> = (0..random.below(3))
            .map(|_| {
                let at_ms = random.below(span_ms) as u64;
                let cancelled_ms = random.chance(30).then(|| at_ms + random.below(2_000) as u64);
                let letter = focus.filter(|_| random.chance(80)).unwrap_or_else(|| random.below(LETTERS));
                Whole { letter, at_ms, cancelled_ms }
            })
            .collect();
        let mut plan =
            Self { seed, workers, servers, connections, jobs, rates, revoked_ms, ttl_seconds, stale_seconds, limits };
        cuts.apply(&mut plan);
        plan
    }

    /// How often a trouble strikes, in percent.
    #[must_use]
    pub const fn rate(&self, trouble: Trouble) -> usize {
        self.rates[trouble as usize] as usize
    }

    /// Nothing goes wrong with the DNS, so that every result has to be exact.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        use Trouble::{Abort, Cut, PartialWrites, ShortReads};
        let is_harmless = |trouble: Trouble| matches!(trouble, Abort | Cut | PartialWrites | ShortReads);
        self.limits.waiting > 8 && Trouble::ALL.into_iter().all(|it| is_harmless(it) || self.rate(it) == 0)
    }
}

fn draw_connection(
    number: usize,
    span_ms: usize,
    focus: Option<usize>,
    (cut, abort): (usize, usize),
    random: &mut Random,
) -> Connection {
    let start_ms = random.below(span_ms) as u64;
    let offer = *random.pick_from(&[(6, 0x1f_ffff), (6, 0x1f_ffff), (6, 0x1f_f7ff), (6, 0x0f_0fff), (6, 0), (2, 0x7f)]);
    let piece_bytes = *random.pick_from(&[1 << 16, 4096, 700, 61]);
    let cut = random.chance(cut / 2).then(|| random.below(6_000));
    let messages = (0..random.between(1, 3))
        .map(|number| {
            let letter = focus.filter(|_| random.chance(80)).unwrap_or_else(|| random.below(LETTERS));
            let chunk_bytes = *random.pick_from(&[65_535, 65_535, 1000, 67, 13]);
            let pause_ms = *random.pick_from(&[0, 1, 50, span_ms / 4]) as u64;
            let fate = match random.chance(abort) {
                true if random.chance(50) => Fate::Aborted(random.between(1, 30)),
                true => Fate::GivenUp(random.below(3_000) as u64),
                false => Fate::Whole,
            };
            Message { number, letter, chunk_bytes, pause_ms, fate }
        })
        .collect();
    Connection { number, start_ms, messages, offer, piece_bytes, cut }
}

impl Cuts {
    fn apply(&self, plan: &mut Plan) {
        self.plain.iter().for_each(|plain| plain.apply(plan));
        let Plan { rates, connections, jobs, .. } = plan;
        self.off.iter().for_each(|trouble| rates[*trouble as usize] = 0);
        connections.retain(|connection| !self.connections.contains(&connection.number));
        for connection in connections {
            let number = connection.number;
            connection.messages.retain(|message| !self.messages.contains(&(number, message.number)));
            if self.off.contains(&Trouble::Cut) {
                connection.cut = None;
            }
            for message in &mut connection.messages {
                if self.off.contains(&Trouble::Abort) {
                    message.fate = Fate::Whole;
                }
                if self.short {
                    (message.letter, message.chunk_bytes) = (SHORTEST, 65_535);
                }
            }
        }
        if self.jobs {
            jobs.clear();
        }
        if self.short {
            jobs.iter_mut().for_each(|job| job.letter = SHORTEST);
        }
    }
}

/// As arguments of the command line.
impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |words: Vec<String>| words.join(",");
        if !self.off.is_empty() {
            write!(f, " --off {}", joined(self.off.iter().map(|it| it.word().to_owned()).collect()))?;
        }
        let connections = self.connections.iter().map(ToString::to_string);
        let messages = self.messages.iter().map(|(connection, message)| format!("{connection}.{message}"));
        let out: Vec<String> = connections.chain(messages).collect();
        if !out.is_empty() {
            write!(f, " --without {}", joined(out))?;
        }
        if self.jobs {
            write!(f, " --no-jobs")?;
        }
        if self.short {
            write!(f, " --short")?;
        }
        if !self.plain.is_empty() {
            write!(f, " --plain {}", joined(self.plain.iter().map(|it| it.word().to_owned()).collect()))?;
        }
        Ok(())
    }
}

/// For people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, servers, ttl_seconds, stale_seconds, revoked_ms, limits, .. } = self;
        writeln!(
            f,
            "  {workers} workers, {servers} DNS servers, records live {ttl_seconds} s, stale {stale_seconds} s"
        )?;
        writeln!(f, "  {limits:?}")?;
        if let Some(revoked_ms) = revoked_ms {
            writeln!(f, "  everything published is withdrawn at {revoked_ms} ms")?;
        }
        for trouble in Trouble::ALL.into_iter().filter(|trouble| self.rate(*trouble) > 0) {
            writeln!(f, "  {} {} %", trouble.word(), self.rate(trouble))?;
        }
        for connection in &self.connections {
            let Connection { number, start_ms, offer, piece_bytes, cut, messages } = connection;
            writeln!(
                f,
                "  connection {number} at {start_ms} ms, offer {} {:x}, pieces of {piece_bytes}, cut {cut:?}",
                offer.0, offer.1
            )?;
            for Message { number, letter, chunk_bytes, pause_ms, fate } in messages {
                writeln!(
                    f,
                    "    message {number} after {pause_ms} ms: letter {letter}, chunks of {chunk_bytes}, {fate:?}"
                )?;
            }
        }
        for Whole { letter, at_ms, cancelled_ms } in &self.jobs {
            writeln!(f, "  whole at {at_ms} ms: letter {letter}, cancelled {cancelled_ms:?}")?;
        }
        Ok(())
    }
}

/// Letters that plans name.
pub(super) const LETTERS: usize = 48;
/// Stands for the shortest letter.
pub(super) const SHORTEST: usize = usize::MAX;
/// Draws for plans meet those of no message.
const PLAN_CASE: u64 = 1 << 52;

/// What [`Random`] lacks.
trait PickFrom {
    fn pick_from<'a, T>(&mut self, items: &'a [T]) -> &'a T;
}

impl PickFrom for Random {
    fn pick_from<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
