//! The process itself: configuration faults, systemd, signals, limits; and Debian's miltertest in place of a mail server.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mailproof_testkit::mail_server::{OFFER, client, frame};

use crate::daemon::figure;
use crate::peer::{self, begin_message, connect, exchange, last_replies, message, reply, rest};
use crate::smtp::{PATIENCE, free_port, wait_for};
use crate::{World, mail_server};

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailproof-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mailproof(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailproof")).args(arguments).output().unwrap()
}

#[test]
fn configurations_that_can_not_be_used_are_78_with_file_line_and_key() {
    let folder = Folder::new("config");
    let bad = folder.file("bad.toml", "\n[policy]\nmode = 'obey'\n");
    let group = folder.file("group.toml", "socket-group = 'no such group'\n");
    let lines = "[signing]\nopendkim-key-table='k=a.example:s:/nonexistent'\nopendkim-signing-table = '*=m'\n";
    let table = folder.file("table.toml", lines);
    let key = folder.file("key.toml", "[[signing.key]]\ndomain='a.example'\nselector='s'\nfile='/nonexistent'\n");
    for (file, said) in [
        (&bad, format!("mailproof: {bad}:3: policy.mode: unknown variant `obey`")),
        (&group, format!("mailproof: {group}:1: socket-group: there is no group `no such group`")),
        (&key, format!("mailproof: {key}:4: signing.key[0].file: /nonexistent: ")),
        (&table, format!("mailproof: {table}:3: signing.opendkim-signing-table: csl:1: `m` is not in the key table")),
        (&"/nonexistent.toml".to_owned(), "mailproof: /nonexistent.toml: ".to_owned()),
    ] {
        for arguments in [&["check-config", file][..], &["milter", "--config", file]] {
            let output = mailproof(arguments);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(78) && error.starts_with(&said), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
    let good = folder.file("good.toml", "authserv-id = 'mx.example.net'\nresolvers = ['192.0.2.53']\n");
    let output = mailproof(&["check-config", &good]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), said),
        (Some(0), format!("{good}: good: results as mx.example.net, mode observe, keys 0\n"))
    );
}

#[test]
fn a_new_key_is_for_few_eyes_and_never_replaces_another() {
    let folder = Folder::new("keygen");
    let file = folder.0.join("k.pem").display().to_string();
    let arguments = ["keygen", "--domain", "example.net", "--selector", "s1", "--kind", "ed25519", "--file", &file];
    let output = mailproof(&arguments);
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.starts_with("s1._domainkey.example.net. IN TXT ( \"v=DKIM1; k=ed25519; p="), "{line}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o027, 0);
    let record = mailproof(&["sign", "--print-record", "--key", &file]).stdout;
    let record = String::from_utf8(record).unwrap();
    assert_eq!(line.split('"').nth(1), record.split('"').nth(1));
    assert_eq!(mailproof(&arguments).status.code(), Some(73));
    for (option, value) in [("--domain", "a b"), ("--selector", "a b")] {
        let mut arguments = arguments.to_vec();
        let at = arguments.iter().position(|it| *it == option).unwrap() + 1;
        arguments[at] = value;
        assert_eq!(mailproof(&arguments).status.code(), Some(64));
    }
}

#[test]
fn sockets_of_systemd_are_taken_and_it_hears_what_happens() {
    let folder = Folder::new("systemd");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut room = [0; 256];
        let length = heard.recv(&mut room).unwrap();
        String::from_utf8_lossy(&room[..length]).into_owned()
    };
    let config = folder.file("m.toml", "listen = ['systemd:milter']\nresolvers = ['127.0.0.1:9']\n");
    // The socket has to be the third descriptor, and the process to have the ID that the environment names.
    let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=milter; \
                  exec \"$0\" milter --config \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mailproof"), &config])
        .env("NOTIFY_SOCKET", folder.0.join("notify"))
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(hear().starts_with("READY=1\n"));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&frame(b'O', &[0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff])).unwrap();
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[4], b'O');
    let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    signal("-HUP");
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(hear().starts_with("READY=1\n"));
    signal("-TERM");
    assert!(hear().starts_with("STOPPING=1\n"));
    assert!(child.wait().unwrap().success());
    let missing = folder.file("n.toml", "listen = ['systemd:other']\nresolvers = ['127.0.0.1:9']\n");
    let output = mailproof(&["milter", "--config", &missing]);
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_message_under_way_ends_before_the_process() {
    let mut world = World::new("drain", "");
    let idle = connect(&world);
    let mut busy = begin_message(&world);
    assert!(world.daemon.page("/-/ready").starts_with("HTTP/1.1 200"));
    world.daemon.signal("TERM");
    assert_eq!(rest(idle), "", "an idle connection ends at once");
    busy.write_all(&[frame(b'N', b""), frame(b'B', b"Hello.\r\n"), frame(b'E', b"")].concat()).unwrap();
    let replies = rest(busy);
    assert!(replies.contains("dmarc=pass") && replies.ends_with("\0\0\0\x01c"), "{replies:?}");
    assert_eq!(world.daemon.wait(), Some(0));
    assert!(!world.folder.join("milter.sock").exists());
}

