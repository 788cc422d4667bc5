//! A table as a picture: a bar for each figure, a mark where the former record had it.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::record::{Change, Record, Row};

/// Figures of one picture; the rest is counted below it.
pub const BARS_MAX: usize = 200;

/// Letters of a name that are shown: more than any of ours has.
const NAME_LETTERS_MAX: usize = 160;
/// Room for a letter: those of a name are narrower than this on the average.
const LETTER: f64 = 6.2;
const BARS: f64 = 460.0;
const FIGURES: f64 = 190.0;
const HEAD: f64 = 44.0;
const STEP: f64 = 18.0;

/// One table of a record as SVG, against the former one if there is one. Where every case is `TASK / WHO`, bars of a task
/// are as long as their figures, in units of its first; elsewhere they are on a scale of powers of ten.
#[must_use]
pub fn svg(record: &Record, former: Option<&Record>, table: &str) -> String {
    let rows: Vec<&Row> = record.rows.iter().filter(|row| row.table == table).collect();
    let (shown, hidden) = (rows.len().min(BARS_MAX), rows.len().saturating_sub(BARS_MAX));
    let names: Vec<String> = rows.iter().take(BARS_MAX).map(|row| name(&row.case)).collect();
    let letters = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let left = (20.0 + LETTER * letters as f64).max(250.0);
    let (width, height) = (left + BARS + FIGURES, HEAD + STEP * (shown as f64 + 1.5));
    let unit = rows.iter().find(|row| !row.is_wrong()).map_or("", |row| row.unit.as_str());
    let changes = former.map(|former| record.changes(former, table)).unwrap_or_default();
    let scale = Scale::of(&rows, &changes);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height}\" role=\"img\" aria-label=\"{0}\">\
         <title>{0}</title><style>{STYLE}</style><rect class=\"page\" width=\"{width:.1}\" height=\"{height}\"/>\
         <text class=\"head\" x=\"12\" y=\"26\">{0}</text>",
        escape(&format!(
            "{table}, {unit}{}, at {}",
            if matches!(scale, Scale::Powers { .. }) { ", in powers of ten" } else { "" },
            rows.first().map_or("", |row| row.commit.as_str())
        ))
    );
    for (at, (row, name)) in rows.iter().zip(&names).enumerate() {
        let change = changes.iter().find(|change| std::ptr::eq(change.row, *row));
        bar(&mut svg, (left, HEAD + STEP * at as f64), name, row, change, unit, &scale);
    }
    let foot = match (hidden, changes.is_empty()) {
        (0, true) => scale.text(),
        (0, false) => format!("{}; the mark is the former record", scale.text()),
        (hidden, _) => format!("{hidden} more in the record"),
    };
    // Writing to a String can not fail.
    let _ = writeln!(svg, "<text class=\"foot\" x=\"12\" y=\"{:.1}\">{foot}</text></svg>", height - 10.0);
    svg
}

/// A name, a bar, a figure.
fn bar(
    svg: &mut String,
    (left, y): (f64, f64),
    name: &str,
    row: &Row,
    change: Option<&Change<'_>>,
    unit: &str,
    scale: &Scale<'_>,
) {
    let (middle, share) = (y + 12.0, scale.share(row, row.value));
    let width = share.min(1.0) * BARS;
    // Writing to a String can not fail.
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"bar\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\"/>",
        left - 8.0,
        escape(name),
        y + 2.0,
    );
    if share > 1.0 {
        let (low, high) = (left + BARS - 22.0, left + BARS - 16.0);
        let (top, bottom) = (y, y + 16.0);
        let _ = write!(svg, "<path class=\"break\" d=\"M{low:.1} {bottom:.1}L{high:.1} {top:.1}\"/>");
    }
    let mut figure = if row.is_wrong() { row.unit.clone() } else { short(row.value) };
    if row.unit != unit && !row.is_wrong() {
        figure = format!("{figure} {}", row.unit);
    }
    if let Some(times) = scale.times(row) {
        let _ = write!(figure, ", {} times", short(times));
    }
    if let Some(change) = change {
        let x = left + scale.share(row, change.former).min(1.0) * BARS;
        let _ =
            write!(svg, "<line class=\"former\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\"/>", y + 16.0);
        let _ = write!(figure, " ({:+.1} %)", change.share() * 100.0);
    }
    let _ = write!(svg, "<text x=\"{:.1}\" y=\"{middle:.1}\">{}</text>", left + width + 6.0, escape(&figure));
}

/// How long a bar is.
enum Scale<'a> {
    /// So many times the first figure of the same task; here are those of all tasks.
    Multiples(HashMap<&'a str, &'a Row>),
    /// Powers of ten around every figure.
    Powers { low: f64, high: f64 },
}

/// Bars that are more times as long as the first of their task are broken.
const MULTIPLE_MAX: f64 = 12.0;

