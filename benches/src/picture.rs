//! A table as a picture: a bar for each figure, a mark where the former record had it.

use std::fmt::Write as _;

use crate::record::{Record, Row};

/// Figures of one picture; the rest is counted below it.
pub const BARS_MAX: usize = 200;

const WIDTH: f64 = 1050.0;
const NAMES: f64 = 400.0;
const FIGURES: f64 = 190.0;
const HEAD: f64 = 44.0;
const STEP: f64 = 18.0;
/// Letters of a name that have room.
const NAME_LETTERS_MAX: usize = 66;

/// One table of a record as SVG, against the former one if there is one. The bars are on a scale of powers of ten.
#[must_use]
pub fn svg(record: &Record, former: Option<&Record>, table: &str) -> String {
    let rows: Vec<&Row> = record.rows.iter().filter(|row| row.table == table).collect();
    let (shown, hidden) = (rows.len().min(BARS_MAX), rows.len().saturating_sub(BARS_MAX));
    let height = HEAD + STEP * (shown as f64 + 1.5);
    let unit = rows.first().map_or("", |row| row.unit.as_str());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\">\
         <title>{0}</title><style>{STYLE}</style><rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\
         <text class=\"head\" x=\"12\" y=\"26\">{0}</text>",
        escape(&format!(
            "{table}, {unit}, in powers of ten, at {}",
            rows.first().map_or("", |row| row.commit.as_str())
        ))
    );
    let changes = former.map(|former| record.changes(former, table)).unwrap_or_default();
    let scale = Scale::of(rows.iter().map(|row| row.value).chain(changes.iter().map(|change| change.former)));
    for (at, row) in rows.iter().take(BARS_MAX).enumerate() {
        let change = changes.iter().find(|change| std::ptr::eq(change.row, *row));
        let y = HEAD + STEP * at as f64;
        let (middle, width) = (y + 12.0, scale.length(row.value));
        let mut name: String = row.case.chars().take(NAME_LETTERS_MAX).collect();
        if name.len() < row.case.len() {
            name.push('…');
        }
        // Writing to a String can not fail.
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\"/>",
            NAMES - 8.0,
            escape(&name),
            y + 2.0,
        );
        let mut figure = short(row.value);
        if row.unit != unit {
            figure = format!("{figure} {}", row.unit);
        }
        if let Some(change) = change {
            let x = NAMES + scale.length(change.former);
            let _ = write!(
                svg,
                "<line class=\"former\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>",
                y + 16.0
            );
            let _ = write!(figure, " ({:+.1} %)", change.share() * 100.0);
        }
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{middle:.1}\">{}</text>", NAMES + width + 6.0, escape(&figure));
    }
    let foot = match (hidden, changes.is_empty()) {
        (0, true) => "each step of the scale is ten times the one before".to_owned(),
        (0, false) => "each step of the scale is ten times the one before; the mark is the former record".to_owned(),
        (hidden, _) => format!("{hidden} more in the record"),
    };
    let _ = writeln!(svg, "<text class=\"foot\" x=\"{NAMES}\" y=\"{:.1}\">{foot}</text></svg>", height - 10.0);
    svg
}

/// Powers of ten around every figure.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value.log10()), high.max(value.log10())));
        if low > high {
            return Self { low: 0.0, high: 1.0 };
        }
        // A bar of the least figure is seen too.
        let low = (low - 0.2).floor();
        Self { low, high: high.max(low + 1.0) }
    }

    fn length(&self, value: f64) -> f64 {
        if value <= 0.0 || !value.is_finite() {
            return 0.0;
        }
        ((value.log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0) * (WIDTH - NAMES - FIGURES)
    }
}

/// A number in a few letters.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.2} G", value / 1e9),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Right by day and by night, wherever the picture stands.
const STYLE: &str = ".page{fill:#fff}text{font:12px system-ui,sans-serif;fill:#222}.head{font-size:16px;font-weight:600}\
    .foot{fill:#666}.bar{fill:#3b6ea8}.former{stroke:#c2410c;stroke-width:2}\
    @media(prefers-color-scheme:dark){.page{fill:#14171c}text{fill:#e4e6ea}.foot{fill:#9aa0a8}.bar{fill:#6ea3dd}\
    .former{stroke:#fb923c}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn record(count: usize, case: &str, value: f64) -> Record {
        let row = |at| Row {
            table: "t".to_owned(),
            case: format!("{case}{at}"),
            unit: "us".to_owned(),
            value,
            commit: "a<b".to_owned(),
        };
        Record { rows: (0..count).map(row).collect() }
    }

    #[test]
    fn names_are_text_and_cut() {
        let picture = svg(&record(1, &("<x onload=\"&\">\u{7}".to_owned() + &"é".repeat(99)), 1.0), None, "t");
        assert!(picture.contains("&lt;x onload=&quot;&amp;&quot;&gt;é") && picture.contains("é…"));
        assert!(!picture.contains("<x") && !picture.contains('\u{7}') && picture.contains("a&lt;b"));
    }

    #[test]
    fn figures_stay_inside_whatever_they_are() {
        for value in [0.0, -3.0, 1e-300, 1e300, f64::INFINITY, f64::NAN] {
            let picture = svg(&record(2, "c", value), Some(&record(1, "c", 5.0)), "t");
            assert!(!picture.contains("width=\"NaN") && !picture.contains("x1=\"NaN"), "{value}");
            assert!(!picture.contains("width=\"inf") && !picture.contains("x1=\"inf"), "{value}");
        }
    }

    #[test]
    fn bars_are_bounded() {
        assert_eq!(svg(&record(BARS_MAX, "c", 1.0), None, "t").matches("class=\"bar\"").count(), BARS_MAX);
        let picture = svg(&record(BARS_MAX + 3, "c", 1.0), None, "t");
        assert_eq!(picture.matches("class=\"bar\"").count(), BARS_MAX);
        assert!(picture.contains("3 more in the record"));
    }

    #[test]
    fn the_former_figure_is_marked() {
        let picture = svg(&record(1, "c", 2.0), Some(&record(1, "c", 1.0)), "t");
        assert!(picture.contains("(+100.0 %)") && picture.contains("class=\"former\" x1="));
        assert!(!svg(&record(1, "c", 2.0), Some(&record(0, "c", 1.0)), "t").contains("class=\"former\" x1="));
    }
}
