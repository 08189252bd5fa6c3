//! Draws distributions of times as an SVG image: for each time the share of the measurements that took no longer (pure).
//!
//! The time has a logarithmic axis, so that a median below a millisecond and a tail of seconds are both seen. The image has no script,
//! names no other file, and follows the reader's light or dark colours.

use crate::statistics::{quantile, sorted};
use std::fmt::Write as _;

/// A distribution with its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) times_ms: &'a [f64],
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
/// The edges of the area of the curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = HEIGHT - 150.0;
/// The number of points of a curve.
const POINTS: usize = 200;
/// The colours of the curves, which differ in lightness as well.
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08900", "#56b4e9", "#808080",
];
const STYLE: &str = "text{font:13px sans-serif;fill:#222}.t{font-size:16px;font-weight:bold}.g{stroke:#8884;stroke-width:1}\
.p{fill:none;stroke-width:2}rect{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#1b1b1b}}";

/// The decades of the axis of times, as exponents of ten.
fn decades(curves: &[Curve<'_>]) -> (i32, i32) {
    let times = curves.iter().flat_map(|curve| curve.times_ms);
    // A time of zero has no place on a logarithmic axis.
    let times = times
        .copied()
        .filter(|time| *time > 0.0 && time.is_finite());
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for time in times {
        (least, most) = (least.min(time), most.max(time));
    }
    if least > most {
        return (0, 1);
    }
    let low = (least.log10().floor() as i32).clamp(-3, 6);
    let high = (most.log10().ceil() as i32).clamp(-2, 7);
    (low, high.max(low + 1))
}

/// Returns the place of a time on the horizontal axis.
fn across(time: f64, (low, high): (i32, i32)) -> f64 {
    let exponent = time
        .max(1e-9)
        .log10()
        .clamp(f64::from(low), f64::from(high));
    LEFT + (exponent - f64::from(low)) / f64::from(high - low) * (RIGHT - LEFT)
}

/// Returns the place of a share (0 to 1) on the vertical axis.
fn up(share: f64) -> f64 {
    BOTTOM - share * (BOTTOM - TOP)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Returns a time as a label: `0.1 ms`, `10 ms`, `1 s`.
fn label(exponent: i32) -> String {
    match exponent {
        ..0 => format!(
            "{:.*} ms",
            exponent.unsigned_abs() as usize,
            10f64.powi(exponent)
        ),
        0..3 => format!("{} ms", 10f64.powi(exponent)),
        _ => format!("{} s", 10f64.powi(exponent - 3)),
    }
}

/// Returns the corners of a curve.
fn path(times_ms: &[f64], decades: (i32, i32)) -> String {
    let times = sorted(times_ms);
    let mut path = String::new();
    for point in 0..=POINTS {
        let share = point as f64 / POINTS as f64;
        let (x, y) = (across(quantile(&times, share), decades), up(share));
        let command = if point == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    path
}

/// Returns the image. Curves without times are left out.
pub(crate) fn svg(title: &str, note: &str, curves: &[Curve<'_>]) -> String {
    let decades = decades(curves);
    let (title, note) = (escaped(title), escaped(note));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>{title}</title>\n<desc>{note}</desc>\n\
<style>{STYLE}</style>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
<text class=\"t\" x=\"{LEFT}\" y=\"30\">{title}</text>\n<text x=\"{LEFT}\" y=\"52\">{note}</text>\n"
    );
    for exponent in decades.0..=decades.1 {
        let (x, label) = (across(10f64.powi(exponent), decades), label(exponent));
        let _ = writeln!(
            svg,
            "<path class=\"g\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            BOTTOM + 20.0
        );
    }
    for percent in [0, 25, 50, 75, 90, 99, 100] {
        let y = up(f64::from(percent) / 100.0);
        let _ = write!(svg, "<path class=\"g\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        // The labels of 90, 99 and 100 per cent would overlap.
        if percent != 99 {
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        svg.push('\n');
    }
    let drawn = curves.iter().filter(|curve| !curve.times_ms.is_empty());
    for (at, curve) in drawn.enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let (x, y) = (
            LEFT + (at % 2) as f64 * 390.0,
            BOTTOM + 52.0 + (at / 2) as f64 * 24.0,
        );
        let _ = writeln!(
            svg,
            "<path class=\"p\" stroke=\"{colour}\" d=\"{}\"/><path class=\"p\" stroke=\"{colour}\" d=\"M{x} {}h24\"/><text x=\"{}\" y=\"{y}\">{} ({})</text>",
            path(curve.times_ms, decades),
            y - 4.0,
            x + 32.0,
            escaped(curve.name),
            curve.times_ms.len()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_whole_decades_around_all_times() {
        let of = |times_ms: &[f64]| {
            decades(&[Curve {
                name: "a",
                times_ms,
            }])
        };
        assert_eq!(of(&[0.3, 46.0]), (-1, 2));
        assert_eq!(of(&[0.0, 5.0]), (0, 1));
        assert_eq!(of(&[10.0]), (1, 2));
        assert_eq!(of(&[]), (0, 1));
        assert_eq!(of(&[f64::NAN]), (0, 1));
        let labels: Vec<String> = (-2..5).map(label).collect();
        assert_eq!(
            labels,
            [
                "0.01 ms", "0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"
            ]
        );
    }

    #[test]
    fn a_curve_rises_from_the_least_time_to_the_greatest() {
        let axis = (0, 2);
        assert_eq!((across(1.0, axis), across(100.0, axis)), (LEFT, RIGHT));
        assert_eq!((up(0.0), up(1.0)), (BOTTOM, TOP));
        let path = path(&[100.0, 1.0], axis);
        assert!(
            path.starts_with(&format!("M{LEFT:.1} {BOTTOM:.1}")),
            "{path}"
        );
        assert!(path.ends_with(&format!("L{RIGHT:.1} {TOP:.1}")), "{path}");
        // A time outside of the axis stays at its edge.
        assert_eq!(across(1e9, axis), RIGHT);
        assert_eq!(across(0.0, axis), LEFT);
    }

    #[test]
    fn the_image_is_well_formed_and_has_no_foreign_text_as_markup() {
        let times = [0.5, 0.7, 12.0];
        let named = |name| Curve {
            name,
            times_ms: &times,
        };
        let empty = Curve {
            name: "nothing",
            times_ms: &[],
        };
        let image = svg("a <b> & \"c\"", "<script>", &[named("x→y"), empty]);
        assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
        assert!(image.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
        assert!(!image.contains("<script>") && !image.contains("nothing"));
        assert!(image.contains("x→y (3)"));
        // Every element is closed by itself or by an end.
        let opened = image.matches('<').count() - image.matches("</").count();
        let closed = image.matches("/>").count() + image.matches("</").count();
        assert_eq!(opened, closed);
        assert!(!image.contains("NaN") && !image.contains("inf"));
    }
}
