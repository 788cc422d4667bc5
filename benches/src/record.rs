//! Records of what was measured: one CSV file for a machine and a day, and what moved since the one before.

mod gate;
mod sources;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use self::gate::{Counted, Judgement};
pub use self::sources::{instructions, machine, rows_of, times};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What kind of figure: `instructions`, `time` ...
    pub table: String,
    /// What was measured.
    pub case: String,
    /// Of the value.
    pub unit: String,
    /// The figure.
    pub value: f64,
    /// Of the code that was measured; a record may have figures of several.
    pub commit: String,
}

/// The figures of one machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// In the order measured.
    pub rows: Vec<Row>,
}

/// A figure that is in two records.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    /// The figure now.
    pub row: &'a Row,
    /// What it was.
    pub former: f64,
    /// Of which code it was that.
    pub commit: &'a str,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Of the file system.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A line that is no figure.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than [`ROWS_MAX`].
    #[error("more than {ROWS_MAX} lines")]
    TooLong,
}

/// Figures of one record.
pub const ROWS_MAX: usize = 10_000;

/// Instruction counts that moved by more than this share are a finding.
pub const MOVED_SHARE: f64 = 0.005;

const HEAD: &str = "table,case,unit,value,commit";

impl Record {
    /// Reads what [`Record::to_csv`] wrote.
    ///
    /// # Errors
    /// [`RecordError::Line`] for the first line that is no figure, [`RecordError::TooLong`].
    pub fn from_csv(text: &str) -> Result<Self, RecordError> {
        let mut record = Self::default();
        for (at, line) in text.lines().enumerate() {
            let wrong = |why| RecordError::Line { line: at + 1, why };
            if at == 0 {
                if line != HEAD {
                    return Err(wrong("not the heading of a record"));
                }
                continue;
            }
            let columns = columns(line).ok_or_else(|| wrong("quotes that do not end"))?;
            let [table, case, unit, value, commit] =
                <[String; 5]>::try_from(columns).map_err(|_| wrong("not five columns"))?;
            let value: f64 = value.parse().map_err(|_| wrong("the value is no number"))?;
            if !value.is_finite() {
                return Err(wrong("the value is no number"));
            }
            if record.rows.len() == ROWS_MAX {
                return Err(RecordError::TooLong);
            }
            record.rows.push(Row { table, case, unit, value, commit });
        }
        Ok(record)
    }

