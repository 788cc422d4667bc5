//! Mailproof beside those that do the same work: interleaved in one run, every verdict checked, the ratio case by case.
//!
//! `cargo run --release -p mailproof-benches --example compare [-- --table FILE] [--rounds N]`
//!
//! Everybody gets the same octets and the same DNS from memory. In each round every rival has its turn on a case, for about
//! as long as the others; the median of the rounds is what is printed, and the least beside it. Two cases do not pass: who
//! lets them through is `wrong`, however fast.
//!
//! `scripts/bench.sh` puts the rivals in other languages where they are looked for, and keeps the figures. What a question
//! to a server costs beside hickory-resolver is measured by the bench `dns`, and kept as the table `cold question`.

mod rival;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use mailproof_benches::messages::{CLIENT, HELO, Kind, MAIL_FROM, SIZES_KIB, message, texts};
use mailproof_benches::record::line;

use self::rival::{Rival, Words};

/// A message, and what is true of it.
struct Task {
    name: String,
    path: PathBuf,
    expected: Words,
}

/// What one rival made of one task.
#[derive(Default)]
struct Row {
    /// Microseconds a message, one for each round.
    times: Vec<f64>,
    wrong: Option<String>,
}

/// The table of the record.
const COMPARE: &str = "compare";
const ROUNDS: usize = 9;
/// How long a turn is, about.
const TURN: Duration = Duration::from_millis(8);

fn main() -> io::Result<()> {
    let argument = |name: &str| env::args().skip_while(|it| it != name).nth(1);
    let rounds = argument("--rounds").and_then(|it| it.parse().ok()).unwrap_or(ROUNDS).max(1);
    let folder = PathBuf::from("target/bench/compare");
    fs::create_dir_all(&folder)?;
    let tasks = tasks(&folder)?;
    let (mut rivals, absent) = rival::all(&folder);
    let mut table = String::new();
    for task in &tasks {
        let mut rows: Vec<Row> = rivals.iter().map(|_| Row::default()).collect();
        let mut counts = vec![1; rivals.len()];
        for round in 0..=rounds {
            for (at, rival) in rivals.iter_mut().enumerate() {
                turn(rival, task, &mut counts[at], &mut rows[at], round > 0);
            }
        }
        print(task, &rivals, &rows, &mut table)?;
    }
    for (name, reason) in &absent {
        println!("{name:<36} left out: {reason}");
    }
    argument("--table").map_or(Ok(()), |path| fs::write(path, table))
}

/// One turn; the first finds out how many messages a turn takes, and does not count.
fn turn(rival: &mut Rival, task: &Task, count: &mut u32, row: &mut Row, counts: bool) {
    if row.wrong.is_some() {
        return;
    }
    match rival.judge(&task.path, *count) {
        Ok((words, took)) => {
            if let Some(difference) = words.difference(&task.expected) {
                row.wrong = Some(difference);
            }
            let each = took.as_secs_f64() / f64::from(*count);
            if counts {
                row.times.push(each * 1e6);
            }
            *count = (TURN.as_secs_f64() / each.max(1e-7)).clamp(1.0, 10_000.0) as u32;
        }
        Err(error) => row.wrong = Some(format!("does not answer: {error}")),
    }
}

fn print(task: &Task, rivals: &[Rival], rows: &[Row], table: &mut String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", task.name)?;
    for (rival, row) in rivals.iter().zip(rows) {
        let name = rival.name();
        if let Some(difference) = &row.wrong {
            writeln!(out, "  {name:<36} wrong: {difference}")?;
            continue;
        }
        let (middle, least) = (median(&row.times), row.times.iter().copied().fold(f64::MAX, f64::min));
        // Beside Mailproof doing as much, or else the whole.
        let own = rivals.iter().position(|it| it.name().starts_with("mailproof") && it.does() == rival.does());
        let ratio = middle / median(&rows[own.unwrap_or(0)].times);
        writeln!(out, "  {name:<36}{middle:>10.1} us (least {least:>9.1}){ratio:>8.2} times   {}", rival.does())?;
        let case = format!("{} / {name}", task.name);
        table.push_str(&line(&[COMPARE, &case, "us", &format!("{middle:.2}")]));
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn tasks(folder: &Path) -> io::Result<Vec<Task>> {
    let zone: serde_json::Map<String, serde_json::Value> =
        texts().into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    let world = serde_json::json!({"zone": zone, "ip": CLIENT.to_string(), "helo": HELO, "mail_from": MAIL_FROM});
    fs::write(folder.join("world.json"), world.to_string())?;
    // The same for programs that do not read JSON.
    let mut world = format!("ip {CLIENT}\nhelo {HELO}\nmail_from {MAIL_FROM}\n");
    world.extend(texts().into_iter().map(|(name, text)| format!("txt {name} {text}\n")));
    fs::write(folder.join("world.txt"), world)?;
    let mut tasks = Vec::new();
    let mut add = |name: String, octets: Vec<u8>, dkim: &'static str| {
        let path = folder.join(format!("{}.eml", name.replace([' ', ','], "-")));
        fs::write(&path, octets)?;
        let expected = Words { spf: "pass".to_owned(), dkim: dkim.to_owned(), dmarc: "pass".to_owned() };
        tasks.push(Task { name, path, expected });
        io::Result::Ok(())
    };
    for (kind, kib) in SIZES_KIB.into_iter().flat_map(|kib| Kind::ALL.map(|kind| (kind, kib))) {
        add(format!("{kib}KiB {}", kind.name()), message(kind, kib), "pass")?;
    }
    // One letter of the body, and one of the signed header: SPF still aligns, so DMARC passes.
    for (what, find) in [("body altered", &b"</body>"[..]), ("subject altered", &b"Subject: "[..])] {
        let mut octets = message(Kind::Html, 30);
        let at = octets.windows(find.len()).position(|it| it == find).map_or(octets.len() - 10, |at| at + find.len());
        octets[at] = b'~';
        add(format!("30KiB html, {what}"), octets, "fail")?;
    }
    Ok(tasks)
}
