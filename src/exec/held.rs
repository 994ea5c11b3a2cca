//! A value while a graph runs.

use candle_core::{Device, Error, Result, Tensor};

use crate::kernels;
use crate::reference;
use crate::tensor::{DType, TensorData};

/// What a value is held as.
#[derive(Clone)]
pub(super) enum Held {
    /// Floating point numbers of any format, as `f32`.
    Numbers(Tensor),
    /// Whole numbers and truth values, as they are.
    Plain(TensorData),
}

impl Held {
    /// Numbers of any format.
    pub(super) fn of(data: &TensorData) -> Result<Self> {
        if !data.dtype().is_float() {
            return Ok(Held::Plain(data.clone()));
        }
        let values = data.to_f32().map_err(|e| Error::Msg(e.to_string()))?;
        Tensor::from_vec(values, data.shape(), &Device::Cpu).map(Held::Numbers)
    }

    /// The floating point numbers, if it is such.
    pub(super) fn numbers(&self) -> Option<&Tensor> {
        if let Held::Numbers(tensor) = self { Some(tensor) } else { None }
    }

    /// The whole numbers, if it is such.
    pub(super) fn plain(&self) -> Option<&TensorData> {
        if let Held::Plain(data) = self { Some(data) } else { None }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Held::Numbers(tensor) => tensor.dims(),
            Held::Plain(data) => data.shape(),
        }
    }

    /// As plain data: floating point numbers as `F32`.
    pub(super) fn data(&self) -> Result<TensorData> {
        match self {
            Held::Plain(data) => Ok(data.clone()),
            Held::Numbers(tensor) => {
                let data = kernels::read(tensor, |values| TensorData::from_f32(tensor.dims().to_vec(), values))?;
                data.map_err(|e| Error::Msg(e.to_string()))
            }
        }
    }

    /// All numbers as `f32`, rounded where they are too large for it.
    pub(super) fn to_f32(&self) -> Result<Vec<f32>> {
        match self {
            Held::Numbers(tensor) => kernels::read(tensor, <[f32]>::to_vec),
            Held::Plain(data) => {
                let data = reference::cast(data, DType::F32).map_err(|e| Error::Msg(e.to_string()))?;
                data.to_f32().map_err(|e| Error::Msg(e.to_string()))
            }
        }
    }
}
