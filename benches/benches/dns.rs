//! CPU time of a question that is not in the cache, beside hickory-resolver and a loop on tokio.
//!
//! The server is another process on another processor. Every variant asks the same names, each once, with so many
//! outstanding; CPU time is that of this process, user and system together. Rounds go through all variants in turn, and
//! the median of the rounds is printed, with the ratio to the loop on tokio in the same round.
//!
//! `cargo bench -p mailproof-benches --bench dns [-- ROUNDS [QUESTIONS [VARIANT [OUTSTANDING]]] [--table FILE]]`

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use mailproof::Engine;
use mailproof::cache::CacheOptions;
use mailproof::network::NetworkOptions;
use mailproof::service::{Conversation, Host, Peer, Service};
use mailproof::zone::Zone;
use mailproof_benches::record::line;
use mailproof_fault_dns::{Options, Plan, Server};
use mailproof_io::Choice;
use mailproof_proto::dns::lookup::Random;
use mailproof_proto::dns::wire::{self, Match, QueryOptions};
use mailproof_proto::dns::{Answer, Name, Outcome, Question, RecordType};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OUTSTANDING: [usize; 3] = [1, 64, 1024];
const NAMES: usize = 48_000;
const SOCKETS: usize = 64;

fn main() -> io::Result<()> {
    let mut arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    if arguments.first().is_some_and(|it| it == "--serve") {
        return serve();
    }
    // As the command does: clearing pages of 2 MiB falls on whichever variant is the first to want one.
    rustix::thread::disable_transparent_huge_pages(true)?;
    let table_path = arguments.iter().position(|it| it == "--table").and_then(|at| arguments.drain(at..).nth(1));
    let mut table = String::new();
    let number = |at: usize, otherwise: usize| arguments.get(at).and_then(|it| it.parse().ok()).unwrap_or(otherwise);
    let (rounds, count) = (number(0, 5), number(1, 48_000).min(NAMES));
    // A profiler wants one variant alone, with one number outstanding.
    let only = arguments.get(2).cloned().unwrap_or_default();
    let only_outstanding: Option<usize> = arguments.get(3).and_then(|it| it.parse().ok());
    let mut server = start_server()?;
    pin_to(0);
    for outstanding in OUTSTANDING.into_iter().filter(|it| only_outstanding.is_none_or(|only| only == *it)) {
        // With one outstanding each takes the time of a round trip.
        let count = if outstanding == 1 { count / 6 } else { count };
        let mut figures: Vec<(&str, Vec<Figure>)> = Vec::new();
        for round in 0..rounds {
            for (variant, run) in variants().into_iter().filter(|(name, _)| name.contains(&only)) {
                let figure = run(server.address, outstanding, count, round);
                match figures.iter_mut().find(|(name, _)| *name == variant) {
                    Some((_, figures)) => figures.push(figure),
                    None => figures.push((variant, vec![figure])),
                }
            }
        }
        print(outstanding, &figures);
        for (name, of_rounds) in &figures {
            let cpu = median(of_rounds.iter().map(|it| it.cpu_us));
            let case = format!("{outstanding} outstanding / {name}");
            table.push_str(&line(&["cold question", &case, "us of CPU", &format!("{cpu:.3}")]));
        }
    }
    server.child.kill()?;
    server.child.wait()?;
    table_path.map_or(Ok(()), |path| fs::write(path, table))
}

type Run = fn(SocketAddr, usize, usize, usize) -> Figure;

