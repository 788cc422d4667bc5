//! What goes wrong, when, and how often: faults, the rules that choose them, and the files that hold the rules.

mod file;

use std::ops::RangeInclusive;
use std::time::Duration;

use mailproof_proto::dns::{Name, RecordType};
use mailproof_testkit::random::Random;
use serde::Deserialize;

pub use self::file::{PLAN_FILE_BYTES_MAX, PlanError};

/// Rules in order, and the seed of everything drawn.
///
/// A draw depends on the seed, the rule, the question, the transport and how often the question came before; neither
/// the clock, the client nor other questions matter. The same questions meet the same faults in every run, even when
/// they come from many sockets in another order.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) seed: u64,
    pub(crate) probability: f64,
    pub(crate) rules: Vec<Rule>,
}

/// Which queries meet which faults.
///
/// Of the rules that match a query, the first of each [`Stage`] that is drawn counts: a delay, a changed answer, damaged
/// octets and a fault of delivery may meet in one reply.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) names: Names,
    pub(crate) kind: Option<RecordType>,
    pub(crate) transport: Option<Transport>,
    pub(crate) nth: RangeInclusive<u64>,
    pub(crate) counts: Counts,
    pub(crate) probability: Option<f64>,
    pub(crate) then_right: bool,
    pub(crate) faults: Vec<Fault>,
}

/// The names a rule is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Names {
    All,
    Exactly(Name),
    AtOrBelow(Name),
}

/// What the number of a query counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// Queries for the same name and type, by either transport.
    #[default]
    Question,
    /// Queries that the rule matches otherwise, whatever they ask.
    Rule,
}

/// How a query comes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, behind its length.
    Tcp,
}

/// A number, or a range from which each query draws one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// When a fault strikes. A reply meets at most one fault of each stage.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stage {
    /// Before anything is sent.
    Time,
    /// The message is well formed and says something wrong.
    Answer,
    /// The octets are no longer a message.
    Octets,
    /// The way to the client.
    Delivery,
}

/// One way to misbehave.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// The reply waits.
    Delay {
        /// For this long.
        milliseconds: Span,
    },

    /// TC is set and no record is left. By UDP, unless the rule says TCP.
    Truncation,
    /// TC is set and the last records are missing. By UDP, unless the rule says TCP.
    TruncationPartial,
    /// The reply is larger than the query allows, without TC. By UDP.
    Oversize,
    /// Another ID.
    WrongId,
    /// The question repeated is for another name.
    WrongName,
    /// The question repeated is of another type.
    WrongType,
    /// The question repeated is of another class.
    WrongClass,
    /// No question is repeated.
    NoQuestion,
    /// The question is repeated in small letters.
    LowerCase,
    /// RCODE 2.
    ServFail,
    /// RCODE 5.
    Refused,
    /// RCODE 4.
    NotImp,
    /// RCODE 1.
    FormErr,
    /// RCODE 1 without OPT record to queries that have one, from a server that does not know EDNS.
    FormErrEdns,
    /// Extended RCODE 16 to queries with OPT record (RFC 6891 section 6.1.3).
    BadVers,
    /// The OPT record is not answered by one.
    EdnsIgnored,
    /// No such name, without SOA.
    NxDomain,
    /// No such name, with an SOA of 60 seconds.
    NxDomainSoa,
    /// No records, without SOA.
    NoData,
    /// No records, with an SOA of 60 seconds.
    NoDataSoa,
    /// The answer stands at the end of a chain of CNAME records.
    CnameChain {
        /// Records of the chain, up to [`CNAME_LINKS_MAX`].
        links: u16,
    },
    /// Three CNAME records in a circle.
    CnameLoop,
    /// The records of the answer belong to another name.
    WrongOwner,
    /// Records for other names, unasked, in every section.
    Unrelated,
    /// AD is set.
    AuthenticData,
    /// Every time to live is 0.
    TtlZero,
    /// Every time to live has all bits set.
    TtlHuge,

    /// The message ends early, anywhere.
    Cut,
    /// Bits are inverted anywhere but in the ID.
    BitFlips {
        /// How many.
        count: u16,
    },
    /// The owner of the first record is a pointer to itself.
    CompressionLoop,
    /// The counts of the header are others.
    CountsLie,
    /// ID and QR as they should be, then random octets.
    Garbage,
    /// Random octets.
    Noise,
    /// A datagram of no octets. By UDP.
    Empty,

    /// No reply. By UDP.
    Loss,
    /// The reply comes twice.
    Duplicate,
    /// The reply comes twice, the second time with other records.
    DuplicateDifferent,
    /// The reply comes from another port. By UDP.
    OtherPort,
    /// The reply comes from 127.0.0.2; where there is no such address, from another port. By UDP.
    OtherAddress,
    /// The connection is closed as soon as it is there. Rules of this fault name neither names nor types, and count
    /// connections.
    TcpRefuse,
    /// The connection is closed instead of a reply.
    TcpClose,
    /// The connection is reset instead of a reply.
    TcpReset,
    /// The connection is closed in the middle of a reply.
    TcpCloseMidReply,
    /// The reply comes octet by octet.
    TcpSlow {
        /// From the first octet to the last.
        milliseconds: Span,
    },
    /// No reply by TCP; the connection stays.
    TcpSilence,
    /// The reply waits for the next one of the connection, and both leave in one segment.
    TcpTwoInOneSegment,
    /// The reply waits for the next one of the connection, and leaves after it.
    TcpOutOfOrder,
    /// The length in front of the reply is too small.
    TcpLengthShort,
    /// The length in front of the reply is too large.
    TcpLengthLong,
}

