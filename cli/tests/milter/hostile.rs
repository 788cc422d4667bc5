//! Peers that are slow, cut off, out of order or simply wrong, at the running daemon: no panic, no wrong verdict, bounded
//! memory, and mail goes on.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mailproof_testkit::mail_server::{OFFER, frame};
use mailproof_testkit::random::Random;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::World;
use crate::peer::{connect, envelope, exchange, last_replies, message, reply, send, whole_reply};
use crate::smtp::{PATIENCE, wait_for};

/// A daemon that enforces, so that replies differ by verdict.
fn world(name: &str) -> World {
    World::new(name, "policy.mode = 'enforce'\nthreads = 1")
}

/// The frames of one session of this client, from the offer to the end of a message.
fn frames(address: &str) -> Vec<Vec<u8>> {
    let mut frames = vec![frame(b'O', &OFFER), frame(b'D', b"Cj\0mx.example.net\0")];
    let mut rest = &envelope(address)[..];
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (one, after) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        frames.push(one.to_vec());
        rest = after;
    }
    frames.push(frame(b'D', b"Ni\0HOSTILE\0"));
    frames.extend(message());
    frames
}

/// What holds after whatever was sent: everything is let go of, nothing of ours broke, each breach has its line, nobody
/// passed who may not, and the next message is judged as ever. Gives the count of messages that had a verdict.
fn check_unharmed(world: &World, pass_expected: usize) -> usize {
    wait_for("the end of all connections", || (world.daemon.figure("mailproof_connections") == 0).then_some(()));
    let replies = exchange(world);
    assert_eq!(replies.last().map(Vec::as_slice), Some(&b"c"[..]));
    assert!(String::from_utf8_lossy(&replies[0]).contains("dmarc=pass"), "{replies:?}");
    assert_eq!((world.daemon.figure("mailproof_internal_errors_total"), world.daemon.count("event=panic")), (0, 0));
    let breaches = world.daemon.figure("mailproof_protocol_errors_total");
    wait_for("a line a breach", || (world.daemon.count("event=protocol-error ") as u64 == breaches).then_some(()));
    let actions = ["accept", "quarantine", "reject", "defer"];
    let counts = actions.map(|it| world.daemon.figure(&format!("mailproof_messages_total{{action=\"{it}\"}}")));
    let messages = counts.iter().sum::<u64>() as usize;
    // A disk that is too slow for a moment costs events, and each is counted, in the metric and in the file.
    let dropped = world.daemon.figure("mailproof_events_dropped_total");
    println!("{messages} messages, {dropped} events dropped");
    let read = || {
        let text = fs::read_to_string(world.folder.join("events")).unwrap();
        // The last line may be half written.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let (events, said) = wait_for("the events", || {
        let (said, events): (Vec<_>, Vec<_>) = read().into_iter().partition(|it| it["event"] == "lines-dropped");
        let said: u64 = said.iter().filter_map(|it| it["count"].as_u64()).sum();
        (events.len() as u64 + dropped == messages as u64).then_some((events, said))
    });
    assert_eq!(said, dropped, "the file says what is not in it");
    let has_passed = |event: &&serde_json::Value| {
        let verdict = &event["verdict"];
        verdict["spf"]["result"] == "pass" || verdict["dmarc"]["result"] == "pass"
    };
    let (passed, expected) = (events.iter().filter(has_passed).count(), pass_expected + 1);
    assert!(passed == expected || dropped > 0 && passed < expected, "{passed}, not {expected} with the one at the end");
    messages - 1
}

#[test]
fn a_session_cut_at_any_octet_leaves_nothing_behind() {
    let world = world("cuts");
    let session = frames("127.0.0.5").concat();
    let cuts = session.len();
    for end in 0..cuts {
        let mut stream = TcpStream::connect(world.milter).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&session[..end]).unwrap();
        // Some go without a word; others say that they are done, and hear what there is to hear.
        if end % 2 == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut replies = Vec::new();
            stream.read_to_end(&mut replies).unwrap();
            assert!(!String::from_utf8_lossy(&replies).contains("Authentication-Results"), "{end}");
        }
    }
    let quit = frame(b'Q', b"");
    for end in 0..=quit.len() {
        let mut stream = TcpStream::connect(world.milter).unwrap();
        stream.write_all(&session).unwrap();
        assert_eq!((reply(&mut stream), reply(&mut stream)), (b'O', b's'));
        last_replies(&mut stream).unwrap();
        stream.write_all(&quit[..end]).unwrap();
    }
    wait_for("the last connection", || (world.daemon.figure("mailproof_connections") == 0).then_some(()));
    let aborted = world.daemon.figure("mailproof_messages_aborted_total");
    let judged = check_unharmed(&world, quit.len() + 1);
    println!("{} cuts: {aborted} messages given up, {judged} judged", cuts + quit.len() + 1);
    assert_eq!(judged, quit.len() + 1, "those whose end had come");
    assert_eq!(world.daemon.figure("mailproof_protocol_errors_total"), 0);
}