#[test]
fn a_second_signal_does_not_wait_for_messages() {
    let mut world = World::new("second", "");
    let busy = begin_message(&world);
    world.daemon.signal("TERM");
    wait_for("the first signal", || (world.daemon.count("event=stop ") == 1).then_some(()));
    world.daemon.signal("TERM");
    assert_eq!(rest(busy), "");
    assert_eq!(world.daemon.wait(), Some(0));
    wait_for("the last line", || (world.daemon.count("event=end") == 1).then_some(()));
}

#[test]
fn idle_connections_end_and_too_many_wait() {
    let mut world = World::new("limits", "");
    world.restart(&format!("{}\nidle-seconds = 1\nconnections-max = 1\nio-backend = 'epoll'", world.base));
    assert_eq!(world.daemon.figure("mailproof_io_backend_info{backend=\"epoll\"}"), 1);
    let first = connect(&world);
    let mut second = TcpStream::connect(world.milter).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    second.write_all(&frame(b'O', &[0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff])).unwrap();
    assert!(second.read(&mut [0; 1]).is_err(), "it waits for the first");
    assert_eq!(world.daemon.figure("mailproof_connections"), 1);
    assert_eq!(rest(first), "", "nothing happened on it");
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 1);
}

/// Neither the log nor the event stream finds room: `/dev/full` answers every write with "no space left on device".
#[test]
fn a_log_and_events_that_take_nothing_stop_no_mail() {
    let folder = Folder::new("full");
    let (socket, status) = (folder.0.join("m.sock"), free_port());
    let text = format!(
        "listen = ['unix:{}']\nstatus-listen = ['tcp:127.0.0.1:{status}']\nresolvers = ['127.0.0.1:9']\n\
         events.to = 'file:/dev/full'\n",
        socket.display()
    );
    let config = folder.file("m.toml", &text);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailproof"))
        .args(["milter", "--config", &config])
        .stderr(full)
        .spawn()
        .unwrap();
    for _ in 0..3 {
        let mut stream = wait_for("the socket", || UnixStream::connect(&socket).ok());
        stream.write_all(&frame(b'O', &OFFER)).unwrap();
        assert_eq!(reply(&mut stream), b'O');
        stream.write_all(&[client("localhost", None), frame(b'M', b"<ann@good.example>\0")].concat()).unwrap();
        peer::send(&mut stream, &message()).unwrap();
        assert_eq!(last_replies(&mut stream).unwrap(), [b"c"]);
        // Hostile, so a line of the log is due too.
        stream.write_all(&[0; 4]).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    let status = ([127, 0, 0, 1], status).into();
    wait_for("what was dropped", || (figure(status, "mailproof_events_dropped_total") == 3).then_some(()));
    // The start, a line a message and a line a breach.
    wait_for("what was dropped", || (figure(status, "mailproof_log_lines_dropped_total") == 7).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The file of events may grow no more, in the midst of a line; later there is room again.
#[test]
fn a_disk_that_is_full_for_a_while_costs_events_and_no_mail() {
    let world = World::new("disk", "");
    let events = world.folder.join("events");
    let read = || fs::read_to_string(&events).unwrap();
    let limit = |octets: &str| {
        let id = world.daemon.id().to_string();
        let status = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={octets}:")]).status().unwrap();
        assert!(status.success());
    };
    exchange(&world);
    let one = wait_for("an event", || Some(read()).filter(|text| text.ends_with('\n')));
    limit(&(one.len() + 100).to_string());
    for dropped in 1..=3 {
        assert_eq!(exchange(&world).last().unwrap(), b"c", "mail goes on");
        wait_for("the count", || (world.daemon.figure("mailproof_events_dropped_total") == dropped).then_some(()));
    }
    assert_eq!(read(), one, "half a line would spoil the next");
    limit("unlimited");
    exchange(&world);
    let two = wait_for("another event", || Some(read()).filter(|text| text.lines().count() == 2));
    two.lines().for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
    assert_eq!(world.daemon.figure("mailproof_events_dropped_total"), 3);
}

/// Whoever reads the events may not be there yet, may go and come back, and may stop reading: mail goes on.
#[test]
fn readers_of_events_come_and_go() {
    let folder = Folder::new("readers");
    let path = folder.0.join("events.sock");
    let mut world = World::new("readers-world", "");
    let file = format!("file:{}", world.folder.join("events").display());
    let base = world.base.replace(&file, &format!("unix:{}", path.display()));
    world.restart(&format!("{base}\nlog.format = 'json'"));
    let dropped = || world.daemon.figure("mailproof_events_dropped_total");
    exchange(&world);
    wait_for("the first to be dropped", || (dropped() == 1).then_some(()));
    for round in 1..=2 {
        let listener = UnixListener::bind(&path).unwrap();
        exchange(&world);
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["v"], &event["verdict"]["dmarc"]["result"]), (&1.into(), &"pass".into()), "{round}");
        fs::remove_file(&path).unwrap();
        // That the reader has gone shows at the next event at the latest.
        let before = dropped();
        wait_for("a reader that has gone", || {
            exchange(&world);
            (dropped() > before).then_some(())
        });
    }
    let _stalled = UnixListener::bind(&path).unwrap();
    let before = dropped();
    // The socket takes some, then nothing more; the writer does not wait for long, the mail not at all.
    let slowest = wait_for("a reader that stalls", || {
        let began = Instant::now();
        exchange(&world);
        (dropped() > before).then(|| began.elapsed())
    });
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let lines = world.daemon.lines_with("\"event\":\"message\"");
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["dmarc"], &line["action"]), (&"pass".into(), &"accept".into()));
}

