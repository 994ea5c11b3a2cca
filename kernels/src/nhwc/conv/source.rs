//! Images with zeros around them, as the kernels read them.

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

    /// Numbers of an image with its frame.
    pub(super) fn len(&self) -> usize {
        let [height, width] = self.outer();
        height * width * self.channels
    }

    /// Whether there is no frame.
    pub(super) fn is_bare(&self) -> bool {
        self.before == [0; 2] && self.after == [0; 2]
    }

    /// Numbers of a row with its frame.
    pub(super) fn row(&self) -> usize {
        self.outer()[1] * self.channels
    }

    /// Copies an image into `framed`, whose frame is there already.
    #[inline(always)]
    pub(super) fn fill(&self, image: &[f32], framed: &mut [f32]) {
        let row = self.image[1] * self.channels;
        let inside = self.before[0] * self.row() + self.before[1] * self.channels;
        for (from, to) in image.chunks_exact(row).zip(framed[inside..].chunks_mut(self.row())) {
            to[..row].copy_from_slice(from);
        }
    }

    /// Copies the channels from `first` on of an image of `of` channels.
    #[inline(always)]
    pub(super) fn fill_channels(&self, image: &[f32], first: usize, of: usize, framed: &mut [f32]) {
        if self.channels == of {
            return self.fill(image, framed);
        }
        let inside = self.before[0] * self.row() + self.before[1] * self.channels;
        for (from, to) in image.chunks_exact(self.image[1] * of).zip(framed[inside..].chunks_mut(self.row())) {
            for (from, to) in from.chunks_exact(of).zip(to.chunks_exact_mut(self.channels)) {
                to.copy_from_slice(&from[first..first + self.channels]);
            }
        }
    }

    /// As [`Frame::fill_channels`] where the image ends before the frame's last channels, which become zero.
    #[inline(always)]
    pub(super) fn fill_last_channels(&self, image: &[f32], first: usize, of: usize, framed: &mut [f32]) {
        let inside = self.before[0] * self.row() + self.before[1] * self.channels;
        for (from, to) in image.chunks_exact(self.image[1] * of).zip(framed[inside..].chunks_mut(self.row())) {
            for (from, to) in from.chunks_exact(of).zip(to.chunks_exact_mut(self.channels)) {
                to[..of - first].copy_from_slice(&from[first..]);
                to[of - first..].fill(0.0);
            }
        }
    }
}
