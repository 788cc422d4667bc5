//! The command line as it is written: subcommands, options, and what `--help` says of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mailproof_proto::dns::RecordType;

/// Port of DNS, where `--resolver` names none.
const DNS_PORT: u16 = 53;

/// Did this mail really come from the domain in its From line? SPF, DKIM, ARC and DMARC, from files, with the reasons.
#[derive(Debug, Parser)]
#[command(name = "mailproof", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  mailproof verify --from-trace inbox.mbox
  mailproof verify --json --ip 192.0.2.7 --helo mx.example.org --mail-from a@example.org message.eml
  mailproof explain --from-trace message.eml
  mailproof spf --ip 192.0.2.7 --helo mx.example.org --mail-from a@example.org
  mailproof resolve --trace _dmarc.example.org TXT

Exit codes (sysexits):
   0  every message was judged; a failed check is an answer, not an error
   1  resolve: there is no such record
  64  wrong usage
  65  a zone file, key or message that can not be read as one
  66  a file that is not there or can not be opened
  69  no DNS resolver, or none that could be reached
  71  the system refused threads or sockets, or io_uring where MAILPROOF_BACKEND=uring asks for it
  74  reading or writing broke off
  75  resolve: no answer, which another time may bring
  78  a configuration that can not be used

Environment: MAILPROOF_BACKEND=auto|uring|epoll chooses how DNS sockets are driven (auto: io_uring where it works).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Judge messages: a table for people, or one verdict a line with --json or --batch
    Verify(Box<VerifyArguments>),
    /// Show why one message passes or fails: every question, hash and decision
    Explain(Box<ExplainArguments>),
    /// Check a client address against the SPF records of MAIL FROM and HELO
    Spf(Box<SpfArguments>),
    /// Ask the DNS one question, as verifying does
    Resolve(Box<ResolveArguments>),
    /// Sign a message with DKIM, or print the DNS record of a key
    Sign(Box<SignArguments>),
    /// Run the milter and the policy service, for Postfix and Sendmail
    Milter(MilterArguments),
    /// Check the milter's configuration and every file that it names
    CheckConfig(CheckConfigArguments),
    /// Make a DKIM key, and print the DNS record to publish for it
    Keygen(KeygenArguments),
}

/// Where DNS answers come from.
#[derive(Args, Debug)]
#[command(next_help_heading = "DNS")]
pub(crate) struct DnsArguments {
    /// Answer every question from this zone file instead of the network: YAML, or an RFC 1035 master file when its
    /// name ends in .zone; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) zone: Vec<PathBuf>,
    /// Ask this resolver instead of those of the system; may be given several times
    #[arg(long, value_name = "IP[:PORT]", value_parser = read_resolver, conflicts_with = "zone")]
    pub(crate) resolver: Vec<SocketAddr>,
}

/// How messages are judged.
#[derive(Args, Debug)]
#[command(next_help_heading = "Judging")]
pub(crate) struct JudgeArguments {
    /// How DMARC is read: by RFC 9989 (tree walk; p=reject alone quarantines) or RFC 7489 (public suffix list; p=reject
    /// rejects)
    #[arg(long, value_name = "RFC", value_enum, default_value_t = PolicyEdition::Rfc9989)]
    pub(crate) policy: PolicyEdition,
    /// The name written into Authentication-Results [default: the name of this host]
    #[arg(long, value_name = "NAME")]
    pub(crate) authserv_id: Option<String>,
    /// Judge as of this moment, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) now: Option<u64>,
    /// Defer a message when DMARC ends in a temporary error, instead of accepting it
    #[arg(long)]
    pub(crate) defer_on_temperror: bool,
    /// Let a signature pass whose l= leaves octets of the body uncovered
    #[arg(long)]
    pub(crate) honour_length: bool,
    /// Judge a From of several domains by the strictest policy among them
    #[arg(long)]
    pub(crate) strictest_of_several: bool,
}

