//! Plots as SVG: lines over a logarithmic x axis, drawn here, without a library.
//!
//! Invariant: a plot has one unit for each axis, names every series in words beside its marks (never by colour alone), brings its own
//! background and is legible where the reader's page is light and where it is dark. A point that is NaN is left out; a plot without
//! points is not drawn.

use std::fmt::Write;

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The file is `performance-{file}.svg`.
    pub file: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What the x axis counts.
    pub x: &'static str,
    /// The unit of the y axis.
    pub y: &'static str,
    /// Whether the y axis is logarithmic; else it begins at 0.
    pub is_log: bool,
    /// At most five.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// The plot's own rectangle.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 736.0;
const TOP: f64 = 98.0;
const BOTTOM: f64 = 344.0;
/// The width of a character of the legend, about.
const CHARACTER: f64 = 6.9;

/// Colours of light pages, then of dark ones: told apart by people who see few colours, too.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#52514e}.t{font-size:15px;font-weight:600;fill:#0b0b0b}
.b{fill:#fcfcfb;stroke:#dddcd8}.g{stroke:#e6e5e1}.a{stroke:#8a8983}.l{fill:none;stroke-width:2;stroke-linejoin:round}.m{stroke:#fcfcfb;stroke-width:1.5}
.s0{stroke:#2a78d6;fill:#2a78d6}.s1{stroke:#d95926;fill:#d95926}.s2{stroke:#1a8f66;fill:#1a8f66}.s3{stroke:#4a3aa7;fill:#4a3aa7}.s4{stroke:#b07800;fill:#b07800}
@media(prefers-color-scheme:dark){text{fill:#c3c2b7}.t{fill:#ffffff}.b{fill:#1a1a19;stroke:#3a3a37}.g{stroke:#2f2f2c}.a{stroke:#77766f}.m{stroke:#1a1a19}
.s0{stroke:#5598e7;fill:#5598e7}.s1{stroke:#ec835a;fill:#ec835a}.s2{stroke:#1baf7a;fill:#1baf7a}.s3{stroke:#9085e9;fill:#9085e9}.s4{stroke:#e0a020;fill:#e0a020}}
.l{fill:none}";

/// A range of figures and where they stand on the paper.
struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<f64>,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over figures above 0: between the 1, 2 or 5 below the lowest and the one above the highest.
    fn log(values: &[f64], from: f64, to: f64) -> Axis {
        let (low, high) = bounds(values);
        let steps: Vec<f64> = (-6..13).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))).collect();
        let first = steps.iter().rposition(|s| *s <= low * 1.0001).unwrap_or(0);
        let last = steps.iter().position(|s| *s >= high * 0.9999).unwrap_or(steps.len() - 1).max(first + 1);
        let all = &steps[first..=last];
        // Powers of ten alone where there are enough of them.
        let tens: Vec<f64> = all.iter().copied().filter(|s| (s.log10() - s.log10().round()).abs() < 1e-9).collect();
        let ticks = if tens.len() >= 3 { tens } else { all.to_vec() };
        Axis { low: all[0], high: all[all.len() - 1], is_log: true, ticks, from, to }
    }

    /// From the lowest to the highest, with a tick at each: what was measured, no more. Logarithmic.
    fn measured(values: &[f64], from: f64, to: f64) -> Axis {
        let mut ticks = values.to_vec();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        match ticks.as_slice() {
            [low, .., high] => Axis { low: *low, high: *high, is_log: true, ticks: ticks.clone(), from, to },
            _ => Axis::log(values, from, to),
        }
    }

    /// From 0, in four to eight steps of 1, 2 or 5.
    fn linear(values: &[f64], from: f64, to: f64) -> Axis {
        let high = bounds(values).1.max(f64::MIN_POSITIVE);
        let power = 10f64.powf((high / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|s| high / s <= 6.0).unwrap_or(high);
        let count = (high / step).ceil() as usize;
        let ticks: Vec<f64> = (0..=count).map(|n| n as f64 * step).collect();
        Axis { low: 0.0, high: count as f64 * step, is_log: false, ticks, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let place = |v: f64| if self.is_log { v.log10() } else { v };
        self.from + (place(value) - place(self.low)) / (place(self.high) - place(self.low)) * (self.to - self.from)
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

impl Chart {
    /// The plot as an SVG document; none where there is nothing to show.
    pub fn svg(&self) -> Option<String> {
        let shown = |&(x, y): &(f64, f64)| x > 0.0 && if self.is_log { y > 0.0 } else { y.is_finite() };
        let series: Vec<_> = self
            .series
            .iter()
            .enumerate()
            .map(|(at, s)| (at, s, s.points.iter().copied().filter(shown).collect::<Vec<_>>()))
            .filter(|(_, _, points)| !points.is_empty())
            .collect();
        let all: Vec<(f64, f64)> = series.iter().flat_map(|(_, _, points)| points.clone()).collect();
        if all.is_empty() {
            return None;
        }
        let (xs, ys): (Vec<f64>, Vec<f64>) = all.into_iter().unzip();
        let x = Axis::measured(&xs, LEFT, RIGHT);
        let y = if self.is_log { Axis::log(&ys, BOTTOM, TOP) } else { Axis::linear(&ys, BOTTOM, TOP) };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n<rect class=\"b\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n\
             <text class=\"t\" x=\"20\" y=\"30\">{}</text>\n",
            escaped(self.title),
            WIDTH - 1.0,
            HEIGHT - 1.0,
            escaped(self.title)
        );
        self.axes(&mut out, &x, &y);
        let mut right = 20.0;
        for (at, series, points) in &series {
            let placed: Vec<(f64, f64)> = points.iter().map(|(a, b)| (x.at(*a), y.at(*b))).collect();
            let path: Vec<String> = placed.iter().map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
            let _ = writeln!(out, "<polyline class=\"s{at} l\" points=\"{}\"/>", path.join(" "));
            for (a, b) in placed {
                mark(&mut out, *at, a, b);
            }
            let _ = writeln!(out, "<path class=\"s{at} l\" d=\"M{right:.1},52h26\"/>");
            mark(&mut out, *at, right + 13.0, 52.0);
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"56\">{}</text>", right + 32.0, escaped(&series.name));
            right += 52.0 + series.name.chars().count() as f64 * CHARACTER;
        }
        out.push_str("</svg>\n");
        Some(out)
    }

    /// Lines, figures and names of both axes.
    fn axes(&self, out: &mut String, x: &Axis, y: &Axis) {
        for tick in &y.ticks {
            let at = y.at(*tick);
            let _ = writeln!(out, "<path class=\"g\" d=\"M{LEFT},{at:.1}H{RIGHT}\"/>");
            let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, at + 4.0, short(*tick));
        }
        for tick in &x.ticks {
            let at = x.at(*tick);
            let _ = writeln!(out, "<path class=\"a\" d=\"M{at:.1},{BOTTOM}v5\"/>");
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", BOTTOM + 20.0, short(*tick));
        }
        let _ = writeln!(out, "<path class=\"a\" d=\"M{LEFT},{BOTTOM}H{RIGHT}\"/>");
        let _ = writeln!(out, "<text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{}</text>", HEIGHT - 14.0, escaped(self.x));
        let _ = writeln!(out, "<text x=\"20\" y=\"{}\">{}</text>", TOP - 18.0, escaped(self.y));
    }
}

/// A point, in each series' own shape.
fn mark(out: &mut String, series: usize, x: f64, y: f64) {
    let _ = match series {
        0 => writeln!(out, "<circle class=\"s0 m\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"),
        1 => writeln!(out, "<rect class=\"s1 m\" x=\"{:.1}\" y=\"{:.1}\" width=\"8.4\" height=\"8.4\"/>", x - 4.2, y - 4.2),
        2 => writeln!(out, "<path class=\"s2 m\" d=\"M{x:.1},{:.1}l5.4,9.4h-10.8z\"/>", y - 5.8),
        3 => writeln!(out, "<path class=\"s3 m\" d=\"M{x:.1},{:.1}l5.6,5.6l-5.6,5.6l-5.6,-5.6z\"/>", y - 5.6),
        n => writeln!(out, "<path class=\"s{n} m\" d=\"M{x:.1},{:.1}l5.4,-9.4h-10.8z\"/>", y + 5.8),
    };
}

/// A figure of an axis, two digits of it: 0.05, 20, 5000, 20 k, 1 M.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", round(v / 1e6)),
        v if v >= 1e4 => format!("{} k", round(v / 1e3)),
        v => round(v),
    }
}