/// The unit as it is shipped: well formed, and every door shut that can be.
#[test]
fn the_units_are_right_for_systemd() {
    let folder = Folder::new("units");
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        mail_server::skip("systemd-analyze (Debian package systemd)");
        return;
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../milter/systemd");
    let unit = |name: &str| {
        let text = fs::read_to_string(units.join(name)).unwrap();
        // The path of the program alone differs on this machine.
        folder.file(name, &text.replace("/usr/bin/mailproof", env!("CARGO_BIN_EXE_mailproof")))
    };
    let (service, socket) = (unit("mailproof-milter.service"), unit("mailproof-milter.socket"));
    let output = analyze(&["verify", "--man=no", &service, &socket]).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !said.contains("mailproof"), "{said}");
    // In tenths: 2.0 of 10 is what it may expose at the most.
    let output = analyze(&["security", "--offline=true", "--threshold=20", &service]).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
}

#[test]
fn miltertest_is_content() {
    let Some(root) = mail_server::root() else { return };
    let world = World::new("miltertest", "policy.mode = 'enforce'");
    for name in ["session", "aborts", "negotiation"] {
        let script = format!("tests/milter/miltertest/{name}.lua");
        let output = Command::new(root.join("usr/bin/miltertest"))
            .args(["-v", "-D"])
            .arg(format!("socket=inet:{}@127.0.0.1", world.milter.port()))
            .arg("-s")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {said}");
    }
    assert_eq!(world.daemon.figure("mailproof_messages_aborted_total"), 51);
    assert_eq!(world.daemon.figure("mailproof_protocol_errors_total"), 0);
}

/// Mail servers send header fields in pieces and wait for no reply to them; without an acknowledgement at once each message
/// would take 40 ms more.
#[test]
fn small_pieces_over_tcp_are_not_held_up() {
    let world = World::new("pieces", "");
    let mut stream = connect(&world);
    stream.write_all(&frame(b'C', b"mail.good.example\x004\x00\x19127.0.0.5\0")).unwrap();
    stream.write_all(&frame(b'H', b"mail.good.example\0")).unwrap();
    let mut messages = |count: usize| {
        let began = Instant::now();
        for _ in 0..count {
            stream.write_all(&frame(b'M', b"<ann@good.example>\0")).unwrap();
            for field in [&b"From\0 ann@good.example\0"[..], b"To\0 b@example.net\0", b"Subject\0 pieces\0"] {
                stream.write_all(&frame(b'L', field)).unwrap();
            }
            stream.write_all(&frame(b'N', b"")).unwrap();
            stream.write_all(&frame(b'E', b"")).unwrap();
            while reply(&mut stream) != b'c' {}
        }
        began.elapsed()
    };
    // On a machine that is busy one of several tries is quick.
    let quickest = (0..5).map(|_| messages(10)).min().unwrap();
    assert!(quickest < Duration::from_millis(250), "{quickest:?} for 10 messages");
}
