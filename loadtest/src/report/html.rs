//! A run as one page that needs nothing from anywhere.

use std::fmt::Write as _;

use super::chart::{Chart, Line, escape, round_marks, short};
use super::{Bars, Basis, PERCENTILES, Run, milliseconds, percentile};
use crate::measure::Point;

/// The page of one or several runs.
#[must_use]
pub fn page(title: &str, runs: &[(Run, Basis)]) -> String {
    let mut body = String::new();
    for (run, basis) in runs {
        section(&mut body, run, *basis);
    }
    document(title, &body)
}

/// The page of a table, with its charts.
#[must_use]
pub fn table_page(title: &str, lead: &str, tables: &[(String, Vec<Vec<String>>)], bars: &[Bars]) -> String {
    let mut body = format!("<p>{}</p>", escape(lead));
    for (caption, rows) in tables {
        table(&mut body, caption, rows);
    }
    body.push_str("<div class=\"charts\">");
    for (caption, values) in bars {
        bar_chart(&mut body, caption, values);
    }
    body.push_str("</div>");
    document(title, &body)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>\n",
        title = escape(title),
    )
}

fn section(body: &mut String, run: &Run, basis: Basis) {
    // Writing to a String can not fail.
    let _ =
        write!(body, "<section><h2>{}</h2><p class=\"load\">{}</p>", escape(&run.name), escape(&run.load.to_string()));
    match run.invalid(basis.late_share_max) {
        Some(why) => {
            let _ = write!(body, "<p class=\"bad\"><strong>Invalid run:</strong> {}</p>", escape(&why.to_string()));
        }
        None if run.bad_count() > 0 => {
            let counts = [("wrong", run.total.wrong), ("failed", run.total.failed), ("dropped", run.total.dropped)];
            let counts = counts.into_iter().filter(|(_, count)| *count > 0);
            let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
            let _ = write!(
                body,
                "<p class=\"bad\"><strong>{}</strong> of {} messages.</p>",
                counts.join(", "),
                run.total.offered
            );
        }
        None => {
            let checked = if basis.checks() { "" } else { " No verdict was checked." };
            let _ = write!(
                body,
                "<p class=\"good\"><strong>Valid run:</strong> the generator kept to its plan.{checked}</p>"
            );
        }
    }
    figures(body, run, basis);
    body.push_str("<div class=\"charts\">");
    for chart in charts(run) {
        body.push_str(&chart);
    }
    let results: Vec<(String, f64)> =
        run.total.results.iter().map(|((method, word), count)| (format!("{method}={word}"), *count as f64)).collect();
    bar_chart(body, "Results, messages", &results);
    body.push_str("</div>");
    latency_table(body, run);
    listing(body, "Failures", run.total.troubles.iter().map(|(trouble, count)| format!("{count} × {trouble}")));
    listing(body, "Wrong verdicts, some of them", run.total.examples.iter().cloned());
    let machine = &run.machine;
    let _ = write!(
        body,
        "<p class=\"machine\">{}, {} processors, {:.0} GiB, Linux {}, commit {}; load average {:.2}. The generator took {:.0} µs of CPU a \
         message.</p></section>",
        escape(&machine.processor),
        machine.processors,
        machine.memory_bytes as f64 / (1_u64 << 30) as f64,
        escape(&machine.kernel),
        escape(machine.commit.as_deref().unwrap_or("unknown")),
        machine.load_average,
        run.generator_cpu.as_secs_f64() * 1e6 / run.total.answered().max(1) as f64,
    );
}

