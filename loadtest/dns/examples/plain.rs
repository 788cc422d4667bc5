//! How many queries a second plain mode answers, and what CPU time each takes.
//!
//! `cargo run --release -p mailproof-fault-dns --example plain -- [SECONDS [IN_FLIGHT [THREADS [JOINS]]]]`
//!
//! The client keeps a number of queries in flight from a few sockets, in batches, and checks the length and the ID of
//! every reply. With JOINS 0 neither side lets datagrams travel together, and with 1 only the server does; the client
//! is the slower of the two then. Where there are two CPUs the server has the first and the client the second.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use std::{env, fs};

use mailproof::zone::Zone;
use mailproof_fault_dns::datagrams::{BATCH, Received, ToSend};
use mailproof_fault_dns::{Options, Plan, Server};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::SockaddrStorage;
use nix::unistd::Pid;

/// Different questions, asked in turn.
const NAMES: usize = 1000;
/// Sockets of the client, so that several threads have something to do.
const SOCKETS: usize = 8;
/// A reply that has not come by then is lost, and its place in flight is free again.
const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, otherwise: u64| numbers.get(at).copied().unwrap_or(otherwise);
    let time = Duration::from_secs(number(0, 5));
    let in_flight = number(1, 512) as usize;
    let mut options = Options::default();
    options.threads = number(2, 1) as usize;
    options.joins = number(3, 2) > 0;
    options.pins = options.threads == 1;
    let text: String =
        (0..NAMES).map(|index| format!("{}:\n- TXT: v=spf1 ip4:192.0.2.{} -all\n", name(index), index % 256)).collect();
    let server = Server::start_with(Zone::from_yaml(&text)?, Plan::new(0), options)?;
    if options.pins {
        let mut set = CpuSet::new();
        set.set(1)?;
        // With one CPU both share it.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
    let mut client = Client::new(&server, number(3, 2) > 1)?;
    client.run(Duration::from_millis(300), in_flight)?;
    let (before, start) = (server_cpu()?, Instant::now());
    let count = client.run(time, in_flight)?;
    let (cpu, wall) = (server_cpu()?.saturating_sub(before), start.elapsed());
    println!(
        "{count} replies in {:.2} s: {:.0} queries/s; server CPU {:.2} us a query, one core is good for {:.0}/s; {} lost",
        wall.as_secs_f64(),
        count as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        count as f64 / cpu.as_secs_f64(),
        client.lost,
    );
    println!("{}", server.statistics());
    Ok(())
}

struct Client {
    sockets: Vec<UdpSocket>,
    server: SockaddrStorage,
    received: Received,
    to_send: ToSend,
    queries: Vec<Vec<u8>>,
    next: usize,
    lost: usize,
}

impl Client {
    fn new(server: &Server, joins: bool) -> Result<Self, Box<dyn Error>> {
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_nonblocking(true)?;
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            server: server.addr().into(),
            received: Received::new(),
            to_send: if joins { ToSend::new() } else { ToSend::new().without_joining() },
            queries: (0..NAMES).map(query).collect(),
            next: 0,
            lost: 0,
        })
    }

    /// Asks for this long; gives the replies.
    fn run(&mut self, time: Duration, in_flight: usize) -> Result<usize, Box<dyn Error>> {
        let share = (in_flight / SOCKETS).max(1);
        let mut open = [0_usize; SOCKETS];
        let (mut count, mut last) = (0, Instant::now());
        let end = Instant::now() + time;
        while Instant::now() < end || open.iter().any(|open| *open > 0) {
            let is_over = Instant::now() >= end;
            for (socket, open) in self.sockets.iter().zip(&mut open) {
                let got = self.received.receive(socket)?;
                for (reply, _) in self.received.iter() {
                    if reply.len() < 40 || reply.get(3) != Some(&0x80) {
                        return Err("not the reply of this zone".into());
                    }
                }
                count += got;
                *open = open.saturating_sub(got);
                if got > 0 {
                    last = Instant::now();
                }
                // In batches, or each reply would wake the server.
                while !is_over && share - *open >= share.min(BATCH) {
                    let batch = share.min(BATCH);
                    for _ in 0..batch {
                        self.next = (self.next + 1) % NAMES;
                        let query = self.queries.get(self.next).ok_or("no query")?;
                        self.to_send.add(self.server, |out| out.extend_from_slice(query));
                    }
                    *open += self.to_send.send(socket);
                }
            }
            if last.elapsed() > PATIENCE {
                self.lost += open.iter().sum::<usize>();
                open = [0; SOCKETS];
                last = Instant::now();
            }
        }
        Ok(count)
    }
}

fn name(index: usize) -> String {
    format!("sender-{index}.example")
}

fn query(index: usize) -> Vec<u8> {
    let mut out = (index as u16).to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name(index).split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    // TXT, IN, and an OPT record of 1232 octets.
    out.extend_from_slice(b"\0\0\x10\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0");
    out
}

/// CPU time of the server's threads, as the kernel counts it in nanoseconds.
fn server_cpu() -> Result<Duration, Box<dyn Error>> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        if fs::read_to_string(folder.join("comm"))?.starts_with("fault-dns-") {
            let text = fs::read_to_string(folder.join("schedstat"))?;
            nanoseconds += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}
