//! ONNX's numbers of the number formats.

use super::proto::tensor_proto::DataType;
use crate::tensor::DType;

/// The format of that number, if niwaki knows it.
pub(super) fn dtype(number: i32) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| self::number(*dtype) == number)
}

/// The number of a format.
pub(super) fn number(dtype: DType) -> i32 {
    let number = match dtype {
        DType::Bool => DataType::Bool,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::Uint16,
        DType::I16 => DataType::Int16,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::U32 => DataType::Uint32,
        DType::I32 => DataType::Int32,
        DType::F32 => DataType::Float,
        DType::U64 => DataType::Uint64,
        DType::I64 => DataType::Int64,
        DType::F64 => DataType::Double,
    };
    number as i32
}

/// ONNX's name of a number, whether niwaki knows the format or not.
pub(super) fn name(number: i32) -> String {
    DataType::try_from(number).map_or_else(|_| format!("number {number}"), |known| known.as_str_name().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_format() {
        assert!(DType::ALL.into_iter().all(|known| dtype(number(known)) == Some(known)));
        // As `onnx.TensorProto` has them.
        let numbers = [DType::F32, DType::U8, DType::I64, DType::Bool, DType::F16, DType::F64, DType::BF16].map(number);
        assert_eq!(numbers, [1, 2, 7, 9, 10, 11, 16]);
        let others = (-1..40).filter(|number| dtype(*number).is_none()).map(name).collect::<Vec<_>>().join(" ");
        assert!(others.contains("STRING COMPLEX64 COMPLEX128 FLOAT8E4M3FN"), "{others}");
        assert!(others.ends_with("number 39"), "{others}");
    }
}
