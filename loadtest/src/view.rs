//! A run on a terminal, while it goes.

use std::io::{self, Stderr};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Sparkline};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use crate::drive::{Observer, Progress};
use crate::measure::Point;
use crate::plan::Load;
use crate::report::Basis;

/// Draws at the bottom of the terminal and leaves the rest alone.
pub struct View {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    drawn: Option<Instant>,
    basis: Basis,
}

/// Lines that it takes.
const HEIGHT: u16 = 11;
/// Between two drawings.
const REDRAW: Duration = Duration::from_millis(200);

impl View {
    /// On standard error; `None` where that is no terminal.
    #[must_use]
    pub fn new(basis: Basis) -> Option<Self> {
        if !io::IsTerminal::is_terminal(&io::stderr()) {
            return None;
        }
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stderr()), options).ok()?;
        Some(Self { terminal, drawn: None, basis })
    }
}

impl Observer for View {
    fn tick(&mut self, progress: &Progress<'_>) -> bool {
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            // A terminal that went away is no reason to end the run.
            let _ = self.terminal.draw(|frame| draw(frame, progress, self.basis));
        }
        true
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.terminal.clear();
    }
}

fn draw(frame: &mut Frame<'_>, progress: &Progress<'_>, basis: Basis) {
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Length(3),
    ]);
    let [title, gauge, counts, rate, latency] = rows.areas(frame.area());
    frame.render_widget(Line::from(format!("{}: {}", progress.name, progress.load)).bold(), title);
    let done = (progress.elapsed.as_secs_f64() / progress.load.time().as_secs_f64().max(1e-9)).min(1.0);
    let label = format!("{:.1} s", progress.elapsed.as_secs_f64());
    frame.render_widget(Gauge::default().ratio(done).label(label).gauge_style(Style::new().blue()), gauge);
    frame.render_widget(Paragraph::new(lines(progress, basis)), counts);
    let last = progress.points.last().copied().unwrap_or_default();
    let offered =
        if matches!(progress.load, Load::Open(_)) { format!(" of {:.0} offered", last.offered) } else { String::new() };
    spark(frame, rate, &format!("{:.0} answered a second{offered}", last.answered), progress.points, |point| {
        point.answered
    });
    let title = format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", last.p50_ms, last.p99_ms, last.max_ms);
    spark(frame, latency, &title, progress.points, |point| point.p99_ms * 1e3);
}

fn lines(progress: &Progress<'_>, basis: Basis) -> Vec<Line<'static>> {
    let total = progress.total;
    let last = progress.points.last().copied().unwrap_or_default();
    let counts = format!(
        "offered {}  {} {}  temporary {}  wrong {}  failed {}  late {}  under way {}",
        total.offered,
        basis.right_word(),
        total.right,
        total.temporary,
        total.wrong,
        total.failed,
        total.late,
        last.in_flight,
    );
    let costs = format!(
        "target {:.0} % CPU, {:.1} MiB   generator {:.0} % CPU",
        last.target_cpu * 100.0,
        last.target_rss_bytes as f64 / 1_048_576.0,
        last.generator_cpu * 100.0,
    );
    let is_bad = total.wrong > 0 || total.failed > 0 || total.late > 0;
    let counts = Line::from(counts);
    vec![if is_bad { counts.red() } else { counts }, Line::from(costs).dim()]
}

fn spark(frame: &mut Frame<'_>, area: Rect, title: &str, points: &[Point], value: fn(&Point) -> f64) {
    let [head, bars] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::from(title.to_owned()), head);
    let width = usize::from(bars.width);
    let shown = &points[points.len().saturating_sub(width)..];
    let values: Vec<u64> = shown.iter().map(|point| value(point).max(0.0) as u64).collect();
    frame.render_widget(Sparkline::default().data(values).style(Style::new().cyan()), bars);
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::measure::Tally;
    use crate::target::Claims;

    #[test]
    fn a_run_is_drawn_before_its_first_tick_and_on_any_terminal() {
        let (load, total) = (Load::steady(10.0, Duration::from_secs(1)), Tally { wrong: 3, ..Tally::default() });
        for (width, points) in
            [(80, vec![Point { answered: 9.0, p99_ms: 1.5, ..Point::default() }; 200]), (3, Vec::new())]
        {
            let mut terminal = Terminal::new(TestBackend::new(width, HEIGHT)).unwrap();
            let elapsed = Duration::from_millis(500);
            let basis = Basis { claims: Claims::NONE, late_share_max: 0.01 };
            let progress = Progress { name: "x", load: &load, elapsed, points: &points, total: &total };
            let drawn = terminal.draw(|frame| draw(frame, &progress, basis)).unwrap();
            let text: String = drawn.buffer.content().iter().map(|cell| cell.symbol().to_owned()).collect();
            assert!(
                width < 80 || text.contains("unchecked 0") && text.contains("wrong 3") && text.contains("p99 1.50 ms"),
                "{text}"
            );
        }
    }
}
