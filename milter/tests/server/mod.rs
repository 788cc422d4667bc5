//! The mail server's side of the protocol, in a readable form: lines that say what the server sends, and lines for what
//! came back.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use mailproof::Engine;
use mailproof::service::{Conversation, Host, Requests};
use mailproof::zone::Zone;
use mailproof_milter::config::Config;
use mailproof_milter::log::Sink;
use mailproof_milter::metrics::Metrics;
use mailproof_milter::signing::Signer;
use mailproof_milter::{MilterConversation, Service};
use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;
pub(crate) use mailproof_testkit::mail_server::frame;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_795_392_000);
pub(crate) const HOST_NAME: &str = "mx.example.net";

/// Lines of the log.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Mutex<Vec<String>>);

impl Sink for Lines {
    fn write_line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

/// A daemon without its loop.
pub(crate) struct Daemon {
    pub(crate) service: Arc<Service>,
    pub(crate) engine: Engine,
    pub(crate) lines: Arc<Lines>,
    zone: Zone,
    offline: bool,
}

impl Daemon {
    /// `offline`: the engine knows nothing, and every answer comes through the conversation.
    pub(crate) fn new(config: &str, zone: &str, offline: bool) -> Self {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testkit/keys");
        let config = config.replace("{keys}", &keys.display().to_string());
        let config = Config::parse(&config, Path::new("test.toml")).unwrap_or_else(|error| panic!("{error}"));
        let zone = Zone::from_yaml(zone).unwrap();
        let builder = Engine::builder().options(config.options(HOST_NAME)).fixed_time(NOW);
        let builder = if offline { builder.offline() } else { builder.zone(zone.clone()) };
        let signer = Signer::load(&config.signing).unwrap();
        let lines = Arc::new(Lines::default());
        let metrics = Arc::new(Metrics::default());
        let service = Service::new(&config, HOST_NAME, signer, metrics, lines.clone());
        Self { service: Arc::new(service), engine: builder.build().unwrap(), lines, zone, offline }
    }

    pub(crate) fn connect(&self) -> Connection<'_> {
        Connection {
            daemon: self,
            conversation: Box::new(MilterConversation::new(Arc::clone(&self.service), self.engine.clone())),
            requests: Requests::default(),
            open: Vec::new(),
            now: NOW,
        }
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.0.lock().unwrap())
    }
}

/// A connection with what the loop would do for it.
pub(crate) struct Connection<'d> {
    daemon: &'d Daemon,
    pub(crate) conversation: Box<dyn Conversation>,
    pub(crate) requests: Requests,
    open: Vec<Question>,
    pub(crate) now: Timestamp,
}

impl Connection<'_> {
    /// Hands octets in, in pieces, as long as the connection is open.
    pub(crate) fn send(&mut self, octets: &[u8], chunk: usize) {
        for piece in octets.chunks(chunk) {
            if self.requests.closes() {
                return;
            }
            self.conversation.received(piece, &mut Host::new(self.now, &mut self.requests));
            self.open.extend(self.requests.drain_questions());
        }
    }

    /// Answers every open question, the last one first, and those that come of it.
    pub(crate) fn answer_all(&mut self) {
        while let Some(question) = self.open.pop() {
            let answer: Answer = self.daemon.zone.lookup(&question);
            self.conversation.answered(&question, &answer, &mut Host::new(self.now, &mut self.requests));
            self.open.extend(self.requests.drain_questions());
        }
    }

    pub(crate) fn wake(&mut self) {
        self.conversation.woken(&mut Host::new(self.now, &mut self.requests));
        self.open.extend(self.requests.drain_questions());
    }

    pub(crate) fn drain(&mut self) {
        self.conversation.drain(&mut Host::new(self.now, &mut self.requests));
    }

    pub(crate) fn open_questions(&self) -> usize {
        self.open.len()
    }

    /// What came back, one line a reply, and whether the connection ends.
    pub(crate) fn replies(&mut self) -> Vec<String> {
        decode(&self.requests.take_output())
    }

    /// Plays the lines of a server (`> ...`) and gives the dialogue with the replies between them.
    pub(crate) fn play(&mut self, script: &str, chunk: usize) -> String {
        let mut dialogue = String::new();
        for line in script.lines().filter_map(|line| line.strip_prefix("> ")) {
            dialogue.push_str(&format!("> {line}\n"));
            if self.requests.closes() {
                panic!("the connection has ended before `{line}`");
            }
            if line == "drain" {
                self.drain();
            } else {
                self.send(&encode(line), chunk);
            }
            // As late as possible: a server waits for these replies, for others it does not.
            if self.daemon.offline && (line.starts_with("end") || line.starts_with("recipient")) {
                self.answer_all();
            }
            for reply in self.replies() {
                dialogue.push_str(&format!("< {reply}\n"));
            }
            if self.requests.closes() {
                dialogue.push_str("< close\n");
            }
        }
        self.conversation.closed();
        dialogue
    }
}

