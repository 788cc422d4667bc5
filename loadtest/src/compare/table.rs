//! The comparison as a table: for a terminal, for programs, and as a page.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{FilterRow, Findings, PostfixRow};
use crate::drive::LATE_SHARE_MAX;
use crate::report::{Bars, Basis, Run, milliseconds, percentile, picture, table_page, to_json};
use crate::target::Claims;

const FILTER_HEAD: [&str; 11] = [
    "filter, on one processor",
    "msg/s at the knee",
    "msg/s at most",
    "CPU µs/msg",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "RSS MiB",
    "wrong",
    "failed",
    "resolver µs/msg",
];
const POSTFIX_HEAD: [&str; 9] = [
    "mail server, on all processors",
    "msg/s delivered",
    "CPU µs/msg",
    "of it filters",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "RSS MiB",
    "wrong",
];

pub(super) fn text(findings: &Findings) -> String {
    let mut text = format!("{}\n\n", lead(findings));
    for rows in [filter_rows(findings), postfix_rows(findings)] {
        if rows.len() > 1 {
            text.push_str(&aligned(&rows));
            text.push('\n');
        }
    }
    // Writing to a String can not fail.
    for (name, why) in &findings.left_out {
        let _ = writeln!(text, "left out: {name}: {why}");
    }
    for row in &findings.filters {
        for example in row.found.saturated.total.examples.iter().take(4) {
            let _ = writeln!(text, "{} is wrong about {example}", row.name);
        }
        for (trouble, count) in &row.found.saturated.total.troubles {
            let _ = writeln!(text, "{}: {count} failed: {trouble}", row.name);
        }
    }
    for row in &findings.postfix {
        for example in row.arrivals.examples.iter().take(4) {
            let _ = writeln!(text, "{} is wrong about {example}", row.name);
        }
        if row.refused > 0 {
            let _ = writeln!(
                text,
                "{}: {} messages were not accepted: {:?}",
                row.name, row.refused, row.common.total.troubles
            );
        }
    }
    text
}

fn lead(findings: &Findings) -> String {
    let machine = &findings.machine;
    format!(
        "{}, {} processors, Linux {}, commit {}, load average {:.2} at the start. {} messages of {:.1} KiB on average over {} domains, a \
         connection each; one resolver (unbound over knot) that has been asked everything before. Latencies: from the first octet of the content to the last answer, at the same rate for \
         all (100 a second for filters, 50 for mail servers). Knee: the highest rate tried at which 99 of 100 messages are answered within 100 ms of \
         their planned moment. The generator alone, against a filter that only reads: {:.0} messages a second, {:.1} µs of CPU each for \
         both. {:.0} s in all.",
        machine.processor,
        machine.processors,
        machine.kernel,
        machine.commit.as_deref().unwrap_or("unknown"),
        machine.load_average,
        findings.messages,
        findings.mean_bytes as f64 / 1024.0,
        findings.domains,
        findings.generator.rate(),
        findings.generator.generator_cpu.as_secs_f64() * 1e6 / findings.generator.total.answered().max(1) as f64,
        findings.elapsed.as_secs_f64(),
    )
}

fn latencies(run: &Run) -> [String; 3] {
    [0.5, 0.99, 0.999].map(|part| {
        // A run in which the generator fell behind still measured these: they count from the content on.
        percentile(&run.total.content, part).map_or("-".to_owned(), |it| format!("{it:.2}"))
    })
}

fn filter_rows(findings: &Findings) -> Vec<Vec<String>> {
    let mut rows = vec![FILTER_HEAD.map(str::to_owned).to_vec()];
    rows.extend(findings.filters.iter().map(filter_row));
    rows
}

fn filter_row(row: &FilterRow) -> Vec<String> {
    let found = &row.found;
    let knee = found.knee.as_ref().map_or("-".to_owned(), |run| format!("{:.0}", run.rate()));
    let cpu = found.saturated.target_cpu_us().map_or("-".to_owned(), |it| format!("{it:.0}"));
    let answered = found.saturated.total.answered().max(1) as f64;
    let wrong = wrong(row.claims, found.saturated.total.wrong, found.saturated.total.answered());
    let mut cells = vec![row.name.to_owned(), knee, format!("{:.0}", found.saturated.rate()), cpu];
    cells.extend(latencies(&found.common));
    cells.extend([
        format!("{:.1}", memory_mib(row)),
        wrong,
        found.saturated.total.failed.to_string(),
        format!("{:.0}", found.saturated.beside_cpu.as_secs_f64() * 1e6 / answered),
    ]);
    cells
}

/// What it has taken in any of its runs.
fn memory_mib(row: &FilterRow) -> f64 {
    let runs = [Some(&row.found.saturated), row.found.knee.as_ref(), Some(&row.found.common)];
    runs.iter().flatten().map(|run| run.target_rss_peak).max().unwrap_or(0) as f64 / 1_048_576.0
}

