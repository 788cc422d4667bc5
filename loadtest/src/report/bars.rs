//! Bars as one picture that stands alone, for a README.

use std::fmt::Write as _;

use super::chart::{escape, short};

/// A caption, and what there is of each name; NaN for nothing.
pub type Bars = (String, Vec<(String, f64)>);

/// Bars beside each other, in so many columns.
const COLUMNS: usize = 2;
/// Room for a letter: those of a name are narrower than this on the average, whatever the font.
const LETTER: f64 = 6.8;
const BAR: f64 = 150.0;
const FIGURE: f64 = 50.0;
const HEAD: f64 = 44.0;
const CAPTION: f64 = 26.0;
const STEP: f64 = 18.0;
const MARGIN: f64 = 12.0;

/// All of them as SVG: each has its own scale, from 0. Those without anything above 0 are left out.
#[must_use]
pub fn picture(title: &str, all: &[Bars]) -> String {
    let shown: Vec<&Bars> = all.iter().filter(|bars| most(&bars.1) > 0.0).collect();
    let letters = shown.iter().flat_map(|bars| &bars.1).map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = LETTER * letters as f64 + 8.0;
    let column = left + BAR + FIGURE + 2.0 * MARGIN;
    let mut y = HEAD;
    let mut body = String::new();
    for row in shown.chunks(COLUMNS) {
        for (at, (caption, values)) in row.iter().enumerate() {
            panel(&mut body, (column * at as f64 + MARGIN, y), left, caption, values);
        }
        let rows = row.iter().map(|bars| bars.1.len()).max().unwrap_or(0);
        y += CAPTION + STEP * rows as f64 + MARGIN;
    }
    let (width, title) = (column * COLUMNS as f64, escape(title));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {y:.1}\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title><style>{STYLE}</style><rect class=\"page\" width=\"{width:.1}\" height=\"{y:.1}\"/>\
         <text class=\"head\" x=\"{MARGIN}\" y=\"26\">{title}</text>{body}</svg>\n"
    )
}

fn panel(body: &mut String, (x, y): (f64, f64), left: f64, caption: &str, values: &[(String, f64)]) {
    // Writing to a String can not fail.
    let _ = write!(body, "<text class=\"caption\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", y + 14.0, escape(caption));
    for (at, (name, value)) in values.iter().enumerate() {
        let (top, start) = (y + CAPTION + STEP * at as f64, x + left);
        let long = BAR * (value.max(0.0) / most(values)).min(1.0);
        let _ = write!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar\" x=\"{start:.1}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"12\"/>\
             <text x=\"{:.1}\" y=\"{1:.1}\">{}</text>",
            start - 8.0,
            top + 10.0,
            escape(name),
            top,
            start + long + 6.0,
            short(*value),
        );
    }
}

fn most(values: &[(String, f64)]) -> f64 {
    values.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// Right by day and by night, wherever the picture stands.
const STYLE: &str = ".page{fill:#fff}text{font:12px system-ui,sans-serif;fill:#222}.head{font-size:16px;font-weight:600}\
    .caption{font-weight:600}.bar{fill:#3b6ea8}\
    @media(prefers-color-scheme:dark){.page{fill:#14171c}text{fill:#e4e6ea}.bar{fill:#6ea3dd}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(values: &[(&str, f64)]) -> Bars {
        ("Time, ms".to_owned(), values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }

    /// Lengths of the bars.
    fn lengths(picture: &str) -> Vec<f64> {
        let bars = picture.split("class=\"bar\"").skip(1);
        bars.map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn each_caption_has_its_own_scale() {
        let picture = picture("a<b", &[bars(&[("x", 5.0), ("y", 10.0)]), bars(&[("&", 2000.0)]), bars(&[("z", 0.0)])]);
        assert_eq!(lengths(&picture), [BAR / 2.0, BAR, BAR]);
        assert!(picture.contains("a&lt;b") && picture.contains(">&amp;</text>") && picture.contains(">2000</text>"));
        assert_eq!(picture.matches("class=\"caption\"").count(), 2);
    }

    #[test]
    fn bars_stay_inside_whatever_their_figures_are() {
        let odd = [("a", f64::NAN), ("b", f64::INFINITY), ("c", -1.0), ("d", 1e-300), ("e", 3.0)];
        let picture = picture("t", &[bars(&odd)]);
        assert_eq!(lengths(&picture).len(), odd.len());
        assert!(lengths(&picture).iter().all(|length| (0.0..=BAR).contains(length)), "{picture}");
        assert!(!super::picture("t", &[]).contains("class=\"bar\""));
    }
}
