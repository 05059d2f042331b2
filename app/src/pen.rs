//! What plotters draws with: takes its lines down as few and as short elements as say them. Of one colour there is one
//! path, in steps from point to point; a line with its ground below it is one path too, closed outside of what is seen.
//! plotters' own SVG has an element a line, twice where the ground is filled: 9 kB for a graph of four colours.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters_backend::{BackendColor, BackendCoord, BackendStyle, DrawingBackend, DrawingErrorKind};

/// A line of so little is one with its ground.
pub const GROUND: f64 = 0.5;
/// Outside of what is seen.
const OUT: i32 = 9;

/// What was drawn.
#[derive(Default)]
pub struct Sketch {
    /// Attributes, and the path.
    paths: Vec<(String, String)>,
    /// Of the first colour with a ground: where its runs begin and end.
    runs: Vec<(i32, i32)>,
    first: Option<(u8, u8, u8)>,
}

impl Sketch {
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        for (ink, path) in &self.paths {
            let _ = write!(svg, "<path {ink} d=\"{path}\"/>");
        }
        svg
    }

    fn add(&mut self, ink: String, path: &str) {
        match self.paths.last_mut() {
            Some((last, before)) if *last == ink => before.push_str(path),
            _ => self.paths.push((ink, path.to_owned())),
        }
    }

    fn line(
        &mut self,
        (width, height): (i32, i32),
        points: &[BackendCoord],
        ink: BackendColor,
        wide: u32,
        ground: bool,
    ) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let (r, g, b) = ink.rgb;
        let hex = format!("\"#{r:02X}{g:02X}{b:02X}\"");
        let wide = if wide == 1 { String::new() } else { format!(" stroke-width=\"{wide}\"") };
        if !ground {
            self.add(format!("stroke={hex}{wide}"), &format!("M{} {}{}", first.0, first.1, steps(points)));
            return;
        }
        if *self.first.get_or_insert(ink.rgb) == ink.rgb {
            self.runs.push((first.0, last.0));
        }
        // What reaches an end goes on beyond it.
        let (left, bottom) = (if first.0 == 0 { -OUT } else { first.0 }, height + OUT);
        let mut path = format!("M{left} {bottom}V{}", first.1);
        if left < 0 {
            path.push_str("H0");
        }
        path.push_str(&steps(points));
        if last.0 == width - 1 {
            let _ = write!(path, "H{}", width + OUT);
        }
        let _ = write!(path, "V{bottom}");
        self.add(format!("fill={hex} stroke={hex}{wide}"), &path);
    }

    /// A ground ends by a line down to its foot, which would say that the values fell to zero: where nothing was seen, and
    /// at its edges, nothing is to be seen.
    pub fn hide_gaps(&mut self, (width, height): (i32, i32)) {
        let mut from = -OUT;
        let mut hidden = String::new();
        for (first, last) in std::mem::take(&mut self.runs).into_iter().chain([(width + OUT, width + OUT)]) {
            if first > 0 && from < width - 1 {
                let _ = write!(hidden, "M{from}-{OUT}H{first}V{}H{from}z", height + OUT);
            }
            from = last;
        }
        if !hidden.is_empty() && self.first.is_some() {
            // Wider than what it hides, at any size of the drawing.
            self.add("fill=\"#FFF\" stroke=\"#FFF\" stroke-width=\"3\"".to_owned(), &hidden);
        }
    }
}

/// From the first point on: `l24-3 25-1h49`.
fn steps(points: &[BackendCoord]) -> String {
    let mut steps = String::new();
    let (mut flat, mut slopes) = (0, false);
    for pair in points.windows(2) {
        let [from, to] = pair else { continue };
        let (x, y) = (to.0 - from.0, to.1 - from.1);
        if y == 0 {
            flat += x;
            continue;
        }
        if flat > 0 {
            let _ = write!(steps, "h{flat}");
            (flat, slopes) = (0, false);
        }
        let begin = if slopes { " " } else { "l" };
        let middle = if y < 0 { "" } else { " " };
        let _ = write!(steps, "{begin}{x}{middle}{y}");
        slopes = true;
    }
    if flat > 0 {
        let _ = write!(steps, "h{flat}");
    }
    steps
}

/// A drawing area's hand on a sketch.
pub struct Pen<'a> {
    sketch: &'a mut Sketch,
    size: (i32, i32),
}

impl<'a> Pen<'a> {
    pub fn new(sketch: &'a mut Sketch, size: (i32, i32)) -> Self {
        Self { sketch, size }
    }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Pen<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.size.0.unsigned_abs(), self.size.1.unsigned_abs())
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    /// Nothing here is drawn by points.
    fn draw_pixel(&mut self, _: BackendCoord, _: BackendColor) -> Drawn {
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        let ink = style.color();
        self.sketch.line(self.size, &points, ink, style.stroke_width(), ink.alpha <= GROUND);
        Ok(())
    }
}
