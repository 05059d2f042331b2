//! Drawing: a graph as SVG without text, by plotters. It stretches to its place, so labels are HTML around it, and colours
//! are ink attributes that `components.css` maps to tokens. Written as text and not as elements: a page has thousands of
//! cells, and nothing in them is a stranger's.

use std::fmt::Write as _;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::pen::{GROUND, Pen, Sketch};

/// What is drawn, in these units; the page stretches it.
const WIDTH: i32 = 600;
const HEIGHT: i32 = 160;
const SPARK: (i32, i32) = (120, 32);

/// Inks are apart where the style sheet draws them apart (dashes, dots): no colour says anything alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    First,
    Second,
    Third,
    /// Dashed.
    Fourth,
    /// Dotted.
    Fifth,
    Bad,
    Grid,
    /// A release went live.
    Mark,
    Money,
    /// Dotted.
    Forecast,
}

impl Ink {
    const fn rgb(self) -> RGBColor {
        match self {
            Self::First => RGBColor(0x0b, 0x5f, 0x6e),
            Self::Second => RGBColor(0x46, 0x54, 0x9f),
            Self::Third => RGBColor(0x48, 0x59, 0x5e),
            Self::Fourth => RGBColor(0x46, 0x54, 0x9e),
            Self::Fifth => RGBColor(0x48, 0x59, 0x5d),
            Self::Bad => RGBColor(0xac, 0x22, 0x19),
            Self::Grid => RGBColor(0xd3, 0xdd, 0xdc),
            Self::Mark => RGBColor(0x48, 0x59, 0x5f),
            Self::Money => RGBColor(0x7a, 0x52, 0x00),
            Self::Forecast => RGBColor(0x7a, 0x52, 0x01),
        }
    }

