//! Convolution of 3x3 taps in steps of one pixel with 16 products for four pixels instead of 36: F(2x2, 3x3) of Winograd
//! (1980), as Lavin and Gray (2016) use it.
//!
//! ```text
//!   tiles of 2x2 pixels of the result, of which each sees 4x4 of the source: d
//!
//!   U = G g G^T     of the weight g, once
//!   V = B^T d B     of each tile and channel that goes in
//!   M = V U         for each of the 16 places, summed over the channels that go in
//!   y = A^T M A     of each tile and channel that comes out
//!
//!         1  0 -1  0             1   0   0
//!   B^T = 0  1  1  0       G =  1/2 1/2 1/2       A^T = 1  1  1  0
//!         0 -1  1  0            1/2 -1/2 1/2            0  1 -1 -1
//!         0  1  0 -1             0   0   1
//! ```
//!
//! Rounding errors are two to three times those of the sum itself. What is infinite or no number may spread over a tile.

// Tiles are arrays that the compiler keeps in registers: it does where they are walked over by place.
#![allow(clippy::needless_range_loop)]

use super::blocks::{Block, Blocks, Order};
use super::source::{Frame, Slabs};
use super::sweep::{End, Pixels, Sweep, Tap, write};
use crate::scratch::with_scratch;
use crate::simd::{self, Path, Task, Vector};

use rayon::prelude::*;

/// Pixels of a tile's side, what it sees, and the places of its products.
const TILE: usize = 2;
const SEEN: usize = 4;
const PLACES: usize = SEEN * SEEN;
/// Bytes of `V`: it stays in the second cache.
const CACHE: usize = 512 * 1024;
/// Channels from which on transforming them costs less than is gained.
const MANY: usize = 32;

/// See the [module documentation](self).
#[derive(Debug, Clone)]
pub(super) struct Winograd {
    path: Path,
    /// Channels that go in.
    inner: usize,
    /// Tiles of a row.
    in_row: usize,
    /// Tiles that there is room for.
    most: usize,
    /// Slabs that are computed at once, at most.
    pub(super) slabs_at_once: usize,
    /// Pixels of a row of the result.
    width: usize,
    /// Numbers of the framed source from one row and pixel to the next.
    steps: [usize; 2],
    /// Numbers of the result from one row and pixel to the next.
    result_steps: [usize; 2],
    /// The sums over the channels that go in, of all tiles at one place.
    product: Sweep,
}

impl Winograd {
    /// For images in this frame and results of `places` pixels and `outer` channels; with the frame and the slabs that it takes.
    /// `None` where nothing is gained.
    pub(super) fn new(path: Path, frame: Frame, places: [usize; 2], outer: usize) -> Option<(Self, Frame, Slabs)> {
        let inner = frame.channels;
        let [rows, in_row] = places.map(|pixels| pixels.div_ceil(TILE));
        let (tiles, pixels) = (rows * in_row, places[0] * places[1]);
        // Half tiles are wasted.
        if inner < MANY || outer < MANY || PLACES * tiles * 4 > 9 * pixels * 3 {
            return None;
        }
        // Tiles see one pixel more where they stand out.
        let beyond = places.map(|pixels| pixels % TILE);
        let frame = Frame { after: [frame.after[0] + beyond[0], frame.after[1] + beyond[1]], ..frame };
        let weights = PLACES * inner * outer * size_of::<f32>();
        // Weights that do not stay in the cache are read for as many tiles as possible.
        let cache = if weights > 2 * CACHE { 2 * CACHE } else { CACHE };
        let fits = (cache / size_of::<f32>() / (PLACES * inner)).max(in_row);
        let parts = rows.div_ceil(fits / in_row);
        let slabs = Slabs { rows: places[0], step: 1, seen: 3, at_once: TILE * rows.div_ceil(parts) };
        let of_slab = rows.div_ceil(parts) * in_row;
        let slabs_at_once = if parts == 1 { (fits / of_slab).max(1) } else { 1 };
        let most = (slabs_at_once * of_slab).next_multiple_of(4);
        let width = 2 * path.lanes();
        let pixels = Pixels {
            count: [most / 4, 4],
            from: 0,
            steps: [4 * inner, inner],
            to: 0,
            result_steps: [4 * width, width],
        };
        let product = Sweep::new(&pixels, vec![Tap { from: 0, weight: 0, len: inner }], None, width, path);
        let made = Self {
            path,
            inner,
            in_row,
            most,
            slabs_at_once,
            width: places[1],
            steps: [frame.row(), inner],
            result_steps: [places[1] * outer, outer],
            product,
        };
        Some((made, frame, slabs))
    }

