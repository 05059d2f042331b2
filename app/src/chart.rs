//! Drawing: a graph as SVG without text, by plotters. It stretches to its place, so labels are HTML around it, and colours
//! are ink attributes that `components.css` maps to tokens.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// What is drawn, in these units; the page stretches it.
const WIDTH: i32 = 600;
const HEIGHT: i32 = 160;
const SPARK: (i32, i32) = (120, 32);
/// Grid lines, and labels beside them: one more than intervals.
pub const INTERVALS: usize = 4;

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
        }
    }

    /// As the style sheet names it.
    pub fn hex(self) -> String {
        let RGBColor(r, g, b) = self.rgb();
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// One line; with `under` (as long as the values), the ground between the two is filled.
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

/// `top` is where the scale ends, `marks` are places along the points, from 0 to 1.
pub fn svg(lines: &[Line], top: f64, marks: &[f64], label: &str) -> String {
    let mut inner = String::new();
    {
        let size = (WIDTH, HEIGHT);
        let root = SVGBackend::with_string(&mut inner, (size.0 as u32, size.1 as u32)).into_drawing_area();
        for n in 0..=INTERVALS as i32 {
            let y = (HEIGHT - 1) * (INTERVALS as i32 - n) / INTERVALS as i32;
            let _ = root.draw(&PathElement::new(vec![(0, y), (WIDTH - 1, y)], stroke(Ink::Grid, 1)));
        }
        for mark in marks.iter().filter(|mark| (0.0..=1.0).contains(*mark)) {
            let x = (mark * f64::from(WIDTH - 1)).round() as i32;
            let _ = root.draw(&PathElement::new(vec![(x, HEIGHT - 1), (x, 0)], stroke(Ink::Mark, 1)));
        }
        draw(root, size, lines, top);
    }
    let cursor = format!("<line class=\"at\" stroke=\"{}\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"159\"/>", Ink::Third.hex());
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">{}{cursor}</svg>",
        bare(&inner)
    )
}

/// A graph without a scale, for a line of a list.
pub fn spark(values: &[Option<f64>], label: &str) -> String {
    let top = values.iter().flatten().copied().fold(0.0, f64::max);
    let under = Some(vec![0.0; values.len()]);
    let line = Line { ink: Ink::First, width: 2, values: values.to_vec(), under };
    let mut inner = String::new();
    {
        let root = SVGBackend::with_string(&mut inner, (SPARK.0 as u32, SPARK.1 as u32)).into_drawing_area();
        draw(root, SPARK, &[line], if top > 0.0 { top * 1.1 } else { 1.0 });
    }
    format!(
        "<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" class=\"spark\" role=\"img\" aria-label=\"{label}\">{}</svg>",
        SPARK.0,
        SPARK.1,
        bare(&inner)
    )
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(root: Root<'_>, (width, height): (i32, i32), lines: &[Line], top: f64) {
    let last = lines.iter().map(|line| line.values.len()).max().unwrap_or(0).saturating_sub(1).max(1);
    let area = root.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
        0.0..last as f64,
        0.0..top,
        (0..width - 1, height - 1..0),
    ));
    for line in lines {
        for run in line.runs() {
            let points = line.points(&run);
            if let (Some(under), true) = (&line.under, points.len() > 1) {
                let at = |x: f64| under.get(x.round() as usize).or(under.last()).copied().unwrap_or(0.0);
                let back =
                    points.iter().rev().map(|(x, _)| (*x, if run.len() == 1 { at(run.start as f64) } else { at(*x) }));
                let ground: Vec<_> = points.iter().copied().chain(back).collect();
                let _ = area.draw(&Polygon::new(ground, line.ink.rgb().mix(0.12).filled()));
            }
            let _ = area.draw(&PathElement::new(points, stroke(line.ink, line.width)));
        }
    }
    // A string takes whatever is written.
    let _ = area.present();
}

fn stroke(ink: Ink, width: u32) -> ShapeStyle {
    ink.rgb().stroke_width(width)
}

/// Without plotters' own frame, and what says nothing.
fn bare(svg: &str) -> String {
    let from = svg.find('>').map_or(0, |at| at + 1);
    let to = svg.rfind("</svg>").unwrap_or(svg.len());
    svg.get(from..to).unwrap_or_default().replace(" opacity=\"1\"", "").replace(" \"/>", "\"/>").replace('\n', "")
}

/// What stands beside the grid lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousands are `k`.
    Plain,
    /// Binary: KiB, MiB, GiB.
    Bytes,
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
    let (word, whole, step) = match unit {
        Unit::Plain => {
            let step = round(most / INTERVALS as f64);
            let (word, whole) = match step * INTERVALS as f64 {
                top if top >= 1e7 => ("M", 1e6),
                top if top >= 1e4 => ("k", 1e3),
                _ => ("", 1.0),
            };
            (word, whole, step / whole)
        }
        Unit::Bytes => {
            let fits = BYTES.iter().rev().find(|(_, whole)| most >= *whole).unwrap_or(&BYTES[0]);
            let step = 2_f64.powf((most / fits.1 / INTERVALS as f64).max(0.25).log2().ceil());
            (fits.0, fits.1, step)
        }
    };
    let digits = (0..3).find(|digits| (step * 10_f64.powi(*digits)).fract().abs() < 1e-9).unwrap_or(3);
    let letter = if unit == Unit::Plain { word } else { "" };
    let label = |n: usize| match n {
        0 => "0".to_owned(),
        n => format!("{:.*}{letter}", digits as usize, step * n as f64),
    };
    Scale {
        top: step * whole * INTERVALS as f64,
        labels: (0..=INTERVALS).rev().map(label).collect(),
        unit: if unit == Unit::Bytes { word } else { "" },
    }
}

/// The next of 1, 2, 2.5 and 5, by powers of ten.
fn round(step: f64) -> f64 {
    if step <= 0.0 {
        return 0.25;
    }
    let power = 10_f64.powf(step.log10().floor()).max(0.01);
    let times = [1.0, 2.0, 2.5, 5.0].into_iter().find(|n| n * power >= step * 0.999_999).unwrap_or(10.0);
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
        let svg = svg(&[line(&[Some(1.0), Some(0.0), None, Some(4.0), None])], 4.0, &[0.5], "x");
        let lines: Vec<&str> = svg.split("stroke=\"#0B5F6E\"").skip(1).collect();
        assert_eq!(lines.len(), 2, "{svg}");
        assert!(lines[0].contains("points=\"0,120 149,159\""), "{svg}");
        assert!(svg.contains("stroke=\"#48595F\"") && !svg.contains("<text") && !svg.contains("style="), "{svg}");
    }

    #[test]
    fn a_hundred_points_stay_small() {
        let values: Vec<_> = (0..97).map(|n| Some(f64::from(n * 37 % 91))).collect();
        let filled = Line { under: Some(vec![0.0; 97]), ..line(&values) };
        let svg = svg(&[filled], 100.0, &[], "x");
        assert!(svg.len() < 3000, "{}", svg.len());
        assert!(spark(&values[..24], "x").len() < 700);
    }
}
