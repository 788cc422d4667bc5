//! Where the figures come from: what callgrind and criterion left behind, and tables of our own programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

use super::{INSTRUCTIONS, Row, TOOLS};
use crate::cases;

/// Counts that the bench `instructions` left below a folder, with what they were made with.
#[must_use]
pub fn instructions(folder: &Path) -> Vec<Row> {
    let cases = cases::all();
    let mut found: Vec<(usize, f64)> = Vec::new();
    for file in files_below(folder, |name| name.starts_with("callgrind.") && name.ends_with(".out")) {
        // callgrind.short.case_3.out is the fourth of the short ones.
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((group, number)) = name.strip_prefix("callgrind.").and_then(|it| it.split_once(".case_")) else {
            continue;
        };
        let Some(number) = number.strip_suffix(".out").and_then(|it| it.parse::<usize>().ok()) else { continue };
        let mut of_group = cases.iter().enumerate().filter(|(_, case)| case.is_short == (group == "short"));
        if let (Some((place, _)), Some(total)) = (of_group.nth(number), total(&file)) {
            found.push((place, total));
        }
    }
    found.sort_by_key(|(place, _)| *place);
    let tools = ["rustc", "valgrind"].into_iter().map(version);
    let tools = tools.map(|case| row(TOOLS, case, "", 0.0));
    tools.chain(found.into_iter().map(|(place, total)| row(INSTRUCTIONS, cases[place].id(), "n", total))).collect()
}

/// Medians that criterion left below a folder, for the cases of the list.
#[must_use]
pub fn times(folder: &Path) -> Vec<Row> {
    let mut medians = Vec::new();
    for file in files_below(folder, |name| name == "estimates.json") {
        if file.parent().and_then(Path::file_name).is_none_or(|name| name != "new") {
            continue;
        }
        let (Some(estimates), Some(benchmark)) = (json(&file), json(&file.with_file_name("benchmark.json"))) else {
            continue;
        };
        if let (Some(median), Some(id)) =
            (estimates.pointer("/median/point_estimate").and_then(|it| it.as_f64()), benchmark["full_id"].as_str())
        {
            medians.push((id.to_owned(), median / 1000.0));
        }
    }
    let of = |id: &str| medians.iter().find(|(name, _)| name == id).map(|(_, median)| *median);
    cases::all().iter().filter_map(|case| Some(row("time", case.id(), "us", of(&case.id())?))).collect()
}

/// Figures in the form `table,case,unit,value`, one a line; others are left out.
#[must_use]
pub fn rows_of(text: &str) -> Vec<Row> {
    let figure = |line: &str| {
        let columns = super::columns(line)?;
        let [table, case, unit, value] = <[String; 4]>::try_from(columns).ok()?;
        let value = value.parse().ok().filter(|value: &f64| value.is_finite())?;
        Some(Row { table, case, unit, value, commit: String::new() })
    };
    text.lines().filter_map(figure).collect()
}

/// A name for this kind of machine: processor and how many of them; nothing of whose it is.
#[must_use]
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|it| it.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim()).to_owned()
    };
    let count = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let words = format!("{} family {} model {} {count} cpu", value("model name"), value("cpu family"), value("model"));
    let plain: String =
        words.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { ' ' }).collect();
    plain.split_whitespace().take(NAME_WORDS_MAX).collect::<Vec<_>>().join("-")
}

const NAME_WORDS_MAX: usize = 16;

fn row(table: &str, case: impl Into<String>, unit: &str, value: f64) -> Row {
    Row { table: table.to_owned(), case: case.into(), unit: unit.to_owned(), value, commit: String::new() }
}

/// What was executed while the work ran.
fn total(file: &Path) -> Option<f64> {
    let text = String::from_utf8_lossy(&fs::read(file).ok()?).into_owned();
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn json(file: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output().ok();
    said.map_or_else(|| format!("{program} absent"), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn files_below(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if is_wanted(&entry.file_name().to_string_lossy()) => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_belongs_to_its_case() {
        let folder = std::env::temp_dir().join(format!("mailproof-sources-{}", std::process::id()));
        let place = folder.join("list/short.case_1");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("callgrind.short.case_1.out"), "events: Ir\nfn=x\n1 5\ntotals: 4711\n").unwrap();
        fs::write(place.join("callgrind.short.case_1.log"), "").unwrap();
        fs::write(place.join("callgrind.short.case_9999.out"), "totals: 1\n").unwrap();
        let rows = instructions(&folder);
        let cases = cases::all();
        let second = cases.iter().filter(|case| case.is_short).nth(1).unwrap();
        assert_eq!(rows[2..], [row(INSTRUCTIONS, second.id(), "n", 4711.0)]);
        assert!(rows[0].case.starts_with("rustc"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn tables_of_programs_are_read_and_machines_named_plainly() {
        let case = "30KiB html, \"altered\" / a, b";
        assert_eq!(rows_of(&super::super::line(&["t", case, "us", "2"])), [row("t", case, "us", 2.0)]);
        assert_eq!(rows_of("a,b,us,1.5\nno figure\na,b,us,NaN\n"), [row("a", "b", "us", 1.5)]);
        assert!(machine().chars().all(|it| it.is_ascii_alphanumeric() || it == '-'), "{}", machine());
    }
}
