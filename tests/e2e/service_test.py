#!/usr/bin/env python3
"""The server, its worker and the client as they are shipped, on a tiny random model.

    service_test.py --server BINARY --client BINARY

A compression and an evaluation end to end, then malformed inputs, each of which must be a clear
error with the offender's name in it, leave no artifact behind, and not disturb the next job. Needs
nothing but Python's standard library.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ARGS = None
HIDDEN, INTER, VOCAB, HEADS, KV, LAYERS = 16, 40, 260, 4, 2, 2


def tensors():
    """name → shape of a two-layer LLaMA with grouped-query attention and a tied head."""
    shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = [HIDDEN]
        shapes[prefix + "post_attention_layernorm.weight"] = [HIDDEN]
        kv = HIDDEN // HEADS * KV
        for name, rows, cols in [
            ("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", kv, HIDDEN),
            ("self_attn.v_proj", kv, HIDDEN), ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", INTER, HIDDEN), ("mlp.up_proj", INTER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INTER)]:
            shapes[f"{prefix}{name}.weight"] = [rows, cols]
    return shapes


def safetensors(change_header=lambda header: None, value=lambda name, i: None):
    rng = random.Random(5)
    header, data = {}, b""
    for name, shape in tensors().items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        numbers = [1.0 if len(shape) == 1 else rng.gauss(0, 0.25) for _ in range(count)]
        for i in range(count):
            special = value(name, i)
            numbers[i] = numbers[i] if special is None else special
        raw = struct.pack(f"<{count}f", *numbers)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    change_header(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def config(**changes):
    return {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN,
            "intermediate_size": INTER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "num_key_value_heads": KV, "vocab_size": VOCAB, "max_position_embeddings": 128,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "torch_dtype": "float32", **changes}


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def write_model(path, weights=None, **config_changes):
    os.makedirs(path)
    with open(f"{path}/config.json", "w") as f:
        json.dump(config(**config_changes), f)
    with open(f"{path}/tokenizer.json", "w") as f:
        json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
                   "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                                     "trim_offsets": True, "use_regex": True},
                   "decoder": {"type": "ByteLevel", "add_prefix_space": False,
                               "trim_offsets": True, "use_regex": True},
                   "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": {c: b for b, c in byte_alphabet().items()},
                             "merges": []}}, f)
    with open(f"{path}/model.safetensors", "wb") as f:
        f.write(safetensors() if weights is None else weights)
    return path


class ServiceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="svdllm-e2e-")
        cls.log = open(f"{cls.dir}/server.log", "w")
        cls.server = subprocess.Popen(
            [ARGS.server, "--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
             f"--data_dir={cls.dir}/data", "--drain_seconds=0"], stderr=cls.log)
        cls.address = None
        deadline = time.monotonic() + 60
        while cls.address is None and time.monotonic() < deadline:
            time.sleep(0.05)
            with open(f"{cls.dir}/server.log") as f:
                match = re.search(r'"grpc_port":"(\d+)"', f.read())
            cls.address = f"127.0.0.1:{match.group(1)}" if match else None
        assert cls.address, open(f"{cls.dir}/server.log").read()
        cls.model = write_model(f"{cls.dir}/model")
        cls.text = f"{cls.dir}/text.txt"
        with open(cls.text, "w") as f:
            f.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(300))

    @classmethod
    def tearDownClass(cls):
        cls.server.send_signal(signal.SIGTERM)
        status = cls.server.wait(timeout=40)
        cls.log.close()
        assert status == 0, f"the server ended with {status}"

    def client(self, *arguments):
        done = subprocess.run([ARGS.client, *arguments, f"--server={self.address}", "--format=json"],
                              capture_output=True, text=True, timeout=120)
        return done.returncode, (json.loads(done.stdout) if done.stdout.strip() else {}), done.stderr

    def compress(self, model=None, text=None, **flags):
        flags = {"keep_ratio": "0.5", "calibration_samples": 4, "calibration_seq_len": 64, **flags}
        return self.client("compress", f"--model={model or self.model}",
                           f"--calibration={text or self.text}", "--watch",
                           *[f"--{key}={value}" for key, value in flags.items()])

    def artifacts(self):
        root = f"{self.dir}/data/artifacts"
        return sorted(os.listdir(root)) if os.path.isdir(root) else []

    def test_compress_then_evaluate(self):
        for method in ["svd", "asvd", "svd_llm", "svd_llm_update"]:
            status, job, errors = self.compress(method=method, keep_ratio="0.5,0.8")
            self.assertEqual(status, 0, errors)
            self.assertEqual(job["state"], "JOB_STATE_SUCCEEDED")
            uris = job["artifactUris"]
            self.assertEqual(len(uris), 2)
            after = job["compressModelResult"]["artifacts"][1]["perplexities"][0]
            self.assertGreater(after["perplexity"], 1)
            path = uris[1].removeprefix("file://")
            self.assertTrue(os.path.exists(f"{path}/compression_manifest.json"), path)
            status, job, errors = self.client(
                "evaluate", f"--model={uris[1]}", f"--dataset={self.text}", "--seq_len=64",
                "--tasks=perplexity", "--limit=5", "--watch")
            self.assertEqual(status, 0, errors)
            self.assertGreater(job["evaluateResult"]["model"]["perplexities"][0]["perplexity"], 1)

    def test_speed_is_measured_before_and_after(self):
        speed = ["--throughput=1,2", "--prompt_tokens=16", "--new_tokens=4", "--repetitions=2"]
        status, job, errors = self.compress(**dict(flag[2:].split("=") for flag in speed))
        self.assertEqual(status, 0, errors)
        result = job["compressModelResult"]
        artifact = result["artifacts"][0]
        for throughputs in [result["throughputs"], artifact["throughputs"]]:
            self.assertEqual([t["batchSize"] for t in throughputs], [1, 2])
            for t in throughputs:
                self.assertGreater(t["decodeTokensPerSecond"], 0)
                self.assertGreater(int(t["peakMemoryBytes"]), 0)
        with open(artifact["uri"].removeprefix("file://") + "/README.md") as f:
            self.assertIn("| 2 | decode, tokens per second | ", f.read())
        status, job, errors = self.client(
            "evaluate", f"--model={artifact['uri']}", f"--baseline={self.model}", *speed, "--watch")
        self.assertEqual(status, 0, errors)
        for figures in ["model", "baseline"]:
            self.assertEqual(len(job["evaluateResult"][figures]["throughputs"]), 2)
            self.assertEqual(job["evaluateResult"][figures]["perplexities"], [])
        status, _, errors = self.client("evaluate", f"--model={self.model}", "--throughput", "--prompt_tokens=99999")
        self.assertNotEqual(status, 0)
        self.assertIn("throughput.prompt_tokens", errors)

    def test_tasks_are_asked_before_and_after_and_judged(self):
        questions, examples = f"{self.dir}/questions.jsonl", f"{self.dir}/examples.jsonl"
        for path, count in [(questions, 6), (examples, 3)]:
            with open(path, "w") as f:
                f.writelines(json.dumps({"query": f"Line {i}", "choices": ["of a", "text", "zzz"], "gold": i % 3}) + "\n"
                             for i in range(count))
        status, job, errors = self.compress(task=f"multiple_choice={questions}", task_limit=4)
        self.assertEqual(status, 0, errors)
        result = job["compressModelResult"]
        for tasks in [result["tasks"], result["artifacts"][0]["tasks"]]:
            self.assertEqual([tasks[0]["items"], [m["name"] for m in tasks[0]["metrics"]]], ["4", ["acc", "acc_norm"]])
        artifact = result["artifacts"][0]["uri"]

        flags = [f"--model={artifact}", f"--baseline={self.model}", "--tasks=perplexity,multiple_choice", f"--dataset={self.text}",
                 f"--dataset=multiple_choice={questions}", f"--fewshot=multiple_choice=2:{examples}", "--limit=5", "--seq_len=64", "--watch"]
        status, job, errors = self.client("evaluate", *flags, "--max_accuracy_drop=1")
        self.assertEqual(status, 0, errors)
        result = job["evaluateResult"]
        self.assertTrue(result["verdict"]["accepted"])
        for measured in [result["model"], result["baseline"]]:
            self.assertEqual(measured["tasks"][0]["items"], "5")
        self.assertEqual(job["artifactUris"], [result["reportUri"]])
        report = result["reportUri"].removeprefix("file://")
        self.assertEqual(sorted(os.listdir(report)),
                         ["compression_manifest.json", "evaluation_report.json", "predictions.jsonl", "report.html"])
        with open(f"{report}/predictions.jsonl") as f:
            self.assertEqual(len(f.readlines()), 2 * 5)
        # The other way about it is a regression: the dense model's perplexity is not the artifact's.
        perplexities = [result[which]["perplexities"][0]["perplexity"] for which in ("model", "baseline")]
        worse, better = (artifact, self.model) if perplexities[0] > perplexities[1] else (self.model, artifact)
        status, job, errors = self.client("evaluate", f"--model={worse}", f"--baseline={better}", *flags[2:],
                                          "--max_perplexity_increase=0")
        self.assertEqual(status, 5, errors)
        self.assertIn("perplexity", job["evaluateResult"]["verdict"]["regressions"][0])

        with open(questions, "a") as f:
            f.write('{"query": "x"}\n')
        status, job, errors = self.client("evaluate", *flags[:-3], "--limit=9", "--watch")
        self.assertEqual(status, 1, errors)  # found out when it is read: the line is named
        self.assertIn("line 7", job["error"]["message"])

    def test_a_recipe_is_submitted_waited_for_and_retried(self):
        recipe = f"{self.dir}/recipe.yaml"
        with open(recipe, "w") as f:
            f.write("model: model\nmethod: svd_llm\nkeep_ratios: [0.5]\ndisplay_name: from a file\n"
                    "calibration: {text: {uri: text.txt}, samples: 4, seq_len: 64}\n"
                    "evaluation: {disabled: true}\n")
        status, job, errors = self.client("compress", f"--request={recipe}", "--detach")
        self.assertEqual(status, 0, errors)
        status, job, errors = self.client("jobs", "wait", job["name"], "--timeout=100s")
        self.assertEqual(status, 0, errors)
        self.assertEqual(job["displayName"], "from a file")
        # The resolved request of a job is one that can be submitted.
        status, again, errors = self.client("jobs", "retry", job["name"], "--watch")
        self.assertEqual(status, 0, errors)
        self.assertNotEqual(again["name"], job["name"])
        self.assertNotEqual(again["artifactUris"], job["artifactUris"])
        sizes = [each["compressModelResult"]["artifacts"][0]["weightBytes"] for each in (job, again)]
        self.assertEqual(sizes[0], sizes[1])

    def test_settings_that_name_nothing_end_the_server_with_2(self):
        for arguments in (["--devices=gpu"], ["--data_dirr=x"]):
            ended = subprocess.run([ARGS.server, f"--data_dir={self.dir}/other", *arguments],
                                   capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 2, ended.stderr)
            self.assertIn(arguments[0].split("=")[0], ended.stderr)

    def test_methods_encodings_and_allocations_combine(self):
        combinations = [
            ("anchored", "pivoted", "relative_tails", "FACTORED"), ("anchored", "plain", "uniform", "FACTORED"),
            ("svd_llm", "pivoted", "d_rank", "FACTORED"), ("svd_llm", "pivoted", "uniform", "DENSE"),
            ("anchored", "pivoted", "kl_probe", "FACTORED")]
        for method, encoding, allocation, output_format in combinations:
            with self.subTest(method=method, encoding=encoding, allocation=allocation,
                              output_format=output_format):
                status, job, errors = self.compress(method=method, encoding=encoding,
                                                    allocation=allocation, output_format=output_format)
                self.assertEqual(status, 0, errors)
                request = job["compressModelRequest"]
                self.assertEqual([request["method"], request["encoding"], request["allocation"]],
                                 [f"METHOD_{method.upper()}", f"ENCODING_{encoding.upper()}",
                                  f"ALLOCATION_{allocation.upper()}"])
                artifact = job["compressModelResult"]["artifacts"][0]
                path = artifact["uri"].removeprefix("file://")
                with open(f"{path}/compression_report.json") as f:
                    self.assertEqual(json.load(f)["encoding"], encoding)
                if output_format == "FACTORED":
                    self.assertLessEqual(int(artifact["compressedParameters"]),
                                         int(job["compressModelResult"]["targetParameters"]) / 2)
                status, job, errors = self.client(
                    "evaluate", f"--model={artifact['uri']}", f"--dataset={self.text}", "--seq_len=64",
                    "--limit=5", "--watch")
                self.assertEqual(status, 0, errors)

    def test_several_sources_and_texts(self):
        other = f"{self.dir}/other.txt"
        with open(other, "w") as f:
            f.writelines(f"Another text: {i} and {i * i * i}.\n" for i in range(300))
        status, job, errors = self.client(
            "compress", f"--model={self.model}", "--keep_ratio=0.5", f"--calibration=3:{self.text}",
            f"--calibration={other}", "--calibration=2:MODEL_SAMPLES", "--calibration_samples=6", "--calibration_seq_len=64",
            f"--evaluation=chosen={other}", "--evaluation_limit=2", f"--task=wikitext2={other}",
            "--task_limit=3", "--watch")
        self.assertEqual(status, 0, errors)
        for perplexities in (job["compressModelResult"]["perplexities"],
                             job["compressModelResult"]["artifacts"][0]["perplexities"]):
            self.assertEqual([(p["name"], p["heldOut"]) for p in perplexities],
                             [("held_out_perplexity_text", True), ("held_out_perplexity_other", True),
                              ("wikitext2", False), ("chosen", False)])
            self.assertEqual([int(p["windows"]) for p in perplexities[2:]], [3, 2])
        tasks = job["compressModelRequest"]["evaluation"]["tasks"]
        self.assertEqual([task["seqLen"] for task in tasks], ["128", "128"])  # the model's

    def test_a_compression_measures_in_the_words_of_an_evaluation(self):
        questions = f"{self.dir}/shared_questions.jsonl"
        with open(questions, "w") as f:
            f.writelines(json.dumps({"query": f"Line {i}", "choices": ["of a", "text"], "gold": i % 2}) + "\n"
                         for i in range(4))
        words = ["--tasks=wikitext2,multiple_choice,perplexity", f"--dataset=wikitext2={self.text}",
                 f"--dataset=lines={self.text}", f"--dataset=multiple_choice={questions}",
                 "--seq_len=64", "--limit=3", "--watch"]
        status, job, errors = self.client(
            "compress", f"--model={self.model}", f"--calibration={self.text}", "--keep_ratio=0.5",
            "--method=METHOD_SVD_LLM", "--calibration_samples=4", "--calibration_seq_len=64", *words)
        self.assertEqual(status, 0, errors)
        before = job["compressModelResult"]
        status, job, errors = self.client("evaluate", f"--model={self.model}", *words)
        self.assertEqual(status, 0, errors)
        dense = job["evaluateResult"]["model"]

        def figures(measured):
            return ({p["name"]: (p["perplexity"], p["windows"]) for p in measured["perplexities"] if not p["heldOut"]},
                    [(task["name"], task["items"], task["metrics"]) for task in measured["tasks"]])
        self.assertEqual(figures(before), figures(dense))
        self.assertEqual(sorted(figures(dense)[0]), ["lines", "wikitext2"])

    def test_the_plan_runs_nothing(self):
        before = self.artifacts()
        status, job, errors = self.client(
            "compress", f"--model={self.model}", f"--calibration={self.text}", "--keep_ratio=0.5",
            "--validate_only")
        self.assertEqual(status, 0, errors)
        self.assertEqual(len(job["plan"]["artifacts"][0]["matrices"]), 7 * LAYERS)
        self.assertEqual(self.artifacts(), before)

    def test_malformed_inputs(self):
        down = "model.layers.1.mlp.down_proj.weight"

        def overlap(header):
            gate = "model.layers.1.mlp.gate_proj.weight"  # of the same size as up_proj
            header["model.layers.1.mlp.up_proj.weight"]["data_offsets"] = header[gate]["data_offsets"]

        def wrong_dtype(header):
            header[down]["dtype"] = "I32"

        def model(name, weights=None, **changes):
            return write_model(f"{self.dir}/{name}", weights, **changes)

        truncated = model("truncated", safetensors()[:-100])
        overlapping = model("overlapping", safetensors(overlap))
        bomb = model("bomb", struct.pack("<Q", 1 << 60) + b"{}")
        dtype = model("wrong_dtype", safetensors(wrong_dtype))
        missing = model("missing_shard")
        os.remove(f"{missing}/model.safetensors")
        with open(f"{missing}/model.safetensors.index.json", "w") as f:
            json.dump({"weight_map": {name: "model-00002-of-00002.safetensors" for name in tensors()}}, f)
        nan = model("nan", safetensors(value=lambda n, i: float("nan") if n == down and i == 7 else None))
        family = model("family", model_type="mamba")
        empty = f"{self.dir}/empty.txt"
        open(empty, "w").close()
        blocked = f"{self.dir}/data/artifacts/blocked"
        os.makedirs(os.path.dirname(blocked), exist_ok=True)
        open(blocked, "w").close()

        cases = [  # what, exit status, words of the error
            (dict(model=truncated), 4, ["model.safetensors"]),
            (dict(model=overlapping), 4, ["model.safetensors", "overlap"]),
            (dict(model=bomb), 4, ["model.safetensors", "header"]),
            (dict(model=dtype), 4, [down, "I32"]),
            (dict(model=missing), 4, ["model-00002-of-00002.safetensors"]),
            (dict(model=nan), 1, [down, "NaN"]),
            (dict(model=family), 4, ["mamba", "llama"]),
            (dict(text=empty), (1, 4), ["empty.txt"]),
            (dict(keep_ratio="1.7"), 4, ["keep_ratios[0]"]),
            (dict(method="anchored", allocation="d_rank", min_keep_ratio="0.6"), 4,
             ["min_keep_ratio", "above a keep ratio"]),
            (dict(method="svd", min_keep_ratio="0.1"), 4,
             ["min_keep_ratio", "not read by ALLOCATION_UNIFORM"]),
            (dict(method="svd", asvd_alpha="0.5"), 4, ["asvd_alpha", "METHOD_ASVD"]),
            (dict(method="asvd", anchor_blend="0.5"), 4, ["anchor_blend", "METHOD_ANCHORED"]),
            (dict(evaluation=f"held_out_perplexity={self.text}"), 4, ["evaluation.tasks[0].label"]),
            (dict(output=f"{blocked}/below"), (1, 4), ["blocked"]),
        ]
        before = self.artifacts()
        for flags, expected, words in cases:
            with self.subTest(**flags):
                status, answer, errors = self.compress(**flags)
                self.assertIn(status, expected if isinstance(expected, tuple) else (expected,),
                              f"{answer} {errors}")
                said = json.dumps(answer.get("error", answer))
                for word in words:
                    self.assertIn(word, said)
                if ARGS.verbose:
                    print(flags, status, answer["error"], file=sys.stderr)
                self.assertEqual(self.artifacts(), before)
        status, job, errors = self.compress()
        self.assertEqual(status, 0, errors)
        self.assertEqual(job["state"], "JOB_STATE_SUCCEEDED")


class EarlyClientTest(unittest.TestCase):
    def test_a_client_waits_for_a_server_that_is_just_starting(self):
        # In a process of its own: beside a server, gRPC's connections get on by themselves.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        with tempfile.TemporaryDirectory(prefix="svdllm-early-") as directory:
            client = subprocess.Popen([ARGS.client, "server-info", f"--server={address}"],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(0.7)
            server = subprocess.Popen([ARGS.server, f"--listen={address}", "--http_listen=",
                                       f"--data_dir={directory}", "--drain_seconds=0"],
                                      stderr=subprocess.DEVNULL)
            try:
                _, errors = client.communicate(timeout=60)
            finally:
                server.send_signal(signal.SIGTERM)
                self.assertEqual(server.wait(timeout=40), 0)
            self.assertEqual(client.returncode, 0, errors)


class DemoTest(unittest.TestCase):
    def test_demo_compares_methods(self):
        temporary = tempfile.TemporaryDirectory(prefix="svdllm-demo-")
        self.addCleanup(temporary.cleanup)
        directory = temporary.name
        write_model(f"{directory}/model")
        with open(f"{directory}/text.txt", "w") as f:
            f.writelines(f"Line {i * i} of a text that is not quite regular.\n\n" for i in range(300))
        scripts = os.path.join(os.path.dirname(__file__), "..", "..", "scripts")
        done = subprocess.run(
            [sys.executable, f"{scripts}/demo.py", f"--model={directory}/model",
             f"--text={directory}/text.txt", "--samples=4", "--seq_len=32", "--limit=2",
             "--methods=svd_llm,default", f"--data_dir={directory}/data",
             f"--build_dir={os.path.dirname(os.path.dirname(ARGS.server))}"],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = done.stdout[done.stdout.index("\nmethod "):].split("\n")[2:]
        methods = [row.split()[0] for row in rows if row]
        self.assertEqual(methods, ["dense", "svd_llm/plain/uniform", "anchored/pivoted/kl_probe"])
        for row in rows[:3]:
            self.assertGreater(float(row.split()[4]), 1, row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--verbose", action="store_true")
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
