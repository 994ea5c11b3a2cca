"""A client's whole life on one server: it brings files in, makes a model and a data set, runs a job, takes its result out and
deletes everything. It can be broken off at any call and goes on on another server with the same keys.

What it was told is its history, and every later answer is compared with it: what was acknowledged must still be so.
"""

import importlib.util
import pathlib
import random
import time

import grpc
from google.protobuf import json_format

spec = importlib.util.spec_from_file_location(
    "client_test", pathlib.Path(__file__).resolve().parents[1] / "python" / "client_test.py")
client_test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(client_test)

TENANT, Client, generate = client_test.TENANT, client_test.Client, client_test.generate
# No call takes this long on a machine that is alive, in seconds.
LIMIT = 60
# What a client may be told when the server's disk fails: to come again.
COME_AGAIN = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED]
RECIPE = {
    "version": 1,
    "name": "short",
    "seed": 3,
    "data": {"transforms": [{"scale": {"factor": 0.01}}]},
    "steps": [{"train": {"epochs": 4, "batchSize": 16, "adamw": {}, "learningRate": 0.01}}],
}


class Broken(Exception):
    """An invariant does not hold; the text says which and how."""


def hold(condition, invariant, *facts):
    if not condition:
        raise Broken(f"{invariant}: " + ", ".join(str(fact) for fact in facts))


class Inputs:
    """The files, and what a job made of them in a life that nothing disturbed."""

    def __init__(self):
        rng = random.Random(1)
        weights, self.graph = client_test.network(rng)
        files = {"small.safetensors": weights, "digits.safetensors": client_test.samples(240, rng)}
        self.files = {name: (data, client_test.digest(data)) for name, data in files.items()}
        self.golden = None
        # Chunks and their checksums, once for all lives: CRC-32C bit by bit is slow.
        self.crc = {name: {} for name in files}

    def chunk(self, name, begin, end):
        data = self.files[name][0][begin:end]
        known = self.crc[name]
        if (begin, end) not in known:
            known[begin, end] = client_test.crc32c(data)
        return data, known[begin, end]


