//! A data set of digits that the demo draws itself: strokes, bent at random, with noise.
//!
//! A digit is a few strokes in a square of side 1, y downwards. Each picture moves their points a little, sends them
//! through a random affine map (turn, shear, size, place), and inks every pixel by its distance to the nearest stroke;
//! then the ink fades and noise comes on top. It is no substitute for a real data set: it only has to be easy enough for
//! a small network to learn within seconds and hard enough that it makes mistakes.

use std::f32::consts::PI;

use rand::Rng;

use crate::seed;

/// Side of a picture in pixels.
pub const SIDE: usize = 28;

/// How hard the pictures are. The spreads are those of uniform distributions, `±spread`.
const TURN: f32 = 0.35;
const SHEAR: f32 = 0.3;
const SHIFT: f32 = 2.5;
const JITTER: f32 = 0.055;
const NOISE: f32 = 0.3;

/// Pictures and what they show.
pub struct Digits {
    /// One byte a pixel, `[labels.len(), 1, SIDE, SIDE]`.
    pub pixels: Vec<u8>,
    /// The digits, 0 to 9.
    pub labels: Vec<u8>,
}

type Point = (f32, f32);
type Stroke = Vec<Point>;

/// Draws `count` digits. The same seed and purpose give the same pictures.
pub fn draw(count: usize, seed: u64, purpose: &str) -> Digits {
    let mut rng = seed::stream(seed, &format!("demo/digits/{purpose}"));
    let mut digits = Digits { pixels: Vec::with_capacity(count * SIDE * SIDE), labels: Vec::with_capacity(count) };
    for _ in 0..count {
        let label = rng.random_range(0..10u8);
        digits.pixels.extend(picture(label, &mut rng));
        digits.labels.push(label);
    }
    digits
}

fn picture(label: u8, rng: &mut impl Rng) -> Vec<u8> {
    let mut spread = |by: f32| rng.random_range(-by..=by);
    let (turn, shear) = (spread(TURN), spread(SHEAR));
    let size = SIDE as f32 * 0.62;
    let (width, height) = (size * (0.85 + spread(0.25)), size * (1.0 + spread(0.2)));
    let centre = (SIDE as f32 / 2.0 + spread(SHIFT), SIDE as f32 / 2.0 + spread(SHIFT));
    let (radius, ink) = (1.3 + spread(0.6), 0.8 + spread(0.2));
    let (sin, cos) = turn.sin_cos();
    let strokes: Vec<Stroke> = strokes(label)
        .into_iter()
        .map(|stroke| {
            let bend = |(x, y): Point| {
                let (x, y) = (x - 0.5 + spread(JITTER), y - 0.5 + spread(JITTER));
                let (x, y) = ((x + shear * y) * width, y * height);
                (centre.0 + cos * x - sin * y, centre.1 + sin * x + cos * y)
            };
            stroke.into_iter().map(bend).collect()
        })
        .collect();
    let mut pixels = Vec::with_capacity(SIDE * SIDE);
    for i in 0..SIDE * SIDE {
        let pixel = ((i % SIDE) as f32 + 0.5, (i / SIDE) as f32 + 0.5);
        let distance = strokes.iter().map(|stroke| distance(stroke, pixel)).fold(f32::INFINITY, f32::min);
        // A soft edge, one pixel wide.
        let inked = ink * (radius - distance + 0.5).clamp(0.0, 1.0);
        // The sum of three uniform numbers is close to a normal one.
        let noise = NOISE * (0..3).map(|_| rng.random_range(-1.0..=1.0f32)).sum::<f32>() / 3.0;
        pixels.push(((inked + noise).clamp(0.0, 1.0) * 255.0) as u8);
    }
    pixels
}

