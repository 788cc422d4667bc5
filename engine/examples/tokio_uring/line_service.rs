//! A service that verifies messages: a line `IP HELO MAIL-FROM LENGTH`, then as many octets of message; a line of
//! results comes back, and the next message may follow.

use mailproof::proto::dns::{Answer, Question};
use mailproof::service::{Conversation, Host, Peer, Service};
use mailproof::{Engine, Envelope, Progress, Session};

/// The service; it has no state beyond its conversations.
pub(crate) struct LineService;

impl Service for LineService {
    fn converse(&self, engine: &Engine, _: Peer) -> Box<dyn Conversation> {
        Box::new(Lines { engine: engine.clone(), input: Vec::new(), message: None, is_draining: false })
    }
}

/// One connection.
struct Lines {
    engine: Engine,
    /// What came and is not used yet.
    input: Vec<u8>,
    message: Option<Message>,
    is_draining: bool,
}

struct Message {
    session: Session,
    octets_left: usize,
}

/// Octets of a line: two names of 255 octets, an address of 320 and two numbers fit.
const LINE_BYTES_MAX: usize = 1024;

impl Conversation for Lines {
    fn received(&mut self, octets: &[u8], host: &mut Host<'_>) {
        self.input.extend_from_slice(octets);
        self.go_on(host);
    }

    fn answered(&mut self, question: &Question, answer: &Answer, host: &mut Host<'_>) {
        if let Some(message) = &mut self.message {
            message.session.learn(question, answer.clone());
        }
        self.go_on(host);
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.go_on(host);
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        self.is_draining = true;
        self.go_on(host);
    }

    fn closed(&mut self) {
        self.message = None;
    }
}

impl Lines {
    /// Goes on as far as what came allows.
    fn go_on(&mut self, host: &mut Host<'_>) {
        loop {
            match &mut self.message {
                Some(message) => {
                    if !message.go_on(&mut self.input, host) {
                        return;
                    }
                    self.message = None;
                    host.wake_at(None);
                }
                None if self.is_draining => return host.close(),
                None => {
                    let Some(end) = self.input.iter().position(|&octet| octet == b'\n') else {
                        if self.input.len() > LINE_BYTES_MAX {
                            refuse(host);
                        }
                        return;
                    };
                    let line: Vec<u8> = self.input.drain(..=end).collect();
                    let Some((envelope, octets_left)) = read_line(&line) else { return refuse(host) };
                    self.message = Some(Message { session: self.engine.session(envelope), octets_left });
                }
            }
        }
    }
}

impl Message {
    /// True when it is done.
    fn go_on(&mut self, input: &mut Vec<u8>, host: &mut Host<'_>) -> bool {
        let count = self.octets_left.min(input.len());
        self.session.push(&input[..count]);
        input.drain(..count);
        self.octets_left -= count;
        if self.octets_left == 0 {
            self.session.end();
        }
        let progress = self.session.poll();
        while let Some(question) = self.session.next_question() {
            host.ask(question);
        }
        match progress {
            Progress::NeedsMessage => false,
            Progress::NeedsAnswers { deadline } => {
                host.wake_at(Some(deadline));
                false
            }
            Progress::Done => {
                if let Some(verdict) = self.session.verdict() {
                    let (spf, dmarc) = (verdict.spf.result.word(), verdict.dmarc.result.word());
                    host.output().extend_from_slice(format!("spf={spf} dmarc={dmarc}\r\n").as_bytes());
                }
                true
            }
        }
    }
}

fn refuse(host: &mut Host<'_>) {
    host.output().extend_from_slice(b"error: not `IP HELO MAIL-FROM LENGTH`\r\n");
    host.close();
}

fn read_line(line: &[u8]) -> Option<(Envelope, usize)> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.len() <= LINE_BYTES_MAX)?;
    let mut words = line.split_ascii_whitespace();
    let (ip, helo, mail_from) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let length = words.next()?.parse().ok()?;
    words.next().is_none().then(|| (Envelope::new(ip, helo, mail_from), length))
}
