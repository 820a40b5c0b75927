"""The directory in which docs_test.py runs the commands of the pages: models, texts and programs where
the pages say that they are.

    docs_layout.py newest DIR     prints the model below DIR that was written last
"""

import json
import os
import pathlib
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "scripts")]
import demo  # noqa: E402
import service_test  # noqa: E402

STATE = "var/lib/svdllm"
MODELS = [
    "models/SmolLM2-135M", "SmolLM2-135M", "smollm2-135m", "MODEL", demo.MODEL.relative_to(demo.ROOT),
    f"{STATE}/models/smollm2-135m", f"{STATE}/models/SmolLM2-135M",
    # Only what is measured of it matters here, so a dense model is as good.
    "artifacts/small", f"{STATE}/artifacts/small",
]
TEXTS = ["wiki.train.txt", "wiki.test.txt", "wiki.test.raw", "wiki.txt", "TRAIN", "TEST", "C4",
         *((demo.TEXT / name).relative_to(demo.ROOT) for name in ("calibration.txt", "evaluation.txt"))]
JSON_TEXTS = ["c4.jsonl", "c4.test.jsonl"]


def sentence(i):
    return f"Line {i * i} of a text that is not quite regular."


def openbookqa(i):
    choices = [{"text": text, "label": label} for text, label in (("a text", "A"), ("a stone", "B"))]
    return {"question": {"stem": sentence(i), "choices": choices}, "answerKey": "AB"[i % 2]}


def piqa(i):
    return {"goal": sentence(i), "sol1": "read it", "sol2": "eat it"}


def put(directory, name, text):
    path = pathlib.Path(directory, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def json_lines(entry, count=8):
    return "".join(json.dumps(entry(i)) + "\n" for i in range(count))


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def make(directory, server, client):
    """Fills the directory; the environment in which a page's commands run there."""
    made = pathlib.Path(directory, "made-model")
    service_test.write_model(str(made))
    for name in MODELS:
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(made)
    prose = "\n\n".join(" ".join(sentence(i + j) for j in range(4)) for i in range(0, 1200, 4)) + "\n"
    for below in ("", f"{STATE}/texts/", "texts/"):
        for name in TEXTS:
            put(directory, f"{below}{name}", prose)
        for name in JSON_TEXTS:
            put(directory, f"{below}{name}", json_lines(lambda i: {"text": sentence(i) * 8}, 200))
        put(directory, f"{below}test.jsonl", json_lines(openbookqa))
        put(directory, f"{below}valid.jsonl", json_lines(piqa))
        put(directory, f"{below}valid-labels.lst", "0\n1\n" * 4)
    for name, target in {"bin/svdllm-server": server, "build/release/server/svdllm-server": server,
                         "bin/svdllm": client, "build/release/client/svdllm": client}.items():
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.abspath(target))
    put(directory, "bin/sudo", '#!/bin/sh\nexec "$@"\n')
    pathlib.Path(directory, "bin/sudo").chmod(0o755)
    address = free_address()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SVDLLM_")}
    return environment | {
        "PATH": f"{directory}/bin:{os.environ['PATH']}", "HOME": str(directory), "TERM": "dumb",
        "OMP_NUM_THREADS": "1", "SVDLLM_SERVER": address, "SVDLLM_LISTEN": address,
        "SVDLLM_HTTP_LISTEN": free_address(), "SVDLLM_DRAIN_SECONDS": "0"}


def newest(folder):
    return max(pathlib.Path(folder).rglob("config.json"), key=lambda path: path.stat().st_mtime).parent


if __name__ == "__main__":
    print(newest(sys.argv[2]))