/// The strokes of a digit.
fn strokes(label: u8) -> Vec<Stroke> {
    match label {
        0 => vec![arc((0.5, 0.5), (0.33, 0.5), 0.0, 2.0 * PI)],
        1 => vec![vec![(0.3, 0.2), (0.55, 0.0), (0.55, 0.5), (0.55, 1.0)]],
        2 => {
            let mut stroke = arc((0.5, 0.28), (0.33, 0.28), -PI, 0.35);
            stroke.extend([(0.45, 0.75), (0.15, 1.0), (0.5, 1.0), (0.88, 1.0)]);
            vec![stroke]
        }
        3 => vec![
            arc((0.47, 0.25), (0.33, 0.25), -0.85 * PI, 0.5 * PI),
            arc((0.47, 0.74), (0.37, 0.26), -0.5 * PI, 0.85 * PI),
        ],
        4 => vec![
            vec![(0.6, 0.0), (0.35, 0.35), (0.1, 0.68), (0.5, 0.68), (0.92, 0.68)],
            vec![(0.65, 0.35), (0.65, 0.7), (0.65, 1.0)],
        ],
        5 => {
            let mut stroke = vec![(0.82, 0.0), (0.5, 0.0), (0.24, 0.0), (0.2, 0.42)];
            stroke.extend(arc((0.48, 0.68), (0.36, 0.32), -0.7 * PI, 0.8 * PI));
            vec![stroke]
        }
        6 => {
            let mut stroke = vec![(0.72, 0.0), (0.4, 0.25), (0.22, 0.5)];
            stroke.extend(arc((0.5, 0.71), (0.31, 0.29), PI, 3.0 * PI));
            vec![stroke]
        }
        7 => vec![vec![(0.12, 0.0), (0.5, 0.0), (0.86, 0.0), (0.62, 0.5), (0.38, 1.0)]],
        8 => vec![
            arc((0.5, 0.25), (0.28, 0.25), 0.5 * PI, 2.5 * PI),
            arc((0.5, 0.75), (0.34, 0.25), -0.5 * PI, 1.5 * PI),
        ],
        _ => {
            let mut stroke = arc((0.5, 0.3), (0.31, 0.3), 0.0, 2.0 * PI);
            stroke.extend([(0.8, 0.5), (0.68, 0.8), (0.45, 1.0)]);
            vec![stroke]
        }
    }
}

/// Points on an ellipse, from one angle to another.
fn arc(centre: Point, radii: Point, from: f32, to: f32) -> Stroke {
    const POINTS: usize = 12;
    let point = |i: usize| {
        let angle = from + (to - from) * i as f32 / POINTS as f32;
        (centre.0 + radii.0 * angle.cos(), centre.1 + radii.1 * angle.sin())
    };
    (0..=POINTS).map(point).collect()
}

/// How far a point is from a stroke.
fn distance(stroke: &Stroke, (px, py): Point) -> f32 {
    let to_segment = |pair: &[Point]| {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        let (dx, dy) = (bx - ax, by - ay);
        let along = ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
        let along = along.clamp(0.0, 1.0);
        (px - ax - along * dx).hypot(py - ay - along * dy)
    };
    stroke.windows(2).map(to_segment).fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_pictures_and_another_seed_others() {
        assert_eq!(draw(20, 1, "train").pixels, draw(20, 1, "train").pixels);
        assert_ne!(draw(20, 1, "train").pixels, draw(20, 2, "train").pixels);
        assert_ne!(draw(20, 1, "train").pixels, draw(20, 1, "test").pixels);
    }

    #[test]
    fn every_digit_leaves_ink_and_none_fills_the_picture() {
        let digits = draw(300, 1, "train");
        let mut seen = [false; 10];
        for (label, pixels) in digits.labels.iter().zip(digits.pixels.chunks(SIDE * SIDE)) {
            seen[usize::from(*label)] = true;
            let inked = pixels.iter().filter(|pixel| **pixel > 128).count();
            assert!((15..SIDE * SIDE / 2).contains(&inked), "a {label} has {inked} inked pixels");
        }
        assert_eq!(seen, [true; 10]);
    }
}