    /// As the style sheet names it.
    fn hex(self) -> String {
        let RGBColor(r, g, b) = self.rgb();
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// One line; with `under` (as long as the values), it stands on that, and the ground below it is filled.
#[derive(Debug, Clone)]
pub struct Line {
    pub ink: Ink,
    pub width: u32,
    pub values: Vec<Option<f64>>,
    pub under: Option<Vec<f64>>,
}

impl Line {
    /// The runs between gaps. Of what stands on or under others, only what adds something is drawn, and its edges.
    fn runs(&self) -> Vec<std::ops::Range<usize>> {
        let base = |n: usize| self.under.as_ref().map(|under| under.get(n).copied().unwrap_or(0.0));
        let has = |n: usize| self.values.get(n).copied().flatten();
        let adds =
            |n: usize| has(n).is_some_and(|value| base(n).is_none_or(|base| value > base || self.ink == Ink::First));
        let drawn = |n: usize| has(n).is_some() && (adds(n) || n.checked_sub(1).is_some_and(adds) || adds(n + 1));
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for n in (0..self.values.len()).filter(|n| drawn(*n)) {
            match runs.last_mut() {
                Some(run) if run.end == n => run.end = n + 1,
                _ => runs.push(n..n + 1),
            }
        }
        runs
    }

    fn paths(&self) -> impl Iterator<Item = Path> {
        let ground = self.under.is_some();
        self.runs().into_iter().map(move |run| Path {
            ink: self.ink,
            width: self.width,
            points: self.points(&run),
            ground,
        })
    }

    fn points(&self, run: &std::ops::Range<usize>) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> =
            run.clone().filter_map(|n| Some((n as f64, self.values.get(n).copied().flatten()?))).collect();
        // One alone is as wide as its step.
        if let [(x, y)] = points[..] {
            let last = self.values.len().saturating_sub(1) as f64;
            points = vec![((x - 0.5).max(0.0), y), ((x + 0.5).min(last), y)];
        }
        points
    }
}

/// A line without gaps; with `ground`, what lies below it is filled, over what was drawn before.
pub struct Path {
    pub ink: Ink,
    pub width: u32,
    pub points: Vec<(f64, f64)>,
    pub ground: bool,
}

/// Lines that are read: with room for what the browser half reads. `marks` are places along the points, from 0 to 1.
pub fn svg(lines: &[Line], scale: &Scale, marks: &[f64], label: &str) -> String {
    let paths: Vec<Path> = lines.iter().flat_map(Line::paths).collect();
    let cursor = format!("<line class=\"at\" stroke=\"{}\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"159\"/>", Ink::Third.hex());
    plot(&paths, right(lines), scale, marks, label, &cursor) + "<div class=\"read\" hidden></div>"
}

/// `right`: where the paths' room ends.
pub fn still(paths: &[Path], right: f64, scale: &Scale, label: &str) -> String {
    plot(paths, right, scale, &[], label, "")
}

fn plot(paths: &[Path], right: f64, scale: &Scale, marks: &[f64], label: &str, more: &str) -> String {
    let mut sketch = Sketch::default();
    let size = (WIDTH, HEIGHT);
    draw(&mut sketch, size, paths, (right, scale.top));
    // On top, so that no ground hides it; the style sheet lets the lines through.
    let root = Pen::new(&mut sketch, size).into_drawing_area();
    let intervals = scale.labels.len() as i32 - 1;
    for n in 0..=intervals {
        let y = (HEIGHT - 1) * (intervals - n) / intervals.max(1);
        let _ = root.draw(&PathElement::new(vec![(0, y), (WIDTH - 1, y)], stroke(Ink::Grid, 1)));
    }
    for mark in marks.iter().filter(|mark| (0.0..=1.0).contains(*mark)) {
        let x = (mark * f64::from(WIDTH - 1)).round() as i32;
        let _ = root.draw(&PathElement::new(vec![(x, HEIGHT - 1), (x, 0)], stroke(Ink::Mark, 1)));
    }
    drop(root);
    // A line along the top is as wide as any other.
    format!(
        "<svg viewBox=\"0 -1 {WIDTH} {}\" preserveAspectRatio=\"none\" fill=\"none\" role=\"img\" aria-label=\"{label}\">{}{more}</svg>",
        HEIGHT + 2,
        sketch.svg()
    )
}

/// A graph without a scale, for a line of a list.
pub fn spark(values: &[Option<f64>], label: &str) -> String {
    let top = values.iter().flatten().copied().fold(0.0, f64::max);
    let under = Some(vec![0.0; values.len()]);
    let line = Line { ink: Ink::First, width: 2, values: values.to_vec(), under };
    let paths: Vec<Path> = line.paths().collect();
    let mut sketch = Sketch::default();
    draw(&mut sketch, SPARK, &paths, (right(&[line]), if top > 0.0 { top * 1.1 } else { 1.0 }));
    format!(
        "<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" fill=\"none\" class=\"spark\" role=\"img\" aria-label=\"{label}\">{}</svg>",
        SPARK.0,
        SPARK.1,
        sketch.svg()
    )
}

fn right(lines: &[Line]) -> f64 {
    lines.iter().map(|line| line.values.len()).max().unwrap_or(0).saturating_sub(1).max(1) as f64
}

fn draw(sketch: &mut Sketch, size: (i32, i32), paths: &[Path], (right, top): (f64, f64)) {
    let place = (0..size.0 - 1, size.1 - 1..0);
    let scale = Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(0.0..right, 0.0..top, place);
    let area = Pen::new(sketch, size).into_drawing_area().apply_coord_spec(scale.clone());
    // What has no ground lies on those that have.
    for Path { ink, width, points, .. } in paths.iter().filter(|path| path.ground) {
        let _ = area.draw(&PathElement::new(points.clone(), ink.rgb().mix(GROUND).stroke_width(*width)));
    }
    drop(area);
    sketch.hide_gaps(size);
    let area = Pen::new(sketch, size).into_drawing_area().apply_coord_spec(scale);
    for Path { ink, width, points, .. } in paths.iter().filter(|path| !path.ground) {
        let _ = area.draw(&PathElement::new(points.clone(), stroke(*ink, *width)));
    }
}

fn stroke(ink: Ink, width: u32) -> ShapeStyle {
    ink.rgb().stroke_width(width)
}

/// A drawing with what stands around it.
pub struct Figure<'a> {
    /// `h2`, `h3`.
    pub heading: &'static str,
    pub title: &'static str,
    /// What its numbers are of, and more about them.
    pub unit: &'a str,
    pub note: &'a str,
    /// What it costs, as HTML.
    pub cost: Option<String>,
    /// Named where there are several.
    pub keys: &'a [(&'a str, Ink)],
    pub scale: &'a Scale,
    /// `plot`, `plot tall`.
    pub class: &'static str,
    pub drawing: String,
    pub x: Vec<String>,
}