fn round(value: f64) -> String {
    let unit = 10f64.powf(value.abs().max(1e-9).log10().floor() - 1.0);
    let text = format!("{:.6}", (value / unit).round() * unit);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_an_axis_are_short() {
        for (value, expected) in
            [(0.05, "0.05"), (20.0, "20"), (5000.0, "5000"), (20_000.0, "20 k"), (1_000_020.0, "1 M"), (64.0, "64"), (0.0, "0")]
        {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn axes_hold_what_they_show() {
        for values in [vec![1.0, 1000.0], vec![0.3, 0.31], vec![7.0], vec![2000.0, 1_000_000.0]] {
            let axes = [Axis::log(&values, 0.0, 100.0), Axis::linear(&values, 0.0, 100.0), Axis::measured(&values, 0.0, 100.0)];
            for axis in axes {
                assert!(axis.ticks.len() >= 2, "{:?}", axis.ticks);
                assert!(values.iter().all(|v| (-0.01..=100.01).contains(&axis.at(*v))), "{values:?} {:?}", axis.ticks);
            }
        }
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let series = |points| vec![Series { name: "a < b".into(), points }];
        let chart = |series| Chart { file: "x", title: "t", x: "n", y: "ms", is_log: true, series };
        assert!(chart(series(vec![(1.0, f64::NAN)])).svg().is_none());
        let drawn = chart(series(vec![(1.0, 2.0), (10.0, f64::NAN), (100.0, 4.0)])).svg().unwrap();
        assert!(drawn.contains("a &lt; b") && !drawn.contains("NaN"));
    }
}
