//! A table for people: aligned columns, calm, and readable without colour.

use std::fmt::Write;

pub(crate) use mailproof_explain::Tone;
use unicode_width::UnicodeWidthStr;

/// One cell: text without control characters, and its tone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// Columns whose widths were found from the first rows; later rows that are wider push their neighbours.
#[derive(Debug)]
pub(crate) struct Layout {
    widths: Vec<usize>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Layout {
    /// Widths that fit every one of these rows.
    pub(crate) fn fit<'a>(rows: impl Iterator<Item = &'a [Cell]>) -> Self {
        let mut widths = Vec::new();
        for row in rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        Self { widths }
    }

    /// One line, without its end. Nothing is written behind the last cell that holds something.
    pub(crate) fn line(&self, row: &[Cell]) -> String {
        let mut line = String::new();
        let mut owed = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            if !cell.text.is_empty() {
                line.push_str(&owed);
                owed.clear();
                line.push_str(&cell.tone.paint(&cell.text));
            }
            // Writing to a String can not fail.
            let _ = write!(owed, "{:1$}{GAP}", "", width.saturating_sub(cell.text.width()));
        }
        line
    }

    /// Columns of a terminal that a line of `count` cells takes.
    pub(crate) fn width(&self, count: usize) -> usize {
        self.widths.iter().take(count).map(|width| width + GAP.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(texts: &[&str]) -> Vec<Cell> {
        texts.iter().map(|text| Cell::new(*text, Tone::Plain)).collect()
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let rows = [row(&["a", "b", "c"]), row(&["\u{65e5}\u{672c}", "", "d"]), row(&["wide", "x", ""])];
        let layout = Layout::fit(rows.iter().map(Vec::as_slice));
        let lines: Vec<String> = rows.iter().map(|row| layout.line(row)).collect();
        assert_eq!(lines, ["a     b  c", "\u{65e5}\u{672c}     d", "wide  x"]);
        assert_eq!(layout.width(2), 9);
    }
}