impl Figure<'_> {
    /// `numbers`: the same as a table.
    pub fn write(&self, html: &mut String, numbers: impl FnOnce(&mut String)) {
        let Self { heading, title, unit, note, cost, .. } = self;
        let _ = write!(html, "<figure class=\"chart\"><figcaption><{heading}>{title}</{heading}><span>{unit}</span>");
        let cost = cost.as_deref().unwrap_or_default();
        if !note.is_empty() || !cost.is_empty() {
            let _ = write!(html, "<span class=\"push\">{note} {cost}</span>");
        }
        if self.keys.len() > 1 {
            let keys: Vec<String> = self.keys.iter().map(|(name, ink)| key(*ink, name)).collect();
            let _ = write!(html, "<span class=\"keys\">{}</span>", keys.join(" "));
        }
        let _ = write!(html, "</figcaption><div class=\"{}\"><div class=\"y\" aria-hidden=\"true\">", self.class);
        labels(html, &self.scale.labels);
        let _ = write!(html, "</div>{}<div class=\"x\" aria-hidden=\"true\">", self.drawing);
        labels(html, &self.x);
        html.push_str("</div></div>");
        numbers(html);
        html.push_str("</figure>");
    }
}

fn labels(html: &mut String, labels: &[String]) {
    labels.iter().for_each(|label| html.extend(["<span>", label, "</span>"]));
}

/// What an ink stands for.
pub fn key(ink: Ink, word: &str) -> String {
    format!(
        "<span class=\"key\"><svg viewBox=\"0 0 20 8\" aria-hidden=\"true\"><line x1=\"0\" x2=\"20\" y1=\"4\" y2=\"4\" stroke=\"{}\" stroke-width=\"2\"/></svg> {word}</span>",
        ink.hex()
    )
}

/// What stands beside the grid lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousands are `k`.
    Plain,
    /// Binary: KiB, MiB, GiB.
    Bytes,
    /// Whole cents.
    Money,
}