    /// One line a figure.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for row in &self.rows {
            text += &line(&[&row.table, &row.case, &row.unit, &row.value.to_string(), &row.commit]);
        }
        text
    }

    /// The newest record in a folder; none where there is no folder.
    ///
    /// # Errors
    /// When there is one and it can not be read.
    pub fn newest(folder: &Path) -> Result<Option<(PathBuf, Self)>, RecordError> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(None) };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        // The names are dates.
        let Some(path) = files.filter(|path| path.extension().is_some_and(|it| it == "csv")).max() else {
            return Ok(None);
        };
        let text = fs::read_to_string(&path).map_err(|error| RecordError::File { path: path.clone(), error })?;
        Ok(Some((path, Self::from_csv(&text)?)))
    }

    /// Names of the tables, in their order.
    #[must_use]
    pub fn tables(&self) -> Vec<&str> {
        let mut tables: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !tables.contains(&row.table.as_str()) {
                tables.push(&row.table);
            }
        }
        tables
    }

    /// The figures of one table that are in both records, in the order of this one.
    #[must_use]
    pub fn changes<'a>(&'a self, former: &'a Self, table: &str) -> Vec<Change<'a>> {
        let key = |row: &'a Row| (row.case.as_str(), row.unit.as_str());
        let known: HashMap<_, &Row> =
            former.rows.iter().filter(|row| row.table == table).map(|row| (key(row), row)).collect();
        let now = self.rows.iter().filter(|row| row.table == table && !row.is_wrong());
        let change = |row| {
            let former = known.get(&key(row))?;
            Some(Change { row, former: former.value, commit: &former.commit })
        };
        now.filter_map(change).collect()
    }

    /// Instruction counts that moved by more than [`MOVED_SHARE`].
    #[must_use]
    pub fn moved<'a>(&'a self, former: &'a Self) -> Vec<Change<'a>> {
        let mut changes = self.changes(former, INSTRUCTIONS);
        changes.retain(|change| change.share().abs() > MOVED_SHARE);
        changes
    }

    /// Names of the instruction counts of the former record that this one lacks, of those that `is_expected`.
    #[must_use]
    pub fn missing<'a>(&self, former: &'a Self, is_expected: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let counts = |record: &'a Self| record.rows.iter().filter(|row| row.table == INSTRUCTIONS);
        let is_there = |name: &str| self.rows.iter().any(|row| row.table == INSTRUCTIONS && row.case == name);
        counts(former).map(|row| row.case.as_str()).filter(|name| is_expected(name) && !is_there(name)).collect()
    }

    /// Takes over the tables of a former record that were not measured now, with the commits that they are of and the
    /// tools of those commits.
    pub fn keep_others(&mut self, former: &Self) {
        let is_there = |table: &str| self.rows.iter().any(|row| row.table == table);
        let kept = former.rows.iter().filter(|row| row.table != TOOLS && !is_there(&row.table));
        let mut kept: Vec<Row> = kept.cloned().collect();
        let commits: HashSet<String> = kept.iter().map(|row| row.commit.clone()).collect();
        let has_tools = |commit: &str| self.rows.iter().any(|row| row.table == TOOLS && row.commit == commit);
        let is_of_kept = |row: &&Row| row.table == TOOLS && commits.contains(&row.commit) && !has_tools(&row.commit);
        kept.extend(former.rows.iter().filter(is_of_kept).cloned());
        self.rows.extend(kept);
    }

    /// The compiler and the tools of the instruction counts, which depend on them.
    #[must_use]
    pub fn counting_tools(&self) -> Vec<&str> {
        let counted_at = self.rows.iter().find(|row| row.table == INSTRUCTIONS).map(|row| &row.commit);
        let tools = self.rows.iter().filter(|row| row.table == TOOLS);
        tools.filter(|row| counted_at.is_none_or(|at| *at == row.commit)).map(|row| row.case.as_str()).collect()
    }
}

impl Row {
    /// True for one that has no figure, because the answer was wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.unit == WRONG
    }
}

impl Change<'_> {
    /// Of what it was: 0.01 is one per cent more.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.former == 0.0 {
            return if self.row.value == 0.0 { 0.0 } else { 1.0 };
        }
        self.row.value / self.former - 1.0
    }
}

/// The table of what `make bench` gates.
pub const INSTRUCTIONS: &str = "instructions";
/// The table of what a record was made with.
pub const TOOLS: &str = "tools";
/// In place of the unit, with the value 0: there is no figure, because the answer was wrong.
pub const WRONG: &str = "wrong";

