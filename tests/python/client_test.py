"""Drives a niwaki server with a client that grpcio-tools generates from proto/.

    python tests/python/client_test.py 127.0.0.1:7700
    python tests/python/client_test.py --serve target/debug/niwaki

With --serve the program is started on a free port and stopped again.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import uuid

import grpc
import grpc_tools
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
TENANT = "tenants/default"
CHUNK = 4096
CLASSES = 3


def generate(folder):
    """Generates the client into a folder and gives its modules by name."""
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(arguments + protos) == 0
    sys.path.insert(0, folder)
    names = ["artifact", "dataset", "job", "model", "recipe", "server", "upload"]
    modules = {}
    for name in names:
        modules[name] = importlib.import_module(f"niwaki.v1.{name}_pb2")
        modules[name + "_grpc"] = importlib.import_module(f"niwaki.v1.{name}_pb2_grpc")
    return modules


def crc32c(data):
    """CRC-32C (Castagnoli), reflected, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def safetensors(tensors):
    """A safetensors file of {name: (dtype, shape, bytes)}."""
    header, body = {}, b""
    for name, (dtype, shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def samples(count, rng):
    """Pictures of 4 by 4 pixels; the class says which rows are bright."""
    labels = [rng.randrange(CLASSES) for _ in range(count)]
    pixels = bytearray()
    for label in labels:
        pixels += bytes(rng.randrange(60, 160) if i // 4 == label else rng.randrange(0, 110) for i in range(16))
    return safetensors({
        "inputs": ("U8", [count, 1, 4, 4], bytes(pixels)),
        "labels": ("U8", [count], bytes(labels)),
    })


def network(rng):
    """The weights of a small network as another program would write them, and the graph that goes with them."""
    def layer(out, inner):
        return [rng.uniform(-1, 1) * (6 / inner) ** 0.5 for _ in range(out * inner)]

    weights = safetensors({
        "fc1.weight": ("F32", [12, 16], floats(layer(12, 16))),
        "fc1.bias": ("F32", [12], floats([0.0] * 12)),
        "fc2.weight": ("F32", [CLASSES, 12], floats(layer(CLASSES, 12))),
        "fc2.bias": ("F32", [CLASSES], floats([0.0] * CLASSES)),
    })
    graph = {
        "version": 1,
        "name": "small",
        "inputs": [{"name": "input", "shape": [1, 4, 4]}],
        "params": [
            {"name": "fc1.weight", "shape": [12, 16]},
            {"name": "fc1.bias", "shape": [12]},
            {"name": "fc2.weight", "shape": [CLASSES, 12]},
            {"name": "fc2.bias", "shape": [CLASSES]},
        ],
        "nodes": [
            {"name": "flatten", "op": "Flatten", "inputs": ["input"]},
            {"name": "fc1", "op": "Linear", "inputs": ["flatten"], "params": {"weight": "fc1.weight", "bias": "fc1.bias"}},
            {"name": "relu1", "op": "Relu", "inputs": ["fc1"]},
            {"name": "fc2", "op": "Linear", "inputs": ["relu1"], "params": {"weight": "fc2.weight", "bias": "fc2.bias"}},
        ],
        "outputs": ["fc2"],
    }
    return weights, json.dumps(graph)


class Client:
    """The generated stubs over one channel."""

    def __init__(self, channel, api):
        self.api = api
        self.uploads = api["upload_grpc"].UploadServiceStub(channel)
        self.models = api["model_grpc"].ModelServiceStub(channel)
        self.datasets = api["dataset_grpc"].DatasetServiceStub(channel)
        self.jobs = api["job_grpc"].JobServiceStub(channel)
        self.artifacts = api["artifact_grpc"].ArtifactServiceStub(channel)
        self.server = api["server_grpc"].ServerServiceStub(channel)

    def announce(self, file_name, data, wrong_digest=None):
        pb = self.api["upload"]
        upload = pb.Upload(file_name=file_name, size_bytes=len(data), digest=wrong_digest or digest(data))
        return self.uploads.CreateUpload(pb.CreateUploadRequest(parent=TENANT, upload=upload)).name

    def write(self, name, data, begin, end):
        def chunks():
            for offset in range(begin, end, CHUNK):
                part = data[offset:min(offset + CHUNK, end)]
                yield self.api["upload"].WriteUploadRequest(name=name, offset=offset, data=part, crc32c=crc32c(part))
        return self.uploads.WriteUpload(chunks()).committed_size

    def upload(self, file_name, data):
        """Sends a file in two streams, the second from where the server says that the first ended."""
        pb = self.api["upload"]
        name = self.announce(file_name, data)
        self.write(name, data, 0, len(data) // 2)
        committed = self.uploads.GetUpload(pb.GetUploadRequest(name=name)).committed_size
        assert committed == len(data) // 2, committed
        assert self.write(name, data, committed, len(data)) == len(data)
        done = self.uploads.CompleteUpload(pb.CompleteUploadRequest(name=name))
        assert done.state == pb.Upload.STATE_COMPLETE and done.committed_size == len(data)
        return self.api["model"].FileReference(upload=name)

    def create_job(self, model, dataset, recipe, request_id=""):
        pb = self.api["job"]
        job = pb.Job(model=model, dataset=dataset, recipe=recipe)
        return self.jobs.CreateJob(pb.CreateJobRequest(parent=TENANT, job=job, request_id=request_id))

    def watch(self, name, after_revision=0):
        """Follows a job to its end and gives it as it then is."""
        job = None
        request = self.api["job"].WatchJobRequest(name=name, after_revision=after_revision)
        for change in self.jobs.WatchJob(request, timeout=300):
            assert change.job.revision > after_revision, "revisions only grow"
            job, after_revision = change.job, change.job.revision
        return job

    def download(self, name, read_offset=0, read_limit=0):
        pb = self.api["artifact"]
        request = pb.DownloadArtifactRequest(name=name, read_offset=read_offset, read_limit=read_limit)
        data = b""
        for chunk in self.artifacts.DownloadArtifact(request):
            assert chunk.offset == read_offset + len(data) and crc32c(chunk.data) == chunk.crc32c
            data += chunk.data
        return data


@contextlib.contextmanager
def refused(code, detail=b""):
    """The calls inside must be answered with this code, and `detail` must be named in the message or the details."""
    try:
        yield
    except grpc.RpcError as error:
        assert error.code() == code, error
        said = error.details().encode() + b"".join(v for k, v in error.trailing_metadata() if k.endswith("-bin"))
        assert detail in said, error
    else:
        raise AssertionError(f"expected {code}")


def check_server(channel, client):
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "niwaki.v1.JobService" in services, services
    info = client.server.GetServerInfo(client.api["server"].GetServerInfoRequest())
    assert "lenet5" in info.presets and info.limits.max_chunk_bytes >= CHUNK
    print(f"  server {info.version}: health, reflection, info")


def check_uploads(client):
    name = client.announce("bad.bin", b"hello", wrong_digest=digest(b"other"))
    client.write(name, b"hello", 0, 5)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, b"DIGEST_MISMATCH"):
        client.uploads.CompleteUpload(client.api["upload"].CompleteUploadRequest(name=name))
    print("  a file with another digest is refused")


def make_model(client, rng):
    pb = client.api["model"]
    weights, graph = network(rng)
    files = [client.upload("small.safetensors", weights)]
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.models.CreateModel(pb.CreateModelRequest(parent=TENANT, model=pb.Model(files=files)))
    model = pb.Model(display_name="small", files=files, architecture=pb.Architecture(graph_json=graph))
    made = client.models.CreateModel(pb.CreateModelRequest(parent=TENANT, model=model))
    assert made.state == pb.Model.STATE_READY and made.summary.params == 12 * 16 + 12 + CLASSES * 13
    assert made.name in [m.name for m in client.models.ListModels(pb.ListModelsRequest(parent=TENANT)).models]
    print(f"  model {made.name}")
    return made.name


def make_dataset(client, rng):
    pb = client.api["dataset"]
    files = [client.upload("train.safetensors", samples(400, rng)), client.upload("test.safetensors", samples(200, rng))]
    made = client.datasets.CreateDataset(pb.CreateDatasetRequest(parent=TENANT, dataset=pb.Dataset(files=files)))
    assert (made.summary.train_samples, made.summary.test_samples, made.summary.classes) == (400, 200, CLASSES)
    print(f"  data set {made.name}")
    return made.name


def read_recipe(client):
    text = (pathlib.Path(__file__).parent / "recipe.json").read_text()
    return json_format.Parse(text, client.api["recipe"].Recipe())


def check_job(client, model, dataset):
    pb = client.api["job"]
    recipe = read_recipe(client)
    key = str(uuid.uuid4())
    job = client.create_job(model, dataset, recipe, key)
    assert client.create_job(model, dataset, recipe, key).name == job.name, "one request_id, one job"
    job = client.watch(job.name)
    assert job.state == pb.Job.STATE_SUCCEEDED, job
    result = job.result
    assert result.test_samples == 200 and len(result.steps) == 4 and result.result.accuracy > 0.6
    assert result.result.nonzero_params < 0.7 * result.result.params and result.result.bytes < result.baseline.bytes * 2
    low, high = result.accuracy_delta_ci95.low, result.accuracy_delta_ci95.high
    assert low <= result.accuracy_delta <= high
    print(f"  job {job.name}: accuracy {result.baseline.accuracy:.3f} -> {result.result.accuracy:.3f}")

    files = {}
    for artifact in result.artifacts:
        head = client.download(artifact.name, read_limit=100)
        assert len(head) == 100
        data = head + client.download(artifact.name, read_offset=100)
        assert len(data) == artifact.bytes and digest(data) == artifact.digest
        files[artifact.file_name] = data
    length, = struct.unpack("<Q", files["model.safetensors"][:8])
    header = json.loads(files["model.safetensors"][8:8 + length])
    assert header["fc1.weight"]["dtype"] == "F16" and "niwaki.graph" in header["__metadata__"]
    report = json.loads(files["report.json"])
    assert abs(report["accuracy_delta"] - result.accuracy_delta) < 1e-12
    with refused(grpc.StatusCode.OUT_OF_RANGE):
        client.download(result.artifacts[0].name, read_offset=1 << 40)
    print("  artifacts arrive in two parts and have the announced digests")


def check_bad_recipe(client, model, dataset):
    recipe = read_recipe(client)
    recipe.steps[2].prune_weights.sparsity = 1.5
    with refused(grpc.StatusCode.INVALID_ARGUMENT, b"job.recipe.steps[2].prune_weights.sparsity"):
        client.create_job(model, dataset, recipe)
    with refused(grpc.StatusCode.NOT_FOUND):
        client.create_job(model, "tenants/default/datasets/none", read_recipe(client))
    print("  a bad recipe is refused by the path of its field")


def check_cancel(client, model, dataset):
    pb = client.api["job"]
    recipe = read_recipe(client)
    recipe.steps[1].train.epochs = 10000
    job = client.create_job(model, dataset, recipe)
    client.jobs.CancelJob(pb.CancelJobRequest(name=job.name))
    assert client.watch(job.name).state == pb.Job.STATE_CANCELLED
    print("  a job can be cancelled")


def run(address):
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        client = Client(channel, generate(folder))
        check_server(channel, client)
        check_uploads(client)
        model, dataset = make_model(client, rng), make_dataset(client, rng)
        check_job(client, model, dataset)
        check_bad_recipe(client, model, dataset)
        check_cancel(client, model, dataset)
    print("python client: ok")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("address", nargs="?", help="of a running server")
    target.add_argument("--serve", metavar="PROGRAM", help="starts this program for the test")
    arguments = parser.parse_args()
    if arguments.address:
        return run(arguments.address)
    with tempfile.TemporaryDirectory() as data:
        command = [arguments.serve, "serve", "--listen", "127.0.0.1:0", "--data", data]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            run(server.stdout.readline().strip().removeprefix("http://"))
        finally:
            server.terminate()
            code = server.wait(timeout=60)
        assert code == 0, f"the server ended with code {code}"


if __name__ == "__main__":
    main()