/// The octets of a line.
pub(crate) fn encode(line: &str) -> Vec<u8> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let string = |text: &str| [unescape(text), vec![0]].concat();
    match word {
        "offer" => {
            let mut numbers = rest.split(' ').map(|number| u32::from_str_radix(number, 16).unwrap());
            frame(b'O', &(0..3).flat_map(|_| numbers.next().unwrap().to_be_bytes()).collect::<Vec<u8>>())
        }
        "macros" => {
            let (stage, pairs) = rest.split_once(' ').unwrap();
            let mut fields = stage.as_bytes().to_vec();
            for pair in pairs.split(' ') {
                let (name, value) = pair.split_once('=').unwrap();
                fields.extend([string(name), string(value)].concat());
            }
            frame(b'D', &fields)
        }
        "connect" => {
            let (host, address) = rest.split_once(' ').unwrap();
            let mut fields = string(host);
            match address {
                "local" => fields.extend(b"L\0\0/run/sendmail\0"),
                "unknown" => fields.push(b'U'),
                address => {
                    fields.push(if address.contains(':') { b'6' } else { b'4' });
                    fields.extend(25_u16.to_be_bytes());
                    fields.extend(string(address));
                }
            }
            frame(b'C', &fields)
        }
        "helo" => frame(b'H', &string(rest)),
        "mail" => frame(b'M', &string(rest)),
        "recipient" => frame(b'R', &string(rest)),
        "data" => frame(b'T', &[]),
        "unknown" => frame(b'U', &string(rest)),
        "header" => {
            let (name, value) = rest.split_once(':').unwrap();
            frame(b'L', &[string(name), string(value)].concat())
        }
        "end-of-header" => frame(b'N', &[]),
        "body" => frame(b'B', &unescape(rest)),
        "end" => frame(b'E', &unescape(rest)),
        "abort" => frame(b'A', &[]),
        "quit" => frame(b'Q', &[]),
        "quit-new-connection" => frame(b'K', &[]),
        "octets" => unescape(rest),
        _ => panic!("{line}"),
    }
}

/// Replies as lines.
pub(crate) fn decode(mut octets: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = octets.split_first_chunk::<4>() {
        let (frame, after) = rest.split_at(u32::from_be_bytes(*head) as usize);
        octets = after;
        lines.push(decode_reply(frame[0], &frame[1..]));
    }
    assert!(octets.is_empty(), "half a reply");
    lines
}

fn decode_reply(command: u8, fields: &[u8]) -> String {
    let number = |at: usize| u32::from_be_bytes(fields[at..at + 4].try_into().unwrap());
    let strings = |octets: &[u8]| -> Vec<String> {
        let octets = octets.strip_suffix(&[0]).expect("a string ends with NUL");
        octets.split(|octet| *octet == 0).map(|text| text.escape_ascii().to_string().replace("\\\"", "\"")).collect()
    };
    match command {
        b'O' => {
            let mut line = format!("agreed {:x} {:x} {:x}", number(0), number(4), number(8));
            let mut rest = &fields[12..];
            while let Some((stage, names)) = rest.split_first_chunk::<4>() {
                let end = names.iter().position(|octet| *octet == 0).unwrap();
                line.push_str(&format!("; {} {}", u32::from_be_bytes(*stage), names[..end].escape_ascii()));
                rest = &names[end + 1..];
            }
            line
        }
        b'c' => "continue".to_owned(),
        b'a' => "accept".to_owned(),
        b'r' => "reject".to_owned(),
        b't' => "tempfail".to_owned(),
        b's' => "skip".to_owned(),
        b'p' => "progress".to_owned(),
        b'y' => format!("reply {}", strings(fields).join("|")),
        b'q' => format!("quarantine {}", strings(fields).join("|")),
        b'i' => format!("insert {} {}", number(0), strings(&fields[4..]).join(":")),
        b'm' => format!("change {} {}", number(0), strings(&fields[4..]).join(":")),
        other => panic!("reply {other}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            octets.extend(character.to_string().as_bytes());
            continue;
        }
        match characters.next() {
            Some('n') => octets.push(b'\n'),
            Some('r') => octets.push(b'\r'),
            Some('t') => octets.push(b'\t'),
            Some('\\') => octets.push(b'\\'),
            Some('x') => {
                let digits: String = characters.by_ref().take(2).collect();
                octets.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            other => panic!("\\{other:?} in {text}"),
        }
    }
    octets
}