/// The daemon takes each octet by itself: before the next one is sent, it has answered somebody else on the same thread.
#[test]
fn a_session_one_octet_at_a_time_is_judged_as_ever() {
    let world = world("octets");
    let mut watcher = TcpStream::connect(world.daemon.status()).unwrap();
    watcher.set_nodelay(true).unwrap();
    let mut stream = UnixStream::connect(world.folder.join("milter.sock")).unwrap();
    let session = frames("127.0.0.5").concat();
    for octet in session {
        stream.write_all(&[octet]).unwrap();
        watcher.write_all(b"GET /-/healthy HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nHealthy\n") {
            let mut octet = [0];
            watcher.read_exact(&mut octet).unwrap();
            answer.extend(octet);
        }
    }
    assert_eq!((reply(&mut stream), reply(&mut stream)), (b'O', b's'), "to the offer and the body");
    let replies = last_replies(&mut stream).unwrap();
    assert!(String::from_utf8_lossy(&replies[0]).contains("dmarc=pass"), "{replies:?}");
    drop(stream);
    check_unharmed(&world, 1);
}

/// The same with the clock of the machine: header and body take minutes, longer than any answer may.
#[test]
#[ignore = "takes seven minutes: make test-long"]
fn a_session_of_one_octet_a_second_is_judged_as_ever() {
    let world = world("seconds");
    // The walk of DMARC and both keys are asked for long after the message began.
    let text = "DKIM-Signature: v=1; a=rsa-sha256; d=good.example; s=r; h=from; bh=AAAA; b=AAAA\r\n\
                DKIM-Signature: v=1; a=ed25519-sha256; d=good.example; s=e; h=from; bh=AAAA; b=AAAA\r\n\
                From: ann@good.example\r\n\r\nHello.\r\n";
    let mut stream = connect(&world);
    let octets =
        [vec![envelope("127.0.0.5")], mailproof_testkit::mail_server::message_frames(text.as_bytes()).unwrap()];
    for octet in octets.concat().concat() {
        stream.write_all(&[octet]).unwrap();
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(reply(&mut stream), b'c', "to the body");
    let replies = last_replies(&mut stream).unwrap();
    let said = String::from_utf8_lossy(&replies[0]).into_owned();
    assert!(said.contains("dmarc=pass") && !said.contains("temperror"), "{said}");
    drop(stream);
    check_unharmed(&world, 1);
}

#[test]
fn sessions_of_any_kind_do_no_harm() {
    fuzz(1500);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn very_many_sessions_of_any_kind_do_no_harm() {
    fuzz(60_000);
}

/// Sessions that are changed at random, all of a client that may not send for its domain.
fn fuzz(sessions: u64) {
    let seed = std::env::var("MAILPROOF_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    println!("MAILPROOF_SEED={seed}");
    let world = world(&format!("fuzz{sessions}"));
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for part in 0..THREADS {
                let milter = world.milter;
                scope.spawn(move || {
                    let cases = (round * sessions / ROUNDS..(round + 1) * sessions / ROUNDS).skip(part);
                    for case in cases.step_by(THREADS) {
                        attack(milter, &mut Random::of_case(seed, case));
                    }
                });
            }
        });
        resident.push(world.daemon.resident_kib());
    }
    let judged = check_unharmed(&world, 0);
    let breaches = world.daemon.figure("mailproof_protocol_errors_total");
    // Changed names are asked for and remembered; that has a bound of its own.
    let remembered = world.daemon.figure("mailproof_dns_cache_bytes") / 1024;
    println!(
        "{sessions} sessions: {judged} messages judged, {} given up, {breaches} breaches of the protocol; resident KiB \
         {resident:?}, {remembered} of them answers",
        world.daemon.figure("mailproof_messages_aborted_total"),
    );
    assert!(judged as u64 > sessions / 20 && breaches > sessions / 10, "both sides are reached");
    let (middle, last) = (resident[resident.len() / 2], resident[resident.len() - 1]);
    // A disk that stalls makes events wait: 4 MiB of them at most while as many are written.
    let waiting = 2 * 4 * 1024;
    assert!(last < middle + remembered + waiting + 4 * 1024, "it grows on and on: {resident:?}");
}

/// One changed session; it ends when the daemon has nothing more to say.
pub(crate) fn attack(milter: SocketAddr, random: &mut Random) {
    let mut octets = Vec::new();
    for frame in sequence(random) {
        octets.extend(frame);
    }
    for _ in 0..random.weighted(&[70, 20, 10]) {
        let at = random.below(octets.len());
        octets[at] = random.number() as u8;
    }
    if random.chance(10) {
        octets.truncate(random.below(octets.len()));
    }
    let mut stream = TcpStream::connect(milter).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hear = stream.try_clone().unwrap();
    let mut rest = &octets[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.between(1, rest.len()));
        // The daemon may have ended the connection, as it must.
        if stream.write_all(piece).is_err() {
            break;
        }
        rest = after;
    }
    let _ = stream.shutdown(Shutdown::Write);
    match io::copy(&mut hear, &mut io::sink()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "the connection ends"),
    }
}

