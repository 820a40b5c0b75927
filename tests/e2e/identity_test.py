#!/usr/bin/env python3
"""Who is let in, by the shipped server and others' clients: openssl, Python's ssl and grpcio.

    identity_test.py --server BINARY --client BINARY

Certificates and tokens are made here: right ones, and those that are wrong, have run out or are
missing. Under load they are replaced, and nobody notices. Without grpcio (python3-grpcio) the tests
that need it are skipped.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

try:
    import grpc
except ImportError:
    grpc = None

ARGS = None
SERVICE = "/svdllm.v1.CompressionService/"
NO_GRPC = "no grpcio for this Python: install python3-grpcio"


def text_field(number, text):
    """A field of a protobuf message, of less than 128 bytes."""
    return bytes([number << 3 | 2, len(text)]) + text.encode()


class Files:
    """Certificates and tokens in a directory. What is replaced is replaced by a rename."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def path(self, name):
        return str(self.folder / name)

    def bytes(self, name):
        return (self.folder / name).read_bytes()

    def openssl(self, *arguments):
        result = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True,
                                check=False)
        if result.returncode != 0:
            raise RuntimeError(f"openssl {arguments[0]}: {result.stderr}")

    def ca(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")

    def certificate(self, name, ca, common_name, days=2, usage="clientAuth"):
        """days: how long it is good from now; below 0 it has run out."""
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                     f"/CN={common_name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text(
            f"subjectAltName=DNS:{common_name.replace(' ', '-')}\nextendedKeyUsage={usage}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key",
                     "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.crt")

    def write(self, name, content):
        (self.folder / f"{name}.new").write_bytes(content)
        os.rename(self.folder / f"{name}.new", self.folder / name)

    def tokens(self, *lines):
        """Lines of (name, role, token), or cert:NAME in the token's place."""
        text = "# Who may do what.\n"
        for name, role, secret in lines:
            known = secret if secret.startswith("cert:") else hashlib.sha256(secret.encode()).hexdigest()
            text += f"{name} {role} {known}\n"
        self.write("tokens", text.encode())


class IdentityTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.files = Files(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.files.ca("ca")
        self.files.certificate("server", "ca", "localhost", usage="serverAuth")
        self.files.certificate("alice", "ca", "alice of accounts")
        self.files.tokens(("watcher", "read", "token of watcher"), ("alice", "submit", "token-of-alice"),
                          ("alice", "submit", "cert:alice of accounts"), ("root", "admin", "token-of-root"))
        self.log = ""

    def tls(self, client_ca=True):
        flags = [f"--tls_cert={self.files.path('server.crt')}", f"--tls_key={self.files.path('server.key')}"]
        return flags + ([f"--tls_client_ca={self.files.path('ca.crt')}"] if client_ca else [])

    def arguments(self, *flags, data="data", listen="127.0.0.1:0"):
        return [ARGS.server, f"--data_dir={self.files.path(data)}", f"--listen={listen}",
                "--http_listen=127.0.0.1:0", "--role=api", "--devices=cpu", "--drain_seconds=0", *flags]

    def start(self, *flags, **where):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SVDLLM_")}
        log = open(self.files.path("log"), "ab")
        begin = log.tell()
        server = subprocess.Popen(self.arguments(*flags, **where), stderr=log, env=environment)
        log.close()

        def stop():
            if server.poll() is None:
                server.kill()
            server.wait()

        self.stack.callback(stop)
        for _ in range(600):
            text = self.files.bytes("log")[begin:].decode()
            found = re.search(r'"grpc_port":"(\d+)","http_port":"(\d+)"', text)
            if found:
                self.port, self.http_port = int(found[1]), int(found[2])
                return server
            if server.poll() is not None:
                self.fail(f"the server ended: {text}")
            time.sleep(0.1)
        return self.fail("the server does not serve")

    def refused(self, *flags, **where):
        """Exit status and message of a server that does not start."""
        result = subprocess.run(self.arguments(*flags, **where), capture_output=True, text=True, timeout=60,
                                check=False)
        return result.returncode, result.stderr

    def svdllm(self, *arguments, server=None, environment=None):
        variables = {k: v for k, v in os.environ.items() if not k.startswith("SVDLLM_")} | (environment or {})
        return subprocess.run([ARGS.client, *arguments, f"--server={server or f'localhost:{self.port}'}",
                               "--rpc_timeout=5s"], capture_output=True, text=True, env=variables,
                              timeout=60, check=False)

    def channel(self, ca="ca", identity=None):
        """A connection of its own, as somebody with this certificate."""
        key, chain = (self.files.bytes(f"{identity}.key"), self.files.bytes(f"{identity}.crt")) if identity \
            else (None, None)
        credentials = grpc.ssl_channel_credentials(self.files.bytes(f"{ca}.crt"), key, chain)
        return self.stack.enter_context(grpc.secure_channel(
            f"localhost:{self.port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)]))

    def ask(self, channel, token=None, method="GetServerInfo", request=b""):
        """The code that a call ends with."""
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            channel.unary_unary(SERVICE + method)(request, timeout=10, metadata=metadata)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def https(self, path, ca="ca", identity=None, token=None):
        """Status and body."""
        context = ssl.create_default_context(cafile=self.files.path(f"{ca}.crt"))
        if identity:
            context.load_cert_chain(self.files.path(f"{identity}.crt"), self.files.path(f"{identity}.key"))
        connection = http.client.HTTPSConnection("localhost", self.http_port, context=context, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def serial(self, port):
        """The number of the certificate that a port shows now."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.files.path("alice.crt"), self.files.path("alice.key"))
        with socket.create_connection(("localhost", port), timeout=10) as plain:
            with context.wrap_socket(plain) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()

    def await_certificate(self, name):
        """Until both ports show it."""
        der = ssl.PEM_cert_to_DER_cert(self.files.bytes(f"{name}.crt").decode())
        for _ in range(200):
            if {self.serial(self.port), self.serial(self.http_port)} == {hashlib.sha256(der).hexdigest()}:
                return
            time.sleep(0.05)
        self.fail("the new certificate is not shown")

    # What openssl says of the ports.

    def handshake(self, port, version):
        """The protocol that was agreed on, or None. The client does not refuse old ones itself."""
        result = subprocess.run(
            ["openssl", "s_client", "-connect", f"localhost:{port}", f"-{version}", "-alpn", "h2",
             "-cipher", "ALL:@SECLEVEL=0", "-CAfile", self.files.path("ca.crt"),
             "-cert", self.files.path("alice.crt"), "-key", self.files.path("alice.key")],
            input=b"", capture_output=True, timeout=30, check=False)
        found = re.search(r"^New, (TLSv[\d.]+|\(NONE\)), Cipher is (\S+)", result.stdout.decode(errors="replace"), re.M)
        return found[1] if found and found[2] != "(NONE)" else None

    def test_old_protocols_are_refused(self):
        # This openssl could speak them.
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        old = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cipher", "ALL:@SECLEVEL=0", "-quiet",
             "-cert", self.files.path("server.crt"), "-key", self.files.path("server.key")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.stack.callback(old.wait)
        self.stack.callback(old.kill)
        for _ in range(100):
            if self.handshake(port, "tls1_1") is not None:
                break
            time.sleep(0.05)
        for version, name in [("tls1_1", "TLSv1.1"), ("tls1", "TLSv1")]:
            spoken = self.handshake(port, version)
            if spoken is None:
                self.skipTest(f"this openssl does not speak {name}")
        self.start(*self.tls(), f"--tokens={self.files.path('tokens')}")
        for port in (self.port, self.http_port):
            self.assertEqual(self.handshake(port, "tls1_3"), "TLSv1.3")
            self.assertEqual(self.handshake(port, "tls1_2"), "TLSv1.2")
            self.assertIsNone(self.handshake(port, "tls1_1"))
            self.assertIsNone(self.handshake(port, "tls1"))

    # Python's gRPC.

    @unittest.skipIf(grpc is None, NO_GRPC)
    def test_certificates_and_tokens_over_grpc(self):
        self.files.ca("other")
        self.files.certificate("stranger", "other", "alice of accounts")
        self.files.certificate("expired", "ca", "alice of accounts", days=-1)
        self.files.certificate("unnamed", "ca", "nobody")
        self.start(*self.tls(), f"--tokens={self.files.path('tokens')}")
        self.assertEqual(self.ask(self.channel(identity="alice")), "OK")
        self.assertEqual(self.ask(self.channel(identity="unnamed"), "token-of-root"), "OK")
        self.assertEqual(self.ask(self.channel(identity="unnamed")), "UNAUTHENTICATED")
        self.assertEqual(self.ask(self.channel(identity="unnamed"), "token-of-nobody"), "UNAUTHENTICATED")
        self.assertEqual(self.ask(self.channel(identity="alice"), "token-of-nobody"), "UNAUTHENTICATED")
        for identity in ("stranger", "expired", None):
            self.assertEqual(self.ask(self.channel(identity=identity), "token-of-root"), "UNAVAILABLE", identity)
        self.assertEqual(self.ask(self.channel(ca="other", identity="alice")), "UNAVAILABLE")
        with grpc.insecure_channel(f"localhost:{self.port}") as plain:
            self.assertEqual(self.ask(plain, "token-of-root"), "UNAVAILABLE")
        # The role counts, however somebody has shown who they are.
        delete = text_field(1, "jobs/none")
        self.assertEqual(self.ask(self.channel(identity="alice"), "token of watcher", "CancelJob", delete),
                         "NOT_FOUND")
        self.assertEqual(self.ask(self.channel(identity="alice"), "token of watcher", "CompressModel"),
                         "PERMISSION_DENIED")
        self.assertEqual(self.ask(self.channel(identity="alice"), None, "CompressModel"), "INVALID_ARGUMENT")

    @unittest.skipIf(grpc is None, NO_GRPC)
    def test_tokens_alone_over_grpc(self):
        self.start(*self.tls(client_ca=False), f"--tokens={self.files.path('tokens')}")
        channel = self.channel()
        self.assertEqual(self.ask(channel, "token-of-alice"), "OK")
        self.assertEqual(self.ask(channel), "UNAUTHENTICATED")
        self.assertEqual(self.ask(channel, "token-of-bob"), "UNAUTHENTICATED")
        # A certificate that nobody has asked for says nothing.
        self.assertEqual(self.ask(self.channel(identity="alice")), "UNAUTHENTICATED")
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        self.assertEqual(health(text_field(1, "liveness"), timeout=10), b"\x08\x01")

    # Python's HTTP.

    def test_health_is_for_all_and_metrics_for_those_who_are_known(self):
        self.files.ca("other")
        self.files.certificate("stranger", "other", "alice of accounts")
        self.files.certificate("expired", "ca", "alice of accounts", days=-1)
        self.files.certificate("unnamed", "ca", "nobody")
        self.files.certificate("servers", "ca", "alice of accounts", usage="serverAuth")
        self.start(*self.tls(), f"--tokens={self.files.path('tokens')}")
        for path in ("/livez", "/readyz", "/"):
            self.assertEqual(self.https(path)[0], 200, path)
        self.assertEqual(self.https("/metrics")[0], 401)
        for token in ("token-of-nobody", "token-of-alice2"):
            self.assertEqual(self.https("/metrics", token=token)[0], 401, token)
        for identity in ("stranger", "expired", "unnamed", "servers"):
            self.assertEqual(self.https("/metrics", identity=identity)[0], 401, identity)
        status, body = self.https("/metrics", token="token of watcher")
        self.assertEqual(status, 200)
        self.assertIn("svdllm_queue_depth 0", body)
        self.assertEqual(self.https("/metrics", identity="alice")[0], 200)
        self.assertEqual(self.https("/metrics", identity="unnamed", token="token-of-root")[0], 200)
        connection = http.client.HTTPConnection("localhost", self.http_port, timeout=10)
        self.stack.callback(connection.close)
        with self.assertRaises((http.client.HTTPException, OSError)):
            connection.request("GET", "/livez")
            connection.getresponse()

    def test_without_tokens_metrics_ask_for_a_certificate(self):
        self.start(*self.tls())
        self.assertEqual(self.https("/livez")[0], 200)
        self.assertEqual(self.https("/metrics")[0], 401)
        self.assertEqual(self.https("/metrics", identity="alice")[0], 200)

    # The client that is shipped.

    def test_the_command(self):
        self.start(*self.tls(client_ca=False), f"--tokens={self.files.path('tokens')}")
        ca = f"--ca={self.files.path('ca.crt')}"
        for name in ("watcher", "root", "nobody"):
            self.files.write(f"{name}.token", f"token{' of ' if name == 'watcher' else '-of-'}{name}\n".encode())
        none = self.svdllm("jobs", "list", ca)
        self.assertEqual(none.returncode, 4, none.stderr)
        self.assertIn("UNAUTHENTICATED", none.stderr)
        self.assertEqual(self.svdllm("jobs", "list", ca, f"--token_file={self.files.path('nobody.token')}").returncode, 4)
        known = self.svdllm("jobs", "list", ca, environment={"SVDLLM_TOKEN_FILE": self.files.path("root.token")})
        self.assertEqual(known.returncode, 0, known.stderr)
        # One with blanks is no token for a header of HTTP, whatever Python does.
        self.assertEqual(self.svdllm("jobs", "list", ca, f"--token_file={self.files.path('watcher.token')}").returncode, 2)
        clear = self.svdllm("jobs", "list", f"--token_file={self.files.path('root.token')}",
                            server=f"{socket.gethostname()}.example:{self.port}")
        self.assertEqual(clear.returncode, 2)
        self.assertIn("without TLS", clear.stderr)
        self.assertNotIn("token-of-root", self.files.bytes("log").decode())

    def test_a_socket_is_for_the_owner_and_the_group(self):
        path = self.files.path("grpc.sock")
        server = self.start(listen=f"unix:{path}")
        mode = os.stat(path)
        self.assertTrue(stat.S_ISSOCK(mode.st_mode))
        self.assertEqual(stat.S_IMODE(mode.st_mode), 0o660)
        info = self.svdllm("server-info", server=f"unix:{path}")
        self.assertEqual(info.returncode, 0, info.stderr)
        # Nobody takes it from a server that lives; what a dead one leaves behind is taken.
        status, log = self.refused(listen=f"unix:{path}", data="other")
        self.assertEqual(status, 1, log)
        self.assertIn("another server listens on", log)
        server.send_signal(signal.SIGKILL)
        server.wait()
        self.start(f"--tokens={self.files.path('tokens')}", listen=f"unix:{path}")
        self.assertEqual(self.svdllm("server-info", server=f"unix:{path}").returncode, 4)
        self.files.write("root.token", b"token-of-root")
        self.assertEqual(self.svdllm("server-info", f"--token_file={self.files.path('root.token')}",
                                     server=f"unix:{path}").returncode, 0)

    def test_it_does_not_listen_openly(self):
        tokens = f"--tokens={self.files.path('tokens')}"
        for flags in ([], [tokens], self.tls(client_ca=False)):
            for listen in ({"listen": "0.0.0.0:0"}, {"listen": "[::]:0"}):
                status, log = self.refused(*flags, **listen)
                self.assertEqual(status, 2, log)
                self.assertIn("can be reached from other machines", log)
            status, log = self.refused(*flags, "--http_listen=0.0.0.0:0")
            self.assertEqual(status, 2, log)
            self.assertIn("--http_listen: 0.0.0.0:0 can be reached from other machines", log)
        for flags in (self.tls(), [*self.tls(client_ca=False), tokens], ["--insecure_allow_remote"]):
            server = self.start(*flags, "--http_listen=0.0.0.0:0", listen="0.0.0.0:0")
            server.kill()
            server.wait()
        for listen, why in [("unix:relative", "absolute path"), ("unix:/" + "x" * 120, "absolute path"),
                            (f"unix:{self.files.path('absent')}/socket", "cannot listen on")]:
            status, log = self.refused(listen=listen)
            self.assertIn(status, (1, 2), log)
            self.assertIn(why, log)
        for content, why in [(b"", "it names nobody"), (b"alice read token-of-alice\n", "line 1: needs")]:
            self.files.write("faulty", content)
            status, log = self.refused(f"--tokens={self.files.path('faulty')}")
            self.assertEqual(status, 2, log)
            self.assertIn(why, log)
            self.assertNotIn("token-of-alice", log)

    # Replaced under load.

    @unittest.skipIf(grpc is None, NO_GRPC)
    def test_certificates_and_tokens_are_replaced_under_load(self):
        lines = [("root", "admin", "token-1")]
        self.files.tokens(*lines)
        self.start(*self.tls(), f"--tokens={self.files.path('tokens')}")
        model = self.stack.enter_context(tempfile.TemporaryDirectory())
        job = self.queued_job(model)
        root = self.channel(identity="alice")
        events = []
        stream = root.unary_stream(SERVICE + "WatchJob")(
            text_field(1, job), metadata=[("authorization", "Bearer token-1")])
        ended = []

        def watch():
            try:
                events.extend(stream)
                ended.append("OK")
            except grpc.RpcError as error:
                ended.append(error.code().name)

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.current = "token-1"
        done = threading.Event()
        answers = {}
        lock = threading.Lock()

        def load(answer):
            while not done.is_set():
                result = answer()
                with lock:
                    answers[result] = answers.get(result, 0) + 1

        def over_grpc():
            with grpc.secure_channel(
                    f"localhost:{self.port}",
                    grpc.ssl_channel_credentials(self.files.bytes("ca.crt"), self.files.bytes("alice.key"),
                                                 self.files.bytes("alice.crt")),
                    options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                return "gRPC " + self.ask(channel, self.current)

        def over_http():
            try:
                return f"HTTP {self.https('/metrics', token=self.current)[0]}"
            except OSError as error:
                return f"HTTP {error}"

        threads = [threading.Thread(target=load, args=(answer,))
                   for answer in (over_grpc, over_grpc, over_http, over_http)]
        for thread in threads:
            thread.start()
        try:
            for i in range(2, 5):
                # A new certificate, made beside the old one.
                self.files.certificate(f"server{i}", "ca", "localhost", usage="serverAuth")
                # Two files cannot be renamed at once. As long as the key is none, or another's, and
                # the tokens are faulty, what was before holds.
                self.files.write("server.key", b"no key")
                self.files.write("tokens", b"nonsense")
                time.sleep(1.5)
                self.files.write("server.key", self.files.bytes(f"server{i}.key"))
                self.files.tokens(*lines)
                time.sleep(1.5)
                self.files.write("server.crt", self.files.bytes(f"server{i}.crt"))
                self.await_certificate(f"server{i}")
                # The new token holds before the old one is taken away.
                lines.append(("root", "admin", f"token-{i}"))
                self.files.tokens(*lines)
                self.await_token(f"token-{i}", "OK")
                self.current = f"token-{i}"
                time.sleep(1)  # calls with the old one end
                del lines[0]
                self.files.tokens(*lines)
                self.await_token(f"token-{i - 1}", "UNAUTHENTICATED")
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertEqual(set(answers), {"gRPC OK", "HTTP 200"}, answers)
        self.assertGreater(min(answers.values()), 20, answers)
        print(f"answers while certificates and tokens were replaced: {answers}", file=sys.stderr)
        self.assertEqual(ended, [], "the stream has ended")
        self.assertEqual(self.ask(root, self.current, "CancelJob", text_field(1, job)), "OK")
        watcher.join(timeout=10)
        self.assertEqual(ended, ["OK"])
        self.assertEqual(len(events), 2)  # queued, cancelled

    def await_token(self, token, code):
        channel = self.channel(identity="alice")
        for _ in range(200):
            if self.ask(channel, token) == code:
                return
            time.sleep(0.05)
        self.fail(f"{token} is not {code}")

    def queued_job(self, folder):
        """A job that nobody runs."""
        import service_test
        service_test.write_model(f"{folder}/model")
        text = pathlib.Path(folder, "text.txt")
        text.write_text("a text of some words, again and again. " * 200)
        self.files.write("root.token", b"token-1")
        job = self.svdllm("compress", f"--model={folder}/model", "--keep_ratio=0.5", "--method=svd",
                          "--allocation=uniform", "--detach", "--format=json",
                          f"--ca={self.files.path('ca.crt')}", f"--cert={self.files.path('alice.crt')}",
                          f"--key={self.files.path('alice.key')}", f"--token_file={self.files.path('root.token')}")
        self.assertEqual(job.returncode, 0, job.stderr)
        self.assertEqual(json.loads(job.stdout)["owner"], "root")
        return json.loads(job.stdout)["name"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