    /// What it takes of the time for the sums themselves: as measured with 32 to 256 channels.
    pub(super) fn share(&self) -> f64 {
        0.55 + 12.0 / self.inner as f64
    }

    /// Numbers of all weights, laid out.
    pub(super) fn packed_len(&self, blocks: &Blocks) -> usize {
        blocks.packed_len() / 9 * PLACES
    }

    /// Lays the weights of all blocks out: `[place, channel that goes in, channel that comes out]` of each.
    pub(super) fn pack(&self, blocks: &Blocks, weight: &[f32], packed: &mut [f32], order: Order) {
        let of_blocks = packed.par_chunks_mut(2 * blocks.lanes * self.inner * PLACES).enumerate();
        of_blocks.for_each(|(number, packed)| {
            with_scratch(packed.len() / PLACES * 9, |taps| {
                blocks.pack_block(self.path, number, weight, taps, order);
                simd::run(self.path, Weights { packed, taps });
            });
        });
    }

    /// The weights of a block.
    pub(super) fn weights<'a>(&self, packed: &'a [f32], block: Block) -> &'a [f32] {
        let len = self.inner * PLACES;
        &packed[block.first * len..][..block.width * len]
    }

    /// Tiles of so many rows of pixels.
    pub(super) fn tiles(&self, rows: usize) -> usize {
        rows.div_ceil(TILE) * self.in_row
    }

    /// Numbers of `V` and of `M`.
    pub(super) fn work_len(&self) -> [usize; 2] {
        [self.inner, 2 * self.path.lanes()].map(|numbers| PLACES * self.most * numbers)
    }

    /// Writes the places of `V` of the tiles from `first` on: those of `rows` rows of pixels, of the slab `framed`.
    pub(super) fn take(&self, framed: &[f32], rows: usize, first: usize, v: &mut [f32]) {
        let rows = rows.div_ceil(TILE);
        assert!(v.len() == self.work_len()[0] && first + rows * self.in_row <= self.most);
        assert!(
            framed.len() >= (TILE * rows + TILE) * self.steps[0]
                && self.steps[0] >= (TILE * self.in_row + TILE) * self.inner
        );
        simd::run(self.path, Take { of: self, framed, rows, first, v });
    }

    /// Writes `M` of the first `count` tiles, for a block of channels with these weights.
    pub(super) fn multiply(&self, v: &[f32], weights: &[f32], block: Block, count: usize, m: &mut [f32]) {
        let [v_len, m_len] = self.work_len();
        assert!(v.len() == v_len && m.len() == m_len && count <= self.most);
        assert_eq!(weights.len(), PLACES * self.inner * block.width, "weights of the block");
        let end = End { bias: std::ptr::null(), residual: std::ptr::null(), relu: false };
        for place in 0..PLACES {
            let v = &v[place * self.most * self.inner..];
            let weights = &weights[place * self.inner * block.width..];
            let m = &mut m[place * m_len / PLACES..];
            // SAFETY: the tiles are rows of `v` and, with as many numbers as two vectors have, of `m`; the weights are there.
            unsafe {
                let rows = 0..count.div_ceil(4);
                self.product.block(rows, v.as_ptr(), weights.as_ptr(), m.as_mut_ptr(), block.width, end);
            }
        }
    }

    /// Writes the pixels of the tiles from `first` on: `rows` rows of the result, of which `to` is the first number of the
    /// block's channels.
    ///
    /// # Safety
    ///
    /// So many rows of pixels of the result can be written from `to` on, for `channels` channels, and nobody else uses them; the
    /// same numbers of the residual and the channels' bias can be read.
    pub(super) unsafe fn put(&self, m: &[f32], rows: usize, first: usize, to: *mut f32, channels: usize, end: End) {
        assert!(m.len() == self.work_len()[1] && channels <= 2 * self.path.lanes());
        assert!(first + self.tiles(rows) <= self.most);
        simd::run(self.path, Put { of: self, m, rows, first, to, channels, end });
    }
}

/// `G` times a column.
#[inline(always)]
fn of_weights<V: Vector>([a, b, c]: [V; 3]) -> [V; SEEN] {
    let half = V::splat(0.5);
    let (sum, mid) = (a.add(c).mul(half), b.mul(half));
    [a, sum.add(mid), sum.sub(mid), c]
}

/// `B^T` times a column.
#[inline(always)]
fn of_source<V: Vector>([a, b, c, d]: [V; SEEN]) -> [V; SEEN] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// `A^T` times a column.
#[inline(always)]
fn of_products<V: Vector>([a, b, c, d]: [V; SEEN]) -> [V; TILE] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}

