//! Loads a running milter the way a mail server does, and says what that cost.
//!
//! ```text
//! cargo run --release -p mailproof-milter --example load -- \
//!     --program target/release/mailproof [--connections 8] [--messages 20000] [--stalled 0] [--threads 1] [--backend auto]
//! ```
//!
//! It starts the daemon itself, with a DNS server beside it that knows the keys. Messages have log-normal sizes (median
//! 30 KiB, mean 61 KiB) and an RSA-2048 signature, and one connection each. Every reply is checked: a run with a result
//! other than `dmarc=pass` is no run. With `--stalled N`, N more connections stop in the midst of a body and stay.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};
use mailproof_proto::dkim::{BodyHashes, Canonicalization, SIGNED_NAMES, SigningKey, SigningPlan, sign};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;

type Failure = Box<dyn Error + Send + Sync>;

/// What is wanted.
struct Plans {
    program: PathBuf,
    connections: usize,
    messages: usize,
    stalled: usize,
    threads: usize,
    backend: String,
}

/// The octets of one connection, up to the end of its message and from there on.
struct Talk {
    header: Vec<u8>,
    body: Vec<u8>,
    bytes: usize,
}

fn main() -> Result<(), Failure> {
    let plans = Plans::read()?;
    let key = SigningKey::read(include_bytes!("../../engine/testkit/keys/rsa-2048-a.pem"))?;
    let zone = format!(
        "load.example:\n- TXT: v=spf1 ip4:192.0.2.7 -all\n_dmarc.load.example:\n- TXT: v=DMARC1; p=reject\n\
         s._domainkey.load.example:\n- TXT: {}\n",
        key.record()?
    );
    let dns = Server::start(Zone::from_yaml(&zone)?, Plan::new(1))?;
    let talks: Vec<Talk> = (0..DISTINCT).map(|at| talk(&key, at)).collect::<Result<_, _>>()?;
    let mean = talks.iter().map(|talk| talk.bytes).sum::<usize>() / talks.len();
    println!("{DISTINCT} messages, mean {mean} octets");

    let folder = std::env::temp_dir().join(format!("mailproof-load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let socket = folder.join("m.sock");
    let mut daemon = start(&plans, &folder, &socket, &dns)?;
    let result = measure(&plans, &talks, &socket, daemon.id());
    daemon.kill()?;
    daemon.wait()?;
    fs::remove_dir_all(&folder)?;
    result
}

fn measure(plans: &Plans, talks: &[Talk], socket: &Path, daemon: u32) -> Result<(), Failure> {
    for talk in talks.iter().take(50) {
        exchange(socket, talk)?;
    }
    let before = memory_kib(daemon, "VmRSS")?;
    println!("resident at rest: {before} KiB");
    let unloaded = measure_once(plans, talks, socket, daemon)?;
    if plans.stalled > 0 {
        // What the allocator keeps of the first run is not theirs.
        let before = memory_kib(daemon, "VmRSS")?;
        let stalled = stall(plans.stalled, talks, socket)?;
        thread::sleep(Duration::from_millis(500));
        let after = memory_kib(daemon, "VmRSS")?;
        let each = (after.saturating_sub(before)) as f64 / stalled.len() as f64;
        println!("{} connections stalled in a body: {after} KiB, {each:.1} KiB each", stalled.len());
        let beside = measure_once(plans, talks, socket, daemon)?;
        println!("p99 beside them: {:.2} times that without", beside.as_secs_f64() / unloaded.as_secs_f64());
    }
    println!("peak resident: {} KiB", memory_kib(daemon, "VmHWM")?);
    Ok(())
}

/// One run with its figures; gives p99 of the reply to the end of a message.
fn measure_once(plans: &Plans, talks: &[Talk], socket: &Path, daemon: u32) -> Result<Duration, Failure> {
    let cpu = cpu_time(daemon)?;
    let began = Instant::now();
    let mut waits = run(plans, talks, socket)?;
    let (elapsed, cpu) = (began.elapsed(), cpu_time(daemon)? - cpu);
    waits.sort();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!(
        "{} messages over {} connections at a time: {:.0} a second; CPU of the daemon {:.0} us a message",
        waits.len(),
        plans.connections,
        waits.len() as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / waits.len() as f64,
    );
    let ms = |part| at(part).as_secs_f64() * 1e3;
    println!("end of message to reply: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(0.5), ms(0.99), ms(1.0));
    Ok(at(0.99))
}

/// Exchanges messages on some connections at a time; gives the time of each from its end to the reply.
fn run(plans: &Plans, talks: &[Talk], socket: &Path) -> Result<Vec<Duration>, Failure> {
    let (next, waits) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plans.connections)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    let mut own = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= plans.messages {
                            break;
                        }
                        own.push(exchange(socket, &talks[at % talks.len()])?);
                    }
                    waits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(own);
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    Ok(waits.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// One connection with one message.
fn exchange(socket: &Path, talk: &Talk) -> Result<Duration, Failure> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(&offer())?;
    reply(&mut stream)?;
    stream.write_all(&talk.header)?;
    // As a server does: the next chunk when the one before was answered, until no more is wanted.
    for chunk in talk.body.chunks(CHUNK_BYTES) {
        stream.write_all(&frame(b'B', chunk))?;
        if reply(&mut stream)?.first() == Some(&b's') {
            break;
        }
    }
    let ended = Instant::now();
    stream.write_all(&frame(b'E', b""))?;
    let mut has_passed = false;
    loop {
        let reply = reply(&mut stream)?;
        match reply.first() {
            Some(b'c') => break,
            Some(b'i') => has_passed |= reply.windows(10).any(|it| it == b"dmarc=pass"),
            _ => return Err(format!("reply {:?}", String::from_utf8_lossy(&reply)).into()),
        }
    }
    let waited = ended.elapsed();
    stream.write_all(&frame(b'Q', b""))?;
    if has_passed { Ok(waited) } else { Err("a message did not pass".into()) }
}

fn stall(count: usize, talks: &[Talk], socket: &Path) -> Result<Vec<UnixStream>, Failure> {
    (0..count)
        .map(|at| {
            let talk = &talks[at % talks.len()];
            let mut stream = UnixStream::connect(socket)?;
            stream.write_all(&offer())?;
            reply(&mut stream)?;
            stream.write_all(&talk.header)?;
            // Half of a frame: the other half never comes.
            let chunk = frame(b'B', &talk.body[..talk.body.len().min(CHUNK_BYTES)]);
            stream.write_all(&chunk[..chunk.len() / 2])?;
            Ok(stream)
        })
        .collect()
}

/// One frame from the daemon: its command and fields.
fn reply(stream: &mut UnixStream) -> Result<Vec<u8>, Failure> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn offer() -> Vec<u8> {
    frame(b'O', &[0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff])
}

fn frame(command: u8, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 1).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &[command], fields].concat()
}