fn figures(body: &mut String, run: &Run, basis: Basis) {
    let total = &run.total;
    let latency = |part| percentile(&total.whole, part).map_or("-".to_owned(), |it| format!("{} ms", short(it)));
    let mut figures = vec![("messages a second", short(run.rate())), ("p50", latency(0.5)), ("p99", latency(0.99))];
    if let Some(cpu) = run.target_cpu_us() {
        figures.push(("CPU a message", format!("{} µs", short(cpu))));
        figures.push(("peak memory", format!("{} MiB", short(run.target_rss_peak as f64 / 1_048_576.0))));
    }
    let counts = [
        ("offered", total.offered),
        ("started", total.started),
        ("late", total.late),
        ("dropped", total.dropped),
        (basis.right_word(), total.right),
        ("temporary errors", total.temporary),
        ("wrong", total.wrong),
        ("failed", total.failed),
    ];
    figures.extend(counts.map(|(name, count)| (name, count.to_string())));
    body.push_str("<dl class=\"figures\">");
    for (name, value) in figures {
        let _ = write!(body, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    body.push_str("</dl>");
}

fn charts(run: &Run) -> Vec<String> {
    let over_time = |title, unit, is_logarithmic, lines: Vec<Line<'_>>| {
        let last = run.points.last().map_or(1.0, |point| point.at);
        let marks = round_marks(last).into_iter().map(|mark| (mark, format!("{} s", short(mark)))).collect();
        let table = time_table(title, unit, &lines, &run.points, is_logarithmic);
        Chart { title, unit, marks, lines, is_logarithmic }.to_svg(&table)
    };
    let line = |name, value: fn(&Point) -> f64| Line {
        name,
        points: run.points.iter().map(|point| (point.at, value(point))).collect(),
    };
    let mut charts = vec![
        percentile_chart(run),
        over_time(
            "Throughput",
            "messages a second",
            false,
            vec![line("offered", |it| it.offered), line("answered", |it| it.answered), line("failed", |it| it.failed)],
        ),
        over_time(
            "Latency from the planned moment",
            "ms",
            true,
            vec![
                line("p50", |it| it.p50_ms.max(1e-3)),
                line("p99", |it| it.p99_ms.max(1e-3)),
                line("max", |it| it.max_ms.max(1e-3)),
            ],
        ),
        over_time("Messages under way", "messages", false, vec![line("under way", |it| it.in_flight as f64)]),
        over_time(
            "CPU",
            "processors",
            false,
            vec![line("target", |it| it.target_cpu), line("generator", |it| it.generator_cpu)],
        ),
    ];
    if run.has_processes {
        let memory = vec![line("resident", |it| it.target_rss_bytes as f64 / 1_048_576.0)];
        charts.push(over_time("Memory of the target", "MiB", false, memory));
    }
    charts
}

/// Percentiles over a horizontal axis on which each further nine takes the same room.
fn percentile_chart(run: &Run) -> String {
    let marks = [(0.5, "50 %"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")];
    let place = |part: f64| -(1.0 - part).log10();
    let lines = run.latencies().into_iter().take(3).filter(|(_, histogram)| !histogram.is_empty());
    let lines = lines.map(|(name, histogram)| {
        // No further than there are messages to tell.
        let furthest = place(1.0 - 1.0 / histogram.len().max(2) as f64).min(place(0.99999));
        let points = (0..=120).map(|step| furthest * f64::from(step) / 120.0);
        let points = points.map(|at| (at, milliseconds(histogram, 1.0 - 10_f64.powf(-at)).max(1e-3))).collect();
        Line { name, points }
    });
    let lines: Vec<Line<'_>> = lines.collect();
    let furthest = lines.iter().flat_map(|line| &line.points).map(|point| point.0).fold(0.0, f64::max);
    let marks = marks
        .into_iter()
        .map(|(part, name)| (place(part), name.to_owned()))
        .filter(|mark| mark.0 <= furthest)
        .collect();
    // The table of the latencies is its table too.
    Chart { title: "Latency by percentile", unit: "ms", marks, lines, is_logarithmic: true }.to_svg("")
}

/// Rows of a table of what goes on over time.
const TIME_ROWS_MAX: usize = 60;

/// The lines of a chart as numbers, to unfold. Latencies are those of the answers of a tick, where there are any.
fn time_table(title: &str, unit: &str, lines: &[Line<'_>], points: &[Point], of_answers: bool) -> String {
    let head = std::iter::once("second".to_owned()).chain(lines.iter().map(|line| line.name.to_owned()));
    let mut rows = vec![head.collect::<Vec<_>>()];
    let step = points.len().div_ceil(TIME_ROWS_MAX).max(1);
    // Counted from the end, which belongs to it.
    let first = points.len().saturating_sub(1) % step;
    for (number, point) in points.iter().enumerate().skip(first).step_by(step) {
        let is_shown = !of_answers || point.answered > 0.0;
        let cell = |line: &Line<'_>| line.points.get(number).filter(|_| is_shown).map(|it| short(it.1));
        let cells = lines.iter().map(|line| cell(line).unwrap_or("-".to_owned()));
        rows.push(std::iter::once(format!("{:.1}", point.at)).chain(cells).collect());
    }
    let thinned = if step > 1 { format!(", one point of {step}") } else { String::new() };
    let mut text = format!("<details><summary>As a table{thinned}</summary>");
    table(&mut text, &format!("{title}, {unit}"), &rows);
    text.push_str("</details>");
    text
}

fn latency_table(body: &mut String, run: &Run) {
    let head = std::iter::once("latency, ms".to_owned()).chain(PERCENTILES.iter().map(|(name, _)| (*name).to_owned()));
    let mut rows = vec![head.chain(std::iter::once("messages".to_owned())).collect::<Vec<_>>()];
    // In one call there is nothing between the begin of a message and its answer.
    for (name, histogram) in run.latencies().into_iter().filter(|(_, histogram)| !histogram.is_empty()) {
        let values = PERCENTILES.iter().map(|(_, part)| short(milliseconds(histogram, *part)));
        rows.push(std::iter::once(name.to_owned()).chain(values).chain([histogram.len().to_string()]).collect());
    }
    table(body, "Latencies", &rows);
}

/// The first row is the head, the first column names the rows.
fn table(body: &mut String, caption: &str, rows: &[Vec<String>]) {
    let _ = write!(
        body,
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption>",
        escape(caption)
    );
    for (number, row) in rows.iter().enumerate() {
        body.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let (tag, scope) = match (number, column) {
                (0, _) => ("th", " scope=\"col\""),
                (_, 0) => ("th", " scope=\"row\""),
                _ => ("td", ""),
            };
            let _ = write!(body, "<{tag}{scope}>{}</{tag}>", escape(cell));
        }
        body.push_str("</tr>");
    }
    body.push_str("</table></div>");
}

fn bar_chart(body: &mut String, caption: &str, values: &[(String, f64)]) {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let _ = write!(body, "<figure><figcaption>{}</figcaption><table class=\"bars\">", escape(caption));
    for (name, value) in values {
        let part = value.max(0.0) / most * 100.0;
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"bar\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect width=\"{part:.2}\" height=\"10\"/></svg></td><td>{}</td></tr>",
            escape(name),
            short(*value),
        );
    }
    body.push_str("</table></figure>");
}

fn listing(body: &mut String, caption: &str, lines: impl Iterator<Item = String>) {
    let items: String = lines.map(|line| format!("<li><code>{}</code></li>", escape(&line))).collect();
    if !items.is_empty() {
        let _ = write!(body, "<details open><summary>{caption}</summary><ul>{items}</ul></details>");
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--ink:#1d1c1a;--soft:#6b6862;--rule:#e2dfd9;--l0:#1f6feb;--l1:#c2410c;--l2:#0f766e;\
--good:#166534;--bad:#b91c1c}\
@media(prefers-color-scheme:dark){:root{--paper:#161513;--card:#1f1e1b;--ink:#edebe6;--soft:#a29e95;--rule:#3a3833;--l0:#6cb0ff;--l1:#ff9d5c;\
--l2:#4fd1c0;--good:#7ddc9a;--bad:#ff8f87}}\
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:1280px;margin:0 auto;padding:16px}h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0 1rem;overflow-wrap:anywhere}\
h2{font-size:1.2rem;margin:0}section{padding:16px 0 24px;border-top:1px solid var(--rule)}.load,.machine{color:var(--soft);margin:.25rem 0 .75rem;\
overflow-wrap:anywhere}.good strong{color:var(--good)}.bad,.bad strong{color:var(--bad)}\
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(136px,1fr));gap:8px;margin:0 0 16px}\
.figures div{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:8px 10px}dt{color:var(--soft);font-size:.8rem}\
dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:12px;margin:0 0 16px}\
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:10px;min-width:0}figcaption{font-weight:600;\
margin-bottom:4px}small,.tick{color:var(--soft);font-weight:400}figure>svg{display:block;width:100%;height:auto}\
.tick{fill:var(--soft);font:11px system-ui,sans-serif}.grid{stroke:var(--rule);stroke-width:1}\
.line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke:var(--l0)}.l1{stroke:var(--l1);stroke-dasharray:6 2}.l2{stroke:var(--l2);\
stroke-dasharray:2 2}.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 14px;margin:4px 0 0;padding:0;font-size:.85rem}\
.legend svg{width:26px;height:8px;margin-right:5px;vertical-align:middle}\
.wide{overflow-x:auto;margin:0 0 16px}table{border-collapse:collapse;font-variant-numeric:tabular-nums}caption{text-align:left;font-weight:600;\
padding:4px 0}.wide th,.wide td{border-bottom:1px solid var(--rule);padding:5px 12px 5px 0;text-align:right;white-space:nowrap}\
.wide th:first-child{text-align:left;position:sticky;left:0;background:var(--paper);font-weight:400;white-space:normal;min-width:7rem}figure .wide th:first-child{background:var(--card)}\
.wide tr:first-child th,.wide tr:first-child th:first-child{font-weight:600;vertical-align:bottom;white-space:normal}\
.bars{width:100%}.bars th{font-weight:400;text-align:left;padding-right:8px;font-size:.85rem;overflow-wrap:anywhere}\
.bars td{text-align:right;font-size:.85rem;white-space:nowrap}.bar{width:45%}.bar svg{width:100%;height:12px;display:block}\
.bars rect{fill:var(--l0)}details{margin:0 0 12px}summary{cursor:pointer;font-weight:600}code{overflow-wrap:anywhere;font-size:.85rem}\
:focus-visible{outline:2px solid var(--l0);outline-offset:2px}";
