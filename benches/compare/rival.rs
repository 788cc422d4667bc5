//! Those that are compared: in this process, or programs that are asked over their standard input.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mailproof::proto::dns::{Answers, Transcript};
use mailproof::proto::spf::{self, Check, SpfOptions};
use mailproof::zone::Zone;
use mailproof_benches::comparison::{OURS, SPF, Words};
use mailproof_benches::mail_auth_side::MailAuth;
use mailproof_benches::mailproof_side::Mailproof;
use mailproof_benches::messages::{HELO, MAIL_FROM, RECEIVER, zone_text};

/// One of those compared, with what it looks at.
pub(crate) struct Rival {
    name: &'static str,
    does: &'static str,
    way: Way,
}

enum Way {
    Mailproof {
        it: Box<Mailproof>,
        messages: Messages,
    },
    MailAuth {
        it: Box<MailAuth>,
        messages: Messages,
    },
    /// SPF of Mailproof by itself, for those who do no more.
    Spf {
        zone: Box<Zone>,
        transcript: Transcript,
    },
    Program {
        child: Child,
        to: ChildStdin,
        from: BufReader<ChildStdout>,
    },
}

/// Files that were read once.
#[derive(Default)]
struct Messages(HashMap<PathBuf, Vec<u8>>);

/// All that are there, Mailproof first and those that do SPF alone last, and why others are not.
pub(crate) fn all(folder: &Path) -> (Vec<Rival>, Vec<(&'static str, String)>) {
    let whole = "SPF, DKIM, DMARC";
    let mut rivals = vec![
        Rival {
            name: "mailproof",
            does: whole,
            way: Way::Mailproof { it: Box::default(), messages: Messages::default() },
        },
        Rival {
            name: "mail-auth 0.13.3",
            does: whole,
            way: Way::MailAuth { it: Box::default(), messages: Messages::default() },
        },
    ];
    let mut absent = vec![("hickory-resolver", "DNS only: `cargo bench -p mailproof-benches --bench dns`".to_owned())];
    let programs: [(_, _, &[&str], _); 4] = [
        ("libopendkim, libspf2, libopendmarc", whole, &["target/compare/c_rival"], "world.txt"),
        ("dkimpy and pyspf", "SPF, DKIM", &[".venv/bin/python", "benches/compare/python_rival.py"], "world.json"),
        ("mailauth (Node)", whole, &["node", "benches/compare/node_rival.js"], "world.json"),
        ("viaspf 0.6.0", SPF, &["target/viaspf/release/viaspf-rival"], "world.txt"),
    ];
    for (name, does, command, world) in programs {
        match start(command, &folder.join(world)) {
            Ok(way) => rivals.push(Rival { name, does, way }),
            Err(reason) => absent.push((name, reason)),
        }
    }
    let zone = Box::new(Zone::from_yaml(&zone_text()).expect("a zone"));
    rivals.push(Rival { name: "mailproof", does: SPF, way: Way::Spf { zone, transcript: Transcript::new() } });
    rivals.sort_by_key(|rival| (rival.does == SPF, !rival.name.starts_with(OURS)));
    (rivals, absent)
}

impl Rival {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What it looks at.
    pub(crate) fn does(&self) -> &'static str {
        self.does
    }

    /// Judges one message of a client so many times; gives its words and how long all of them took.
    pub(crate) fn judge(&mut self, client: IpAddr, path: &Path, count: u32) -> io::Result<(Words, Duration)> {
        match &mut self.way {
            Way::Mailproof { it, messages } => {
                let message = messages.of(path)?;
                let started = Instant::now();
                for _ in 1..count {
                    black_box(it.any_verdict(client, message));
                }
                let verdict = it.any_verdict(client, message);
                let took = started.elapsed();
                let dkim = verdict.dkim.first().map_or("none", |signature| signature.result.word());
                Ok((Words::new(verdict.spf.result.word(), dkim, verdict.dmarc.result.word()), took))
            }
            Way::MailAuth { it, messages } => {
                let message = messages.of(path)?;
                let started = Instant::now();
                for _ in 1..count {
                    black_box(it.any_verdict(client, message));
                }
                let (field, dkim) = it.any_verdict(client, message);
                let took = started.elapsed();
                let of = |name: &str| if field.contains(&format!("{name}=pass")) { "pass" } else { "fail" };
                Ok((Words::new(of("spf"), if dkim { "pass" } else { "fail" }, of("dmarc")), took))
            }
            Way::Spf { zone, transcript } => {
                let options = SpfOptions::default();
                let asked = Check { ip: client, helo: HELO, mail_from: MAIL_FROM, receiver: RECEIVER, now_seconds: 1 };
                let mut check =
                    || spf::check_mail_from(black_box(&asked), &options, &mut Answers::new(transcript, &mut **zone));
                let started = Instant::now();
                for _ in 1..count {
                    black_box(check());
                }
                let outcome = check().ok_or_else(|| io::Error::other("an answer is missing"))?;
                Ok((Words::new(outcome.result.word(), "-", "-"), started.elapsed()))
            }
            Way::Program { to, from, .. } => {
                writeln!(to, "{count} {client} {}", path.display())?;
                to.flush()?;
                let mut line = String::new();
                from.read_line(&mut line)?;
                let mut said = line.split_whitespace();
                let mut next = || said.next().ok_or_else(|| io::Error::other("it ended"));
                let (spf, dkim, dmarc, took) = (next()?, next()?, next()?, next()?);
                let took = Duration::from_nanos(took.parse().map_err(io::Error::other)?);
                Ok((Words::new(spf, dkim, dmarc), took))
            }
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        if let Way::Program { child, .. } = &mut self.way {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Messages {
    fn of(&mut self, path: &Path) -> io::Result<&[u8]> {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), fs::read(path)?);
        }
        Ok(self.0.get(path).map_or(&[], Vec::as_slice))
    }
}

/// A program says `ready`, or why it is not.
fn start(words: &[&str], world: &Path) -> Result<Way, String> {
    let [program, arguments @ ..] = words else { return Err("no program".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).arg(world).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}; scripts/bench.sh puts it there"))?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no standard input and output".to_owned());
    };
    let mut from = BufReader::new(from);
    let mut line = String::new();
    match from.read_line(&mut line) {
        Ok(_) if line.trim() == "ready" => Ok(Way::Program { child, to, from }),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            Err(if line.is_empty() { "it ended at once".to_owned() } else { line.trim().to_owned() })
        }
    }
}
