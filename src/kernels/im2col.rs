//! Images to columns and back: what makes a convolution a matrix product.
//!
//! ```text
//!   image [c, h, w]          columns [c * kh * kw, places]
//!   a b c                    one row a channel and tap,        a b d e   tap (0, 0)
//!   d e f   kernel 2 x 2     one column a place of the         b c e f   tap (0, 1)
//!   g h i                    window; 0 in the padding          d e g h   tap (1, 0)
//!                                                              e f h i   tap (1, 1)
//! ```

use std::ops::Range;

use super::grid::Grid;

/// The columns of a window that moves by one pixel over as many places a row as the image has pixels, which most have: a
/// row of columns is the plane moved by some pixels, but for the places that see padding.
///
/// ```text
///   plane   a b c d e f g h i     tap (0, 0) sees place p's pixel p - 4:   0 0 0 0 a b 0 d e
///                                 the 0 in the midst would be c, which is in the row above
/// ```
struct Moved {
    /// Places of the plane that have a pixel, but for those beside the image.
    places: Range<usize>,
    /// The first of these pixels.
    start: usize,
    /// The places of each row that see the image.
    run: Run,
}

impl Moved {
    /// Sets the places in the midst that see padding to zero.
    fn clear_gaps(&self, grid: &Grid, row: &mut [f32]) {
        let (width, run) = (grid.image[1], &self.run);
        for line in row[self.places.start - run.first..].chunks_exact_mut(width) {
            line[..run.first].fill(0.0);
            line[run.last..].fill(0.0);
        }
    }
}

/// How the plane is moved under `tap`, `None` where it is more than moved.
fn moved(grid: &Grid, tap: [usize; 2]) -> Option<Moved> {
    let (window, width) = (&grid.window, grid.image[1]);
    if window.stride != [1, 1] || grid.places[1] != width {
        return None;
    }
    // The first and last row of places that see a row of the image.
    let offset = tap[0] * window.dilation[0];
    let first = window.padding[0].saturating_sub(offset);
    let last = (grid.image[0] + window.padding[0]).saturating_sub(offset).min(grid.places[0]);
    if first >= last {
        return None;
    }
    let run = run(grid, tap[1]);
    if run.first >= run.last {
        return None;
    }
    let top = first + offset - window.padding[0];
    // Beside the first and behind the last pixel there may be none at all.
    let places = first * width + run.first..(last - 1) * width + run.last;
    Some(Moved { places, start: top * width + run.start, run })
}

/// A run of places in one row of the window's grid whose pixels lie in the image: places `first..last` see the pixels
/// `start`, `start + stride`, ... It may be empty.
struct Run {
    first: usize,
    last: usize,
    start: usize,
}

/// Which places of a grid's row see the image through `tap` of the window's row.
fn run(grid: &Grid, tap: usize) -> Run {
    let (stride, padding) = (grid.window.stride[1], grid.window.padding[1]);
    let offset = tap * grid.window.dilation[1];
    let first = padding.saturating_sub(offset).div_ceil(stride);
    // Places before `last` have place * stride + offset < width + padding.
    let last = (grid.image[1] + padding).saturating_sub(offset).div_ceil(stride).min(grid.places[1]);
    if first >= last {
        return Run { first: last, last, start: 0 };
    }
    Run { first, last, start: first * stride + offset - padding }
}

/// Writes the columns of an `image [c, h, w]`.
pub(super) fn im2col(grid: &Grid, image: &[f32], columns: &mut [f32]) {
    let mut rows = columns.chunks_exact_mut(grid.outputs());
    for plane in image.chunks_exact(grid.pixels()) {
        for tap_y in 0..grid.window.kernel[0] {
            for tap_x in 0..grid.window.kernel[1] {
                let row = rows.next().expect("columns has a row for each channel and tap");
                im2col_row(grid, plane, [tap_y, tap_x], row);
            }
        }
    }
}