/// Message number `at`, signed, in frames.
fn talk(key: &SigningKey, at: usize) -> Result<Talk, Failure> {
    let header = format!(
        "Received: from a.example (a.example [192.0.2.7]) by b.example with ESMTPS id {at};\r\n\tMon, 23 Nov 2026 17:00:00 \
         +0000\r\nFrom: Ann <ann@load.example>\r\nTo: someone@example.net\r\nSubject: number {at}\r\nDate: Mon, 23 Nov \
         2026 17:00:00 +0000\r\nMessage-ID: <{at}@load.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/html; \
         charset=utf-8\r\n"
    );
    let body = body(at);
    let domain = Name::parse_domain("load.example")?;
    let plan = SigningPlan {
        domain: &domain,
        selector: "s",
        identity: None,
        header_form: Canonicalization::Relaxed,
        body_form: Canonicalization::Relaxed,
        names: &SIGNED_NAMES,
        oversigned: &["From"],
        signed_at: None,
        expires_at: None,
    };
    let mut bodies = BodyHashes::new();
    plan.want_body(&mut bodies);
    bodies.update(&body);
    bodies.finish();
    let signature = sign(&plan, key, HeaderIndex::new().scan(header.as_bytes()), &bodies)?;
    let mut octets = frame(b'C', b"a.example\x004\x00\x19192.0.2.7\0");
    octets.extend(frame(b'H', b"a.example\0"));
    octets.extend(frame(b'M', b"<ann@load.example>\0"));
    let whole = format!("{signature}{header}").replace("\r\n\t", "\n\t");
    for line in whole.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
        octets.extend(frame(b'L', format!("{name}\0{value}\0").as_bytes()));
    }
    octets.extend(frame(b'N', b""));
    Ok(Talk { header: octets, bytes: whole.len() + body.len(), body })
}

/// Lines of text whose length is log-normal: median 30 KiB, sigma 1.06.
fn body(at: usize) -> Vec<u8> {
    // The normal quantile of evenly spread parts (Tocher's approximation), so that no run draws other sizes.
    let part = (at as f64 + 0.5) / DISTINCT as f64;
    let normal = (part / (1.0 - part)).ln() / 1.702;
    let bytes = (30_720.0 * (1.06 * normal).exp()) as usize;
    let line = format!("<p>Line of  message {at}, with some words and <b>tags</b> in it, as mail has them.</p>\r\n");
    line.as_bytes().iter().copied().cycle().take(bytes / line.len() * line.len()).collect()
}

fn start(plans: &Plans, folder: &Path, socket: &Path, dns: &Server) -> Result<Child, Failure> {
    let config = folder.join("m.toml");
    let text = format!(
        "authserv-id = 'mx.example.net'\nlisten = ['unix:{}']\nresolvers = ['{}']\nthreads = {}\nio-backend = '{}'\n\
         policy.mode = 'enforce'\n",
        socket.display(),
        dns.addr(),
        plans.threads,
        plans.backend,
    );
    fs::write(&config, text)?;
    let mut command = Command::new(&plans.program);
    let mut daemon = command.args(["milter", "--config"]).arg(config).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(daemon.stderr.take().ok_or("no log")?);
    let mut line = String::new();
    log.read_line(&mut line)?;
    print!("{line}");
    // The rest is read, so that the daemon writes it.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok(daemon)
}

fn memory_kib(process: u32, key: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(key)).ok_or("no such figure")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// User and system time of all threads.
fn cpu_time(process: u32) -> Result<Duration, Failure> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().ok_or("no number")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

impl Plans {
    fn read() -> Result<Self, Failure> {
        let mut plans = Self {
            program: PathBuf::from("target/release/mailproof"),
            connections: 8,
            messages: 20_000,
            stalled: 0,
            threads: 1,
            backend: "auto".to_owned(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--program" => plans.program = PathBuf::from(value),
                "--connections" => plans.connections = value.parse()?,
                "--messages" => plans.messages = value.parse()?,
                "--stalled" => plans.stalled = value.parse()?,
                "--threads" => plans.threads = value.parse()?,
                "--backend" => plans.backend = value,
                _ => return Err(format!("unknown: {word}").into()),
            }
        }
        Ok(plans)
    }
}

/// Messages that are told apart; they come again in turn.
const DISTINCT: usize = 400;
/// What Postfix and Sendmail send in one frame.
const CHUNK_BYTES: usize = 65_535;
