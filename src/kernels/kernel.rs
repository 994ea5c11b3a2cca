//! A kernel as whoever runs a graph sees it: forwards, and backwards from a gradient.
//!
//! candle would do the backward pass itself. But it adds every gradient to a tensor of zeros that it makes for it, on
//! threads that wait for each other in a loop: a third of a training step of a ResNet. And it walks the tape by recursion,
//! one stack frame a node, which a deep graph overflows. So the tape is the session's, and candle's part are tensors and
//! the form of an operator.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Storage, Tensor, Var,
};

/// An operator with its configuration, for one, two or three arguments: contiguous `f32` tensors on the CPU.
pub enum Kernel {
    /// Of one argument.
    One(Box<dyn CustomOp1 + Send + Sync>),
    /// Of two.
    Two(Box<dyn CustomOp2 + Send + Sync>),
    /// Of three.
    Three(Box<dyn CustomOp3 + Send + Sync>),
}

impl Kernel {
    /// How many arguments it takes.
    pub fn arity(&self) -> usize {
        match self {
            Kernel::One(_) => 1,
            Kernel::Two(_) => 2,
            Kernel::Three(_) => 3,
        }
    }

    /// The result for the first arguments of `args`, as many as it takes. Where one of `args` needs a gradient ([`needs_gradient`]), the result does too.
    pub fn forward(&self, args: &[&Tensor]) -> Result<Tensor> {
        let (y, shape) = match (self, args) {
            (Kernel::One(op), [a, ..]) => on_cpu(a, |a, al| op.cpu_fwd(a, al))?,
            (Kernel::Two(op), [a, b, ..]) => on_cpu(a, |a, al| on_cpu(b, |b, bl| op.cpu_fwd(a, al, b, bl)))?,
            (Kernel::Three(op), [a, b, c, ..]) => {
                on_cpu(a, |a, al| on_cpu(b, |b, bl| on_cpu(c, |c, cl| op.cpu_fwd(a, al, b, bl, c, cl))))?
            }
            _ => return Err(self.misfit(args)),
        };
        let CpuStorage::F32(y) = y else { return Err(Error::Msg(format!("{} gives no f32", self.name()))) };
        tensor(y, shape, args.iter().take(self.arity()).any(|arg| needs_gradient(arg)))
    }

    /// The gradient at each argument that needs one, given that at the result `y` of these arguments.
    pub fn backward(&self, args: &[&Tensor], y: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        match (self, args) {
            (Kernel::One(op), [a, ..]) => Ok(vec![op.bwd(a, y, dy)?]),
            (Kernel::Two(op), [a, b, ..]) => op.bwd(a, b, y, dy).map(|(a, b)| vec![a, b]),
            (Kernel::Three(op), [a, b, c, ..]) => op.bwd(a, b, c, y, dy).map(|(a, b, c)| vec![a, b, c]),
            _ => Err(self.misfit(args)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Kernel::One(op) => op.name(),
            Kernel::Two(op) => op.name(),
            Kernel::Three(op) => op.name(),
        }
    }

    fn misfit(&self, args: &[&Tensor]) -> Error {
        Error::Msg(format!("{} does not take {} arguments", self.name(), args.len()))
    }
}

/// Whether the backward pass asks for the gradient at a tensor: it is made so, or comes from one that is.
pub fn needs_gradient(tensor: &Tensor) -> bool {
    tensor.track_op()
}

/// A tensor over `values`, at which a gradient is needed or not.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>, gradient: bool) -> Result<Tensor> {
    match gradient {
        true => Var::from_vec(values, shape, &Device::Cpu).map(Var::into_inner),
        false => Tensor::from_vec(values, shape, &Device::Cpu),
    }
}

fn on_cpu<T>(tensor: &Tensor, f: impl FnOnce(&CpuStorage, &Layout) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(storage, layout),
        _ => Err(Error::Msg("kernels run on the CPU only".into())),
    }
}