fn postfix_rows(findings: &Findings) -> Vec<Vec<String>> {
    let mut rows = vec![POSTFIX_HEAD.map(str::to_owned).to_vec()];
    rows.extend(findings.postfix.iter().map(postfix_row));
    rows
}

fn postfix_row(row: &PostfixRow) -> Vec<String> {
    let mut cells = vec![
        row.name.to_owned(),
        format!("{:.0}", row.rate),
        format!("{:.0}", row.cpu_us),
        format!("{:.0}", row.filter_cpu_us),
    ];
    cells.extend(latencies(&row.common));
    cells.extend([
        format!("{:.1}", row.rss_bytes as f64 / 1_048_576.0),
        wrong(row.claims, row.arrivals.wrong, row.arrivals.arrived),
    ]);
    cells
}

/// Verdicts that are wrong, where any are checked.
fn wrong(claims: Claims, wrong: u64, of: u64) -> String {
    if claims == Claims::NONE && wrong == 0 { "unchecked".to_owned() } else { format!("{wrong} of {of}") }
}

/// Columns one below the other.
fn aligned(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

pub(super) fn json(findings: &Findings) -> Value {
    let unchecked = |run: &Run| to_json(run, Basis { claims: Claims::NONE, late_share_max: LATE_SHARE_MAX });
    let filters = findings.filters.iter().map(|row| {
        let run = |run: &Run| to_json(run, Basis { claims: row.claims, late_share_max: LATE_SHARE_MAX });
        let knee = row.found.knee.as_ref().map(run);
        json!({ "name": row.name, "saturated": run(&row.found.saturated), "knee": knee, "common": run(&row.found.common) })
    });
    let postfix = findings.postfix.iter().map(|row| {
        json!({
            "name": row.name, "rate": row.rate, "cpu_us": row.cpu_us, "filter_cpu_us": row.filter_cpu_us, "rss_bytes": row.rss_bytes,
            "accepted": row.accepted, "arrived": row.arrivals.arrived, "wrong": row.arrivals.wrong, "unknown": row.arrivals.unknown,
            "refused": row.refused, "common": unchecked(&row.common),
        })
    });
    json!({
        "v": 1, "machine": findings.machine, "seconds": findings.elapsed.as_secs_f64(), "messages": findings.messages,
        "mean_bytes": findings.mean_bytes, "domains": findings.domains, "generator": unchecked(&findings.generator), "filters": filters.collect::<Vec<_>>(),
        "postfix": postfix.collect::<Vec<_>>(), "left_out": findings.left_out,
    })
}

pub(super) fn html(findings: &Findings) -> String {
    let tables = [("Filters".to_owned(), filter_rows(findings)), ("Mail servers".to_owned(), postfix_rows(findings))];
    table_page("Comparison", &lead(findings), &tables, &bars(findings))
}

pub(super) fn svg(findings: &Findings) -> String {
    let machine = &findings.machine;
    let commit = machine.commit.as_deref().unwrap_or("unknown");
    let title = format!("Filters for mail servers with one stream, at {commit}; each scale begins at 0");
    picture(&title, &bars(findings))
}

fn bars(findings: &Findings) -> [Bars; 8] {
    let of_filters = |value: &dyn Fn(&FilterRow) -> f64| {
        findings.filters.iter().map(|row| (row.name.to_owned(), value(row))).collect::<Vec<_>>()
    };
    let of_servers = |value: &dyn Fn(&PostfixRow) -> f64| {
        findings.postfix.iter().map(|row| (row.name.to_owned(), value(row))).collect::<Vec<_>>()
    };
    [
        ("Messages a second at most".to_owned(), of_filters(&|row| row.found.saturated.rate())),
        (
            "Messages a second at the knee".to_owned(),
            of_filters(&|row| row.found.knee.as_ref().map_or(f64::NAN, Run::rate)),
        ),
        ("CPU a message, µs".to_owned(), of_filters(&|row| row.found.saturated.target_cpu_us().unwrap_or(0.0))),
        (
            "p99 of content to answer, ms".to_owned(),
            of_filters(&|row| milliseconds(&row.found.common.total.content, 0.99)),
        ),
        (
            "p99.9 of content to answer, ms".to_owned(),
            of_filters(&|row| milliseconds(&row.found.common.total.content, 0.999)),
        ),
        ("Memory at most, MiB".to_owned(), of_filters(&memory_mib)),
        ("Mail servers: messages a second delivered".to_owned(), of_servers(&|row| row.rate)),
        ("Mail servers: CPU a message, µs".to_owned(), of_servers(&|row| row.cpu_us)),
    ]
}
