//! A run for programs: every count, every histogram with all that it holds, every tick.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{Basis, PERCENTILES, Run, percentile};

/// The run as one JSON object. Latencies are in milliseconds, recorded values in microseconds; percentiles of nothing are null.
#[must_use]
pub fn to_json(run: &Run, basis: Basis) -> Value {
    let total = &run.total;
    let (right, unchecked) = if basis.checks() { (total.right, 0) } else { (0, total.right) };
    let results: Map<String, Value> =
        total.results.iter().map(|((method, word), count)| (format!("{method}={word}"), json!(count))).collect();
    let latencies: Map<String, Value> =
        run.latencies().into_iter().map(|(name, histogram)| (name.replace(' ', "-"), latency(histogram))).collect();
    json!({
        "v": 1,
        "name": run.name,
        "load": run.load,
        "valid": run.invalid(basis.late_share_max).is_none(),
        "invalid": run.invalid(basis.late_share_max).map(|why| why.to_string()),
        "machine": run.machine,
        "seconds": run.elapsed.as_secs_f64(),
        "rate": run.rate(),
        "counts": {
            "offered": total.offered, "started": total.started, "late": total.late, "dropped": total.dropped,
            "answered": total.answered(), "right": right, "unchecked": unchecked, "temporary": total.temporary,
            "wrong": total.wrong, "failed": total.failed, "bytes": total.bytes,
        },
        "results": results,
        "troubles": total.troubles,
        "wrong_examples": total.examples,
        "latencies": latencies,
        "target": {
            "cpu_us_a_message": run.target_cpu_us(), "cpu_seconds": run.target_cpu.as_secs_f64(),
            "rss_peak_bytes": run.target_rss_peak,
        },
        "beside_cpu_seconds": run.beside_cpu.as_secs_f64(),
        "generator_cpu_seconds": run.generator_cpu.as_secs_f64(),
        "ticks": run.points,
    })
}

fn latency(histogram: &Histogram<u64>) -> Value {
    let percentiles: Map<String, Value> =
        PERCENTILES.iter().map(|(name, part)| ((*name).to_owned(), json!(percentile(histogram, *part)))).collect();
    let recorded: Vec<[u64; 2]> =
        histogram.iter_recorded().map(|step| [step.value_iterated_to(), step.count_since_last_iteration()]).collect();
    json!({ "count": histogram.len(), "mean": histogram.mean() / 1e3, "percentiles": percentiles, "recorded_us": recorded })
}