/// `U` of a block's weights.
struct Weights<'a> {
    /// `[tap, channel that goes in, channel that comes out]`.
    taps: &'a [f32],
    packed: &'a mut [f32],
}

impl Task for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let len = self.taps.len() / 9;
        assert!(self.packed.len() == len * PLACES && len.is_multiple_of(V::LANES));
        for at in (0..len).step_by(V::LANES) {
            // SAFETY: `at` is the first of as many numbers as a vector has, of each tap and each place.
            unsafe {
                let mut columns = [[V::zero(); SEEN]; 3];
                for x in 0..3 {
                    let mut column = [V::zero(); 3];
                    for y in 0..3 {
                        column[y] = V::load(self.taps.as_ptr().add((y * 3 + x) * len + at));
                    }
                    columns[x] = of_weights(column);
                }
                for y in 0..SEEN {
                    let row = of_weights([columns[0][y], columns[1][y], columns[2][y]]);
                    for x in 0..SEEN {
                        row[x].store(self.packed.as_mut_ptr().add((y * SEEN + x) * len + at));
                    }
                }
            }
        }
    }
}

/// `V` of some tiles. Sizes have been checked.
struct Take<'a> {
    of: &'a Winograd,
    framed: &'a [f32],
    /// Rows of tiles.
    rows: usize,
    first: usize,
    v: &'a mut [f32],
}

impl Task for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { of: &Winograd { inner, in_row, most, steps, .. }, framed, rows, first, v } = self;
        for (number, (y, x)) in (first..).zip((0..rows).flat_map(|y| (0..in_row).map(move |x| (y, x)))) {
            let from = framed[TILE * (y * steps[0] + x * steps[1])..].as_ptr();
            let to = v[number * inner..].as_mut_ptr();
            for channel in (0..inner).step_by(V::LANES) {
                let mask = V::first(inner - channel);
                // SAFETY: the pixels that the tile sees lie in the slab, and its places in `v`, as was checked before; the
                // lanes of the mask are channels that there are.
                unsafe {
                    let mut columns = [[V::zero(); SEEN]; SEEN];
                    for x in 0..SEEN {
                        let mut column = [V::zero(); SEEN];
                        for y in 0..SEEN {
                            column[y] = V::load_first(from.add(y * steps[0] + x * steps[1] + channel), mask);
                        }
                        columns[x] = of_source(column);
                    }
                    for y in 0..SEEN {
                        let row = of_source([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
                        for x in 0..SEEN {
                            row[x].store_first(to.add((y * SEEN + x) * most * inner + channel), mask);
                        }
                    }
                }
            }
        }
    }
}

/// The pixels of some tiles. Sizes have been checked.
struct Put<'a> {
    of: &'a Winograd,
    m: &'a [f32],
    /// Rows of pixels.
    rows: usize,
    first: usize,
    to: *mut f32,
    channels: usize,
    end: End,
}

impl Task for Put<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { of: &Winograd { in_row, most, width, result_steps, .. }, m, rows, first, to, channels, end } = self;
        let numbers = 2 * V::LANES;
        let tiles = (0..rows.div_ceil(TILE)).flat_map(|y| (0..in_row).map(move |x| (y, x)));
        for (number, (tile_y, tile_x)) in (first..).zip(tiles) {
            let from = m[number * numbers..].as_ptr();
            for channel in (0..channels).step_by(V::LANES) {
                let mask = V::first(channels - channel);
                let end = End {
                    bias: if end.bias.is_null() { end.bias } else { end.bias.wrapping_add(channel) },
                    residual: if end.residual.is_null() { end.residual } else { end.residual.wrapping_add(channel) },
                    relu: end.relu,
                };
                // SAFETY: the tile's places are in `m`, as was checked before; only pixels that the result has are written, and
                // for channels that there are.
                unsafe {
                    let mut columns = [[V::zero(); TILE]; SEEN];
                    for x in 0..SEEN {
                        let mut column = [V::zero(); SEEN];
                        for y in 0..SEEN {
                            column[y] = V::load(from.add((y * SEEN + x) * most * numbers + channel));
                        }
                        columns[x] = of_products(column);
                    }
                    for y in 0..TILE {
                        let row = of_products([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
                        for (x, sum) in row.into_iter().enumerate() {
                            let (y, x) = (TILE * tile_y + y, TILE * tile_x + x);
                            if y < rows && x < width {
                                let at = y * result_steps[0] + x * result_steps[1];
                                write([sum], to.add(channel), at, [mask], end);
                            }
                        }
                    }
                }
            }
        }
    }
}