/// What SMTP said before the message.
#[derive(Args, Debug)]
#[command(next_help_heading = "Envelope")]
pub(crate) struct EnvelopeArguments {
    /// Address of the client that sent the message; without it there is no SPF
    #[arg(long)]
    pub(crate) ip: Option<IpAddr>,
    /// What the client said in HELO or EHLO
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: Option<String>,
    /// The MAIL FROM address, empty for the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mail_from: Option<String>,
    /// Take what is not given from the message itself: address and HELO from the topmost Received field, MAIL FROM from
    /// Return-Path. Only for messages whose top fields your own server wrote
    #[arg(long)]
    pub(crate) from_trace: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// Messages: a .eml file, an mbox, a Maildir, a folder of any of them, or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "batch")]
    pub(crate) files: Vec<PathBuf>,
    /// One verdict a line, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the Authentication-Results field of each message instead of the table
    #[arg(long, conflicts_with_all = ["json", "batch"])]
    pub(crate) header: bool,
    /// Ask the crate mail-auth for a second opinion on each message; disagreements go to standard error and into the
    /// summary, and change neither verdict nor exit code
    #[arg(long, conflicts_with = "batch")]
    pub(crate) cross_check: bool,
    /// Worker threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) batch: BatchArguments,
    #[command(flatten)]
    pub(crate) envelope: EnvelopeArguments,
    #[command(flatten)]
    pub(crate) judge: JudgeArguments,
    #[command(flatten)]
    pub(crate) dns: DnsArguments,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Batch")]
pub(crate) struct BatchArguments {
    /// Read messages with their envelopes from this stream of JSON lines, or - for standard input:
    /// {"id","path"|"message_b64","ip","helo","mail_from"}. A relative path is looked for in the working directory, then
    /// beside the stream. Verdicts are written as JSON lines in the order of the stream
    #[arg(long, value_name = "STREAM", conflicts_with_all = ["files", "ip", "helo", "mail_from", "from_trace"])]
    pub(crate) batch: Option<PathBuf>,
    /// Hold the messages in memory, judge them N times and report each pass on standard error; the last one's verdicts
    /// are written, and making their lines is part of it
    #[arg(long, value_name = "N", requires = "batch", conflicts_with = "files", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) passes: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// The message: a .eml file, or - for standard input; of an mbox the message that --number names
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which message of an mbox or folder, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) number: u64,
    /// Show DNS answers in full, however long
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) envelope: EnvelopeArguments,
    #[command(flatten)]
    pub(crate) judge: JudgeArguments,
    #[command(flatten)]
    pub(crate) dns: DnsArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SpfArguments {
    /// Address of the client
    #[arg(long)]
    pub(crate) ip: IpAddr,
    /// What the client said in HELO or EHLO
    #[arg(long, value_name = "NAME")]
    pub(crate) helo: String,
    /// The MAIL FROM address, empty for the null sender
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub(crate) mail_from: String,
    /// The outcome as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The receiving host in Received-SPF and %{r} [default: the name of this host]
    #[arg(long, value_name = "NAME")]
    pub(crate) receiver: Option<String>,
    /// Judge as of this moment, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) now: Option<u64>,
    #[command(flatten)]
    pub(crate) dns: DnsArguments,
}

#[derive(Args, Debug)]
pub(crate) struct ResolveArguments {
    /// The name; for PTR an address will do
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A, AAAA, MX, PTR or TXT
    #[arg(value_name = "TYPE", value_parser = read_record_type)]
    pub(crate) kind: RecordType,
    /// Show every query and what came back
    #[arg(long)]
    pub(crate) trace: bool,
    /// The answer as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Believe the servers' AD bit: they validate, and nobody stands between [default: what the option trust-ad of
    /// /etc/resolv.conf says]
    #[arg(long, conflicts_with = "zone")]
    pub(crate) trust_ad: bool,
    #[command(flatten)]
    pub(crate) dns: DnsArguments,
}