/// Rules of one plan.
pub const RULES_MAX: usize = 1024;
/// The longest delay, and the longest time a slow reply takes, in milliseconds: an hour.
pub const MILLISECONDS_MAX: u64 = 3_600_000;
/// Records of a CNAME chain.
pub const CNAME_LINKS_MAX: u16 = 200;
/// Bits inverted in one reply.
pub const BIT_FLIPS_MAX: u16 = 1024;

impl Plan {
    /// A plan without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, probability: 1.0, rules: Vec::new() }
    }

    /// Adds a rule.
    ///
    /// # Panics
    /// When the rule breaks a limit, or the plan has [`RULES_MAX`] rules: a mistake of the test. Files are read by
    /// [`Plan::from_yaml`], which gives an error instead.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        if let Err(error) = self.add(rule) {
            panic!("{error}");
        }
        self
    }

    /// Another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The probability of the rules that have none of their own, from 0 to 1.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability.clamp(0.0, 1.0);
        self
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn add(&mut self, rule: Rule) -> Result<(), PlanError> {
        let number = self.rules.len() + 1;
        if number > RULES_MAX {
            return Err(PlanError::TooManyRules);
        }
        rule.check().map_err(|what| PlanError::Rule { number, what })?;
        self.rules.push(rule);
        Ok(())
    }
}