class Life:
    """One client. `live` returns at the end of the life, or raises: `grpc.RpcError` when the server went away."""

    def __init__(self, inputs, key):
        self.inputs, self.key = inputs, key
        self.names = {}       # request key -> name that was acknowledged
        self.committed = {}   # file -> bytes that were acknowledged
        self.complete = set() # files whose completion was acknowledged
        self.deleted = set()  # names whose deletion was acknowledged
        self.job = None       # as it was seen last
        self.result = None    # digest of the downloaded model
        self.history = []
        self.patience = []    # codes that are met with another try

    def note(self, *fact):
        self.history.append(fact)

    def live(self, client):
        self.audit(client)
        for file in self.inputs.files:
            self.bring(client, file)
        model = self.make(client, "model", self.create_model)
        dataset = self.make(client, "dataset", self.create_dataset)
        name = self.make(client, "job", lambda client, key: self.create_job(client, key, model, dataset))
        self.follow(client, name)
        self.take_out(client)
        self.clear(client)

    # ---- what was acknowledged is so ----

    def audit(self, client):
        """Asks for everything that was acknowledged (I1, I3, I6)."""
        for file, (_, digest) in self.inputs.files.items():
            name = self.names.get(file)
            if name is None or name in self.deleted:
                continue
            upload = self.ask(client.uploads.GetUpload, client.api["upload"].GetUploadRequest(name=name))
            hold(upload is not None or self.is_clearing(), "I1 an acknowledged upload is gone", name)
            if upload is None:
                continue
            hold(upload.digest == digest, "I2 an upload is another one", name)
            hold(upload.committed_size >= self.committed.get(file, 0), "I1 acknowledged bytes are gone", name,
                 upload.committed_size, self.committed.get(file))
            state = client.api["upload"].Upload
            hold(file not in self.complete or upload.state == state.STATE_COMPLETE, "I1 a complete upload is open", name)
        for kind, get, request in [
            ("model", client.models.GetModel, client.api["model"].GetModelRequest),
            ("dataset", client.datasets.GetDataset, client.api["dataset"].GetDatasetRequest),
            ("job", client.jobs.GetJob, client.api["job"].GetJobRequest),
        ]:
            name = self.names.get(kind)
            if name is None:
                continue
            found = self.ask(get, request(name=name))
            if name in self.deleted:
                hold(found is None, "I1 what was deleted is there", name)
                continue
            hold(found is not None or self.is_clearing(), f"I1 an acknowledged {kind} is gone", name)
            if found is not None and kind == "job":
                self.see(client, found)
            elif found is not None:
                hold(found.state == 2, f"I1 a {kind} is no longer ready", found)

    def ask(self, call, request):
        """A resource, or None if there is none."""
        try:
            return self.try_again(lambda: call(request, timeout=LIMIT))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise

    def try_again(self, call):
        """Makes a call until it is not told to come again."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in self.patience or time.monotonic() > deadline:
                    raise
                self.note("told to come again", error.code().name)
            time.sleep(0.1)

    # ---- the steps ----

    def bring(self, client, file):
        if file in self.complete:
            return
        pb = client.api["upload"]
        data, digest = self.inputs.files[file]
        upload = pb.Upload(file_name=file, size_bytes=len(data), digest=digest)
        request = pb.CreateUploadRequest(parent=TENANT, upload=upload, request_id=f"{self.key}-{file}")
        name = self.named(file, self.try_again(lambda: client.uploads.CreateUpload(request, timeout=LIMIT)).name)
        half = len(data) // 2
        while True:
            # Where to go on is the server's word alone.
            found = self.try_again(lambda: client.uploads.GetUpload(pb.GetUploadRequest(name=name), timeout=LIMIT))
            begin = found.committed_size
            hold(begin >= self.committed.get(file, 0), "I6 an offset went back", name, begin, self.committed.get(file))
            if begin == len(data):
                break
            self.acknowledged(file, self.write(client, file, name, begin, half if begin < half else len(data)))
        done = self.try_again(lambda: client.uploads.CompleteUpload(pb.CompleteUploadRequest(name=name), timeout=LIMIT))
        hold(done.state == pb.Upload.STATE_COMPLETE and done.digest == digest, "I2 a completed upload is not", done)
        self.complete.add(file)
        self.note("complete", file)

    def write(self, client, file, name, begin, end):
        """Sends bytes in chunks; what a stream that was told to come again left is asked for by the caller."""
        def chunks():
            for offset in range(begin, end, 1000):
                data, crc = self.inputs.chunk(file, offset, min(offset + 1000, end))
                yield client.api["upload"].WriteUploadRequest(name=name, offset=offset, data=data, crc32c=crc)
        try:
            return client.uploads.WriteUpload(chunks(), timeout=LIMIT).committed_size
        except grpc.RpcError as error:
            if error.code() not in self.patience:
                raise
            self.note("told to come again", error.code().name)
            time.sleep(0.1)
            return self.committed.get(file, 0)

    def acknowledged(self, file, size):
        hold(size >= self.committed.get(file, 0), "I6 an offset went back", file, size, self.committed.get(file))
        self.committed[file] = size
        self.note("committed", file, size)

    def make(self, client, kind, create):
        if self.names.get(kind) in self.deleted:
            return self.names[kind]
        # The same key again is the same resource, also where it was acknowledged before.
        if kind in self.names and self.is_clearing():
            return self.names[kind]
        return self.named(kind, self.try_again(lambda: create(client, f"{self.key}-{kind}")).name)

    def named(self, kind, name):
        known = self.names.setdefault(kind, name)
        hold(known == name, "I3 one request_id made two", kind, known, name)
        self.note("named", kind, name)
        return name

    def create_model(self, client, key):
        pb = client.api["model"]
        files = [pb.FileReference(upload=self.names["small.safetensors"])]
        model = pb.Model(files=files, architecture=pb.Architecture(graph_json=self.inputs.graph))
        made = client.models.CreateModel(pb.CreateModelRequest(parent=TENANT, model=model, request_id=key), timeout=LIMIT)
        hold(made.state == pb.Model.STATE_READY, "I10 a model is made but not ready", made)
        return made

    def create_dataset(self, client, key):
        pb = client.api["dataset"]
        files = [client.api["model"].FileReference(upload=self.names["digits.safetensors"])]
        request = pb.CreateDatasetRequest(parent=TENANT, dataset=pb.Dataset(files=files), request_id=key)
        made = client.datasets.CreateDataset(request, timeout=LIMIT)
        hold(made.state == pb.Dataset.STATE_READY, "I10 a data set is made but not ready", made)
        return made

    def create_job(self, client, key, model, dataset):
        pb = client.api["job"]
        recipe = json_format.ParseDict(RECIPE, client.api["recipe"].Recipe())
        job = pb.Job(model=model, dataset=dataset, recipe=recipe)
        return client.jobs.CreateJob(pb.CreateJobRequest(parent=TENANT, job=job, request_id=key), timeout=LIMIT)

    def see(self, client, job):
        """A job as it is now follows from how it was seen before (I3, I6)."""
        pb = client.api["job"].Job
        ended = [pb.STATE_SUCCEEDED, pb.STATE_FAILED, pb.STATE_CANCELLED]
        before = self.job
        if before is not None:
            hold(job.revision >= before.revision, "I6 a revision went back", before.revision, job.revision)
            hold(job.attempt >= before.attempt, "I6 an attempt went back", before.attempt, job.attempt)
            hold(before.state not in ended or (job.state, job.revision) == (before.state, before.revision),
                 "I3 a job that had ended went on", before, job)
            same = job.revision == before.revision
            hold(not same or job == before, "I6 one revision is two things", before, job)
        self.job = job
        self.note("job", pb.State.Name(job.state), job.revision, job.attempt)
        hold(job.state not in [pb.STATE_FAILED, pb.STATE_CANCELLED], "I5 a job did not succeed", job.error)
        return job.state in ended

    def follow(self, client, name):
        pb = client.api["job"]
        while self.job is None or self.job.state != pb.Job.STATE_SUCCEEDED:
            after = self.job.revision if self.job is not None else 0
            watch = client.jobs.WatchJob(pb.WatchJobRequest(name=name, after_revision=after), timeout=LIMIT)
            try:
                for change in watch:
                    hold(change.job.revision > after, "I6 a watch went back", after, change.job.revision)
                    after = change.job.revision
                    self.see(client, change.job)
            except grpc.RpcError as error:
                if error.code() not in self.patience:
                    raise
                self.note("told to come again", error.code().name)
                time.sleep(0.1)

    def take_out(self, client):
        """Every artifact has its digest, and the model that of the life that nothing disturbed (I2, I5)."""
        if self.is_clearing():
            return
        for artifact in self.job.result.artifacts:
            data = self.try_again(lambda: client.download(artifact.name))
            digest = client_test.digest(data)
            hold(digest == artifact.digest, "I2 an artifact is another one", artifact, digest)
            if artifact.file_name == "model.safetensors":
                self.result = digest
                golden = self.inputs.golden
                hold(golden is None or digest == golden, "I5 the model is not that of an undisturbed run", digest, golden)
        self.note("downloaded", self.result)

    def is_clearing(self):
        return self.result is not None

    def clear(self, client):
        """Deletes everything. Where an answer was lost, NOT_FOUND is the answer."""
        for kind, delete, request in [
            ("job", client.jobs.DeleteJob, client.api["job"].DeleteJobRequest),
            ("dataset", client.datasets.DeleteDataset, client.api["dataset"].DeleteDatasetRequest),
            ("model", client.models.DeleteModel, client.api["model"].DeleteModelRequest),
            *[(file, client.uploads.DeleteUpload, client.api["upload"].DeleteUploadRequest) for file in self.inputs.files],
        ]:
            name = self.names[kind]
            if name in self.deleted:
                continue
            try:
                self.ask(delete, request(name=name))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    return
                raise
            self.deleted.add(name)
            self.note("deleted", name)
