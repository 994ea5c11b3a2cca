//! Tensors as plain data: a dtype, a shape and shared bytes.
//!
//! This is how parameters live in a [`crate::graph::Graph`] and in files. Nothing here computes on a device; executors
//! have buffers of their own. Bytes are little-endian, in row-major order, as in safetensors. Passes that compute on
//! weights do so in `f64`, with [`linalg`] where they need matrices.

mod dtype;
pub mod linalg;

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};
use niwaki_kernels::convert;
use thiserror::Error;

pub use dtype::DType;

/// What can be wrong with a tensor.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The bytes do not fill the shape.
    #[error("shape {shape:?} of {dtype} needs {expected} bytes, got {actual}")]
    Length {
        /// The dtype.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes the shape needs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The number of elements does not fit into memory.
    #[error("shape {shape:?} has too many elements")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The operation is for floating point numbers.
    #[error("dtype {dtype} is no floating point type")]
    NotFloat {
        /// The dtype.
        dtype: DType,
    },
}

/// A tensor: dtype, shape and bytes. Cloning shares the bytes.
#[derive(Clone, PartialEq)]
pub struct TensorData {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl TensorData {
    /// A tensor of `shape` over `bytes` (little-endian, row-major), whose length must be exactly right.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: impl Into<Bytes>) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        let expected = elements(&shape)
            .and_then(|n| n.checked_mul(dtype.size()))
            .ok_or_else(|| TensorError::TooLarge { shape: shape.clone() })?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, shape, expected, actual: bytes.len() });
        }
        Ok(Self { dtype, shape, bytes })
    }

    /// An `F32` tensor over `values`, whose number must be that of the shape.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        Self::new(DType::F32, shape, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// An `F32` tensor of zeros.
    pub fn zeros(shape: Vec<usize>) -> Result<Self, TensorError> {
        let n = elements(&shape).and_then(|n| n.checked_mul(4));
        let n = n.ok_or_else(|| TensorError::TooLarge { shape: shape.clone() })?;
        Self::new(DType::F32, shape, vec![0u8; n])
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes, little-endian, row-major.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The values as `f32`. `F64` is rounded to nearest; integers are refused.
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        match self.dtype {
            DType::F32 => Ok(self.read::<4>().map(f32::from_le_bytes).collect()),
            DType::F16 => Ok(converted(&self.halves(f16::from_le_bytes), convert::f16_to_f32)),
            DType::BF16 => Ok(converted(&self.halves(bf16::from_le_bytes), convert::bf16_to_f32)),
            DType::F64 => Ok(self.read::<8>().map(|b| f64::from_le_bytes(b) as f32).collect()),
            dtype => Err(TensorError::NotFloat { dtype }),
        }
    }

    /// The values as `f64`, exactly; integers are refused.
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        match self.dtype {
            DType::F64 => Ok(self.read::<8>().map(f64::from_le_bytes).collect()),
            _ => Ok(self.to_f32()?.into_iter().map(f64::from).collect()),
        }
    }

    /// A tensor of a floating point type over `values`, rounded to nearest even (to 16 bits by way of `f32`).
    pub fn from_f64(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Result<Self, TensorError> {
        if dtype == DType::F64 {
            return Self::new(dtype, shape, Bytes::copy_from_slice(bytemuck::cast_slice(values)));
        }
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Self::from_f32(shape, &values)?.to_float(dtype)
    }

    /// The same values in another floating point type, rounded to nearest even.
    pub fn to_float(&self, dtype: DType) -> Result<Self, TensorError> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        let values = self.to_f32()?;
        let bytes: Vec<u8> = match dtype {
            DType::F32 => bytemuck::cast_slice(&values).to_vec(),
            DType::F16 => bytemuck::cast_slice(&converted(&values, convert::f32_to_f16)).to_vec(),
            DType::BF16 => bytemuck::cast_slice(&converted(&values, convert::f32_to_bf16)).to_vec(),
            DType::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
            dtype => return Err(TensorError::NotFloat { dtype }),
        };
        Self::new(dtype, self.shape.clone(), bytes)
    }

    /// The elements at these places, counted in row-major order, as a tensor of this shape.
    pub fn select(&self, shape: Vec<usize>, places: &[usize]) -> Result<Self, TensorError> {
        let size = self.dtype.size();
        let bytes: Vec<u8> =
            places.iter().flat_map(|place| &self.bytes[place * size..(place + 1) * size]).copied().collect();
        Self::new(self.dtype, shape, bytes)
    }

    /// The same tensor with zeros but at these places, counted in row-major order.
    pub fn only(&self, places: &[usize]) -> Result<Self, TensorError> {
        let size = self.dtype.size();
        let mut bytes = vec![0; self.bytes.len()];
        for place in places {
            let range = place * size..(place + 1) * size;
            bytes[range.clone()].copy_from_slice(&self.bytes[range]);
        }
        Self::new(self.dtype, self.shape.clone(), bytes)
    }

    /// How many elements are not zero (-0.0 is zero).
    pub fn nonzero(&self) -> usize {
        match self.to_f32() {
            Ok(values) => values.iter().filter(|v| **v != 0.0).count(),
            Err(_) => self.bytes.chunks_exact(self.dtype.size()).filter(|e| e.iter().any(|b| *b != 0)).count(),
        }
    }

    /// Numbers of two bytes, in place if they lie as the processor needs them.
    fn halves<T: bytemuck::Pod>(&self, read: impl Fn([u8; 2]) -> T) -> Cow<'_, [T]> {
        let in_place = bytemuck::try_cast_slice(&self.bytes);
        in_place.map_or_else(|_| self.read::<2>().map(read).collect::<Vec<_>>().into(), Cow::Borrowed)
    }

    fn read<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("chunks_exact gives chunks of N bytes"))
    }
}