fn variants() -> [(&'static str, Run); 5] {
    [
        ("mailproof, io_uring", uring),
        ("mailproof, epoll", epoll),
        ("with its cache", uring_with_cache),
        ("tokio, a loop", tokio_loop),
        ("hickory 0.26", hickory),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Figure {
    cpu_us: f64,
    per_second: f64,
    /// System calls a question, where they are counted.
    calls: Option<f64>,
}

fn print(outstanding: usize, figures: &[(&str, Vec<Figure>)]) {
    let base = figures.iter().find(|(name, _)| name.starts_with("tokio")).map(|(_, figures)| figures.clone());
    println!("{outstanding} outstanding");
    for (name, of_rounds) in figures {
        let cpu = median(of_rounds.iter().map(|it| it.cpu_us));
        let rate = median(of_rounds.iter().map(|it| it.per_second));
        let ratio = base
            .as_ref()
            .map_or(f64::NAN, |base| median(of_rounds.iter().zip(base).map(|(it, base)| it.cpu_us / base.cpu_us)));
        let calls = of_rounds[0].calls.map_or(String::new(), |_| {
            format!(", {:.3} system calls", median(of_rounds.iter().filter_map(|it| it.calls)))
        });
        println!("  {name:<20} {cpu:>6.2} us of CPU a question, {ratio:>5.2} x tokio, {rate:>7.0} questions/s{calls}");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn uring(server: SocketAddr, outstanding: usize, count: usize, _: usize) -> Figure {
    mailproof(server, outstanding, count, Choice::Uring, 0)
}

/// The others keep nothing; this is what it costs to keep the answers too.
fn uring_with_cache(server: SocketAddr, outstanding: usize, count: usize, _: usize) -> Figure {
    mailproof(server, outstanding, count, Choice::Uring, CacheOptions::default().bytes_max)
}

fn epoll(server: SocketAddr, outstanding: usize, count: usize, _: usize) -> Figure {
    mailproof(server, outstanding, count, Choice::Epoll, 0)
}

/// The engine, asked by a conversation on its own thread, as the milter asks: cache, table of inquiries, sockets and all.
fn mailproof(server: SocketAddr, outstanding: usize, count: usize, backend: Choice, cache_bytes: u64) -> Figure {
    let mut options = NetworkOptions::new(vec![server]);
    (options.threads, options.backend, options.ports) = (1, backend, SOCKETS);
    let cache = CacheOptions { bytes_max: cache_bytes, ..CacheOptions::default() };
    let engine = Engine::builder().network(options).cache(cache).build().unwrap();
    let path = env::temp_dir().join(format!("mailproof-bench-{}.sock", std::process::id()));
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    engine.listen(listener.into(), Arc::new(Asking { outstanding, count, questions: questions().into() })).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let (before, started) = (cpu(), Instant::now());
    let calls = |engine: &Engine| engine.driver_statistics().iter().map(|it| it.waits + it.transfers).sum::<u64>();
    stream.write_all(b"go").unwrap();
    let mut done = String::new();
    BufReader::new(&stream).read_line(&mut done).unwrap();
    assert_eq!(done, "done\n");
    let figure = figure(before, started, count);
    let statistics = engine.network_statistics();
    assert_eq!((statistics.lookups, statistics.failures), (count as u64, 0), "{statistics:?}");
    Figure { calls: Some(calls(&engine) as f64 / count as f64), ..figure }
}

/// Asks so many questions with so many outstanding, then says that it is done.
struct Asking {
    outstanding: usize,
    count: usize,
    questions: Arc<[Question]>,
}

struct Asker {
    questions: Arc<[Question]>,
    outstanding: usize,
    count: usize,
    asked: usize,
    answered: usize,
}

impl Service for Asking {
    fn converse(&self, _: &Engine, _: Peer) -> Box<dyn Conversation> {
        let questions = Arc::clone(&self.questions);
        Box::new(Asker { questions, outstanding: self.outstanding, count: self.count, asked: 0, answered: 0 })
    }
}

impl Asker {
    fn ask(&mut self, host: &mut Host<'_>) {
        if self.asked < self.count {
            host.ask(self.questions[self.asked].clone());
            self.asked += 1;
        }
    }
}

impl Conversation for Asker {
    fn received(&mut self, _: &[u8], host: &mut Host<'_>) {
        for _ in 0..self.outstanding {
            self.ask(host);
        }
    }

    fn answered(&mut self, _: &Question, answer: &Answer, host: &mut Host<'_>) {
        assert!(matches!(answer.outcome(), Outcome::Records(_)), "{answer:?}");
        self.answered += 1;
        self.ask(host);
        if self.answered == self.count {
            host.output().extend_from_slice(b"done\n");
        }
    }

    fn woken(&mut self, _: &mut Host<'_>) {}

    fn drain(&mut self, host: &mut Host<'_>) {
        host.close();
    }

    fn closed(&mut self) {}
}

/// One task on a current-thread runtime, 64 connected sockets, no channel and no timer a question: the least that tokio
/// can be asked to do. It writes queries and matches replies as the engine does, and reads no further.
fn tokio_loop(server: SocketAddr, outstanding: usize, count: usize, _: usize) -> Figure {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
            socket.connect(server).await.unwrap();
            socket.writable().await.unwrap();
            sockets.push(socket);
        }
        let mut random = Random::new(1);
        let questions = questions();
        let mut waiting: Vec<Vec<(u16, Vec<u8>)>> = vec![Vec::new(); SOCKETS];
        let (mut asked, mut answered) = (0, 0);
        let mut ask = |asked: &mut usize, waiting: &mut Vec<Vec<(u16, Vec<u8>)>>| {
            if *asked == count {
                return;
            }
            let drawn = random.next_u64();
            let (id, at) = (drawn as u16, (drawn >> 16) as usize % SOCKETS);
            let options = QueryOptions {
                edns_payload_bytes: Some(1232),
                authentic_data: false,
                case_seed: Some(random.next_u64()),
                pads: false,
            };
            let mut room = [0; wire::QUERY_BYTES_MAX];
            let query = wire::write_query(id, &questions[*asked], &options, &mut room);
            // A full buffer would lose it, and this loop does not ask again.
            sockets[at].try_send(query).unwrap();
            waiting[at].push((id, query.to_vec()));
            *asked += 1;
        };
        let (before, started) = (cpu(), Instant::now());
        for _ in 0..outstanding {
            ask(&mut asked, &mut waiting);
        }
        let mut room = [0; 2048];
        while answered < count {
            std::future::poll_fn(|context| {
                let mut is_ready = false;
                // A socket that nothing is expected on may still count as ready from its last reply.
                for (socket, _) in sockets.iter().zip(&waiting).filter(|(_, waiting)| !waiting.is_empty()) {
                    is_ready |= socket.poll_recv_ready(context).is_ready();
                }
                if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            for at in 0..SOCKETS {
                while !waiting[at].is_empty() {
                    let Ok(length) = sockets[at].try_recv(&mut room) else { break };
                    let id = u16::from_be_bytes([room[0], room[1]]);
                    let is_reply = |(it, query): &(u16, Vec<u8>)| {
                        *it == id && wire::matches(query, &room[..length]) == Match::Exact
                    };
                    let found = waiting[at].iter().position(is_reply).unwrap();
                    waiting[at].swap_remove(found);
                    answered += 1;
                    ask(&mut asked, &mut waiting);
                }
            }
        }
        figure(before, started, count)
    })
}

fn hickory(server: SocketAddr, outstanding: usize, count: usize, _: usize) -> Figure {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let name_server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
        let mut builder = hickory_resolver::Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        (options.cache_size, options.max_active_requests) = (0, 4096);
        (options.attempts, options.timeout) = (5, Duration::from_secs(5));
        let resolver = builder.build().unwrap();
        let texts: std::rc::Rc<[String]> = (0..count).map(|index| format!("{}.", name(index))).collect();
        let asked = std::cell::Cell::new(0);
        let (before, started) = (cpu(), Instant::now());
        let local = tokio::task::LocalSet::new();
        let asked = std::rc::Rc::new(asked);
        let resolver = std::rc::Rc::new(resolver);
        local
            .run_until(async {
                let tasks: Vec<_> = (0..outstanding)
                    .map(|_| {
                        let (asked, resolver) = (std::rc::Rc::clone(&asked), std::rc::Rc::clone(&resolver));
                        let texts = std::rc::Rc::clone(&texts);
                        tokio::task::spawn_local(async move {
                            while asked.get() < count {
                                let text = &texts[asked.replace(asked.get() + 1)];
                                resolver.txt_lookup(text.as_str()).await.unwrap();
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .await;
        figure(before, started, count)
    })
}

fn figure(before: Duration, started: Instant, count: usize) -> Figure {
    let used = cpu() - before;
    let per_second = count as f64 / started.elapsed().as_secs_f64();
    Figure { cpu_us: used.as_secs_f64() * 1e6 / count as f64, per_second, calls: None }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap())
}

/// Made before the clock starts: what is measured is the asking.
fn questions() -> Vec<Question> {
    (0..NAMES).map(|index| Question::new(name(index), RecordType::Txt)).collect()
}

fn name(index: usize) -> Name {
    Name::parse(format!("n{index}.bench.example")).unwrap()
}

struct Running {
    child: Child,
    address: SocketAddr,
}

fn start_server() -> io::Result<Running> {
    let mut child =
        Command::new(env::current_exe()?).arg("--serve").stdout(Stdio::piped()).stdin(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line)?;
    let address = line.trim().parse().map_err(io::Error::other)?;
    Ok(Running { child, address })
}

/// The other process: answers until its standard input ends.
fn serve() -> io::Result<()> {
    pin_to(1);
    let text: String = (0..NAMES)
        .map(|index| format!("n{index}.bench.example:\n- TXT: v=spf1 ip4:192.0.2.1 include:_spf.example -all\n"))
        .collect();
    let zone = Zone::from_yaml(&text).map_err(io::Error::other)?;
    let mut options = Options::default();
    // Replies that leave together let the server keep up with the clients, which are what is measured.
    options.joins = env::var_os("UNJOINED").is_none();
    let server = Server::start_with(zone, Plan::new(0), options)?;
    println!("{}", server.addr());
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// With one processor both processes share it.
fn pin_to(processor: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(processor);
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}
