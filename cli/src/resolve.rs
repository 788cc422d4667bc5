//! `mailproof resolve`: one question to the DNS, and with `--trace` everything that happened on the way.
//!
//! The trace comes from the resolver over blocking sockets: it drives the same lookup as the engine's own client, one
//! step at a time.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mailproof::Engine;
use mailproof::network::NetworkOptions;
use mailproof::resolver::{BlockingResolver, LookupEvent};
use mailproof_proto::dns::lookup::{Heard, Transport};
use mailproof_proto::dns::wire::ServerError;
use mailproof_proto::dns::{Answer, Failure as DnsFailure, Name, Outcome, Question, RecordSet, RecordType};
use mailproof_proto::limits::DNS_TIME_MAX;
use serde_json::{Value, json};

use crate::arguments::ResolveArguments;
use crate::failure::{Failure, words};
use crate::judge;
use crate::table::Tone;
use crate::words::{note, visible, visible_octets};

/// Runs the subcommand.
///
/// # Errors
/// What ends the run; also that there is no such record, or no answer, which is written all the same.
pub(crate) fn run(arguments: &ResolveArguments) -> Result<(), Failure> {
    let question = Question::new(name(arguments)?, arguments.kind);
    let told = ask(arguments, &question)?;
    let written = if arguments.json {
        writeln!(io::stdout(), "{}", to_json(&question, &told, arguments.trace))
    } else {
        writeln!(anstream::stdout(), "{}", to_text(&question, &told, arguments.trace))
    };
    written.map_err(Failure::Output)?;
    if let Some(trouble) = told.trouble {
        note(format_args!("mailproof: {trouble}"));
    }
    match told.answer.outcome() {
        Outcome::Records(_) => Ok(()),
        Outcome::NoData | Outcome::NxDomain => Err(Failure::NoRecord),
        Outcome::Failed(_) => Err(Failure::NoAnswer),
    }
}

/// The name that is asked for.
fn name(arguments: &ResolveArguments) -> Result<Name, Failure> {
    if let (RecordType::Ptr, Ok(address)) = (arguments.kind, arguments.name.parse::<IpAddr>()) {
        return Ok(Name::reverse(address));
    }
    Name::parse(&arguments.name).map_err(|error| Failure::Usage(format!("{}: {error}", visible(&arguments.name))))
}

/// An answer, where it came from and how.
struct Told {
    answer: Answer,
    source: String,
    steps: Vec<Step>,
    /// Nobody answered anything.
    trouble: Option<String>,
}

fn ask(arguments: &ResolveArguments, question: &Question) -> Result<Told, Failure> {
    let backend = judge::backend()?;
    if !arguments.dns.zone.is_empty() {
        let engine = judge::build(Engine::builder().zone(judge::zone(&arguments.dns)?))?;
        let answer = engine.ask(question);
        return Ok(Told { answer, source: mailproof_explain::source(&engine), steps: Vec::new(), trouble: None });
    }
    let mut options = judge::network(&arguments.dns)?;
    options.lookup.trusts_ad |= arguments.trust_ad;
    if arguments.trace {
        return trace(options, question);
    }
    let engine = judge::build(Engine::builder().network(NetworkOptions { threads: 1, backend, ..options }))?;
    let answer = engine.ask(question);
    let trouble = engine.resolver_trouble().map(|it| Failure::Silent(it).to_string());
    Ok(Told { answer, source: mailproof_explain::source(&engine), steps: Vec::new(), trouble })
}

fn trace(options: NetworkOptions, question: &Question) -> Result<Told, Failure> {
    if let Some(server) = options.servers.iter().find(|server| server.tls_name.is_some()) {
        return Err(Failure::Usage(format!("{server}: --trace asks by UDP and TCP, not by TLS")));
    }
    let servers: Vec<SocketAddr> = options.servers.iter().map(|server| server.address).collect();
    let resolver = BlockingResolver::new(&servers).map_err(Failure::NoResolver)?.with_options(options.lookup);
    let started = Instant::now();
    let mut steps = Vec::new();
    let answer = resolver.trace(question, started + DNS_TIME_MAX, |event| {
        let step = Step::new(started.elapsed(), &event, &steps);
        steps.push(step);
    });
    let source = "DNS servers, by blocking sockets".to_owned();
    let trouble = resolver.trouble().map(|it| Failure::Silent(it).to_string());
    Ok(Told { answer, source, steps, trouble })
}

