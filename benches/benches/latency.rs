//! How long an answer takes while the same thread verifies: 64 messages of 300 KiB are under way at any time, and a
//! question goes out every millisecond, by turns one that is in the cache and one that is not.
//!
//! `cargo bench -p mailproof-benches --bench latency [-- SECONDS]`

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use mailproof::network::NetworkOptions;
use mailproof::service::{Conversation, Host, Peer, Service};
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope};
use mailproof_benches::messages::{CLIENT, HELO, Kind, MAIL_FROM, RECEIVER, message, texts};
use mailproof_fault_dns::{Plan, Server};
use mailproof_io::Choice;
use mailproof_proto::dns::{Answer, Name, Outcome, Question, RecordType};

const UNDER_WAY: u64 = 64;
const BODY_KIB: usize = 300;
const PERIOD: Duration = Duration::from_millis(1);

fn main() -> io::Result<()> {
    let argument = env::args().skip(1).find(|it| it != "--bench");
    let seconds = argument.and_then(|it| it.parse().ok()).unwrap_or(5);
    for backend in [Choice::Uring, Choice::Epoll] {
        run(backend, Duration::from_secs(seconds))?;
    }
    Ok(())
}

fn run(backend: Choice, time: Duration) -> io::Result<()> {
    let names: String = (0..20_000).map(|index| format!("n{index}.bench.example:\n- TXT: v=spf1 -all\n")).collect();
    let records: String = texts().iter().map(|(name, text)| format!("{name}: [{{TXT: '{text}'}}]\n")).collect();
    let zone = Zone::from_yaml(&(records + &names)).map_err(io::Error::other)?;
    let server = Server::start(zone, Plan::new(0))?;
    let mut options = NetworkOptions::new(vec![server.addr()]);
    (options.threads, options.backend) = (1, backend);
    let engine = Engine::builder().authserv_id(RECEIVER).network(options).build().map_err(io::Error::other)?;

    let path = env::temp_dir().join(format!("mailproof-latency-{}.sock", std::process::id()));
    let _ = fs::remove_file(&path);
    let samples = Arc::new(Samples::default());
    engine.listen(UnixListener::bind(&path)?.into(), Arc::new(Asking(Arc::clone(&samples))))?;

    let text = message(Kind::Html, BODY_KIB);
    let envelope = || Envelope::new(CLIENT, HELO, MAIL_FROM);
    let completions = engine.completions()?;
    for token in 0..UNDER_WAY {
        completions.submit(text.clone(), envelope(), token);
    }
    let connection = UnixStream::connect(&path)?;
    io::Write::write_all(&mut &connection, b"go")?;
    let (started, mut verified) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        let mut descriptors =
            [rustix::event::PollFd::from_borrowed_fd(completions.descriptor(), rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut descriptors, None)?;
        for completion in completions.drain() {
            assert_eq!(completion.verdict.unwrap().dmarc.result.word(), "pass");
            completions.submit(text.clone(), envelope(), completion.token);
            verified += 1;
        }
    }
    drop(connection);
    let backend = engine.backend().map_or("none", |backend| backend.word());
    println!(
        "{backend}: {:.0} messages of {BODY_KIB} KiB a second on one thread, {UNDER_WAY} under way",
        verified as f64 / started.elapsed().as_secs_f64()
    );
    for (what, samples) in [("in the cache", &samples.cached), ("one query", &samples.cold)] {
        let mut samples = samples.lock().unwrap().clone();
        samples.sort_unstable();
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "  {what:<12} {:>6} questions: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            samples.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Samples {
    cached: Mutex<Vec<Duration>>,
    cold: Mutex<Vec<Duration>>,
}

struct Asking(Arc<Samples>);

struct Asker {
    samples: Arc<Samples>,
    count: usize,
    asked: Option<Instant>,
}

impl Service for Asking {
    fn converse(&self, _: &Engine, _: Peer) -> Box<dyn Conversation> {
        Box::new(Asker { samples: Arc::clone(&self.0), count: 0, asked: None })
    }
}

impl Asker {
    fn plan(&self, host: &mut Host<'_>) {
        let moment = host.now() + PERIOD;
        host.wake_at(Some(moment));
    }
}

impl Conversation for Asker {
    fn received(&mut self, _: &[u8], host: &mut Host<'_>) {
        self.plan(host);
    }

    fn answered(&mut self, _: &Question, answer: &Answer, host: &mut Host<'_>) {
        assert!(matches!(answer.outcome(), Outcome::Records(_)), "{answer:?}");
        let took = self.asked.take().map_or(Duration::ZERO, |asked| asked.elapsed());
        // The first question of all fills the cache.
        if self.count > 1 {
            let samples = if self.count.is_multiple_of(2) { &self.samples.cold } else { &self.samples.cached };
            samples.lock().unwrap().push(took);
        }
        self.plan(host);
    }

    fn woken(&mut self, host: &mut Host<'_>) {
        self.count += 1;
        let number = if self.count.is_multiple_of(2) { self.count % 20_000 } else { 0 };
        let name = Name::parse(format!("n{number}.bench.example")).unwrap();
        self.asked = Some(Instant::now());
        host.ask(Question::new(name, RecordType::Txt));
    }

    fn drain(&mut self, host: &mut Host<'_>) {
        host.close();
    }

    fn closed(&mut self) {}
}