/// Numbers in another format.
fn converted<A, B: bytemuck::Zeroable + Clone>(from: &[A], convert: impl Fn(&[A], &mut [B])) -> Vec<B> {
    let mut to = vec![B::zeroed(); from.len()];
    convert(from, &mut to);
    to
}

impl std::fmt::Debug for TensorData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// The elements, counted in row-major order, that lie at the kept places of every axis.
pub fn places(shape: &[usize], kept: &[Vec<usize>]) -> Vec<usize> {
    kept.iter().zip(shape).fold(vec![0], |outer, (kept, size)| {
        outer.iter().flat_map(|start| kept.iter().map(move |place| start * size + place)).collect()
    })
}

/// The number of elements of a shape, or `None` if it does not fit.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_must_be_exactly_right() {
        let error = TensorData::new(DType::F32, vec![2, 3], vec![0u8; 23]).unwrap_err();
        assert_eq!(error, TensorError::Length { dtype: DType::F32, shape: vec![2, 3], expected: 24, actual: 23 });
    }

    #[test]
    fn a_product_that_overflows_is_refused() {
        let error = TensorData::new(DType::U8, vec![usize::MAX, 2], Vec::new()).unwrap_err();
        assert!(matches!(error, TensorError::TooLarge { .. }));
    }

    #[test]
    fn negative_zero_counts_as_zero() {
        let t = TensorData::from_f32(vec![4], &[0.0, -0.0, 1.0, f32::NAN]).unwrap();
        assert_eq!(t.nonzero(), 2);
    }

    #[test]
    fn doubles_survive_unless_they_are_asked_to_be_shorter() {
        let values = [std::f64::consts::PI, -1e300];
        let t = TensorData::from_f64(DType::F64, vec![2], &values).unwrap();
        assert_eq!(t.to_f64().unwrap(), values);
        let short = TensorData::from_f64(DType::F16, vec![2], &[0.1, 1e9]).unwrap();
        assert_eq!((short.dtype(), short.to_f64().unwrap()), (DType::F16, vec![0.0999755859375, f64::INFINITY]));
    }

    #[test]
    fn halves_are_read_wherever_they_lie() {
        let bytes: Bytes = (0..=40).collect::<Vec<u8>>().into();
        for start in [0, 1] {
            let bytes = bytes.slice(start..start + 40);
            for (dtype, read) in [
                (DType::F16, (|b| f16::from_le_bytes(b).to_f32()) as fn([u8; 2]) -> f32),
                (DType::BF16, |b| bf16::from_le_bytes(b).to_f32()),
            ] {
                let expected: Vec<f32> = bytes.chunks(2).map(|pair| read([pair[0], pair[1]])).collect();
                assert_eq!(TensorData::new(dtype, vec![20], bytes.clone()).unwrap().to_f32().unwrap(), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn f16_rounding_is_within_half_a_unit_in_the_last_place(v in -60000f32..60000f32) {
            let t = TensorData::from_f32(vec![1], &[v]).unwrap().to_float(DType::F16).unwrap();
            let back = t.to_f32().unwrap()[0];
            // 11 significant bits: the relative error of a normal number is at most 2^-11.
            let bound = (v.abs() * 2f32.powi(-11)).max(2f32.powi(-25));
            prop_assert!((back - v).abs() <= bound, "{v} became {back}");
        }
    }
}
