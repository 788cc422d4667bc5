//! Mailproof beside those that do the same work: interleaved in one run, every verdict checked, the ratio case by case.
//!
//! `cargo run --release -p mailproof-benches --example compare [-- --table FILE] [--rounds N]`
//!
//! Everybody gets the same octets and the same DNS from memory. In each round every rival has its turn on a case, for about
//! as long as the others; the median of the rounds is what is printed, and the least beside it. Three cases do not pass: who
//! lets them through is `wrong`, however fast, also in the record. When Mailproof is, the exit code is 1.
//!
//! `scripts/bench.sh` puts the rivals in other languages where they are looked for, and keeps the figures. What a question
//! to a server costs beside hickory-resolver is measured by the bench `dns`, and kept as the table `cold question`.

mod rival;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use mailproof_benches::comparison::{Finding, OURS, Words, ours_are_right};
use mailproof_benches::messages::{CLIENT, HELO, Kind, MAIL_FROM, SIZES_KIB, message, texts};

use self::rival::Rival;

/// A message, and what is true of it.
struct Task {
    name: String,
    path: PathBuf,
    client: IpAddr,
    expected: Words,
}

const ROUNDS: usize = 9;
/// How long a turn is, about.
const TURN: Duration = Duration::from_millis(8);

fn main() -> io::Result<ExitCode> {
    let argument = |name: &str| env::args().skip_while(|it| it != name).nth(1);
    let rounds = argument("--rounds").and_then(|it| it.parse().ok()).unwrap_or(ROUNDS).max(1);
    let folder = PathBuf::from("target/bench/compare");
    fs::create_dir_all(&folder)?;
    let tasks = tasks(&folder)?;
    let (mut rivals, absent) = rival::all(&folder);
    let (mut table, mut are_right) = (String::new(), true);
    for task in &tasks {
        let finding = |rival: &Rival| Finding { name: rival.name(), does: rival.does(), ..Finding::default() };
        let mut findings: Vec<Finding> = rivals.iter().map(finding).collect();
        let mut counts = vec![1; rivals.len()];
        for round in 0..=rounds {
            for (at, rival) in rivals.iter_mut().enumerate() {
                turn(rival, task, &mut counts[at], &mut findings[at], round > 0);
            }
        }
        print(task, &findings)?;
        table.extend(findings.iter().map(|finding| finding.line(&task.name)));
        are_right &= ours_are_right(&findings);
    }
    for (name, reason) in &absent {
        println!("{name:<36} left out: {reason}");
    }
    argument("--table").map_or(Ok(()), |path| fs::write(path, table))?;
    if !are_right {
        eprintln!("compare: Mailproof itself is wrong");
    }
    Ok(if are_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One turn; the first finds out how many messages a turn takes, and does not count.
fn turn(rival: &mut Rival, task: &Task, count: &mut u32, finding: &mut Finding, counts: bool) {
    if finding.wrong.is_some() {
        return;
    }
    match rival.judge(task.client, &task.path, *count) {
        Ok((words, took)) => {
            finding.wrong = words.difference(&task.expected);
            let each = took.as_secs_f64() / f64::from(*count);
            if counts {
                finding.times.push(each * 1e6);
            }
            *count = (TURN.as_secs_f64() / each.max(1e-7)).clamp(1.0, 10_000.0) as u32;
        }
        Err(error) => finding.wrong = Some(format!("does not answer: {error}")),
    }
}

fn print(task: &Task, findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", task.name)?;
    for finding in findings {
        // Beside Mailproof doing as much, or else the whole.
        let own = findings.iter().find(|it| it.name.starts_with(OURS) && it.does == finding.does);
        writeln!(out, "{}", finding.text(own.unwrap_or(&findings[0])))?;
    }
    Ok(())
}

fn tasks(folder: &Path) -> io::Result<Vec<Task>> {
    let zone: serde_json::Map<String, serde_json::Value> =
        texts().into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    let world = serde_json::json!({"zone": zone, "helo": HELO, "mail_from": MAIL_FROM});
    fs::write(folder.join("world.json"), world.to_string())?;
    // The same for programs that do not read JSON.
    let mut world = format!("helo {HELO}\nmail_from {MAIL_FROM}\n");
    world.extend(texts().into_iter().map(|(name, text)| format!("txt {name} {text}\n")));
    fs::write(folder.join("world.txt"), world)?;
    let mut tasks = Vec::new();
    let mut add = |name: String, octets: Vec<u8>, client, expected| {
        let path = folder.join(format!("{}.eml", name.replace([' ', ','], "-")));
        fs::write(&path, octets)?;
        tasks.push(Task { name, path, client, expected });
        io::Result::Ok(())
    };
    for (kind, kib) in SIZES_KIB.into_iter().flat_map(|kib| Kind::ALL.map(|kind| (kind, kib))) {
        add(format!("{kib}KiB {}", kind.name()), message(kind, kib), CLIENT, Words::new("pass", "pass", "pass"))?;
    }
    // One letter of the body, and one of the signed header: SPF still aligns, so DMARC passes.
    let (body, subject) = (&b"</body>"[..], &b"Subject: "[..]);
    let signature_fails = Words::new("pass", "fail", "pass");
    add("30KiB html, body altered".to_owned(), altered(body), CLIENT, signature_fails.clone())?;
    add("30KiB html, subject altered".to_owned(), altered(subject), CLIENT, signature_fails)?;
    let all_fail = Words::new("fail", "fail", "fail");
    add("30KiB html, body altered, of a stranger".to_owned(), altered(body), STRANGER, all_fail)?;
    Ok(tasks)
}

/// A message with another letter behind what is looked for.
fn altered(find: &[u8]) -> Vec<u8> {
    let mut octets = message(Kind::Html, 30);
    let at = octets.windows(find.len()).position(|it| it == find).map_or(octets.len() - 10, |at| at + find.len());
    octets[at] = b'~';
    octets
}

/// A client that the SPF record does not authorise.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 200));
