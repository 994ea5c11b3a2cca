//! Images with zeros around them, as the kernels read them.

use std::ops::Range;

/// Images of `channels` numbers a pixel, in a frame of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Size of the image, `[height, width]`.
    pub(super) image: [usize; 2],
    /// Numbers of a pixel.
    pub(super) channels: usize,
    /// Pixels above and left of the image.
    pub(super) before: [usize; 2],
    /// Pixels below and right of the image.
    pub(super) after: [usize; 2],
}

impl Frame {
    /// Height and width with the frame.
    pub(super) fn outer(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.before[axis] + self.image[axis] + self.after[axis])
    }

    /// Numbers of an image.
    pub(super) fn image_len(&self) -> usize {
        self.image[0] * self.image[1] * self.channels
    }

    /// Whether there is no frame.
    pub(super) fn is_bare(&self) -> bool {
        self.before == [0; 2] && self.after == [0; 2]
    }

    /// Numbers of a row with its frame.
    pub(super) fn row(&self) -> usize {
        self.outer()[1] * self.channels
    }

    /// Copies some rows, counted with the frame, of an image of `of` channels to `framed`: the frame's channels of it, from
    /// `first` on, and zeros where the image has none. The columns of the frame beside the image are left as they are.
    pub(super) fn fill(&self, image: &[f32], first: usize, of: usize, rows: Range<usize>, framed: &mut [f32]) {
        let (beside, width) = (self.before[1] * self.channels, self.image[1] * self.channels);
        for (row, to) in rows.zip(framed.chunks_mut(self.row())) {
            let to = &mut to[beside..beside + width];
            let Some(y) = row.checked_sub(self.before[0]).filter(|y| *y < self.image[0]) else {
                to.fill(0.0);
                continue;
            };
            let from = &image[y * self.image[1] * of..][..self.image[1] * of];
            if self.channels == of {
                to.copy_from_slice(from);
                continue;
            }
            let there = self.channels.min(of - first);
            for (from, to) in from.chunks_exact(of).zip(to.chunks_exact_mut(self.channels)) {
                to[..there].copy_from_slice(&from[first..first + there]);
                to[there..].fill(0.0);
            }
        }
    }
}

/// How an image is gone over: some rows of places at a time, with the framed rows that they are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slabs {
    /// Rows of places in the whole image.
    pub(super) rows: usize,
    /// Framed rows from one row of places to the next.
    pub(super) step: usize,
    /// Framed rows that one row of places sees.
    pub(super) seen: usize,
    /// Rows of places at a time.
    pub(super) at_once: usize,
}

impl Slabs {
    /// As many rows at a time as stay below so many bytes; `beside` is what each row takes beside the framed ones.
    pub(super) fn new(rows: usize, step: usize, seen: usize, frame: &Frame, beside: usize, bytes: usize) -> Self {
        let fits = bytes / size_of::<f32>() / (step * frame.row() + beside).max(1);
        // All the same size, or nearly.
        let parts = rows.div_ceil(fits.max(1)).max(1);
        Self { rows, step, seen, at_once: rows.div_ceil(parts) }
    }

    /// How many slabs there are.
    pub(super) fn count(&self) -> usize {
        self.rows.div_ceil(self.at_once)
    }

    /// The rows of places of a slab.
    pub(super) fn rows_of(&self, slab: usize) -> Range<usize> {
        slab * self.at_once..self.rows.min((slab + 1) * self.at_once)
    }

    /// The framed rows that rows of places see.
    pub(super) fn framed(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.step..(rows.end - 1) * self.step + self.seen
    }

    /// Numbers of a framed slab.
    pub(super) fn len(&self, frame: &Frame) -> usize {
        self.framed(&(0..self.at_once)).len() * frame.row()
    }
}
