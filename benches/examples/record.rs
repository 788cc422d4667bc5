//! Writes the record of a run with a picture for each table, and says which instruction counts moved.
//!
//! `cargo run --release -p mailproof-benches --example record -- --instructions DIR --times DIR --table FILE`

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;
use mailproof_benches::record::{self, INSTRUCTIONS, Record, TOOLS};
use mailproof_benches::{cases, picture};

/// Puts figures together.
#[derive(Parser)]
struct Arguments {
    /// What the bench `instructions` left behind
    #[arg(long)]
    instructions: Option<PathBuf>,
    /// What criterion left behind
    #[arg(long)]
    times: Option<PathBuf>,
    /// Lines of `table,case,unit,value`
    #[arg(long)]
    table: Vec<PathBuf>,
    /// Folder of the records of all machines
    #[arg(long, default_value = "benches/record")]
    folder: PathBuf,
    /// Day of the record
    #[arg(long, default_value = "today")]
    day: String,
    /// Commit that was measured
    #[arg(long, default_value = "")]
    commit: String,
    /// Fail when an instruction count moved by more than 0.5 %, or is missing
    #[arg(long)]
    gate: bool,
    /// Only the short cases were counted: compare them, write nothing
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::from(74)
        }
    }
}

/// False when the gate is shut.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let folder = arguments.folder.join(record::machine());
    let former = Record::newest(&folder).map_err(io::Error::other)?;
    let mut now = Record::default();
    now.rows.extend(arguments.instructions.iter().flat_map(|folder| record::instructions(folder)));
    now.rows.extend(arguments.times.iter().flat_map(|folder| record::times(folder)));
    for file in &arguments.table {
        now.rows.extend(record::rows_of(&fs::read_to_string(file)?));
    }
    now.rows.iter_mut().for_each(|row| row.commit.clone_from(&arguments.commit));
    if now.rows.iter().all(|row| row.table == TOOLS) {
        return Err(io::Error::other("nothing was measured"));
    }
    let holds = judge(arguments, &now, former.as_ref().map(|(_, former)| former), &folder.display().to_string());
    if !arguments.short {
        write(arguments, &now, former.as_ref().map(|(_, former)| former))?;
    }
    Ok(holds || !arguments.gate)
}

/// Prints what moved and what is missing; false when there is something.
fn judge(arguments: &Arguments, now: &Record, former: Option<&Record>, folder: &str) -> bool {
    let count = now.rows.iter().filter(|row| row.table == INSTRUCTIONS).count();
    // The line of the tests for what was left out, where a failure is asked for.
    let skipped = if arguments.gate { "SKIPPED: " } else { "" };
    let Some(former) = former else {
        println!("{skipped}{count} instruction counts; no record in {folder} to compare with");
        return true;
    };
    if !now.has_tools_of(former) {
        println!(
            "{skipped}{count} instruction counts; the record was made with another compiler or valgrind: not compared"
        );
        return true;
    }
    let moved = now.moved(former);
    for change in &moved {
        let (case, value, since) = (&change.row.case, change.row.value, change.commit);
        let percent = change.share() * 100.0;
        println!("  {case:<44} {:>12} -> {value:>12}  {percent:+.2} % since {since}", change.former);
    }
    let cases = cases::all();
    let is_expected = |name: &str| {
        arguments.instructions.is_some()
            && (!arguments.short || cases.iter().any(|case| case.is_short && case.id() == name))
    };
    let missing = now.missing(former, is_expected);
    missing.iter().for_each(|case| println!("  {case:<44} is in the record and was not counted"));
    println!("{count} instruction counts, {} moved by more than 0.5 %, {} missing", moved.len(), missing.len());
    let holds = moved.is_empty() && missing.is_empty();
    if !holds {
        println!("if that is meant: `make bench`, or `scripts/bench.sh --instructions`, and commit benches/record");
    }
    holds
}

fn write(arguments: &Arguments, now: &Record, former: Option<&Record>) -> io::Result<()> {
    let folder = arguments.folder.join(record::machine());
    fs::create_dir_all(&folder)?;
    // A run of some tables leaves the others as they were.
    let mut whole = now.clone();
    let measured: Vec<String> = now.tables().into_iter().map(str::to_owned).collect();
    former.iter().for_each(|former| whole.keep_others(former));
    let path = folder.join(format!("{}.csv", arguments.day));
    fs::write(&path, whole.to_csv())?;
    println!("{}: {} figures", path.display(), whole.rows.len());
    for table in measured.iter().filter(|table| *table != TOOLS) {
        let path = folder.join(format!("{}.svg", table.replace(' ', "-")));
        fs::write(&path, picture::svg(now, former, table))?;
        println!("{}", path.display());
    }
    Ok(())
}