#[derive(Args, Debug)]
pub(crate) struct SignArguments {
    /// The message to sign: a .eml file, or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "print_record", conflicts_with = "print_record")]
    pub(crate) file: Option<PathBuf>,
    /// The private key: PEM, RSA or Ed25519
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The signing domain, d=
    #[arg(long, required_unless_present = "print_record")]
    pub(crate) domain: Option<String>,
    /// The selector, s=
    #[arg(long, required_unless_present = "print_record")]
    pub(crate) selector: Option<String>,
    /// The identity, i= [default: left out]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) identity: Option<String>,
    /// Forms of header and body: relaxed or simple, or r and s
    #[arg(long, value_name = "HEADER/BODY", default_value = "relaxed/relaxed", value_parser = read_canonicalization)]
    pub(crate) canonicalization: Forms,
    /// The fields to sign, separated by colons or commas [default: those that RFC 6376 section 5.4.1 recommends, From
    /// once more than it occurs]
    #[arg(long, value_name = "NAMES", value_delimiter = ':')]
    pub(crate) headers: Vec<String>,
    /// Let the signature expire this many seconds after now
    #[arg(long, value_name = "SECONDS")]
    pub(crate) expire: Option<u64>,
    /// The moment of signing, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) now: Option<u64>,
    /// Print the DKIM-Signature field only, not the message
    #[arg(long)]
    pub(crate) field: bool,
    /// Print the DNS record to publish for the key and sign nothing
    #[arg(long)]
    pub(crate) print_record: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MilterArguments {
    /// The configuration, see mailproof.toml(5)
    #[arg(long, value_name = "FILE", default_value = "/etc/mailproof/mailproof.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct CheckConfigArguments {
    /// The configuration, see mailproof.toml(5)
    #[arg(value_name = "FILE", default_value = "/etc/mailproof/mailproof.toml")]
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct KeygenArguments {
    /// The signing domain, d=
    #[arg(long)]
    pub(crate) domain: String,
    /// The selector, s=: a new name for every key
    #[arg(long)]
    pub(crate) selector: String,
    /// The kind of key. Sign with an RSA key of 2048 bits; an Ed25519 key may stand beside it
    #[arg(long, value_enum, default_value_t = KeyWord::Rsa2048)]
    pub(crate) kind: KeyWord,
    /// Where to put the private key; a file that is there is never written over
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum KeyWord {
    #[value(name = "rsa2048")]
    Rsa2048,
    #[value(name = "rsa3072")]
    Rsa3072,
    #[value(name = "rsa4096")]
    Rsa4096,
    #[value(name = "ed25519")]
    Ed25519,
}

/// Which edition of DMARC.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum PolicyEdition {
    #[value(name = "9989")]
    Rfc9989,
    #[value(name = "7489")]
    Rfc7489,
}

/// The value of `--canonicalization`: whether header and body are relaxed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Forms {
    pub(crate) header_relaxed: bool,
    pub(crate) body_relaxed: bool,
}

fn read_resolver(text: &str) -> Result<SocketAddr, String> {
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = inner.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    text.parse().map_err(|_| "write an address as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353".to_owned())
}

fn read_record_type(text: &str) -> Result<RecordType, &'static str> {
    RecordType::from_word(text).ok_or("write A, AAAA, MX, PTR or TXT")
}

fn read_canonicalization(text: &str) -> Result<Forms, String> {
    let relaxed = |word: &str| match word {
        "relaxed" | "r" => Ok(true),
        "simple" | "s" => Ok(false),
        _ => Err("write relaxed/relaxed, relaxed/simple, simple/relaxed or simple/simple".to_owned()),
    };
    // RFC 6376 section 3.5: one word alone is that of the header, and the body is simple.
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    Ok(Forms { header_relaxed: relaxed(header)?, body_relaxed: relaxed(body)? })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn resolvers_with_and_without_port() {
        assert_eq!(read_resolver("192.0.2.53"), Ok("192.0.2.53:53".parse().unwrap()));
        assert_eq!(read_resolver("192.0.2.53:5353"), Ok("192.0.2.53:5353".parse().unwrap()));
        assert_eq!(read_resolver("2001:db8::53"), Ok("[2001:db8::53]:53".parse().unwrap()));
        assert_eq!(read_resolver("[2001:db8::53]"), Ok("[2001:db8::53]:53".parse().unwrap()));
        assert_eq!(read_resolver("[2001:db8::53]:5353"), Ok("[2001:db8::53]:5353".parse().unwrap()));
        assert!(read_resolver("dns.example").is_err());
    }

    #[test]
    fn canonicalization_words() {
        let forms = |header_relaxed, body_relaxed| Ok(Forms { header_relaxed, body_relaxed });
        assert_eq!(read_canonicalization("r/s"), forms(true, false));
        assert_eq!(read_canonicalization("relaxed"), forms(true, false));
        assert_eq!(read_canonicalization("simple/relaxed"), forms(false, true));
        assert!(read_canonicalization("nowsp/r").is_err());
    }
}