/// Frames of one or several messages, left out, repeated, exchanged, of wrong lengths, or of no kind there is.
fn sequence(random: &mut Random) -> Vec<Vec<u8>> {
    let whole = frames("127.0.0.6");
    let mut frames = whole.clone();
    for _ in 0..random.below(4) {
        frames.extend_from_slice(&whole[MAIL_FROM..]);
    }
    if random.chance(50) {
        frames.push(frame(b'Q', b""));
    }
    for _ in 0..random.weighted(&[40, 30, 20, 10]) {
        let (at, other) = (random.below(frames.len()), random.below(frames.len()));
        match random.below(8) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(at, frames[other].clone()),
            2 => frames.swap(at, other),
            3 => frames.insert(at, frame(b"AQKUTDOZ\0\xff"[random.below(10)], &[])),
            4 => frames.insert(at, frame(random.number() as u8, &vec![random.number() as u8; random.below(600)])),
            5 => frames.insert(at, frame(b'B', &vec![b'x'; random.below(66_000)])),
            _ => change_length(&mut frames[at], random),
        }
        if frames.is_empty() {
            frames.push(frame(b'A', b""));
        }
    }
    frames
}

fn change_length(frame: &mut [u8], random: &mut Random) {
    let length = u32::from_be_bytes(*frame.first_chunk().unwrap());
    let changed = match random.below(6) {
        0 => 0,
        1 => length.wrapping_sub(1),
        2 => length.wrapping_add(1),
        3 => u32::MAX,
        4 => 1 << random.below(32),
        _ => random.number() as u32,
    };
    frame[..4].copy_from_slice(&changed.to_be_bytes());
}

/// Peers that stall in the midst of a body hold no more than the header of their message.
#[test]
fn connections_that_stall_cost_little_and_hold_up_nobody() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let world = world("stalled");
    // A header as mail has it.
    let header =
        format!("From: ann@good.example\r\nReceived: {}\r\n\r\n", "from a.example by b.example;\r\n\t".repeat(100));
    let text = format!("{header}{}", "A line of the body.\r\n".repeat(1000));
    let frames = mailproof_testkit::mail_server::message_frames(text.as_bytes()).unwrap();
    let start =
        [vec![frame(b'O', &OFFER), envelope("127.0.0.5")], frames[..frames.len() - 2].to_vec()].concat().concat();
    let body = &frames[frames.len() - 2];
    let socket = world.folder.join("milter.sock");
    let stall = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(&start).unwrap();
        whole_reply(&mut stream).unwrap();
        stream.write_all(&body[..body.len() / 2]).unwrap();
        stream
    };
    let first = stall();
    (0..5).for_each(|_| drop(exchange(&world)));
    let before = world.daemon.resident_kib();
    let stalled: Vec<UnixStream> = (0..STALLED).map(|_| stall()).collect();
    wait_for("the connections", || (world.daemon.figure("mailproof_connections") > STALLED).then_some(()));
    let began = Instant::now();
    for _ in 0..100 {
        assert!(String::from_utf8_lossy(&exchange(&world)[0]).contains("dmarc=pass"));
    }
    let each = (world.daemon.resident_kib() - before) as f64 / STALLED as f64;
    println!("{STALLED} stalled connections: {each:.1} KiB each; 100 messages beside them in {:?}", began.elapsed());
    assert!(each <= 64.0, "{each} KiB");
    drop((first, stalled));
    check_unharmed(&world, 105);
}

/// Ends of a message that are sent again and again while the first is still being decided.
#[test]
fn a_message_that_is_ended_twice_ends_its_connection() {
    let world = world("twice");
    let mut stream = connect(&world);
    stream.write_all(&envelope("127.0.0.5")).unwrap();
    send(&mut stream, &message()).unwrap();
    last_replies(&mut stream).unwrap();
    stream.write_all(&frame(b'E', b"")).unwrap();
    assert_eq!(whole_reply(&mut stream).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let lines =
        wait_for("the line", || Some(world.daemon.lines_with("event=protocol-error")).filter(|it| it.len() == 1));
    assert!(lines[0].contains("reason=command-out-of-order"), "{lines:?}");
    check_unharmed(&world, 1);
}

/// Where a message begins among the frames of a session.
const MAIL_FROM: usize = 4;
const THREADS: usize = 4;
/// After each of them memory is looked at.
const ROUNDS: u64 = 10;
const STALLED: u64 = 1900;