/// Something that happened.
struct Step {
    at: Duration,
    server: Option<SocketAddr>,
    transport: Option<Transport>,
    /// What was sent.
    question: Option<Question>,
    /// A stable word.
    what: &'static str,
    /// More about it.
    detail: String,
}

impl Step {
    fn new(at: Duration, event: &LookupEvent<'_>, before: &[Self]) -> Self {
        match event {
            LookupEvent::Sent { server, transport, question } => {
                let is_retry = before.iter().any(|step| {
                    (step.server, step.transport, step.question.as_ref())
                        == (Some(*server), Some(*transport), Some(*question))
                });
                Self {
                    at,
                    server: Some(*server),
                    transport: Some(*transport),
                    question: Some((*question).clone()),
                    what: if is_retry { "query-again" } else { "query" },
                    detail: question.to_string(),
                }
            }
            LookupEvent::Received { server, transport, octets, heard } => {
                let (what, said) = heard.map_or(("late", "too late"), heard_words);
                let detail = format!("{said}, {octets} octets");
                Self { at, server: Some(*server), transport: Some(*transport), question: None, what, detail }
            }
            LookupEvent::Failed { server, transport, error } => {
                let (server, transport) = (Some(*server), Some(*transport));
                Self { at, server, transport, question: None, what: "failed", detail: words(error) }
            }
            // The resolver tells of nothing else.
            _ => {
                let detail = "no reply in the time of a try".to_owned();
                Self { at, server: None, transport: None, question: None, what: "timed-out", detail }
            }
        }
    }

    fn text(&self) -> String {
        let at = format!("{:>9.1} ms", self.at.as_secs_f64() * 1000.0);
        let arrow = match self.what {
            "query" | "query-again" => "->",
            "failed" | "timed-out" => "--",
            _ => "<-",
        };
        let again = if self.what == "query-again" { " (again)" } else { "" };
        let path = self.transport.zip(self.server).map_or_else(String::new, |(transport, server)| {
            format!("{:<25}  ", format!("{} {server}", transport_word(transport)))
        });
        format!("{at}  {arrow} {path}{}{again}", visible(&self.detail))
    }

    fn to_json(&self) -> Value {
        json!({
            "ms": (self.at.as_secs_f64() * 10_000.0).round() / 10.0,
            "server": self.server.map(|server| server.to_string()),
            "transport": self.transport.map(transport_word),
            "what": self.what,
            "detail": self.detail,
        })
    }
}

const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// What a message was taken for: a stable word, and one for people.
fn heard_words(heard: Heard) -> (&'static str, &'static str) {
    match heard {
        Heard::Answer => ("answer", "the answer"),
        Heard::Alias => ("alias", "an alias, whose target is asked for next"),
        Heard::OverLimit => ("over-limit", "more records or aliases than are looked at"),
        Heard::Truncated => ("truncated", "cut off (TC)"),
        Heard::OtherCase => ("other-case", "the name in other letter case than asked"),
        Heard::Error(ServerError::NoEdns) => ("no-edns", "an error: the server does not understand EDNS"),
        Heard::Error(ServerError::ServFail) => ("servfail", "SERVFAIL"),
        Heard::Error(ServerError::Refused) => ("refused", "an error, or a referral"),
        Heard::Malformed => ("malformed", "against the rules of the format"),
        Heard::NoMatch => ("no-match", "not the reply to a query: ignored"),
        _ => ("late", "too late"),
    }
}

/// The outcome in a stable word; the four kinds are never folded into each other.
fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Records(_) => "records",
        Outcome::NoData => "no-data",
        Outcome::NxDomain => "nxdomain",
        Outcome::Failed(_) => "failed",
    }
}

