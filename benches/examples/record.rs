//! Writes the record of a run with a picture for each table, and says which instruction counts moved.
//!
//! `cargo run --release -p mailproof-benches --example record -- --instructions DIR --times DIR --table FILE`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;
use mailproof_benches::picture;
use mailproof_benches::record::{self, Counted, Judgement, Record, TOOLS};

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
    /// Fail, and write nothing, when an instruction count moved by more than 0.5 % or is missing
    #[arg(long)]
    gate: bool,
    /// Only the short cases were counted: compare them, write nothing
    #[arg(long)]
    short: bool,
    /// Draw a table of the newest record again, and measure nothing
    #[arg(long, value_name = "TABLE")]
    draw: Vec<String>,
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
    let former = Record::newest(&folder).map_err(io::Error::other)?.map(|(_, former)| former);
    if !arguments.draw.is_empty() {
        let record = former.ok_or_else(|| io::Error::other(format!("no record in {}", folder.display())))?;
        draw(&folder, &record, None, arguments.draw.iter().map(String::as_str))?;
        return Ok(true);
    }
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
    let counted = match (&arguments.instructions, arguments.short) {
        (None, _) => Counted::Nothing,
        (Some(_), true) => Counted::Short,
        (Some(_), false) => Counted::All,
    };
    let judgement = Judgement::of(&now, former.as_ref(), counted);
    println!("{judgement}");
    if !judgement.holds() {
        println!("if that is meant: `make bench`, or `scripts/bench.sh --instructions`, and commit benches/record");
        if arguments.gate {
            return Ok(false);
        }
    }
    if !arguments.short {
        write(&folder, &arguments.day, &now, former.as_ref())?;
    }
    Ok(true)
}

fn write(folder: &Path, day: &str, now: &Record, former: Option<&Record>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // A run of some tables leaves the others as they were.
    let mut whole = now.clone();
    former.iter().for_each(|former| whole.keep_others(former));
    let path = folder.join(format!("{day}.csv"));
    fs::write(&path, whole.to_csv())?;
    println!("{}: {} figures", path.display(), whole.rows.len());
    draw(folder, now, former, now.tables().into_iter())
}

fn draw<'a>(
    folder: &Path,
    record: &Record,
    former: Option<&Record>,
    tables: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    for table in tables.filter(|table| *table != TOOLS) {
        let path = folder.join(format!("{}.svg", table.replace(' ', "-")));
        fs::write(&path, picture::svg(record, former, table))?;
        println!("{}", path.display());
    }
    Ok(())
}
