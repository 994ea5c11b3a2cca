//! A kernel as whoever runs a graph sees it: forwards, and backwards from a gradient.
//!
//! candle would do the backward pass itself. But it adds every gradient to a tensor of zeros that it makes for it, on
//! threads that wait for each other in a loop: a third of a training step of a ResNet. And it walks the tape by recursion,
//! one stack frame a node, which a deep graph overflows. So the tape is the session's, and candle's part are tensors and
//! the form of an operator.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Error, Layout, Result, Shape, Storage, Tensor, Var,
};

use super::numbers;
use super::operator::{Array, Back, Operator};

/// An operator with its configuration, whose arguments are contiguous `f32` tensors on the CPU.
pub enum Kernel {
    /// Of one argument.
    One(Box<dyn CustomOp1 + Send + Sync>),
    /// Of two.
    Two(Box<dyn CustomOp2 + Send + Sync>),
    /// Of three.
    Three(Box<dyn CustomOp3 + Send + Sync>),
    /// Of any number, with any number of results.
    Many(Box<dyn Operator>),
}

impl Kernel {
    /// The kernel of an operator in the form of our own.
    pub(super) fn of(operator: impl Operator + 'static) -> Self {
        Kernel::Many(Box::new(operator))
    }

    /// The operator, if it has the form of our own.
    pub fn into_operator(self) -> Option<Box<dyn Operator>> {
        match self {
            Kernel::Many(operator) => Some(operator),
            _ => None,
        }
    }

    /// How many arguments it takes, at most.
    pub fn arity(&self) -> usize {
        match self {
            Kernel::One(_) => 1,
            Kernel::Two(_) => 2,
            Kernel::Three(_) => 3,
            Kernel::Many(_) => usize::MAX,
        }
    }

    /// The results for the first arguments of `args`, as many as it takes, and what the backward pass needs behind them.
    /// Where one of these arguments needs a gradient ([`needs_gradient`]), the results do too.
    pub fn results(&self, args: &[&Tensor]) -> Result<Vec<Tensor>> {
        let Kernel::Many(operator) = self else { return Ok(vec![self.forward(args)?]) };
        let made = with_arrays(operator.name(), args, |args| operator.forward(args))?;
        let tracked = args.iter().any(|arg| needs_gradient(arg));
        made.into_iter().map(|made| tensor(made.values, made.shape, tracked)).collect()
    }

    /// The gradient at each argument that needs one, given those at the results `ys` of these arguments, one of which is
    /// there at least.
    pub fn gradients(&self, args: &[&Tensor], ys: &[Tensor], dys: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> {
        let Kernel::Many(operator) = self else {
            let (Some(y), Some(Some(dy))) = (ys.first(), dys.first()) else { return Err(self.misfit(args)) };
            return self.backward(args, y, dy);
        };
        let name = operator.name();
        let results: Vec<&Tensor> = ys.iter().collect();
        let upstream: Vec<&Tensor> = dys.iter().flatten().collect();
        let wanted: Vec<bool> = args.iter().map(|arg| needs_gradient(arg)).collect();
        let found = with_arrays(name, args, |args| {
            with_arrays(name, &results, |ys| {
                with_arrays(name, &upstream, |upstream| {
                    let mut upstream = upstream.iter().copied();
                    let dys: Vec<Option<Array<'_>>> =
                        dys.iter().map(|dy| dy.as_ref().and_then(|_| upstream.next())).collect();
                    operator.backward(&Back { args, ys, dys: &dys, wanted: &wanted })
                })
            })
        })?;
        let made =
            |(values, arg): (Option<Vec<f32>>, &&Tensor)| values.map(|v| tensor(v, arg.shape(), false)).transpose();
        found.into_iter().zip(args).map(made).collect()
    }

    /// The first result for the first arguments of `args`, as many as it takes. Where one of them needs a gradient
    /// ([`needs_gradient`]), the result does too.
    pub fn forward(&self, args: &[&Tensor]) -> Result<Tensor> {
        let (y, shape) = match (self, args) {
            (Kernel::Many(_), _) => return self.results(args)?.into_iter().next().ok_or_else(|| self.misfit(args)),
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

    /// The gradients of an operator in candle's form.
    fn backward(&self, args: &[&Tensor], y: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
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
            Kernel::Many(op) => op.name(),
        }
    }

    fn misfit(&self, args: &[&Tensor]) -> Error {
        Error::Msg(format!("{} does not take {} arguments", self.name(), args.len()))
    }
}

/// Calls `f` with the numbers of the tensors.
fn with_arrays<T>(op: &'static str, tensors: &[&Tensor], f: impl FnOnce(&[Array<'_>]) -> Result<T>) -> Result<T> {
    let held: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut arrays = Vec::with_capacity(held.len());
    for (storage, layout) in &held {
        let Storage::Cpu(storage) = &**storage else { return Err(Error::Msg("kernels run on the CPU only".into())) };
        arrays.push(Array { shape: layout.dims(), values: numbers(op, storage, layout)? });
    }
    f(&arrays)
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