impl Rule {
    /// One fault for every query of the transport it belongs to.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self::any_of([fault])
    }

    /// One of several faults, each as likely, for every query.
    #[must_use]
    pub fn any_of(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            names: Names::All,
            kind: None,
            transport: None,
            nth: 1..=u64::MAX,
            counts: Counts::Question,
            probability: None,
            then_right: false,
            faults: faults.into_iter().collect(),
        }
    }

    /// Only queries for this name.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.names = Names::Exactly(name);
        self
    }

    /// Only queries for this name and the names below it.
    #[must_use]
    pub fn below(mut self, name: Name) -> Self {
        self.names = Names::AtOrBelow(name);
        self
    }

    /// Only queries of this type.
    #[must_use]
    pub fn kind(mut self, kind: RecordType) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only queries by this transport.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Only these queries for the same question, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: RangeInclusive<u64>) -> Self {
        self.nth = nth;
        self
    }

    /// What [`Rule::nth`] counts.
    #[must_use]
    pub fn counts(mut self, counts: Counts) -> Self {
        self.counts = counts;
        self
    }

    /// How likely a fault is, from 0 to 1; the plan's probability when it is not said here.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    /// The right reply follows whatever the fault makes of it, as when a forger is faster than the server.
    #[must_use]
    pub fn then_right(mut self) -> Self {
        self.then_right = true;
        self
    }

    /// The faults it draws from.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.faults.is_empty() {
            return Err("no fault");
        }
        if self.probability.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
            return Err("the probability is not between 0 and 1");
        }
        if self.nth.is_empty() || *self.nth.start() == 0 {
            return Err("nth counts from 1, and its end is not before its start");
        }
        for fault in &self.faults {
            fault.check()?;
            if self.transport.is_some_and(|it| !fault.suits(it, self.transport)) {
                return Err("the fault does not happen by this transport");
            }
            if matches!(fault, Fault::TcpRefuse) && (self.names != Names::All || self.kind.is_some()) {
                return Err("tcp-refuse comes before the question: it goes with neither name nor type");
            }
        }
        Ok(())
    }
}

impl Span {
    /// From `low` to `high`, both included.
    #[must_use]
    pub fn new(low: u64, high: u64) -> Self {
        Self { low: low.min(high), high: low.max(high) }
    }

    pub(crate) fn draw(self, random: &mut Random) -> Duration {
        let width = (self.high - self.low).min(MILLISECONDS_MAX) as usize * 1000;
        Duration::from_millis(self.low) + Duration::from_micros(random.between(0, width) as u64)
    }
}

impl From<u64> for Span {
    fn from(number: u64) -> Self {
        Self::new(number, number)
    }
}

