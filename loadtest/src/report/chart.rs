//! Charts as inline SVG: they take their colours from the page, so that they are right by day and by night.

use std::fmt::Write as _;

/// Lines over a common axis.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What the vertical axis counts.
    pub(super) unit: &'a str,
    /// Names of some places of the horizontal axis.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) lines: Vec<Line<'a>>,
    /// The vertical axis shows powers of ten.
    pub(super) is_logarithmic: bool,
}

/// One line; its number chooses colour and dashes.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

// Small, so that its letters can be read on a telephone without being scaled down.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// Lines of the grid, about.
const GRID: f64 = 4.0;

impl Chart<'_> {
    /// A figure with the chart, its legend, and what stands beneath as HTML.
    pub(super) fn to_svg(&self, beneath: &str) -> String {
        let scale = Scale::new(self);
        let mut svg = format!(
            "<figure><figcaption>{} <small>({})</small></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{}\">",
            escape(self.title),
            escape(self.unit),
            escape(&self.description()),
        );
        // Writing to a String can not fail.
        for value in &scale.grid {
            let y = scale.y(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                y + 3.5,
                short(*value)
            );
        }
        for (at, name) in &self.marks {
            let x = scale.x(*at);
            let anchor = if x > WIDTH - 40.0 { "end" } else { "middle" };
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                HEIGHT - 7.0,
                escape(name)
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let points: Vec<String> =
                line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", scale.x(*x), scale.y(*y))).collect();
            let _ = write!(svg, "<polyline class=\"line l{number}\" points=\"{}\"/>", points.join(" "));
        }
        svg.push_str("</svg>");
        if self.lines.len() > 1 {
            svg.push_str("<ul class=\"legend\">");
            for (number, line) in self.lines.iter().enumerate() {
                let _ = write!(
                    svg,
                    "<li><svg viewBox=\"0 0 26 8\" aria-hidden=\"true\"><line class=\"line l{number}\" x1=\"1\" x2=\"25\" y1=\"4\" y2=\"4\"/>\
                     </svg>{}</li>",
                    escape(line.name)
                );
            }
            svg.push_str("</ul>");
        }
        svg.push_str(beneath);
        svg.push_str("</figure>");
        svg
    }

    fn description(&self) -> String {
        let ends = self.lines.iter().filter_map(|line| {
            let most = line.points.iter().map(|point| point.1).fold(f64::NAN, f64::max);
            (!most.is_nan()).then(|| format!("{} up to {}", line.name, short(most)))
        });
        format!("{} in {}: {}", self.title, self.unit, ends.collect::<Vec<_>>().join(", "))
    }
}

struct Scale {
    across: (f64, f64),
    up: (f64, f64),
    grid: Vec<f64>,
    is_logarithmic: bool,
}

impl Scale {
    fn new(chart: &Chart<'_>) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let bound = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
        };
        let mut across = bound(&mut points().map(|point| point.0));
        let (low, high) = bound(&mut points().map(|point| point.1));
        if across.0 >= across.1 {
            across = (0.0, across.1.max(1.0));
        }
        let (up, grid) = if chart.is_logarithmic { powers(low, high) } else { steps(high) };
        Self { across, up, grid, is_logarithmic: chart.is_logarithmic }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.across.0) / (self.across.1 - self.across.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let place = if self.is_logarithmic { value.max(self.up.0).log10() } else { value };
        let (low, high) = if self.is_logarithmic { (self.up.0.log10(), self.up.1.log10()) } else { self.up };
        HEIGHT - BOTTOM - (place - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    }
}

/// From 0 in round steps.
fn steps(high: f64) -> ((f64, f64), Vec<f64>) {
    let high = if high > 0.0 && high.is_finite() { high } else { 1.0 };
    let raw = high / GRID;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| *step >= raw).unwrap_or(raw);
    let count = (high / step).ceil();
    ((0.0, count * step), (0..=count as u32).map(|at| f64::from(at) * step).collect())
}

/// Round numbers from 0 to `last`, to write below a chart.
pub(super) fn round_marks(last: f64) -> Vec<f64> {
    steps(last).1.into_iter().filter(|mark| *mark <= last.max(0.0)).collect()
}

/// Powers of ten around everything.
fn powers(low: f64, high: f64) -> ((f64, f64), Vec<f64>) {
    let low = low.max(1e-3).log10().floor() as i32;
    let high = (high.max(2e-3).log10().ceil() as i32).max(low + 1);
    ((10_f64.powi(low), 10_f64.powi(high)), (low..=high).map(|power| 10_f64.powi(power)).collect())
}

/// A number in a few letters; `-` for none.
pub(super) fn short(number: f64) -> String {
    match number.abs() {
        size if size.is_nan() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{:.1}M", number / 1e6),
        size if size >= 1e4 => format!("{:.0}k", number / 1e3),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => trim(format!("{number:.1}")),
        size if size >= 0.1 => trim(format!("{number:.2}")),
        _ => trim(format!("{number:.4}")),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text for HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_everything() {
        assert_eq!(steps(0.0), ((0.0, 1.0), vec![0.0, 0.5, 1.0]));
        assert_eq!(steps(730.0).0, (0.0, 800.0));
        assert_eq!(round_marks(12.01), [0.0, 5.0, 10.0]);
        assert_eq!(round_marks(0.0), [0.0]);
        assert_eq!(powers(0.3, 42.0), ((0.1, 100.0), vec![0.1, 1.0, 10.0, 100.0]));
        let numbers = [f64::NAN, 0.0, 0.0123, 0.5, 3.25, 42.0, 730.0, 7300.0, 73_000.0, 1.5e6].map(short);
        assert_eq!(numbers, ["-", "0", "0.0123", "0.5", "3.25", "42", "730", "7300", "73k", "1.5M"]);
    }

    #[test]
    fn a_chart_without_points_is_one_too_and_names_are_text() {
        let mut chart = Chart { title: "a<b", unit: "ms", marks: Vec::new(), lines: Vec::new(), is_logarithmic: false };
        assert!(chart.to_svg("").contains("a&lt;b"));
        chart.lines = vec![Line { name: "x", points: vec![(3.0, 1e300)] }];
        assert!(!chart.to_svg("").contains("NaN"));
    }
}