impl<'a> Scale<'a> {
    fn of(rows: &[&'a Row], changes: &[Change<'_>]) -> Self {
        if !rows.is_empty() && rows.iter().all(|row| task(row).is_some()) {
            let mut firsts = HashMap::new();
            for row in rows.iter().filter(|row| is_drawn(row.value)) {
                firsts.entry(task(row).unwrap_or_default()).or_insert(*row);
            }
            return Self::Multiples(firsts);
        }
        let values = rows.iter().map(|row| row.value).chain(changes.iter().map(|change| change.former));
        let (low, high) = values
            .filter(|value| is_drawn(*value))
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value.log10()), high.max(value.log10())));
        if low > high {
            return Self::Powers { low: 0.0, high: 1.0 };
        }
        // A bar of the least figure is seen too.
        let low = (low - 0.2).floor();
        Self::Powers { low, high: high.max(low + 1.0) }
    }

    /// Share of the longest bar; more than 1 for one that has no room.
    fn share(&self, row: &Row, value: f64) -> f64 {
        if !is_drawn(value) {
            return 0.0;
        }
        match self {
            Self::Multiples(_) => self.first(row).map_or(0.0, |first| value / first.value / MULTIPLE_MAX),
            Self::Powers { low, high } => ((value.log10() - low) / (high - low)).clamp(0.0, 1.0),
        }
    }

    /// How many times the first of its task a figure is; none for the first.
    fn times(&self, row: &Row) -> Option<f64> {
        let first = self.first(row).filter(|first| is_drawn(row.value) && !std::ptr::eq(*first, row))?;
        Some(row.value / first.value)
    }

    fn first(&self, row: &Row) -> Option<&'a Row> {
        match self {
            Self::Multiples(firsts) => firsts.get(task(row)?).copied(),
            Self::Powers { .. } => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Multiples(_) => {
                format!(
                    "within a task a bar is as long as its figure; those of more than {MULTIPLE_MAX} times the first are broken"
                )
            }
            Self::Powers { .. } => {
                "the scale is logarithmic: each step is ten times the one before, so twice as long is not twice as much"
                    .to_owned()
            }
        }
    }
}

/// What comes before ` / `.
fn task(row: &Row) -> Option<&str> {
    row.case.split_once(" / ").map(|(task, _)| task)
}

fn is_drawn(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

fn name(case: &str) -> String {
    let mut name: String = case.chars().take(NAME_LETTERS_MAX).collect();
    if name.len() < case.len() {
        name.push('…');
    }
    name
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
    .foot{fill:#666}.bar{fill:#3b6ea8}.break{stroke:#fff;stroke-width:4}.former{stroke:#c2410c;stroke-width:2}\
    @media(prefers-color-scheme:dark){.page{fill:#14171c}text{fill:#e4e6ea}.foot{fill:#9aa0a8}.bar{fill:#6ea3dd}\
    .break{stroke:#14171c}.former{stroke:#fb923c}}";

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
        let picture =
            svg(&record(1, &("<x onload=\"&\">\u{7}".to_owned() + &"é".repeat(NAME_LETTERS_MAX)), 1.0), None, "t");
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

    fn table(rows: &[(&str, &str, f64)]) -> Record {
        let mut record = record(rows.len(), "", 0.0);
        for (row, (case, unit, value)) in record.rows.iter_mut().zip(rows) {
            (row.case, row.unit, row.value) = ((*case).to_owned(), (*unit).to_owned(), *value);
        }
        record
    }

    /// Lengths of the bars.
    fn lengths(picture: &str) -> Vec<f64> {
        let bars = picture.split("class=\"bar\"").skip(1);
        bars.map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn twice_the_time_is_twice_as_long() {
        let rows =
            [("a / we", "us", 10.0), ("a / they", "us", 20.0), ("b / we", "us", 300.0), ("b / it", "us", 9000.0)];
        let picture = svg(&table(&rows), None, "t");
        let unit = BARS / MULTIPLE_MAX;
        for (length, expected) in lengths(&picture).into_iter().zip([unit, 2.0 * unit, unit, BARS]) {
            assert!((length - expected).abs() < 0.1, "{length} for {expected}");
        }
        assert_eq!(picture.matches("class=\"break\"").count(), 1);
        assert!(
            picture.contains("20, 2 times")
                && picture.contains("9000, 30 times")
                && picture.contains("12 times the first")
        );
        assert!(!picture.contains("powers") && !picture.contains("logarithmic"));
        let picture = svg(&record(2, "c", 1.0), None, "t");
        assert!(picture.contains("powers of ten") && picture.contains("logarithmic"));
    }

    #[test]
    fn what_is_wrong_has_no_bar_and_says_so() {
        let rows = [("a / we", "wrong", 0.0), ("a / they", "us", 20.0), ("a / it", "us", 40.0)];
        let picture = svg(&table(&rows), Some(&table(&rows)), "t");
        assert_eq!(lengths(&picture)[0], 0.0);
        assert!(picture.contains(">wrong</text>") && picture.contains("t, us, at"), "{picture}");
        assert!(picture.contains("40, 2 times (+0.0 %)"));
    }

    #[test]
    fn names_are_whole() {
        let case = "30KiB html, body altered, of a stranger / libopendkim, libspf2, libopendmarc";
        let picture = svg(&table(&[(case, "us", 1.0)]), None, "t");
        assert!(picture.contains(&format!(">{case}</text>")));
        let left: f64 = picture.split("class=\"bar\" x=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(left > LETTER * case.len() as f64);
    }
}