impl Fault {
    /// The word for this fault in plans and statistics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Truncation => "truncation",
            Self::TruncationPartial => "truncation-partial",
            Self::Oversize => "oversize",
            Self::WrongId => "wrong-id",
            Self::WrongName => "wrong-name",
            Self::WrongType => "wrong-type",
            Self::WrongClass => "wrong-class",
            Self::NoQuestion => "no-question",
            Self::LowerCase => "lower-case",
            Self::ServFail => "serv-fail",
            Self::Refused => "refused",
            Self::NotImp => "not-imp",
            Self::FormErr => "form-err",
            Self::FormErrEdns => "form-err-edns",
            Self::BadVers => "bad-vers",
            Self::EdnsIgnored => "edns-ignored",
            Self::NxDomain => "nx-domain",
            Self::NxDomainSoa => "nx-domain-soa",
            Self::NoData => "no-data",
            Self::NoDataSoa => "no-data-soa",
            Self::CnameChain { .. } => "cname-chain",
            Self::CnameLoop => "cname-loop",
            Self::WrongOwner => "wrong-owner",
            Self::Unrelated => "unrelated",
            Self::AuthenticData => "authentic-data",
            Self::TtlZero => "ttl-zero",
            Self::TtlHuge => "ttl-huge",
            Self::Cut => "cut",
            Self::BitFlips { .. } => "bit-flips",
            Self::CompressionLoop => "compression-loop",
            Self::CountsLie => "counts-lie",
            Self::Garbage => "garbage",
            Self::Noise => "noise",
            Self::Empty => "empty",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::DuplicateDifferent => "duplicate-different",
            Self::OtherPort => "other-port",
            Self::OtherAddress => "other-address",
            Self::TcpRefuse => "tcp-refuse",
            Self::TcpClose => "tcp-close",
            Self::TcpReset => "tcp-reset",
            Self::TcpCloseMidReply => "tcp-close-mid-reply",
            Self::TcpSlow { .. } => "tcp-slow",
            Self::TcpSilence => "tcp-silence",
            Self::TcpTwoInOneSegment => "tcp-two-in-one-segment",
            Self::TcpOutOfOrder => "tcp-out-of-order",
            Self::TcpLengthShort => "tcp-length-short",
            Self::TcpLengthLong => "tcp-length-long",
        }
    }

    /// When it strikes.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Delay { .. } => Stage::Time,
            Self::Cut
            | Self::BitFlips { .. }
            | Self::CompressionLoop
            | Self::CountsLie
            | Self::Garbage
            | Self::Noise
            | Self::Empty => Stage::Octets,
            Self::Loss
            | Self::Duplicate
            | Self::DuplicateDifferent
            | Self::OtherPort
            | Self::OtherAddress
            | Self::TcpRefuse
            | Self::TcpClose
            | Self::TcpReset
            | Self::TcpCloseMidReply
            | Self::TcpSlow { .. }
            | Self::TcpSilence
            | Self::TcpTwoInOneSegment
            | Self::TcpOutOfOrder
            | Self::TcpLengthShort
            | Self::TcpLengthLong => Stage::Delivery,
            _ => Stage::Answer,
        }
    }

    /// Every fault once, with ordinary numbers where it has any.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::Delay { milliseconds: Span::new(5, 20) },
            Self::Truncation,
            Self::TruncationPartial,
            Self::Oversize,
            Self::WrongId,
            Self::WrongName,
            Self::WrongType,
            Self::WrongClass,
            Self::NoQuestion,
            Self::LowerCase,
            Self::ServFail,
            Self::Refused,
            Self::NotImp,
            Self::FormErr,
            Self::FormErrEdns,
            Self::BadVers,
            Self::EdnsIgnored,
            Self::NxDomain,
            Self::NxDomainSoa,
            Self::NoData,
            Self::NoDataSoa,
            Self::CnameChain { links: 20 },
            Self::CnameLoop,
            Self::WrongOwner,
            Self::Unrelated,
            Self::AuthenticData,
            Self::TtlZero,
            Self::TtlHuge,
            Self::Cut,
            Self::BitFlips { count: 3 },
            Self::CompressionLoop,
            Self::CountsLie,
            Self::Garbage,
            Self::Noise,
            Self::Empty,
            Self::Loss,
            Self::Duplicate,
            Self::DuplicateDifferent,
            Self::OtherPort,
            Self::OtherAddress,
            Self::TcpRefuse,
            Self::TcpClose,
            Self::TcpReset,
            Self::TcpCloseMidReply,
            Self::TcpSlow { milliseconds: Span::new(20, 50) },
            Self::TcpSilence,
            Self::TcpTwoInOneSegment,
            Self::TcpOutOfOrder,
            Self::TcpLengthShort,
            Self::TcpLengthLong,
        ]
    }

    /// Whether it can happen to a query that came by `came`, under a rule that says `said`.
    pub(crate) fn suits(self, came: Transport, said: Option<Transport>) -> bool {
        match self {
            Self::Truncation | Self::TruncationPartial => came == said.unwrap_or(Transport::Udp),
            Self::Oversize | Self::Empty | Self::Loss | Self::OtherPort | Self::OtherAddress => came == Transport::Udp,
            Self::TcpRefuse
            | Self::TcpClose
            | Self::TcpReset
            | Self::TcpCloseMidReply
            | Self::TcpSlow { .. }
            | Self::TcpSilence
            | Self::TcpTwoInOneSegment
            | Self::TcpOutOfOrder
            | Self::TcpLengthShort
            | Self::TcpLengthLong => came == Transport::Tcp,
            _ => true,
        }
    }

    fn check(self) -> Result<(), &'static str> {
        match self {
            Self::Delay { milliseconds } | Self::TcpSlow { milliseconds } if milliseconds.high > MILLISECONDS_MAX => {
                Err("more than an hour")
            }
            Self::CnameChain { links } if links == 0 || links > CNAME_LINKS_MAX => Err("links: from 1 to 200"),
            Self::BitFlips { count } if count == 0 || count > BIT_FLIPS_MAX => Err("count: from 1 to 1024"),
            _ => Ok(()),
        }
    }
}
