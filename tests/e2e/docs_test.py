#!/usr/bin/env python3
"""Every command that README and the pages of docs/ show is run, on a tiny model.

    docs_test.py --server BINARY --client BINARY [--page PAGE...]

A fence that begins with ```sh holds commands as a person would type them. A page's are run one
behind the other in one shell on a terminal, in a directory that is laid out as the pages assume
(docs_layout.py); if the page starts no server itself, one is running. What cannot run in a test says
why in the fence, ```sh not-tested=docker, and is listed: its syntax is checked, and that the scripts
it names are there. A fence without a language holds no commands. Python is compiled, and every flag
that a page names in its text is one of the client's, the server's or a script's.

Sizes are cut down, and places of a whole machine (/var/lib/svdllm, /models) are below the directory;
"artifacts/…" stands for what was published last. Needs nothing but Python's standard library.
"""

import argparse
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import docs_layout  # noqa: E402

ARGS = None
PAGE_SECONDS = 150
MARK = "docs_test: block at line "

# What a fence without a language, or with another one, may not hold.
COMMANDS = re.compile(r"^\s*(?:\$ |sudo )?(?:\S*/)?(?:svdllm|svdllm-server|docker|kubectl|cmake|ctest|apt|apt-get|"
                      r"pip|python3?|curl|systemctl|hf|vllm|git)\s+[\w./-]|^\s*(?:scripts|\.ci)/\w+")

SMALLER = [
    (r"(--calibration_samples=)\d+", r"\g<1>4"),
    (r"(--(?:\w+_)?seq_len=)\d+", r"\g<1>64"),
    (r"(--(?:\w+_)?limit=)\d+", r"\g<1>2"),
    (r"(--prompt_tokens=)\d+", r"\g<1>16"),
    (r"(--new_tokens=)\d+", r"\g<1>4"),
]


class Fence:
    def __init__(self, page, line, info, text):
        self.page, self.line, self.text = page, line, text
        self.language, _, rest = info.strip().partition(" ")
        match = re.fullmatch(r"not-tested=(\S+)", rest.strip())
        self.why_not = match.group(1) if match else None

    def __str__(self):
        return f"{self.page}:{self.line}"


def pages():
    found = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    for folder in ("deploy", "docs", "tests"):
        found += sorted((ROOT / folder).rglob("*.md"))
    return [str(path.relative_to(ROOT)) for path in found if path.is_file()]


def fences(page, text):
    found, start, info, lines = [], None, "", []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*```(.*)", line)
        if match and start is None:
            start, info, lines = number, match.group(1), []
        elif match:
            found.append(Fence(page, start, info, "\n".join(lines) + "\n"))
            start = None
        elif start is not None:
            lines.append(line)
    return found


def flags_in_prose(text):
    """The --flags of code spans that consist of one, or of a command of ours with some."""
    prose = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.S | re.M)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return sorted({flag for span in spans if re.match(r"(svdllm(-server)? |scripts/\w+ |--)", span)
                   for flag in re.findall(r"--[a-z][\w-]*", span)})


def as_run(text, directory):
    """A block as the test runs it."""
    text = re.sub(r"(?<![\w./])/(?=(?:var/lib/svdllm|models|texts)\b)", f"{directory}/", text)
    text = re.sub(r"([\w./-]*artifacts)/…", r"$(newest \1)", text)
    for pattern, smaller in SMALLER:
        text = re.sub(pattern, smaller, text)
    return text.replace("127.0.0.1:7070", "$SVDLLM_SERVER").replace("127.0.0.1:9464", "$SVDLLM_HTTP_LISTEN")


def session(blocks, directory, starts_server):
    """The script of a page."""
    script = ["set -euo pipefail", f"newest() {{ python3 {HERE}/docs_layout.py newest \"$1\"; }}",
              # Ends what the page has left running, and only that.
              "trap 'jobs -p | xargs -r kill; wait' EXIT"]
    if not starts_server:
        script.append(f"svdllm-server --data_dir={directory}/var/lib/svdllm 2>server.log &")
    for block in blocks:
        script += [f"echo '{MARK}{block.line}'", as_run(block.text, directory)]
    return "\n".join(script) + "\n"


def run_on_terminal(script, directory, environment):
    """The exit status, and what was shown."""
    path = pathlib.Path(directory, "page.sh")
    path.write_text(script)
    master, slave = pty.openpty()
    process = subprocess.Popen(["bash", path], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                               stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)

    def end():
        os.killpg(process.pid, signal.SIGTERM)

    timer = threading.Timer(PAGE_SECONDS, end)
    timer.start()
    shown = b""
    try:
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the last one on the terminal has gone
                break
            if not piece:
                break
            shown += piece
    finally:
        status = process.wait()
        timer.cancel()
        os.close(master)
    return status, shown.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def run_page(page, blocks):
    """None, or what went wrong."""
    starts_server = any(re.search(r"svdllm-server .*&\s*$", block.text, re.M) for block in blocks)
    with tempfile.TemporaryDirectory(prefix="svdllm-docs-") as directory:
        environment = docs_layout.make(directory, ARGS.server, ARGS.client)
        status, shown = run_on_terminal(session(blocks, directory, starts_server), directory, environment)
        for log in pathlib.Path(directory).rglob("server.log"):
            shown += "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    if status == 0:
        return None
    marks = re.findall(rf"{MARK}(\d+)", shown)
    return f"{page}, block at line {marks[-1] if marks else '?'}: exit status {status}\n{shown[-4000:]}"


def known_flags():
    commands = re.findall(r"^  ([a-z-]+(?: [a-z]+)?)  ", help_of(ARGS.client, "help"), re.M)
    texts = [help_of(ARGS.server, "--help"), help_of(ARGS.client, "help")]
    texts += [help_of(ARGS.client, *command.split(), "--help") for command in commands]
    texts += [path.read_text(errors="replace") for path in (ROOT / "scripts").iterdir() if path.is_file()]
    texts += [path.read_text(errors="replace") for path in (ROOT / "tests").rglob("*.py")]
    return set(re.findall(r"--[a-z][\w-]*", "\n".join(texts)))


def help_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class PagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fences = [fence for page in ARGS.page or pages() for fence in fences(page, (ROOT / page).read_text())]

    def test_commands_run(self):
        for page in dict.fromkeys(fence.page for fence in self.fences):
            blocks = [fence for fence in self.fences
                      if fence.page == page and fence.language == "sh" and not fence.why_not]
            if blocks:
                with self.subTest(page=page):
                    wrong = run_page(page, blocks)
                    if wrong:
                        self.fail(wrong)
                    print(f"docs_test: {page}: {len(blocks)} blocks run", file=sys.stderr)

    def test_what_is_not_run_is_well_formed(self):
        for fence in self.fences:
            if not fence.why_not:
                continue
            print(f"docs_test: {fence}: not run: {fence.why_not}", file=sys.stderr)
            done = subprocess.run(["bash", "-n"], input=fence.text, capture_output=True, text=True)
            self.assertEqual(done.stderr, "", str(fence))
            for name in re.findall(r"(?<![\w./])((?:scripts|\.ci|tests|docker|deploy)/[\w./-]+)", fence.text):
                self.assertTrue((ROOT / name).exists(), f"{fence}: {name} is not there")

    def test_fences_say_what_they_hold(self):
        for fence in self.fences:
            if fence.language == "sh":
                continue
            self.assertNotIn(fence.language, {"bash", "shell", "console"}, f"{fence}: commands are in ```sh")
            if fence.language == "python":
                compile(fence.text, str(fence), "exec")
            elif fence.language in {"", "text"}:
                for line in fence.text.splitlines():
                    self.assertIsNone(COMMANDS.match(line), f"{fence}: a command, and not in ```sh: {line}")

    def test_flags_that_are_named_are_there(self):
        known = known_flags()
        for page in ARGS.page or pages():
            text = (ROOT / page).read_text()
            missing = [flag for flag in flags_in_prose(text) if flag not in known | FOREIGN_FLAGS]
            self.assertEqual(missing, [], page)


