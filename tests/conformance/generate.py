"""Writes the ONNX project's own conformance cases to a folder: models with their inputs and the outputs they must give.

    python tests/conformance/generate.py target/conformance

What is written is described in README.md beside this file.
"""

import argparse
import json
import pathlib
import warnings

warnings.simplefilter("ignore")

import numpy
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper
from onnx.backend.test import loader

KINDS = ("node", "pytorch-converted", "pytorch-operator")
# The operators of a listed case.
OPERATORS = frozenset(
    """
    Conv ConvTranspose Gemm MatMul Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Erf Min Max Clip Relu LeakyRelu PRelu
    Elu Selu Sigmoid HardSigmoid HardSwish Tanh Softplus Gelu Mish Swish Softmax LogSoftmax BatchNormalization
    LayerNormalization GroupNormalization InstanceNormalization MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean
    ReduceSum ReduceMax Reshape Flatten Transpose Squeeze Unsqueeze Concat Split Slice Pad Expand Tile Gather Constant
    ConstantOfShape Shape Cast CastLike Identity Dropout Where Equal LSTM QuantizeLinear DequantizeLinear GRU RMSNormalization
    ReduceMin ReduceL2 ReduceSumSquare Resize DepthToSpace SpaceToDepth Einsum ArgMax Range Not And Or Less Greater LessOrEqual
    GreaterOrEqual Floor Sign Size Trilu CumSum Softsign Sum Mod IsNaN GatherElements GatherND SplitToSequence SequenceAt
    RandomUniformLike
    """.split()
)
# The element types of a listed case's inputs and outputs, and what they are called; others have ONNX's name in small letters.
LISTED_TYPES = {
    TensorProto.FLOAT: "f32",
    TensorProto.DOUBLE: "f64",
    TensorProto.FLOAT16: "f16",
    TensorProto.INT32: "i32",
    TensorProto.INT64: "i64",
    TensorProto.BOOL: "bool",
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "i8",
}


def operators(graph):
    """The operators of a graph and of the graphs inside its nodes, those of other domains as `domain.Name`."""
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from operators(attribute.g)
            for inner in attribute.graphs:
                yield from operators(inner)


def dtype(kind):
    """What an input or output holds: an element type, or `sequence(...)` or `optional(...)` of one."""
    form = kind.WhichOneof("value")
    if form == "tensor_type":
        element = kind.tensor_type.elem_type
        return LISTED_TYPES.get(element) or TensorProto.DataType.Name(element).lower()
    return f"{form.removesuffix('_type')}({dtype(getattr(kind, form).elem_type)})"


def message(value, kind, name):
    """A value that the loader gives, as the message that suits its type."""
    form = kind.WhichOneof("value")
    if form == "sequence_type":
        return numpy_helper.from_list(value, name)
    if form == "optional_type":
        return numpy_helper.from_optional(value, name)
    if not isinstance(value, TensorProto):
        return numpy_helper.from_array(numpy.asarray(value), name)
    named = TensorProto()
    named.CopyFrom(value)
    named.name = name
    return named


def data_sets(case, model):
    """The data sets of a case: each the contents of files by their names."""
    if case.data_sets is None:
        for folder in sorted(pathlib.Path(case.model_dir).glob("test_data_set_*")):
            yield {file.name: file.read_bytes() for file in sorted(folder.glob("*.pb"))}
        return
    for inputs, outputs in case.data_sets:
        files = {}
        for prefix, values, declared in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
            for place, (value, info) in enumerate(zip(values, declared, strict=True)):
                files[f"{prefix}_{place}.pb"] = message(value, info.type, info.name).SerializeToString()
        yield files


def write(case, out):
    """Writes a case to its folder, and returns what cases.json says about it."""
    folder = out / case.kind / case.name
    folder.mkdir(parents=True, exist_ok=True)
    if case.model is None:
        # The bytes of a file are kept as they are.
        content = (pathlib.Path(case.model_dir) / "model.onnx").read_bytes()
        model = onnx.load_model_from_string(content)
    else:
        content, model = case.model.SerializeToString(), case.model
    (folder / "model.onnx").write_bytes(content)
    for number, files in enumerate(data_sets(case, model)):
        place = folder / f"set_{number}" if number else folder
        place.mkdir(exist_ok=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
    ops = sorted(set(operators(model.graph)))
    dtypes = sorted({dtype(info.type) for info in (*model.graph.input, *model.graph.output)})
    versions = {opset.domain: opset.version for opset in model.opset_import}
    return {
        "kind": case.kind,
        "name": case.name,
        "opset": versions.get("", versions.get("ai.onnx")),
        "ops": ops,
        "dtypes": dtypes,
        "rtol": case.rtol,
        "atol": case.atol,
        "listed": OPERATORS.issuperset(ops) and set(LISTED_TYPES.values()).issuperset(dtypes),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="the folder; it is made where it is missing")
    out = parser.parse_args().out
    told = []
    for kind in KINDS:
        cases = sorted(loader.load_model_tests(kind=kind), key=lambda case: case.name)
        found = [write(case, out) for case in cases]
        told += found
        print(f"{kind}: {len(found)} cases, {sum(case['listed'] for case in found)} listed")
    # Written last: where it is, all else is.
    (out / "cases.json").write_text("[\n" + ",\n".join(map(json.dumps, told)) + "\n]\n")


if __name__ == "__main__":
    main()
