//! A value in the other layout.

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::nhwc::layout;

use super::super::compile::{Compiler, Flow, Layout, Root};
use super::{Layer, Room, Run};

pub(in super::super) struct Convert {
    from: Room,
    to: Room,
    /// Rows and columns of the matrix that each sample is, and that is transposed.
    sizes: [usize; 2],
    roots: [Root; 2],
    /// From where to where the gradient goes.
    backward: Option<(Room, Room, Old)>,
}

impl Convert {
    pub(in super::super) fn new(compiler: &Compiler<'_>, from: &Flow, to: &Flow) -> Self {
        let pixels: usize = from.dims[2..].iter().product();
        let channels = from.dims[1];
        let sizes = if to.layout == Layout::Images { [channels, pixels] } else { [pixels, channels] };
        let roots = [from.root, to.root];
        let [from, to] = roots.map(|root| compiler.room(root));
        Self { from, to, sizes, roots, backward: None }
    }
}

impl Layer for Convert {
    fn forward(&self, run: &mut Run<'_>) {
        let ([from], [to]) = run.memory.views([self.from], [self.to]);
        layout::transpose(from, to, self.sizes, Old::Dropped);
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.roots[1]) else { return };
        self.backward = compiler.outgoing(self.roots[0]).map(|(dx, old)| (dy, dx, old));
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.backward else { return };
        let ([dy], [dx]) = run.memory.views([dy], [dx]);
        let [rows, columns] = self.sizes;
        layout::transpose(dy, dx, [columns, rows], old);
    }
}