# Of programs of others.
FOREIGN_FLAGS = {"--trust-remote-code", "--gpus", "--tensor-parallel-size", "--build-arg"}


class ReasonsTest(unittest.TestCase):
    def test_every_reason_of_the_api_is_explained(self):
        proto = (ROOT / "proto/svdllm/v1/compression.proto").read_text()
        listed = re.search(r"// Reasons: (.*?)New ones may appear", proto, re.S).group(1)
        listed = re.sub(r"\([^)]*\)|//", "", listed)
        reasons = set(re.findall(r"[A-Z_]{4,}", listed))
        self.assertGreater(len(reasons), 20)
        page = (ROOT / "docs/getting-started.md").read_text()
        entries = re.findall(r"^#+ ((?:`[A-Z_]+`(?:, )?)+)$", page, re.M)
        explained = {reason for entry in entries for reason in re.findall(r"`([A-Z_]+)`", entry)}
        self.assertEqual(explained, reasons)


class NamedTestsTest(unittest.TestCase):
    def test_tests_that_are_named_are_there(self):
        sources = [path.read_text() for suffix in ("cc", "py") for path in (ROOT / "tests").rglob(f"*.{suffix}")]
        there = {f"{suite}.{name}" for source in sources
                 for suite, name in re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", source, re.M)}
        there |= {name for source in sources for name in re.findall(r"    def (test_\w+)\(", source)}
        for page, least in (("README.md", 15), ("docs/security.md", 50)):
            named = re.findall(r"`((?:[A-Z]\w+\.[A-Z]\w+)|(?:test_\w+))`", (ROOT / page).read_text())
            self.assertGreater(len(named), least, page)
            self.assertEqual(sorted(set(named) - there - {"test_transformers", "test_vllm"}), [], page)


class CanFailTest(unittest.TestCase):
    """What the tests above look for is found."""

    def fence(self, text, info="sh"):
        return Fence("page.md", 7, info, text)

    def test_a_flag_that_is_no_more(self):
        wrong = run_page("page.md", [self.fence("svdllm server-info\nsvdllm jobs list --lmit=3\n")])
        self.assertIn("page.md, block at line 7: exit status 2", wrong)
        self.assertIn("--lmit", wrong)

    def test_a_file_that_is_not_there(self):
        wrong = run_page("page.md", [self.fence("svdllm evaluate --model=nowhere --dataset=TEST\n")])
        self.assertIn("MODEL_NOT_FOUND", wrong)

    def test_a_server_that_does_not_start(self):
        wrong = run_page("page.md", [self.fence("svdllm-server --data_dirr=x &\nwait $!\n")])
        self.assertIn("data_dirr", wrong)

    def test_fences_are_read(self):
        found = fences("p", "a\n```sh not-tested=docker\nb\n```\n```python\nc\n```\n")
        self.assertEqual([(f.line, f.language, f.why_not, f.text) for f in found],
                         [(2, "sh", "docker", "b\n"), (5, "python", None, "c\n")])
        for line in ("svdllm compress --model=x", "$ docker run x", "scripts/test", "sudo apt-get install x"):
            self.assertIsNotNone(COMMANDS.match(line), line)
        for line in ("config.json   every key", "base/    one replica", "svdllm: compresses"):
            self.assertIsNone(COMMANDS.match(line), line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--page", action="append")
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