fn im2col_row(grid: &Grid, plane: &[f32], tap: [usize; 2], row: &mut [f32]) {
    if let Some(moved) = moved(grid, tap) {
        let Moved { places, start, .. } = &moved;
        row[..places.start].fill(0.0);
        row[places.end..].fill(0.0);
        row[places.clone()].copy_from_slice(&plane[*start..start + places.len()]);
        moved.clear_gaps(grid, row);
        return;
    }
    let run = run(grid, tap[1]);
    let (width, stride) = (grid.image[1], grid.window.stride[1]);
    for (place_y, line) in row.chunks_exact_mut(grid.places[1]).enumerate() {
        let Some(y) = grid.pixel(0, place_y, tap[0]) else {
            line.fill(0.0);
            continue;
        };
        let pixels = &plane[y * width..(y + 1) * width];
        line[..run.first].fill(0.0);
        line[run.last..].fill(0.0);
        let line = &mut line[run.first..run.last];
        if stride == 1 {
            line.copy_from_slice(&pixels[run.start..run.start + line.len()]);
        } else {
            line.iter_mut().zip(pixels[run.start..].iter().step_by(stride)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Adds columns up into an `image [c, h, w]`: each number goes back to the pixel it came from. Those that came from the
/// padding are lost.
pub(super) fn col2im(grid: &Grid, columns: &mut [f32], image: &mut [f32]) {
    let mut rows = columns.chunks_exact_mut(grid.outputs());
    for plane in image.chunks_exact_mut(grid.pixels()) {
        for tap_y in 0..grid.window.kernel[0] {
            for tap_x in 0..grid.window.kernel[1] {
                let row = rows.next().expect("columns has a row for each channel and tap");
                col2im_row(grid, row, [tap_y, tap_x], plane);
            }
        }
    }
}

fn col2im_row(grid: &Grid, row: &mut [f32], tap: [usize; 2], plane: &mut [f32]) {
    if let Some(moved) = moved(grid, tap) {
        moved.clear_gaps(grid, row);
        let Moved { places, start, .. } = moved;
        let pixels = &mut plane[start..start + places.len()];
        pixels.iter_mut().zip(&row[places]).for_each(|(to, from)| *to += from);
        return;
    }
    let run = run(grid, tap[1]);
    let (width, stride) = (grid.image[1], grid.window.stride[1]);
    for (place_y, line) in row.chunks_exact(grid.places[1]).enumerate() {
        let Some(y) = grid.pixel(0, place_y, tap[0]) else { continue };
        let line = &line[run.first..run.last];
        let pixels = &mut plane[y * width..(y + 1) * width];
        if stride == 1 {
            pixels[run.start..run.start + line.len()].iter_mut().zip(line).for_each(|(to, from)| *to += from);
        } else {
            pixels[run.start..].iter_mut().step_by(stride).zip(line).for_each(|(to, from)| *to += from);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grid::strategy::grids;
    use super::*;
    use crate::kernels::testing::numbers;

    proptest! {
        #[test]
        fn every_column_holds_the_pixels_under_its_place(grid in grids(), channels in 1usize..3, seed in any::<u64>()) {
            let image = numbers(channels * grid.pixels(), seed);
            let [kh, kw] = grid.window.kernel;
            let mut columns = vec![f32::NAN; channels * kh * kw * grid.outputs()];
            im2col(&grid, &image, &mut columns);
            let mut back = vec![0.0; image.len()];
            let mut expected_back = vec![0.0; image.len()];
            col2im(&grid, &mut columns.clone(), &mut back);
            for c in 0..channels {
                for tap in 0..kh * kw {
                    for (p, [oy, ox]) in grid.all_places().enumerate() {
                        let found = columns[(c * kh * kw + tap) * grid.outputs() + p];
                        let pixel = grid.pixel(0, oy, tap / kw).zip(grid.pixel(1, ox, tap % kw));
                        let place = pixel.map(|(y, x)| c * grid.pixels() + y * grid.image[1] + x);
                        prop_assert_eq!(found, place.map_or(0.0, |i| image[i]));
                        if let Some(i) = place {
                            expected_back[i] += found;
                        }
                    }
                }
            }
            prop_assert_eq!(back, expected_back);
        }
    }
}