/// Fields as a line of a table, as [`rows_of`] reads it.
#[must_use]
pub fn line(fields: &[&str]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

fn quoted(field: &str) -> String {
    // A line is a figure, whatever the name.
    let field = field.replace(['\r', '\n'], " ");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

/// The columns of a line; `None` when a quote does not end.
fn columns(line: &str) -> Option<Vec<String>> {
    let (mut columns, mut letters) = (vec![String::new()], line.chars().peekable());
    let mut is_quoted = false;
    while let Some(letter) = letters.next() {
        let column = columns.last_mut()?;
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => column.extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => columns.push(String::new()),
            _ => column.push(letter),
        }
    }
    (!is_quoted).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(values: &[(&str, &str, f64)]) -> Record {
        let row = |&(table, case, value): &(&str, &str, f64)| Row {
            table: table.to_owned(),
            case: case.to_owned(),
            unit: "n".to_owned(),
            value,
            commit: "abc".to_owned(),
        };
        Record { rows: values.iter().map(row).collect() }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = record(&[("time", "a,b \"c\"", 1.25), ("instructions", "plain", 1e9)]);
        assert_eq!(Record::from_csv(&written.to_csv()).unwrap(), written);
        assert_eq!(Record::from_csv("").unwrap(), Record::default());
    }

    #[test]
    fn lines_that_are_no_figures_are_named() {
        let of = |lines: &str| Record::from_csv(&format!("{HEAD}\n{lines}")).unwrap_err().to_string();
        assert_eq!(of("a,b,c,1"), "line 2: not five columns");
        assert_eq!(of("a,b,c,1,d\na,b,c,inf,d"), "line 3: the value is no number");
        assert_eq!(of("\"a,b,c,1,d"), "line 2: quotes that do not end");
        assert_eq!(Record::from_csv("x").unwrap_err().to_string(), "line 1: not the heading of a record");
        let longest = "a,b,c,1,d\n".repeat(ROWS_MAX);
        assert_eq!(Record::from_csv(&format!("{HEAD}\n{longest}")).unwrap().rows.len(), ROWS_MAX);
        assert_eq!(of(&(longest + "a,b,c,1,d")), "more than 10000 lines");
    }

    #[test]
    fn instruction_counts_move_by_more_than_half_a_per_cent() {
        let former = record(&[(INSTRUCTIONS, "a", 1000.0), (INSTRUCTIONS, "b", 1000.0), ("time", "a", 1.0)]);
        let now = record(&[
            (INSTRUCTIONS, "a", 1005.0),
            (INSTRUCTIONS, "b", 994.0),
            (INSTRUCTIONS, "new", 5.0),
            ("time", "a", 9.0),
        ]);
        let moved: Vec<_> = now.moved(&former).iter().map(|change| change.row.case.clone()).collect();
        assert_eq!(moved, ["b"]);
        assert_eq!(now.changes(&former, "time")[0].share(), 8.0);
    }

    #[test]
    fn what_was_not_measured_again_keeps_its_commit() {
        let former = record(&[("time", "a", 1.0), (INSTRUCTIONS, "a", 5.0)]);
        let mut now = record(&[(INSTRUCTIONS, "a", 6.0)]);
        now.rows[0].commit = "def".to_owned();
        now.keep_others(&former);
        let read = Record::from_csv(&now.to_csv()).unwrap();
        let of: Vec<_> = read.rows.iter().map(|row| (row.table.as_str(), row.value, row.commit.as_str())).collect();
        assert_eq!(of, [(INSTRUCTIONS, 6.0, "def"), ("time", 1.0, "abc")]);
    }

    #[test]
    fn counts_that_are_gone_are_named() {
        let former = record(&[(INSTRUCTIONS, "short a", 1.0), (INSTRUCTIONS, "b", 1.0), ("time", "c", 1.0)]);
        let now = record(&[(INSTRUCTIONS, "new", 1.0)]);
        assert_eq!(now.missing(&former, |_| true), ["short a", "b"]);
        assert_eq!(now.missing(&former, |name| name.starts_with("short")), ["short a"]);
        assert!(former.missing(&former, |_| true).is_empty());
    }

    #[test]
    fn kept_records_are_read_and_written_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("record");
        for machine in fs::read_dir(folder).unwrap() {
            let (path, record) = Record::newest(&machine.unwrap().path()).unwrap().unwrap();
            assert!(record.rows.iter().all(|row| !row.commit.is_empty()));
            assert_eq!(record.to_csv(), fs::read_to_string(path).unwrap());
        }
    }

    #[test]
    fn the_newest_record_counts() {
        let folder = std::env::temp_dir().join(format!("mailproof-record-{}", std::process::id()));
        assert!(Record::newest(&folder).unwrap().is_none());
        fs::create_dir_all(&folder).unwrap();
        for (day, value) in [("2025-01-31", 1.0), ("2025-02-01", 2.0)] {
            fs::write(folder.join(format!("{day}.csv")), record(&[("time", "a", value)]).to_csv()).unwrap();
        }
        fs::write(folder.join("time.svg"), "<svg/>").unwrap();
        assert_eq!(Record::newest(&folder).unwrap().unwrap().1.rows[0].value, 2.0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
