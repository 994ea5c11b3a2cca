//! Pooling of images.

use niwaki_kernels::nhwc::conv::{self, Old};
use niwaki_kernels::nhwc::pool::Pool;

use super::super::Uncovered;
use super::super::compile::{Compiler, Flow, Layout, Root};
use super::{Layer, Room, Run, of_all, planar};
use crate::graph::Node;
use crate::graph::op::{AvgPool2d, Window};
use crate::kernels;

struct PoolLayer {
    pool: Pool,
    /// What each place multiplies its window's sum with; `None` where the largest number is meant.
    shares: Option<Vec<f32>>,
    x: (Root, Room),
    y: (Root, Room),
    /// From where to where the gradient goes.
    backward: Option<(Room, Room, Old)>,
}

pub(super) fn add_max(compiler: &mut Compiler<'_>, node: &Node, window: Window) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    add(compiler, node, x, window, None)
}

pub(super) fn add_mean(compiler: &mut Compiler<'_>, node: &Node, config: &AvgPool2d) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    let [_, _, h, w] = planar(&x.dims)?;
    let shares = kernels::mean_shares(config, [h, w]).map_err(|e| Uncovered(e.to_string()))?;
    add(compiler, node, x, config.window, Some(shares))
}

/// The mean of each channel.
pub(super) fn add_mean_of_all(compiler: &mut Compiler<'_>, node: &Node) -> Result<(), Uncovered> {
    let x = compiler.get(node.inputs[0], Layout::Images)?;
    let [_, _, h, w] = planar(&x.dims)?;
    add_mean(compiler, node, &of_all([h, w]))
}

fn add(
    compiler: &mut Compiler<'_>,
    node: &Node,
    x: Flow,
    window: Window,
    shares: Option<Vec<f32>>,
) -> Result<(), Uncovered> {
    let [_, channels, h, w] = planar(&x.dims)?;
    let places = window.output(node.op.name(), [h, w]).map_err(|e| Uncovered(e.to_string()))?;
    let Window { kernel, stride, padding, dilation } = window;
    let window = conv::Window { kernel, stride, padding, dilation };
    let pool = Pool { image: [h, w], places, channels, window, path: compiler.path };
    let needs = compiler.needs_gradient(&x);
    let dims = compiler.dims(node.output())?;
    // One place a channel: both layouts are one, whatever axes are left.
    let layout = if dims.len() < 3 { Layout::Rows } else { Layout::Images };
    let y = compiler.output(node.output(), dims, layout, needs);
    let [x, y] = [x.root, y.root].map(|root| (root, compiler.room(root)));
    compiler.push(PoolLayer { pool, shares, x, y, backward: None });
    Ok(())
}

impl Layer for PoolLayer {
    fn forward(&self, run: &mut Run<'_>) {
        let ([x], [y]) = run.memory.views([self.x.1], [self.y.1]);
        match &self.shares {
            Some(shares) => self.pool.mean(x, shares, y),
            None => self.pool.max(x, y),
        }
    }

    fn plan_backward(&mut self, compiler: &mut Compiler<'_>) {
        let Some(dy) = compiler.incoming(self.y.0) else { return };
        let Some((dx, old)) = compiler.outgoing(self.x.0) else { return };
        if self.shares.is_none() {
            compiler.keep(self.x.1);
        }
        self.backward = Some((dy, dx, old));
    }

    fn backward(&self, run: &mut Run<'_>) {
        let Some((dy, dx, old)) = self.backward else { return };
        match &self.shares {
            Some(shares) => {
                let ([dy], [dx]) = run.memory.views([dy], [dx]);
                self.pool.mean_backward(dy, shares, dx, old);
            }
            None => {
                let ([x, dy], [dx]) = run.memory.views([self.x.1, dy], [dx]);
                self.pool.max_backward(x, dy, dx, old);
            }
        }
    }
}
