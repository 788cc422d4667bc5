//! Both ends of SMTP: a client that says what it is told, and a server that keeps what it gets.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Longer than anything takes here, also on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a mail server.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects from an address of loopback and says EHLO.
    pub(crate) fn connect(server: SocketAddr, from: IpAddr, helo: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&server.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream: BufReader::new(stream) };
        let greeting = client.reply()?;
        let hello = if greeting.starts_with("220") { client.say(&format!("EHLO {helo}"))? } else { greeting };
        if hello.starts_with("250") { Ok(client) } else { Err(io::Error::other(hello)) }
    }

    /// Says a line and gives the reply.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<String> {
        self.write(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    pub(crate) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// A reply, its lines joined by LF.
    pub(crate) fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(line.trim_end());
            if is_last {
                return Ok(reply);
            }
            reply.push('\n');
        }
    }

    /// Sends one message; gives the reply that decided about it.
    pub(crate) fn send(&mut self, mail_from: &str, recipients: &[&str], message: &str) -> io::Result<String> {
        let mail = self.say(&format!("MAIL FROM:<{mail_from}>"))?;
        if !mail.starts_with('2') {
            return Ok(mail);
        }
        for recipient in recipients {
            let reply = self.say(&format!("RCPT TO:<{recipient}>"))?;
            if !reply.starts_with('2') {
                self.say("RSET")?;
                return Ok(reply);
            }
        }
        let data = self.say("DATA")?;
        if !data.starts_with('3') {
            return Ok(data);
        }
        let stuffed: String =
            message.lines().map(|line| format!("{}{line}\r\n", &"."[..usize::from(line.starts_with('.'))])).collect();
        self.write(stuffed.as_bytes())?;
        self.say(".")
    }
}

/// Where mail ends: an SMTP server that takes everything.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    arrived: Receiver<String>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, arrived) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let send = send.clone();
                thread::spawn(move || serve(stream, &send));
            }
        });
        Self { address, arrived }
    }

    /// The next message, as it came; its lines end with CRLF.
    pub(crate) fn next(&self) -> String {
        self.arrived.recv_timeout(PATIENCE).expect("a message arrives")
    }

    /// Everything that has come up to now.
    pub(crate) fn drain(&self) -> Vec<String> {
        self.arrived.try_iter().collect()
    }
}

fn serve(stream: TcpStream, arrived: &Sender<String>) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream);
    out.write_all(b"220 sink.example ESMTP\r\n").ok()?;
    let mut next = || {
        let mut line = Vec::new();
        (lines.read_until(b'\n', &mut line).ok()? > 0).then(|| String::from_utf8_lossy(&line).into_owned())
    };
    loop {
        let line = next()?;
        let reply = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "DATA" => {
                out.write_all(b"354 go on\r\n").ok()?;
                let mut message = String::new();
                loop {
                    let line = next()?;
                    if line == ".\r\n" {
                        break;
                    }
                    message.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                arrived.send(message).ok()?;
                "250 taken\r\n"
            }
            "QUIT" => {
                out.write_all(b"221 bye\r\n").ok()?;
                return Some(());
            }
            "EHLO" => "250-sink.example\r\n250 8BITMIME\r\n",
            _ => "250 good\r\n",
        };
        out.write_all(reply.as_bytes()).ok()?;
    }
}

/// Tries until there is a result; panics when there is none for too long.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A port of loopback that nobody has at the moment. Not one of those that the kernel chooses for connections: it would give
/// it away whenever the process that listens there is started again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_process = (std::process::id() * 64 % u32::from(PORTS)) as u16;
    loop {
        let number = of_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", FIRST_PORT + number)).is_ok() {
            return FIRST_PORT + number;
        }
    }
}

const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;