fn failure_word(failure: DnsFailure) -> &'static str {
    match failure {
        DnsFailure::TimedOut => "timed-out",
        DnsFailure::ServFail => "servfail",
        DnsFailure::Refused => "refused",
        DnsFailure::Malformed => "malformed",
        DnsFailure::OverLimit => "over-limit",
        _ => "unreachable",
    }
}

fn to_json(question: &Question, told: &Told, with_trace: bool) -> Value {
    let answer = &told.answer;
    let (records, failure) = match answer.outcome() {
        Outcome::Records(records) => (records_to_json(records), None),
        Outcome::Failed(failure) => (Vec::new(), Some(failure_word(*failure))),
        _ => (Vec::new(), None),
    };
    let mut value = json!({
        "v": 1,
        "name": question.name.to_string(),
        "type": question.kind.to_string(),
        "outcome": outcome_word(answer.outcome()),
        "failure": failure,
        "ttl": answer.ttl_seconds(),
        "authentic": answer.authentic(),
        "denied_name": answer.denied_name().map(ToString::to_string),
        "records": records,
        "source": told.source,
    });
    if with_trace {
        value["trace"] = told.steps.iter().map(Step::to_json).collect();
    }
    value
}

fn records_to_json(records: &RecordSet) -> Vec<Value> {
    match records {
        RecordSet::Mx(list) => {
            let host = |it: &Option<Name>| it.as_ref().map(ToString::to_string);
            list.iter().map(|mx| json!({"preference": mx.preference, "exchange": host(&mx.exchange)})).collect()
        }
        RecordSet::Txt(list) => list.iter().map(|txt| String::from_utf8_lossy(&txt.0).into()).collect(),
        other => record_texts(other).into_iter().map(Value::from).collect(),
    }
}

/// The records as a master file has them.
fn record_texts(records: &RecordSet) -> Vec<String> {
    match records {
        RecordSet::A(list) => list.iter().map(ToString::to_string).collect(),
        RecordSet::Aaaa(list) => list.iter().map(ToString::to_string).collect(),
        RecordSet::Mx(list) => {
            let host = |it: &Option<Name>| it.as_ref().map_or_else(|| ".".to_owned(), ToString::to_string);
            list.iter().map(|mx| format!("{} {}", mx.preference, host(&mx.exchange))).collect()
        }
        RecordSet::Ptr(list) => list.iter().map(ToString::to_string).collect(),
        RecordSet::Txt(list) => {
            list.iter().map(|txt| format!("\"{}\"", visible_octets(&txt.0).replace('"', "\\\""))).collect()
        }
        _ => Vec::new(),
    }
}

fn to_text(question: &Question, told: &Told, with_trace: bool) -> String {
    let mut lines: Vec<String> = Vec::new();
    if with_trace {
        lines.push(format!("{}  answered from {}", Tone::Strong.paint("Trace"), visible(&told.source)));
        lines.extend(told.steps.iter().map(Step::text));
        lines.push(String::new());
    }
    let answer = &told.answer;
    let ttl = answer.ttl_seconds().map_or_else(|| "-".to_owned(), |ttl| ttl.to_string());
    match answer.outcome() {
        Outcome::Records(records) => {
            lines.extend(
                record_texts(records)
                    .into_iter()
                    .map(|text| format!("{}  {ttl}  {}  {text}", question.name, question.kind)),
            );
        }
        outcome => {
            let said = match outcome {
                Outcome::NoData => "no data: the name exists, without records of this type".to_owned(),
                Outcome::NxDomain => match answer.denied_name() {
                    Some(target) => format!("NXDOMAIN: an alias of {target}, which does not exist"),
                    None => "NXDOMAIN: no such name".to_owned(),
                },
                Outcome::Failed(failure) => format!("failed: {failure}"),
                Outcome::Records(_) => String::new(),
            };
            lines.push(format!("{}  {ttl}  {}  {}", question.name, question.kind, Tone::Doubtful.paint(&said)));
        }
    }
    if let Some(authentic) = answer.authentic() {
        let said = if authentic { "the server has validated it (AD)" } else { "not validated (no AD)" };
        lines.push(Tone::Quiet.paint(said));
    }
    lines.join("\n")
}