impl Unit {
    /// Grid lines, and labels beside them, are one more.
    const fn intervals(self) -> usize {
        match self {
            Self::Plain | Self::Bytes => 4,
            Self::Money => 5,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    pub top: f64,
    /// From the top to zero.
    pub labels: Vec<String>,
    /// Of the labels: `GiB`.
    pub unit: &'static str,
}

const BYTES: [(&str, f64); 5] =
    [("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("TiB", 1_099_511_627_776.0)];

/// The smallest round one that `most` fits under.
pub fn scale(most: f64, unit: Unit) -> Scale {
    let most = if most.is_finite() { most.max(0.0) } else { 0.0 };
    let intervals = unit.intervals();
    let even = most / intervals as f64;
    let (word, whole, step) = match unit {
        Unit::Plain => {
            let step = if even > 0.0 { round(even, [1.0, 2.0, 2.5, 5.0]) } else { 0.25 };
            let (word, whole) = match step * intervals as f64 {
                top if top >= 1e7 => ("M", 1e6),
                top if top >= 1e4 => ("k", 1e3),
                _ => ("", 1.0),
            };
            (word, whole, step / whole)
        }
        Unit::Bytes => {
            let fits = BYTES.iter().rev().find(|(_, whole)| most >= *whole).unwrap_or(&BYTES[0]);
            let step = 2_f64.powf((even / fits.1).max(0.25).log2().ceil());
            (fits.0, fits.1, step)
        }
        Unit::Money => ("", 1.0, round(even.max(0.01), [1.0, 2.0, 3.0, 5.0])),
    };
    let digits = (0..3).find(|digits| (step * 10_f64.powi(*digits)).fract().abs() < 1e-9).unwrap_or(3);
    let label = |n: usize| match (n, unit) {
        (0, _) => "0".to_owned(),
        (n, Unit::Plain) => format!("{:.*}{word}", digits as usize, step * n as f64),
        (n, Unit::Bytes) => format!("{:.*}", digits as usize, step * n as f64),
        (n, Unit::Money) => {
            domain::decimal((step * n as f64 * 100.0).round() as u128, 2, if step < 1.0 { 2 } else { 0 })
        }
    };
    Scale {
        top: step * whole * intervals as f64,
        labels: (0..=intervals).rev().map(label).collect(),
        unit: if unit == Unit::Bytes { word } else { "" },
    }
}

/// The next of these, by powers of ten.
fn round(step: f64, of: [f64; 4]) -> f64 {
    let power = 10_f64.powf(step.log10().floor()).max(0.01);
    let times = of.into_iter().find(|n| n * power >= step * 0.999_999).unwrap_or(10.0);
    times * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_round_and_holds_what_it_shows() {
        let said = |most, unit| {
            let scale = scale(most, unit);
            assert!(scale.top >= most && (most == 0.0 || scale.top <= most * 4.5), "{most} {scale:?}");
            format!("{} {}", scale.labels.join(" "), scale.unit)
        };
        assert_eq!(said(32.3, Unit::Plain), "40 30 20 10 0 ");
        assert_eq!(said(0.74, Unit::Plain), "0.8 0.6 0.4 0.2 0 ");
        assert_eq!(said(0.98, Unit::Plain), "1.00 0.75 0.50 0.25 0 ");
        assert_eq!(said(109_949.0, Unit::Plain), "200k 150k 100k 50k 0 ");
        assert_eq!(said(0.0, Unit::Plain), "1.00 0.75 0.50 0.25 0 ");
        assert_eq!(said(1.67 * 1_073_741_824.0, Unit::Bytes), "2.0 1.5 1.0 0.5 0 GiB");
        assert_eq!(said(512.0 * 1_048_576.0, Unit::Bytes), "512 384 256 128 0 MiB");
        assert_eq!(said(700.0, Unit::Bytes), "1024 768 512 256 0 B");
        let money = |cents: i64| said(cents as f64 / 100.0, Unit::Money);
        assert_eq!(money(0), "0.05 0.04 0.03 0.02 0.01 0 ");
        assert_eq!(money(4), money(0));
        assert_eq!(money(6), "0.10 0.08 0.06 0.04 0.02 0 ");
        assert_eq!(money(11), "0.15 0.12 0.09 0.06 0.03 0 ");
        assert_eq!(money(501), "10 8 6 4 2 0 ");
        assert_eq!(money(3082), "50 40 30 20 10 0 ");
        assert_eq!(money(5658), "100 80 60 40 20 0 ");
        assert_eq!(money(1_000_000), "10,000 8,000 6,000 4,000 2,000 0 ");
        for most in [0.001, 0.03, 7.0, 1e9, 3e15, f64::NAN] {
            let scale = scale(most, Unit::Plain);
            assert!(scale.top.is_finite() && (most.is_nan() || scale.top >= most), "{most} {scale:?}");
        }
    }

    fn line(values: &[Option<f64>]) -> Line {
        Line { ink: Ink::First, width: 2, values: values.to_vec(), under: None }
    }

    #[test]
    fn a_gap_cuts_the_line_and_a_zero_does_not() {
        let four = scale(4.0, Unit::Plain);
        let svg = svg(&[line(&[Some(1.0), Some(0.0), None, Some(4.0), None])], &four, &[0.5], "x");
        // Two lines of one path; one point alone is as wide as its step.
        assert!(svg.contains("<path stroke=\"#0B5F6E\" stroke-width=\"2\" d=\"M0 120l149 39M374 0h150\"/>"), "{svg}");
        assert!(svg.contains("stroke=\"#48595F\"") && !svg.contains("<text") && !svg.contains("style="), "{svg}");
    }

    #[test]
    fn a_hundred_points_stay_small() {
        let values: Vec<_> = (0..97).map(|n| Some(f64::from(n * 37 % 91))).collect();
        let filled = Line { under: Some(vec![0.0; 97]), ..line(&values) };
        let svg = svg(&[filled], &scale(100.0, Unit::Plain), &[], "x");
        assert!(svg.len() < 3000, "{}", svg.len());
        assert!(spark(&values[..24], "x").len() < 700);
    }
}
